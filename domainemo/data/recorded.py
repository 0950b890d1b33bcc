"""Files of one's own that MNE reads, as a data set: subjects and sessions by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Dataset, EmotionData
from ..errors import ConfigurationError, DataError, data_error
from ..registry import register
from ..values import check_value, given_path
from ..words import natural
from .cache import unreadable
from .clips import UNLABELLED, Bads, Cut, Feature, Part, bands_of
from .epochs import epochs_part
from .montage import other_sensor
from .raw import Clipping, Duration, joined, raw_part
from .signals.features import BANDS

__all__ = ["Recorded", "Sitting", "of_sittings"]

_SUFFIXES = (
    *(".edf", ".bdf", ".gdf", ".fif", ".fif.gz", ".vhdr", ".set", ".cnt", ".mff"),
    *(".nxe", ".lay", ".data"),
)
"""Of the files that MNE is handed; what lies beside them belongs to one of these."""

_EPOCHS = re.compile(r"[-_]epo\.fif(\.gz)?$")
_CONTINUED = re.compile(r"-\d+\.fif$")
_FIELDS = ("subject", "session")


@dataclass(frozen=True)
class Sitting:
    """A file, and who was recorded when.

    Attributes
    ----------
    subject, session : str
    path : Path
        For messages.
    read : callable
        Returns what MNE makes of the file, and what is to stand in the name.
    """

    subject: str
    session: str
    path: Path
    read: Callable[[], tuple[Any, list[str]]]


def of_sittings(
    sittings: Sequence[Sitting],
    labels: str | None,
    stimulus: str | None,
    cut: Cut,
    clipping: Clipping,
    classes: Sequence[str] | None,
    name: str,
) -> EmotionData:
    """Return files as recordings, one file in memory at a time.

    Trials count on from file to file of a subject's session.

    Parameters
    ----------
    sittings : sequence of Sitting
        In order of subject, session and time.
    labels, stimulus : str or None
        Columns of what MNE says beside the events.
    cut, clipping, classes, name
        See :func:`domainemo.from_raw`.
    """
    cut.check(name)
    clipping.check(labels, name)
    parts: list[Part] = []
    places: list[tuple[str, str]] = []
    counted: dict[tuple[str, str], int] = {}
    met: dict[bytes, Path] = {}
    for each in sittings:
        place = each.subject, each.session
        instance, notes = _read(each)
        so_far, where = counted.get(place, 0), str(each.path)
        if hasattr(instance, "drop_log"):
            instance = _chosen(instance, clipping)
            part, drawn = epochs_part(instance, cut, False, so_far, where)
        else:
            part = raw_part(instance, cut, clipping, so_far, where)
            drawn = len(part.events)
        counted[place] = so_far + drawn
        part.notes.extend(notes)
        _check_new(part, each.path, met)
        part = _labelled(part, labels)
        parts.append(part)
        places += [place] * len(part.events)
    if not places:
        raise data_error(
            f"{name}, labels",
            f"n/a for every clip in the column {labels!r}",
            "the label of some",
            "Name another column.",
        )
    subjects, sessions = (
        np.array(column, dtype=object) for column in zip(*places, strict=True)
    )
    place_of = {"subject": subjects, "session": sessions, "trial": None}
    return joined(parts, place_of, labels, stimulus, cut, clipping, classes, name)


def _labelled(part: Part, labels: str | None) -> Part:
    """Return a part without the clips of which the column says n/a.

    So BIDS writes what is not there. Clips keep their numbers.
    """
    told = part.events.metadata
    if told is None or labels not in told:
        return part
    kept = np.flatnonzero(told[labels].astype(str).str.strip().str.lower() != "n/a")
    lost = len(told) - len(kept)
    if not lost:
        return part
    events = replace(
        part.events,
        names=tuple(part.events.names[clip] for clip in kept),
        numbers=tuple(part.events.numbers[clip] for clip in kept),
        metadata=told.iloc[kept],
    )
    return replace(
        part,
        arrays=[part.arrays[clip] for clip in kept],
        starts=[part.starts[clip] for clip in kept],
        events=events,
        notes=[*part.notes, f"{lost} {UNLABELLED}"],
    )


def _check_new(part: Part, path: Path, met: dict[bytes, Path]) -> None:
    """Refuse a file that holds what another does, and note what this one holds."""
    digest = sha256()
    for arrays in part.arrays:
        for array in arrays.values():
            digest.update(array.tobytes())
    first = met.setdefault(digest.digest(), path)
    if first != path:
        raise data_error(
            path,
            f"the same recording as in {first}, bit for bit",
            "another one",
            "Keep it under one name, and leave the copy out of the folder.",
        )


def _read(sitting: Sitting) -> tuple[Any, list[str]]:
    """Return what a file holds; whatever MNE raises says that it cannot read it."""
    try:
        return sitting.read()
    except (DataError, ConfigurationError):
        raise
    except Exception as error:  # MNE's readers raise every kind on a damaged file
        detail = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise data_error(
            sitting.path,
            f"a file that MNE cannot read ({detail.rstrip('.')})",
            "a whole recording in a format that MNE reads",
            "Look at it in Python with mne.io.read_raw, or leave it out.",
        ) from error


def _chosen(epochs: Any, clipping: Clipping) -> Any:
    """Return the epochs of the events that are clips, at the rate that is wanted."""
    if clipping.events is not None:
        names = {code: name for name, code in epochs.event_id.items()}
        wanted = [names[code] in clipping.events for code in epochs.events[:, 2]]
        epochs = epochs[np.flatnonzero(wanted)]
    if clipping.resample and clipping.resample != epochs.info["sfreq"]:
        epochs = epochs.copy().load_data().resample(clipping.resample, verbose="error")
    return epochs


@register(name="mne")
class Recorded(Dataset):
    """Your own recordings as MNE reads them: continuous files, or epochs.

    Continuous files are cut by their annotations, see :func:`domainemo.from_raw`; files
    of epochs, called ``*-epo.fif``, see :func:`domainemo.from_epochs`. Files of one
    subject's session are one sitting, in the order of their names. Channels that are
    typed as EEG, and by their names are other sensors, are taken for these, which the
    name says.

    Parameters
    ----------
    root : path
        The folder that holds the files.
    files : str
        Where they lie below it: ``{subject}`` and ``{session}`` stand for the subject's
        and the session's name, ``*`` for anything else, as in
        ``"{subject}/{session}/*"`` or ``"sub-{subject}_run*.edf"``. Without
        ``{session}`` there is one.
    labels : str, optional
        A column of the epochs' metadata, or of the annotations' extras. The events'
        names by default.
    stimulus : str, optional
        The column that says what was shown.
    events : sequence of str or mapping of str to str, optional
        The annotations that mark clips; all by default.
    duration : float or "next", optional
        Of a clip, where annotations are markers.
    feature : {"de", "psd", "raw"}
        Differential entropy, power spectral density, or samples.
    bands : tuple of str
        Names of :data:`~domainemo.data.signals.features.BANDS`.
    window : float
        Length of a window in seconds.
    step : float, optional
        Seconds from one window to the next; by default they follow one another.
    resample : float, optional
        Sampling rate in Hz to resample continuous files to.
    bads : {"interpolate", "nan", "drop"}
        What becomes of channels that are marked as bad.

    Raises
    ------
    ConfigurationError
        If no folder is given, or an option does not fit.
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        files: str = "{subject}/*",
        labels: str | None = None,
        stimulus: str | None = None,
        events: Sequence[str] | Mapping[str, str] | None = None,
        duration: Duration = None,
        feature: Feature = "de",
        bands: tuple[str, ...] = tuple(BANDS),
        window: float = 4.0,
        step: float | None = None,
        resample: float | None = None,
        bads: Bads = "interpolate",
    ) -> None:
        if root is None:
            raise ConfigurationError(
                "The dataset 'mne' needs the folder to read; found none. Give it with "
                "--data-root FOLDER, or root= in Python."
            )
        self.root, self.files = given_path("root", root), files
        self.labels, self.stimulus = labels, stimulus
        self.events, self.duration, self.resample = events, duration, resample
        self.feature, self.bands, self.bads = feature, tuple(bands), bads
        self.window, self.step = window, step
        self._pattern = _pattern(files)
        bands_of(self.bands, "The dataset 'mne'")

    def load(self) -> EmotionData:
        """Read every file, and make features of its clips.

        Returns
        -------
        EmotionData

        Raises
        ------
        DataError
            If no file is found, or one cannot be read or does not fit the others.
        """
        bands = bands_of(self.bands, "The dataset 'mne'")
        return of_sittings(
            list(self._sittings()),
            self.labels,
            self.stimulus,
            Cut(self.feature, bands, self.window, self.step, self.bads),
            Clipping(self.events, self.duration, self.resample),
            None,
            self.root.resolve().name or "own recordings",
        )

    def _sittings(self) -> Iterator[Sitting]:
        """Yield the files in order of subject, session and name."""
        if not self.root.is_dir():
            raise data_error(
                self.root, "no such folder", "the folder of recordings", "Correct it."
            )
        found = {}
        for path in _below(self.root):
            place = path.relative_to(self.root).as_posix()
            matched = self._pattern.fullmatch(place)
            hidden = any(part.startswith(".") for part in Path(place).parts)
            if matched and not hidden and path.name.lower().endswith(_SUFFIXES):
                found[path] = matched.groupdict()
        if not found:
            raise data_error(
                self.root,
                f"no file like {self.files!r} that MNE reads",
                f"files such as {', '.join(_SUFFIXES[:6])}",
                'Say where they lie with files, as in "{subject}/{session}/*".',
            )
        for path, told in sorted(found.items(), key=_in_order):
            whole = path.with_name(_CONTINUED.sub(".fif", path.name))
            if whole != path and whole in found:
                continue  # read with the file that it continues
            session = told.get("session") or "1"
            yield Sitting(told["subject"], session, path, partial(_opened, path))


