"""What the readers of all data sets share: files by recording, trials one by one.

A reader says which files belong together (:meth:`Reader.recordings`) and reads one
such group at a time (:meth:`Reader.trials`). Joining them, in parallel over the files,
telling the progress and keeping what was corrected is done here, once.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import PROVENANCE, Dataset, EmotionData, Inputs, Modality
from ..errors import DataError, RunError, data_error
from ..places import naming_parts
from ..processes import can_pack, cores, pack, process_pool, unpack
from ..registry import load_plugin, plugin_of
from .sentinels import warn_of_sentinels

__all__ = ["OnRead", "Reader", "Recording", "Trial", "listing"]

Float = NDArray[np.float32]

_WORTH_PROCESSES = 15.0
"""Seconds of reading for which it pays to start processes, which takes seconds too."""

OnRead = Callable[[int, int, str], None]
"""Told after each recording: how many are read, of how many, and which one."""


@dataclass(frozen=True)
class Recording:
    """Files that are read together: those of one subject, or of one session.

    Attributes
    ----------
    subject : int
    files : mapping of str to Path
        What each file is for, such as ``"eeg"`` and ``"eye"``, and where it lies.
    session : int, optional
        None where the files hold all of the subject's sessions.
    """

    subject: int
    files: Mapping[str, Path]
    session: int | None = None

    @property
    def name(self) -> str:
        """Subject and session, for people."""
        if self.session is None:
            return f"subject {self.subject}"
        return f"subject {self.subject}, session {self.session}"


@dataclass(frozen=True)
class Trial:
    """One trial as read: arrays with an entry per window, all modalities on one clock.

    Attributes
    ----------
    session, trial : int
        Counted from 1.
    stimulus : int or str
        What was shown, the same for every subject who saw it.
    label : int
        Index into the reader's classes.
    signals : mapping of str to ndarray of shape (windows, channels, features)
    start : ndarray of shape (windows,)
        Seconds from the trial's onset.
    notes : tuple of str
        What was corrected or found odd, in words that are the same in every trial that
        it happened to, such as ``"eye cut to the EEG's windows"``.
    """

    session: int
    trial: int
    stimulus: int | str
    label: int
    signals: Mapping[str, NDArray[np.floating]]
    start: NDArray[np.floating]
    notes: tuple[str, ...] = ()


def listing(folder: Path | None) -> str:
    """Return what is found in place of a data set's files, for a message."""
    if folder is None:
        return "no data root"
    if not folder.is_dir():
        return "a file here" if folder.exists() else "nothing here"
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "an empty folder"
    return f"only {', '.join(names[:5])}{' ...' * (len(names) > 5)}"


