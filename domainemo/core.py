"""The whole contract: what data, networks, adapters, protocols and validators share.

Shapes are ``(batch, time, channels, features)`` throughout: a window of EEG band
features has time 1, channels 62 and features 5; a trial is a run of windows, padded,
with a mask. Everything else in the library is built on the types of this file alone.

Target labels have no place here but in :class:`EmotionData`. An adapter or a validator
is handed :class:`Target`, which has no field a label could be read from.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import DataError, data_error

if TYPE_CHECKING:
    import optuna

__all__ = [
    "FUSION",
    "OPTIONAL",
    "PROVENANCE",
    "Adapter",
    "Backbone",
    "Batch",
    "Control",
    "Dataset",
    "Descend",
    "EmotionData",
    "Fold",
    "Inputs",
    "Modality",
    "Normalisation",
    "Outputs",
    "Protocol",
    "Pseudo",
    "Retraining",
    "Sampling",
    "Screen",
    "Source",
    "Target",
    "Validator",
    "canonical_name",
    "electrode_name",
    "is_electrode",
    "require_one_spelling",
    "says_missing",
    "spelling",
]

Rows = NDArray[np.int64]

Batch = tuple[dict[str, Tensor], dict[str, Tensor]]
"""By modality, signals (batch, time, channels, features) and masks (batch, time)."""

Steps = Iterable[Callable[[], Tensor]]
Descend = Callable[[Iterable[nn.Parameter], Steps, float], None]
"""Takes gradient steps: of which weights, by a function per step that returns its loss,
and with which learning rate."""

PROVENANCE = ("subject", "session", "trial", "stimulus", "start")
"""Columns of a windows table, in the order in which windows are sorted."""

TRIAL = ["subject", "session", "trial"]
"""The columns that tell one trial from another; a list, which pandas groups by."""

OPTIONAL = ("calibration", "validation")
"""The parts of a fold that are empty unless a protocol says otherwise."""

FUSION = "fusion"
"""Name of the branch that sees every modality; its head makes the prediction."""


# --------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Modality:
    """What one sensor's array holds.

    Attributes
    ----------
    channels : tuple of str
        Electrode names, or one name per measure where there is no electrode.
    features : tuple of str
        Names along the last axis, such as the frequency bands.
    kind : str
        ``"eeg"`` where the channels are 10-20 electrodes, else ``"eye"``,
        ``"physiology"`` or whatever describes the sensor.
    unit : str
        Physical unit of the values, empty where they have none.
    span : float or None
        Seconds of the recording that a window's values are made of, around it: more
        than the step from window to window where windows overlap or were smoothed;
        ``inf`` where that is the whole trial, as after a linear dynamic system. None
        where it is not told.

    Raises
    ------
    DataError
        If a name is no text, the kind is ``"eeg"`` in another spelling, of which no
        network and no check would know, or the span is no length of time.
    """

    channels: tuple[str, ...]
    features: tuple[str, ...]
    kind: str
    unit: str = ""
    # Not shown: fingerprints of recordings are made of what is shown, and stay as they
    # were.
    span: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for part in ("channels", "features"):
            names = _names(f"Modality, {part}", getattr(self, part))
            object.__setattr__(self, part, names)
        for part in ("kind", "unit"):
            _check_text(f"Modality, {part}", getattr(self, part))
        if self.kind != "eeg" and spelling(self.kind) == "eeg":
            raise data_error(
                "Modality, kind",
                repr(self.kind),
                "'eeg', written like this, or another kind",
                "Write it so: electrodes are known by it.",
            )
        if self.span is not None:
            _check_span(self.span)
            if isinstance(self.span, np.generic):
                object.__setattr__(self, "span", self.span.item())


@dataclass(frozen=True)
class Inputs:
    """What may be seen of every domain: signals and their provenance, no labels.

    Attributes
    ----------
    signals : mapping of str to ndarray of shape (windows, channels, features)
        One float32 array per modality; NaN where the sensor lost the window.
    windows : DataFrame
        One row per window with the columns ``subject``, ``session``, ``trial``,
        ``stimulus`` and ``start`` (seconds from the trial's onset).
    modalities : mapping of str to Modality
        Description of each array in `signals`.
    name : str
        What the recordings are; printed beside every number made from them.
    labelled_trials : bool
        Whether trials were divided by the labels of their windows, so that where one
        ends tells of them: nothing that adapts may ask which windows share one then.

    Raises
    ------
    DataError
        If lengths, names or axes do not agree, values are no real numbers, a window
        lacks its subject, session, trial, stimulus or start, or one of these, a
        modality or a channel is there under two spellings.
    """

    signals: Mapping[str, NDArray[np.float32]]
    windows: pd.DataFrame
    modalities: Mapping[str, Modality]
    name: str = "unnamed recordings"
    labelled_trials: bool = False

    def __post_init__(self) -> None:
        _check_text("Inputs, name", self.name)
        _check_provenance(self.name, self.windows)
        object.__setattr__(self, "windows", _plain(self.windows))
        if set(self.signals) != set(self.modalities):
            raise DataError(
                f"{self.name}: signals for {sorted(self.signals)} but descriptions "
                f"for {sorted(self.modalities)}; give one Modality per array."
            )
        require_one_spelling(f"{self.name}, modalities", "modality", self.signals)
        for name, array in self.signals.items():
            _check_modality_name(self.name, name)
            modality = self.modalities[name]
            _check_axes(f"{self.name}, modality {name!r}", modality)
            _check_numbers(f"{self.name}, modality {name!r}", array)
            expected = (
                len(self.windows),
                len(modality.channels),
                len(modality.features),
            )
            if array.shape != expected:
                raise DataError(
                    f"{self.name}, modality {name!r}: found an array of shape "
                    f"{array.shape}, expected (windows, channels, features) = "
                    f"{expected} from the windows table and the modality's names."
                )

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        """Say what there is and how much, in a line."""
        return f"Inputs({self._in_words()})"

    def _repr_html_(self) -> str:
        """Show modalities as a table, under what there is, in a notebook."""
        return f"<p>{escape(self._counted())}</p>{self._table()}"

    def _table(self) -> str:
        rows = {
            name: {
                "channels": len(each.channels),
                "features": _some(each.features),
                "kind": each.kind,
                "unit": each.unit,
            }
            for name, each in self.modalities.items()
        }
        shown: str = pd.DataFrame.from_dict(rows, orient="index").to_html(border=0)
        return shown

    def _counted(self) -> str:
        counts = [f"windows: {len(self)}"]
        for column in TRIAL:
            wanted = TRIAL if column == "trial" else [column]
            number = len(self.windows[wanted].drop_duplicates())
            counts.append(f"{column}s: {number}")
        return f"{self.name}; {', '.join(counts)}"

    def _in_words(self) -> str:
        shapes = ", ".join(f"{k} {array.shape}" for k, array in self.signals.items())
        return f"{self._counted()}; modalities: {shapes}"

    def take(self, rows: Rows) -> Inputs:
        """Return the windows at `rows`, in that order."""
        if np.array_equal(rows, np.arange(len(self))):
            return self  # arrays that are mapped from disk stay so
        signals = {name: array[rows] for name, array in self.signals.items()}
        windows = self.windows.iloc[rows].reset_index(drop=True)
        return replace(self, signals=signals, windows=windows)


@dataclass(frozen=True)
class EmotionData:
    """Inputs *and* labels: composition, so that one is never passed for the other.

    Attributes
    ----------
    inputs : Inputs
        Signals and provenance.
    labels : ndarray of int, shape (windows,)
        Class number of each window, an index into `classes`.
    classes : tuple of str
        Class names.

    Raises
    ------
    DataError
        If the labels do not fit the windows or the classes, or a class is there under
        two spellings, or its name says that there is no label.
    """

    inputs: Inputs
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        where = f"{self.inputs.name}, classes"
        object.__setattr__(self, "classes", _names(where, self.classes))
        _check_array(f"{self.inputs.name}, labels", self.labels)
        if self.labels.shape != (len(self.inputs),):
            raise DataError(
                f"{self.inputs.name}: found {self.labels.shape} labels for "
                f"{len(self.inputs)} windows; expected one label per window."
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"{self.inputs.name}: the labels are {self.labels.dtype}; expected "
                f"whole numbers, indices into the classes."
            )
        if len(set(self.classes)) < len(self.classes):
            raise DataError(
                f"{self.inputs.name}: two classes have the same name among "
                f"{', '.join(self.classes)}; expected distinct names."
            )
        require_one_spelling(f"{self.inputs.name}, classes", "class", self.classes)
        if len(self.labels) == 0:
            raise DataError(f"{self.inputs.name}: there are no windows at all.")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"{self.inputs.name}: labels run from {low} to {high}, but there are "
                f"{len(self.classes)} classes ({', '.join(self.classes)}); expected "
                f"whole numbers from 0 to {len(self.classes) - 1}."
            )
        _check_classes_are_named(self)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        """Say what there is and how much, in a line."""
        classes = ", ".join(self.classes)
        return f"EmotionData({self.inputs._in_words()}; classes: {classes})"

    def _repr_html_(self) -> str:
        """Show classes and modalities as tables, under what there is, in a notebook."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        trials = self.inputs.windows[TRIAL]
        firsts = ~trials.duplicated().to_numpy()
        whole = np.bincount(self.labels[firsts], minlength=len(self.classes))
        shown = pd.DataFrame({"windows": counts, "trials": whole}, index=self.classes)
        return f"{self.inputs._repr_html_()}{shown.to_html(border=0)}"

    def take(self, rows: Rows) -> EmotionData:
        """Return the windows at `rows`, in that order."""
        return replace(self, inputs=self.inputs.take(rows), labels=self.labels[rows])


def _some(names: Sequence[str], most: int = 12) -> str:
    """List names; of many, as those of a window's samples, the ends and the count."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ..., {names[-1]} ({len(names)})"


def _check_modality_name(recordings: str, name: str) -> None:
    """Refuse what cannot name a branch of a network, or a file."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", str(name))
    if not plain or name == FUSION or hasattr(nn.ModuleDict, name):
        raise DataError(
            f"{recordings}: a modality is called {name!r}; expected letters, digits, "
            f"'-' and '_', and none of the words that networks use themselves, such "
            f"as 'fusion' or 'type'. Rename it."
        )


