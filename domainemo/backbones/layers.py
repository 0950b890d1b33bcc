"""Layers that several networks share: masked attention without data-dependent shapes.

Attention is written out with its softmax, so that the weights can be shown and so that
whole stacks of networks run under ``torch.func.vmap``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..core import FUSION, Modality, canonical_name
from ..errors import ConfigurationError
from ..values import Bounds
from .products import Linear, linear, product

__all__ = [
    "Attention",
    "Dropout",
    "DropoutShare",
    "MaskedBatchNorm",
    "GroupedLinear",
    "MultiViewEmbedding",
    "Raised",
    "Size",
    "TemporalPooling",
    "TransformerLayer",
    "channel_order",
    "kept_or_dropped",
    "masked_mean",
    "masked_softmax",
    "mean_over_windows",
    "observed",
    "require_divisible",
    "require_modalities",
    "single_eeg",
    "trimmed",
]

_SIXTEEN_BITS = 2**16

_WIDE = 64
"""From this width on attention between raised tokens is faster without keys."""

Size = Annotated[int, Bounds(1)]
"""An option that counts: units, layers, heads, windows."""

DropoutShare = Annotated[float, Bounds(0, below=1, words="at least 0 and less than 1")]
"""An option that is what :class:`Dropout` takes."""


def observed(
    signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> list[Tensor]:
    """Return each signal with zeros wherever its mask is False, whatever stood there.

    Parameters
    ----------
    signals : mapping of str to Tensor of shape (batch, time, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, time)

    Returns
    -------
    list of Tensor
        In the order of `masks`.
    """
    # A product would let NaN and infinity through.
    return [
        torch.where(mask[..., None, None], signals[name], 0.0)
        for name, mask in masks.items()
    ]


def trimmed(
    signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return a batch without the steps at its end that no sample has.

    Matrix products round differently when there are more rows: what is cut off cannot
    change a bit of a prediction. It is for prediction only, as its shape depends on the
    masks' values. Where it is traced, to be written to a file, nothing is cut off.

    Parameters
    ----------
    signals : mapping of str to Tensor of shape (batch, time, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, time)
    """
    if torch.compiler.is_compiling():
        return signals, masks
    try:
        there = torch.stack(list(masks.values())).any(0).any(0).nonzero()
        length = int(there.max()) + 1 if len(there) else 1
    except RuntimeError:  # several trainings in one program have one shape
        return signals, masks
    return (
        {name: signals[name][:, :length] for name in masks},
        {name: mask[:, :length] for name, mask in masks.items()},
    )


def masked_softmax(scores: Tensor, valid: Tensor, dim: int = -1) -> Tensor:
    """Return the softmax over one axis among valid entries, zero elsewhere.

    Where nothing is valid all weights are exactly zero: finite, with zero gradients.

    Parameters
    ----------
    scores : Tensor
    valid : bool Tensor that broadcasts to the shape of `scores`
    dim : int
        The axis whose weights sum to one.
    """
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~valid, lowest).softmax(dim)
    return weights * valid


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over time of the valid steps, zero where there is none.

    Parameters
    ----------
    values : Tensor of shape (batch, time, dim)
    valid : bool Tensor of shape (batch, time)
    """
    weights = valid.to(values.dtype)
    count = weights.sum(-1, keepdim=True).clamp(min=1.0)
    return (values * weights[..., None]).sum(-2) / count


def mean_over_windows(
    encode: Callable[
        [Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]
    ],
    signals: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Encode each window by itself; average the embeddings over the windows there are.

    Windows are encoded one after the other and added up in order, so that more padding
    leaves every bit as it was. A sample of one window costs nothing more.

    Parameters
    ----------
    encode : callable
        Turns signals (batch, channels, features), zero where there is none, and bool
        masks (batch,) into embeddings (batch, dim), one for each modality in `masks`
        and ``"fusion"``. They may be anything, but finite, where a mask is False.
    signals : mapping of str to Tensor of shape (batch, time, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, time)

    Returns
    -------
    dict of str to Tensor of shape (batch, dim)
        Zero for a modality that is missing in the whole sample. The fusion is averaged
        over the windows in which any modality was recorded.
    """
    clean = dict(zip(masks, observed(signals, masks), strict=True))
    there = {**masks, FUSION: reduce(torch.logical_or, masks.values())}
    totals: dict[str, Tensor] = {}
    for step in range(there[FUSION].shape[-1]):
        encoded = encode(
            {name: signal[..., step, :, :] for name, signal in clean.items()},
            {name: mask[..., step] for name, mask in masks.items()},
        )
        for branch, embedding in encoded.items():
            seen = embedding * there[branch][..., step, None]
            totals[branch] = totals[branch] + seen if branch in totals else seen
    return {
        branch: total / there[branch].sum(-1, keepdim=True).clamp(min=1)
        for branch, total in totals.items()
    }


