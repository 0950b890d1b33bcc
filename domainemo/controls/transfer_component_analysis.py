"""Transfer component analysis (Pan et al. 2011): axes on which domains are alike."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from ..values import Bounds
from .shared import MOST, Adapting, Features, by_blocks, drawn
from .transport import cost_scale, costs

__all__ = ["Kernel", "TransferComponentAnalysis", "transfer_components"]

Kernel = Literal["rbf", "linear"]


@register
class TransferComponentAnalysis(Adapting):
    """TCA: axes of a kernel space on which source and target have one mean.

    The components are ``K W`` with the leading eigenvectors `W` of
    ``(K L K + penalty I)^(-1) K H K``: `L` measures the squared difference of the
    domains' means in kernel space (MMD), `H` centres (Pan, Tsang, Kwok & Yang 2011).
    Each has variance 1. The linear model follows.

    It grows with the cube of the number of windows: the components are found on at most
    1000 drawn ones of the source, as many of every subject and class as is its share,
    and 1000 of the target; all windows are projected on them by their kernel with
    these, so that all of the source's train the model.

    Means are made alike: where class shares differ, a difference that tells the class
    may be given up, the more so the smaller the penalty.

    Parameters
    ----------
    dimensions : int
        How many components.
    penalty : float
        The weight of the components' size against the difference of means.
    kernel : {"rbf", "linear"}
        The radial one's width is the median distance between drawn windows.
    """

    words = (
        f"transfer component analysis on at most {MOST} drawn windows of source and "
        f"target each, then the linear model"
    )

    def __init__(
        self,
        *,
        dimensions: Annotated[int, Bounds(1)] = 20,
        penalty: Annotated[float, Bounds(above=0)] = 1.0,
        kernel: Kernel = "rbf",
    ) -> None:
        self.dimensions = dimensions
        self.penalty = penalty
        self.kernel: Kernel = kernel

    def adapt(
        self,
        source: Features,
        target: Features,
        tested: Features,
        labels: NDArray[np.int64],
        domains: NDArray[np.int64],
    ) -> tuple[Features, Features]:
        """Return the components of both."""
        classes = labels.max() + 1
        known = source[drawn(domains * classes + labels)]
        seen = target[drawn(np.zeros(len(target), dtype=np.int64))]
        both = np.concatenate([known, seen])
        width = _width(both) if self.kernel == "rbf" else None
        weights = transfer_components(
            _kernel(both, both, width), len(known), self.dimensions, self.penalty
        )

        def project(windows: Features) -> Features:
            out = np.empty((len(windows), weights.shape[1]))
            return by_blocks(windows, lambda x: _kernel(x, both, width) @ weights, out)

        return project(source), project(tested)


def transfer_components(
    kernel: Features, source: int, dimensions: int, penalty: float
) -> Features:
    """Return the weights `W` of the components ``K W``, the leading one first.

    As in the paper, ``W' K H K W`` is a multiple of the identity: here the number of
    windows, so that components have variance 1 over both domains together.

    Parameters
    ----------
    kernel : ndarray of float, shape (windows, windows)
        Between all windows, the source's first.
    source : int
        How many are the source's.
    dimensions : int
    penalty : float

    Returns
    -------
    ndarray of float, shape (windows, at most dimensions)
    """
    from scipy.linalg import eigh

    count = len(kernel)
    sign = np.full(count, 1 / source)
    sign[source:] = -1 / (count - source)
    gap = kernel @ sign  # K L K is the outer product of this with itself
    between = np.outer(gap, gap) + penalty * np.eye(count)
    centred = kernel - kernel.mean(0)
    number = min(dimensions, count)
    scatter = centred.T @ centred
    values, vectors = eigh(
        scatter, between, subset_by_index=(count - number, count - 1)
    )
    real = values > values[-1] * count * np.finfo(float).eps
    scale = np.sqrt(count / np.where(real, values, 1)) * real
    return np.asarray((vectors * scale)[:, ::-1])


def _kernel(one: Features, other: Features, width: float | None) -> Features:
    """Return the radial kernel of a width, or the linear one."""
    if width is None:
        return one @ other.T
    return np.asarray(np.exp(-costs(one, other) / width))


def _width(windows: Features) -> float:
    """Return the median squared distance between windows; 1 where all are equal."""
    pairs = costs(windows, windows)[np.triu_indices(len(windows), 1)]
    return cost_scale(pairs)