def _check_text(where: str, given: Any) -> None:
    if not isinstance(given, str):
        raise data_error(
            where,
            f"{given!r} of type {type(given).__name__}",
            "text",
            "Write it in quotes.",
        )


def _check_span(given: Any) -> None:
    number = isinstance(given, Real) and not isinstance(given, bool)
    if not (number and given > 0):
        raise data_error(
            "Modality, span",
            repr(given),
            "seconds, more than 0; inf for the whole trial",
            "Leave it out where it is not known.",
        )


def _names(where: str, given: Any) -> tuple[str, ...]:
    """Return names as a tuple; a single word would be taken for its letters."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        found = f"{given!r} of type {type(given).__name__}"
        remedy = "Write a single name as ('name',)."
        raise data_error(where, found, "a tuple of names", remedy)
    names = tuple(given)
    for name in names:
        _check_text(where, name)
    return names


def _check_array(where: str, array: Any) -> None:
    """Refuse what is no array of NumPy, or has values under a mask."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise data_error(
            where,
            f"a {type(array).__name__}",
            "a plain array of NumPy",
            "domainemo.from_arrays makes recordings of lists, columns and masked "
            "arrays.",
        )


def _check_numbers(where: str, array: Any) -> None:
    """Refuse values that are no real numbers."""
    _check_array(where, array)
    if array.dtype.kind not in "fiub":
        raise data_error(
            where,
            f"the data type {array.dtype}",
            "real numbers",
            "Convert it with array.astype('float32'); NaN marks a missing value.",
        )


