"""The table format: anybody's own features, as a folder of plain files.

A folder holds ``dataset.toml`` (what the recordings are), ``windows.csv`` (where each
window comes from, and its label) and one ``.npy`` array per modality, of shape
(windows, channels, features). ``docs/own-recordings.md`` spells the format out.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import ArrayLike, NDArray

from ..core import (
    FUSION,
    PROVENANCE,
    TRIAL,
    Dataset,
    EmotionData,
    Inputs,
    Modality,
    says_missing,
)
from ..errors import ConfigurationError, DataError
from ..errors import data_error as _error
from ..files import explained, writing
from ..registry import register
from ..values import given_path
from .files.limits import TABLE, TEXT, Refusal, parse_toml, read_text
from .given import expect_inputs
from .labels import TrialLabel, settle
from .montage import check_electrodes
from .normalisation import let_go
from .sentinels import warn_of_sentinels
from .telling import warn_of_telling
from .units import warn_of_units

__all__ = ["FORMAT", "Table", "from_arrays", "write_table"]

FORMAT = 1
"""Version of the format that this release writes, and the only one it reads."""

_TOML, _CSV = "dataset.toml", "windows.csv"
_LABEL = "label"
_HELP = "docs/own-recordings.md shows an example of each file."

_STRING, _STRINGS = "a string", "a list of different, non-empty strings"
_SECONDS = "a number of seconds, or inf"
_TRUTH = "true or false"
_FIELDS = {
    "format": "a whole number",
    "name": _STRING,
    "classes": _STRINGS,
    "licence": _STRING,
    "citation": _STRING,
    "description": _STRING,
    "labelled_trials": _TRUTH,
    "modalities": "a table",
}
_MODALITY_FIELDS = {
    "kind": _STRING,
    "channels": _STRINGS,
    "features": _STRINGS,
    "unit": _STRING,
    "span": _SECONDS,
    "file": _STRING,
}
_UNLABELLED = "Where there is no label, leave the window out."
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_INT64 = np.iinfo(np.int64)


@register(name="table")
class Table(Dataset):
    """Your own features, read from a folder in the documented table format.

    Parameters
    ----------
    root : path
        The folder that holds ``dataset.toml``, ``windows.csv`` and the arrays.
    label : {"majority", "split"}, optional
        What becomes of trials in which the label changes, see
        :func:`domainemo.data.labels.settle`. Without it they are left as they are, and
        nothing can be trained on them.

    Raises
    ------
    ConfigurationError
        If no folder is given, or `label` is neither of these.
    """

    def __init__(
        self, root: str | Path | None, *, label: TrialLabel | None = None
    ) -> None:
        if root is None:
            raise ConfigurationError(
                "The dataset 'table' needs the folder to read; found none. Give it "
                "with --data-root FOLDER, or root= in Python."
            )
        self.root, self.label = given_path("root", root), label

    def load(self) -> EmotionData:
        """Read signals, provenance and labels.

        Returns
        -------
        EmotionData
            In the order of ``windows.csv``, each trial settled as `label` says.

        Raises
        ------
        DataError
            If a file is missing, is broken or does not fit the others, or if the
            recordings are unlabelled.
        """
        description = _read_description(self.root)
        columns = _read_columns(self.root / _CSV)
        # Labels first: they are checked in no time, the arrays can be large.
        labels = _read_labels(self.root, columns, description.classes)
        inputs = _read_inputs(self.root, columns, description)
        data = EmotionData(inputs, labels, description.classes)
        data = settle(data, self.label)
        warn_of_telling(data)
        return data

    def load_inputs(self) -> Inputs:
        """Read signals and provenance; labels may be missing and are not looked at.

        Returns
        -------
        Inputs
            In the order of ``windows.csv``.

        Raises
        ------
        DataError
            If a file is missing, is broken or does not fit the others.
        """
        description = _read_description(self.root)
        columns = _read_columns(self.root / _CSV)
        return _read_inputs(self.root, columns, description)


@overload
def from_arrays(
    signals: Mapping[str, ArrayLike],
    labels: None,
    *,
    subject: ArrayLike,
    trial: ArrayLike,
    session: ArrayLike = ...,
    stimulus: ArrayLike | None = ...,
    start: ArrayLike | None = ...,
    window: float = ...,
    classes: Sequence[str] | None = ...,
    modalities: Mapping[str, Modality | Sequence[str]] | None = ...,
    label: TrialLabel | None = ...,
    name: str = ...,
) -> Inputs: ...
@overload
def from_arrays(
    signals: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    subject: ArrayLike,
    trial: ArrayLike,
    session: ArrayLike = ...,
    stimulus: ArrayLike | None = ...,
    start: ArrayLike | None = ...,
    window: float = ...,
    classes: Sequence[str] | None = ...,
    modalities: Mapping[str, Modality | Sequence[str]] | None = ...,
    label: TrialLabel | None = ...,
    name: str = ...,
) -> EmotionData: ...
def from_arrays(
    signals: Mapping[str, ArrayLike],
    labels: ArrayLike | None,
    *,
    subject: ArrayLike,
    trial: ArrayLike,
    session: ArrayLike = 1,
    stimulus: ArrayLike | None = None,
    start: ArrayLike | None = None,
    window: float = 1.0,
    classes: Sequence[str] | None = None,
    modalities: Mapping[str, Modality | Sequence[str]] | None = None,
    label: TrialLabel | None = None,
    name: str = "own recordings",
) -> EmotionData | Inputs:
    """Make recordings out of numpy arrays.

    Parameters
    ----------
    signals : mapping of str to array of shape (windows, channels, features)
        One array per modality; NaN where the sensor lost it. A modality that is not
        EEG may be of shape (windows, measures): each measure becomes a channel. Of a
        DataFrame, the columns' names are the measures'.
    labels : array of int or str, shape (windows,), or None
        Class numbers, counted from 0 where `classes` is given, or class names. None
        where there are no labels.
    subject, trial, session : array of int or str, shape (windows,), or one value
        Where each window comes from. A trial is one uninterrupted recording, such as
        a film clip; its number need only be unique within the subject's session.
    stimulus : array of int or str, shape (windows,), optional
        What was shown. The trial's number where it is not given.
    start : array of float, shape (windows,), optional
        Seconds from the trial's onset. Without it, windows follow one another every
        `window` seconds in the order given.
    window : float
        Seconds from one window to the next; used only where `start` is not given.
    classes : sequence of str, optional
        Class names. The labels' own values, sorted, where it is not given.
    modalities : mapping of str to Modality or sequence of str, optional
        What each array holds, or just its channels' names. Required for EEG, as
        networks place electrodes by their names; other names are made up.
    label : {"majority", "split"}, optional
        What becomes of trials in which the label changes, as where windows were rated
        one by one: every window is given the trial's commonest label, or each run of
        windows of one label becomes a trial. Without it they are left as they are, and
        nothing can be trained on them.
    name : str
        What the recordings are; printed beside every number made from them.

    Returns
    -------
    EmotionData or Inputs
        Inputs where `labels` is None.

    Raises
    ------
    DataError
        If lengths, names, types or values do not fit.
    """
    arrays, count = _arrays(signals, name)
    columns_of = {key: _column_names(signal) for key, signal in signals.items()}
    described = _describe(arrays, modalities or {}, columns_of, name)
    given = {
        "subject": subject,
        "session": session,
        "trial": trial,
        "stimulus": trial if stimulus is None else stimulus,
        "start": start,
    }
    columns = {
        key: None
        if values is None and key == "start"
        else _column(values, count, f"{name}, {key}")
        for key, values in given.items()
    }
    frame = _windows(columns, where=name, first=0, step=window)
    tidy = {
        key: _tidy(np.atleast_3d(array), f"{name}, signal {key!r}")
        for key, array in arrays.items()
    }
    inputs = Inputs(tidy, frame, described, name)
    warn_of_units(inputs)
    warn_of_sentinels(inputs)
    if labels is None:
        return inputs
    encoded, names = _encode(labels, classes, count, f"{name}, labels")
    data = settle(EmotionData(inputs, encoded, names), label)
    warn_of_telling(data)
    return data


def write_table(
    data: EmotionData | Inputs,
    folder: str | Path,
    *,
    licence: str = "",
    citation: str = "",
    description: str = "",
) -> Path:
    """Write recordings as a folder in the table format.

    The folder appears complete or not at all. Read again, it holds exactly what was
    written; only a column of strings that are all whole numbers comes back as numbers.

    Parameters
    ----------
    data : EmotionData or Inputs
        What to write; Inputs make an unlabelled folder.
    folder : path
        Must not exist, or be empty.
    licence, citation, description : str
        For whoever opens the folder; left out where empty.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigurationError
        If the folder holds something or cannot be written.
    DataError
        If the recordings hold what the format does not allow.
    """
    place = given_path("folder", folder)
    inputs = expect_inputs(data, "write_table")
    classes = data.classes if isinstance(data, EmotionData) else ()
    notes = {"licence": licence, "citation": citation, "description": description}
    files = _file_names(inputs.signals)
    document = {
        "format": FORMAT,
        "name": inputs.name,
        **({"classes": list(classes)} if classes else {}),
        **{key: text for key, text in notes.items() if text},
        **({"labelled_trials": True} if inputs.labelled_trials else {}),
        "modalities": {
            key: _modality_table(modality, files[key])
            for key, modality in inputs.modalities.items()
        },
    }
    # What could not be read back is refused before anything is written.
    _parse_description(document, inputs.name)
    columns = {key: inputs.windows[key].to_numpy() for key in PROVENANCE}
    frame = _windows(columns, where=inputs.name, first=0)
    arrays = {
        files[key]: _tidy(signal, f"{inputs.name}, signal {key!r}")
        for key, signal in inputs.signals.items()
    }
    names = None
    if isinstance(data, EmotionData):
        names = [classes[label] for label in data.labels.tolist()]
    return _write_folder(place, document, frame, names, arrays)


# ------------------------------------------------------------------------- writing


def _write_folder(
    folder: Path,
    document: dict[str, Any],
    frame: pd.DataFrame,
    labels: list[str] | None,
    arrays: Mapping[str, NDArray[np.float32]],
) -> Path:
    """Write beside the folder, then rename: a killed run leaves no half of it."""
    with explained(folder):
        _refuse_occupied(folder)
    with writing(folder.resolve()) as partial:
        partial.mkdir()
        for file, array in arrays.items():
            np.save(partial / file, array, allow_pickle=False)
        with (partial / _CSV).open("w", encoding="utf-8", newline="") as stream:
            _write_csv(stream, frame, labels)
        (partial / _TOML).write_bytes(tomli_w.dumps(document).encode("utf-8"))
    return folder


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir():
        held = sorted(path.name for path in folder.iterdir())
        if not held:
            return
        found = (
            f"{len(held)} entries ({', '.join(held[:3])}{', ...' * (len(held) > 3)})"
        )
    elif folder.exists():
        found = "a file of that name"
    else:
        return
    raise ConfigurationError(
        f"{folder}: found {found}; expected a folder that does not exist yet, or is "
        f"empty. Nothing was written; give another folder, or move this one away."
    )


def _write_csv(stream: Any, frame: pd.DataFrame, labels: list[str] | None) -> None:
    # Lines end in CR LF, the csv module's own: a bare CR inside a name is then quoted.
    writer = csv.writer(stream)
    columns = [frame[key].tolist() for key in PROVENANCE]
    header = list(PROVENANCE)
    if labels is not None:
        columns.append(labels)
        header.append(_LABEL)
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))


def _modality_table(modality: Modality, file: str) -> dict[str, Any]:
    table = {
        "kind": modality.kind,
        "channels": list(modality.channels),
        "features": list(modality.features),
        "unit": modality.unit,
        "file": file,
    }
    return table if modality.span is None else table | {"span": modality.span}


def _file_names(signals: Iterable[str]) -> dict[str, str]:
    """Name each modality's file after it, where every file system allows the name."""
    return {
        name: f"{name}.npy"
        if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
        else f"modality.{number}.npy"
        for number, name in enumerate(signals, 1)
    }