def _below(root: Path) -> Iterator[Path]:
    """Yield all that lies in a folder; refuse it where a part cannot be read."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename, error) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        yield from (Path(folder, name) for name in (*folders, *names))


def _pattern(files: str) -> re.Pattern[str]:
    """Return what matches the path of a file, and finds its subject and session."""
    check_value("dataset 'mne': files", files, str)
    parts = re.split(r"(\{[^}]*\}|\*)", files)
    fields = [part[1:-1] for part in parts if part.startswith("{")]
    if (
        "subject" not in fields
        or len(set(fields)) < len(fields)
        or {*fields} - {*_FIELDS}
    ):
        raise ConfigurationError(
            f"The dataset 'mne': found files={files!r}; expected {{subject}} once, and "
            f'at most once {{session}}, as in "{{subject}}/{{session}}/*".'
        )
    words = {"*": "[^/]*", "{subject}": "(?P<subject>[^/]+?)"}
    words["{session}"] = "(?P<session>[^/]+?)"
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))


def _in_order(found: tuple[Path, Mapping[str, str]]) -> tuple[Any, ...]:
    path, told = found
    return (
        natural(told["subject"]),
        natural(told.get("session") or ""),
        natural(path.name),
    )


def _opened(path: Path) -> tuple[Any, list[str]]:
    """Return a file's epochs or recording, with sensors typed by their names."""
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    if _EPOCHS.search(path.name):
        return mne.read_epochs(path, verbose="error"), []
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    kinds = zip(raw.ch_names, raw.get_channel_types(), strict=True)
    types = {
        name: other
        for name, kind in kinds
        if kind == "eeg" and (other := other_sensor(name))
    }
    if not types:
        return raw, []
    raw.set_channel_types(types, on_unit_change="ignore", verbose="error")
    return raw, [f"{name} taken for {kind}" for name, kind in types.items()]
