"""Options are refused in the plan, by one rule for parts, settings and spaces."""

import ast
import inspect
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import domainemo as de
from domainemo import ConfigurationError, Simulated, StudySettings, Training
from domainemo.cli import main
from domainemo.data.loading import load
from domainemo.parts import Part, part
from domainemo.registry import KINDS, entries, find, parameters
from domainemo.runs import experiment as experiments
from domainemo.runs.experiment import experiment, resolve_device
from domainemo.runs.folder import folder_name, job_folder
from domainemo.studies.plan import _fresh
from domainemo.studies.space import search_space
from domainemo.studies.study import Effort
from domainemo.training.pairs import Synchronous
from domainemo.training.synchrony import SynchronyContrast
from domainemo.values import (
    LARGEST_SEED,
    Bounds,
    check_seeds,
    check_value,
    option_types,
    plain,
)

ODD = (
    True,
    math.nan,
    math.inf,
    -math.inf,
    None,
    "",
    " ",
    "²",
    "x",
    {},
    2**70,
    object(),
)


# -------------------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("annotation", "fitting", "others"),
    [
        (bool, [True, False], [0, 1, "true", None]),
        (int, [0, -3, 2**63 - 1], [True, 1.0, 1e3, "1", "²", math.inf, 2**63, None]),
        (float, [0, 1.5, -2], [True, math.nan, math.inf, -math.inf, "1", None, 2**70]),
        (str, ["a", 16], ["", " ", "\t\n", True, 1.5, None, ["a"]]),
        (int | None, [None, 3], [True, 1.5, "none"]),
        (str | int, ["pooled", 2], [True, "", 1.5]),
        (Literal["a", "b"], ["a"], ["c", "", 1, None, "A"]),
        (Literal[1, 2], [1], [True, 1.0, 3]),
        (Sequence[int], [[1], (1, 2), []], ["12", [1.5], [True], 3, {1: 2}]),
        (tuple[str, ...], [["a"], ("a", "b")], ["a", [""], [None]]),
        (tuple[int, int], [(1, 2)], [(1,), (1, 2, 3), (1, True)]),
        (Training, [Training()], ["training", 1, None]),
        (Any, ["", None, object(), 1.5], [math.nan]),
        (Annotated[int, Bounds(1)], [1, 5], ["1", 1.0, True]),
        (Annotated[int | None, Bounds(1)], [None, 1], ["none", 1.5]),
    ],
)
def test_what_fits_an_annotation(annotation, fitting, others):
    for value in fitting:
        check_value("part: option", value, annotation)
    for value in others:
        with pytest.raises(ConfigurationError, match=r"^part: option is ") as raised:
            check_value("part: option", value, annotation)
        assert f"of type {type(value).__name__}; expected " in str(raised.value)


@pytest.mark.parametrize(
    ("annotation", "fitting", "beyond", "words"),
    [
        (Annotated[int, Bounds(1)], [1], [0, -3], "at least 1"),
        (Annotated[float, Bounds(above=0)], [1e-9], [0, -0.1], "above 0"),
        (Annotated[float, Bounds(0, below=1)], [0, 0.99], [1, -0.1], r"in \[0, 1\)"),
        (Annotated[float, Bounds(0, 1)], [0, 1], [1.1, -0.1], r"in \[0, 1\]"),
        (Annotated[float, Bounds(above=0, below=1)], [0.5], [0, 1], r"in \(0, 1\)"),
        (Annotated[int, Bounds(most=3)], [3, -9], [4], "at most 3"),
        (Annotated[int, Bounds(below=3)], [2], [3], "below 3"),
        (Annotated[int, Bounds(1, words="one or more")], [1], [0], "one or more"),
        (Annotated[int, Bounds(1)] | tuple[str, ...], [1, ("a",)], [0], "at least 1"),
        (Annotated[int | None, Bounds(1)], [None], [0], "at least 1"),
        (tuple[Annotated[int, Bounds(1)], ...], [(1, 2), ()], [(1, 0)], "at least 1"),
        (Annotated[int, Bounds(1), Bounds(most=3)], [3], [4], "at most 3"),
    ],
)
def test_numbers_keep_within_bounds(annotation, fitting, beyond, words):
    for value in fitting:
        check_value("x", value, annotation)
    for value in beyond:
        with pytest.raises(ConfigurationError, match=rf"^x is .*; expected {words}\.$"):
            check_value("x", value, annotation)


