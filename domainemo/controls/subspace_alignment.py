"""Subspace alignment (Fernando et al. 2013): turn the source's axes to the target's."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from ..values import Bounds
from .shared import Adapting, Features, by_blocks

__all__ = ["SubspaceAlignment", "aligned_axes"]


@register
class SubspaceAlignment(Adapting):
    """Subspace alignment: the source's principal axes turned to the target's.

    With the first principal axes `P_s` and `P_t`, as columns, the source becomes
    ``(x - m_s) P_s P_s' P_t`` and the target ``(x - m_t) P_t`` (Fernando, Habrard,
    Sebban & Tuytelaars 2013); the linear model follows. The paper's number of axes
    comes of a bound or of cross-validation; here it is an option.

    Each domain is centred by its own mean: where class shares differ, a difference that
    tells the class is taken away.

    Parameters
    ----------
    dimensions : int
        How many axes; at most as many as each of both spans.
    """

    words = "subspace alignment: axes turned to the target's, then the linear model"

    def __init__(self, *, dimensions: Annotated[int, Bounds(1)] = 20) -> None:
        self.dimensions = dimensions

    def adapt(
        self,
        source: Features,
        target: Features,
        tested: Features,
        labels: NDArray[np.int64],
        domains: NDArray[np.int64],
    ) -> tuple[Features, Features]:
        """Return both in the target's subspace."""
        of_source, of_target = aligned_axes(source, target, self.dimensions)
        own, theirs = source.mean(0), target.mean(0)
        out = np.empty((len(source), of_source.shape[1]))
        moved = by_blocks(source, lambda x: (x - own) @ of_source, out)
        return moved, (tested - theirs) @ of_target


def aligned_axes(
    source: Features, target: Features, dimensions: int
) -> tuple[Features, Features]:
    """Return what projects the source, ``P_s P_s' P_t``, and the target, ``P_t``.

    Parameters
    ----------
    source, target : ndarray of float, shape (windows, features)
    dimensions : int

    Returns
    -------
    of_source, of_target : ndarray of float, shape (features, at most dimensions)
    """
    axes = [_axes(part, dimensions) for part in (source, target)]
    width = min(each.shape[1] for each in axes)
    of_source, of_target = (each[:, :width] for each in axes)
    return of_source @ (of_source.T @ of_target), of_target


def _axes(windows: Features, dimensions: int) -> Features:
    """Return the principal axes along which windows vary, one at least."""
    centred = windows - windows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    rank = int((values > values[-1] * len(values) * np.finfo(float).eps).sum())
    return np.asarray(vectors[:, ::-1][:, : max(min(dimensions, rank), 1)])
