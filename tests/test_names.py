"""One name, one spelling: people, sessions, classes, sensors; and what is no name."""

import io
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from domainemo import DataError, from_arrays, join, write_table
from domainemo.core import EmotionData, Inputs, Modality, says_missing, spelling
from domainemo.data.table import Table

quick = settings(max_examples=60, deadline=None, database=None)

ONE = [
    ("bob", "bob "),
    ("bob", "Bob"),
    ("bob", "\tBOB"),
    ("bob", "bob\u00a0"),
    ("bob", "b\u200bob"),
    ("bob", "\uff42ob"),
    ("José", "Jose\u0301"),
    ("Straße", "STRASSE"),
    ("1", "1.0"),
    ("1", "01"),
    ("1", "\uff11"),
    ("P 1", "p1"),
    ("sub_01", "sub1"),
    ("1", "\u0661"),
    ("1", "+1"),
    ("-1", "\u22121"),
    ("sub-1", "sub\u20131"),
    ("O'Hara", "O\u2019Hara"),
    ("bob", "bo\u034fb"),
    ("bob", "bob\u2800"),
    ("bob", "bob\ufe0f"),
]
TWO = [
    ("bob", "rob"),
    ("1", "10"),
    ("1", "-1"),
    ("1.5", "15"),
    ("0.5", "5"),
    ("1.05", "1.5"),
    ("clip 1 1", "clip 11"),
    ("day-1", "day1"),
    (str(2**63), str(2**63 - 1)),
]


def recordings(labels=("sad", "sad", "glad", "glad") * 2, **changes):
    """Two people, two trials each of two windows."""
    options = {
        "subject": np.repeat(["ann", "bob"], 4),
        "trial": [1, 1, 2, 2] * 2,
        "name": "mine",
    }
    eye = {"eye": np.arange(16.0).reshape(8, 2)}
    return from_arrays(**({"signals": eye} | options | changes), labels=labels)


@pytest.mark.parametrize(("one", "other"), ONE)
def test_spellings_of_one_name(one, other):
    assert spelling(one) == spelling(other)


@pytest.mark.parametrize(("one", "other"), TWO)
def test_names_that_differ(one, other):
    assert spelling(one) != spelling(other)


@quick
@given(st.integers(), st.integers())
def test_whole_numbers_have_a_form_each(one, other):
    assert (spelling(one) == spelling(other)) == (one == other)
    assert spelling(one) == spelling(f"{one}.0")


# ----------------------------------------------------------------------- provenance


@pytest.mark.parametrize("column", ["subject", "session", "trial", "stimulus"])
@pytest.mark.parametrize(("one", "other"), ONE)
def test_one_name_in_two_spellings_is_refused(column, one, other):
    values = [one] * 4 + [other] * 4
    with pytest.raises(DataError) as caught:
        recordings(**{column: values})
    for fragment in (f"column '{column}'", repr(one), repr(other), "two spellings"):
        assert fragment in str(caught.value)


def test_numbers_and_text_in_one_list_are_one_name():
    whole = recordings(subject=[1, 1.0, "1", 1, 2, "2", 2.0, 2]).inputs.windows
    assert whole["subject"].tolist() == [1] * 4 + [2] * 4
    with pytest.raises(DataError, match=r"'1' and '1\.0', two spellings"):
        recordings(subject=[1] * 4 + ["1.0"] * 4)


def test_in_a_file_and_when_joined(tmp_path):
    folder = write_table(recordings(), tmp_path / "mine")
    path = folder / "windows.csv"
    lines = path.read_text("utf-8").splitlines()
    lines[-1] = lines[-1].replace("bob", "bob ")
    path.write_text("\n".join(lines), "utf-8")
    for read in (Table(folder).load, Table(folder).load_inputs):
        with pytest.raises(DataError, match="'bob' and 'bob ', two spellings"):
            read()
    with pytest.raises(DataError, match="two spellings of one subject"):
        join(recordings(), recordings(subject=["ANN"] * 4 + ["eve"] * 4))


def test_in_a_table_that_was_made_by_hand():
    windows = recordings().inputs.windows.astype({"subject": object})
    windows.loc[7, "subject"] = "Bob"
    eye = {"eye": np.zeros((8, 1, 1), np.float32)}
    described = {"eye": Modality(("pupil",), ("value",), "eye")}
    with pytest.raises(DataError, match="'bob' and 'Bob'"):
        Inputs(eye, windows, described)
    windows.loc[7, "subject"] = None
    with pytest.raises(DataError, match=r"'subject': found nothing in 1 windows"):
        Inputs(eye, windows, described)