def test_a_part_from_outside_is_checked_by_its_annotations_alone(monkeypatch):

    @de.register(name="outside-check")
    class Outside(de.Adapter):
        """An adapter that does not check anything itself."""

        def __init__(
            self,
            *,
            way: Literal["near", "far"] = "near",
            share: Annotated[float, Bounds(above=0, most=1)] = 0.5,
        ) -> None:
            super().__init__()
            self.way, self.share = way, share

        def forward(self, source, target):
            return {}

    assert list(parameters(Outside)) == ["way", "share"]
    assert vars(Outside(way="far"))["way"] == "far"
    for option, value, words in (
        ("way", "close", "'close' of type str; expected one of 'near', 'far'"),
        ("share", 0, r"0; expected in \(0, 1\]"),
        ("share", "1", "'1' of type str; expected float, a finite number"),
    ):
        sentence = rf"outside-check'?: {option} is {words}"
        with pytest.raises(ConfigurationError, match=sentence):
            Outside(**{option: value})
        with pytest.raises(ConfigurationError, match=sentence):
            experiment(adapter="outside-check", options={f"adapter.{option}": value})


def test_a_data_set_is_checked_by_its_annotations_too():
    for wrong in ({"subjects": 0}, {"windows": [8, 9, 10]}, {"noise": np.float64(-1)}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ConfigurationError, match=f"^simulated: {name} is "):
            Simulated(**wrong)
        with pytest.raises(ConfigurationError, match=f"'simulated': {name} is"):
            load("simulated", **{name: np.asarray(value).tolist()})


def test_numbers_of_numpy_are_plain_ones():
    made = Simulated(subjects=np.int64(2), noise=np.float32(1))
    assert [type(each) for each in (made.subjects, made.noise)] == [int, float]
    loaded = load("simulated", subjects=np.int64(2), trials=np.int16(4), cache=False)
    assert len(set(loaded.inputs.windows["subject"])) == 2


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_an_experiment_with_numbers_of_numpy_is_the_one_with_plain_ones(kind):
    """Its configuration, by which it is known again, has what Python would have."""
    small = float(kind(0.1))
    given = {
        "epochs": [np.int64(2), 2],
        "batch_size": [np.int32(8), 8],
        "seeds": [np.arange(2), (0, 1)],
        "calibration": [np.uint8(3), 3],
        "adapter": ["marginal", "marginal"],
        "baselines": [np.bool_(False), False],
        "training": [Training(clip=kind(0.5)), Training(clip=0.5)],
        "options": [
            {"training.learning_rate": kind(0.1), "backbone.width": np.int64(8)}
            | {"training.decay": np.str_("constant")},
            {"training.learning_rate": small, "backbone.width": 8}
            | {"training.decay": "constant"},
        ],
    }
    theirs, plain = ({k: v[which] for k, v in given.items()} for which in (0, 1))
    assert repr(experiment(**theirs).describe()) == repr(experiment(**plain).describe())
    settings = StudySettings(candidates=np.int64(3), final_seeds=(np.int64(1),))
    assert repr(settings) == repr(StudySettings(candidates=3, final_seeds=(1,)))
    for wrong in ({"epochs": np.bool_(True)}, {"epochs": kind(2)}):
        with pytest.raises(ConfigurationError, match=r"training\.epochs is "):
            experiment(**wrong)
    with pytest.raises(ConfigurationError, match=r"learning_rate is nan"):
        experiment(options={"training.learning_rate": kind("nan")})