def channel_order(modality: Modality) -> Tensor:
    """Return the channels' positions in the order of their names.

    Weights that are bound to channels in this order serve any order of channels. The
    old names of electrodes stand where today's do.
    """
    names = modality.channels
    if modality.kind == "eeg":
        names = tuple(canonical_name(name) for name in names)
    return torch.tensor(sorted(range(len(names)), key=names.__getitem__))


def single_eeg(backbone: str, modalities: Mapping[str, Modality]) -> str:
    """Return the name of the one modality of kind ``"eeg"``.

    Parameters
    ----------
    backbone : str
        The registered name of the network that needs it, for the message.
    modalities : mapping of str to Modality

    Raises
    ------
    ConfigurationError
        If there is none, or more than one.
    """
    names = [name for name, modality in modalities.items() if modality.kind == "eeg"]
    if len(names) != 1:
        kinds = ", ".join(f"{name} ({each.kind})" for name, each in modalities.items())
        raise ConfigurationError(
            f"The backbone {backbone} needs exactly one modality of kind 'eeg'; found "
            f"{len(names)} among: {kinds or 'no modalities'}. Choose modalities with "
            f"--modalities, set kind='eeg' where channels are 10-20 electrodes, or "
            f"take a network that needs none (--backbone concatenation-mlp)."
        )
    return names[0]


def require_divisible(width: int, heads: int) -> None:
    """Raise :class:`ConfigurationError` unless `heads` divides `width`."""
    if width % heads:
        raise ConfigurationError(
            f"width={width} cannot be divided among heads={heads}; expected a width "
            f"that is a multiple of the number of attention heads, such as "
            f"width={heads * 16}."
        )


def require_modalities(backbone: str, modalities: Mapping[str, Modality]) -> None:
    """Raise :class:`ConfigurationError` if there is no modality.

    Parameters
    ----------
    backbone : str
        Registered name of the backbone that is built.
    modalities : mapping of str to Modality
    """
    if not modalities:
        raise ConfigurationError(
            f"The backbone {backbone} fuses modalities; found none. Choose at least "
            f"one with --modalities."
        )


class Dropout(nn.Module):
    """Dropout as :class:`torch.nn.Dropout` does it, several times faster on a CPU.

    Parameters
    ----------
    probability : float
        Share of values that are set to zero in training; below 1. On a CPU it is
        rounded to a multiple of 1 / 65536.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with some set to zero and the others scaled up."""
        if not self.training or self.probability == 0.0:
            return values
        if values.is_cuda:
            return functional.dropout(values, self.probability)
        kept = round((1.0 - self.probability) * _SIXTEEN_BITS)
        return values * _factors(values, kept)


def _factors(values: Tensor, kept: int) -> Tensor:
    """Return what dropout multiplies values by, as :func:`kept_or_dropped` draws it.

    Whoever draws in torch's place is asked for it as a whole.
    """
    wanted = tuple(values.shape), kept, values.dtype, values.device
    if has_torch_function_unary(values):
        drawn: Tensor = handle_torch_function(kept_or_dropped, (values,), *wanted)
        return drawn
    return kept_or_dropped(*wanted)


