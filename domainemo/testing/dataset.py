"""The checks of a data set: what is read, and what becomes of damaged files."""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from ..core import PROVENANCE, TRIAL, EmotionData, Inputs
from ..data.loading import takes_root
from ..data.reader import Reader
from ..errors import DataError
from ..processes import pack, unpack
from ..registry import parameters
from ..runs.checks import check_modalities, check_signals
from .files import (
    attempt,
    changed,
    cut,
    difference,
    flipped,
    foreign,
    of_each_kind,
    read,
    written,
)
from .requirements import Check, Suite, require, require_options

__all__ = ["suite_of_dataset"]

_PLACE = [*TRIAL, "start"]


# -------------------------------------------------------------------- what is read


def _dataset_options(check: Check) -> None:
    """Require keyword-only options with defaults, each in the class's docstring."""
    with_files = takes_root(check.part)
    require_options(check.part, required=int(with_files))
    if with_files:
        first = next(iter(inspect.signature(check.part).parameters))
        require(first == "root", f"the first parameter {first!r}, not 'root'")
    text = inspect.getdoc(check.part) or ""
    require(bool(vars(check.part).get("__doc__")), "no docstring")
    for option in parameters(check.part):
        described = re.search(rf"^\s*(\w+, )*{option}(, \w+)* :", text, re.MULTILINE)
        require(
            described is not None,
            f"nothing about the option {option!r} among the docstring's Parameters",
        )


def _dataset_provenance(check: Check) -> None:
    """Require named recordings, and where each window comes from, once."""
    inputs = _read(check).inputs
    require(
        inputs.name.strip() not in ("", Inputs.name),
        f"recordings called {inputs.name!r}",
    )
    windows = inputs.windows
    columns = ", ".join(map(str, windows.columns))
    require(tuple(windows.columns) == PROVENANCE, f"the columns {columns}")
    lost = windows.columns[windows.isna().any()].tolist()
    require(not lost, f"windows without {', '.join(lost)}")
    again = windows[windows.duplicated(_PLACE)]
    require(again.empty, f"two windows with {_place(again)}")
    shown = windows.groupby(TRIAL, sort=False)["stimulus"].nunique().reset_index()
    several = shown[shown["stimulus"] > 1]
    require(several.empty, f"more than one stimulus in {_trial(several)}")


def _dataset_order(check: Check) -> None:
    """Require windows in order of subject, session, trial and start."""
    windows = _read(check).inputs.windows.reset_index(drop=True)
    order = windows.sort_values(_PLACE, kind="stable").index.to_numpy()
    early = windows.iloc[np.flatnonzero(order != np.arange(len(order)))]
    require(early.empty, f"a window out of place, with {_place(early)}")


def _dataset_whole_trials(check: Check) -> None:
    """Require the windows of a trial in one stretch, one step of time apart."""
    windows = _read(check).inputs.windows.reset_index(drop=True)
    number = windows.groupby(TRIAL, sort=False).ngroup().to_numpy()
    begins = np.flatnonzero(np.diff(number, prepend=-1))
    again = windows.iloc[begins][pd.Series(number[begins]).duplicated().to_numpy()]
    require(again.empty, f"windows of another trial within {_trial(again)}")
    steps = np.diff(windows["start"].to_numpy(np.float64))
    inside = np.diff(number) == 0
    if not inside.any():
        return
    usual = float(np.median(steps[inside]))
    wrong = np.flatnonzero(inside & ~np.isclose(steps, usual, rtol=1e-3, atol=0))
    if len(wrong):
        one = windows.iloc[[wrong[0]]]
        require(
            False,
            f"{steps[wrong[0]]:g} s to the next window from that with {_place(one)}, "
            f"where windows are {usual:g} s apart",
        )


def _dataset_labels(check: Check) -> None:
    """Require a label for every window, the number of one of at least two classes."""
    data = _read(check)
    require(len(data.classes) > 1, f"the classes {', '.join(data.classes)}")
    labels = np.asarray(data.labels)
    require(labels.dtype.kind == "i", f"labels of type {labels.dtype}")
    beyond = sorted(set(labels.tolist()) - set(range(len(data.classes))))
    require(not beyond, f"the label {', '.join(map(str, beyond))}")