def test_ranges_ways_and_lengths_of_numpy_are_plain_ones():
    chosen = experiment(adapter="marginal")
    for kind in (np.float32, float):
        low, high = kind(0.125), kind(0.5)
        given = plain({"training.learning_rate": {"low": low, "high": high}})
        space = search_space(chosen, ("training",), given, {})
        written = space.as_written()["training.learning_rate"]
        assert repr(written) == "{'low': 0.125, 'high': 0.5}"
    described = de.Modality(("Fz",), ("alpha",), "eeg", span=np.float32(2))
    assert repr(described.span) == "2.0"
    with pytest.raises(ConfigurationError, match=r"jobs is True"):
        de.run(Simulated(subjects=2, trials=4).load(), jobs=True)


def test_a_default_stands_in_for_an_annotation_and_may_be_anything():
    check_value("x", 3, default=1)
    for value in (1.5, True, "3"):
        with pytest.raises(ConfigurationError, match="such as the default 1"):
            check_value("x", value, default=1)
    check_value("x", "", str, "")
    check_value("x", math.inf, float, math.inf)


def test_long_values_are_cut():
    with pytest.raises(ConfigurationError) as raised:
        check_value("x", "y" * 10_000, int)
    assert len(str(raised.value)) < 200


def test_annotations_that_cannot_be_resolved_leave_the_default_to_speak():
    def made(*, count: "NotThere" = 1): ...  # noqa: F821

    assert option_types(made) == {}


# -------------------------------------------------------------- every part and setting

OTHERS = [
    ("pairs", "synchronous", Synchronous),
    ("contrast", "synchrony", SynchronyContrast),
]
PARTS = [(kind, e.name, find(kind, e.name)) for kind in KINDS for e in entries(kind)]
OPTIONS = [
    (kind, name, cls, option)
    for kind, name, cls in [*PARTS, *OTHERS]
    for option in parameters(cls)
]


def test_every_option_of_every_part_has_an_annotation_that_can_be_read():
    for kind, name, cls, option in OPTIONS:
        assert option in option_types(cls), (kind, name, option)


def _with_a_word(compared):
    return all(
        isinstance(each, ast.Constant) and isinstance(each.value, str)
        for each in compared.comparators
    )


def test_no_part_compares_an_option_with_numbers_itself():
    """Its annotation says the range; a part compares options with one another alone."""
    for kind, name, cls in PARTS:
        if "__init__" not in vars(cls):
            continue
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(cls.__init__)))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise):
                used = {e.id for e in ast.walk(node.test) if isinstance(e, ast.Name)}
                compared = any(
                    isinstance(each, ast.Compare) and not _with_a_word(each)
                    for each in ast.walk(node.test)
                )
                alone = len(used) == 1 and used <= {*parameters(cls)}
                assert not (compared and alone), (kind, name, ast.unparse(node.test))


def test_every_option_of_every_part_refuses_what_does_not_fit():
    """Whatever is neither of the annotation's type nor finite; nothing is built."""
    assert len(OPTIONS) > 150
    for kind, name, cls, option in OPTIONS:
        default = parameters(cls)[option].default
        wrong = {
            bool: ODD[1:],
            int: (*ODD[:4], 1e3, 1.5, *ODD[5:]),
            float: ODD,
            str: (True, math.nan, None, "", " ", {}, 1e3),
            tuple: (True, math.nan, None, "", "x", {}, 3),
        }.get(type(default), (math.nan, {}, ""))
        for value in wrong:
            with pytest.raises(ConfigurationError) as raised:
                Part(kind, name, {option: value}, cls=cls)
            assert f"{option} is " in str(raised.value), (kind, name, option, value)


