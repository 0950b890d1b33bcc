"""What a process of a study does: draws candidates, trains them, tells their values."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from .. import files
from ..core import Inputs
from ..errors import RunError
from ..places import foreseen, naming_parts
from ..runs.experiment import is_population
from ..runs.folder import LOCK
from ..runs.job import Job
from ..runs.units import MOST
from .candidate import (
    Candidate,
    Score,
    candidate_folder,
    candidate_job,
    source_only,
    train_candidates,
    values_of,
)
from .findings import SCORES, SOURCE_ONLY_SCORES
from .pruning import make_pruner
from .sampling import RETRY_OF, Repeatable
from .settings import StudySettings
from .space import Space
from .storage import (
    DEATHS,
    INTERRUPTED,
    OPTIONS,
    WORKER,
    is_local,
    note_outcome,
    open_storage,
    worker_name,
)

__all__ = ["Task", "is_enough", "knows_source_only", "open_studies", "work"]


@dataclass(frozen=True)
class Task:
    """What every process of a search is handed.

    Of a target's labels it has those alone that are given for calibration.

    Attributes
    ----------
    space : Space
    settings : StudySettings
    address : str
        Of the storage.
    names : mapping of str to str
        The name of each Optuna study, by the fold that it is for.
    jobs : mapping of str to tuple of Job
        What a candidate of each study trains.
    folder : Path
        The study's.
    workers : int
    deadline : float or None
        No candidate is begun after it, in seconds since 1970.
    """

    space: Space
    settings: StudySettings
    address: str
    names: Mapping[str, str]
    jobs: Mapping[str, tuple[Job, ...]]
    folder: Path
    workers: int = 1
    deadline: float | None = None


def work(
    inputs: Inputs, task: Task, on_candidate: Callable[[], None] | None = None
) -> None:
    """Try candidates, alone or several at once, till there are enough or time is up."""
    for key, study in open_studies(task).items():
        jobs = task.jobs[key]
        several = _are_programs(task, jobs)
        study.sampler = Repeatable(task.settings, task.workers + several)
        _score_source_only(inputs, task, study, jobs)
        epochs = task.space.experiment.training.epochs
        study.pruner = make_pruner(task.settings, len(jobs), epochs)
        while True:
            with ExitStack() as asking:
                asking.enter_context(files.lock(task.folder / ".asking", wait=True))
                if is_enough(study, task):
                    break
                # Closed as soon as the candidate has its number, so that no other
                # process counts without it.
                trying = _Trying(inputs, task, jobs, asking)
                if several:
                    trying.several(study)
                else:
                    study.optimize(trying, n_trials=1, catch=(Exception,))
            if on_candidate is not None:
                on_candidate()


def _score_source_only(
    inputs: Inputs, task: Task, study: Study, jobs: Sequence[Job]
) -> None:
    """Have the validator score the network without adaptation; one process does it."""
    if knows_source_only(study, task):
        return
    folder = candidate_folder(task.folder, {})
    folder.mkdir(parents=True, exist_ok=True)
    with files.lock(folder / LOCK, wait=False) as held:
        if not held:  # another process is at it
            return
        alone = source_only(task.space.experiment)
        candidate = Candidate(alone, folder)
        train_candidates(inputs, [candidate], jobs, task.workers)
        if isinstance(candidate.failure, RunError):
            raise RunError(
                f"Source only, which every candidate is compared with, could not be "
                f"trained: {candidate.failure}"
            ) from candidate.failure
        if candidate.failure is not None:
            raise candidate.failure
        scores = [each.record() for each in candidate.scores]
        study.set_user_attr(SOURCE_ONLY_SCORES, scores)


def knows_source_only(study: Study, task: Task) -> bool:
    """Return whether source only was scored, or is the adapter itself."""
    adapter = task.space.experiment.adapter.name
    return adapter == "none" or SOURCE_ONLY_SCORES in study.user_attrs


def open_studies(task: Task) -> dict[str, Study]:
    """Open the Optuna studies that are there."""
    storage = open_storage(task.address)
    return {
        key: optuna.load_study(study_name=name, storage=storage)
        for key, name in task.names.items()
    }


def _are_programs(task: Task, jobs: Sequence[Job]) -> bool:
    """Return whether several candidates are tried at once, as one program.

    Not where other machines search as well: Optuna would not tell them of one that
    died with its candidates.
    """
    experiment = task.space.experiment
    if not is_population(experiment) or not is_local(task.address):
        return False
    job = candidate_job(jobs[0], experiment, task.folder)
    return job.why_alone(experiment) is None


class _Trying:
    """Draws candidates, trains them, tells their values."""

    def __init__(
        self, inputs: Inputs, task: Task, jobs: Sequence[Job], asking: ExitStack
    ) -> None:
        self.inputs, self.task, self.jobs, self.asking = inputs, task, jobs, asking

    def __call__(self, trial: Trial) -> list[float]:
        """Try one candidate, as Optuna asks for it."""
        with _noting(trial):
            with self.asking:
                candidate = self._begin(trial)
            self._train([candidate])
            values = self._values(candidate)
            note_outcome(trial, TrialState.COMPLETE, values)
        return values

    def several(self, study: Study) -> None:
        """Try as many candidates as make one program, or as are left."""
        begun: list[tuple[Trial, Candidate]] = []
        asked: list[Trial] = []
        try:
            with self.asking:
                for _ in range(_at_once(study, self.task, len(self.jobs))):
                    # What fails here is no candidate's fault, and the next would.
                    asked.append(study.ask())
                    with _ending(study, asked[-1]):
                        begun.append((asked[-1], self._begin(asked[-1])))
            self._train([candidate for _, candidate in begun])
        except KeyboardInterrupt as error:
            for trial in asked:
                _end(study, trial, error)
            raise
        for trial, candidate in begun:
            values = None
            with _ending(study, trial):
                values = self._values(candidate)
            if values is not None:
                note_outcome(trial, TrialState.COMPLETE, values)
                study.tell(trial, values)

    def _begin(self, trial: Trial) -> Candidate:
        """Draw a candidate."""
        trial.set_user_attr(WORKER, worker_name())
        options = self.task.space.draw(trial)
        experiment = self.task.space.experiment.with_options(options)
        trial.set_user_attr(OPTIONS, options)
        epochs = experiment.training.epochs
        watch = _Pruning(trial, self.task.settings, epochs, self.jobs)
        folder = candidate_folder(self.task.folder, options)
        return Candidate(experiment, folder, watch)

    def _train(self, candidates: Sequence[Candidate]) -> None:
        """Train candidates; of those that drew the very same options, one at a time."""
        own: dict[Path, Candidate] = {}
        for each in candidates:
            own.setdefault(each.folder, each)
        try:
            self._train_apart(own)
        except Exception as error:
            for each in own.values():
                each.failure = each.failure or error
        left = [each for each in candidates if each not in own.values()]
        if left:
            self._train(left)

    def _train_apart(self, own: Mapping[Path, Candidate]) -> None:
        """Train candidates, each in a folder of its own."""
        with ExitStack() as locks:
            # In order, as another process may have drawn them, too.
            for folder in sorted(own):
                folder.mkdir(parents=True, exist_ok=True)
                locks.enter_context(files.lock(folder / LOCK, wait=True))
            train_candidates(self.inputs, [*own.values()], self.jobs, self.task.workers)
            for each in own.values():
                if isinstance(each.failure, optuna.TrialPruned):
                    for unfinished in each.folder.rglob("*.partial"):
                        shutil.rmtree(unfinished, ignore_errors=True)

    def _values(self, candidate: Candidate) -> list[float]:
        if candidate.failure is not None:
            raise candidate.failure
        return values_of(candidate.scores, self.task.settings.objectives)


@contextmanager
def _noting(trial: Trial) -> Iterator[None]:
    """Note why a candidate ended, if something ends a block."""
    try:
        with naming_parts():
            yield
    except (Exception, KeyboardInterrupt) as error:
        state, reason = _outcome(error)
        note_outcome(trial, state, reason=reason)
        raise


@contextmanager
def _ending(study: Study, trial: Trial) -> Iterator[None]:
    """End a candidate, and go on, if something ends a block."""
    try:
        with naming_parts():
            yield
    except Exception as error:
        _end(study, trial, error)


def _end(study: Study, trial: Trial, error: BaseException) -> None:
    """Note why a candidate ended, and tell Optuna, unless it has ended."""
    state, reason = _outcome(error)
    with suppress(RuntimeError):  # of one that has ended
        note_outcome(trial, state, reason=reason)
        study.tell(trial, state=state)


def _outcome(error: BaseException) -> tuple[TrialState, str]:
    """Return how a candidate ended that something ended, and why."""
    if isinstance(error, optuna.TrialPruned):
        return TrialState.PRUNED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return TrialState.FAIL, INTERRUPTED
    return TrialState.FAIL, str(foreseen(error))


def _at_once(study: Study, task: Task, jobs: int) -> int:
    """Return how many candidates are begun together.

    They are drawn by the same that is known wherever a study was interrupted: those
    that were under way come first, and others with them only if they were too few.
    """
    trials = study.get_trials(deepcopy=False)
    again = [each.user_attrs for each in trials if each.state == TrialState.WAITING]
    first = sum(RETRY_OF not in each.user_attrs for each in trials)
    left = max(task.settings.candidates - first, 0)
    size = max(min(MOST // jobs, -(-task.settings.candidates // task.workers)), 1)
    new = min(-first % size or (0 if again else size), left)
    killed = all(OPTIONS in each and each.get(DEATHS) for each in again)
    if again and killed and not new:
        return 1  # one of them may have killed the others' process
    return min(len(again) + new, max(size, new))


class _Pruning:
    """Tells Optuna how a candidate fares, and ends it where it falls behind."""

    def __init__(
        self,
        trial: Trial,
        settings: StudySettings,
        epochs: int,
        jobs: Sequence[Job],
    ) -> None:
        self.trial, self.settings, self.epochs, self.jobs = (
            trial,
            settings,
            epochs,
            jobs,
        )

    def epoch(self, scores: Sequence[Score], best: Sequence[float], ended: int) -> None:
        """Compare the mean over folds so far, with the best epochs of those at it."""
        if self.settings.pruner == "wilcoxon" or not self.settings.prunes:
            return
        value = float(np.mean([*(each.score for each in scores), *best]))
        step = len(scores) * self.epochs + ended * len(best)
        first, last = len(scores) + 1, len(scores) + len(best)
        several = f"trainings {first} to {last}"
        where = f"training {first}" if first == last else several
        self._compare(value, step, where, ended)

    def fold(self, scores: Sequence[Score]) -> None:
        """Note a fold's score; compare fold by fold where the pruner does."""
        self.trial.set_user_attr(SCORES, [each.record() for each in scores])
        if self.settings.pruner == "wilcoxon" and self.settings.prunes:
            where, step = f"training {len(scores)}", len(scores) - 1
            self._compare(scores[-1].score, step, where, self.epochs)

    def _compare(self, value: float, step: int, where: str, epoch: int) -> None:
        if not math.isfinite(value):
            return
        self.trial.report(value, step)
        if not self.trial.should_prune():
            return
        reason = (
            f"fell behind in {where} of {len(self.jobs)}, epoch {epoch}, at {value:.3f}"
        )
        raise optuna.TrialPruned(reason)


def is_enough(study: Study, task: Task) -> bool:
    """Return whether nothing is left to begin."""
    if task.deadline is not None and time.time() > task.deadline:
        return True
    trials = study.get_trials(deepcopy=False)
    if any(each.state == TrialState.WAITING for each in trials):
        return False
    first = [each for each in trials if RETRY_OF not in each.user_attrs]
    return len(first) >= task.settings.candidates
