"""The table format: round trips, every refusal, the page that explains it."""

import csv
import importlib.util
import os
import re
import sys
import tempfile
import tomllib
import warnings
from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from domainemo.core import (
    EmotionData,
    Inputs,
    Modality,
    canonical_name,
    says_missing,
    spelling,
)
from domainemo.data.montage import other_sensor
from domainemo.data.table import Table, from_arrays, write_table
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.registry import find

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "own-recordings.md"
DATA = Path(os.environ.get("DOMAINEMO_DATA", REPOSITORY.parent / "shared" / "data"))

quick = settings(max_examples=60, deadline=None, database=None)
needs_recordings = pytest.mark.skipif(
    not (DATA / "eegmat" / "features_4s.npz").is_file(),
    reason="development recordings not found; set DOMAINEMO_DATA",
)


def small(**changes):
    """Six windows: two subjects, two trials each, EEG and an eye tracker."""
    rng = np.random.default_rng(0)
    options = {
        "signals": {
            "eeg": rng.normal(size=(6, 2, 3)).astype(np.float32),
            "eye": rng.normal(size=(6, 2)).astype(np.float32),
        },
        "labels": ["sad", "sad", "happy", "sad", "happy", "happy"],
        "subject": ["ann", "ann", "ann", "bob", "bob", "bob"],
        "trial": [1, 1, 2, 1, 2, 2],
        "modalities": {"eeg": ["Fp1", "Fp2"]},
        "name": "small",
    }
    return from_arrays(**(options | changes))


@pytest.fixture
def folder(tmp_path):
    return write_table(small(), tmp_path / "small")


def assert_same(one: Inputs, other: Inputs) -> None:
    assert one.name == other.name
    assert list(one.modalities.items()) == list(other.modalities.items())
    pd.testing.assert_frame_equal(one.windows, other.windows, check_exact=True)
    for name, array in one.signals.items():
        assert array.dtype == other.signals[name].dtype == np.float32
        np.testing.assert_array_equal(array, other.signals[name])


# --------------------------------------------------------------------- round trips

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
awkward = st.sampled_from(
    ["a,b", '"', 'a"b', "a\r\nb", "\r", "\u2028", " x ", "é中", "01"]
)
names = st.one_of(text, awkward).filter(lambda name: not says_missing(name))
whole = st.integers(-(2**63), 2**63 - 1)


@st.composite
def recordings(draw):
    """Draw what a user might hold, as plain Python and numpy values."""
    count = draw(st.integers(1, 5))

    def column():
        elements = draw(st.sampled_from([names, whole]))
        drawn = st.lists(elements, min_size=count, max_size=count)
        # What is spelled in two ways is refused, see below.
        return draw(drawn.filter(lambda v: len(set(v)) == len({*map(spelling, v)})))

    signals, modalities = {}, {}
    keys = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,6}", fullmatch=True)
    keys = keys.filter(lambda name: name not in ("fusion", *dir(nn.ModuleDict)))
    for key in draw(st.lists(keys, min_size=1, max_size=3, unique_by=spelling)):
        sensors = names.filter(lambda name: other_sensor(name) is None)
        channels = draw(
            st.lists(sensors, min_size=1, max_size=2, unique_by=canonical_name)
        )
        features = draw(st.lists(names, min_size=1, max_size=2, unique=True))
        kind, unit = draw(st.sampled_from(["eeg", "eye"])), draw(st.text("µV², ."))
        modalities[key] = Modality(tuple(channels), tuple(features), kind, unit)
        signals[key] = draw(
            arrays_of.arrays(
                np.float32,
                (count, len(channels), len(features)),
                elements=st.floats(width=32, allow_infinity=False),
            )
        )
    seconds = st.floats(allow_nan=False, allow_infinity=False)
    classes = draw(st.lists(names, min_size=1, max_size=3, unique_by=spelling))
    return {
        "signals": signals,
        "labels": draw(
            st.lists(st.sampled_from(classes), min_size=count, max_size=count)
        ),
        **{key: column() for key in ("subject", "session", "trial", "stimulus")},
        "start": draw(
            st.lists(seconds, min_size=count, max_size=count, unique_by=lambda s: s + 0)
        ),
        "classes": classes,
        "modalities": modalities,
        "name": draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=6)),
    }


@pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
@quick
@given(recordings(), st.booleans())
def test_what_is_written_is_read_exactly(drawn, labelled):
    data = from_arrays(**drawn if labelled else drawn | {"labels": None})
    with tempfile.TemporaryDirectory() as parent:
        table = Table(write_table(data, Path(parent) / "folder"))
        inputs = table.load_inputs()
        loaded = table.load() if labelled else None
    assert_same(inputs, data.inputs if labelled else data)
    # Against the values drawn, not only against the converter's view of them.
    assert inputs.name == drawn["name"]
    for key in ("subject", "session", "trial", "stimulus"):
        read = inputs.windows[key].tolist()
        assert [str(value) for value in read] == [str(value) for value in drawn[key]]
        if all(isinstance(value, int) for value in drawn[key]):
            assert read == drawn[key]
    assert inputs.windows["start"].tolist() == drawn["start"]
    for key, array in drawn["signals"].items():
        np.testing.assert_array_equal(inputs.signals[key], array)
    if loaded is not None:
        assert list(loaded.classes) == drawn["classes"]
        assert [loaded.classes[label] for label in loaded.labels] == drawn["labels"]


def test_files_are_what_other_programs_read(folder):
    document = tomllib.loads((folder / "dataset.toml").read_text("utf-8"))
    assert document["format"] == 1
    assert document["classes"] == ["happy", "sad"]
    assert document["modalities"]["eye"]["channels"] == ["measure-1", "measure-2"]
    assert "licence" not in document
    frame = pd.read_csv(folder / "windows.csv")
    assert frame["label"].tolist() == ["sad", "sad", "happy", "sad", "happy", "happy"]
    assert frame["start"].tolist() == [0, 1, 0, 0, 0, 1]
    assert np.load(folder / "eye.npy").shape == (6, 2, 1)


def test_notes_are_written_for_the_reader(tmp_path):
    notes = {"licence": "CC0-1.0", "citation": "Us.", "description": 'A "test".'}
    write_table(small(), tmp_path / "noted", **notes)
    document = tomllib.loads((tmp_path / "noted" / "dataset.toml").read_text("utf-8"))
    assert {key: document[key] for key in notes} == notes
    assert len(Table(tmp_path / "noted").load()) == 6


@pytest.mark.parametrize("name", ["fusion", "../eye", "a/b", "eye.gaze", "", "type"])
def test_names_that_no_branch_can_have_are_refused(name):
    with pytest.raises(DataError, match=r"modality is called|found the name"):
        small(signals={name: np.arange(6.0)[:, None]}, modalities=None)


def test_float64_and_other_byte_orders_are_converted(folder):
    array = np.load(folder / "eeg.npy")
    for dtype in ("<f8", ">f8", ">f4"):
        np.save(folder / "eeg.npy", np.asfortranarray(array.astype(dtype)))
        read = Table(folder).load().inputs.signals["eeg"]
        assert read.dtype == np.dtype("=f4") and read.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(read, array)


def test_spreadsheet_habits_are_understood(folder):
    path = folder / "windows.csv"
    lines = path.read_text("utf-8").splitlines()
    # A byte-order mark, other line ends, columns in another order, a trailing line.
    swapped = [",".join(reversed(line.split(","))) for line in lines]
    path.write_bytes(("\ufeff" + "\n".join(swapped) + "\n\n").encode("utf-8"))
    loaded = Table(folder).load()
    assert_same(loaded.inputs, small().inputs)
    assert loaded.labels.tolist() == small().labels.tolist()


def test_registered_as_table():
    assert find("dataset", "table") is Table


# ---------------------------------------------------------------------- from arrays


def test_defaults_of_from_arrays():
    data = small()
    windows = data.inputs.windows
    assert isinstance(data, EmotionData) and data.classes == ("happy", "sad")
    assert data.labels.tolist() == [1, 1, 0, 1, 0, 0]
    assert windows["session"].tolist() == [1] * 6
    assert (
        windows["stimulus"].tolist() == windows["trial"].tolist() == [1, 1, 2, 1, 2, 2]
    )
    assert data.inputs.modalities["eeg"] == Modality(
        ("Fp1", "Fp2"), ("feature-1", "feature-2", "feature-3"), "eeg"
    )
    assert data.inputs.modalities["eye"].features == ("value",)
    assert data.inputs.signals["eye"].shape == (6, 2, 1)


