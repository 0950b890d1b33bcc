"""T3A: the last layer becomes a template per class, of the target's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.branches import unit
from domainemo.core import FUSION, Batch, Descend
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.values import Bounds

from .source_free import SourceFree

__all__ = ["T3A", "templates"]


@register(name="t3a")
class T3A(SourceFree):
    r"""Templates of confident target embeddings in place of the last layer (T3A).

    After training, class :math:`k` has a support set: row :math:`\omega_k` of the last
    layer's weights, and what that layer is handed for the target's samples predicted as
    :math:`k`, all at unit length; of these, the `support` of lowest entropy are kept.
    Their mean is the template :math:`c_k`, and a sample :math:`z` is predicted by

    .. math:: p_k \propto \exp\big(z^\top c_k / \lVert c_k \rVert\big)

    (Iwasawa and Matsuo, NeurIPS 2021). So :math:`c_k / \lVert c_k \rVert` becomes the
    fusion head's last layer, without a bias. No gradient step is taken. It needs no
    source, and so adapts a finished model as well: ``domainemo predict --adapt t3a``.

    Ours: the paper fills the support sets while samples come in, each predicted by
    those before it; here all are given, and predicted by the same templates. The layer
    is the last of a head, which may have a hidden one before it.

    Parameters
    ----------
    support : int
        How many members of each support set are kept.
    """

    def __init__(self, *, support: Annotated[int, Bounds(least=1)] = 100) -> None:
        super().__init__()
        self.support = support

    def settle(
        self, network: nn.Module, batches: Sequence[Batch], descend: Descend
    ) -> None:
        """Replace the fusion head's last layer."""
        layer = _last_layer(network, batches[0])
        handed, logits, weights = _handed(network, layer, batches)
        with torch.no_grad():
            own = torch.arange(len(layer.weight), device=logits.device)
            found = templates(
                torch.cat([layer.weight, handed]),
                torch.cat([layer(layer.weight), logits]),
                torch.cat([own, logits.argmax(-1)]),
                torch.cat([torch.ones_like(logits[0]), weights]),
                self.support,
            )
            layer.weight.copy_(found)
            if layer.bias is not None:
                layer.bias.zero_()


def _last_layer(network: nn.Module, batch: Batch) -> nn.Linear:
    """Return the linear layer that makes the fusion's logits."""
    head = network.get_submodule(f"heads.{FUSION}")
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    made: list[Tensor] = []
    if layers:
        watched = layers[-1].register_forward_hook(lambda *seen: made.append(seen[-1]))
        with watched, torch.no_grad():
            logits = network(*batch).logits[FUSION]
    if len(made) != 1 or not torch.equal(made[0], logits):
        raise ConfigurationError(
            f"t3a: the fusion's classifier, {type(head).__name__}, does not end in a "
            f"linear layer; expected one whose output is the logits, which templates "
            f"can replace. Choose another adapter, such as shot."
        )
    return layers[-1]


def _handed(
    network: nn.Module, layer: nn.Linear, batches: Sequence[Batch]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the layer is handed for the target, what it makes of it, weights."""
    handed: list[Tensor] = []
    with (
        torch.no_grad(),
        layer.register_forward_pre_hook(lambda _, given: handed.append(given[0])),
    ):
        outputs = [network(*batch) for batch in batches]
    logits = torch.cat([each.logits[FUSION] for each in outputs])
    return torch.cat(handed), logits, torch.cat([o.weight(FUSION) for o in outputs])


def templates(
    points: Tensor, logits: Tensor, labels: Tensor, weights: Tensor, support: int
) -> Tensor:
    """Return the direction of the mean of each class's most certain points.

    Parameters
    ----------
    points : Tensor of shape (..., samples, dim)
    logits : Tensor of shape (..., samples, classes)
        How certain they are is told by the entropy.
    labels : Tensor of int, shape (..., samples)
    weights : Tensor of shape (..., samples)
        Zero for those that are left out.
    support : int
        How many of each class are kept; the earlier ones where some are as certain.

    Returns
    -------
    Tensor of shape (..., classes, dim)
        Of unit length; zero for a class without a point.
    """
    members = functional.one_hot(labels, logits.shape[-1]) * weights.unsqueeze(-1) > 0
    doubt = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1, keepdim=True)
    ordered = doubt.masked_fill(~members, torch.inf)
    ranks = ordered.argsort(dim=-2, stable=True).argsort(dim=-2)
    kept = (members & (ranks < support)).to(points.dtype)
    return unit(kept.transpose(-1, -2) @ unit(points))