class Reader(Dataset):
    """A data set of files: what is there, which files belong together, what they hold.

    A subclass has a constructor with ``root`` first and keyword-only options, and
    picklable attributes only.
    """

    home: ClassVar[str]
    """Where the publisher offers the data set."""

    classes: tuple[str, ...]
    """The class names; set by the constructor, as options may choose them."""

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """Find the files, in order of subject and session.

        Raises
        ------
        DataError
            If there are none, or names leave open which subject or session it is.
        """

    @abstractmethod
    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield each trial, or the error that it gave where others can still be read.

        Raises
        ------
        DataError
            If the files cannot be read at all.
        """

    @abstractmethod
    def modalities(self) -> dict[str, Modality]:
        """Describe the arrays of every trial."""

    @abstractmethod
    def title(self) -> str:
        """Name the data set and every choice that its options make.

        It stands beside each number; what was read and what was corrected follows it.
        """

    @abstractmethod
    def release(self) -> str:
        """Say which release of the data set, or which part of it, the folder holds."""

    @abstractmethod
    def missing(self) -> list[str]:
        """List what the full release has and the folder lacks; none of it is fatal."""

    def files(self) -> list[Path]:
        """Return every file that a full reading opens."""
        return sorted({p for each in self.recordings() for p in each.files.values()})

    def load(
        self, *, jobs: int | None = 1, on_read: OnRead | None = None
    ) -> EmotionData:
        """Read everything.

        Parameters
        ----------
        jobs : int or None
            Recordings read at once, each in a process of its own. None uses every
            processor, where the first recording took so long that it pays.
        on_read : callable, optional
            Told after each recording.

        Returns
        -------
        EmotionData
            In order of subject, session, trial and time.

        Raises
        ------
        DataError
            At the first file or trial that does not fit.
        """
        recordings = self.recordings()
        trials: list[tuple[int, Trial]] = []
        for number, (recording, read) in enumerate(self.read_all(recordings, jobs), 1):
            for trial in read:
                if isinstance(trial, DataError):
                    raise trial
                trials.append((recording.subject, trial))
            if on_read:
                on_read(number, len(recordings), recording.name)
        return self._join(trials)

    def read_all(
        self, recordings: Sequence[Recording], jobs: int | None = 1
    ) -> Iterator[tuple[Recording, list[Trial | DataError]]]:
        """Yield each recording with its trials, in order, `jobs` read at once.

        Raises
        ------
        ConfigurationError
            If the reader cannot be sent to another process, and `jobs` asks for it.
        RunError
            If a process that was reading is killed.
        """
        if jobs is None and recordings:
            began = time.monotonic()
            first, recordings = recordings[0], recordings[1:]
            read = self.read(first)
            left = (time.monotonic() - began) * len(recordings)
            yield first, read
            jobs = cores() if left > _WORTH_PROCESSES and can_pack(self) else 1
        if jobs is None or jobs == 1 or len(recordings) == 1:
            for recording in recordings:
                yield recording, self.read(recording)
            return
        plugin, reader = plugin_of(type(self)), pack(self)
        with process_pool(min(jobs, len(recordings))) as pool:
            futures = [
                pool.submit(_read_there, plugin, reader, recording)
                for recording in recordings
            ]
            for recording, future in zip(recordings, futures, strict=True):
                try:
                    yield recording, future.result()
                except BrokenProcessPool as error:
                    raise RunError(
                        f"{recording.name}: a process that was reading died, perhaps "
                        f"for want of memory. Read fewer files at once (jobs)."
                    ) from error

    def read(self, recording: Recording) -> list[Trial | DataError]:
        """Return a recording's trials and errors; never raise :class:`DataError`."""
        read: list[Trial | DataError] = []
        modalities = self.modalities()
        try:
            # Absurd values overflow on the way; they end as infinite, and are refused.
            with np.errstate(over="ignore", invalid="ignore"):
                for trial in self.trials(recording):
                    read.append(_checked(trial, modalities, recording))
        except DataError as error:
            read.append(error)
        return read

    def _join(self, trials: Sequence[tuple[int, Trial]]) -> EmotionData:
        if not trials:
            raise data_error(
                self.title(), "no trial at all", "at least one", "Check its options."
            )
        place = [(subject, each.session, each.trial) for subject, each in trials]
        ordered = [trials[i] for i in sorted(range(len(trials)), key=place.__getitem__)]
        lengths = [len(trial.start) for _, trial in ordered]
        columns: dict[str, list[int] | list[int | str]] = {
            "subject": [subject for subject, _ in ordered],
            "session": [trial.session for _, trial in ordered],
            "trial": [trial.trial for _, trial in ordered],
            "stimulus": [trial.stimulus for _, trial in ordered],
        }
        windows = pd.DataFrame(
            {
                name: np.repeat(np.asarray(values), lengths)
                for name, values in columns.items()
            }
        )
        windows["start"] = np.concatenate([trial.start for _, trial in ordered])
        signals = {
            name: np.concatenate([trial.signals[name] for _, trial in ordered])
            for name in self.modalities()
        }
        labels = np.repeat([trial.label for _, trial in ordered], lengths)
        inputs = Inputs(
            signals,
            windows[list(PROVENANCE)],
            self.modalities(),
            f"{self.title()}; {_read_so_far(ordered)}",
        )
        warn_of_sentinels(inputs)
        return EmotionData(inputs, labels.astype(np.int64), self.classes)


def _read_there(
    plugin: str | None, reader: bytes, recording: Recording
) -> list[Trial | DataError]:
    """Read a recording in a process of its own, which knows no plug-in yet."""
    if plugin is not None:
        load_plugin(plugin)
    made: Reader = unpack(reader)
    with naming_parts():
        return made.read(recording)


def _checked(
    trial: Trial | DataError, modalities: Mapping[str, Modality], recording: Recording
) -> Trial | DataError:
    """Return the trial as float32, or the error where its arrays do not fit."""
    if isinstance(trial, DataError):
        return trial
    signals: dict[str, Float] = {}
    for name, modality in modalities.items():
        array = trial.signals[name]
        expected = (len(trial.start), len(modality.channels), len(modality.features))
        where = (
            f"{_file(recording, name)}, session {trial.session}, trial {trial.trial}, "
            f"modality {name!r}"
        )
        remedy = "Check that the file is the publisher's, and fetch it again."
        if array.shape != expected or len(trial.start) == 0:
            shape = f"{expected} (windows, channels, features), with some windows"
            return data_error(where, f"an array of shape {array.shape}", shape, remedy)
        signals[name] = array.astype(np.float32, copy=False)
        infinite = np.isinf(signals[name])
        if infinite.any():
            window, channel, feature = map(int, np.argwhere(infinite)[0])
            return data_error(
                f"{where}, window {window + 1}, channel {modality.channels[channel]}, "
                f"feature {modality.features[feature]}",
                f"{array[window, channel, feature]}",
                "a finite value, or NaN where the sensor lost the window",
                remedy,
            )
    return replace(trial, signals=signals)


def _file(recording: Recording, modality: str) -> Path:
    """Return the file that most likely holds a modality."""
    return recording.files.get(modality) or next(iter(recording.files.values()))


def _read_so_far(trials: Sequence[tuple[int, Trial]]) -> str:
    """Say how much was read, and how often what was corrected."""
    subjects = len({subject for subject, _ in trials})
    parts = [f"{_count(subjects, 'subject')}, {_count(len(trials), 'trial')}"]
    notes = Counter(note for _, trial in trials for note in trial.notes)
    parts += [f"{note} in {_count(n, 'trial')}" for note, n in sorted(notes.items())]
    return "; ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