def _plain(windows: pd.DataFrame) -> pd.DataFrame:
    """Return the table with rows counted from 0, and categories as what they name.

    An index may share a column's name, and categories have an order of their own.
    """
    index = windows.index
    if index.names != [None] or not index.equals(pd.RangeIndex(len(windows))):
        windows = windows.reset_index(drop=True)
    categories = {
        str(column): windows[column].astype(kind.categories.dtype)
        for column, kind in windows.dtypes.items()
        if isinstance(kind, pd.CategoricalDtype)
    }
    return windows.assign(**categories) if categories else windows


def _check_provenance(recordings: str, windows: pd.DataFrame) -> None:
    """Refuse other columns, a window without provenance, and one name spelled twice."""
    if not isinstance(windows, pd.DataFrame):
        raise data_error(
            f"{recordings}, windows",
            f"a {type(windows).__name__}",
            f"a pandas.DataFrame with the columns {', '.join(PROVENANCE)}",
            "Make one of it: pandas.DataFrame(windows).",
        )
    missing = [column for column in PROVENANCE if column not in windows.columns]
    extra = [column for column in windows.columns if column not in PROVENANCE]
    extra += windows.columns[windows.columns.duplicated()].tolist()
    if missing or extra:
        raise DataError(
            f"{recordings}: the windows table must have exactly the columns "
            f"{', '.join(PROVENANCE)}; missing: {missing or 'none'}, "
            f"not allowed: {extra or 'none'}."
        )
    for column in PROVENANCE[:-1]:
        where = f"{recordings}, column {column!r}"
        lost = windows[column].isna().to_numpy()
        if not lost.any() and windows[column].dtype.kind in "iu":
            continue  # whole numbers have one form
        names = windows[column].dropna().unique().tolist()
        words = [name for name in names if spelling(name) in _PRINTED_FOR_NONE]
        if column == "subject":
            # Nobody knows that this is not one of the people who have a name.
            words += [name for name in names if _says_unknown(name)]
        if lost.any() or words:
            raise data_error(
                where,
                repr(words[0]) if words else f"nothing in {lost.sum()} windows",
                f"a {column} for every window",
                "Fill it in, or leave those windows out.",
            )
        require_one_spelling(where, column, names)
        kinds = {type(name) for name in names}
        if kinds and kinds not in ({int}, {str}):
            raise data_error(
                where,
                " and ".join(sorted(f"values of type {k.__name__}" for k in kinds)),
                "whole numbers or text, and one of them in all windows",
                f"Write windows[{column!r}].astype(str), or astype(int).",
            )
    start = windows["start"]
    numbers = start.dtype.kind in "fiu"
    if len(start) and not (numbers and np.isfinite(start.to_numpy(np.float64)).all()):
        raise data_error(
            f"{recordings}, column 'start'",
            "infinite or missing values" if numbers else f"the data type {start.dtype}",
            "seconds from the trial's onset in every window",
            "Write windows['start'].astype(float), and correct what is no time.",
        )


def _check_axes(where: str, modality: Modality) -> None:
    """Refuse two channels, or two features, of one name."""
    for kind, names in (("channel", modality.channels), ("feature", modality.features)):
        if kind == "channel" and modality.kind == "eeg":
            require_one_spelling(where, "electrode", names, canonical_name)
        elif len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise data_error(
                where,
                f"the {kind} {twice!r} twice",
                f"different {kind}s",
                "Leave one out, or rename it.",
            )


def _check_classes_are_named(data: EmotionData) -> None:
    """Refuse a class that stands for windows without a label."""
    codes = _codes_of_missing(data.classes)
    for number, name in enumerate(data.classes):
        if says_missing(name) or name in codes:
            count = int((data.labels == number).sum())
            raise data_error(
                f"{data.inputs.name}, classes",
                f"a class called {name!r}, with {count} of {len(data.labels)} windows",
                "names of emotions; this one says that a label is missing",
                "Leave the windows without a label out, or rename the class if it is "
                "one.",
            )


def _codes_of_missing(classes: Sequence[str]) -> set[str]:
    """Return the classes that are a code, such as -999 beside 0, 1 and 2."""
    whole = all(re.fullmatch(r"-?[0-9]{1,19}", name) for name in classes)
    codes = {name for name in classes if whole and _CODE.fullmatch(name)}
    small = all(len(name.lstrip("-")) == 1 for name in set(classes) - codes)
    return codes if small and len(codes) < len(classes) else set()


# -------------------------------------------------------------------------- names