# -------------------------------------------------------------------- dataset.toml


@dataclass(frozen=True)
class _Description:
    name: str
    classes: tuple[str, ...]
    modalities: dict[str, Modality]
    files: dict[str, str]
    labelled_trials: bool


def _read_description(root: Path) -> _Description:
    path = root / _TOML
    if not path.is_file():
        raise _no_description(root)
    try:
        document = parse_toml(_read_text(path))
    except ValueError as error:
        raise _error(
            path,
            f"text that is not TOML ({error})",
            'lines like name = "my recordings"',
            f"Correct that place; {_HELP}",
        ) from error
    return _parse_description(document, path)


def _no_description(root: Path) -> DataError:
    expected = f"a folder with {_TOML}, {_CSV} and one .npy file per modality"
    remedy = "domainemo.write_table makes such a folder."
    if not root.exists():
        return _error(root, "no such folder", expected, f"Check the path; {remedy}")
    if not root.is_dir():
        return _error(root, "a file", expected, "Give the folder, not a file in it.")
    held = sorted(path.name for path in root.iterdir())
    if not held:
        return _error(root, "an empty folder", expected, remedy)
    for name in held:
        if (root / name / _TOML).is_file():
            remedy = f"Did you mean {root / name}?"
            break
    listed = ", ".join(held[:5]) + ", ..." * (len(held) > 5)
    return _error(root, f"no {_TOML} among {listed}", expected, remedy)


