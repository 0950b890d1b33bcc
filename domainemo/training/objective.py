"""The loss of one training step, as a function of weights and of what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..adapters.branches import shares
from ..adapters.composite import losses_of
from ..core import Adapter, Batch, Outputs, Source, Target
from ..errors import ConfigurationError
from ..places import where
from .augmentation import augmented
from .model import Network

__all__ = ["Objective", "Shown"]

_RESERVED = {"classification", "total", "epoch", "score", "held_out"}


class Shown(NamedTuple):
    """What a step is shown.

    Attributes
    ----------
    source : pair of dict
        Signals and masks, as a backbone takes them.
    labels, domains : Tensor of int, shape (batch,)
        Of the source.
    target : pair of dict
        As teacher and judge see it; empty for adapters that need no target.
    student : pair of dict
        The same samples as the network that trains sees them.
    """

    source: Batch
    labels: Tensor
    domains: Tensor
    target: Batch
    student: Batch


class Objective(nn.Module):
    """The classification's loss and the adapter's; it owns no weight of its own.

    Parameters
    ----------
    model : Network
    adapter : Adapter
    label_smoothing : float
        Of the classification's loss.
    """

    model: Network
    adapter: Adapter

    def __init__(
        self, model: Network, adapter: Adapter, label_smoothing: float
    ) -> None:
        super().__init__()
        self.model, self.adapter = model, adapter
        self.label_smoothing = label_smoothing

    def forward(
        self,
        shown: Shown,
        class_weights: Tensor,
        progress: float,
        judge: Outputs | None,
    ) -> dict[str, Tensor]:
        """Return every loss term of a step by name.

        Parameters
        ----------
        shown : Shown
        class_weights : Tensor of shape (classes,)
        progress : float
            Of training, from 0 to 1; or a Tensor of shape ().
        judge : Outputs or None
            What the judge makes of the target.
        """
        model, adapter = self.model, self.adapter
        source = Source(model(*shown.source), shown.labels, shown.domains)
        losses = {"classification": self._classification(source, class_weights)}
        if not adapter.needs_target:
            # Without a target the adapter sees the source twice, and never uses it.
            return losses | self._adapt(source, Target(source.outputs, progress))
        teacher = (
            _without_dropout(model, shown.target) if adapter.needs_teacher else None
        )
        target = Target(model(*shown.student), progress, teacher, judge=judge)
        if adapter.augments:
            changed = model(*augmented(adapter, shown.student))
            target = replace(target, augmented=changed)
        return losses | self._adapt(source, target)

    def _adapt(self, source: Source, target: Target) -> dict[str, Tensor]:
        adapter = self.adapter
        losses = losses_of(adapter, source, target)
        reserved = _RESERVED & losses.keys()
        if reserved:
            raise ConfigurationError(
                f"{type(adapter).__name__} returned a loss called "
                f"{', '.join(map(repr, sorted(reserved)))}, a name that the trainer "
                f"uses itself; call it something else in "
                f"{where(adapter, 'forward')}."
            )
        return dict(losses)

    def _classification(self, source: Source, class_weights: Tensor) -> Tensor:
        """Return the cross-entropy: fusion one half, modalities the other half."""
        outputs, losses = source.outputs, []
        for branch, logits in outputs.logits.items():
            weights = outputs.weight(branch) * class_weights[source.labels]
            each = nn.functional.cross_entropy(
                logits,
                source.labels,
                reduction="none",
                label_smoothing=self.label_smoothing,
            )
            share = shares(outputs)[branch]
            losses.append(
                share * (each * weights).sum() / weights.sum().clamp(min=1e-12)
            )
        return torch.stack(losses).sum()


def _without_dropout(model: Network, batch: Batch) -> Outputs:
    model.eval()
    with torch.no_grad():
        outputs: Outputs = model(*batch)
    model.train()
    return outputs
