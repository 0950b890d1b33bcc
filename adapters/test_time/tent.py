"""Tent: entropy minimisation at test time, through the normalisation layers alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from domainemo.adapters.entropies import entropy
from domainemo.core import FUSION, Batch, Descend
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.values import Bounds

from .source_free import SourceFree, go_by_batches

__all__ = ["Tent"]

_NORMALISING = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


@register
class Tent(SourceFree):
    r"""Confident predictions of the target, by the scale and shift of normalisation.

    After training, the affine weights of all normalisation layers, and no others, take
    gradient steps that lower the mean entropy of the fusion's predictions on the target
    (Wang, Shelhamer, Liu, Olshausen and Darrell, ICLR 2021):

    .. math:: L = -\frac1B \sum_i \sum_k p_{ik} \log p_{ik}

    Layers of batch normalisation go by each batch's own statistics meanwhile, and keep
    the target's. It needs no source, and so adapts a finished model as well:
    ``domainemo predict --adapt tent``. Nothing in it keeps classes apart: with many
    steps, or where the network is mostly wrong, it makes everything one class.

    Parameters
    ----------
    learning_rate : float
        Of Adam.
    epochs : int
        Passes over the target.
    """

    def __init__(
        self,
        *,
        learning_rate: Annotated[float, Bounds(above=0)] = 1e-3,
        epochs: Annotated[int, Bounds(least=1)] = 1,
    ) -> None:
        super().__init__()
        self.learning_rate, self.epochs = learning_rate, epochs

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Take the steps."""
        layers = [each for each in network.modules() if isinstance(each, _NORMALISING)]
        weights = [weight for layer in layers for weight in layer.parameters(False)]
        if not weights:
            raise ConfigurationError(
                "tent: the network has no normalisation layer with weights, so that "
                "there is nothing to adapt; expected a BatchNorm, LayerNorm or "
                "GroupNorm. Choose another adapter, such as shot."
            )
        go_by_batches(network, batches)

        def step(batch: Batch) -> Tensor:
            outputs = network(*batch)
            return entropy(outputs.logits[FUSION], outputs.weight(FUSION))

        steps = (partial(step, batch) for batch in [*batches] * self.epochs)
        descend(weights, steps, self.learning_rate)
        network.eval()
