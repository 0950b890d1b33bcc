"""Pre-training: a backbone and a contrast between people, no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..core import Backbone, Modality
from ..errors import ConfigurationError
from .batches import Samples
from .checkpoint import Checkpoint
from .copies import copies_of
from .loop import Loop, Report, Step, Task, differentiated
from .model import evaluated, nothing
from .pairs import PairBatch, Synchronous
from .seeds import derive_seed
from .settings import Training

__all__ = ["USED_SETTINGS", "fit_pairs", "view_widths"]

USED_SETTINGS: tuple[str, ...] = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "optimiser",
    "decay",
    "clip",
    "threads",
)
"""The settings of :class:`Training` that mean anything without labels."""


def fit_pairs(
    backbone: Backbone,
    contrast: nn.Module,
    samples: Samples,
    pairing: Synchronous,
    *,
    training: Training,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Report | None = None,
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
        Called after every epoch; on resuming first with the epochs there were.

    Returns
    -------
    list of dict
        Mean of every loss term per epoch.

    Raises
    ------
    RunError
        If a loss or a weight stops being finite.
    """
    task = _Contrasting(backbone, contrast, samples, pairing, training, seed)
    loop = Loop(task, seed=seed, checkpoint=checkpoint, report=report)
    loop.run()
    backbone.eval()
    return loop.history


def view_widths(
    backbone: Backbone, modalities: Mapping[str, Modality]
) -> dict[str, int]:
    """Return the dimension of every view, by passing two empty samples through.

    Raises
    ------
    ConfigurationError
        If the backbone has no view at all.
    """
    with evaluated(backbone):
        views = backbone.views(*nothing(modalities))
    if not views:
        raise ConfigurationError(
            f"Backbone {type(backbone).__name__} has no view of a single modality, so "
            f"there is nothing to pre-train."
        )
    return {name: value.shape[-1] for name, value in views.items()}


class _Contrasting(Task):
    """One loss, of pairs; nothing follows an epoch."""

    name = "Pre-training"
    multiplies_first = True

    def __init__(
        self,
        backbone: Backbone,
        contrast: nn.Module,
        samples: Samples,
        pairing: Synchronous,
        training: Training,
        seed: int,
    ) -> None:
        super().__init__(backbone, contrast, training)
        self.backbone, self.contrast, self.seed = backbone, contrast, seed
        self.samples, self.pairing = samples, pairing

    def steps(self, epoch: int) -> Sequence[Step]:
        """Pass every moment once."""
        generator = np.random.default_rng(derive_seed(self.seed, epoch))
        batches = self.pairing.epoch(self.training.batch_size, generator)
        return [partial(self._losses, batch=batch) for batch in batches]

    def _losses(self, progress: float, *, batch: PairBatch) -> dict[str, Tensor]:
        device = self.samples.rows.device
        index = torch.from_numpy(batch.samples).to(device)
        signals, masks = self.samples.batch(index.flatten())
        if batch.copies is not None:
            copies = torch.from_numpy(batch.copies.ravel()).to(device)
            signals = copies_of(signals, masks, copies)
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
        return differentiated(losses)


def _modality(view: str, modalities: Mapping[str, object]) -> str:
    """Return the modality that a view looks at."""
    return view if view in modalities else view.partition("/")[0]
