"""Choose a configuration by what the validator says, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial

from ..core import Validator
from ..statistics.ties import tied
from ..validators.comparing import all_sound, comparison
from .findings import SCORES, SOURCE_ONLY_CANDIDATE, SOURCE_ONLY_SCORES
from .storage import OPTIONS

__all__ = ["best_candidate", "chosen_options", "judged"]


def best_candidate(
    study: Study, classes: int, validator: Validator | None = None
) -> tuple[int, float, dict[int, float]] | None:
    """Return the number of the candidate to take, its value, and how all stand.

    The highest of what `judged` returns wins, the earlier candidate where two are
    equal. Source only takes part, and wins where nothing stands higher.

    Parameters
    ----------
    study : optuna.Study
    classes : int
    validator : Validator, optional
        Where it compares, see :class:`~domainemo.core.Validator`.

    Returns
    -------
    number : int
        -1 where source only wins.
    value : float
        The mean of the validator's scores, each by itself.
    standing : dict of int to float
        What `judged` returned.

        None where no candidate is complete, or none is sound and source only was not
        scored.
    """
    standing = judged(study, classes, validator)
    if not standing:
        return None
    # The last tie-break: not to adapt, of the lowest number, is the simpler thing.
    equal = dict(zip(standing, tied(np.array([*standing.values()])), strict=True))
    number = max(standing, key=lambda each: (equal[each], -each))
    return number, _values(study)[number], standing


def judged(
    study: Study, classes: int, validator: Validator | None = None
) -> dict[int, float]:
    """Return what every complete candidate is chosen by, and source only, -1.

    That is the mean of the validator's scores; of a validator that compares, the mean
    over folds and seeds of how each stands among the others there. Candidates are left
    out that never predict some class on any fold, or are no better than chance on
    held-out source subjects: a validator without labels can be fooled by such.

    Parameters
    ----------
    study, classes, validator
        As for `best_candidate`.
    """
    complete = _complete(study)
    if not complete:
        return {}
    scores = {each.number: each.user_attrs[SCORES] for each in complete}
    scores = {n: each for n, each in scores.items() if _is_sound(each, classes)}
    alone = study.user_attrs.get(SOURCE_ONLY_SCORES)
    if alone:
        scores[SOURCE_ONLY_CANDIDATE] = alone
    if scores and validator is not None and validator.compares:
        return _compared(scores, validator)
    values = _values(study)
    return {number: values[number] for number in scores}


def _complete(study: Study) -> list[FrozenTrial]:
    states = (optuna.trial.TrialState.COMPLETE,)
    return study.get_trials(deepcopy=False, states=states)


def _values(study: Study) -> dict[int, float]:
    """Return the mean of the validator's scores, each by itself."""
    values = {each.number: float(each.values[0]) for each in _complete(study)}
    alone = study.user_attrs.get(SOURCE_ONLY_SCORES)
    if alone:
        mean = float(np.mean([each["score"] for each in alone]))
        values[SOURCE_ONLY_CANDIDATE] = mean
    return values


def _compared(
    scores: Mapping[int, Sequence[Mapping[str, Any]]], validator: Validator
) -> dict[int, float]:
    """Return each candidate's mean score, compared with the others in every fold."""
    by_place = [
        comparison(validator, [each.get("evidence") for each in together])
        for together in zip(*scores.values(), strict=True)
    ]
    means = np.mean(by_place, axis=0).tolist()
    return dict(zip(scores, means, strict=True))


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
    return all_sound(predicted, held_out, classes)
