"""One list of choices: Python, the command line and files are read off it."""

import inspect
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import pytest

import domainemo as de
from domainemo.choices import (
    SELECTED_BY,
    AdapterChoices,
    Choice,
    PretrainingChoices,
    RunChoices,
    choices_of,
    complete,
    ordered,
)
from domainemo.cli.adapt import adapt
from domainemo.cli.pretrain import pretrain
from domainemo.cli.tune import tune
from domainemo.registry import KINDS, entries
from domainemo.runs.experiment import Experiment, experiment
from domainemo.studies.settings import StudySettings, TuningChoices
from domainemo.training.settings import Training
from domainemo.values import Bounds


@pytest.mark.parametrize(
    ("function", "kind"),
    [(de.run, RunChoices), (de.pretrain, PretrainingChoices), (de.tune, TuningChoices)],
)
def test_signature_and_help_name_every_choice_with_its_default(function, kind):
    parameters = inspect.signature(function).parameters
    assert "choices" not in parameters
    for name, choice in choices_of(kind).items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == choice.default
        assert f"    {name} : " in function.__doc__
    assert "output" in parameters


def test_the_defaults_are_these():
    found = {name: each.default for name, each in choices_of(RunChoices).items()}
    assert {
        name: value for name, value in found.items() if value not in (None, ())
    } == {
        "protocol": "cross-subject",
        "backbone": "r2gfanet",
        "adapter": "whole-trials",
        "validator": "last",
        "normalisation": "session",
        "seeds": (0,),
        "calibration": 0,
        "calibration_use": "training",
        "device": "auto",
        "baselines": True,
        "controls": ("logistic-regression", "majority-class", "clip-duration-only"),
    }
    assert choices_of(TuningChoices)["validator"].default == SELECTED_BY


def test_no_help_lists_the_names_that_a_registry_knows():
    """A plug-in's would be missing; that names are listed is said once a command."""
    kinds = {"dataset": "dataset", "controls": "control"}
    for choices in map(choices_of, (RunChoices, PretrainingChoices, TuningChoices)):
        for choice, each in choices.items():
            kind = kinds.get(choice, choice)
            known = [e.name for e in entries(kind)] if kind in KINDS else []
            said = [name for name in known if re.search(rf"\b{name}\b", each.help)]
            assert len(said) < 2, f"{choice}: {each.help}"
    for command in (adapt, pretrain, tune):
        assert "list samplings` and the like" in " ".join(command.__doc__.split())
        assert "--plugin" in command.__doc__


@pytest.mark.parametrize("kind", [RunChoices, TuningChoices, PretrainingChoices])
def test_none_in_place_of_names_is_what_nothing_said_is(kind):
    lists = [
        k for k, each in choices_of(kind).items() if isinstance(each.default, tuple)
    ]
    assert {"exclude", "merge", "seeds"} < set(lists)
    assert complete(kind, dict.fromkeys(lists)) == complete(kind, {})
    if kind is RunChoices:
        assert repr(experiment(**dict.fromkeys(lists))) == repr(experiment())


def test_the_page_on_python_names_each_keyword_that_is_no_option():
    page = (Path(__file__).parents[1] / "docs" / "from-python.md").read_text("utf-8")
    (sentence,) = re.findall(r"Two are called otherwise: (.*?)\. None is", page)
    named = choices_of(RunChoices) | choices_of(TuningChoices)
    others = [(each.option, name) for name, each in named.items() if each.option]
    told = re.findall(r"`--([a-z-]+)`[^`]*(?:`tune`[^`]*)?`([a-z]+)[=`]", sentence)
    assert told == others


def test_a_study_is_asked_for_its_settings_and_an_experiment():
    settings = {each.name: each.default for each in fields(StudySettings)}
    own = choices_of(TuningChoices)
    assert {name: own[name].default for name in settings} == settings
    rest = own.keys() - settings.keys() - {"space", "validator"}
    assert rest == choices_of(AdapterChoices).keys()


@pytest.mark.parametrize("function", [de.run, de.pretrain])
def test_an_unknown_keyword_is_refused(function):
    with pytest.raises(TypeError, match=r"'bakbone'. Did you mean 'backbone'"):
        function(None, bakbone="dgcnn", output="x")


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (bool, bool),
        (float | None, float),
        (str | None, str),
        (Sequence[int], list[int]),
        (Sequence[str] | str | None, list[str]),
        (Mapping[str, object], dict),
        (Annotated[float, Bounds(above=0)] | None, float),
    ],
)
def test_what_a_file_holds_follows_from_the_annotation(annotation, stored):
    assert Choice("x", annotation=annotation).stored == stored


def test_choices_stand_where_they_say():
    choices = {
        "a": Choice(""),
        "early": Choice("", before="a"),
        "late": Choice("", before="own"),
        "nowhere": Choice("", before="missing"),
    }
    assert ordered(choices, ["own", "last"]) == [
        "early",
        "a",
        "nowhere",
        "late",
        "own",
        "last",
    ]


def test_a_choice_needs_no_second_line(tmp_path):
    """A line more in the list is a keyword, an option, a key, and in the file."""
    program = """
import inspect, sys
from typing import Annotated
from domainemo.choices import Choice, RunChoices
RunChoices.__annotations__["colour"] = Annotated[str, Choice("Which colour.", "red")]

import domainemo as de
from domainemo.cli.configuration import configure
from domainemo.errors import ConfigurationError
from domainemo.runs.experiment import experiment

print(inspect.signature(de.run).parameters["colour"].default)
print("Which colour." in de.run.__doc__)
print(experiment().describe()["colour"], experiment(colour="green").more["colour"])
with open("file.toml", "w") as file:
    file.write('colour = "blue"')
print(configure({}, [], "file.toml").describe()["colour"])
print(configure({"colour": "grey"}, [], "file.toml").describe()["colour"])
for make in (lambda: experiment(colour=1.5), lambda: configure({}, [], "wrong.toml")):
    with open("wrong.toml", "w") as file:
        file.write('colours = "blue"')
    try:
        make()
    except ConfigurationError as error:
        print(error)
from domainemo.cli import main
sys.argv = ["domainemo", "adapt", "--help"]
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    lines = ended.stdout.splitlines()
    assert lines[:5] == ["red", "True", "red green", "blue", "grey"]
    assert lines[5].startswith("colour is 1.5 of type float; expected str, a word")
    assert lines[6] == "wrong.toml has no option 'colours'. Did you mean 'colour'?"
    (line,) = (line for line in lines[7:] if "--colour" in line)
    assert "Which colour. By default red." in line


def test_an_experiment_has_a_field_or_an_entry_for_every_choice():
    made = experiment(device="cpu", training=Training(epochs=1))
    known = {each.name for each in fields(Experiment)} | made.more.keys() | {"options"}
    choices = choices_of(RunChoices).items()
    assert {name for name, each in choices if not each.short} <= known
    assert {each.short for _, each in choices if each.short} <= {
        f"training.{name}" for name in Training.names()
    }
