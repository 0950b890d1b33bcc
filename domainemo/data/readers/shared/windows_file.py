"""Files of ready-made windows: a whole data set in one ``.npz``, with a row a window.

Such files are made from a publisher's recordings; no publisher offers them as they
are. What their readers share is here: finding the file, checking it, taking it apart.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....errors import DataError, data_error
from ...files import read_npz
from ...reader import Reader, Recording, Trial

__all__ = ["Stored", "Windows", "WindowsReader"]

Whole = NDArray[np.int64]
Float = NDArray[np.float32]

_REMEDY = "Make the file again, or name another folder."


@dataclass(frozen=True)
class Windows:
    """Rows of a file: where each window comes from, and what it holds.

    Attributes
    ----------
    subject, session, trial, label : ndarray of int, shape (windows,)
    stimulus : ndarray of int or str, shape (windows,)
    start : ndarray of int, shape (windows,)
        Seconds from the trial's onset.
    signals : mapping of str to ndarray of shape (windows, channels, features)
    noted : mapping of str to ndarray of bool, shape (windows,)
        Which windows each note of :attr:`Trial.notes` is about.
    """

    subject: Whole
    session: Whole
    trial: Whole
    label: Whole
    stimulus: NDArray[Any]
    start: Whole
    signals: Mapping[str, Float]
    noted: Mapping[str, NDArray[np.bool_]]

    def take(self, rows: NDArray[Any]) -> Windows:
        """Return the windows at `rows`: numbers, or True where to keep one."""
        return Windows(
            self.subject[rows],
            self.session[rows],
            self.trial[rows],
            self.label[rows],
            self.stimulus[rows],
            self.start[rows],
            {name: array[rows] for name, array in self.signals.items()},
            {note: about[rows] for note, about in self.noted.items()},
        )


@dataclass(frozen=True)
class Stored:
    """The arrays of a file, each checked when it is asked for.

    Attributes
    ----------
    path : Path
    arrays : mapping of str to ndarray
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]

    @property
    def count(self) -> int:
        """How many windows the file says that it holds."""
        return len(np.atleast_1d(self.arrays["subject"]))

    def rows(self, key: str, kinds: str, what: str) -> NDArray[Any]:
        """Return an array with an entry per window, of one of numpy's `kinds`."""
        array, count = self.arrays[key], self.count
        if array.ndim != 1 or len(array) != count or array.dtype.kind not in kinds:
            found = f"an array of {array.dtype} and shape {array.shape}"
            raise self.error(key, found, f"{what} for each of the {count} windows")
        return array

    def whole_numbers(self, key: str, allowed: Sequence[int] = ()) -> Whole:
        """Return whole numbers, one per window, of those `allowed` if any are named."""
        array = self.rows(key, "iu", "a whole number").astype(np.int64)
        wrong = ~np.isin(array, list(allowed) or array)
        if wrong.any():
            row = int(wrong.argmax())
            found = f"{array[row]} in row {row} (counted from 0)"
            raise self.error(key, found, f"one of {', '.join(map(str, allowed))}")
        return array

    def places(self, key: str, known: tuple[str, ...]) -> list[int]:
        """Return where each of the `known` names stands in an array of names."""
        array = self.arrays[key]
        names = [str(name) for name in array.ravel().tolist()]
        if array.ndim != 1 or sorted(names) != sorted(known):
            missing = [name for name in known if name not in names]
            extra = [name for name in names if name not in known]
            found = f"{len(names)} names"
            if missing or extra:
                found += (
                    f", without {', '.join(missing) or 'none'}, with "
                    f"{', '.join(extra) or 'none'} besides"
                )
            raise self.error(key, found, f"{', '.join(known)}, each once")
        return [names.index(name) for name in known]

    def signal(self, key: str, *axes: list[int]) -> Float:
        """Return a signal as float32, put into the order of `axes` after the first."""
        array = self.arrays[key]
        count = self.count
        shape = (count, *(len(axis) for axis in axes))
        if array.shape != shape or array.dtype.kind not in "fiu":
            found = f"an array of {array.dtype} and shape {array.shape}"
            raise self.error(key, found, f"numbers of shape {shape}")
        for axis, order in enumerate(axes, 1):
            array = np.take(array, order, axis)
        with np.errstate(over="ignore"):  # what is infinite is refused with its place
            return array.astype(np.float32)

    def error(self, key: str, found: str, expected: str) -> DataError:
        """Return an error that names the file and the key."""
        return data_error(f"{self.path}, {key!r}", found, expected, _REMEDY)