_PRINTED_FOR_NONE = frozenset(("", "nan", "nat", "none", "null", "n/a", "#n/a", "<na>"))
"""What programs print where there is no value, as `spelling` gives it."""

_UNSEEN = re.compile("[\u034f\u115f\u1160\u2800\u3164\ufe00-\ufe0f]")
"""Fillers, joiners and variation selectors, which are neither blanks nor controls."""

_KEYS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    **dict.fromkeys("\u2018\u2019\u02bc", "'"),
}
"""Dashes and apostrophes as a text editor sets them."""

_SAID_OF_NO_LABEL = """
    missing missingvalue undefined undef unknown unlabelled unlabeled notlabelled
    notlabeled unrated notrated notavailable notapplicable nolabel norating nodata
    novalue noanswer noresponse blank empty
    unbekannt fehlt keineangabe inconnu nonrenseigné desconocido sindato sindatos
    sconosciuto desconhecido 未知 未标注 不明 なし
"""
_UNKNOWN = frozenset(_SAID_OF_NO_LABEL.split())
"""What people write who do not know, in some languages."""

_ABBREVIATED = frozenset(("na", "nil", "k.a.", "n.d."))
"""The same, which may be somebody's initials."""

_OF_SPREADSHEETS = re.compile(
    r"#(?:ref|value|name|num|null|div/0|nv|bezug|wert|zahl)[!?]?"
)
"""What a spreadsheet shows in place of a value."""

_CODE = re.compile(r"-9|-?99+|255|65535|-32768|-?2147483648|-9223372036854775808")
"""Numbers that stand for a missing value; the last is NaN cast to a whole number."""

_ROWS = (
    "N FP AFP AF AFF F FFT FFC FT FC FTT FCC T C TTP CCP TP CP TPP CPP P PPO PO POO O "
    "OI I"
)
_ELECTRODE = re.compile(
    rf"(?:{'|'.join(_ROWS.split())})(?:Z|(?:[1-9]|10)H?)|[AM][12]|CB[12]"
)
"""The names of the 10-20, 10-10 and 10-05 systems, the ears, and the SEED cap's own."""

_EARS = ("A1", "A2", "M1", "M2")
_REFERENCE = re.compile(
    r"[AM][12]|A1\+?A2|M1\+?M2|\(?[AM]1\+[AM]2\)?(?:/2)?|REF|LER?|AVG?|AVE|AVERAGE|AR|CAR"
    r"|LINKED|LM"
)
_SPELLING = re.compile(r"\s*(?:EEG[\s:_-]*)?(.*?)\s*\.*\s*", re.IGNORECASE | re.DOTALL)

_RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}


def spelling(name: object) -> str:
    """Return what all spellings of one name have in common.

    Blanks (and ``_``) count between two digits only; capitals, invisible characters,
    the Unicode form, the script of digits, the kind of dash or apostrophe, a plus,
    leading zeros and a decimal part of zero do not count. So ``"bob "`` and ``"Bob"``
    are one, and so are 1, ``"01"`` and ``"1.0"``.
    """
    text = unicodedata.normalize("NFKC", str(name)).casefold()
    text = re.sub(r"[\s_]+", " ", text)
    text = "".join(map(_plain_character, text)).strip()
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    text = re.sub(r"^\+(?=\d)", "", text)
    return re.sub(r"^(-?\d+)(\.0*)$", r"\1", text)


def _plain_character(each: str) -> str:
    """Return a character as the keyboard has it; nothing for what cannot be seen."""
    if each.isascii() and each.isprintable():
        return each
    if unicodedata.category(each) in ("Cc", "Cf") or _UNSEEN.match(each):
        return ""
    if each.isdecimal():
        return str(unicodedata.decimal(each))
    return _KEYS.get(each, each)


def says_missing(name: str) -> bool:
    """Return whether a label's name says that there is none, such as ``"n/a"``."""
    said = {spelling(name), _bare(name)}
    return _says_unknown(name) or bool(said & (_PRINTED_FOR_NONE | _ABBREVIATED))


def _says_unknown(name: object) -> bool:
    """Return whether a name says that it is not known, and cannot be a name."""
    text = spelling(name)
    return (
        re.fullmatch(r"[-?.*/]*", text) is not None
        or _OF_SPREADSHEETS.fullmatch(text) is not None
        or _bare(name) in _UNKNOWN
    )


def _bare(name: object) -> str:
    """Return a name without dots and brackets, such as those of ``"(none)"``."""
    return re.sub(r"[.()\[\]<>]", "", spelling(name))


def electrode_name(channel: str) -> str:
    """Return the electrode that a channel's name holds, or the name as it is.

    Recorders write more than the electrode: ``EEG Fp1-REF``, ``C3-A2`` and ``Fc5.`` are
    ``Fp1``, ``C3`` and ``Fc5``. A difference between two electrodes, such as
    ``Fpz-Cz`` or ``A2-A1``, is none.

    Parameters
    ----------
    channel : str

    Returns
    -------
    str
        In the capitals that it has; without blanks around it.
    """
    match = _SPELLING.fullmatch(channel)
    spelled = match[1] if match else channel
    stem, dash, reference = spelled.partition("-")
    stem, name = stem.strip(), stem.strip().upper()
    plain = not dash or bool(_REFERENCE.fullmatch(reference.strip().upper()))
    of_ears = name in _EARS and reference.strip().upper()[:1] in ("A", "M")
    if _ELECTRODE.fullmatch(name) and plain and not (dash and of_ears):
        return stem
    return channel.strip()


