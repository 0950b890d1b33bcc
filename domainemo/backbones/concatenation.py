"""Concatenation of modalities: the plainest fusion, that papers compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.windows import Windows
from .layers import (
    Dropout,
    DropoutShare,
    MaskedBatchNorm,
    Size,
    channel_order,
    observed,
    require_modalities,
)

__all__ = [
    "Activation",
    "Concatenation",
    "ModalityPerceptron",
    "mean_over_time",
]

Activation = Literal["relu", "sigmoid"]
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


@register(name="concatenation-mlp")
class Concatenation(Backbone):
    """A perceptron per modality on the mean over time, concatenated, and one more.

    The feature-level fusion that papers on SEED and its like compare their networks
    with. No paper specifies it beyond the words "concatenation" and "MLP" (or "DNN"),
    so that sizes are ours. All channels and features of a modality are averaged over
    the windows that were recorded; a modality that is missing in the whole sample is
    zero in the concatenation. With a single modality this is the usual perceptron on
    differential entropy.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Any number, with or without EEG. Weights are bound to channels by name.
    hidden : sequence of int
        Units of each hidden layer of a modality's perceptron; may be empty.
    width : int
        Dimension of each modality's embedding, which is linear in the last hidden
        layer.
    fusion_width : int
        Units of the layer after the concatenation, and dimension of the fusion
        embedding. The classifier head, with a hidden layer of its own, follows.
    dropout : float
        Dropout after every hidden layer, and of the concatenation.
    normalisation : {"none", "batch"}
        Batch normalisation of every layer before its activation, by the samples in
        which the modality is there. Where the adapter sees the target in training, the
        running statistics are of both domains' batches; ``adabn`` makes them the
        target's.
    sampling : Sampling, optional
        Single windows by default.

    Raises
    ------
    ConfigurationError
        If there is no modality, or an option is out of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        hidden: Sequence[Size] = (128,),
        width: Size = 64,
        fusion_width: Size = 128,
        dropout: DropoutShare = 0.3,
        normalisation: Literal["none", "batch"] = "none",
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("concatenation-mlp", modalities)
        self.hidden, self.width = tuple(hidden), width
        self.fusion_width, self.dropout = fusion_width, dropout
        self.normalisation = normalisation
        batch = normalisation == "batch"
        self.sampling = sampling or Windows()
        self.encoders = nn.ModuleDict(
            {
                name: ModalityPerceptron(
                    modality,
                    (*self.hidden, width),
                    activation="relu",
                    dropout=dropout,
                    batch_norm=batch,
                )
                for name, modality in modalities.items()
            }
        )
        self.fusion = nn.Sequential(
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(len(modalities) * width, fusion_width),
            *([MaskedBatchNorm(fusion_width)] if batch else []),
            nn.ReLU(),
        )

    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, time, channels, features)
        masks : mapping of str to bool Tensor of shape (batch, time)

        Returns
        -------
        mapping of str to Tensor
            Of shape (batch, width) for each modality, zero where it is missing in the
            whole sample; (batch, fusion_width) for the fusion.
        """
        ours = {name: masks[name] for name in self.encoders}
        clean = dict(zip(ours, observed(signals, ours), strict=True))
        embeddings: dict[str, Tensor] = {
            name: encoder(clean[name], ours[name])
            for name, encoder in self.encoders.items()
        }
        joined = torch.cat(list(embeddings.values()), -1)
        present = torch.stack([mask.any(-1) for mask in ours.values()]).any(0)
        embeddings[FUSION] = _through(self.fusion, joined, present)
        return embeddings


class ModalityPerceptron(nn.Module):
    """A perceptron on all channels and features of a modality, averaged over time.

    Parameters
    ----------
    modality : Modality
        Weights are bound to channels in the order of their names.
    sizes : sequence of int
        Units of each layer; the last one is linear.
    activation : {"relu", "sigmoid"}
        Behind all layers but the last.
    dropout : float
        Dropout likewise.
    batch_norm : bool
        Batch normalisation before every activation.
    """

    order_of_channels: Tensor

    def __init__(
        self,
        modality: Modality,
        sizes: Sequence[int],
        *,
        activation: Activation,
        dropout: float,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        # It follows from the names: a saved state fits any channel order.
        order = channel_order(modality)
        self.register_buffer("order_of_channels", order, persistent=False)
        inputs = len(modality.channels) * len(modality.features)
        layers: list[nn.Module] = []
        for units in sizes:
            layers += [nn.Linear(inputs, units)]
            end = len(layers)
            layers += [MaskedBatchNorm(units)] if batch_norm else []
            layers += [_ACTIVATIONS[activation](), Dropout(dropout)]
            inputs = units
        self.layers = nn.Sequential(*layers[:end])

    def forward(self, signal: Tensor, mask: Tensor) -> Tensor:
        """Encode a batch of one modality.

        Parameters
        ----------
        signal : Tensor of shape (batch, time, channels, features)
            Zero where `mask` is False.
        mask : bool Tensor of shape (batch, time)

        Returns
        -------
        Tensor of shape (batch, units of the last layer)
            Zero where the whole sample is missing.
        """
        mean = mean_over_time(signal, mask).index_select(-2, self.order_of_channels)
        present = mask.any(-1)
        encoded = _through(self.layers, mean.flatten(-2), present)
        return encoded * present.unsqueeze(-1)


def _through(layers: nn.Sequential, values: Tensor, present: Tensor) -> Tensor:
    """Apply layers, some of which go by the samples that are there."""
    for layer in layers:
        normalises = isinstance(layer, MaskedBatchNorm)
        values = layer(values, present) if normalises else layer(values)
    return values


def mean_over_time(signal: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the recorded windows, the same to the bit with more padding.

    Parameters
    ----------
    signal : Tensor of shape (batch, time, channels, features)
        Zero where `mask` is False.
    mask : bool Tensor of shape (batch, time)

    Returns
    -------
    Tensor of shape (batch, channels, features)
        Zero where nothing was recorded.
    """
    # Added up in order: a reduction over time would group its terms by their number.
    total = reduce(torch.add, signal.unbind(-3))
    return total / mask.sum(-1).clamp(min=1)[..., None, None]
