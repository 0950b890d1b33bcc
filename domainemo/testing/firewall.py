"""Labels that no training may see, replaced by noise in a single fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..backbones.layers import masked_mean
from ..core import FUSION, TRIAL, Backbone, EmotionData, Fold, Modality, Protocol
from ..parts import Part
from ..runs.checks import canonical
from ..runs.folds import provenance
from ..samplings.windows import Windows

__all__ = ["SMALL_NETWORK", "FirstFold", "with_random_target_labels"]


class _SmallNetwork(Backbone):
    """One hidden layer a modality, with both kinds of normalisation.

    Parameters
    ----------
    modalities : mapping of str to Modality
    """

    def __init__(self, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.sampling = Windows()
        self.branches = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(len(m.channels) * len(m.features), 8),
                    nn.BatchNorm1d(8),
                    nn.ReLU(),
                )
                for name, m in modalities.items()
            }
        )
        self.norm = nn.LayerNorm(8)

    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return an embedding per modality, and their mean as the fusion's."""
        found = {
            name: branch(masked_mean(signals[name].flatten(2), masks[name]))
            for name, branch in self.branches.items()
        }
        fused = torch.stack(list(found.values())).mean(0)
        return {**found, FUSION: self.norm(fused)}


SMALL_NETWORK = Part("backbone", "small-network", cls=_SmallNetwork)
"""For adapters that need layers which not every network has."""


class FirstFold(Protocol):
    """Only the first fold of another protocol.

    One fold's target is the source of the next: the label firewall can be tried on a
    single fold only.

    Parameters
    ----------
    protocol : Protocol
        The protocol that is cut short.
    """

    domain = "subject"

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.domain = protocol.domain  # type: ignore[misc]

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield one fold."""
        yield next(iter(self.protocol.split(windows)))


def with_random_target_labels(
    data: EmotionData, protocol: Protocol, *, seed: int = 0
) -> EmotionData:
    """Replace the labels that no training may see by noise.

    Parameters
    ----------
    data : EmotionData
    protocol : Protocol
        The labels of the target and test windows of its first fold are replaced.
    seed : int

    Returns
    -------
    EmotionData
        In canonical order, with one label a trial and, where the fold's target has two
        trials, at least two classes among the new labels.
    """
    data = data.take(canonical(data.inputs))
    fold = next(iter(protocol.split(provenance(data.inputs))))
    rows = np.union1d(fold.target, fold.test)
    labels = data.labels.copy()
    generator = np.random.default_rng(seed)
    trials = data.inputs.windows.iloc[rows].groupby(TRIAL, sort=False).ngroup()
    drawn = generator.integers(len(data.classes), size=trials.max() + 1)
    drawn[:2] = (0, 1)[: len(drawn)]
    labels[rows] = drawn[trials]
    if np.array_equal(labels, data.labels):
        labels[rows] = (labels[rows] + 1) % len(data.classes)
    return replace(data, labels=labels)
