"""AdaBN: batch normalisation by the target's statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from domainemo.core import Batch, Descend
from domainemo.errors import ConfigurationError
from domainemo.registry import register

from .source_free import SourceFree

__all__ = ["AdaptiveBatchNormalisation", "normalise_by_target"]


@register(name="adabn")
class AdaptiveBatchNormalisation(SourceFree):
    r"""Means and variances of batch normalisation are the target's (AdaBN).

    After training, every `BatchNorm` layer computes

    .. math:: y = \gamma \frac{x - \mu_T}{\sqrt{\sigma_T^2 + \epsilon}} + \beta

    It forgets the statistics of the source and takes those of the target,
    :math:`\mu_T` and :math:`\sigma_T^2`, in one pass; weights stay as they are (Li,
    Wang, Shi, Hou and Liu, Pattern Recognition 80, 2018). It needs no source, and so
    adapts a finished model as well: ``domainemo predict --adapt adabn``. Networks
    without such layers cannot be adapted so; of those shipped, ``concatenation-mlp``
    has some with ``backbone.normalisation=batch``.
    """

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Take the target's statistics."""
        normalise_by_target(network, batches)


def normalise_by_target(network: nn.Module, batches: Sequence[Batch]) -> None:
    """Replace the running statistics of batch normalisation by those of some batches.

    Each layer's mean and variance become the means of the batches' own, weighted by
    their size; dropout is off.

    Parameters
    ----------
    network : Module
        Called with signals and masks.
    batches : sequence of (signals, masks)

    Raises
    ------
    ConfigurationError
        If no layer keeps such statistics, or there is a single sample.
    """
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    sizes = [len(next(iter(masks.values()))) for _, masks in batches]
    if not layers:
        raise ConfigurationError(
            "adabn: the network has no layer of batch normalisation that keeps "
            "statistics, so that there is nothing to adapt; expected a BatchNorm. "
            "Choose another adapter, such as tent."
        )
    if sum(sizes) < 2:
        raise ConfigurationError(
            "adabn: the recording is a single sample, which has no variance; expected "
            "two at least. Bring a longer recording, or leave --adapt out."
        )
    was_training, momenta = network.training, [layer.momentum for layer in layers]
    network.eval()
    seen = 0
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        with torch.no_grad():
            for size, batch in zip(sizes, batches, strict=True):
                seen += size
                for layer in layers:
                    layer.momentum = size / seen  # a mean over all batches so far
                network(*batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        network.train(was_training)
