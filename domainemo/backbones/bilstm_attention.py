"""Bidirectional LSTMs over time with attention, that papers compare with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.sequences import Sequences
from .layers import (
    Dropout,
    DropoutShare,
    Size,
    channel_order,
    observed,
    require_modalities,
)
from .products import Linear, product

__all__ = ["AdditiveAttention", "BiLSTMAttention", "BidirectionalLSTM"]


@register(name="bilstm-attention")
class BiLSTMAttention(Backbone):
    """A bidirectional LSTM per modality, attention over time, then over modalities.

    The recurrent network that papers on SEED and its like compare theirs with, under
    names such as BiLSTM, attention LSTM and bimodal LSTM (Tang, Liu, Zheng and Lu,
    ICONIP 2017, who concatenate). A reconstruction of the kind rather than of one
    paper: layers as in torch, additive attention (Bahdanau, Cho and Bengio, 2015) to
    summarise the steps, and again to weigh the modalities of each sample. Sizes are
    ours.

    A step that is padding or that the sensor lost leaves the states of both directions
    as they are and is not attended to: a sequence with gaps is embedded as the same
    sequence with the gaps cut out, whatever its padding, to the bit.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Any number, with or without EEG. A step is all channels times features of a
        window; weights are bound to channels by name.
    width : int
        Units of an LSTM in each direction. All embeddings have twice as many.
    layers : int
        LSTMs on top of each other.
    attention_width : int
        Hidden units of each attention.
    dropout : float
        Dropout of every LSTM's outputs.
    sampling : Sampling, optional
        Sequences of 8 windows by default.

    Raises
    ------
    ConfigurationError
        If there is no modality, or an option is out of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 64,
        layers: Size = 1,
        attention_width: Size = 64,
        dropout: DropoutShare = 0.3,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("bilstm-attention", modalities)
        self.width, self.layers = width, layers
        self.attention_width, self.dropout = attention_width, dropout
        self.sampling = sampling or Sequences(length=8)
        self.encoders = nn.ModuleDict(
            {
                name: RecurrentEncoder(
                    modality,
                    width,
                    layers=layers,
                    attention_width=attention_width,
                    dropout=dropout,
                )
                for name, modality in modalities.items()
            }
        )
        # A single modality has nothing to be weighed against.
        self.fusion = (
            AdditiveAttention(2 * width, attention_width)
            if len(modalities) > 1
            else None
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
        mapping of str to Tensor of shape (batch, 2 * width)
            Zero for a modality that is missing in the whole sample, and for the fusion
            where all are.
        """
        ours = {name: masks[name] for name in self.encoders}
        clean = dict(zip(ours, observed(signals, ours), strict=True))
        embeddings: dict[str, Tensor] = {
            name: encoder(clean[name], ours[name])
            for name, encoder in self.encoders.items()
        }
        branches = list(embeddings.values())
        if self.fusion is None:
            return {**embeddings, FUSION: branches[0]}
        present = [mask.any(-1) for mask in ours.values()]
        return {**embeddings, FUSION: self.fusion(branches, present)}


class RecurrentEncoder(nn.Module):
    """LSTMs over the windows of one modality, summarised by attention.

    Parameters
    ----------
    modality : Modality
        Weights are bound to channels in the order of their names.
    width, layers, attention_width : int
    dropout : float
    """

    order_of_channels: Tensor

    def __init__(
        self,
        modality: Modality,
        width: int,
        *,
        layers: int,
        attention_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        # It follows from the names: a saved state fits any channel order.
        order = channel_order(modality)
        self.register_buffer("order_of_channels", order, persistent=False)
        inputs = len(modality.channels) * len(modality.features)
        self.layers = nn.ModuleList(
            BidirectionalLSTM(2 * width if layer else inputs, width)
            for layer in range(layers)
        )
        self.dropout = Dropout(dropout)
        self.attention = AdditiveAttention(2 * width, attention_width)

    def forward(self, signal: Tensor, mask: Tensor) -> Tensor:
        """Encode (batch, time, channels, features) under (batch, time).

        Parameters
        ----------
        signal : Tensor of shape (batch, time, channels, features)
            Finite where `mask` is False.
        mask : bool Tensor of shape (batch, time)

        Returns
        -------
        Tensor of shape (batch, 2 * width)
            Zero where the whole sample is missing.
        """
        ordered = signal.index_select(-2, self.order_of_channels).flatten(-2)
        steps: Sequence[Tensor] = ordered.unbind(-2)
        valid = mask.unbind(-1)
        for layer in self.layers:
            steps = [self.dropout(step) for step in layer(steps, valid)]
        encoded: Tensor = self.attention(steps, valid)
        return encoded


class BidirectionalLSTM(nn.Module):
    r"""An LSTM forwards and one backwards, at rest where nothing was recorded.

    With the gates of :class:`torch.nn.LSTM`, and its initial values,

    .. math:: i, f, g, o = W x_t + U h_{t-1} + b, \quad
              c_t = \sigma(f) c_{t-1} + \sigma(i) \tanh(g), \quad
              h_t = \sigma(o) \tanh(c_t)

    where step :math:`t` was recorded, else :math:`c_t = c_{t-1}, h_t = h_{t-1}`. Steps
    are unrolled: packed sequences, whose shape is that of the data, do not vectorise
    over networks. Each step has the same shapes whatever the length, so that padding
    leaves every bit as it was.

    Parameters
    ----------
    inputs, width : int
        Dimension of a step; units of each direction.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        bound = 1.0 / math.sqrt(width)

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        # Forwards and backwards side by side.
        self.input_weight = uniform(2, inputs, 4 * width)
        self.state_weight = uniform(2, width, 4 * width)
        self.bias = uniform(2, 1, 4 * width)

    def forward(self, steps: Sequence[Tensor], valid: Sequence[Tensor]) -> list[Tensor]:
        """Run over a sequence, both ways at once.

        Parameters
        ----------
        steps : sequence of Tensor of shape (batch, inputs)
            Finite, also where nothing was recorded.
        valid : sequence of bool Tensor of shape (batch,)
            Which samples have the step.

        Returns
        -------
        list of Tensor of shape (batch, 2 * width)
            The state after each step, forwards and backwards.
        """
        hidden = cell = steps[0].new_zeros(2, steps[0].shape[-2], self.width)
        forwards, backwards = [], []
        for here in range(len(steps)):
            there = len(steps) - 1 - here
            given = torch.stack([steps[here], steps[there]])
            gates = product(given, self.input_weight, self.bias)
            gates = product(hidden, self.state_weight, gates)
            enter, forget, content, leave = gates.chunk(4, -1)
            kept = forget.sigmoid() * cell + enter.sigmoid() * content.tanh()
            recorded = torch.stack([valid[here], valid[there]]).unsqueeze(-1)
            cell = torch.where(recorded, kept, cell)
            hidden = torch.where(recorded, leave.sigmoid() * kept.tanh(), hidden)
            forwards.append(hidden[0])
            backwards.append(hidden[1])
        pairs = zip(forwards, reversed(backwards), strict=True)
        return [torch.cat(pair, -1) for pair in pairs]


class AdditiveAttention(nn.Module):
    r"""A weighted mean of vectors, weighed by a layer of hidden units.

    .. math:: \sum_k a_k h_k, \quad
              a = \operatorname{softmax}_k\big(v^T \tanh(W h_k + b)\big)

    over those that are there (Bahdanau, Cho and Bengio, 2015, without a query).

    Parameters
    ----------
    width, hidden : int
        Dimension of the vectors; hidden units.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.project = Linear(width, hidden)
        # The softmax does not see a bias.
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, vectors: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean, zero where there is no vector.

        Parameters
        ----------
        vectors : sequence of Tensor of shape (batch, width)
        valid : sequence of bool Tensor of shape (batch,)
            Which samples have the vector.

        Returns
        -------
        Tensor of shape (batch, width)
        """
        # Vector by vector, and added up in order: to the bit the same beside others
        # that are not there.
        there = [each.unsqueeze(-1) for each in valid]
        scores = [self.score(self.project(vector).tanh()) for vector in vectors]
        lowest = torch.finfo(scores[0].dtype).min
        scores = [
            score.masked_fill(~each, lowest)
            for score, each in zip(scores, there, strict=True)
        ]
        highest = torch.stack(scores).detach().amax(0)
        weights = [
            (score - highest).exp() * each
            for score, each in zip(scores, there, strict=True)
        ]
        # At least 1 where any vector is there: the highest score's own weight.
        total = reduce(torch.add, weights).clamp(min=1.0)
        terms = [w * vector for w, vector in zip(weights, vectors, strict=True)]
        mean: Tensor = reduce(torch.add, terms) / total
        return mean