def canonical_name(channel: str) -> str:
    """Return an electrode's name in capitals, in today's nomenclature.

    T3, T4, T5 and T6 become T7, T8, P7 and P8, and what :func:`electrode_name` strips
    is gone. The name need not be a known one.
    """
    name = electrode_name(channel).upper()
    return _RENAMED.get(name, name)


def is_electrode(channel: str) -> bool:
    """Return whether a channel's name holds one of the 10-20, 10-10 or 10-05 system."""
    return _ELECTRODE.fullmatch(electrode_name(channel).upper()) is not None


def require_one_spelling(
    where: str,
    what: str,
    names: Iterable[Any],
    called: Callable[[Any], str] = spelling,
) -> None:
    """Raise :class:`DataError` where a name is there under two spellings.

    Parameters
    ----------
    where : str
    what : str
        What the names are of.
    names : iterable
    called : callable
        Returns the same for all spellings of one name.
    """
    met: dict[str, Any] = {}
    for name in names:
        key = called(name)
        if key in met:
            found = f"{met[key]!r} and {name!r}, two spellings of one {what}"
            raise data_error(
                where,
                found if met[key] != name else f"the {what} {name!r} twice",
                f"each {what} under one name, and once",
                "Write it alike everywhere; if two are meant, give them names that "
                "differ in more than blanks, capitals or the form of a number.",
            )
        met[key] = name


class Dataset(ABC):
    """A reader: knows the files of one data set, or makes recordings up.

    Constructors take ``root`` (the data root, or None) first where there are files,
    and keyword-only options after it.
    """

    @abstractmethod
    def load(self) -> EmotionData:
        """Read everything; raise :class:`DataError` where the files do not fit."""

    def load_inputs(self) -> Inputs:
        """Read what needs no labels, for prediction on new recordings."""
        return self.load().inputs


class Sampling(ABC):
    """How windows become the samples a network sees."""

    level: ClassVar[str]
    """What one sample is: ``"window"``, ``"sequence"`` or ``"trial"``."""

    @abstractmethod
    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers of shape (samples, time), -1 where padded.

        A sample never crosses a trial.
        """


class Normalisation(ABC):
    """How the values of a sensor are scaled. It never sees a label.

    The library hands it the windows that may be seen, and then all windows, a few at a
    time: what is held out cannot be learned from. A single value that is still missing
    afterwards becomes the mean of the source's.
    """

    by: Literal["session", "subject", "source", "nothing"]
    """Whose windows it learns from to scale a window: those of the same session, or of
    the same subject, that may be seen; the source's alone; or nobody's."""

    words: str
    """How results name it, such as ``"z-scored by the source alone"``."""

    kinds: ClassVar[tuple[str, ...] | None] = None
    """The kinds of sensors that it scales, such as ``("eeg",)``: others stay as they
    are. None for all."""

    @abstractmethod
    def fit(self, seen: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """Return what is learned from windows of one modality, as arrays by name.

        Parameters
        ----------
        seen : ndarray of float, shape (windows, channels, features)
            NaN where the sensor lost a window, or a value; some values may be missing
            in all windows.
        """

    @abstractmethod
    def apply(
        self, values: NDArray[np.float32], learned: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[Any]:
        """Return windows scaled, each by itself; what is missing stays NaN.

        Parameters
        ----------
        values : ndarray of float, shape (windows, channels, features)
        learned : mapping of str to ndarray
            What `fit` returned; empty where nothing is learned.
        """


# ----------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a batch, per branch: each modality, and ``"fusion"``.

    Attributes
    ----------
    embeddings : mapping of str to Tensor of shape (batch, dim)
    logits : mapping of str to Tensor of shape (batch, classes)
    present : mapping of str to bool Tensor of shape (batch,)
        False where the branch's sensor lost the whole sample. A branch that is not
        named is always present.
    """

    embeddings: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    present: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The branches that see a single modality, in order."""
        return tuple(branch for branch in self.logits if branch != FUSION)

    def weight(self, branch: str) -> Tensor:
        """Return 1 where `branch` saw its sensor, else 0; shape (batch,)."""
        logits = self.logits[branch]
        present = self.present.get(branch)
        if present is None:
            return logits.new_ones(logits.shape[:-1])
        return present.to(logits.dtype)

    def take(self, index: Tensor) -> Outputs:
        """Return the outputs for some samples.

        Parameters
        ----------
        index : Tensor of int, or bool Tensor of shape (batch,)
        """
        embeddings, logits, present = (
            {branch: values[index] for branch, values in each.items()}
            for each in (self.embeddings, self.logits, self.present)
        )
        return Outputs(embeddings, logits, present)


class Backbone(nn.Module, ABC):
    """Any fusion network. The library adds one classifier head per branch.

    The constructor takes the modalities first, then keyword-only options, all
    with defaults.
    """

    sampling: Sampling

    by_position: ClassVar[bool] = False
    """Whether weights belong to a channel's place rather than to its name."""

    @abstractmethod
    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, time, channels, features)
            Zero where there is no signal.
        masks : mapping of str to bool Tensor of shape (batch, time)
            False where a window is padding or the sensor lost it.

        Returns
        -------
        mapping of str to Tensor of shape (batch, dim)
            One embedding per modality, and ``"fusion"``.
        """

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw constructor options from an Optuna trial; optional."""
        return {}

    def views(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch as pre-training compares it, before anything is fused.

        By default a view is a modality's embedding. A network that looks at a modality
        in several ways overrides this and names the views ``"MODALITY/WAY"``.

        Parameters
        ----------
        signals, masks
            As for `forward`.

        Returns
        -------
        mapping of str to Tensor of shape (batch, dim)
        """
        embeddings = self(signals, masks)
        return {name: value for name, value in embeddings.items() if name != FUSION}

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier that the library puts on `branch`."""
        hidden = max(dim // 2, 8)
        return nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, classes),
        )


