"""PhysioSync: every sensor at two temporal resolutions, fused by confidence gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.sequences import Sequences
from ..values import Bounds
from .layers import (
    Attention,
    Dropout,
    DropoutShare,
    MultiViewEmbedding,
    Size,
    channel_order,
    masked_mean,
    observed,
    require_divisible,
    require_modalities,
)
from .products import Linear

if TYPE_CHECKING:
    import optuna

__all__ = ["PhysioSync"]

_VIEWS = 3
_TOKENS = 1 + _VIEWS
_DEVIATION = 0.02


Gate = (
    Literal[0]
    | Annotated[
        int,
        Bounds(2, words="0 for no gate, or 2 or more scores, as one has all to itself"),
    ]
)


@register(name="physiosync")
class PhysioSync(Backbone):
    r"""A Transformer over each window and one over the whole run, for every sensor.

    After PhysioSync (IEEE TCSS 2025, doi 10.1109/TCSS.2025.3602913, arXiv 2504.17163;
    code MSA-LMC/PhysioSync). The paper's text was not available: the network is rebuilt
    from what the released code computes. Its pre-training is
    :class:`domainemo.training.synchrony.SynchronyContrast`, on :meth:`views`.

    As released: in every modality a long encoder reads `length` consecutive windows at
    once and a short encoder each of them (5 s and 1 s of raw signal in the paper; any
    features serve). An encoder makes three gated views of its input and a summary token
    of them, which exchange in `blocks` Transformer blocks with learned prompts in those
    of the EEG, and returns all four tokens side by side, :math:`h`. A linear layer
    that all modalities share, one for each resolution, gives the confidence

    .. math:: h \leftarrow h \cdot \max_k \operatorname{softmax}(W h + b)_k,

    and two layers fuse the long features and every window's short ones.

    Ours, each with its reason:

    - `short_width` 32 and `long_width` 64: the released 128 and 640 have 90 million
      parameters on DEAP's raw signals. The study ``physiosync`` has those;
    - LayerNorm wherever the original has BatchNorm (the views, the fusion), so that
      neither padding nor the rest of the batch enters an embedding;
    - `gate`: the scores of the confidence layer, as many as classes in the original,
      are a number of their own, as a backbone does not know the classes;
    - a modality's embedding: its gated long features, and the mean of the short ones
      over the windows that were recorded. The original has no modality branches;
    - fewer windows than `length` are filled up with zeros. More are divided into
      consecutive blocks of `length`, and embeddings averaged over the blocks in which
      something was recorded;
    - what a sensor lost is zero in the long encoder's input, and exactly zero among the
      features that are fused;
    - `initialisation`: torch's own, where the released encoders draw every linear
      layer from a truncated normal distribution;
    - any number of modalities, with or without EEG;
    - weights are bound to channels by name: another order of channels is the same.

    Parameters
    ----------
    modalities : mapping of str to Modality
        In the paper, the EEG with skin conductance or with ECG.
    length : int
        Windows that the long encoder sees at once: 5 in the paper.
    resolutions : {"both", "short", "long"}
        Which encoders there are. With one resolution the other's encoders and gate are
        left out, as are its features in every embedding; on DREAMER the released code
        has ``"short"`` alone, with a `length` of 1.
    short_width, long_width : int
        Dimension of a token in the short and in the long encoders: 128 and 640 as
        released. An encoder returns four tokens.
    blocks : int
        Transformer blocks of each encoder.
    heads : int
        Attention heads.
    feedforward_ratio : int
        Hidden units of a block's feed-forward layers, in multiples of the width.
    layer_scale : float
        Initial weight of what a block adds to its tokens.
    prompts : int
        Prompt tokens in every block of encoders of the kind ``"eeg"``; 0 for none.
    dropout : float
        Dropout of the embedded tokens, likewise for the kind ``"eeg"`` alone.
    gate : int
        Scores whose largest share is the confidence, at least 2: as many as classes as
        released. 0 leaves the gates out.
    fusion_hidden, fusion_width : int
        Units of the first layer of the fusion; dimension of the fusion embedding.
    head_dropout : float
        Dropout before the fusion classifier.
    initialisation : {"uniform", "truncated-normal"}
        How the linear layers of the encoders begin: as torch draws them; or, as
        released, with weights from a normal distribution of deviation 0.02, cut off at
        2, and biases of zero.
    sampling : Sampling, optional
        ``Sequences(length=length)`` by default.

    Raises
    ------
    ConfigurationError
        If there is no modality, or an option is out of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        length: Size = 5,
        resolutions: Literal["both", "short", "long"] = "both",
        short_width: Size = 32,
        long_width: Size = 64,
        blocks: Size = 3,
        heads: Size = 4,
        feedforward_ratio: Size = 4,
        layer_scale: Annotated[float, Bounds(least=0)] = 0.1,
        prompts: Annotated[int, Bounds(0)] = 2,
        dropout: DropoutShare = 0.2,
        gate: Gate = 3,
        fusion_hidden: Size = 256,
        fusion_width: Size = 128,
        head_dropout: Annotated[float, Bounds(0, 1)] = 0.2,
        initialisation: Literal["uniform", "truncated-normal"] = "uniform",
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("physiosync", modalities)
        self.length, self.resolutions = length, resolutions
        self.short_width, self.long_width = short_width, long_width
        self.blocks, self.heads = blocks, heads
        self.feedforward_ratio, self.layer_scale = feedforward_ratio, layer_scale
        self.prompts, self.dropout, self.gate = prompts, dropout, gate
        self.fusion_hidden, self.fusion_width = fusion_hidden, fusion_width
        self.head_dropout, self.initialisation = head_dropout, initialisation
        for width in (short_width, long_width):
            require_divisible(width, heads)
        self.sampling = sampling or Sequences(length=length)
        self.branches = tuple(modalities)
        self._build(modalities)

    def _build(self, modalities: Mapping[str, Modality]) -> None:
        """Make the layers."""
        has_short, has_long = self.resolutions != "long", self.resolutions != "short"
        short = _TOKENS * self.short_width if has_short else 0
        long = _TOKENS * self.long_width if has_long else 0
        # Empty where a resolution is left out.
        self.short_encoders, self.long_encoders = nn.ModuleDict(), nn.ModuleDict()
        for name, modality in modalities.items():
            inputs = len(modality.channels) * len(modality.features)
            kind = modality.kind
            if has_short:
                self.short_encoders[name] = self._encoder(
                    inputs, self.short_width, kind
                )
            if has_long:
                self.long_encoders[name] = self._encoder(
                    self.length * inputs, self.long_width, kind
                )
            # It follows from the names: a saved state fits any channel order.
            self.register_buffer(
                f"_channels_{name}", channel_order(modality), persistent=False
            )
        self.short_gate = _gate(short, self.gate)
        self.long_gate = _gate(long, self.gate)
        self.fusion = nn.Sequential(
            nn.Linear(
                len(modalities) * (long + self.length * short), self.fusion_hidden
            ),
            nn.LayerNorm(self.fusion_hidden),
            nn.ReLU(),
            nn.Linear(self.fusion_hidden, self.fusion_width),
            nn.LayerNorm(self.fusion_width),
            nn.ReLU(),
        )

    def _encoder(self, inputs: int, width: int, kind: str) -> Encoder:
        eeg = kind == "eeg"
        encoder = Encoder(
            inputs,
            width,
            blocks=self.blocks,
            heads=self.heads,
            feedforward=self.feedforward_ratio * width,
            layer_scale=self.layer_scale,
            prompts=self.prompts if eeg else 0,
            dropout=self.dropout if eeg else 0.0,
        )
        if self.initialisation == "truncated-normal":
            encoder.apply(_truncated_normal)
        return encoder

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the blocks, the prompts and the dropout."""
        return {
            "blocks": trial.suggest_int("blocks", 1, 4),
            "prompts": trial.suggest_int("prompts", 1, 4),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }

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
            Of shape (batch, 4 * (long_width + short_width)) for each modality, without
            the width of a resolution that is left out, zero where it is missing in the
            whole sample; (batch, fusion_width) for the fusion.
        """
        embeddings: dict[str, list[Tensor]] = {b: [] for b in (*self.branches, FUSION)}
        present: dict[str, list[Tensor]] = {b: [] for b in (*self.branches, FUSION)}
        for block in self._encoded(signals, masks):
            joined = []
            for name, encoded in block.items():
                own, fused = self._gated(encoded)
                embeddings[name].append(torch.cat(own, -1))
                present[name].append(encoded.mask.any(-1))
                joined += fused
            embeddings[FUSION].append(self.fusion(torch.cat(joined, -1)))
            seen = [present[name][-1] for name in self.branches]
            present[FUSION].append(reduce(torch.logical_or, seen))
        return {b: _mean(embeddings[b], present[b]) for b in embeddings}

    def views(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return the encoders' features as they are before gates, for pre-training.

        One row a sample at both resolutions, so that both are contrasted on the same
        pairs: the short features are averaged over the windows that were recorded, as
        they are in a modality's embedding, and keep their dimension at any length. The
        original trains its short encoder on windows that are pairs of their own: that
        is what the short views are of samples of a single window.

        Parameters
        ----------
        signals, masks
            As for :meth:`forward`.

        Returns
        -------
        mapping of str to Tensor
            ``"MODALITY/long"`` of shape (batch, 4 * long_width) and
            ``"MODALITY/short"`` of shape (batch, 4 * short_width), zero where the
            modality is missing in the whole sample. Only those of the `resolutions`.
        """
        views: dict[str, list[Tensor]] = {}
        present: dict[str, list[Tensor]] = {}
        for block in self._encoded(signals, masks):
            for name, encoded in block.items():
                found = {"long": encoded.long, "short": encoded.short}
                if encoded.short is not None:
                    found["short"] = masked_mean(encoded.short, encoded.mask)
                for view, value in found.items():
                    if value is not None:
                        views.setdefault(f"{name}/{view}", []).append(value)
                        seen = encoded.mask.any(-1)
                        present.setdefault(f"{name}/{view}", []).append(seen)
        return {view: _mean(views[view], present[view]) for view in views}

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier: linear on the fusion, a hidden layer elsewhere."""
        if branch != FUSION:
            return super().head(branch, dim, classes)
        return nn.Sequential(nn.Dropout(self.head_dropout), nn.Linear(dim, classes))

    def _encoded(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Iterator[dict[str, Encoded]]:
        """Yield the features of each block of `length` windows, by modality."""
        ours = {name: masks[name] for name in self.branches}
        clean = dict(zip(ours, observed(signals, ours), strict=True))
        time = next(iter(ours.values())).shape[-1]
        # One by one and of one shape, so that more padding leaves every bit as it was.
        for start in range(0, time, self.length):
            end = min(start + self.length, time)
            fill = self.length - (end - start)
            yield {
                name: self._encode(
                    name,
                    functional.pad(
                        clean[name][..., start:end, :, :], (0,) * 5 + (fill,)
                    ),
                    functional.pad(mask[..., start:end], (0, fill)),
                )
                for name, mask in ours.items()
            }

    def _encode(self, name: str, signal: Tensor, mask: Tensor) -> Encoded:
        """Encode exactly `length` windows of one modality."""
        order = self.get_buffer(f"_channels_{name}")
        windows = signal.index_select(-2, order).flatten(-2)
        seen = mask[..., None].to(signal.dtype)
        long = short = None
        if name in self.long_encoders:
            long = self.long_encoders[name](windows.flatten(-2)) * seen.amax(-2)
        if name in self.short_encoders:
            short = self.short_encoders[name](windows) * seen
        return Encoded(long, short, mask)

    def _gated(self, encoded: Encoded) -> tuple[list[Tensor], list[Tensor]]:
        """Return what stands for a modality in its embedding, and in the fusion."""
        own, fused = [], []
        if encoded.long is not None:
            long = (
                encoded.long if self.long_gate is None else self.long_gate(encoded.long)
            )
            own.append(long)
            fused.append(long)
        if encoded.short is not None:
            short = (
                encoded.short
                if self.short_gate is None
                else self.short_gate(encoded.short)
            )
            own.append(masked_mean(short, encoded.mask))
            fused.append(short.flatten(-2))
        return own, fused


class Encoded(NamedTuple):
    """Features of one modality in one block of windows, zero where it is missing.

    Attributes
    ----------
    long : Tensor of shape (batch, 4 * long_width), or None
    short : Tensor of shape (batch, length, 4 * short_width), or None
    mask : bool Tensor of shape (batch, length)
    """

    long: Tensor | None
    short: Tensor | None
    mask: Tensor


class Encoder(nn.Module):
    """Three views of an input and a summary token, through Transformer blocks.

    Parameters
    ----------
    inputs : int
        Values of an input: channels times samples, or times features.
    width : int
        Dimension of a token.
    blocks, heads, feedforward : int
    layer_scale : float
    prompts : int
    dropout : float
        Dropout of the embedded tokens.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        blocks: int,
        heads: int,
        feedforward: int,
        layer_scale: float,
        prompts: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = MultiViewEmbedding(inputs, width, _VIEWS)
        self.summary = nn.Parameter(0.02 * torch.randn(1, width))
        self.position_embedding = nn.Parameter(0.02 * torch.randn(_TOKENS, width))
        self.type_embedding = nn.Parameter(0.02 * torch.randn(width))
        self.dropout = Dropout(dropout)
        self.blocks = nn.Sequential(
            *(
                PromptedBlock(
                    width,
                    heads,
                    feedforward,
                    prompts=prompts,
                    layer_scale=layer_scale,
                )
                for _ in range(blocks)
            )
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, values: Tensor) -> Tensor:
        """Encode (..., inputs) as (..., 4 * width)."""
        views = self.embedding(values)
        summary = self.summary.expand(*views.shape[:-2], 1, -1)
        places = self.position_embedding + self.type_embedding
        tokens = torch.cat([summary, views], -2) + places
        encoded: Tensor = self.norm(self.blocks(self.dropout(tokens))).flatten(-2)
        return encoded


class PromptedBlock(nn.Module):
    """A pre-norm Transformer block, whose tokens also listen to learned prompts.

    The prompts stand beside the tokens in the attention and are dropped behind it; as
    nothing else reads them, they serve as keys and values only. A ReLU follows both
    feed-forward layers, as in the released code.

    Parameters
    ----------
    width, heads, feedforward : int
    prompts : int
        Number of prompts; without any, a block is a plain one.
    layer_scale : float
        Initial value of the learned weights of what is added to the tokens.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        *,
        prompts: int,
        layer_scale: float,
    ) -> None:
        super().__init__()
        self.prompts = (
            nn.Parameter(0.02 * torch.randn(prompts, width)) if prompts else None
        )
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, few=True)
        self.attention_scale = nn.Parameter(torch.full((width,), float(layer_scale)))
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            Linear(width, feedforward),
            nn.ReLU(inplace=True),
            Linear(feedforward, width),
            nn.ReLU(inplace=True),
        )
        self.feedforward_scale = nn.Parameter(torch.full((width,), float(layer_scale)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens of shape (..., tokens, width) to the same shape."""
        query = memory = self.attention_norm(tokens)
        if self.prompts is not None:
            prompts = self.attention_norm(self.prompts)
            prompts = prompts.expand(*query.shape[:-2], *prompts.shape)
            memory = torch.cat([query, prompts], -2)
        attended = self.attention(query, memory)
        tokens = torch.addcmul(tokens, self.attention_scale, attended)
        fed = self.feedforward(tokens)
        return torch.addcmul(tokens, self.feedforward_scale, fed)


class ConfidenceGate(nn.Module):
    """Features times the largest share that a linear layer gives one of its scores.

    Parameters
    ----------
    dim : int
        Dimension of the features.
    scores : int
    """

    def __init__(self, dim: int, scores: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, scores)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (..., dim), weighted; zeros stay."""
        shares: Tensor = self.score(features).softmax(-1)
        return features * shares.amax(-1, keepdim=True)


def _gate(dim: int, scores: int) -> ConfidenceGate | None:
    """Return a gate; None where there are no features, or no gates."""
    return ConfidenceGate(dim, scores) if dim and scores else None


def _truncated_normal(module: nn.Module) -> None:
    """Draw a linear layer's weights as the released encoders do; leave others."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_DEVIATION)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):
        nn.init.trunc_normal_(module.in_proj_weight, std=_DEVIATION)
        nn.init.zeros_(module.in_proj_bias)


def _mean(blocks: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
    """Return the mean of the blocks (batch, dim) that are there, zero without any."""
    weights = [there[..., None].to(blocks[0].dtype) for there in present]
    total = reduce(torch.add, map(torch.mul, blocks, weights))
    return total / reduce(torch.add, weights).clamp(min=1.0)
