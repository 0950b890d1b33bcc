"""The loss of one training step, as a function of weights and of what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..adapters.branches import shares
from ..adapters.composite import losses_of, without_target
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
        As teacher and judge see it; empty before an adapter needs it.
    student : pair of dict
        The same samples as the network that trains sees them.
    trials : Tensor of int, shape (batch,)
        Which of them are of the same trial; empty unless an adapter asks for it.
    whole_trials : dict of str to Tensor of shape (batch, classes)
        What the judge makes of their trials; empty unless an adapter asks for it.
    """

    source: Batch
    labels: Tensor
    domains: Tensor
    target: Batch
    student: Batch
    trials: Tensor
    whole_trials: dict[str, Tensor]


class Objective(nn.Module):
    """The classification's loss and the adapter's; it owns no weight of its own.

    Parameters
    ----------
    model : Network
    adapter : Adapter
    label_smoothing : float
        Of the classification's loss.
    branch_share : float
        Share of it that goes to the modalities' own classifiers, see
        :class:`~domainemo.training.settings.Training`.
    """

    model: Network
    adapter: Adapter

    def __init__(
        self,
        model: Network,
        adapter: Adapter,
        label_smoothing: float,
        branch_share: float,
    ) -> None:
        super().__init__()
        self.model, self.adapter = model, adapter
        self.label_smoothing, self.branch_share = label_smoothing, branch_share
        # In a tuple, as its modules are the adapter's own.
        self._before = (without_target(adapter),)
        self._in_one = not any(isinstance(m, _BatchNorm) for m in model.modules())

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
        batches = [shown.source]
        if shown.target[0]:
            batches.append(shown.student)
            if adapter.augments:
                batches.append(augmented(adapter, shown.student))
        here, *there = self._outputs(batches)
        source = Source(here, shown.labels, shown.domains)
        losses = {"classification": self._classification(source, class_weights)}
        if not there:
            (before,) = self._before
            # It sees the source twice, and never uses the second.
            target = Target(here, progress)
            return losses | (self._adapt(before, source, target) if before else {})
        teacher = (
            _without_dropout(model, shown.target) if adapter.needs_teacher else None
        )
        trials = shown.trials if adapter.needs_trials else None
        target = Target(
            there[0],
            progress,
            teacher,
            judge=judge,
            trials=trials,
            whole_trials=shown.whole_trials or None,
        )
        if adapter.augments:
            target = replace(target, augmented=there[1])
        return losses | self._adapt(adapter, source, target)

    def _outputs(self, batches: Sequence[Batch]) -> list[Outputs]:
        """Pass batches through the network: as one, unless it has statistics of each.

        A batch's normalisation is of its own domain. Nor as one where the longest trial
        of the source is not as long as the target's.
        """
        times = {each.shape[1] for _, masks in batches for each in masks.values()}
        if len(batches) == 1 or len(times) > 1 or not self._in_one:
            return [self.model(*batch) for batch in batches]
        signals, masks = (
            {name: torch.cat([each[name] for each in parts]) for name in parts[0]}
            for parts in zip(*batches, strict=True)
        )
        sizes = [len(next(iter(mask.values()))) for _, mask in batches]
        return _divided(self.model(signals, masks), sizes)

    def _adapt(
        self, adapter: Adapter, source: Source, target: Target
    ) -> dict[str, Tensor]:
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
        """Return the cross-entropy of the branches that count, each by its share."""
        outputs, losses = source.outputs, []
        counted = shares(outputs, self.branch_share)
        for branch, logits in outputs.logits.items():
            if branch not in counted:
                continue
            weights = outputs.weight(branch) * class_weights[source.labels]
            each = _cross_entropies(logits, source.labels, self.label_smoothing)
            mean = counted[branch] * (each * weights).sum()
            losses.append(mean / weights.sum().clamp(min=1e-12))
        return torch.stack(losses).sum()


def _cross_entropies(
    logits: Tensor, labels: Tensor, smoothing: float | Tensor
) -> Tensor:
    """Return every sample's; the smoothing is a Tensor where members have their own."""
    if not isinstance(smoothing, Tensor):
        return nn.functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=smoothing
        )
    plain = nn.functional.cross_entropy(logits, labels, reduction="none")
    even = -logits.log_softmax(-1).mean(-1)
    return (1 - smoothing) * plain + smoothing * even


def _divided(outputs: Outputs, sizes: list[int]) -> list[Outputs]:
    """Return the outputs of each of several batches that were one."""
    parts = [
        {name: torch.split(value, sizes) for name, value in each.items()}
        for each in (outputs.embeddings, outputs.logits, outputs.present)
    ]
    return [
        Outputs(*({name: split[n] for name, split in each.items()} for each in parts))
        for n in range(len(sizes))
    ]


def _without_dropout(model: Network, batch: Batch) -> Outputs:
    model.eval()
    with torch.no_grad():
        outputs: Outputs = model(*batch)
    model.train()
    return outputs
