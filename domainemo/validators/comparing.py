"""Several networks compared by one validator: the one place where they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..core import Validator
from ..places import called, contract_error

__all__ = ["all_sound", "comparison"]


def comparison(
    validator: Validator, found: Sequence[Sequence[float] | None]
) -> list[float]:
    """Return the score of each of several networks, in their order.

    Parameters
    ----------
    validator : Validator
    found : sequence of sequence of float, or None
        The evidence of each; None where the validator could not tell.

    Returns
    -------
    list of float
        Minus infinity where there is none, or it is no number; the others are compared
        among themselves.
    """
    places = [place for place, each in enumerate(found) if each is not None]
    scores = [-math.inf] * len(found)
    if not places:
        return scores
    told = validator.compare([found[place] or () for place in places])
    if not isinstance(told, Sequence) or len(told) != len(places):
        raise contract_error(
            validator, "compare", called(told), f"{len(places)} numbers, one of each"
        )
    for place, score in zip(places, map(float, told), strict=True):
        scores[place] = score if math.isfinite(score) else -math.inf
    return scores


def all_sound(
    predicted: Iterable[int], held_out: Iterable[float | None], classes: int
) -> bool:
    """Return whether a method has not collapsed, over all its folds together.

    Parameters
    ----------
    predicted : iterable of int
        The classes that it predicts anywhere.
    held_out : iterable of float or None
        Its balanced accuracies on held-out source domains; None where there are none.
    classes : int

    Returns
    -------
    bool
        Whether all classes occur, and the mean of what is known of the source is
        better than chance.
    """
    known = [each for each in held_out if each is not None]
    # A constant network is at chance, whatever rounding makes of its mean.
    better = not known or sum(known) / len(known) > 1 / classes + 1e-9
    return len(set(predicted)) == classes and better