class WindowsReader(Reader):
    """A reader of one file with a row per window, for all subjects.

    A subclass sets `place` and `keys` and says in :meth:`windows` what they hold.
    """

    place: ClassVar[tuple[str, str]]
    """The file's folder below the data root, and its name."""

    keys: ClassVar[tuple[str, ...]]
    """The arrays to read; ``"subject"`` is one of them."""

    root: Path | None

    @abstractmethod
    def windows(self, stored: Stored) -> Windows:
        """Return the windows that the options ask for.

        Raises
        ------
        DataError
            If an array is not what it should be.
        """

    def recordings(self) -> list[Recording]:
        """Return one recording per subject, all of the one file.

        Raises
        ------
        DataError
            If there is no such file, or it does not hold what it should.
        """
        path = self._find()
        subjects = np.unique(self._windows(path).subject).tolist()
        return [Recording(subject, {"windows": path}) for subject in subjects]

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield a subject's trials, in order of session and trial."""
        path = recording.files["windows"]
        windows = self._windows(path)
        windows = windows.take(windows.subject == recording.subject)
        places = np.stack([windows.session, windows.trial], axis=1)
        for place in np.unique(places, axis=0):
            rows = np.flatnonzero((places == place).all(axis=1))
            rows = rows[np.argsort(windows.start[rows], kind="stable")]
            yield _trial(path, windows.take(rows))

    def _windows(self, path: Path) -> Windows:
        try:
            status = path.stat()
        except OSError as error:
            found = f"a file that could not be read ({error.strerror or error})"
            raise data_error(path, found, "an .npz file", _REMEDY) from error
        state = (status.st_size, status.st_mtime_ns)
        return self.windows(Stored(path, _read(path, self.keys, state)))

    def _find(self) -> Path:
        folder, file = self.place
        expected = f"the folder that holds {folder}/{file}, or {file} itself"
        remedy = (
            f"The publisher offers the recordings that the file is made from at "
            f"{self.home}."
        )
        if self.root is None:
            raise data_error(file, "no data root", expected, f"Name it. {remedy}")
        for path in (self.root / folder / file, self.root / file):
            if path.is_file():
                return path
        found = "no such file in it" if self.root.is_dir() else "no folder"
        raise data_error(self.root, found, expected, f"Check the path. {remedy}")


@lru_cache(maxsize=2)
def _read(
    path: Path, keys: tuple[str, ...], state: tuple[int, int]
) -> Mapping[str, NDArray[Any]]:
    """Read the file once for all subjects, and again once its `state` has changed."""
    stored: Mapping[str, NDArray[Any]] = read_npz(path, keys)
    return stored


def _trial(path: Path, windows: Windows) -> Trial | DataError:
    """Return windows that are of one trial and in order of time."""
    subject, session, trial = (
        int(column[0]) for column in (windows.subject, windows.session, windows.trial)
    )
    where = f"{path}, subject {subject}, session {session}, trial {trial}"
    again = np.flatnonzero(np.diff(windows.start) == 0)
    if len(again):
        found = f"two windows that start at {windows.start[again[0]]} s"
        return data_error(where, found, "windows that start one by one", _REMEDY)
    for name, column in (("label", windows.label), ("stimulus", windows.stimulus)):
        values = np.unique(column).tolist()
        if len(values) > 1:
            found = f"the {name} {values[0]} and the {name} {values[1]}"
            return data_error(where, found, f"one {name} in a trial", _REMEDY)
    return Trial(
        session=session,
        trial=trial,
        stimulus=windows.stimulus[0].item(),
        label=int(windows.label[0]),
        signals=windows.signals,
        start=windows.start.astype(np.float64),
        notes=tuple(note for note, about in windows.noted.items() if about.any()),
    )