# ----------------------------------------------------------------------- adapters


@dataclass(frozen=True)
class Source:
    """A labelled batch from the source.

    Attributes
    ----------
    outputs : Outputs
    labels : Tensor of int, shape (batch,)
    domains : Tensor of int, shape (batch,)
        Which source subject, or session, each sample comes from: those that train
        count from 0, the fold's calibration last; domains that are held out follow.
    """

    outputs: Outputs
    labels: Tensor
    domains: Tensor


@dataclass(frozen=True)
class Pseudo:
    """What screening believes of a target batch.

    Attributes
    ----------
    labels : Tensor of int, shape (batch,)
    weights : mapping of str to Tensor of shape (batch,)
        How far each branch should learn from the label, in [0, 1].
    shares : Tensor of shape (batch, classes), optional
        Soft labels: how far each class is believed to be the sample's, summing to 1. In
        place of `labels` where they are given.
    """

    labels: Tensor
    weights: Mapping[str, Tensor]
    shares: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """An unlabelled batch from the target: no field to read a label from.

    Attributes
    ----------
    outputs : Outputs
    progress : float
        0 at the first step of training, 1 at the last. Where several trainings run as
        one program, each at its own point, a Tensor of shape () stands for it.
    teacher : Outputs, optional
        The same batch without dropout and without gradient, for adapters that ask
        for it by ``needs_teacher``.
    pseudo : Pseudo, optional
        What the surrounding composite's screen believes of this batch.
    judge : Outputs, optional
        What the network made of the same batch, without dropout, when training had
        come to ``judged_from``, or what its moving average since then makes of it;
        None before, and for adapters that do not ask for it.
    augmented : Outputs, optional
        What the network makes of the same batch as the adapter's ``augment`` changes
        it, with dropout and gradient, for adapters that have one.
    mixed : Outputs, optional
        What the network makes of every sample mixed with the one as far from the end,
        for validators that ask for it by ``mixes``.
    trials : Tensor of int, shape (batch,), optional
        Equal for samples of the same trial, for adapters that ask for it by
        ``needs_trials``. The numbers are given within this batch and mean nothing else:
        no order of trials, nor which trial of another batch it is.
    whole_trials : mapping of str to Tensor of shape (batch, classes), optional
        What the judge makes of each sample's whole trial, by branch: the mean of its
        probabilities over all of the target's samples of that trial, without those that
        the branch's sensor lost; alike for all classes where fewer than two are left.
        For adapters that ask for it by ``needs_whole_trials``; None before there is a
        judge.
    """

    outputs: Outputs
    progress: float
    teacher: Outputs | None = None
    pseudo: Pseudo | None = None
    judge: Outputs | None = None
    augmented: Outputs | None = None
    mixed: Outputs | None = None
    trials: Tensor | None = None
    whole_trials: Mapping[str, Tensor] | None = None

    @cached_property
    def shared(self) -> dict[Any, Any]:
        """What one adapter has computed in this step, for others that need the same."""
        return {}


