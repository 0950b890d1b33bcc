"""Train one candidate on the folds that choose, and score it without a target label."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..choices import SELECTED_BY
from ..core import Inputs
from ..errors import RunError
from ..parts import part
from ..runs.experiment import Experiment
from ..runs.folder import job_folder, read_csv
from ..runs.job import Job, is_finished, run_jobs
from ..runs.record import HISTORY, load_record
from ..runs.units import units

__all__ = [
    "Score",
    "candidate_folder",
    "candidate_job",
    "train_candidate",
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


def train_candidate(
    inputs: Inputs,
    experiment: Experiment,
    jobs: Sequence[Job],
    folder: Path,
    watch: Watch | None = None,
) -> list[Score]:
    """Train every job with these choices and return what the validator says of each.

    Jobs that the experiment's engine stacks train as one program, all others in turn.
    What was finished before, as the process was killed, is not trained again.

    Parameters
    ----------
    inputs : Inputs
        All recordings, without labels.
    experiment : Experiment
        With the candidate's options.
    jobs : sequence of Job
        With the source's labels of each fold; their folders and adapters do not count.
    folder : Path
        The candidate's.
    watch : Watch, optional

    Raises
    ------
    RunError
        If training diverges, or the validator's score is not finite.
    """
    scores: list[Score] = []
    ours = [candidate_job(job, experiment, folder) for job in jobs]

    def tell(best: Sequence[float], ended: int) -> None:
        if watch is not None:
            watch.epoch(scores, best, ended)

    # One worker: the others of a study have candidates of their own.
    waiting = [(job, place) for place, job in enumerate(ours)]
    for unit in units(inputs, experiment, waiting, workers=1):
        own, epochs = [ours[place] for _, place in unit], _Epochs(tell, len(unit))
        reports = [partial(epochs.take, member) for member in range(len(own))]
        for job, report in zip(own, reports, strict=True):
            _tell_again(job, report)
        for _, error in run_jobs(inputs, experiment, own, reports):
            raise error
        for job in own:
            scores.append(_score(job, Path(job.folder)))
            if watch is not None:
                watch.fold(scores)
    return scores


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
        predicted=tuple(map(int, np.unique(record.probabilities.argmax(1)))),
        parameters=facts["parameters"],
        seconds=facts["seconds"],
        evidence=_evidence(facts),
    )


def _evidence(facts: Mapping[str, Any]) -> tuple[float, ...] | None:
    found = facts.get("validator", {}).get("evidence")
    return None if found is None else tuple(found)