def kept_or_dropped(
    shape: tuple[int, ...],
    kept: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return zeros, and for `kept` of 65536 values what makes up for the zeros.

    Torch draws Bernoulli and uniform numbers one by one on a CPU: here one draw makes
    four.
    """
    count = math.prod(shape)
    most = 2**63 - 1
    drawn = torch.randint(
        -most - 1, most, (-(-count // 4),), device=device, generator=generator
    )
    numbers = drawn.view(torch.int16)[:count].view(shape)
    # Of 65536 numbers `kept` lie above the bound: these become 1, the others 0.
    bound = _SIXTEEN_BITS // 2 - kept
    ones = numbers.clamp(bound, bound + 1).sub_(bound)
    return ones.to(dtype).mul_(_SIXTEEN_BITS / kept)


class GroupedLinear(nn.Module):
    """A linear layer with weights of its own for every group of rows.

    Parameters
    ----------
    groups, inputs, outputs : int
    bias : bool
        Whether to add a bias.
    """

    bias: nn.Parameter | None

    def __init__(
        self, groups: int, inputs: int, outputs: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(
            torch.empty(groups, inputs, outputs).uniform_(-bound, bound)
        )
        self.bias = (
            nn.Parameter(torch.empty(groups, 1, outputs).uniform_(-bound, bound))
            if bias
            else None
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows of shape (groups, rows, inputs) to (groups, rows, outputs)."""
        return product(rows, self.weight, self.bias)


class Raised(NamedTuple):
    """Tokens that a linear layer made of shorter ones.

    Attributes
    ----------
    tokens : Tensor of shape (batch, tokens, width)
    values : Tensor of shape (batch, tokens, features)
        What they were made of.
    layer : Linear
        From `features` to `width`, with a bias.
    """

    tokens: Tensor
    values: Tensor
    layer: nn.Linear

    @classmethod
    def by(cls, layer: nn.Linear, values: Tensor) -> Raised:
        """Return what `layer` makes of `values`."""
        return cls(layer(values), values, layer)


class Attention(nn.Module):
    """Multi-head attention with the parameters of :class:`torch.nn.MultiheadAttention`.

    Names, shapes and initial values of the parameters are torch's, so that state
    dictionaries are interchangeable; the softmax is written out.

    Parameters
    ----------
    width, heads : int
    dropout : float
        Share of attention weights that are dropped in training.
    few : bool
        Whether tokens are few, a dozen or so: then all heads are computed in the same
        products, which is the same to rounding, and faster.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        dropout: float = 0.0,
        few: bool = False,
    ) -> None:
        super().__init__()
        require_divisible(width, heads)
        self.heads, self.few = heads, few
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, memory: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Attend from `query` to `memory`.

        Parameters
        ----------
        query : Tensor of shape (batch, queries, width)
        memory : Tensor of shape (batch, keys, width)
        valid : bool Tensor of shape (batch, keys), optional
            Which keys may be attended to; all by default. Where none may, the
            attention is zero but for the last layer's bias.

        Returns
        -------
        Tensor of shape (batch, queries, width)
        """
        width = query.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is memory:
            queries, keys, values = linear(query, weight, bias).chunk(3, -1)
        else:
            queries = linear(query, weight[:width], bias[:width])
            both = linear(memory, weight[width:], bias[width:])
            keys, values = both.chunk(2, -1)
        if self.few:
            return self._mixed_at_once(queries, keys, values, valid)
        queries = self._split(queries) * (width // self.heads) ** -0.5
        scores = product(queries, self._split(keys).mT)
        if valid is None:
            shares = scores.softmax(-1)
        else:
            shares = masked_softmax(scores, valid[..., None, None, :])
        mixed = product(self.dropout(shares), self._split(values))
        attended: Tensor = self.out_proj(mixed.transpose(-2, -3).flatten(-2))
        return attended

    def _mixed_at_once(
        self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Attend by as many queries as there are heads, zero but for a head's values.

        Nothing is moved for the heads, products are larger, and a softmax over an axis
        that is not the last works on many queries at a time.
        """
        by_head = queries.reshape(*queries.shape[:-1], self.heads, -1)
        scaled = by_head * by_head.shape[-1] ** -0.5
        asked = torch.diag_embed(scaled.mT, dim1=-3, dim2=-2)
        asked = asked.flatten(-2).flatten(-3, -2)
        if valid is None:
            shares = product(keys, asked.mT).softmax(-2)
        else:
            # What may not be attended to has no share, but where nothing may.
            lowest = torch.finfo(keys.dtype).min
            barred = torch.zeros_like(valid, dtype=keys.dtype)
            barred = barred.masked_fill(~valid, lowest).unsqueeze(-1)
            shares = product(keys, asked.mT, barred).softmax(-2)
            values = values * valid.unsqueeze(-1)
        mixed = product(self.dropout(shares).mT, values)
        mixed = mixed.reshape(*by_head.shape[:-1], *by_head.shape[-2:])
        own = mixed.diagonal(dim1=-3, dim2=-2).mT.flatten(-2)
        attended: Tensor = self.out_proj(own)
        return attended

    def between(self, query: Raised, memory: Raised) -> Tensor:
        r"""Attend from tokens to tokens, where a linear layer raised both.

        To rounding, and to what dropout draws, the same as :meth:`forward` of the
        tokens. With values :math:`x` and :math:`y` that :math:`U_x` and :math:`U_y`
        raise, a head's scores, and what it adds to the result, are

        .. math:: (W_q U_x x)^T (W_k U_y y) = (A x)^T y, \quad
                  W_o W_v U_y y S = B y S

        but for biases. :math:`A` and :math:`B` are products of weights, taken once for
        the batch: where values are short, most operations are spared, and all heads
        read the same :math:`y`. Biases of keys move all scores of a query alike, and
        change no share.

        Parameters
        ----------
        query, memory : Raised

        Returns
        -------
        Tensor of shape (batch, queries, width)
        """
        width = self.out_proj.in_features
        if width < _WIDE or self.heads * memory.values.shape[-1] > width:
            return self.forward(query.tokens, memory.tokens)
        # Rows are (batch, queries * heads, features): nothing is moved for the heads.
        asked = linear(query.values, *self._asking(query, memory))
        asked = asked.reshape(*asked.shape[:-2], -1, memory.values.shape[-1])
        shares = self.dropout(product(asked, memory.values.mT).softmax(-1))
        mixed = product(shares, memory.values)
        mixed = mixed.reshape(*query.values.shape[:-1], -1)
        taking, offsets = self._taking(memory)
        bias: Tensor = self.out_proj.bias
        if self.training and self.dropout.probability:
            sums = shares.sum(-1).reshape(*query.values.shape[:-1], -1)
            mixed, taking = torch.cat([mixed, sums], -1), torch.cat([taking, offsets])
        else:  # the shares of a query sum to one
            bias = bias + offsets.sum(0)
        attended: Tensor = linear(mixed, taking.mT, bias)
        return attended

    def _asking(self, query: Raised, memory: Raised) -> tuple[Tensor, Tensor]:
        """Return A of all heads, (heads * features, features), and its bias."""
        asking, key, _ = self.in_proj_weight.chunk(3)
        bias, _, _ = self.in_proj_bias.chunk(3)
        keys = self._by_head(key @ memory.layer.weight).mT
        keys = keys * (key.shape[-1] // self.heads) ** -0.5
        weight = keys @ self._by_head(asking @ query.layer.weight)
        shift = functional.linear(query.layer.bias, asking, bias)
        return weight.flatten(0, 1), (keys @ self._by_head(shift[:, None])).flatten()

    def _taking(self, memory: Raised) -> tuple[Tensor, Tensor]:
        """Return the transposed B of all heads, and the offset of each head's share.

        Of shape (heads * features, width) and (heads, width).
        """
        _, _, value = self.in_proj_weight.chunk(3)
        _, _, bias = self.in_proj_bias.chunk(3)
        out = self._by_head(self.out_proj.weight.mT)
        weight = self._by_head(value @ memory.layer.weight).mT @ out
        shift = functional.linear(memory.layer.bias, value, bias)
        offsets = self._by_head(shift[:, None]).mT @ out
        return weight.flatten(0, 1), offsets.squeeze(1)

    def _by_head(self, rows: Tensor) -> Tensor:
        """Turn (width, columns) into (heads, width / heads, columns)."""
        return rows.reshape(self.heads, -1, rows.shape[-1])

    def _split(self, rows: Tensor) -> Tensor:
        """Turn (batch, rows, width) into (batch, heads, rows, width / heads)."""
        return rows.reshape(*rows.shape[:-1], self.heads, -1).transpose(-2, -3)


class TransformerLayer(nn.Module):
    """A post-norm encoder layer with the parameters of torch's own.

    It computes what :class:`torch.nn.TransformerEncoderLayer` computes, in training
    and in evaluation by the same path.

    Parameters
    ----------
    width, heads, feedforward : int
    dropout : float
    activation : nn.Module, optional
        ReLU by default.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        *,
        dropout: float = 0.1,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout=dropout)
        self.linear1 = Linear(width, feedforward)
        self.linear2 = Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.activation = activation or nn.ReLU()
        self.dropout = Dropout(dropout)

    def forward(self, given: Tensor | Raised) -> Tensor:
        """Map tokens of shape (batch, tokens, width) to the same shape."""
        if isinstance(given, Raised):
            tokens, attended = given.tokens, self.self_attn.between(given, given)
        else:
            tokens, attended = given, self.self_attn(given, given)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = linear(tokens, self.linear1.weight, self.linear1.bias)
        hidden = self.dropout(self.activation(hidden))
        hidden = linear(hidden, self.linear2.weight, self.linear2.bias)
        encoded: Tensor = self.norm2(tokens + self.dropout(hidden))
        return encoded


class TemporalPooling(nn.Module):
    """A weighted mean over time, by a learned score, of the steps that are there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        """Pool (..., batch, time, width) under (batch, time) to (..., batch, width)."""
        weights = masked_softmax(self.score(sequence).squeeze(-1), mask)
        return (weights.unsqueeze(-1) * sequence).sum(-2)


class MultiViewEmbedding(nn.Module):
    r"""Several views of an input: a linear map of it under as many learned gates.

    .. math:: t_k = \operatorname{norm}\big(W_1 x \circ \sigma(W_{2,k} x)\big),
              \quad k = 1, \dots, K

    with biases, and LayerNorm where the released codes of MAET and PhysioSync have
    BatchNorm.

    Parameters
    ----------
    inputs, width : int
    views : int
        The K of the equation.
    """

    def __init__(self, inputs: int, width: int, views: int = 3) -> None:
        super().__init__()
        self.views = views
        self.content = Linear(inputs, width)
        self.gates = Linear(inputs, views * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Embed (..., inputs) as (..., views, width)."""
        content = self.content(values).unsqueeze(-2)
        gates = self.gates(values).sigmoid().unflatten(-1, (self.views, -1))
        tokens: Tensor = self.norm(content * gates)
        return tokens


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation by the samples in which a sensor is there.

    In training, mean and variance are those of the present samples; where these are
    fewer than two, the running ones. The first batch sets the running ones, and later
    ones move them.
    """

    def forward(self, values: Tensor, present: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise a batch.

        Parameters
        ----------
        values : Tensor of shape (batch, features)
        present : bool Tensor of shape (batch,)
        """
        mean, variance = self.running_mean, self.running_var
        assert mean is not None and variance is not None
        if self.training:
            mean, variance = self._of_batch(values, present, mean, variance)
        scaled = (values - mean) * (variance + self.eps).rsqrt()
        return scaled * self.weight + self.bias

    def _of_batch(
        self, values: Tensor, present: Tensor, mean: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and variance of a batch, and move the running ones to them."""
        weights = present.to(values.dtype).unsqueeze(-1)
        count = weights.sum(-2)
        own_mean = (values * weights).sum(-2) / count.clamp(min=1)
        squares = (values - own_mean).square() * weights
        own_variance = squares.sum(-2) / count.clamp(min=1)
        enough = count > 1
        tracked = self.num_batches_tracked
        assert tracked is not None and self.momentum is not None
        with torch.no_grad():
            moved = torch.where(tracked == 0, 1.0, self.momentum) * enough
            mean.lerp_(own_mean, moved.to(mean.dtype))
            unbiased = own_variance * count / (count - 1).clamp(min=1)
            variance.lerp_(unbiased, moved.to(mean.dtype))
            tracked += enough.long().squeeze(-1)
        # Copies: the running ones change again before the gradient is taken.
        return (
            torch.where(enough, own_mean, mean),
            torch.where(enough, own_variance, variance),
        )
