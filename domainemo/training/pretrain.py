"""The loop of pre-training: a backbone and a contrast between people, no labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..core import Backbone, Modality
from ..errors import ConfigurationError
from .batches import Samples
from .checkpoint import Checkpoint
from .divergence import Divergence
from .fit import derive_seed
from .pairs import PairBatch, Synchronous
from .settings import Training

__all__ = ["USED_SETTINGS", "fit_pairs", "view_widths"]

USED_SETTINGS: tuple[str, ...] = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "decay",
    "clip",
    "threads",
)
"""The settings of :class:`Training` that mean anything without labels."""

_SECONDS_BETWEEN_CHECKPOINTS = 30.0


def fit_pairs(
    backbone: Backbone,
    contrast: nn.Module,
    samples: Samples,
    pairing: Synchronous,
    *,
    training: Training,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train `backbone` in place; the weights of the last epoch stay.

    Nothing is selected, for nothing is there to select by. Every epoch draws its
    random numbers from a seed of its own, so that training resumed from a checkpoint
    ends with the same bits.

    Parameters
    ----------
    backbone, contrast
        Trained together; both on one device. The contrast is called like
        :class:`~domainemo.training.synchrony.SynchronyContrast`.
    samples : Samples
        Of the source.
    pairing : Synchronous
        Made for these samples.
    training : Training
        What :data:`USED_SETTINGS` names is used; ``batch_size`` counts pairs.
    seed : int
    checkpoint : Checkpoint, optional
        To resume from where it was written, and to write to now and then.
    report : callable, optional
        Called after every epoch with its number and the mean total loss.

    Returns
    -------
    list of dict
        Mean of every loss term per epoch.

    Raises
    ------
    RunError
        If a loss or a weight stops being finite.
    """
    state = _State(backbone, contrast, training)
    state.load(checkpoint, samples.rows.device)
    saved = time.monotonic()
    for epoch in range(len(state.history), training.epochs):
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        drawn = pairing.epoch(
            training.batch_size, np.random.default_rng(derive_seed(seed, epoch))
        )
        losses = state.train_epoch(epoch, samples, drawn)
        state.history.append({"epoch": epoch + 1, **losses})
        if report is not None:
            report(state.history[-1])
        if checkpoint and time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            state.save(checkpoint)
            saved = time.monotonic()
    backbone.eval()
    return state.history


def view_widths(
    backbone: Backbone, modalities: Mapping[str, Modality]
) -> dict[str, int]:
    """Return the dimension of every view, by passing two empty samples through.

    Raises
    ------
    ConfigurationError
        If the backbone has no view at all.
    """
    signals = {
        name: torch.zeros(2, 1, len(modality.channels), len(modality.features))
        for name, modality in modalities.items()
    }
    masks = {name: torch.ones(2, 1, dtype=torch.bool) for name in modalities}
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        views = backbone.views(signals, masks)
    backbone.train(training)
    if not views:
        raise ConfigurationError(
            f"Backbone {type(backbone).__name__} has no view of a single modality, so "
            f"there is nothing to pre-train."
        )
    return {name: value.shape[-1] for name, value in views.items()}


class _State:
    """All that changes during pre-training, so that it can be saved and resumed."""

    def __init__(
        self, backbone: Backbone, contrast: nn.Module, training: Training
    ) -> None:
        self.backbone, self.contrast, self.training = backbone, contrast, training
        self.parts = nn.ModuleList([backbone, contrast])
        self.optimiser = torch.optim.AdamW(
            self.parts.parameters(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self.divergence = Divergence("Pre-training", backbone, contrast, training)
        self.history: list[dict[str, float]] = []

    def train_epoch(
        self, epoch: int, samples: Samples, batches: Sequence[PairBatch]
    ) -> dict[str, float]:
        """Take a step per batch; return the mean of every loss term."""
        self.parts.train()
        steps: list[dict[str, Tensor]] = []
        for step, batch in enumerate(batches):
            self._set_learning_rate(epoch + step / len(batches))
            losses = self._losses(samples, batch)
            total = torch.stack(list(losses.values())).sum()
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if self.training.clip:
                nn.utils.clip_grad_norm_(self.parts.parameters(), self.training.clip)
            self.optimiser.step()
            terms = {**losses, "total": total}
            steps.append({name: loss.detach() for name, loss in terms.items()})
        return self.divergence.means(epoch + 1, steps)

    def _losses(self, samples: Samples, batch: PairBatch) -> dict[str, Tensor]:
        device = samples.rows.device
        index = torch.from_numpy(batch.samples).to(device)
        signals, masks = samples.batch(index.flatten())
        views = self.backbone.views(signals, masks)

        shaped = {n: v.reshape(*index.shape, -1) for n, v in views.items()}
        first, second = (
            {name: value[:, group] for name, value in shaped.items()}
            for group in (0, 1)
        )
        present = {name: masks[_modality(name, masks)].any(-1) for name in views}
        valid = {n: p.reshape(len(index), -1).all(-1) for n, p in present.items()}
        same = None if batch.same is None else torch.from_numpy(batch.same).to(device)
        losses: dict[str, Tensor] = self.contrast(first, second, valid=valid, same=same)
        return losses

    def _set_learning_rate(self, epochs: float) -> None:
        rate = self.training.learning_rate
        if self.training.decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * epochs / self.training.epochs))
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything to a checkpoint."""
        checkpoint.save(
            {
                "parts": self.parts.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "history": self.history,
            }
        )

    def load(self, checkpoint: Checkpoint | None, device: torch.device) -> None:
        """Resume from a checkpoint where there is one."""
        content = checkpoint and checkpoint.load(device)
        if not content:
            return
        self.parts.load_state_dict(content["parts"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.history = content["history"]


def _modality(view: str, modalities: Mapping[str, object]) -> str:
    """Return the modality that a view looks at."""
    return view if view in modalities else view.partition("/")[0]