def test_start_counts_windows_within_each_trial_of_each_subject():
    windows = small(trial=[1, 2, 1, 1, 1, 2], window=2.5).inputs.windows
    assert windows["start"].tolist() == [0, 0, 2.5, 0, 2.5, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "names", "numbers"),
    [
        ([1, 2, 10, 1, 2, 10], None, ("1", "2", "10"), [0, 1, 2, 0, 1, 2]),
        ([0.0, 1.0, 1.0, 0.0, 0.0, 0.0], ["a", "b"], ("a", "b"), [0, 1, 1, 0, 0, 0]),
        (np.array([True, False] * 3), None, ("0", "1"), [1, 0] * 3),
        (["1", "0"] * 3, ["1", "0"], ("1", "0"), [0, 1] * 3),
        (pd.Series(["b", "a"] * 3, dtype="category"), None, ("a", "b"), [1, 0] * 3),
    ],
)
def test_labels_as_numbers_or_names(labels, classes, names, numbers):
    data = small(labels=labels, classes=classes)
    assert data.classes == names
    assert data.labels.tolist() == numbers


def test_identifiers_keep_their_type():
    subject = ["01", "01", "01", "2", "2", "2"]
    windows = small(subject=subject, session="3").inputs.windows
    assert windows["subject"].tolist() == subject
    assert windows["session"].tolist() == [3] * 6
    matlab = small(trial=np.array([1.0, 1, 2, 1, 2, 2])).inputs.windows["trial"]
    assert matlab.dtype == np.int64 and matlab.tolist() == [1, 1, 2, 1, 2, 2]
    huge = str(2**63)
    assert small(session=huge).inputs.windows["session"].tolist() == [huge] * 6


def test_arrays_are_copied():
    eye = np.zeros((6, 2), dtype=np.float32)
    data = small(signals={"eye": eye}, modalities=None)
    eye += 1
    assert not data.inputs.signals["eye"].any()


def test_measures_are_called_as_the_columns_of_a_data_frame():
    frame = pd.DataFrame({"pupil": [1, 2, None, 4, 5, 6], "blinks": range(6)})
    numbers = frame.convert_dtypes()  # whole numbers, of which one is missing
    for names in (None, {"eye": ["pupil", "blinks"]}):
        inputs = small(signals={"eye": numbers}, modalities=names).inputs
        assert inputs.modalities["eye"].channels == ("pupil", "blinks")
        assert np.array_equal(inputs.signals["eye"][..., 0], frame, equal_nan=True)