@pytest.mark.parametrize("word", ["nan", "None", "<NA>", " ", "n/a"])
@pytest.mark.parametrize("column", ["subject", "session", "trial", "stimulus"])
def test_a_window_of_nobody_is_refused(column, word):
    values = ["a"] * 7 + [word]
    with pytest.raises(DataError, match=f"column '{column}'"):
        recordings(**{column: values})


def of_matlab(values):
    """A cell array, as scipy.io.loadmat has it."""
    stream = io.BytesIO()
    cells = np.empty((len(values), 1), dtype=object)
    cells[:, 0] = values
    savemat(stream, {"cells": cells})
    return loadmat(stream)["cells"].ravel()


# -------------------------------------------------------------------------- classes


MISSING = ["n/a", "N/A", "NA", "nan", "NaN", "<NA>", "NaT", "None", "null", "#N/A"]
MISSING += ["?", "??", "-", "--", "\u2014", ".", "unknown", "Unknown ", " "]
MISSING += ["N.A.", "(none)", "[none]", "<none>", "#REF!", "#NV", "not rated", "k. A."]
MISSING += ["unbekannt", "keine Angabe", "inconnu", "sin dato", "\u672a\u77e5"]


@pytest.mark.parametrize("word", [*MISSING, "not available"])
def test_a_missing_label_is_no_class(word):
    assert says_missing(word)
    labels = ["sad"] * 4 + ["glad"] * 3 + [word]
    with pytest.raises(DataError, match=r"1 of 8 windows.*label is missing"):
        recordings(labels)
    with pytest.raises(DataError, match="label is missing"):
        recordings(labels, classes=["sad", "glad", word])
    with pytest.raises(DataError, match=r"leave the window out|label is missing"):
        recordings(labels, classes=["sad", "glad"])


@pytest.mark.parametrize("labels", [["sad", None] * 4, ["sad", np.nan] * 4])
def test_a_label_that_is_no_text(labels):
    with pytest.raises(DataError, match=r"labels, window 1"):
        recordings(np.array(labels, dtype=object))
    with pytest.raises(DataError, match=r"label is missing|labels, window 1"):
        recordings(pd.Series(labels).astype(str))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["sad", "glad"] * 3 + ["sad", None], dtype=object),
        pd.Series(["sad", "glad"] * 3 + ["sad", np.nan]),
        pd.Series(["sad", "glad"] * 3 + ["sad", None], dtype="string"),
        pd.Series([0, 1] * 3 + [0, None]),
        pd.array([0, 1] * 3 + [0, None], dtype="Int64"),
        np.ma.masked_array([0, 1] * 4, [False] * 7 + [True]),
        [0, 1] * 3 + [0, np.ma.masked],
        ["sad", "glad"] * 3 + ["sad", ""],
    ],
)
def test_a_window_without_a_label_is_to_be_left_out(labels):
    """Whoever filled it in would make a label up."""
    with pytest.raises(DataError, match=r"labels, window 7.*leave the window out\.$"):
        recordings(labels)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.array([b"ann", b"bob"] * 4), "ann"),
        ([np.bytes_("ann")] * 8, "ann"),
        (of_matlab(["ann", "bob"] * 4), "ann"),
        (of_matlab([3.0] * 8), "3"),
        ([PurePosixPath("ann")] * 8, "ann"),
        ([1.5] * 8, "1.5"),
    ],
)
def test_the_advice_for_another_type_gives_the_name_that_was_meant(values, name):
    """The expression that an error advises, done as it says."""
    with pytest.raises(DataError, match=r"column 'subject', window 0") as raised:
        recordings(subject=values)
    advised = str(raised.value).rpartition(" each: ")[2].removesuffix(".")
    made = recordings(subject=eval(advised, {"values": values}))
    assert str(made.inputs.windows["subject"][0]) == name


@pytest.mark.parametrize("word", ["none of these", "neutral", "nano", "0", "-1", "N"])
def test_a_class_that_only_looks_like_it(word):
    assert not says_missing(word)
    assert word in recordings(["sad"] * 4 + [word] * 4).classes


