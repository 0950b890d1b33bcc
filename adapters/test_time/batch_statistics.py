"""AdaBN: batch normalisation by the target's statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
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
    how many of their samples reached it; dropout is off. A layer that no batch had two
    samples for, as its sensor is lost, keeps what it knew.

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
            "Choose another adapter, such as shot."
        )
    if sum(sizes) < 2:
        raise ConfigurationError(
            "adabn: the recording is a single sample, which has no variance; expected "
            "two at least. Bring a longer recording, or leave --adapt out."
        )
    was_training = network.training
    network.eval()
    try:
        with ExitStack() as layers_learn, torch.no_grad():
            for layer in layers:
                layers_learn.enter_context(_learning(layer))
            for batch in batches:
                network(*batch)
    finally:
        network.train(was_training)


@contextmanager
def _learning(layer: _BatchNorm) -> Iterator[None]:
    """Have a layer take the mean of the statistics of what it is given in a block."""
    momentum = layer.momentum
    known = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    seen = 0

    def count(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Weigh a batch by its samples; a masked layer is told which are there."""
        nonlocal seen
        values, *masks = [
            each for each in (*given, *named.values()) if isinstance(each, Tensor)
        ]
        told = [mask for mask in masks if mask.dtype == torch.bool]
        here = int(told[0].sum()) if told else len(values)
        if layer.training:
            seen += here if here > 1 else 0
            # A mean over all batches so far; one sample has no variance.
            layer.momentum = here / seen if here > 1 else 0.0

    hook = layer.register_forward_pre_hook(count, with_kwargs=True)
    layer.reset_running_stats()
    layer.train()
    try:
        yield
    finally:
        hook.remove()
        layer.momentum = momentum
        if not seen:
            for name, buffer in layer.named_buffers():
                buffer.copy_(known[name])
