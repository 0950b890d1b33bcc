"""What a network attended to, and how it offers to say so."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Connected", "Connectivity", "Explainable", "Explanation"]


@dataclass(frozen=True)
class Explanation:
    """What the network attended to.

    Attributes
    ----------
    regions : tuple of str
        Names of the brain regions.
    spatial : Tensor of shape (batch, regions)
        Weight of each region in the fused view; sums to one over regions.
    temporal : mapping of str to Tensor of shape (batch, regions, heads, time, time)
        Per companion modality: how far each EEG window (fourth axis) listens to each
        of the companion's windows (last axis). Sums to one over the windows that the
        companion recorded, and is zero where it recorded none.
    """

    regions: tuple[str, ...]
    spatial: Tensor
    temporal: Mapping[str, Tensor]


@runtime_checkable
class Explainable(Protocol):
    """What a backbone has that can say which brain regions it attends to.

    No class to inherit from: a backbone with these three is interpreted.

    Attributes
    ----------
    eeg : str
        The name of the EEG modality.
    electrodes : mapping of str to tuple of str
        The electrodes of each region, in the order of :attr:`Explanation.regions`.
    """

    eeg: str
    electrodes: Mapping[str, tuple[str, ...]]

    def explain(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Explanation:
        """Return what the network attends to in a batch.

        Parameters
        ----------
        signals, masks
            As for the backbone's `forward`.
        """


@dataclass(frozen=True)
class Connectivity:
    """The edges of a network's graphs, between brain regions.

    Attributes
    ----------
    regions : tuple of str
        Names of the brain regions.
    weights : mapping of str to Tensor of shape (regions, regions)
        Per graph: the mean weight of the edges between two regions.
    """

    regions: tuple[str, ...]
    weights: Mapping[str, Tensor]


@runtime_checkable
class Connected(Protocol):
    """What a backbone has whose regions are joined by edges.

    No class to inherit from, as with :class:`Explainable`.

    Attributes
    ----------
    eeg : str
        The name of the EEG modality.
    electrodes : mapping of str to tuple of str
        The electrodes of each region, in the order of :attr:`Connectivity.regions`.
    """

    eeg: str
    electrodes: Mapping[str, tuple[str, ...]]

    def connectivity(self) -> Connectivity:
        """Return the edges as they are."""

    def without_edges(self, first: str, second: str) -> AbstractContextManager[None]:
        """Return a context in which two regions, or one twice, have no edge.

        Parameters
        ----------
        first, second : str
        """
