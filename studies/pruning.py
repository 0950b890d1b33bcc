"""Pruners by name, and a Hyperband that knows nothing of killed candidates."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import HyperbandPruner

from .sampling import first_of, place_of
from .settings import StudySettings
from .storage import is_lost

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["RepeatableHyperband", "make_pruner"]

_FEW = 5  # candidates that run to their end before any is pruned
_NOWHERE = -1


class RepeatableHyperband(HyperbandPruner):
    """Hyperband (Li et al. 2018) that an interrupted study goes on with unchanged.

    A candidate's bracket depends on its place among all, which a repeated one keeps,
    and a killed one is in none: what it scored does not count against others.

    Parameters
    ----------
    min_resource, max_resource : int
        Epochs, over all folds.
    """

    def __init__(self, min_resource: int, max_resource: int) -> None:
        super().__init__(min_resource=min_resource, max_resource=max_resource)
        self._places: dict[int, int] = {}

    def _get_bracket_id(self, study: Study, trial: FrozenTrial) -> int:
        if not self._pruners:
            # Optuna waits for the first score, and samples from all brackets till then.
            self._try_initialization(study)
        if is_lost(trial):
            return _NOWHERE
        first = first_of(trial)
        if first not in self._places:  # it never changes
            self._places[first] = place_of(study, trial)
        placed = copy(trial)
        placed.number = self._places[first]
        return int(super()._get_bracket_id(study, placed))


def make_pruner(settings: StudySettings, folds: int, epochs: int) -> BasePruner:
    """Return the pruner that the settings name.

    Parameters
    ----------
    settings : StudySettings
    folds : int
        Trainings of one candidate.
    epochs : int
        Of each of them.
    """
    if not settings.prunes:
        return optuna.pruners.NopPruner()
    match settings.pruner:
        case "wilcoxon":
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1)
        case "hyperband":
            return RepeatableHyperband(max(epochs // 2, 1), folds * epochs)
    # One fold is one person: nothing is compared before a quarter of them.
    warm_up = max(folds * epochs // 4, epochs // 2, 1)
    return optuna.pruners.MedianPruner(n_startup_trials=_FEW, n_warmup_steps=warm_up)