@pytest.mark.parametrize("made", [Training, StudySettings])
def test_every_setting_refuses_what_does_not_fit(made):
    group = {Training: "training", StudySettings: "study"}[made]
    for name, default in vars(made()).items():
        for value in (
            math.nan,
            math.inf,
            None,
            {},
            "",
            *(() if default is False else [True]),
        ):
            with pytest.raises(ConfigurationError, match=rf"{group}\.{name} is "):
                made(**{name: value})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"training.epochs": True}, "training.epochs is True"),
        ({"training.epochs": 1e3}, "training.epochs is 1000.0"),
        ({"training.epochs": 0}, "training.epochs is 0; expected at least 1"),
        ({"training.epochs": -3}, "training.epochs is -3"),
        ({"training.learning_rate": math.inf}, "training.learning_rate is inf"),
        ({"training.clip": math.nan}, "training.clip is nan"),
        ({"training.threads": 100_000}, "training.threads is 100000; expected at most"),
        ({"adapter.marginal": math.nan}, "marginal is nan"),
        ({"adapter.marginal": True}, "marginal is True"),
        ({"backbone.width": "²"}, "width is '²'"),
        ({"backbone.width": 8.0}, "width is 8.0"),
    ],
)
def test_an_experiment_refuses_options_before_anything_is_read(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        experiment(adapter="uf-ama", options=options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"seeds": [-1]},
            "seeds holds -1; expected whole numbers from 0 to 4294967295",
        ),
        ({"seeds": [2**32]}, "seeds holds 4294967296"),
        ({"seeds": [True]}, "seeds holds True"),
        ({"seeds": [1.5]}, "seeds holds 1.5"),
        ({"seeds": ["1"]}, "seeds holds '1'"),
        ({"seeds": "01"}, "seeds is '01'"),
        ({"seeds": 3}, "seeds is 3"),
        ({"seeds": []}, "at least one, all different"),
        ({"seeds": [1, 1]}, "at least one, all different"),
        ({"normalisation": None}, "normalisation is None"),
        ({"sampling": ["windows"]}, "sampling is "),
        ({"modalities": ["eeg", ""]}, "modalities is "),
        ({"exclude": [" "]}, "exclude is "),
        ({"baselines": "no"}, "baselines is 'no'"),
        ({"device": "cpu:7"}, "device 'cpu:7' is not supported"),
        ({"protocol": 5}, "The protocol is 5 of type int; expected a name"),
        (
            {"adapter": Training()},
            "expected a name, a registered class or an object of",
        ),
        ({"adapter": find("protocol", "cross-subject")}, "CrossSubject is no adapter"),
    ],
)
def test_an_experiment_refuses_choices(changes, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        experiment(**changes)


def test_texts_are_names_and_not_their_letters():
    chosen = experiment(exclude="15, 6", modalities="eeg,eye", folds="subject 15")
    assert chosen.exclude == ("15", "6")
    assert chosen.modalities == ("eeg", "eye")
    assert chosen.folds == ("subject 15",)
    assert experiment(exclude=15).exclude == ("15",)


@pytest.mark.parametrize(
    "name",
    ["cpu:7", "cpu:0", "cuda:", "cuda:-1", "cuda:²", "cuda:1e3", "meta", "", "mps"],
)
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(ConfigurationError, match="is not supported; expected 'auto'"):
        resolve_device(name)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="'cuda:99' cannot be used"):
        resolve_device("cuda:99")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("seed", [0, LARGEST_SEED])
def test_the_ends_of_the_seeds_fit(seed):
    assert check_seeds("seeds", [seed]) == [seed]
    assert StudySettings(seed=seed).seed == seed
    assert Simulated(seed=seed).seed == seed


def test_seeds_beyond_are_refused_everywhere():
    for seed in (-1, 2**32):
        for make in (
            lambda seed: StudySettings(seed=seed),
            lambda seed: StudySettings(final_seeds=(seed,)),
            lambda seed: Simulated(seed=seed),
        ):
            with pytest.raises(ConfigurationError, match=r"4294967295|from 0"):
                make(seed)