def _parse_description(document: Mapping[str, Any], path: Path | str) -> _Description:
    """Check a whole ``dataset.toml``; `path` is named in errors."""
    version = document.get("format", FORMAT)
    if type(version) is int and version != FORMAT:
        raise _error(
            f"{path}, field 'format'",
            f"format {version}",
            f"format {FORMAT}",
            "A newer domainemo may read it: update, or write the folder again with "
            "domainemo.write_table.",
        )
    _check_fields(document, _FIELDS, ("format", "name", "modalities"), str(path))
    tables = document["modalities"]
    if not tables:
        raise _error(
            f"{path}, field 'modalities'",
            "no modality",
            "one table like [modalities.eeg] per array",
            _HELP,
        )
    modalities, files = {}, {}
    for name, table in tables.items():
        where = f"{path}, [modalities.{name}]"
        modalities[name], files[name] = _parse_modality(name, table, where)
    classes = tuple(document.get("classes", ()))
    divided = document.get("labelled_trials", False)
    return _Description(document["name"], classes, modalities, files, divided)


def _parse_modality(name: str, table: Any, where: str) -> tuple[Modality, str]:
    if not isinstance(table, dict):
        raise _error(where, _show(table), "a table of fields", _HELP)
    if name == FUSION or not name:
        raise _error(
            where,
            f"the name {name!r}",
            "another name; every network's joint branch is called 'fusion'",
            "Rename the modality.",
        )
    required = ("kind", "channels", "features", "file")
    _check_fields(table, _MODALITY_FIELDS, required, where)
    file = table["file"]
    if not file.endswith(".npy") or "/" in file or "\\" in file or ":" in file:
        raise _error(
            f"{where}, field 'file'",
            repr(file),
            "the plain name of an .npy file in the same folder",
            "Put the array beside dataset.toml and give its name alone.",
        )
    try:
        modality = Modality(
            tuple(table["channels"]),
            tuple(table["features"]),
            table["kind"],
            table.get("unit", ""),
            table.get("span"),
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if modality.kind == "eeg":
        check_electrodes(where, modality.channels)
    return modality, file


def _check_fields(
    table: Mapping[str, Any],
    fields: Mapping[str, str],
    required: Sequence[str],
    where: str,
) -> None:
    for key, value in table.items():
        if key not in fields:
            known = ", ".join(fields)
            remedy = _suggest(key, fields) or "Remove it, or correct its spelling."
            raise _error(where, f"the unknown field {key!r}", f"only {known}", remedy)
        if not _fits(value, fields[key]):
            raise _error(
                f"{where}, field {key!r}",
                _show(value),
                fields[key],
                f"Correct it; {_HELP}",
            )
    for key in required:
        if key not in table:
            expected = f"{key} = {fields[key]}"
            raise _error(where, f"no field {key!r}", expected, f"Add it; {_HELP}")


def _fits(value: Any, expected: str) -> bool:
    if expected == _STRING:
        return isinstance(value, str) and _encodable(value)
    if expected == _STRINGS:
        return (
            isinstance(value, list)
            and len(value) > 0
            and all(_fits(item, _STRING) and item for item in value)
            and len(set(value)) == len(value)
        )
    if expected == _SECONDS:
        return type(value) in (int, float)
    if expected == _TRUTH:
        return isinstance(value, bool)
    return isinstance(value, dict) if expected == "a table" else type(value) is int


# --------------------------------------------------------------------- windows.csv


def _read_columns(path: Path) -> dict[str, list[str]]:
    """Read the columns as text; every row is as long as the header."""
    if not path.is_file():
        raise _error(path, "no such file", "one row per window", _HELP)
    try:
        text = io.StringIO(_read_text(path, TABLE), newline="")
        rows = list(csv.reader(text, strict=True))
    except csv.Error as error:
        remedy = "Look for a quote that is not closed, and save it again as CSV."
        raise _error(path, f"text that is not CSV ({error})", "CSV", remedy) from error
    while rows and not rows[-1]:
        rows.pop()
    header = rows[0] if rows else []
    _check_header(header, path)
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise _error(
                f"{path}, row {number}",
                f"{len(row)} value{'s' * (len(row) != 1)}",
                f"{len(header)}, one per column ({', '.join(header)})",
                "Put a value that contains a comma in double quotes.",
            )
    if len(rows) < 2:
        raise _error(path, "no windows at all", "one row per window", _HELP)
    return dict(zip(header, map(list, zip(*rows[1:], strict=True)), strict=True))


def _bare(column: str) -> str:
    return "".join(column.split()).casefold()


def _check_header(header: list[str], path: Path) -> None:
    expected = f"{', '.join(PROVENANCE)} and, where there are labels, {_LABEL}"
    known = (*PROVENANCE, _LABEL)
    if len(header) == 1 and len(re.split(r"[;\t]", header[0])) > 1:
        remedy = "Save it with commas between the values."
        raise _error(path, f"the single column {header[0]!r}", expected, remedy)
    for column in header:
        if column not in known:
            remedy = _suggest(column, known) or "Remove that column."
            same = [name for name in known if _bare(name) == _bare(column)]
            if same:
                remedy = f"Rename it {same[0]!r}, without other capitals or blanks."
            raise _error(path, f"the unknown column {column!r}", expected, remedy)
    if len(set(header)) != len(header):
        found = f"a column twice in {', '.join(header)}"
        raise _error(path, found, expected, "Remove one of them.")
    missing = [column for column in PROVENANCE if column not in header]
    if missing:
        remedy = "Add it; where you do not know the stimulus, repeat the trial."
        raise _error(path, f"no column {missing[0]!r}", expected, remedy)


def _read_labels(
    root: Path, columns: Mapping[str, list[str]], classes: tuple[str, ...]
) -> NDArray[np.int64]:
    where = f"{root / _CSV}, column {_LABEL!r}"
    names = columns.get(_LABEL, [])
    if not any(names):
        raise _error(
            where,
            "no labels",
            "the name of a class in every row",
            "Fill the column in; without labels the recordings serve for prediction "
            "only.",
        )
    if not classes:
        raise _error(
            root / _TOML,
            "no field 'classes'",
            f"classes = {_STRINGS}, as {_CSV} has labels",
            f"Add it; {_HELP}",
        )
    if not all(names):
        raise _error(
            f"{where}, row {names.index('') + 2}",
            f"no label here, but {sum(map(bool, names))} of {len(names)} rows have one",
            "a label in every row, or in none",
            "Fill it in, or put the unlabelled windows into a folder of their own.",
        )
    return _numbers(names, classes, where, first=2)


# ------------------------------------------------------------------------- arrays


def _read_inputs(
    root: Path, columns: Mapping[str, list[str]], description: _Description
) -> Inputs:
    provenance = {key: columns[key] for key in PROVENANCE}
    windows = _windows(provenance, where=str(root / _CSV), first=2)
    signals = {
        name: _read_array(root / description.files[name], len(windows), name, modality)
        for name, modality in description.modalities.items()
    }
    inputs = Inputs(
        signals,
        windows,
        description.modalities,
        description.name,
        description.labelled_trials,
    )
    warn_of_units(inputs)
    warn_of_sentinels(inputs)
    return inputs


def _read_array(
    path: Path, count: int, name: str, modality: Modality
) -> NDArray[np.float32]:
    if not path.is_file():
        remedy = f"Put the file there, or correct 'file' under [modalities.{name}]."
        raise _error(path, "no such file", f"the array of modality {name!r}", remedy)
    remedy = "Write it with numpy.save(path, array.astype('float32'))."
    kept = "a whole .npy file of float32"
    try:
        # Mapped, so that a wrong shape is reported before gigabytes are read.
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises a dozen kinds on a damaged header
        detail = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        found = f"a truncated, pickled or foreign file ({detail})"
        raise _error(path, found, kept, remedy) from error
    if mapped.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise _error(path, f"the data type {mapped.dtype}", "float32", remedy)
    expected = (count, len(modality.channels), len(modality.features))
    if mapped.shape != expected:
        raise _error(
            path,
            f"the shape {mapped.shape}",
            f"{expected}: {expected[0]} rows of {_CSV}, {expected[1]} channels and "
            f"{expected[2]} features of [modalities.{name}]",
            "Correct the array, or the file that does not describe it.",
        )
    if mapped.dtype == np.float32 and mapped.flags.c_contiguous:
        finite = not any(np.isinf(part).any() for part in _some_at_a_time(mapped))
        if finite:
            return mapped
    return _tidy(np.asarray(mapped), str(path))


def _some_at_a_time(mapped: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the windows of a mapped array, and let go of them."""
    for start in range(0, len(mapped), 1024):
        yield mapped[start : start + 1024]
        let_go(mapped)


def _tidy(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Return a float32 array in memory, without infinite values."""
    if array.dtype.kind not in "fiub":
        remedy = "Convert it with array.astype('float32'); NaN marks a missing value."
        raise _error(where, f"the data type {array.dtype}", "real numbers", remedy)
    with np.errstate(over="ignore"):
        tidy = np.array(array, dtype=np.float32, order="C")
    infinite = np.isinf(tidy)
    if infinite.any():
        window, channel, feature = np.argwhere(infinite)[0].tolist()
        raise _error(
            f"{where}, window {window}, channel {channel}, feature {feature} "
            f"(counted from 0)",
            f"{array[window, channel, feature]}",
            "finite float32 numbers, or NaN where the sensor lost the window",
            "Look for a logarithm of zero, and write NaN where nothing was measured.",
        )
    return tidy


# ----------------------------------------------------------------- from arrays only


def _arrays(
    signals: Mapping[str, ArrayLike], name: str
) -> tuple[dict[str, NDArray[Any]], int]:
    """Return the signals, and how many windows they agree on."""
    if not isinstance(signals, Mapping) or not all(isinstance(k, str) for k in signals):
        raise _error(
            f"{name}, signals",
            f"a {type(signals).__name__}"
            if not isinstance(signals, Mapping)
            else f"modalities called {', '.join(map(repr, signals))}",
            "one array per modality, by the modality's name",
            'Give them as {"eeg": array}.',
        )
    arrays = {}
    for key, signal in signals.items():
        if isinstance(signal, np.ma.MaskedArray) and signal.dtype.kind in "fiub":
            signal = np.ma.filled(signal.astype(np.float64), np.nan)
        if isinstance(signal, pd.DataFrame) and _holds_numbers(signal):
            signal = signal.to_numpy(np.float64, na_value=np.nan)
        arrays[key] = _array(signal, f"{name}, signal {key!r}")
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise _error(
            f"{name}, signals",
            f"arrays of different lengths ({found})" if lengths else "no arrays",
            "one array per modality, all with one entry per window",
            "Give every modality the same windows, with NaN where a sensor lost one.",
        )
    return arrays, next(iter(lengths.values()))


def _array(values: ArrayLike, where: str, dtype: Any = None) -> NDArray[Any]:
    """Return values as an array; refuse what NumPy can make none of."""
    try:
        return np.asarray(values, dtype)
    except (ValueError, TypeError, RuntimeError) as error:
        remedy = "Give every window the same channels and features."
        if not isinstance(error, ValueError):  # a tensor that has a gradient, or a GPU
            remedy = "Make an array of it: tensor.detach().cpu().numpy()."
        found = str(error).strip().rstrip(".") or type(error).__name__
        raise _error(where, found, "an array that NumPy can read", remedy) from error


def _describe(
    arrays: Mapping[str, NDArray[Any]],
    given: Mapping[str, Modality | Sequence[str]],
    columns: Mapping[str, tuple[str, ...]],
    name: str,
) -> dict[str, Modality]:
    """Complete the descriptions, and check the names in them."""
    for key in given:
        if key not in arrays:
            remedy = _suggest(key, arrays) or "Describe only what is in signals."
            expected = f"one of {', '.join(arrays)}"
            raise _error(f"{name}, modalities", repr(key), expected, remedy)
    described = {}
    for key, array in arrays.items():
        where = f"{name}, modality {key!r}"
        modality = _complete(key, array, given.get(key, ()), columns[key], where)
        table = _modality_table(modality, "unwritten.npy")
        described[key], _ = _parse_modality(key, table, where)
    return described


def _holds_numbers(frame: pd.DataFrame) -> bool:
    """Return whether every column does, those that may lack some included."""
    return all(kind.kind in "fiub" for kind in frame.dtypes)


def _column_names(signal: ArrayLike) -> tuple[str, ...]:
    """Return the names that a table has for its measures, if any."""
    names = tuple(signal.columns) if isinstance(signal, pd.DataFrame) else ()
    return names if all(isinstance(each, str) for each in names) else ()


def _complete(
    key: str,
    array: NDArray[Any],
    given: Modality | Sequence[str],
    columns: tuple[str, ...],
    where: str,
) -> Modality:
    """Make up the names that were not given."""
    kind = "eeg" if key.casefold().startswith("eeg") else key
    if isinstance(given, str):
        raise _error(where, repr(given), "a Modality or a list of channel names", _HELP)
    if not isinstance(given, Modality):
        given = Modality(tuple(map(str, given)), (), kind)
    flat_allowed = given.kind != "eeg"
    if array.ndim != 3 and not (array.ndim == 2 and flat_allowed):
        flat = " or (windows, measures)" if flat_allowed else ""
        raise _error(
            where,
            f"an array of shape {array.shape}",
            f"(windows, channels, features){flat}",
            "Reshape it; one feature per channel is array[:, :, None].",
        )
    channels, features = given.channels or columns, given.features
    if columns and channels != columns:
        raise _error(
            where,
            f"the names {', '.join(channels)} for the columns {', '.join(columns)}",
            "the columns' own names, in their order",
            "Leave the names out, or choose columns by them: frame[names].",
        )
    if not channels and given.kind == "eeg":
        raise _error(
            where,
            f"{array.shape[1]} channels without names",
            "the electrodes' names, as networks place them on the head",
            f"Give modalities={{{key!r}: ['Fp1', 'Fp2', ...]}}.",
        )
    if not channels:
        word = "measure" if array.ndim == 2 else "channel"
        channels = tuple(f"{word}-{i}" for i in range(1, array.shape[1] + 1))
    if not features:
        count = 1 if array.ndim == 2 else array.shape[2]
        features = tuple(f"feature-{i}" for i in range(1, count + 1))
        features = ("value",) if count == 1 else features
    return replace(given, channels=channels, features=features)


def _column(values: ArrayLike | None, count: int, where: str) -> NDArray[Any]:
    """Return one value per window; a single value stands for all of them."""
    if values is None:
        raise _error(where, "None", f"a value, or {count}, one per window", "Give it.")
    # A list that mixes strings and NaN must not become the string "nan".
    array = values if isinstance(values, np.ndarray) else _array(values, where, object)
    if array.ndim == 0:
        return np.full(count, array[()], dtype=array.dtype)
    if array.shape != (count,):
        raise _error(
            where,
            f"values of shape {array.shape}",
            f"one per window, shape ({count},)",
            "Give one value per window; array.ravel() flattens a column.",
        )
    return array


def _encode(
    labels: ArrayLike, classes: Sequence[str] | None, count: int, where: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return class numbers and names."""
    values = _elements(_column(labels, count, where), where, 0, lacking=_UNLABELLED)
    if len({type(value) for value in values}) > 1:
        remedy = "Give either class numbers or class names."
        raise _error(where, "numbers and strings", "one or the other", remedy)
    if classes is None:
        names = tuple(map(str, sorted(set(values))))
        values = [str(value) for value in values]
    else:
        # A single word would be taken for its letters.
        names = tuple([classes] if isinstance(classes, str) else classes)
    if not _fits(list(names), _STRINGS):
        raise _error(f"{where}, classes", _show(list(names)), _STRINGS, "Correct it.")
    if values and not isinstance(values[0], str):
        _check_counted_from_0(values, names, where)
    texts = [
        value if isinstance(value, str) else _class_name(value, names, where)
        for value in values
    ]
    return _numbers(texts, names, where, first=0), names


def _check_counted_from_0(
    values: Sequence[Any], classes: tuple[str, ...], where: str
) -> None:
    """Refuse numbers that may be meant otherwise than as places among the classes."""
    found = set(values)
    by_name = {str(value) for value in found} <= set(classes)
    in_place = all(0 <= v < len(classes) and classes[v] == str(v) for v in found)
    if by_name and not in_place:
        raise _error(
            where,
            f"labels that are numbers, and so are the classes ({', '.join(classes)})",
            "labels as text, or classes named otherwise",
            "Give the labels as class names: [str(label) for label in labels].",
        )
    if min(found) > 0 and max(found) < len(classes):
        raise _error(
            where,
            f"class numbers from {min(found)} to {max(found)}, and never 0, with "
            f"{len(classes)} classes ({', '.join(classes)})",
            "numbers that leave no doubt whether they are counted from 0 or from 1",
            "Give the labels as class names.",
        )


def _class_name(number: int, classes: tuple[str, ...], where: str) -> str:
    if 0 <= number < len(classes):
        return classes[number]
    raise _error(
        where,
        f"the class number {number}",
        f"0 to {len(classes) - 1}, as there are {len(classes)} classes "
        f"({', '.join(classes)})",
        "Count classes from 0, or give the labels as class names.",
    )


# ------------------------------------------------------------------- shared checks


def _windows(
    columns: Mapping[str, Any], *, where: str, first: int, step: float = 1.0
) -> pd.DataFrame:
    """Make the windows table; `first` is the first row's number, 0 for arrays."""
    frame = pd.DataFrame(
        {
            key: _identifiers(values, f"{where}, column {key!r}", first)
            for key, values in columns.items()
            if key != "start"
        }
    )
    if columns["start"] is None:
        number = isinstance(step, Real) and not isinstance(step, bool)
        if not (number and math.isfinite(step) and step > 0):
            remedy = "Give the seconds from one window to the next."
            raise _error(f"{where}, window", _show(step), "more than 0", remedy)
        frame["start"] = frame.groupby(TRIAL).cumcount() * float(step)
    else:
        frame["start"] = _seconds(columns["start"], f"{where}, column 'start'", first)
    if frame.empty:
        raise _error(where, "no windows at all", "at least one", _HELP)
    twice = frame.duplicated([*TRIAL, "start"]).to_numpy()
    if twice.any():
        row = int(twice.argmax())
        at = ", ".join(f"{name} {frame[name].iloc[row]}" for name in [*TRIAL, "start"])
        raise _error(
            f"{where}, {_place(row, first)}",
            f"a second window with {at}",
            "one window per subject, session, trial and start",
            "Number the trials so that each recording of a session has its own, or "
            "correct 'start'.",
        )
    return frame


def _identifiers(values: Any, where: str, first: int) -> pd.Series[Any]:
    """Return whole numbers where all values are, else strings."""
    elements = _elements(values, where, first)
    met = set(elements)
    if all(_WHOLE_NUMBER.fullmatch(str(value)) for value in met):
        numbers = {value: int(value) for value in met}
        if all(_INT64.min <= number <= _INT64.max for number in numbers.values()):
            return pd.Series([numbers[value] for value in elements], dtype=np.int64)
    return pd.Series([str(value) for value in elements], dtype=str)


def _elements(
    values: Any, where: str, first: int, lacking: str = "Fill it in."
) -> list[int | str]:
    """Return plain whole numbers and non-empty strings.

    What is `lacking` says what to do where there is no value.
    """
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for row, value in enumerate(plain):
        if isinstance(value, str) and value and value.isprintable():
            continue
        if isinstance(value, float | np.floating) and float(value).is_integer():
            plain[row] = int(value)  # MATLAB knows no other numbers
        elif isinstance(value, bool | int | np.bool_ | np.integer):
            plain[row] = int(value)
        elif not (isinstance(value, str) and value and _encodable(value)):
            raise _error(
                f"{where}, {_place(row, first)}",
                _show(value),
                "a whole number or a non-empty string",
                lacking if _is_lacking(value) else _as_text(value),
            )
    return plain


def _is_lacking(value: Any) -> bool:
    """Return whether there is no value, in whatever form that is said."""
    if value is np.ma.masked or (isinstance(value, np.ndarray) and not value.size):
        return True
    if isinstance(value, str | bytes):
        return not value
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _as_text(value: Any) -> str:
    """Return how a value of another type becomes text that says the same."""
    if isinstance(value, bytes):
        return "Make text of each: [value.decode() for value in values]."
    if isinstance(value, np.ndarray) and value.size == 1:  # a cell of MATLAB
        return "Take what is in each: [value.item() for value in values]."
    if isinstance(value, str):
        return "Write it in characters that UTF-8 has."
    return "Make text of each: [str(value) for value in values]."


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _seconds(values: Any, where: str, first: int) -> NDArray[np.float64]:
    seconds = np.empty(len(values), dtype=np.float64)
    for row, value in enumerate(values):
        try:
            seconds[row] = float(value)
        except (TypeError, ValueError):
            seconds[row] = np.nan
        if isinstance(value, str) and "_" in value:  # 4_0, which is 40 to Python
            seconds[row] = np.nan
        if not math.isfinite(seconds[row]):
            raise _error(
                f"{where}, {_place(row, first)}",
                _show(value),
                "seconds from the trial's onset, such as 12.5",
                "Write a plain number with a decimal point.",
            )
    return seconds


def _numbers(
    names: Sequence[str], classes: tuple[str, ...], where: str, first: int
) -> NDArray[np.int64]:
    """Return the class number of each name."""
    number = {name: index for index, name in enumerate(classes)}
    for row, name in enumerate(names):
        if name not in number:
            remedy = _suggest(name, classes) or "Correct it, or add it to the classes."
            if says_missing(name):
                remedy = _UNLABELLED
            raise _error(
                f"{where}, {_place(row, first)}",
                f"the unknown class {name!r}",
                f"one of {', '.join(classes)}",
                remedy,
            )
    return np.array([number[name] for name in names], dtype=np.int64)


def _place(row: int, first: int) -> str:
    """Say where a value stands: rows of a file count as a spreadsheet shows them."""
    return f"row {row + first}" if first else f"window {row} (counted from 0)"


def _read_text(path: Path, most: int = TEXT) -> str:
    try:
        return read_text(path, most)
    except Refusal as error:
        raise error.at(path) from error
    except OSError as error:
        found = f"a file that cannot be read ({error.strerror or error})"
        raise _error(
            path, found, "a readable file", "Check its permissions."
        ) from error


def _suggest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