def _dataset_one_label(check: Check) -> None:
    """Require one label in a trial; an option may split trials where it changes."""
    data = _read(check)
    windows = data.inputs.windows.assign(label=data.labels)
    per_trial = windows.groupby(TRIAL, sort=False)["label"].nunique().reset_index()
    several = per_trial[per_trial["label"] > 1]
    require(several.empty, f"more than one label in {_trial(several)}")


def _dataset_signals(check: Check) -> None:
    """Require float32 values, finite or NaN, of sensors that can be trained on."""
    inputs = _read(check).inputs
    for name, array in inputs.signals.items():
        require(array.dtype == np.float32, f"{name!r} of type {array.dtype}")
        require(not np.isinf(array).any(), f"infinite values in {name!r}")
    check_modalities(inputs)
    check_signals(inputs)


def _dataset_repeatable(check: Check) -> None:
    """Require a second reading to give the same, bit for bit."""
    with written(check) as root:
        found = difference(read(check, root), read(check, root))
    require(found is None, f"{found}, the second time")


def _read(check: Check) -> EmotionData:
    with written(check) as root:
        return read(check, root)


def _place(windows: pd.DataFrame) -> str:
    return _words(windows, _PLACE)


def _trial(windows: pd.DataFrame) -> str:
    return _words(windows, TRIAL)


def _words(windows: pd.DataFrame, columns: list[str]) -> str:
    """Say where the first of some windows comes from."""
    if windows.empty:
        return "nothing"
    first = windows.iloc[0]
    return ", ".join(f"{column} {first[column]}" for column in columns)


# ---------------------------------------------------------- what becomes of the files


def _dataset_leaves_files(check: Check) -> None:
    """Require reading to leave the files as they are, and no other beside them."""
    with written(check) as root:
        before = _state(root)
        read(check, root)
        after = _state(root)
    for name in sorted(before.keys() | after.keys()):
        require(name in before, f"{name}, which reading has left there")
        require(name in after, f"no {name} any more")
        require(before[name] == after[name], f"{name} changed")