def test_final_seeds_are_fresh_also_at_the_end_of_the_range():
    assert _fresh((0, 4)) == (5, 6, 7)
    assert _fresh((LARGEST_SEED, 1)) == (0, 2, 3)


@pytest.mark.parametrize(
    "choices",
    [
        {"jobs": 0},
        {"jobs": True},
        {"jobs": 1.5},
        {"minutes": math.nan},
        {"minutes": math.inf},
        {"minutes": -1.0},
        {"minutes": True},
        {"storage": ""},
    ],
)
def test_an_effort_is_checked(choices):
    with pytest.raises(ConfigurationError, match=f"{next(iter(choices))} is "):
        Effort(**choices)


def test_data_sets_from_python_are_checked_alike():
    with pytest.raises(ConfigurationError, match="dataset 'simulated': noise is nan"):
        load("simulated", noise=math.nan)
    with pytest.raises(ConfigurationError, match="subjects is True of type bool"):
        de.load("simulated", subjects=True)


# ----------------------------------------------------------------------------- spaces


@pytest.mark.parametrize(
    "given",
    [
        {"low": math.nan, "high": 1.0},
        {"low": 0.1, "high": math.nan},
        {"low": 0.1, "high": math.inf},
        {"low": -math.inf, "high": 1.0},
        {"low": True, "high": 2},
        {"low": "0", "high": 1.0},
        {"low": 0.0, "high": 1.0, "step": math.nan},
        {"low": 0.0, "high": 1.0, "step": 0},
        {"low": 0.1, "high": 1.0, "log": 1},
        {"low": 0.1, "high": 1.0, "log": "yes"},
        {"choices": "abc"},
        {"choices": 3},
        {"choices": [math.nan]},
        {"choices": [0.1, "x"]},
        {"choices": [0.1, True]},
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused_at_once(given):
    chosen = experiment(adapter="marginal")
    with pytest.raises(ConfigurationError, match="weight"):
        search_space(chosen, ["adapter"], {"adapter.weight": given}, {})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("training.learning_rate", {"low": -1.0, "high": 0.1}),
        ("training.label_smoothing", {"low": 0.0, "high": 1.0}),
        ("training.epochs", {"low": 0, "high": 5}),
        ("training.epochs", {"low": 1.5, "high": 5.5}),
        ("training.decay", {"choices": ["cosine", "cosin"]}),
    ],
)
def test_both_ends_of_a_range_must_fit_the_option(name, given):
    with pytest.raises(ConfigurationError, match=name):
        search_space(experiment(adapter="marginal"), ["adapter"], {name: given}, {})


def test_whole_numbers_stay_whole_on_a_logarithmic_range():
    ranges = {"backbone.width": {"low": 8.0, "high": 64.0, "log": True}}
    found = search_space(experiment(), ["adapter"], ranges, {}).ranges["backbone.width"]
    assert (type(found).__name__, found.low, found.high) == ("IntDistribution", 8, 64)


# ------------------------------------------------------------------------- file names


@pytest.mark.parametrize(
    "text", ["s" * 300, "ä" * 200, "感" * 120, "subject " + "a b" * 99]
)
def test_a_long_id_makes_a_file_name(text, tmp_path):
    names = {folder_name(text), folder_name(text + "x"), folder_name("x" + text)}
    assert len(names) == 3
    for name in names:
        assert len(f"{name}.partial".encode()) < 255
        (tmp_path / f"{name}.partial").mkdir()
    folder = job_folder(tmp_path, f"subject {text}", 0, "uf-ama")
    folder.mkdir(parents=True)


def test_short_ids_keep_the_names_they_had():
    assert folder_name("subject 1, session 2") == "subject_1__session_2"
    assert folder_name("Subject 1") == "subject-1-" + folder_name("Subject 1")[-6:]
    assert folder_name("a" * 150) == "a" * 150


# -------------------------------------------------------------------- the command line


