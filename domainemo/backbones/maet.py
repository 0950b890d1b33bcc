"""MAET: one Transformer for every sensor alone, and for all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.windows import Windows
from ..values import Bounds
from .layers import (
    Attention,
    Dropout,
    DropoutShare,
    MultiViewEmbedding,
    Size,
    channel_order,
    masked_softmax,
    mean_over_windows,
    require_divisible,
    require_modalities,
)
from .products import Linear, product

__all__ = ["MAET", "MixtureBlock", "SummaryFusion"]

_SPREAD = 0.02


@register(name="maet")
class MAET(Backbone):
    r"""A multimodal Transformer whose feed-forward layers are of one sensor or of all.

    After MAET (Jiang et al., ACM Multimedia 2023, doi 10.1145/3581783.3613797), the
    baseline of SEED-VII; code 935963004/MAET. The papers' texts were not available:
    this is a reconstruction from what the released network computes.

    As released: each modality's window is seen in `view_count` gated views, to which a
    summary token, learned positions and a type are added. All tokens pass `blocks`
    pre-norm Transformer blocks that share their attention. Where one modality is read
    alone, its own feed-forward layers follow, and the mean of its views is its
    embedding. Where all are read together, tokens attend to those of every modality;
    the first `mixture_from` blocks use each modality's own feed-forward layer and the
    others one that all share; and the summary tokens :math:`c_m` are fused by

    .. math:: f = \sum_m \alpha_m c_m, \quad
              \alpha = \operatorname{softmax}_m (w^T c_m).

    What a block adds to its tokens is weighed by factors that start at `layer_scale`.
    All initial values are the released ones.

    Ours, each with its reason:

    - both ways of reading run in every pass, the first for the modalities' embeddings,
      which then are of one modality alone, and the second for the fusion. The original
      reads in one way or the other;
    - with a single modality there is nothing to mix: the fusion is its embedding, as in
      the original's unimodal mode, and has no weights of its own;
    - any number of modalities. One that is missing in a window is not attended to, and
      not fused;
    - a sample of several windows has each encoded by itself, and the embeddings
      averaged over the windows that are there;
    - LayerNorm in place of the BatchNorm of the views, so that the rest of the batch
      does not enter an embedding;
    - `dropout` is 0, as in the released example;
    - weights are bound to channels by name: another order of channels is the same.

    Left out: prompt tokens, stochastic depth and dropped attention weights, all of
    which the released example switches off; and the domain classifier behind a gradient
    reversal, which is a loss and not a part of the network.

    Parameters
    ----------
    modalities : mapping of str to Modality
        In the paper, the EEG and the eye movements.
    width : int
        Dimension of a token, and of every embedding.
    view_count : int
        Views of each modality's window.
    blocks : int
        Transformer blocks.
    heads : int
        Attention heads.
    feedforward_ratio : int
        Hidden units of a feed-forward layer, in multiples of the width.
    mixture_from : int
        The first block, counted from 0, whose feed-forward layer is shared by all
        modalities where they are read together.
    layer_scale : float
        Initial weight of what a block adds to its tokens.
    dropout : float
        Dropout of the embedded tokens, of the attention's output and in the
        feed-forward layers.
    sampling : Sampling, optional
        Single windows by default, as released.

    Raises
    ------
    ConfigurationError
        If there is no modality, or an option is out of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 32,
        view_count: Size = 5,
        blocks: Size = 3,
        heads: Size = 4,
        feedforward_ratio: Size = 4,
        mixture_from: Annotated[int, Bounds(0)] = 2,
        layer_scale: Annotated[float, Bounds(least=0)] = 0.1,
        dropout: DropoutShare = 0.0,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("maet", modalities)
        require_divisible(width, heads)
        self.width, self.view_count = width, view_count
        self.blocks, self.heads = blocks, heads
        self.feedforward_ratio, self.mixture_from = feedforward_ratio, mixture_from
        self.layer_scale, self.dropout = layer_scale, dropout
        self.sampling = sampling or Windows()
        self.branches = tuple(modalities)
        self._build(modalities)
        self.apply(_initialise)

    def _build(self, modalities: Mapping[str, Modality]) -> None:
        """Make the layers."""
        self.tokens = nn.ModuleDict()
        for name, modality in modalities.items():
            inputs = len(modality.channels) * len(modality.features)
            self.tokens[name] = Tokens(inputs, self.width, self.view_count)
            # It follows from the names: a saved state fits any channel order.
            self.register_buffer(
                f"_channels_{name}", channel_order(modality), persistent=False
            )
        several = len(modalities) > 1
        self.token_dropout = Dropout(self.dropout)
        self.layers = nn.ModuleList(
            MixtureBlock(
                self.branches,
                self.width,
                self.heads,
                self.feedforward_ratio * self.width,
                mixture=several and number >= self.mixture_from,
                layer_scale=self.layer_scale,
                dropout=self.dropout,
            )
            for number in range(self.blocks)
        )
        self.norm = nn.LayerNorm(self.width)
        self.fusion = SummaryFusion(self.width) if several else None

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
        mapping of str to Tensor of shape (batch, width)
            One for each modality, zero where it is missing in the whole sample, and the
            fusion.
        """
        ours = {branch: masks[branch] for branch in self.branches}
        return mean_over_windows(self._encode, signals, ours)

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the released classifier: linear, on every branch."""
        classifier = nn.Linear(dim, classes)
        _initialise(classifier)
        return classifier

    def _encode(
        self, windows: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Embed windows of shape (batch, channels, features)."""
        tokens = torch.stack([self._tokens_of(name, windows[name]) for name in windows])
        tokens = self.token_dropout(tokens.transpose(0, 1)).transpose(0, 1)
        alone, layers = tokens, cast(list[MixtureBlock], list(self.layers))
        experts = [layer.experts_at_once() for layer in layers]
        for layer, own in zip(layers, experts, strict=True):
            alone = layer(alone, own)
        summaries = self.norm(alone)[..., 1:, :].mean(-2)
        embeddings = dict(zip(windows, summaries, strict=True))
        if self.fusion is None:
            (embedding,) = embeddings.values()
            return {**embeddings, FUSION: embedding}
        there = torch.stack([present[name] for name in windows], -1)
        for layer, own in zip(layers, experts, strict=True):
            tokens = layer(tokens, own, there, last=layer is layers[-1])
        fused = self.fusion(self.norm(tokens[..., 0, :]).transpose(0, 1), there)
        return {**embeddings, FUSION: fused}

    def _tokens_of(self, name: str, window: Tensor) -> Tensor:
        order = self.get_buffer(f"_channels_{name}")
        tokens: Tensor = self.tokens[name](window.index_select(-2, order).flatten(-2))
        return tokens


class Tokens(nn.Module):
    """One modality's summary token and views, each with its place and their type.

    Parameters
    ----------
    inputs : int
        Values of a window: channels times features.
    width, views : int
    """

    def __init__(self, inputs: int, width: int, views: int) -> None:
        super().__init__()
        self.embedding = MultiViewEmbedding(inputs, width, views)
        self.summary = nn.Parameter(_small(1, width))
        self.position_embedding = nn.Parameter(_small(1 + views, width))
        self.type_embedding = nn.Parameter(_small(width))

    def forward(self, values: Tensor) -> Tensor:
        """Turn (..., inputs) into (..., 1 + views, width), the summary token first."""
        views = self.embedding(values)
        summary = self.summary.expand(*views.shape[:-2], 1, -1)
        tokens = torch.cat([summary, views], -2)
        return tokens + (self.position_embedding + self.type_embedding)


class MixtureBlock(nn.Module):
    """A pre-norm Transformer block: attention, then feed-forward by modality or shared.

    Parameters
    ----------
    branches : sequence of str
        The modalities.
    width, heads, feedforward : int
    mixture : bool
        Whether a feed-forward layer that all modalities share takes the place of their
        own ones where they are read together.
    layer_scale : float
        Initial value of the learned weights of what is added to the tokens.
    dropout : float
    """

    def __init__(
        self,
        branches: Sequence[str],
        width: int,
        heads: int,
        feedforward: int,
        *,
        mixture: bool,
        layer_scale: float,
        dropout: float,
    ) -> None:
        super().__init__()

        def expert() -> nn.Module:
            return nn.Sequential(
                nn.LayerNorm(width),
                Linear(width, feedforward),
                nn.GELU(),
                Dropout(dropout),
                Linear(feedforward, width),
                Dropout(dropout),
            )

        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, few=True)
        self.dropout = Dropout(dropout)
        self.attention_scale = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.feedforward_scale = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.experts = nn.ModuleDict({branch: expert() for branch in branches})
        self.mixture = expert() if mixture else None

    def forward(
        self,
        tokens: Tensor,
        experts: Experts,
        there: Tensor | None = None,
        *,
        last: bool = False,
    ) -> Tensor:
        """Map tokens of shape (modalities, batch, tokens, width) to the same shape.

        Parameters
        ----------
        tokens : Tensor of shape (modalities, batch, tokens, width)
        experts : Experts
            What :meth:`experts_at_once` returned.
        there : bool Tensor of shape (batch, modalities), optional
            Which modalities may be attended to. Without it each is read alone: its
            tokens see no other's.
        last : bool
            Whether the summary tokens alone are asked for, as they are of the last
            block where modalities are read together.
        """
        rows = self.attention_norm(tokens)
        if there is None:
            attended = self.attention(rows, rows)
        else:
            attended, tokens = self._across(rows, tokens, there, last)
        # What is dropped is drawn by sample.
        attended = self.dropout(attended.transpose(0, 1)).transpose(0, 1)
        tokens = torch.addcmul(tokens, self.attention_scale, attended)
        if there is not None and self.mixture is not None:
            fed = self.mixture(tokens.transpose(0, 1)).transpose(0, 1)
        else:
            fed = experts(tokens, self.dropout)
        return torch.addcmul(tokens, self.feedforward_scale, fed)

    def _across(
        self, rows: Tensor, tokens: Tensor, there: Tensor, last: bool
    ) -> tuple[Tensor, Tensor]:
        """Return what each token read of all modalities, and the tokens themselves."""
        valid = there.repeat_interleave(rows.shape[-2], -1)
        memory = query = rows.transpose(0, 1).flatten(-3, -2)
        if last:
            tokens = tokens[..., :1, :]
            query = rows[..., 0, :].transpose(0, 1)
        attended = self.attention(query, memory, valid)
        return attended.unflatten(-2, (len(rows), -1)).transpose(0, 1), tokens

    def experts_at_once(self) -> Experts:
        """Return the modalities' own layers as one: the same products, but faster."""
        norms, firsts, _, _, seconds, _ = zip(*self.experts.values(), strict=True)
        scale, shift = _stacked(norms)
        weight, bias = _stacked(firsts)
        # What follows the norm is linear: the norm's weights are taken into it.
        bias = torch.baddbmm(bias.unsqueeze(-1), weight, shift.unsqueeze(-1)).mT
        weight = (weight * scale.unsqueeze(-2)).mT
        out_weight, out_bias = _stacked(seconds)
        return Experts(weight, bias, out_weight.mT, out_bias.unsqueeze(-2))


class Experts(NamedTuple):
    """Feed-forward layers of several modalities, each after a norm without weights.

    Attributes
    ----------
    weight : Tensor of shape (modalities, width, hidden)
    bias : Tensor of shape (modalities, 1, hidden)
    out_weight : Tensor of shape (modalities, hidden, width)
    out_bias : Tensor of shape (modalities, 1, width)
    """

    weight: Tensor
    bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    def __call__(self, tokens: Tensor, dropout: Dropout) -> Tensor:
        """Map tokens of shape (modalities, batch, tokens, width) to the same shape."""
        shape = tokens.shape[:3]

        def dropped(rows: Tensor) -> Tensor:
            by_sample: Tensor = dropout(rows.view(*shape, -1).transpose(0, 1))
            return by_sample.transpose(0, 1)

        rows = functional.layer_norm(tokens, tokens.shape[-1:]).flatten(1, 2)
        hidden = functional.gelu(product(rows, self.weight, self.bias))
        hidden = dropped(hidden).flatten(1, 2)
        return dropped(product(hidden, self.out_weight, self.out_bias))


class SummaryFusion(nn.Module):
    """A weighted mean of the modalities' summary tokens, by a learned score.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, summaries: Tensor, there: Tensor) -> Tensor:
        """Fuse summaries (..., modalities, width) to (..., width).

        Parameters
        ----------
        summaries : Tensor of shape (..., modalities, width)
        there : bool Tensor of shape (..., modalities)
            Where nothing is there, the fusion is zero.
        """
        shares = masked_softmax(summaries @ self.weight, there)
        return (shares[..., None] * summaries).sum(-2)


def _stacked(layers: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return the weights and the biases of layers of one shape."""
    weights = torch.stack([each.weight for each in layers])
    return weights, torch.stack([each.bias for each in layers])


def _small(*shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(shape), std=_SPREAD)


def _initialise(module: nn.Module) -> None:
    """Draw linear weights as the released code does."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_SPREAD)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):
        nn.init.trunc_normal_(module.in_proj_weight, std=_SPREAD)
