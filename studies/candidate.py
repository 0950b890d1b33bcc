"""Train candidates on the folds that choose, and score them without a target label."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..choices import SELECTED_BY
from ..core import Inputs
from ..errors import DomainemoError, RunError
from ..parts import part
from ..runs.experiment import Experiment, is_population
from ..runs.folder import job_folder, read_csv
from ..runs.job import Job, is_finished, run_jobs
from ..runs.record import HISTORY, load_record
from ..runs.units import units
from ..training.loop import Report

__all__ = [
    "Candidate",
    "Score",
    "candidate_folder",
    "candidate_job",
    "train_candidates",
    "values_of",
]


@dataclass(frozen=True)
class Score:
    """What the training of one fold and one seed scored.

    Attributes
    ----------
    fold : str
    seed : int
    epoch : int
        The epoch that was kept.
    score : float
        The validator's.
    source_accuracy : float or None
        On held-out source domains, where the validator holds some out.
    predicted : tuple of int
        The classes that were predicted at all on the target.
    parameters : int
    seconds : float
    evidence : tuple of float or None
        What the validator compares candidates by, where it compares them.
    """

    fold: str
    seed: int
    epoch: int
    score: float
    source_accuracy: float | None
    predicted: tuple[int, ...]
    parameters: int
    seconds: float
    evidence: tuple[float, ...] | None = None

    def record(self) -> dict[str, Any]:
        """Return everything as a study keeps it; evidence where there is some."""
        found = asdict(self)
        if self.evidence is None:
            del found["evidence"]
        return found


class _Epochs:
    """Tells of an epoch once all that train as one program have ended it."""

    def __init__(self, tell: Callable[[Sequence[float], int], None], members: int):
        self.tell, self.ended = tell, 0
        self.best: list[list[float]] = [[] for _ in range(members)]

    def take(self, member: int, row: Mapping[str, float]) -> None:
        """Take note of a member's epoch, which may be told again on resuming."""
        best = self.best[member]
        if row["epoch"] <= len(best):
            return
        best.append(max(best[-1], row["score"]) if best else row["score"])
        while self.ended < min(map(len, self.best)):
            self.ended += 1
            self.tell([each[self.ended - 1] for each in self.best], self.ended)


class Watch(Protocol):
    """Is told how a candidate fares; may raise to end it."""

    def epoch(self, scores: Sequence[Score], best: Sequence[float], ended: int) -> None:
        """Take note of an epoch.

        Parameters
        ----------
        scores : sequence of Score
            Of the folds that are over.
        best : sequence of float
            What the best epoch so far scores of each that trains now: of one, or of all
            of a program.
        ended : int
            How many epochs each of these has had.
        """

    def fold(self, scores: Sequence[Score]) -> None:
        """Take note of a fold, the last in `scores`."""


class Candidate:
    """One set of choices, as it is trained and scored.

    Parameters
    ----------
    experiment : Experiment
        With the candidate's options.
    folder : Path
        The candidate's.
    watch : Watch, optional

    Attributes
    ----------
    scores : list of Score
        Of the folds and seeds that are over.
    failure : Exception or None
        What ended it, its watch for one.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, watch: Watch | None = None
    ) -> None:
        self.experiment, self.folder, self.watch = experiment, folder, watch
        self.scores: list[Score] = []
        self.failure: Exception | None = None

    def take(self, best: Sequence[float], ended: int) -> None:
        """Tell the watch of an epoch."""
        if self.watch is not None:
            self.watch.epoch(self.scores, best, ended)

    def report(self, epochs: _Epochs, member: int, row: Mapping[str, float]) -> None:
        """Take note of a member's epoch; end the member once the candidate is ended."""
        try:
            if self.failure is None:
                epochs.take(member, row)
        except Exception as error:
            self.failure = error
        if self.failure is not None:
            raise _Ended

    def finish(self, jobs: Sequence[Job]) -> None:
        """Score jobs that are finished."""
        try:
            for job in jobs:
                self.scores.append(_score(job, Path(job.folder)))
                if self.watch is not None:
                    self.watch.fold(self.scores)
        except Exception as error:
            self.failure = error


class _Ended(DomainemoError):
    """Ends a training whose candidate is ended, for a reason that is known there."""


def train_candidates(
    inputs: Inputs,
    candidates: Sequence[Candidate],
    jobs: Sequence[Job],
    processes: int = 1,
) -> None:
    """Train every job with each candidate's choices, and score it.

    Jobs that the experiment's engine stacks train as one program, those of several
    candidates too where these differ in numbers alone; all others in turn. What was
    finished before, as the process was killed, is not trained again.

    Parameters
    ----------
    inputs : Inputs
        All recordings, without labels.
    candidates : sequence of Candidate
        Each has its scores afterwards, or its failure.
    jobs : sequence of Job
        With the source's labels of each fold; their folders and adapters do not count.
    processes : int
        How many train candidates at once and share the memory.
    """
    for group in _alike(candidates):
        waiting = [
            (candidate_job(job, each.experiment, each.folder), each)
            for each in group
            for job in jobs
        ]
        # One worker: the others of a study have candidates of their own.
        chosen = group[0].experiment
        try:
            # A candidate in as few programs as can be, as pruners compare their means.
            for unit in units(inputs, chosen, waiting, 1, processes, len(jobs)):
                _train_unit(inputs, unit)
        except Exception as error:
            if len(group) == 1:
                group[0].failure = error
                continue
            for each in group:  # one's fault is not the others'
                if each.failure is None:
                    each.scores = []
                    train_candidates(inputs, [each], jobs, processes)