def _state(root: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(root).as_posix(): (
            path.stat().st_mtime_ns,
            sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _dataset_no_files(check: Check) -> None:
    """Require a DataError that names the folder in which no file was found."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "empty").mkdir()
        (place / "a file").write_text("text", encoding="utf-8")
        for name in ("nothing", "empty", "a file"):
            _require_refusal(check, place / name, f"of a root that is {name!r}")


def _dataset_missing_files(check: Check) -> None:
    """Require a DataError, or the rest, where a file is missing or has another name."""
    for root, whole, path in _files(check):
        other = path.with_name(f"copy of {path.name}")
        for where in (f"without {path.name}", f"with {path.name} called {other.name}"):
            content = path.read_bytes()
            with changed(path, None):
                if other.name in where:
                    other.write_bytes(content)
                _require_rest(check, root, whole, where)
                other.unlink(missing_ok=True)


def _dataset_stray_files(check: Check) -> None:
    """Require the same data, or a DataError, where copies and rubbish lie beside."""
    with written(check) as root:
        whole = read(check, root)
        paths = of_each_kind(check, root, whole)
        for name in ("copy of {0.name}", "{0.stem} (1){0.suffix}", ".{0.name}"):
            _require_same(check, root, whole, _beside(paths, name, whole=True))
        for name in ("{0.name}.part", "._{0.name}", ".DS_Store"):
            _require_same(check, root, whole, _beside(paths, name, whole=False))


def _beside(paths: list[Path], name: str, *, whole: bool) -> dict[Path, bytes]:
    """Return files to lie beside others: whole copies, or parts of them."""
    contents = {path.with_name(name.format(path)): path.read_bytes() for path in paths}
    return {
        path: content if whole else content[: len(content) // 3]
        for path, content in contents.items()
    }


def _dataset_unreadable_files(check: Check) -> None:
    """Require a DataError that names a file which is empty, a folder or foreign."""
    for root, whole, path in _files(check):
        for what, content in foreign().items():
            if content != path.read_bytes():
                with changed(path, content):
                    _require_refusal(check, root, f"with {path.name} {what}", path)
        with changed(path, None):
            path.mkdir()
            _require_rest(check, root, whole, f"with a folder for {path.name}")


def _dataset_cut_files(check: Check) -> None:
    """Require a DataError that names a file which was cut off, unless it is all read.

    Formats without a length or a checksum need a count of what must be there.
    """
    for root, whole, path in _files(check):
        for what, content in cut(path.read_bytes()).items():
            where = f"with {path.name} {what}"
            with changed(path, content):
                found = attempt(check, root, where)
            _require_named(found, where, path)
            if isinstance(found, EmotionData):
                differs = difference(whole, found)
                require(differs is None, f"{differs}, {where}")


def _dataset_flipped_files(check: Check) -> None:
    """Require a DataError that names the file, or all windows, where bits changed.

    That a value is another one no reader can tell of a format without a checksum.
    """
    for root, whole, path in _files(check):
        for what, content in flipped(path.read_bytes()).items():
            where = f"with {path.name} {what}"
            with changed(path, content):
                found = attempt(check, root, where)
            _require_named(found, where, path)
            if isinstance(found, EmotionData):
                require(
                    len(found) == len(whole),
                    f"{len(found)} windows in place of {len(whole)} {where}",
                )


def _files(check: Check) -> Iterator[tuple[Path, EmotionData, Path]]:
    """Yield the root, what is read of it and, one by one, a file of each kind."""
    with written(check) as root:
        whole = read(check, root)
        for path in of_each_kind(check, root, whole):
            yield root, whole, path


def _require_named(
    found: EmotionData | DataError, where: str, path: Path, *places: str
) -> None:
    """Refuse an error that names neither the file nor another of the places."""
    names = (path.name, *places)
    require(
        not isinstance(found, DataError) or any(name in str(found) for name in names),
        f"a DataError that does not name {path.name} {where}: {found}",
    )


def _require_refusal(
    check: Check, root: Path, where: str, path: Path | None = None
) -> None:
    """Refuse data of what can hold none, and an error that names another place."""
    found = attempt(check, root, where)
    if isinstance(found, EmotionData):
        require(False, f"{len(found)} windows and no error {where}")
    _require_named(found, where, path or root)


def _require_rest(check: Check, root: Path, whole: EmotionData, where: str) -> None:
    """Refuse what is read without a file, unless it stands in the whole as well."""
    found = attempt(check, root, where)
    if isinstance(found, DataError):
        require(str(root) in str(found), f"a DataError that names no place: {found}")
        return
    # By the place as text: a column of names may turn to numbers without some.
    rows = {key: row for row, key in enumerate(_keys(whole))}
    known = [rows.get(key) for key in _keys(found)]
    require(None not in known, f"a window that was not there before {where}")
    taken = np.array(known, dtype=np.int64)
    require(np.array_equal(whole.labels[taken], found.labels), f"other labels {where}")
    for name, array in found.inputs.signals.items():
        before = whole.inputs.signals[name][taken]
        same = (array == before) | np.isnan(array)
        require(bool(same.all()), f"other values in {name!r} {where}")


def _keys(data: EmotionData) -> list[tuple[str, ...]]:
    columns = [data.inputs.windows[name].astype(str) for name in PROVENANCE]
    return list(zip(*columns, strict=True))


def _require_same(
    check: Check, root: Path, whole: EmotionData, beside: dict[Path, bytes]
) -> None:
    """Refuse other data because of files that do not belong to the data set."""
    names = ", ".join(path.name for path in beside)
    for path, content in beside.items():
        path.write_bytes(content)
    found = attempt(check, root, f"with {names} beside")
    for path in beside:
        path.unlink()
    if isinstance(found, DataError):
        named = any(path.name in str(found) for path in beside)
        require(named, f"a DataError that does not name {names} beside: {found}")
        return
    differs = difference(whole, found)
    require(differs is None, f"{differs}, with {names} beside")


# --------------------------------------------------------------- recordings of a reader


def _reader_told(check: Check) -> None:
    """Require a reader to say what it reads, and to keep its options by name."""
    with written(check) as root:
        made, data = check.build(root), read(check, root)
        texts = {
            "home": made.home,
            "title()": made.title(),
            "release()": made.release(),
        }
        missing, files = made.missing(), made.files()
        there = [path for path in files if path.is_file()]
    for what, text in texts.items():
        require(isinstance(text, str) and bool(text.strip()), f"{what} is {text!r}")
    require(
        made.title() in data.inputs.name,
        f"recordings called {data.inputs.name!r}, without the title {made.title()!r}",
    )
    named = isinstance(missing, list) and all(isinstance(m, str) for m in missing)
    require(named, f"missing() is {missing!r}")
    require(bool(files) and there == files, "files() that are not there")
    for option in parameters(check.part):
        # What is kept of a reading is found again by the attributes.
        require(hasattr(made, option), f"no attribute {option!r} for the option")


def _reader_files(check: Check) -> None:
    """Require files() to name every file that is read."""
    with written(check) as root:
        whole, listed = read(check, root), set(check.build(root).files())
        others = [p for p in root.rglob("*") if p.is_file() and p not in listed]
        names = ", ".join(sorted(path.name for path in others))
        for path in others:
            path.unlink()
        found = attempt(check, root, f"without {names}")
    differs = found if isinstance(found, DataError) else difference(whole, found)
    require(differs is None, f"{differs} without {names}, which files() leaves out")


def _reader_alone(check: Check) -> None:
    """Require a recording read by itself to give what it gives among others."""
    with written(check) as root:
        data, made = read(check, root), check.build(root)
        recording = made.recordings()[-1]
        trials = made.read(recording)
    windows = data.inputs.windows
    for trial in trials:
        place = np.array([recording.subject, trial.session, trial.trial])
        rows = (windows[TRIAL].to_numpy() == place).all(axis=1)
        for name, array in trial.signals.items():
            require(
                np.array_equal(data.inputs.signals[name][rows], array, equal_nan=True),
                f"other values in {name!r} of {recording.name}, trial {trial.trial}",
            )


def _reader_travels(check: Check) -> None:
    """Require a reader that can be sent to another process and reads the same."""
    with written(check) as root:
        made = check.build(root)
        whole, found = made.load(), unpack(pack(made)).load()
    differs = difference(whole, found)
    require(differs is None, f"{differs}, after it was sent")


_DATASET: Suite = {
    "options": _dataset_options,
    "provenance": _dataset_provenance,
    "order": _dataset_order,
    "whole_trials": _dataset_whole_trials,
    "labels": _dataset_labels,
    "one_label": _dataset_one_label,
    "signals": _dataset_signals,
    "repeatable": _dataset_repeatable,
}
_WITH_FILES: Suite = {
    "leaves_files_alone": _dataset_leaves_files,
    "no_files": _dataset_no_files,
    "missing_files": _dataset_missing_files,
    "stray_files": _dataset_stray_files,
    "unreadable_files": _dataset_unreadable_files,
    "cut_files": _dataset_cut_files,
    "flipped_files": _dataset_flipped_files,
}
_READER: Suite = {
    "told": _reader_told,
    "names_its_files": _reader_files,
    "alone": _reader_alone,
    "travels": _reader_travels,
}


def suite_of_dataset(part: type) -> Suite:
    """Return the checks of a data set: those of files where it reads files.

    A :class:`~domainemo.data.reader.Reader` has a few more, of its recordings.
    """
    found = dict(_DATASET)
    if takes_root(part):
        found |= _WITH_FILES
    if issubclass(part, Reader):
        found |= _READER
    return found
