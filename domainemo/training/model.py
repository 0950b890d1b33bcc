"""A backbone with a classifier head on every branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import FUSION, Adapter, Backbone, Batch, Modality, Outputs
from ..errors import ConfigurationError
from ..places import called, contract_error, where

__all__ = ["Network", "evaluated", "load_state", "nothing", "predicted", "state_of"]

_ADAPTER = "adapter."


class Network(nn.Module):
    """A backbone and its heads.

    Parameters
    ----------
    backbone : Backbone
    modalities : mapping of str to Modality
        What the backbone was built for.
    classes : int

    Attributes
    ----------
    dims : dict of str to int
        Of every branch's embedding.

    Raises
    ------
    ConfigurationError
        If the backbone's branches are not the modalities and ``"fusion"``.
    """

    def __init__(
        self, backbone: Backbone, modalities: Mapping[str, Modality], classes: int
    ) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, classes
        self.dims = _branch_dims(backbone, modalities)
        if FUSION not in self.dims:
            raise contract_error(
                backbone,
                "forward",
                f"the branches {', '.join(self.dims) or 'none at all'}",
                "one called 'fusion' among them",
            )
        self.heads = nn.ModuleDict(
            {name: backbone.head(name, dim, classes) for name, dim in self.dims.items()}
        )
        for name, dim in self.dims.items():
            _check_head(backbone, name, self.heads[name], dim, classes)

    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Outputs:
        """Return embeddings and logits of every branch, and which were present."""
        embeddings = _embeddings(self.backbone, signals, masks)
        logits = {name: self.heads[name](value) for name, value in embeddings.items()}
        present = {name: mask.any(-1) for name, mask in masks.items()}
        present[FUSION] = torch.stack(list(present.values())).any(0)
        return Outputs(embeddings, logits, present)


def predicted(adapter: Adapter, outputs: Outputs) -> Outputs:
    """Return outputs in which the fusion's logits are what the adapter predicts.

    Raises
    ------
    ConfigurationError
        If it predicts no logits of every sample.
    """
    adapter.eval()
    with torch.no_grad():
        logits = adapter.predict(outputs)
    expected = outputs.logits[FUSION].shape
    if not isinstance(logits, Tensor) or logits.shape != expected:
        raise contract_error(
            adapter,
            "predict",
            called(logits),
            f"a Tensor of logits, (samples, classes), {tuple(expected)}",
        )
    return replace(outputs, logits={**outputs.logits, FUSION: logits})


def state_of(model: Network, adapter: Adapter) -> dict[str, Tensor]:
    """Return all weights and buffers by name; the adapter's begin with ``adapter.``."""
    return {**model.state_dict(), **adapter.state_dict(prefix=_ADAPTER)}


def load_state(model: Network, adapter: Adapter, state: Mapping[str, Tensor]) -> None:
    """Put back what :func:`state_of` returned."""
    its_own = {k: v for k, v in state.items() if k.startswith(_ADAPTER)}
    model.load_state_dict({k: v for k, v in state.items() if k not in its_own})
    adapter.load_state_dict(
        {name.removeprefix(_ADAPTER): value for name, value in its_own.items()}
    )


def nothing(modalities: Mapping[str, Modality]) -> Batch:
    """Return a batch of two samples of zeros."""
    signals = {
        name: torch.zeros(2, 1, len(modality.channels), len(modality.features))
        for name, modality in modalities.items()
    }
    return signals, {name: torch.ones(2, 1, dtype=torch.bool) for name in modalities}


def _branch_dims(
    backbone: Backbone, modalities: Mapping[str, Modality]
) -> dict[str, int]:
    """Pass two empty samples through the backbone to see what comes out."""
    signals, masks = nothing(modalities)
    before = {name: signal._version for name, signal in signals.items()}
    try:
        with evaluated(backbone):
            embeddings = _embeddings(backbone, signals, masks)
    except RuntimeError as error:
        raise (_of_another_precision(backbone) or error) from None
    for name, value in embeddings.items():
        if value.dtype != torch.get_default_dtype():
            shown = f"an embedding of {name!r} in {value.dtype}"
            expected = f"{torch.get_default_dtype()}, in which signals are"
            raise contract_error(backbone, "forward", shown, expected)
    for name, signal in signals.items():
        if signal._version != before[name]:
            raise ConfigurationError(
                f"The backbone {type(backbone).__name__} changes the signals {name!r} "
                f"in place, which others are handed, too; expected them as they were. "
                f"Make a new tensor (x = x + 1, not x += 1): "
                f"{where(backbone, 'forward')}."
            )
    return {name: value.shape[-1] for name, value in embeddings.items()}


def _of_another_precision(backbone: Backbone) -> ConfigurationError | None:
    """Return what is wrong with weights that signals cannot be multiplied by."""
    usual = torch.get_default_dtype()
    for name, weight in backbone.named_parameters():
        if weight.is_floating_point() and weight.dtype != usual:
            return ConfigurationError(
                f"The backbone {type(backbone).__name__} has the weights {name!r} in "
                f"{weight.dtype}; expected {usual}, in which signals are and all "
                f"is trained. Leave out .double() and the like: {where(backbone)}."
            )
    return None


def _check_head(
    backbone: Backbone, name: str, head: nn.Module, dim: int, classes: int
) -> None:
    """Refuse a classifier that has no logit of each class."""
    with evaluated(head):
        logits = head(torch.zeros(2, dim))
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        raise contract_error(
            backbone,
            "head",
            f"a module that makes {called(logits)} of two embeddings of {name!r}",
            f"a logit of each of {classes} classes, (2, {classes})",
        )


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """Call a module as where it predicts, without gradients, in a block."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


def _embeddings(
    backbone: Backbone, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Return what a backbone makes of a batch; refuse what is no embedding."""
    found = backbone(signals, masks)
    expected = "an embedding of shape (batch, dim) per modality, and 'fusion', by name"
    if not isinstance(found, Mapping):
        raise contract_error(backbone, "forward", called(found), expected)
    batch = next(iter(masks.values())).shape[0]
    for name, value in found.items():
        fits = isinstance(value, Tensor) and value.dim() == 2
        if not (fits and value.shape[0] == batch):
            shown = f"{called(value)} for {name!r}, of a batch of {batch}"
            raise contract_error(backbone, "forward", shown, expected)
    return found
