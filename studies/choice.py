"""Choose a configuration by what the validator says, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from .findings import SCORES, SOURCE_ONLY_CANDIDATE, SOURCE_ONLY_SCORES
from .storage import OPTIONS

__all__ = ["best_candidate", "chosen_options"]


def best_candidate(study: Study, classes: int) -> tuple[int, float] | None:
    """Return the number and the value of the candidate to take.

    The highest validator's score wins, the earlier candidate where two are equal.
    Candidates are left out that never predict some class on any fold, or are no better
    than chance on held-out source subjects: a validator without labels can be fooled
    by such. Source only takes part, and wins where nothing scores higher.

    Parameters
    ----------
    study : optuna.Study
    classes : int

    Returns
    -------
    number : int
        -1 where source only wins.
    value : float

        None where no candidate is complete, or none is sound and source only was not
        scored.
    """
    complete = study.get_trials(
        deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)
    )
    if not complete:
        return None
    found = [
        (float(each.values[0]), -each.number)
        for each in complete
        if _is_sound(each.user_attrs[SCORES], classes)
    ]
    alone = study.user_attrs.get(SOURCE_ONLY_SCORES)
    if alone:
        value = float(np.mean([each["score"] for each in alone]))
        # The last tie-break: not to adapt is the simpler thing.
        found.append((value, 1))
    if not found:
        return None
    value, number = max(found)
    return (SOURCE_ONLY_CANDIDATE if number > 0 else -number), value


def chosen_options(study: Study, number: int) -> dict[str, Any]:
    """Return the options of a candidate, by full name; none of source only."""
    if number == SOURCE_ONLY_CANDIDATE:
        return {}
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
    return dict(trials[number].user_attrs[OPTIONS])


def _is_sound(scores: Sequence[Mapping[str, Any]], classes: int) -> bool:
    """Return whether all classes occur, and the source is better than by chance."""
    predicted = {label for each in scores for label in each["predicted"]}
    held_out = [each["source_accuracy"] for each in scores]
    known = [each for each in held_out if each is not None]
    better = not known or float(np.mean(known)) > 1 / classes
    return len(predicted) == classes and better
