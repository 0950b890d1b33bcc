"""Numbers of things, natural order, and what objects say when they are printed."""

import csv
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainemo import Fold, Simulated
from domainemo.errors import data_error
from domainemo.runs.experiment import method_name
from domainemo.runs.results import Results
from domainemo.statistics.intervals import bootstrap_interval
from domainemo.words import count, divided, in_order, listed, quoted, signed


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (2, "epoch", "2 epochs"),
        (0, "fold", "0 folds"),
        (1, "fold", "1 fold"),
        (2, "subject", "2 subjects"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
        (2, "modality", "2 modalities"),
        (12345, "parameter", "12,345 parameters"),
    ],
)
def test_a_number_of_things(number, noun, said):
    assert count(number, noun) == said


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (1.25, 2, "+1.25"),
        (-3.04, 1, "-3.0"),
        (0.04, 1, "0.0"),
        (-0.04, 1, "0.0"),
        (-0.0, 3, "0.000"),
        (-0.0006, 3, "-0.001"),
        (10.0, 0, "+10"),
        (float("nan"), 1, "+nan"),
    ],
)
def test_zero_has_no_sign(value, digits, said):
    assert signed(value, digits) == said


def test_lists_are_read_as_sentences():
    assert [listed(list("abc"[:n])) for n in (0, 1, 2, 3)] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


NAMES = st.text(max_size=6).map(str.strip)


@given(st.lists(NAMES, min_size=1), st.sampled_from([",", ", "]))
def test_names_are_read_as_they_are_written(names, between):
    assert divided(quoted(names, between)) == names


@given(st.lists(st.text('ab",\r\n', min_size=1).map(str.strip), min_size=1))
def test_quotes_are_read_as_in_a_table(names):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(names)
    assert divided(stream.getvalue()) == names


def test_a_text_without_quotes_is_divided_at_its_commas():
    for text in ("", ",", "a,b", " a , b,", "a b", "O'Neil,x", 'a "b",c"'):
        assert divided(text) == [each.strip() for each in text.split(",")]


def test_numbers_in_names_count_as_numbers():
    names = ["0", "1", "10", "11", "2"]
    assert in_order(names) == ["0", "1", "2", "10", "11"]
    assert in_order(["s10", "s9", 3, "s1b2", "a²", "٣"])[-1] == 3
    assert in_order(["s1b10", "s1b2"]) == ["s1b2", "s1b10"]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_whole_numbers_stand_in_their_order(numbers):
    assert in_order(map(str, numbers)) == [str(n) for n in sorted(numbers)]


@given(st.lists(st.text(max_size=4)))
def test_any_names_have_an_order_that_does_not_depend_on_theirs(names):
    found = in_order(names)
    assert found == in_order(reversed(names))
    assert sorted(found) == sorted(set(names))


# ---------------------------------------------------------------------------- objects


def results(subjects):
    rng = np.random.default_rng(0)
    rows = [
        {"method": method, "fold": f"subject {s}", "seed": 0, "subject": s}
        | {"level": level, "balanced_accuracy": rng.random(), "dataset": "made up"}
        for method in ("marginal", "source only")
        for s in subjects
        for level in ("window", "trial")
    ]
    return Results(pd.DataFrame(rows), pd.DataFrame(), {}, "marginal")


def test_subjects_stand_in_natural_order_and_no_interval_moves():
    names = [str(number) for number in range(12)]
    found = results(names)
    assert list(found.per_subject().index) == names
    # Bootstraps draw by place: they keep the order that they always had.
    table = found.table[found.table["level"] == "window"]
    mine = table[table["method"] == "marginal"].set_index("subject")
    values = mine.loc[sorted(names), "balanced_accuracy"].to_numpy()
    summary = found.summary().T["marginal"]
    assert (summary["low"], summary["high"]) == bootstrap_interval(values)


def test_printing_floods_no_screen():
    data = Simulated(subjects=3, sessions=2, trials=4, windows=(2, 3)).load()
    said = repr(data)
    assert said.startswith("EmotionData(simulated (seed 0: 3 subjects x 2 sessions x 4")
    windows = len(data)
    for part in (
        f"windows: {windows}, subjects: 3, sessions: 2, trials: 24",
        f"eeg ({windows}, 62, 5), eye ({windows}, 33, 1)",
        "classes: ",
    ):
        assert part in said
    assert (
        repr(data.inputs)
        == said.replace("EmotionData", "Inputs").partition("; classes")[0] + ")"
    )
    fold = Fold("subject 1", np.arange(500), np.arange(500, 600), np.arange(500, 600))
    assert repr(fold) == (
        "Fold('subject 1', windows of source: 500, target: 100, test: 100, "
        "transductive)"
    )
    told = results(["a", "b"])
    assert repr(told) == (
        "Results(made up; 2 folds, 2 subjects; marginal, source only)"
    )
    for each in (said, repr(data.inputs), repr(fold), repr(told)):
        assert "\n" not in each and len(each) < 500


def test_one_is_not_many():
    one = Simulated(subjects=1, sessions=1, trials=3).load()
    assert "1 subject x 1 session x 3 trials" in one.inputs.name


def test_no_adapter_is_called_source_only():
    assert method_name("none") == "source only"
    assert method_name("uf-ama") == "uf-ama"


def test_dir_shows_what_is_public():
    script = (
        "import domainemo\n"
        "names = [n for n in dir(domainemo) if not n.startswith('__')]\n"
        "assert names == sorted(domainemo.__all__), names\n"
        "import domainemo.core, domainemo.cli\n"
        "assert 'core' not in dir(domainemo)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_a_damaged_file_makes_a_library_say_is_cut():
    """Its words may hold as much of the file as that claims to name itself by."""
    told = str(data_error("file.npz", f"damage ({'x' * 20_000})", "none", "Again."))
    assert len(told) < 1700 and told.startswith("file.npz: found damage (xxx")
    assert told.endswith("...; expected none. Again.")
