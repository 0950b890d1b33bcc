"""Samplers by name, and a sampler that repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from ..training.seeds import derive_seed
from .cma_es import CovarianceAdaptation
from .settings import StudySettings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState

__all__ = ["RETRY_OF", "Repeatable", "first_of", "make_sampler", "place_of"]

RETRY_OF = "retry_of"
"""The attribute of a candidate that repeats another, whose process was killed."""


class Repeatable(BaseSampler):
    """Seeds a sampler anew for every candidate, by its place among all.

    What is drawn then depends on the study's seed, the place, and the finished
    candidates; not on how often the study was interrupted, and with the random sampler
    not on how many processes run it. A repeated candidate has its place already and
    counts for nothing.

    Parameters
    ----------
    settings : StudySettings
    workers : int
        Processes that draw at the same time; more than one where any draws several
        candidates before it tells of the first.
    """

    def __init__(self, settings: StudySettings, workers: int) -> None:
        self.settings, self.workers = settings, workers
        self._inner: BaseSampler = make_sampler(settings, settings.seed, workers, 0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this candidate."""
        place = place_of(study, trial)
        # Optuna's samplers take 32 bits.
        seed = derive_seed(self.settings.seed, "candidate", place) & 0xFFFFFFFF
        self._inner = make_sampler(self.settings, seed, self.workers, place)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Ask the sampler."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Ask the sampler."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Ask the sampler."""
        return self._inner.sample_independent(
            study, trial, param_name, param_distribution
        )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the sampler."""
        self._inner.after_trial(study, trial, state, values)


def first_of(trial: FrozenTrial) -> int:
    """Return the number of a candidate, or of the first one that it repeats."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))


def place_of(study: Study, trial: FrozenTrial) -> int:
    """Return how many candidates came before this one; repeated ones count once.

    Parameters
    ----------
    study : optuna.Study
        Of one that shows a part of another's candidates, as Hyperband makes them,
        those of the other count.
    trial : optuna.trial.FrozenTrial
    """
    first = first_of(trial)
    every = getattr(study, "_study", study).get_trials(deepcopy=False)
    return sum(t.number < first and RETRY_OF not in t.user_attrs for t in every)


def make_sampler(
    settings: StudySettings, seed: int, workers: int, number: int
) -> BaseSampler:
    """Return the sampler that the settings name.

    Parameters
    ----------
    settings : StudySettings
    seed : int
    workers : int
        Processes that draw at the same time.
    number : int
        The place of the candidate to be drawn.
    """
    match settings.sampler:
        case "random":
            return RandomSampler(seed=seed)
        case "cma-es":
            return CovarianceAdaptation(seed, number, order=first_of)
        case "gaussian-process":
            return GPSampler(seed=seed)
    return TPESampler(
        seed=seed,
        multivariate=True,
        group=True,
        # What others are trying counts as bad, so that processes try different things.
        constant_liar=workers > 1,
    )