EEG, EYE = np.zeros((6, 2, 3)), np.zeros((6, 2))
FRAME = pd.DataFrame(EYE, columns=["pupil", "blinks"])
AT = {"modalities": None}
LEARNT = torch.zeros(6, 2, requires_grad=True)


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"signals": {}}, ["no arrays"]),
        ({"signals": {"eye": EYE, "ecg": EYE[1:]}} | AT, ["eye: 6, ecg: 5", "NaN"]),
        ({"signals": {"eeg": EEG}} | AT, ["2 channels without names", "['Fp1'"]),
        ({"signals": {"eeg": EYE}} | AT, ["(6, 2)", "array[:, :, None]"]),
        ({"signals": {"eye": EYE[:, 0]}} | AT, ["(6,)", "(windows, measures)"]),
        ({"signals": {"eye": [[1], [1, 2]]}} | AT, ["inhomogeneous"]),
        ({"signals": {"eye": LEARNT}}, ["'eye'", "grad", "detach().cpu().numpy()"]),
        ({"labels": LEARNT[:, 0]}, ["labels", "grad", "detach().cpu().numpy()"]),
        ({"subject": LEARNT[:, 0]}, ["subject", "grad", "detach().cpu().numpy()"]),
        ({"signals": {"eye": EYE.astype(str)}} | AT, ["data type <U", "float32"]),
        ({"signals": {"eye": EYE * 1j}} | AT, ["complex128"]),
        (
            {"signals": {"eye": EYE - np.inf}} | AT,
            ["window 0, channel 0", "-inf", "NaN"],
        ),
        ({"signals": {"eye": EYE + 1e300}} | AT, ["1e+300", "finite float32"]),
        ({"signals": {"fusion": EYE}} | AT, ["'fusion'", "Rename"]),
        ({"modalities": {"eeg": "Fp1"}}, ["'Fp1'", "list of channel names"]),
        ({"modalities": {"eeg": ["Fz", "Fz"]}}, ["channels", "different"]),
        ({"modalities": {"eeg": ["Fz", "Cz", "Pz"]}}, ["(6, 2, 3)", "(6, 3, 3)"]),
        ({"modalities": {"egg": ["Fz"]}}, ["'egg'", "Did you mean 'eeg'?"]),
        (
            {"signals": {"eye": FRAME}, "modalities": {"eye": ["blinks", "pupil"]}},
            ["names blinks, pupil", "columns pupil, blinks", "frame[names]"],
        ),
        ({"subject": ["ann"] * 5}, ["(5,)", "(6,)"]),
        ({"subject": ["ann"] * 5 + [""]}, ["subject", "window 5 (counted", "''"]),
        (
            {"subject": ["ann"] * 5 + [np.nan]},
            ["subject", "window 5 (counted", "nan", "Fill it in."],
        ),
        ({"subject": None}, ["subject", "None", "a value, or 6"]),
        ({"trial": None}, ["trial", "None", "a value, or 6"]),
        (
            {"subject": pd.array(["ann"] * 5 + [None], dtype="string")},
            ["subject", "window 5 (counted", "<NA>", "Fill it in."],
        ),
        (
            {"labels": pd.array([0, 1, 0, 1, 0, None], dtype="Int64")},
            ["labels", "window 5 (counted", "<NA>", "Where there is no label"],
        ),
        ({"subject": ["ann"] * 5 + ["\ud800"]}, ["subject", "window 5 (counted"]),
        ({"trial": [1.5] * 6}, ["trial", "1.5", "whole number", "str(value)"]),
        ({"start": [0, 1, 2, 3, 4, None]}, ["start", "window 5 (counted", "None"]),
        (
            {"start": np.zeros(6)},
            ["window 1 (counted", "subject ann, session 1, trial 1, start 0.0"],
        ),
        ({"window": 0}, ["window", "more than 0"]),
        ({"window": "4"}, ["window", "'4'", "more than 0"]),
        ({"labels": [0, 1]}, ["labels", "(2,)"]),
        ({"labels": ["sad"] * 5 + [1]}, ["numbers and strings"]),
        ({"labels": [np.nan] * 6}, ["labels", "nan"]),
        ({"labels": [1, 2, 3] * 2, "classes": list("abc")}, ["number 3", "0 to 2"]),
        ({"labels": ["sed"] * 6, "classes": ["sad"]}, ["'sed'", "Did you mean 'sad'?"]),
        ({"classes": ["sad", "sad"]}, ["classes", "different"]),
        ({"classes": ["sa\nd"]}, ["sa\\nd"]),
    ],
)
def test_from_arrays_refuses(changes, fragments):
    with pytest.raises(DataError) as caught:
        small(**changes)
    assert_paragraph(caught.value, ["small", *fragments])


def assert_paragraph(error, fragments):
    message = str(error)
    assert "\n" not in message
    assert "found" in message and "expected" in message
    for fragment in fragments:
        assert fragment in message, message


# ------------------------------------------------------------------- broken folders


def edit(**fields):
    """Change top-level fields of dataset.toml; None removes one."""

    def apply(folder):
        path = folder / "dataset.toml"
        document = tomllib.loads(path.read_text("utf-8")) | fields
        kept = {key: value for key, value in document.items() if value is not None}
        path.write_text(tomli_w.dumps(kept), "utf-8")

    return apply


def edit_eeg(**fields):
    def apply(folder):
        path = folder / "dataset.toml"
        document = tomllib.loads(path.read_text("utf-8"))
        table = document["modalities"]["eeg"] | fields
        kept = {key: value for key, value in table.items() if value is not None}
        document["modalities"]["eeg"] = kept
        path.write_text(tomli_w.dumps(document), "utf-8")

    return apply