def _alike(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Divide candidates into those that can be one program, as far as options tell."""
    groups: dict[str, list[Candidate]] = {}
    for place, each in enumerate(candidates):
        together = is_population(each.experiment)
        described = _without_numbers(each.experiment) if together else place
        groups.setdefault(json.dumps(described, default=str), []).append(each)
    return list(groups.values())


def _without_numbers(experiment: Experiment) -> dict[str, Any]:
    """Describe choices but for the numbers that each training of a program may have."""
    found = experiment.describe()
    found["options"] = {
        name: "a number" if _is_own(name, value) else value
        for name, value in found["options"].items()
    }
    return found


def _is_own(name: str, value: object) -> bool:
    kind = name.partition(".")[0]
    # A weight of 0 may switch a part off.
    return kind in ("adapter", "training") and isinstance(value, float) and value != 0


def _train_unit(inputs: Inputs, unit: Sequence[tuple[Any, Candidate]]) -> None:
    """Train jobs that are one program, or one alone, and score them."""
    own: dict[Candidate, list[Job]] = {}
    for job, candidate in unit:
        if candidate.failure is None:
            own.setdefault(candidate, []).append(job)
    several: list[tuple[Candidate, Job, Report]] = []
    for candidate, jobs in own.items():
        epochs = _Epochs(candidate.take, len(jobs))
        for member, job in enumerate(jobs):
            report = partial(candidate.report, epochs, member)
            with suppress(_Ended):
                _tell_again(job, report)
            several.append((candidate, job, report))
    left = [each for each in several if each[0].failure is None]
    given = [(each.experiment, job, report) for each, job, report in left]
    try:
        failed = run_jobs(inputs, given) if given else ()
    except DomainemoError as error:
        if len(own) > 1:  # nobody knows whose it is
            raise
        failed = [(0, error)]
    for place, why in failed:
        candidate = left[place][0]
        candidate.failure = candidate.failure or why
    for candidate, jobs in own.items():
        if candidate.failure is None:
            candidate.finish(jobs)


def _tell_again(job: Job, report: Callable[[Mapping[str, float]], None]) -> None:
    """Report the epochs of a job that is finished."""
    if not is_finished(job):
        return
    # To the last bit, as the pruner was told them; not every pandas reads so.
    history = read_csv(Path(job.folder) / HISTORY, dtype=str).astype(float)
    for row in history.to_dict("records"):
        report({str(key): value for key, value in row.items()})


def candidate_job(job: Job, experiment: Experiment, folder: Path) -> Job:
    """Return the job of one fold as a candidate trains it.

    Parameters
    ----------
    job : Job
        With the source's labels; its folder and adapter do not count.
    experiment : Experiment
        With the candidate's options.
    folder : Path
        The candidate's.
    """
    adapter = experiment.adapter
    place = job_folder(folder, job.fold.name, job.seed, adapter.name)
    return replace(
        job,
        adapter=adapter,
        folder=str(place),
        keeps_model=False,
        origin=f"{job.origin}, {folder.name}" if job.origin else "",
    )


def source_only(experiment: Experiment) -> Experiment:
    """Return the same experiment without adaptation."""
    return replace(experiment, adapter=part("adapter", "none"))


def candidate_folder(study: Path, options: Mapping[str, Any]) -> Path:
    """Return where a candidate with these options is trained, in a study's folder."""
    content = json.dumps(dict(options), sort_keys=True, default=str)
    return study / "candidates" / sha256(content.encode()).hexdigest()[:12]


def values_of(scores: Sequence[Score], objectives: Sequence[str]) -> list[float]:
    """Return a candidate's value for each objective.

    Raises
    ------
    RunError
        If an objective needs what the validator does not give.
    """
    held_out = [each.source_accuracy for each in scores]
    if "source_accuracy" in objectives and None in held_out:
        raise RunError(
            "The objective source_accuracy needs source subjects held out of training. "
            f"Use the validator 'source' or {SELECTED_BY!r}."
        )
    found = {
        "validator": float(np.mean([each.score for each in scores])),
        "source_accuracy": float(np.mean([each or 0.0 for each in held_out])),
        "seconds": float(sum(each.seconds for each in scores)),
        "parameters": float(scores[0].parameters),
    }
    return [found[name] for name in objectives]


def _score(job: Job, folder: Path) -> Score:
    record = load_record(folder)
    facts = record.facts
    if facts["score"] is None:
        raise RunError(
            f"{job.name}: the validator's score is not finite, in any epoch. The loss "
            f"weights may be too large."
        )
    return Score(
        fold=job.fold.name,
        seed=job.seed,
        epoch=facts["epoch"],
        score=facts["score"],
        source_accuracy=facts["held_out"],
        predicted=tuple(record.predicted),
        parameters=facts["parameters"],
        seconds=facts["seconds"],
        evidence=_evidence(facts),
    )


def _evidence(facts: Mapping[str, Any]) -> tuple[float, ...] | None:
    found = facts.get("validator", {}).get("evidence")
    return None if found is None else tuple(found)