@pytest.mark.parametrize("other", ["Sad", "sad ", "SAD"])
def test_a_class_in_two_spellings(other):
    with pytest.raises(DataError, match="two spellings of one class"):
        recordings(["sad"] * 4 + ["glad"] * 3 + [other])
    with pytest.raises(DataError, match="two spellings of one class"):
        EmotionData(recordings().inputs, np.zeros(8, np.int64), ("sad", other))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([1, 2] * 4, ["a", "b", "c"], "1 to 2, and never 0.*counted from 0 or from 1"),
        ([1] * 8, ["a", "b"], "never 0"),
        ([True] * 8, ["a", "b"], "never 0"),
        ([1.0, 2.0] * 4, ["a", "b", "c"], "never 0"),
        ([1, 2, 3, 1] * 2, ["a", "b", "c"], "the class number 3"),
        ([-1, 0, 1, 0] * 2, ["a", "b", "c"], "the class number -1"),
        ([0, 1] * 4, ["1", "0"], "numbers, and so are"),
        ([1, 2] * 4, ["1", "2", "3"], "numbers, and so are"),
    ],
)
def test_numbers_that_may_mean_either_are_refused(labels, classes, message):
    with pytest.raises(DataError, match=message):
        recordings(labels, classes=classes)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        ([0, 2] * 4, ["a", "b", "c"], [0, 2] * 4),
        ([0] * 8, ["a", "b"], [0] * 8),
        ([0, 1] * 4, ["0", "1"], [0, 1] * 4),
        ([1, 2] * 4, None, [0, 1] * 4),
        (["2", "3"] * 4, ["1", "2", "3"], [1, 2] * 4),
    ],
)
def test_numbers_that_mean_one_thing(labels, classes, numbers):
    assert recordings(labels, classes=classes).labels.tolist() == numbers


# -------------------------------------------------------------------------- sensors


def test_one_modality_twice():
    eye = np.zeros((8, 1))
    with pytest.raises(DataError, match="'eye' and 'EYE', two spellings of one mod"):
        recordings(signals={"eye": eye, "EYE": eye})


@pytest.mark.parametrize(
    "pair", [("Fp1", "FP1"), ("T3", "T7"), ("t4", "T8 "), ("Cz",) * 2]
)
def test_one_electrode_twice(pair):
    signals = {"eeg": np.zeros((8, 2, 3), np.float32)}
    modality = Modality(pair, ("a", "b", "c"), "eeg")
    with pytest.raises(DataError, match=r"modality 'eeg'.*(electrode|different)"):
        recordings(signals=signals, modalities={"eeg": list(pair)})
    with pytest.raises(DataError, match=r"modality 'eeg'.*electrode"):
        Inputs(signals, recordings().inputs.windows, {"eeg": modality})


def test_measures_may_differ_in_capitals_but_not_be_the_same():
    windows, eye = recordings().inputs.windows, {"eye": np.zeros((8, 2, 1), np.float32)}
    Inputs(eye, windows, {"eye": Modality(("lf", "LF"), ("value",), "heart")})
    with pytest.raises(DataError, match="the channel 'lf' twice"):
        Inputs(eye, windows, {"eye": Modality(("lf", "lf"), ("value",), "heart")})


# ------------------------------------------------------------- made without from_arrays


def by_hand(**changes):
    """The recordings above, with fields of their inputs changed."""
    data = recordings()
    windows = data.inputs.windows
    if "windows" in changes:
        changes["windows"] = changes["windows"](windows)
    return replace(data, inputs=replace(data.inputs, **changes))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("subject", [1.0] * 8, "type float"),
        ("subject", [1] * 4 + ["bob"] * 4, "type int and values of type str"),
        ("session", [pd.Timestamp("2020-01-01")] * 8, "type Timestamp"),
        ("trial", [("a",)] * 8, "type tuple"),
        ("start", ["10.0", "9.0"] * 4, "seconds from the trial"),
        ("start", [0.0, np.inf] * 4, "infinite or missing"),
        ("start", [0.0, np.nan] * 4, "infinite or missing"),
    ],
)
def test_provenance_of_another_type(column, values, message):
    values = pd.Series(values, dtype=object).infer_objects()
    with pytest.raises(DataError, match=f"'{column}'.*{message}"):
        by_hand(windows=lambda table: table.assign(**{column: values}))


@pytest.mark.parametrize(
    "change", [dict, lambda it: pd.concat([it, it[["trial"]]], axis=1)]
)
def test_a_table_of_another_form(change):
    with pytest.raises(DataError, match="columns subject, session, trial"):
        by_hand(windows=change)