def refused(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["domainemo", *arguments])
    monkeypatch.setattr(experiments, "read_initialisation", None)
    with pytest.raises(SystemExit) as ended:
        main()
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said and "did not foresee" not in said
    assert ended.value.code == 2, said
    return said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("adapt --jobs ²", "--jobs is '²'; expected a number of processes"),
        ("adapt --jobs ٣", "--jobs is '٣'"),
        ("adapt --jobs -1", "--jobs is '-1'"),
        ("adapt --seeds ²", "--seeds is '²'"),
        ("adapt --seeds 1_0", "--seeds is '1_0'"),
        ("adapt --seeds -1", "--seeds is '-1'"),
        ("adapt --seeds 4294967296", "--seeds holds 4294967296"),
        ("adapt --seeds=", "--seeds is ''"),
        ("adapt --seeds 0,0", "all different"),
        ("adapt --epochs 0", "training.epochs is 0"),
        ("adapt --epochs ²", "a valid integer"),
        ("adapt --epochs 1e3", "a valid integer"),
        ("adapt --set training.epochs=1e3", "training.epochs is 1000.0"),
        ("adapt --set training.epochs=true", "training.epochs is True"),
        ("adapt --set training.clip=inf", "training.clip is inf"),
        ("adapt --set training.clip=1e999", "training.clip is inf"),
        ("adapt --set data.noise=nan", "noise is nan"),
        ("adapt --set data.seed=-1", "seed is -1; expected a whole number from 0"),
        ("adapt --adapter uf-ama --set adapter.rule=", "rule is ''"),
        ("adapt --set epochs=3 --set epochs=4", "training.epochs is set twice, to 3"),
        ("adapt --epochs 3 --set training.epochs=4", "training.epochs is set twice"),
        ("adapt --device cpu:7", "The device 'cpu:7' is not supported"),
        ("adapt --device=", "--device is empty"),
        ("adapt --backbone=", "--backbone is empty"),
        ("adapt --modalities=", "--modalities is ''"),
        ("adapt --exclude 1,,2", "--exclude is '1,,2'"),
        ("tune --jobs ² --epochs 1", "--jobs is '²'"),
        ("tune --minutes nan", "minutes is nan"),
        ("tune --minutes -5", "minutes is -5"),
        ("tune --candidates 0", "study.candidates is 0"),
        ("tune --study-seed -1", "study.seed is -1"),
        ("tune --final-seeds x", "--final-seeds is 'x'"),
        ("tune --development ²", "study.development names ²"),
        ("tune --name=", "--name is empty"),
        ("tune --adapter uf-ama --space adapter.marginal=nan:1", "low is nan"),
        ("tune --adapter uf-ama --space adapter.marginal=0:inf", "high is inf"),
        ("tune --space width=1:2 --space width=2:3", "--space width is given twice"),
        ("data check simulated --jobs ²", "--jobs is '²'"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(
    arguments, sentence, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    small = [
        "--set=data.subjects=4",
        "--set=data.trials=3",
        "--set=data.windows=[1, 2]",
    ]
    given = arguments.split(" ")
    if given[0] != "data":
        given += small
    assert sentence in refused(monkeypatch, capsys, *given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "modalities = [1.5]",
        "plugins = [1.5]",
        "seeds = [true]",
        "seeds = [-1]",
        "seeds = [1e3]",
        'folds = [""]',
        'device = ""',
        "exclude = [true]",
    ],
)
def test_a_configuration_file_is_checked_alike(line, monkeypatch, capsys, tmp_path):
    path = tmp_path / "file.toml"
    path.write_text(line)
    said = refused(monkeypatch, capsys, "adapt", "--config", str(path))
    assert f"file.toml: {line.split(' ')[0]}" in said


def test_parts_given_as_classes_are_checked_alike():
    with pytest.raises(ConfigurationError, match="weight is nan"):
        part("adapter", find("adapter", "marginal"), {"weight": math.nan})