class Adapter(nn.Module, ABC):
    """A loss between source and target. It owns no optimiser, loader or epoch.

    Constructors take keyword-only options, all with defaults. Modules and buffers of
    its own train with the network and are saved with it.
    """

    needs_target: bool = True
    """Whether the trainer must run the target through the network at all."""

    needs_teacher: bool = False
    """Whether the trainer must fill in :attr:`Target.teacher`."""

    needs_trials: bool = False
    """Whether the trainer must fill in :attr:`Target.trials`; results then say so."""

    needs_whole_trials: bool = False
    """Whether the trainer must fill in :attr:`Target.whole_trials`, for which
    `judged_from` must be set; results then say so."""

    judged_from: float | None = None
    """The progress at which the trainer sets the network aside as
    :attr:`Target.judge`; None where no judge is needed."""

    judge_momentum: float | None = None
    """What share of itself the judge keeps in every step, the rest becoming the
    network's: a moving average. None where it stays as it was set aside."""

    vectorises: bool = True
    """Whether ``torch.func.vmap`` over batches gives what a loop gives. Where a solver
    forbids it, the docstring says so in a sentence with the word "vectorise"."""

    @abstractmethod
    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return named scalar losses; the trainer adds them up."""

    @property
    def begins(self) -> float:
        """The progress of training before which all that the target adds is zero.

        From 0 to 1. Until then the target is not shown, and the adapter not called.
        """
        return 0.0

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the modules and buffers whose sizes depend on the network; optional.

        Called once before training, and again where a trained fold is read.

        Parameters
        ----------
        dims : mapping of str to int
            Of every branch's embedding.
        classes : int
        domains : int
            How many there are in :attr:`Source.domains` of the batches that train.
        """

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the logits that are the prediction; the fusion's by default.

        A sample's must not depend on the others, nor may the call change anything.

        Parameters
        ----------
        outputs : Outputs
            Without dropout; of any domain.

        Returns
        -------
        Tensor of shape (batch, classes)
        """
        return outputs.logits[FUSION]

    @property
    def sees_trials(self) -> bool:
        """Whether it is told which of the target's samples share a trial."""
        return self.needs_trials or self.needs_whole_trials

    @property
    def shapes_prediction(self) -> bool:
        """Whether the prediction is another one than the fusion's."""
        return type(self).predict is not Adapter.predict

    def augment(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Batch:
        """Return a target batch as it might have been recorded; optional.

        Called in every step by adapters that have it; random numbers are torch's.

        Parameters
        ----------
        signals, masks
            As a backbone takes them; to be left as they are.

        Returns
        -------
        pair of dict
            Of the same shapes; what is masked becomes zero. The network makes
            :attr:`Target.augmented` of it.
        """
        return dict(signals), dict(masks)

    @property
    def augments(self) -> bool:
        """Whether the trainer must fill in :attr:`Target.augmented`."""
        return type(self).augment is not Adapter.augment

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Change a trained network by the target alone; by default, leave it as it is.

        Called once at the end of training, and where a finished model is adapted to a
        new recording: no source is there any more.

        Parameters
        ----------
        network : Module
            Returns :class:`Outputs` of a batch; in evaluation mode, as it must be left.
            ``network.heads[branch]`` is a branch's classifier.
        batches : sequence of (signals, masks)
            All of the target, in random order; as a backbone takes them.
        descend : callable
            Takes gradient steps, where some are needed: it is called with weights, an
            iterable of functions that return a step's loss, and a learning rate.
        """

    @property
    def settles(self) -> bool:
        """Whether a trained network is changed by the target alone."""
        return type(self).settle is not Adapter.settle

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw constructor options from an Optuna trial; optional."""
        return {}


class Screen(nn.Module, ABC):
    """Decides which target samples to believe, and which branch learns from them."""

    needs_teacher: bool = False
    """Whether the trainer must fill in :attr:`Target.teacher`."""

    needs_trials: bool = False
    """Whether the trainer must fill in :attr:`Target.trials`; results then say so."""

    judged_from: float | None = None
    """As for :class:`Adapter`."""

    judge_momentum: float | None = None
    """As for :class:`Adapter`."""

    needs_training: bool = False
    """Whether the source that trains must be handed to :meth:`learn`."""

    held_out: bool = False
    """Whether some source domains are kept out of training for :meth:`learn`; drawn as
    for a :class:`Validator`."""

    @abstractmethod
    def forward(self, target: Target) -> Pseudo:
        """Return pseudo-labels and how far each branch should learn from them."""

    def prepare(self, dims: Mapping[str, int], classes: int) -> None:
        """Make the buffers whose sizes depend on the network; optional.

        Called before training, and again where a trained fold is read.

        Parameters
        ----------
        dims : mapping of str to int
            Of every branch's embedding.
        classes : int
        """

    def learn(self, training: Source | None, held_out: Source | None) -> None:
        """Take in what the judge makes of the source; optional.

        Called when the judge is set aside, after every epoch of one that moves, and
        where training is resumed. What is learned belongs into buffers that `prepare`
        made, changed in place and not persistent.

        Parameters
        ----------
        training : Source or None
            All of the source that trains, where `needs_training` is set.
        held_out : Source or None
            What is kept from training, where `held_out` is set.
        """


# ---------------------------------------------------------------------- protocols


@dataclass(frozen=True)
class Fold:
    """One train and test arrangement, as row numbers of the windows table.

    Attributes
    ----------
    name : str
    source : ndarray of int
        Windows whose signals and labels train.
    target : ndarray of int
        Windows whose signals alone may be seen in training.
    test : ndarray of int
        Windows to predict. Equal to `target` when transductive, disjoint from it
        when inductive.
    calibration : ndarray of int
        Windows of the target whose labels are given on purpose, to train beside the
        source's; empty by default. None of their trials has a window in another part.
    validation : ndarray of int
        Labelled windows, of people or days of the source's kind, that never train: a
        validator that holds domains out is given these in place of some that are
        drawn. Empty by default. None of their trials has a window in another part.
    """

    name: str
    source: Rows
    target: Rows
    test: Rows
    calibration: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    validation: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def __repr__(self) -> str:
        """Say how many windows have which part."""
        parts = {name: len(rows) for name, rows in self.parts.items()}
        for name in OPTIONAL:
            if not parts[name]:
                del parts[name]
        counts = ", ".join(f"{name}: {number}" for name, number in parts.items())
        return f"Fold({self.name!r}, windows of {counts}, {self.access})"

    @property
    def parts(self) -> dict[str, Rows]:
        """The windows of every part, by its name."""
        names = ("source", "target", "test", *OPTIONAL)
        return {name: getattr(self, name) for name in names}

    @property
    def used(self) -> Rows:
        """The windows of any part, in order."""
        return np.unique(np.concatenate(list(self.parts.values())))

    @property
    def given(self) -> Rows:
        """Windows beside the source's whose labels are given: to train, or to judge."""
        return np.concatenate([self.calibration, self.validation])

    @property
    def seen(self) -> Rows:
        """The windows beside the source's whose signals training may see."""
        return np.concatenate([self.target, self.given])

    def renumbered(self, used: Rows) -> Fold:
        """Return the same fold, its rows counted among the windows `used`."""
        parts = {
            name: np.searchsorted(used, rows).astype(np.int64)
            for name, rows in self.parts.items()
        }
        return Fold(self.name, **parts)

    @property
    def access(self) -> str:
        """``"transductive"`` where test windows are seen unlabelled in training."""
        seen = np.isin(self.test, self.target).any()
        return "transductive" if seen else "inductive"


class Protocol(ABC):
    """Splits recordings into folds. It sees provenance only, never a label."""

    domain: ClassVar[str]
    """The column that tells one source domain from another."""

    scored: ClassVar[bool] = True
    """Whether the labels of what is tested are known, so that predictions are scored.
    `run` is for these; others have a command of their own."""

    takes_target: ClassVar[bool] = False
    """Whether those to adapt to are recordings of their own, given apart (`adapt`).
    `split` finds in a column ``new`` which windows are theirs."""

    disjoint: tuple[str, ...] = ()
    """Columns, such as ``"stimulus"``, of which nothing may be in the source and in the
    test of one fold; what is trained and tested is checked for it."""

    causal: ClassVar[bool] = False
    """Whether windows are tested as they arrive, so that none may be made of what comes
    later; what is tested is checked for it. Where folds' names end in ``"step 2"`` and
    so on, results tell how it goes from step to step."""

    unfit: str = "refuse"
    """What becomes of folds whose classes do not allow to train or to score them:
    ``"refuse"`` them all, ``"skip"`` these and name them in the results, or ``"keep"``
    those that test a single class, which have no score by themselves, as others test
    more."""

    @abstractmethod
    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield folds; raise :class:`DataError` where the recordings allow none."""


class Validator(ABC):
    """Scores a model without target labels; higher is better.

    It chooses the epoch of a training, the candidate of a study, and the method among
    finished runs. One that scores a model by itself has :meth:`__call__` alone. One
    that scores several by comparing them, such as by their ranks, has
    :meth:`evidence` and :meth:`compare` too.
    """

    held_out: bool = False
    """Whether some source domains are kept out of training to be scored here.

    Calibration is never among them, unless it is given to selection, where it stands in
    their place. Else a fold's validation does."""

    needs_training: bool = False
    """Whether the source that trains must be run through the network after every
    epoch, without dropout, to be handed over here."""

    mixes: float | None = None
    """What share of itself a target sample keeps where it is mixed with another, for
    :attr:`Target.mixed`; None where that is not needed."""

    sees_target: bool = True
    """Whether the score depends on the target's signals; results say so."""

    @abstractmethod
    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score.

        In all of them, the fusion's logits are what the adapter predicts, and samples
        of which no sensor recorded anything are left out.

        Parameters
        ----------
        training : Source or None
            The source as it trains, where `needs_training` is set.
        held_out : Source or None
            The held-out source domains, or the fold's validation where it has one;
            where `held_out` is set.
        target : Target
            Everything the target shows, unlabelled, in an order that is the same for
            all models of one fold.
        """

    def evidence(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> Sequence[float]:
        """Return what :meth:`compare` must know of a model; by default, its score.

        Parameters
        ----------
        training, held_out, target
            As above.
        """
        return [self(training, held_out, target)]

    def compare(self, found: Sequence[Sequence[float]]) -> Sequence[float]:
        """Return the scores of several models of one fold; by default, each its own.

        Parameters
        ----------
        found : sequence of sequence of float
            The evidence of each, in no order that means anything.
        """
        return [each[0] for each in found]

    @property
    def compares(self) -> bool:
        """Whether a model's score depends on what it is compared with."""
        return type(self).compare is not Validator.compare


class Control(ABC):
    """Predicts from next to nothing: a result that does not beat it is hollow.

    It stands beside every result, on the same folds and scored alike.
    """

    words: str
    """What it does, as reports say it."""

    sees_signals: bool = False
    """Whether it is shown the windows' values, not their provenance alone."""

    adapts: bool = False
    """Whether it learns from values of the target, unlabelled; results say so."""

    @abstractmethod
    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Predict test windows, each by itself.

        Parameters
        ----------
        windows : DataFrame
            Provenance of all windows.
        source, test : ndarray of int
            Windows to learn from, and those to predict.
        labels : ndarray of int, shape (len(source),)
            Class numbers of the source windows.
        target : ndarray of int
            Windows of the target whose values may be learned from, unlabelled: those to
            predict, or others where the fold is inductive. Empty unless `adapts`.
        values : ndarray of float, shape (windows, values)
            All windows, normalised, the modalities side by side; NaN where a sensor was
            lost. It may be overwritten. Without a column unless `sees_signals`.

        Returns
        -------
        ndarray of int, shape (len(test),), or of float, shape (len(test), classes)
            Class numbers, or probabilities, a column for each class from 0 on; those
            after the last of `labels` may be left out.
        """


class Retraining(Control):
    """The run's own training once more, of network and adapter, with one thing changed.

    Of the two below, that is what a class overrides. It trains with every seed, as the
    adapter does.
    """

    def relabel(
        self,
        windows: pd.DataFrame,
        labels: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return the labels to train with, one in all windows of a trial.

        Parameters
        ----------
        windows : DataFrame
            Provenance of the windows whose labels are known, of the source, calibration
            and validation.
        labels : ndarray of int, shape (len(windows),)
        generator : Generator
            Of this fold and seed.
        """
        return labels

    def renormalise(self, chosen: Normalisation) -> Normalisation:
        """Return the normalisation to train and to test with.

        Raises
        ------
        ConfigurationError
            If it would be the run's own, so that nothing would be changed.
        """
        return chosen

    def predict(
        self,
        windows: pd.DataFrame,
        source: Rows,
        labels: NDArray[np.int64],
        target: Rows,
        test: Rows,
        values: NDArray[np.float64],
    ) -> NDArray[Any]:
        """Raise :class:`TypeError`: it is the network that predicts."""
        raise TypeError(f"{type(self).__name__} trains the run's network anew.")
