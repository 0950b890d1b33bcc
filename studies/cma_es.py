"""CMA-ES from what a study has tried, with no state of its own in the storage."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from cmaes import CMA
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.distributions import BaseDistribution

__all__ = ["CovarianceAdaptation"]


class CovarianceAdaptation(BaseSampler):
    """Draw from a normal distribution that follows the best candidates (Hansen 2016).

    It draws what Optuna's own sampler draws in one process. That one keeps its state
    pickled in the storage, where whoever shares it could put a program in its place;
    here the state is computed anew from the complete candidates. The first one gives
    the space, those after it are the generations. An option that is no number is drawn
    at random.

    Parameters
    ----------
    seed : int
    number : int
        Of the candidate that is drawn, in a study that nothing has interrupted.
    order : callable
        A candidate's place among all, to sort by.
    """

    def __init__(
        self, seed: int, number: int, order: Callable[[FrozenTrial], int]
    ) -> None:
        self.seed, self.number, self.order = seed, number, order
        self._independent = RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the numeric options that every complete candidate has."""
        common = intersection_search_space(study.get_trials(deepcopy=False))
        return {
            name: distribution
            for name, distribution in common.items()
            if not distribution.single()
            and not isinstance(distribution, CategoricalDistribution)
        }

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Draw from the distribution that the generations so far have led to."""
        if not search_space:
            return {}
        space = _SearchSpaceTransform(search_space, transform_0_1=True)
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
        tried = [
            (space.transform(each.params), sign * float(each.values[0]))
            for each in sorted(complete, key=self.order)[1:]
        ]
        dimensions = len(space.bounds)
        evolution = CMA(
            mean=np.full(dimensions, 0.5),
            sigma=1 / 6,
            bounds=space.bounds,
            n_max_resampling=10 * dimensions,
        )
        size, known = evolution.population_size, len(tried)
        while len(tried) >= size:
            evolution.tell(tried[:size])
            tried = tried[size:]
            if tried:
                # Storing and reading it rounds its covariance, in Optuna's and here.
                evolution = copy.deepcopy(evolution)
        random = np.random.RandomState(self.seed)
        if known <= size:
            random.randint(1, 2**31 - 2)  # its first generations begin with this one
        evolution.reseed_rng(int(random.randint(1, 2**16)) + self.number)
        return space.untransform(evolution.ask())

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw at random."""
        return self._independent.sample_independent(
            study, trial, param_name, param_distribution
        )
