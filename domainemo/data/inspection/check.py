"""Whether a data set is sound, told before anything is trained on it.

:func:`check` reads everything once and reports every file that does not fit, what was
corrected, and what loads but looks wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...core import TRIAL, Dataset, Modality
from ...errors import DataError, data_error
from ...words import count
from ..labels import check_trials
from ..loading import named
from ..reader import OnRead, Reader, Recording, Trial
from ..soundness import (
    contents,
    copies_error,
    lost_channels,
    lost_channels_error,
    lost_modalities_error,
    single_class_error,
    trials_in_words,
)

__all__ = ["MUCH_MISSING", "Check", "Correction", "Finding", "Problem", "check"]

MUCH_MISSING = 0.2
"""The share of NaN in a subject's session from which on :func:`check` warns."""

Place = tuple[Any, Any]
"""A subject and a session."""


@dataclass(frozen=True)
class Problem:
    """Something that cannot be read, and that loading would refuse.

    Attributes
    ----------
    recording : str
        Which recording, empty where the trouble is with the folder.
    message : str
        The file, the key, what was found, what was expected and what to do.
    """

    recording: str
    message: str


@dataclass(frozen=True)
class Correction:
    """A note that readers left on trials.

    Attributes
    ----------
    note : str
    trials : int
        How many trials it happened to.
    recordings : tuple of str
        In which recordings.
    """

    note: str
    trials: int
    recordings: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """Something that loads and is suspicious.

    Attributes
    ----------
    text : str
        A sentence without a full stop.
    places : tuple of str
        Subjects or sessions it is true of; empty where it is true of everything.
    """

    text: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """What :func:`check` found.

    Attributes
    ----------
    title : str
        The data set and the choices it was read with.
    release : str
        Which release it looks like; empty where there are no files to tell.
    files, size : int
        Number of files, and their bytes; 0 where the data set has no such list.
    recordings, subjects, trials, windows : int
        What could be read.
    absent : tuple of str
        What the full release has and the folder lacks.
    problems : tuple of Problem
    corrections : tuple of Correction
    warnings : tuple of Finding
    missing : mapping of str to float
        Share of values that are NaN, by modality.
    """

    title: str
    release: str = ""
    files: int = 0
    size: int = 0
    recordings: int = 0
    subjects: int = 0
    trials: int = 0
    windows: int = 0
    absent: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    corrections: tuple[Correction, ...] = ()
    warnings: tuple[Finding, ...] = ()
    missing: Mapping[str, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether everything that is there can be read, and trained on."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """The outcome as a sentence."""
        if not self.usable:
            return f"Not usable: {count(len(self.problems), 'problem')}."
        text = (
            f"Usable: {count(self.recordings, 'recording')} of "
            f"{count(self.subjects, 'subject')}"
        )
        if self.warnings:
            text += f", with {count(len(self.warnings), 'warning')}"
        return f"{text}."

    def record(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {**asdict(self), "usable": self.usable, "verdict": self.verdict}


def check(
    dataset: str | PathLike[str] | type[Dataset] | Dataset,
    root: str | Path | None = None,
    *,
    jobs: int | None = 1,
    on_read: OnRead | None = None,
    **options: Any,
) -> Check:
    """Read everything and report what does not fit, instead of stopping at it.

    No more than a few recordings are in memory at a time.

    Parameters
    ----------
    dataset : str, path, type or Dataset
        As of :func:`domainemo.load`: a registered name, such as ``"seed-iv"``, the path
        of a table folder, a class, or an object of one. What is no reader of files is
        loaded as a whole.
    root : path, optional
        Where the files lie; else the environment's ``DOMAINEMO_DATA``.
    jobs : int or None
        Files read at once, each in a process of its own; None decides by the files.
    on_read : callable, optional
        Told after each recording.
    **options
        The data set's own options, see its docstring.

    Returns
    -------
    Check

    Examples
    --------
    >>> found = check("seed-iv", "recordings")
    >>> print(found.usable, found.verdict)
    """
    dataset = named(dataset, root, options)
    if isinstance(dataset, Reader):
        return _check_files(dataset, jobs, on_read)
    return _check_whole(dataset)


def _check_files(reader: Reader, jobs: int | None, on_read: OnRead | None) -> Check:
    try:
        recordings, release = reader.recordings(), reader.release()
        absent, files = tuple(reader.missing()), reader.files()
    except DataError as error:
        return Check(reader.title(), problems=(Problem("", str(error)),))
    contents = _Contents(reader.modalities(), reader.classes)
    for number, (recording, read) in enumerate(reader.read_all(recordings, jobs), 1):
        contents.add_recording(recording, read)
        if on_read:
            on_read(number, len(recordings), recording.name)
    return contents.report(
        title=reader.title(),
        release=release,
        files=len(files),
        size=sum(path.stat().st_size for path in files if path.is_file()),
        recordings=len(recordings),
        absent=absent,
    )


def _check_whole(dataset: Dataset) -> Check:
    try:
        data = dataset.load()
    except DataError as error:
        title = str(getattr(dataset, "registered_name", type(dataset).__name__))
        return Check(title, problems=(Problem("", str(error)),))
    contents = _Contents(data.inputs.modalities, data.classes)
    try:
        check_trials(data)
    except DataError as error:
        contents.problems.append(Problem("", str(error)))
    groups = data.inputs.windows.groupby(TRIAL, sort=False).indices
    start = data.inputs.windows["start"].to_numpy()
    for trial, unordered in groups.items():
        rows = unordered[np.argsort(start[unordered], kind="stable")]
        subject, session, number = cast(tuple[Any, Any, Any], trial)
        signals = {name: array[rows] for name, array in data.inputs.signals.items()}
        contents.add((subject, session), number, signals, data.labels[rows])
    return contents.report(title=data.inputs.name, recordings=len(contents.values))


class _Contents:
    """What was read, kept as sums and digests so that signals can be forgotten."""

    def __init__(
        self, modalities: Mapping[str, Modality], classes: tuple[str, ...]
    ) -> None:
        self.modalities, self.classes = modalities, classes
        self.values: dict[Place, dict[str, _Values]] = {}
        self.labels: defaultdict[Place, set[int]] = defaultdict(set)
        self.problems: list[Problem] = []
        self.empty: list[str] = []
        self.notes: Counter[str] = Counter()
        self.noted: defaultdict[str, list[str]] = defaultdict(list)
        self.numbers: Counter[tuple[Any, int, int]] = Counter()
        self.copies: defaultdict[bytes, list[tuple[Any, Any, Any]]] = defaultdict(list)
        self.trials = self.windows = 0

    def add_recording(
        self, recording: Recording, read: Sequence[Trial | DataError]
    ) -> None:
        """Take in what a reader made of a recording."""
        if not read:
            self.empty.append(recording.name)
        for trial in read:
            if isinstance(trial, DataError):
                self.problems.append(Problem(recording.name, str(trial)))
            elif not 0 <= trial.label < len(self.classes):
                self.problems.append(self._unknown_class(recording, trial))
            else:
                place = recording.subject, trial.session
                self.numbers[(*place, trial.trial)] += 1
                self.add(place, trial.trial, trial.signals, [trial.label])
                self._note(recording.name, trial.notes)

    def add(
        self,
        place: Place,
        number: Any,
        signals: Mapping[str, NDArray[np.floating]],
        labels: Iterable[int],
    ) -> None:
        """Take in a trial."""
        if place not in self.values:
            self.values[place] = {
                name: _Values(modality) for name, modality in self.modalities.items()
            }
        for name, values in self.values[place].items():
            values.add(np.asarray(signals[name], dtype=np.float32))
        for mark in contents(signals[name] for name in self.modalities):
            self.copies[mark].append((*place, number))
        self.labels[place].update(map(int, labels))
        self.trials += 1
        self.windows += len(next(iter(signals.values())))

    def _note(self, recording: str, notes: Iterable[str]) -> None:
        for note in set(notes):
            self.notes[note] += 1
            if recording not in self.noted[note][-1:]:
                self.noted[note].append(recording)

    def _unknown_class(self, recording: Recording, trial: Trial) -> Problem:
        error = data_error(
            f"{recording.name}, session {trial.session}, trial {trial.trial}",
            f"the class number {trial.label}",
            f"0 to {len(self.classes) - 1} ({', '.join(self.classes)})",
            "Check that the file of labels is the publisher's.",
        )
        return Problem(recording.name, str(error))

    # ---------------------------------------------------------------------- report

    def report(self, *, title: str, recordings: int, **files: Any) -> Check:
        """Return the report; `files` are further fields of it."""
        if not self.trials and not self.problems:
            error = data_error(title, "no trial", "at least one", "Check its options.")
            self.problems.append(Problem("", str(error)))
        self.problems += [Problem("", str(error)) for error in self._refused(title)]
        return Check(
            title,
            recordings=recordings,
            subjects=len({subject for subject, _ in self.values}),
            trials=self.trials,
            windows=self.windows,
            problems=tuple(self.problems),
            corrections=tuple(
                Correction(note, times, tuple(self.noted[note]))
                for note, times in sorted(self.notes.items())
            ),
            warnings=tuple(self._warnings()),
            missing=self._missing(),
            **files,
        )

    def _refused(self, title: str) -> Iterator[DataError]:
        """Yield what reads well, and training refuses whatever the protocol is."""
        observed: defaultdict[Any, Any] = defaultdict(lambda: defaultdict(int))
        classes: defaultdict[Any, set[int]] = defaultdict(set)
        for (subject, session), values in self.values.items():
            classes[subject] |= self.labels[subject, session]
            for name, each in values.items():
                observed[name][subject] += each.observed
        nowhere = [
            name for name, of in observed.items() if not any(map(np.any, of.values()))
        ]
        if nowhere:
            others = [name for name in self.modalities if name not in nowhere]
            yield lost_modalities_error(title, nowhere, others)
        for name, of in observed.items():
            channels = np.array(self.modalities[name].channels)
            lost = {
                who: channels[lost_channels(each)].tolist() for who, each in of.items()
            }
            lost = {who: out for who, out in lost.items() if out}
            if lost:
                yield lost_channels_error(title, name, lost)
        alone = {who: held for who, held in classes.items() if len(held) == 1}
        if alone:
            yield single_class_error(
                title, {who: self.classes[min(held)] for who, held in alone.items()}
            )
        copied = {
            tuple(trials_in_words(trials)): None
            for trials in self.copies.values()
            if len({subject for subject, _, _ in trials}) > 1
        }
        if copied:
            yield copies_error(title, list(copied))

    def _missing(self) -> dict[str, float]:
        shares = {}
        for name in self.modalities:
            held = [values[name] for values in self.values.values()]
            total = sum(each.total for each in held)
            shares[name] = sum(each.missing for each in held) / total if total else 0.0
        return shares

    def _warnings(self) -> Iterator[Finding]:
        if self.empty:
            yield Finding("there is no trial to read", tuple(self.empty))
        yield from self._repeated_numbers()
        yield from self._without_a_modality()
        yield from self._dead_channels()
        yield from self._much_missing()
        yield from self._copies()
        yield from self._absent_classes()

    def _repeated_numbers(self) -> Iterator[Finding]:
        places = tuple(
            f"{self._name((subject, session))}, trial {trial}"
            for (subject, session, trial), times in self.numbers.items()
            if times > 1
        )
        if places:
            yield Finding("a trial number that occurs more than once", places)

    def _without_a_modality(self) -> Iterator[Finding]:
        for name in self.modalities:
            places = tuple(f"subject {each}" for each in self._lacking(name))
            if places:
                yield Finding(
                    f"{name}: not one value, all NaN; leave these subjects out with "
                    f"--exclude, or the modality with --modalities",
                    places,
                )

    def _lacking(self, modality: str) -> list[Any]:
        """Return the subjects without one value in a modality."""
        held: Counter[Any] = Counter()
        for (subject, _), values in self.values.items():
            held[subject] += values[modality].total - values[modality].missing
        return [subject for subject, number in held.items() if not number]

    def _dead_channels(self) -> Iterator[Finding]:
        for name, modality in self.modalities.items():
            found: defaultdict[tuple[str, tuple[str, ...]], list[str]]
            found = defaultdict(list)
            for place, values in self.values.items():
                for what, dead in values[name].dead().items():
                    channels = tuple(np.array(modality.channels)[dead].tolist())
                    if channels:
                        found[what, channels].append(self._name(place))
            for (what, channels), places in found.items():
                yield Finding(f"{name}: {what} in {_listed(channels)}", tuple(places))

    def _much_missing(self) -> Iterator[Finding]:
        for name in self.modalities:
            lacking = self._lacking(name)
            places = tuple(
                f"{self._name(place)}: {values[name].share:.0%}"
                for place, values in self.values.items()
                if place[0] not in lacking and values[name].share > MUCH_MISSING
            )
            if places:
                yield Finding(
                    f"{name}: more than {MUCH_MISSING:.0%} of the values are NaN",
                    places,
                )

    def _copies(self) -> Iterator[Finding]:
        """Find sessions that hold the same signals: one file under several names."""
        copies: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for name in self.modalities:
            alike: defaultdict[bytes, list[str]] = defaultdict(list)
            for place, values in self.values.items():
                if values[name].varies:
                    alike[values[name].digest.digest()].append(self._name(place))
            for places in alike.values():
                if len(places) > 1:
                    copies[tuple(places)].append(name)
        for all_places, names in copies.items():
            yield Finding(
                f"{' and '.join(names)}: the same signals, bit for bit, in more than "
                f"one place; most likely one file under several names",
                all_places,
            )

    def _absent_classes(self) -> Iterator[Finding]:
        of_subject: defaultdict[Any, set[int]] = defaultdict(set)
        for (subject, _), labels in self.labels.items():
            of_subject[subject] |= labels
        for label, title in enumerate(self.classes):
            text = f"no trial of class {title!r}"
            without = [s for s, labels in of_subject.items() if label not in labels]
            if of_subject and len(without) == len(of_subject):
                yield Finding(f"{text} at all")
                continue
            if without:
                yield Finding(text, tuple(f"subject {each}" for each in without))
            sessions = self._sessions_without(label, without)
            if sessions:
                yield Finding(text, sessions)

    def _sessions_without(self, label: int, subjects: Sequence[Any]) -> tuple[str, ...]:
        """Name the sessions without a class, of other than these subjects."""
        others = [place for place in self.labels if place[0] not in subjects]
        without = [place for place in others if label not in self.labels[place]]
        names = []
        for session in dict.fromkeys(session for _, session in without):
            those = [place for place in without if place[1] == session]
            of_all = len(those) == sum(place[1] == session for place in others)
            if of_all and len(those) > 1:
                names.append(f"session {session} of every subject")
            else:
                names += [self._name(place) for place in those]
        return tuple(names)

    def _name(self, place: Place) -> str:
        """Name a session, or its subject where there is one session each."""
        subject, session = place
        if len({session for _, session in self.values}) == 1:
            return f"subject {subject}"
        return f"subject {subject}, session {session}"


class _Values:
    """What one modality held throughout one subject's session."""

    def __init__(self, modality: Modality) -> None:
        shape = len(modality.channels), len(modality.features)
        self.low = np.full(shape, np.nan, dtype=np.float32)
        self.high = self.low.copy()
        self.observed = np.zeros(shape[0], dtype=np.int64)  # windows, by channel
        self.windows = self.total = self.missing = 0
        self.digest = sha256()

    def add(self, signal: NDArray[np.float32]) -> None:
        known = ~np.isnan(signal)
        with np.errstate(invalid="ignore"):
            self.low = np.fmin(self.low, np.fmin.reduce(signal, axis=0))
            self.high = np.fmax(self.high, np.fmax.reduce(signal, axis=0))
        self.observed += known.any(axis=2).sum(axis=0)
        self.windows += len(signal)
        self.total += signal.size
        self.missing += signal.size - int(known.sum())
        self.digest.update(np.ascontiguousarray(signal).data)

    @property
    def share(self) -> float:
        """Share of values that are NaN."""
        return self.missing / self.total

    @property
    def varies(self) -> bool:
        """Whether anything changes from window to window."""
        return bool((self.low < self.high).any())

    def dead(self) -> dict[str, NDArray[np.bool_]]:
        """Return which channels never change, and which were never observed."""
        changes = (self.low < self.high).any(axis=1)
        lost = self.observed == 0
        # A modality that was lost as a whole is another finding.
        lost_alone = lost & (not lost.all())
        return {
            "one and the same value throughout": ~changes & (self.observed > 1),
            "nothing but NaN throughout": lost_alone,
        }


def _listed(names: Sequence[str], most: int = 6) -> str:
    """Return names, the first few where there are many."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{len(names)} channels ({text}, ...)"