def test_an_index_and_categories_do_not_count():
    table = recordings().inputs.windows
    odd = pd.Categorical(table["subject"], categories=["zoe", "bob", "ann"])
    for index in (pd.Index(range(8, 0, -1)), pd.Index(range(8), name="subject")):
        made = by_hand(windows=lambda it, i=index: it.assign(subject=odd).set_index(i))
        pd.testing.assert_frame_equal(made.inputs.windows, table)


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.tolist(),
        lambda array: array.astype(complex),
        lambda array: array.astype(object),
        lambda array: np.ma.masked_greater(array, 3),
    ],
)
def test_signals_that_are_no_real_numbers(change):
    with pytest.raises(DataError, match="modality 'eye': found"):
        by_hand(signals={"eye": change(recordings().inputs.signals["eye"])})


def test_what_is_masked_is_missing():
    eye = np.ma.masked_greater(np.arange(16).reshape(8, 2), 13)
    made = recordings(signals={"eye": eye}).inputs.signals["eye"]
    assert np.isnan(made).sum() == 2 and np.isnan(made[7]).all()


@pytest.mark.parametrize("labels", [[0] * 8, pd.Series([0] * 8), np.ma.zeros(8, int)])
def test_labels_that_are_no_array(labels):
    with pytest.raises(DataError, match="labels: found a"):
        replace(recordings(), labels=labels)


def test_a_word_is_not_taken_for_its_letters():
    with pytest.raises(DataError, match="classes: found 'ab'"):
        replace(recordings(), classes="ab")
    with pytest.raises(DataError, match="unknown class"):
        recordings(["a", "b"] * 4, classes="ab")
    with pytest.raises(DataError, match="channels: found 'ab'"):
        Modality("ab", ("value",), "eye")
    with pytest.raises(DataError, match="classes: found 0 of type int"):
        replace(recordings(), classes=(0, 1))
    assert Modality(["a"], ["b"], "eye") == Modality(("a",), ("b",), "eye")


@pytest.mark.parametrize("signals", [np.zeros((8, 2)), {1: np.zeros((8, 2))}])
def test_signals_need_names(signals):
    with pytest.raises(DataError, match="by the modality's name"):
        recordings(signals=signals)


@pytest.mark.parametrize("kind", ["EEG", "eeg ", "Eeg"])
def test_the_kind_eeg_has_one_spelling(kind):
    with pytest.raises(DataError, match="expected 'eeg'"):
        Modality(("ECG",), ("value",), kind)


def test_recordings_need_a_name_in_text():
    with pytest.raises(DataError, match="name: found None"):
        by_hand(name=None)


# ----------------------------------------------------------------- unknown in all forms


@pytest.mark.parametrize(
    "word", ["?", "-", "unknown", "unbekannt", "#REF!", "(missing)"]
)
def test_nobody_knows_who_an_unknown_subject_is(word):
    with pytest.raises(DataError, match="column 'subject'"):
        recordings(subject=["ann"] * 4 + [word] * 4)


def test_initials_are_a_name():
    assert "NA" in recordings(subject=["ann"] * 4 + ["NA"] * 4).inputs.windows.values


@pytest.mark.parametrize("code", [-9, -99, -999, 99, 999, 255, 65535, -(2**63)])
def test_a_number_for_no_label_is_no_class(code):
    with pytest.raises(DataError, match="label is missing"):
        recordings([0, 1, 2, code] * 2)


@pytest.mark.parametrize("labels", [[-1, 0, 1, 1], [1, 5, 9, 9], [97, 98, 99, 99]])
def test_numbers_that_are_classes(labels):
    assert recordings(labels * 2).classes == tuple(map(str, sorted(set(labels))))


# ------------------------------------------------------------------- electrodes in join


def with_electrodes(names, subject, **changes):
    eeg = np.random.default_rng(len(subject)).normal(size=(8, 2, 3))
    return recordings(
        signals={"eeg": eeg}, subject=subject, modalities={"eeg": names}, **changes
    )


@pytest.mark.parametrize("common", [True, False])
def test_join_knows_an_electrode_in_two_spellings(common):
    one = with_electrodes(["Fp1", "T7"], "ann", trial=range(8))
    other = with_electrodes(["FP1", "T3"], "robert", trial=range(8))
    made = join(one, other, common=common)
    assert made.inputs.modalities["eeg"].channels == ("Fp1", "T7")
    assert "left out" not in made.inputs.name


def test_join_leaves_out_no_modality_for_its_spelling():
    one, other = (
        recordings(subject="ann", trial=range(8)),
        recordings(
            subject="eve",
            trial=range(8),
            signals={"Eye": np.arange(16.0).reshape(8, 2)},
        ),
    )
    with pytest.raises(DataError, match="two spellings of one modality"):
        join(one, other, common=True)
