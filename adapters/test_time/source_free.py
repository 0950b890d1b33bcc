"""What methods share that change a trained network by the target alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from domainemo.core import Adapter, Batch, Source, Target

__all__ = ["SourceFree", "go_by_batches", "trainable"]


class SourceFree(Adapter):
    """Training is as without adaptation; what is done, `settle` does afterwards.

    It works on the fusion's own classifier: a prediction that another adapter makes is
    changed by way of the embeddings at most.
    """

    needs_target = False

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return no losses."""
        return {}


def go_by_batches(network: nn.Module, batches: Sequence[Batch]) -> None:
    """Have batch normalisation go by each batch's statistics, and keep them.

    A batch of one has no variance: where there is any, all layers go by what they know.
    Everything else, dropout above all, is in evaluation mode.

    Parameters
    ----------
    network : Module
    batches : sequence of (signals, masks)
    """
    sizes = [len(next(iter(masks.values()))) for _, masks in batches]
    network.eval()
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.train(min(sizes) > 1)


def trainable(network: nn.Module, *, heads: bool) -> list[nn.Parameter]:
    """Return the weights that may take gradient steps.

    Parameters
    ----------
    network : Module
    heads : bool
        Whether the classifiers' are among them.
    """
    return [
        weight
        for name, weight in network.named_parameters()
        if weight.requires_grad and (heads or not name.startswith("heads."))
    ]