def cell(column, row, value):
    """Change one cell of windows.csv; rows count as in a spreadsheet."""

    def apply(folder):
        with (folder / "windows.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        at = rows[0].index(column)
        for number in range(1, len(rows) + 1) if row is None else [row]:
            if row is not None or number > 1:
                rows[number - 1][at] = value
        with (folder / "windows.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)

    return apply


def replace(name, content):
    def apply(folder):
        (folder / name).write_bytes(content)

    return apply


def save(array, **options):
    def apply(folder):
        np.save(folder / "eeg.npy", array, **options)

    return apply


def truncate(folder):
    content = (folder / "eeg.npy").read_bytes()
    (folder / "eeg.npy").write_bytes(content[:-8])


def pack(folder):
    with (folder / "eeg.npy").open("wb") as stream:
        np.savez(stream, eeg=EEG)


def with_infinite():
    array = np.zeros((6, 2, 3), dtype=np.float32)
    array[4, 1, 2] = np.inf
    return save(array)


BROKEN = {
    "folder missing": (lambda f: f.rename(f.parent / "away"), ["no such folder"]),
    "folder empty": (
        lambda f: [path.unlink() for path in f.iterdir()],
        ["an empty folder", "dataset.toml", "write_table"],
    ),
    "toml missing": (
        lambda f: (f / "dataset.toml").unlink(),
        ["no dataset.toml among"],
    ),
    "toml broken": (replace("dataset.toml", b"name = x\n"), ["not TOML", "line 1"]),
    "toml not text": (replace("dataset.toml", b"\xff\xfe"), ["not UTF-8"]),
    "toml unknown key": (
        edit(clases=["a"]),
        ["dataset.toml", "'clases'", "Did you mean 'classes'?"],
    ),
    "toml no name": (edit(name=None), ["dataset.toml", "no field 'name'"]),
    "toml no format": (edit(format=None), ["no field 'format'"]),
    "toml no classes": (edit(classes=None), ["no field 'classes'"]),
    "toml wrong type": (edit(name=3), ["field 'name'", "found 3", "a string"]),
    "toml classes twice": (edit(classes=["sad", "sad"]), ["field 'classes'"]),
    "toml newer format": (
        edit(format=2, other=1),
        ["field 'format'", "found format 2"],
    ),
    "toml format a truth": (edit(format=True), ["field 'format'", "found True"]),
    "toml no modalities": (edit(modalities={}), ["no modality"]),
    "toml modality no table": (edit(modalities={"eeg": 1}), ["[modalities.eeg]"]),
    "toml modality fusion": (edit(modalities={"fusion": {}}), ["'fusion'"]),
    "toml modality unknown key": (
        edit_eeg(chanels=["Fp1"]),
        ["[modalities.eeg]", "Did you mean 'channels'?"],
    ),
    "toml modality no kind": (edit_eeg(kind=None), ["no field 'kind'"]),
    "toml modality channels": (edit_eeg(channels=["Fp1", 2]), ["'channels'"]),
    "toml modality features": (edit_eeg(features=[]), ["'features'", "found []"]),
    "toml file outside": (edit_eeg(file="../eeg.npy"), ["'file'", "plain name"]),
    "array missing": (lambda f: (f / "eeg.npy").unlink(), ["eeg.npy", "no such file"]),
    "array truncated": (truncate, ["eeg.npy", "truncated", "numpy.save"]),
    "array empty": (replace("eeg.npy", b""), ["eeg.npy", "truncated"]),
    "array pickled": (save(EEG.astype(object), allow_pickle=True), ["pickled"]),
    "array packed": (pack, ["eeg.npy", "foreign"]),
    "array whole numbers": (save(EEG.astype(int)), ["data type int64", "float32"]),
    "array short": (save(EEG[:5]), ["(5, 2, 3)", "(6, 2, 3)", "windows.csv"]),
    "array flat": (save(EYE), ["(6, 2)", "(6, 2, 3)"]),
    "array infinite": (with_infinite(), ["window 4, channel 1, feature 2", "inf"]),
    "csv missing": (lambda f: (f / "windows.csv").unlink(), ["windows.csv", "no such"]),
    "csv empty": (replace("windows.csv", b""), ["windows.csv", "'subject'"]),
    "csv not text": (replace("windows.csv", b"subj\xe9ct"), ["not UTF-8", "UTF-8"]),
    "csv open quote": (replace("windows.csv", b'subject,"ses'), ["not CSV"]),
    "csv semicolons": (
        replace("windows.csv", b"subject;session\n1;1\n"),
        ["single column", "commas"],
    ),
    "csv no trial": (cell("trial", 1, "trail"), ["'trail'", "Did you mean 'trial'?"]),
    **{
        f"csv column {name}": (
            cell("subject", 1, name),
            [f"column {name!r}", "Rename it 'subject'"],
        )
        for name in ("SUBJECT", " subject", "Sub ject ")
    },
    "csv another column": (cell("label", 1, "age"), ["'age'", "expected", "Remove"]),
    "csv column twice": (cell("trial", 1, "start"), ["a column twice"]),
    "csv column lacking": (
        replace("windows.csv", b"subject,session,trial,start\n1,1,1,0\n"),
        ["no column 'stimulus'", "repeat the trial"],
    ),
    "csv header only": (
        replace("windows.csv", b"subject,session,trial,stimulus,start\n"),
        ["no windows at all"],
    ),
    "csv short row": (
        replace("windows.csv", b"subject,session,trial,stimulus,start\n1,1,1,1,0\n1\n"),
        ["row 3", "1 value;", "expected 5"],
    ),
    "csv bad number": (cell("start", 4, "1,5"), ["row 4", "'start'", "'1,5'"]),
    "csv not a number": (cell("start", 4, "nan"), ["row 4", "'start'", "'nan'"]),
    "csv start in parts": (cell("start", 4, "4_0"), ["row 4", "'start'", "'4_0'"]),
    "csv no subject": (cell("subject", 3, ""), ["row 3", "'subject'"]),
    "csv duplicate": (cell("start", 3, "0.0"), ["row 3", "a second window", "ann"]),
    "csv unknown class": (cell("label", 5, "sat"), ["row 5", "'sat'", "mean 'sad'?"]),
    "csv partly labelled": (cell("label", 5, ""), ["row 5", "5 of 6 rows"]),
    "csv unlabelled": (cell("label", None, ""), ["no labels", "prediction"]),
}
LABELS_ONLY = {
    "toml no classes",
    "csv unknown class",
    "csv partly labelled",
    "csv unlabelled",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folder_is_explained(folder, case):
    break_it, fragments = BROKEN[case]
    break_it(folder)
    with pytest.raises(DataError) as caught:
        Table(folder).load()
    assert_paragraph(caught.value, [str(folder), *fragments])
    if case in LABELS_ONLY:
        assert_same(Table(folder).load_inputs(), small().inputs)
    else:
        with pytest.raises(DataError, match=re.escape(str(caught.value))):
            Table(folder).load_inputs()


def test_a_pickle_is_never_run(folder):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(folder / "sprung"),))

    np.save(folder / "eeg.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        Table(folder).load()
    assert not (folder / "sprung").exists()


def test_parent_of_the_folder_and_a_file_are_told_apart(folder):
    with pytest.raises(DataError, match=r"Did you mean .*small"):
        Table(folder.parent).load()
    with pytest.raises(DataError, match="Give the folder"):
        Table(folder / "dataset.toml").load()
    with pytest.raises(ConfigurationError, match="--data-root"):
        Table(None)


@settings(max_examples=150, deadline=None, database=None)
@given(st.data())
def test_damaged_bytes_never_end_in_a_traceback(drawn):
    with tempfile.TemporaryDirectory() as parent:
        folder = write_table(small(), Path(parent) / "small")
        path = folder / drawn.draw(
            st.sampled_from(["dataset.toml", "windows.csv", "eeg.npy"])
        )
        content = bytearray(path.read_bytes())
        for _ in range(drawn.draw(st.integers(1, 3))):
            at = drawn.draw(st.integers(0, len(content) - 1))
            content[at] = drawn.draw(st.integers(0, 255))
        path.write_bytes(bytes(content[: drawn.draw(st.integers(0, len(content)))]))
        # A name of no electrode may come of it, which is told, and loaded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainemoWarning)
            try:
                data = Table(folder).load()
            except DataError:
                return
    assert len(data) == len(data.inputs.signals["eeg"])


# -------------------------------------------------------------------------- writing


def test_write_refuses_a_folder_that_holds_something(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigurationError) as caught:
        write_table(small(labels=None), folder)
    assert_paragraph(caught.value, [str(folder), "4 entries", "another folder"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(ConfigurationError, match="a file of that name"):
        write_table(small(), folder / "eeg.npy")
    with pytest.raises(ConfigurationError, match="could not be written"):
        write_table(small(), folder / "eeg.npy" / "below")


def test_write_fills_an_empty_folder_and_makes_parents(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    write_table(small(), tmp_path / "empty")
    write_table(small(), tmp_path / "a" / "b" / "c")
    monkeypatch.chdir(tmp_path)
    write_table(small(), "relative")
    for name in ("empty", "a/b/c", "relative"):
        assert_same(Table(tmp_path / name).load().inputs, small().inputs)
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "relative").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch, error):
    real = np.save

    def fail(path, array, **options):
        if Path(path).name == "eye.npy":
            raise error
        real(path, array, **options)

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises((ConfigurationError, KeyboardInterrupt)) as caught:
        write_table(small(), tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)


def test_write_refuses_what_could_not_be_read_back(tmp_path):
    inputs = small().inputs
    windows = inputs.windows
    for broken in (
        Inputs(inputs.signals, windows.assign(start=0.0), inputs.modalities),
        Inputs(
            {"eye": np.full((6, 1, 1), np.inf, dtype=np.float32)},
            windows,
            {"eye": Modality(("pupil",), ("value",), "eye")},
        ),
        EmotionData(inputs, small().labels, ("a", "\ud800")),
    ):
        with pytest.raises(DataError):
            write_table(broken, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------- the page


def blocks(language):
    pattern = rf"^```(?:{language})\n(.*?)^```$"
    return re.findall(pattern, PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_every_snippet_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {}
    for number, code in enumerate(blocks("python"), 1):
        exec(compile(code, f"{PAGE.name}, block {number}", "exec"), space)
    assert capsys.readouterr().out == "240 windows of happy, sad\n"
    study = Table("my-study").load()
    assert study.inputs.windows.groupby(["subject", "trial"]).ngroups == 24
    assert study.inputs.windows["start"].max() == 36
    gaps = np.isnan(Table("my-study-with-gaps").load().inputs.signals["eye"])
    assert gaps.sum() == 60 * 3
    assert isinstance(space["inputs"], Inputs)
    # Two people, six clips of five windows; four electrodes, five bands.
    assert space["raw_study"].inputs.signals["eeg"].shape == (60, 4, 5)
    # Two people, clips of 20, 26 and 13 s, in windows of 4 s every 2 s.
    assert space["films"].inputs.signals["eeg"].shape == (2 * (9 + 12 + 5), 2, 5)
    assert space["films"].inputs.modalities["eeg"].channels == ("Fp1", "Fp2")

    # The example files of section 6, with the arrays that the last snippet wrote.
    (toml,), (table,) = blocks("toml"), blocks("csv|text")
    Path("dataset.toml").write_text(toml, "utf-8")
    Path("windows.csv").write_text(table, "utf-8")
    example = Table(".").load()
    assert example.labels.tolist() == [1, 1, 0, 0, 1, 1]
    assert example.inputs.windows["stimulus"][3] == "a farewell, slow"


def test_messages_that_the_page_quotes_exist():
    source = (REPOSITORY / "domainemo" / "data" / "table.py").read_text("utf-8")
    quoted = [
        "channels without names",
        "arrays of different lengths",
        "a second window with",
        "the class number",
        "the unknown class",
        "the shape",
        "a truncated, pickled or foreign file",
        "expected a folder that does not exist yet",
    ]
    for message in quoted:
        assert message in source and f"`{message}" in PAGE.read_text("utf-8")


# -------------------------------------------------------------- the real recordings


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    path = REPOSITORY / "benchmarks" / "open_recordings.py"
    spec = importlib.util.spec_from_file_location("open_recordings", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    output = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), str(DATA), str(output)])
        module.main()
    return output


def stored(file):
    with np.load(DATA / file, allow_pickle=False) as arrays:
        return dict(arrays)


def labels_per_trial(data):
    trials = data.inputs.windows[["subject", "session", "trial"]].assign(y=data.labels)
    return trials.groupby(["subject", "session", "trial"])["y"].nunique()


@needs_recordings
def test_eegmat(converted):
    data = Table(converted / "eegmat-features").load()
    raw = stored("eegmat/features_4s.npz")
    assert data.classes == ("rest", "mental_arithmetic")
    np.testing.assert_array_equal(data.labels, raw["y"])
    np.testing.assert_array_equal(data.inputs.signals["eeg"], raw["eeg"])
    np.testing.assert_array_equal(data.inputs.signals["ecg"][:, :, 0], raw["ecg"])
    assert len(labels_per_trial(data)) == 72 and labels_per_trial(data).max() == 1
    # The README: rest lasts about 182 s, the task 62 s, in windows of 4 s.
    ends = data.inputs.windows.groupby("stimulus")["start"].max() + 4
    assert 176 <= ends[0] <= 188 and 58 <= ends[1] <= 62
