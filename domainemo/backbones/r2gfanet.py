"""R2GFANet: regional EEG aligned with other sensors over time, then a global view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core import FUSION, Backbone, Modality, Sampling
from ..errors import ConfigurationError
from ..registry import register
from ..samplings.sequences import Sequences
from ..values import Bounds
from .explanation import Explanation
from .layers import (
    Attention,
    Dropout,
    DropoutShare,
    GroupedLinear,
    Size,
    TemporalPooling,
    TransformerLayer,
    channel_order,
    masked_softmax,
    observed,
    require_divisible,
    single_eeg,
    trimmed,
)
from .products import Linear, product
from .regions import PARTITIONS, regions

if TYPE_CHECKING:
    import optuna

__all__ = ["R2GFANet"]

Listening = Literal["eeg", "both", "none"]
Weighing = Literal["learned", "uniform"]


@register(name="r2gfanet")
class R2GFANet(Backbone):
    """Regional-to-global EEG with multi-region cross-modal attention.

    After R2GFANet (Information Fusion 132, 104224). Only the paper's abstract could be
    read, so this is a reconstruction and says where it is one.

    Documented (abstract):

    - padding masks with a one-dimensional CNN encode the temporal semantics of EEG and
      eye movements of variable length;
    - a multi-region cross-modal attention aligns both over time within each brain
      region, in parallel;
    - a region-level spatial attention highlights critical brain regions.

    Reconstruction (ours, each with its reason):

    - `partition`, ``"16"``: the paper's regions are unknown; its "regional to global"
      points to R2G-STNN, whose re-implementation has these 16;
    - `width` 64, `heads` 4, `feedforward` 128, `kernel` 3, two convolutions with
      LayerNorm, GELU and `dropout` 0.3 between them: customary sizes for some hundred
      trials of band features; no batch norm, as padding would enter its statistics;
    - every region has convolution weights of its own and a learned embedding;
      `shared_attention` lets all regions use the same attention weights, for fewer
      parameters than a set per region;
    - queries from the region, keys and values from the companion, residual, LayerNorm
      and feed-forward, as in a Transformer decoder; several companions add up, and
      none listens to the regions in return, so that its branch is of it alone;
    - `cross_attention` "eeg": the regions listen to the companions. With "both" a
      companion also listens to every region, by weights that regions share, and the
      fusion takes what it then is; with "none" nobody listens, and companions reach
      the fusion by their own summary alone;
    - pooling over time by a learned score, so that windows may weigh differently;
    - `global_layers` 1: one Transformer layer lets regions exchange before the spatial
      attention, which is the "global" of the name;
    - `fusion_width` 128, `head_dropout` 0.5: one hidden layer and a linear classifier;
    - the EEG branch's embedding takes the region features before the cross-modal
      attention through the same global stage, so that it is of EEG alone; so is a
      companion's of it alone;
    - `sampling`: sequences of 8 windows. The paper's results suggest whole trials, but
      trial length alone tells the clip, and with it the label, where every subject
      watches the same clips; ``Trials()`` restores them.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Exactly one of kind ``"eeg"`` and any number of companions, such as eye
        movements. Without a companion the network is regional-to-global EEG.
    width : int
        Dimension of region features and of each modality's embedding.
    heads : int
        Attention heads.
    dropout : float
        Dropout in encoders and attention blocks.
    kernel : int
        Windows that a convolution sees.
    partition : {"16", "20", "6", "1"}
        Brain regions, see :mod:`domainemo.backbones.regions`. With ``"1"`` there is
        nothing to weigh, and no region attention.
    sampling : Sampling, optional
        ``Sequences(length=8)`` by default.
    feedforward : int
        Hidden units of feed-forward layers.
    global_layers : int
        Transformer layers over regions; 0 leaves the global stage out.
    cross_attention : {"eeg", "both", "none"}
        Who listens to whom over time.
    region_attention : {"learned", "uniform"}
        Whether regions weigh by a learned score, or all alike.
    shared_attention : bool
        Whether all regions share the cross-modal attention's weights.
    fusion_width : int
        Dimension of the fusion embedding.
    head_dropout : float
        Dropout before the fusion classifier.

    Raises
    ------
    ConfigurationError
        If there is not exactly one EEG modality, sizes do not fit, or an option is of
        what the others leave out.
    DataError
        If an electrode's name is unknown.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 64,
        heads: Size = 4,
        dropout: DropoutShare = 0.3,
        kernel: Size = 3,
        partition: str = "16",
        sampling: Sampling | None = None,
        feedforward: Size = 128,
        global_layers: Annotated[int, Bounds(0)] = 1,
        cross_attention: Listening = "eeg",
        region_attention: Weighing = "learned",
        shared_attention: bool = True,
        fusion_width: Size = 128,
        head_dropout: Annotated[float, Bounds(0, 1)] = 0.5,
    ) -> None:
        super().__init__()
        require_divisible(width, heads)
        self.width, self.heads, self.dropout = width, heads, dropout
        # A configuration file may well say 16 where it means "16".
        self.kernel, self.partition, self.feedforward = (
            kernel,
            str(partition),
            feedforward,
        )
        self.global_layers, self.shared_attention = global_layers, shared_attention
        self.cross_attention, self.region_attention = cross_attention, region_attention
        self.fusion_width, self.head_dropout = fusion_width, head_dropout
        self.sampling = sampling or Sequences(length=8)
        self.eeg = single_eeg("r2gfanet", modalities)
        self.companions = tuple(name for name in modalities if name != self.eeg)
        self._check_meaning()
        self._build(modalities)

    def _check_meaning(self) -> None:
        """Refuse an option of what the others leave out."""
        if self.cross_attention != "eeg" and not self.companions:
            raise ConfigurationError(
                f"r2gfanet: cross_attention is {self.cross_attention!r}, but EEG alone "
                f"has no cross-modal attention to change; leave the option out, or add "
                f"a modality."
            )
        if self.cross_attention == "none" and not self.shared_attention:
            raise ConfigurationError(
                "r2gfanet: shared_attention is False, but cross_attention 'none' "
                "leaves no attention whose weights regions could share or not; leave "
                "one of the options out."
            )
        if self.partition == "1" and self.region_attention == "uniform":
            raise ConfigurationError(
                "r2gfanet: region_attention is 'uniform', but partition '1' has a "
                "single region, which nothing weighs against another; leave one of the "
                "options out."
            )

    def _build(self, modalities: Mapping[str, Modality]) -> None:
        """Make the layers."""
        width, dropout = self.width, self.dropout
        encoder = partial(
            TemporalEncoder, width=width, kernel=self.kernel, dropout=dropout
        )
        channels = modalities[self.eeg].channels
        electrodes = regions(channels, self.partition)
        self.regions = tuple(electrodes)
        self.electrodes = {
            region: tuple(channels[each] for each in members)
            for region, members in electrodes.items()
        }
        self.region_encoder = encoder(
            list(electrodes.values()), len(modalities[self.eeg].features)
        )
        others = [modalities[name] for name in self.companions]
        self.companion_encoders = nn.ModuleList(
            encoder([channel_order(each).tolist()], len(each.features))
            for each in others
        )
        self.companion_pools = nn.ModuleList(TemporalPooling(width) for _ in others)
        sizes: dict[str, Any] = {
            "width": width,
            "heads": self.heads,
            "feedforward": self.feedforward,
            "dropout": dropout,
        }
        self.alignment = MultiRegionAttention(
            1 if self.shared_attention else len(electrodes),
            0 if self.cross_attention == "none" else len(others),
            **sizes,
        )
        self.returns = nn.ModuleList(
            CompanionAttention(**sizes)
            for _ in others
            if self.cross_attention == "both"
        )
        self.pool = TemporalPooling(width)
        self.globalise = nn.Sequential(
            *(
                TransformerLayer(**sizes, activation=nn.GELU())
                for _ in range(self.global_layers)
            )
        )
        # PARTITIONS refuses no name here: `regions` has done so above.
        several = len(PARTITIONS[self.partition]) > 1
        self.spatial = SpatialAttention(
            width, learned=several and self.region_attention == "learned"
        )
        self.fusion = nn.Sequential(
            nn.Linear(width * (1 + len(others)), self.fusion_width), nn.GELU()
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the width, the dropout and the partition."""
        return {
            "width": trial.suggest_categorical("width", [32, 64, 128]),
            "dropout": trial.suggest_float("dropout", 0.0, 0.6),
            "partition": trial.suggest_categorical("partition", ["16", "20", "6"]),
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
            Of shape (batch, width) for each modality, zero where it is missing in the
            whole sample; (batch, fusion_width) for the fusion.
        """
        if not self.training:
            ours = {name: masks[name] for name in (self.eeg, *self.companions)}
            signals, masks = trimmed(signals, ours)
        return self._run(signals, masks)[0]

    def explain(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Explanation:
        """Return what the network attends to in a batch, without dropout or gradient.

        Parameters
        ----------
        signals, masks
            As for :meth:`forward`.
        """
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                _, spatial, weights = self._run(signals, masks)
        finally:
            self.train(training)
        recorded = masks[self.eeg][:, None, None, :, None]
        temporal = {
            name: weight.flatten(1, 2) * recorded
            for name, weight in zip(self.companions, weights, strict=bool(weights))
        }
        return Explanation(self.regions, spatial, temporal)

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier: linear on the fusion, a hidden layer elsewhere."""
        if branch != FUSION:
            return super().head(branch, dim, classes)
        return nn.Sequential(nn.Dropout(self.head_dropout), nn.Linear(dim, classes))

    def _run(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
        """Return embeddings, region weights, and each companion's attention weights."""
        ours = {name: masks[name] for name in (self.eeg, *self.companions)}
        eeg, *others = observed(signals, ours)
        mask, *other_masks = ours.values()
        regional = self.region_encoder(eeg, mask)
        heard, summaries = [], []
        for encoder, pool, signal, other_mask in zip(
            self.companion_encoders,
            self.companion_pools,
            others,
            other_masks,
            strict=True,
        ):
            heard.append(encoder(signal, other_mask).squeeze(0))
            summaries.append(pool(heard[-1], other_mask))
        listening = heard if self.alignment.attend else []
        aligned, weights = self.alignment(regional, listening, other_masks)
        alone, together, spatial = self._regional_to_global(regional, aligned, mask)
        fused = summaries
        if self.returns:
            fused = [
                pool(listen(sequence, regional, mask), other_mask)
                for listen, pool, sequence, other_mask in zip(
                    self.returns, self.companion_pools, heard, other_masks, strict=True
                )
            ]
        embeddings = {
            self.eeg: alone,
            **dict(zip(self.companions, summaries, strict=True)),
            FUSION: self.fusion(torch.cat([together, *fused], -1)),
        }
        return embeddings, spatial, weights

    def _regional_to_global(
        self, regional: Tensor, aligned: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the EEG's own summary, the aligned one, and its region weights."""
        batch = mask.shape[0]
        views = [self.pool(regional, mask), self.pool(aligned, mask)]
        # Both views pass the same layers: side by side in the batch, in one go.
        tokens = torch.cat(views, 1).transpose(0, 1)
        summary, spatial = self.spatial(self.globalise(tokens))
        summary = summary * mask.any(-1).repeat(2)[:, None]
        return summary[:batch], summary[batch:], spatial[batch:]


class TemporalEncoder(nn.Module):
    """A two-layer CNN over time for every group of channels, all groups at once.

    Parameters
    ----------
    groups : sequence of sequences of int
        Channel numbers of each group, in the order in which weights are kept.
    features : int
        Features per channel.
    width : int
        Output features of each group.
    kernel : int
        Steps that each convolution sees; odd kernels look as far back as ahead.
    dropout : float
    """

    gather: Tensor
    slots: Tensor

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        features: int,
        *,
        width: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.groups, self.kernel = len(groups), kernel
        gather, slots = _padded(groups)
        # They follow from the channel names: a saved state fits any channel order.
        self.register_buffer("gather", gather, persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        sizes = torch.tensor([len(group) for group in groups])
        bounds = (sizes * kernel * features).rsqrt()
        self.weight = nn.Parameter(
            (2 * torch.rand(int(sizes.sum()), kernel, features, width) - 1)
            * bounds.repeat_interleave(sizes)[:, None, None, None]
        )
        self.bias = nn.Parameter(
            (2 * torch.rand(self.groups, 1, width) - 1) * bounds[:, None, None]
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        # The embedding serves as its bias.
        self.second = GroupedLinear(self.groups, kernel * width, width, bias=False)
        self.embedding = nn.Parameter(0.02 * torch.randn(self.groups, 1, width))

    def forward(self, signal: Tensor, mask: Tensor) -> Tensor:
        """Encode a masked signal.

        Parameters
        ----------
        signal : Tensor of shape (batch, time, channels, features)
            Zero where `mask` is False.
        mask : bool Tensor of shape (batch, time)

        Returns
        -------
        Tensor of shape (groups, batch, time, width)
            Zero where `mask` is False.
        """
        steps = mask[..., None].to(signal.dtype)
        hidden = self.dropout(functional.gelu(self.norm(self.first(signal))))
        # Biases have filled the padding: cleared before the next layer looks across.
        taps = _taps(hidden * steps, self.kernel)
        encoded = self.second(taps.flatten(1, 2)) + self.embedding
        masked: Tensor = encoded.reshape(hidden.shape) * steps
        return masked

    def first(self, signal: Tensor) -> Tensor:
        """Convolve each group's channels.

        Parameters
        ----------
        signal : Tensor of shape (batch, time, channels, features)

        Returns
        -------
        Tensor of shape (groups, batch, time, width)
        """
        batch, time = signal.shape[:2]
        # One channel of zeros more, which fills the groups up to equal size.
        padded = functional.pad(signal, (0, 0, 0, 1)).index_select(2, self.gather)
        grouped = padded.reshape(batch, time, self.groups, -1).permute(2, 0, 1, 3)
        taps = _taps(grouped, self.kernel).flatten(1, 2)
        # (groups, slots, kernel, features, width) to the order of the taps.
        weight = self.weight.index_select(0, self.slots)
        weight = weight.reshape(self.groups, -1, *self.weight.shape[1:])
        weight = weight.transpose(1, 2).flatten(1, 3)
        convolved = product(taps, weight, self.bias)
        return convolved.reshape(self.groups, batch, time, -1)


class Listener(nn.Module):
    """What follows on an attention: residual, LayerNorm and feed-forward."""

    def _add_layers(self, width: int, feedforward: int, dropout: float) -> None:
        self.norm = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            Linear(width, feedforward),
            nn.GELU(),
            Dropout(dropout),
            Linear(feedforward, width),
        )
        self.last_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def _join(self, own: Tensor, heard: Tensor) -> Tensor:
        """Add what was heard to one's own; of the shape of both."""
        joined = self.norm(own + self.dropout(heard))
        hidden = self.dropout(self.feedforward(joined))
        aligned: Tensor = self.last_norm(joined + hidden)
        return aligned


class MultiRegionAttention(Listener):
    """Every region listens to every companion over time; all regions in parallel.

    Without a companion it returns the regions as they are.

    Parameters
    ----------
    groups : int
        Sets of attention weights: 1 if regions share them, else one per region.
    companions : int
    width, heads, feedforward : int
    dropout : float
    """

    def __init__(
        self,
        groups: int,
        companions: int,
        *,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attend = nn.ModuleList(
            CrossAttention(groups, width, heads) for _ in range(companions)
        )
        if companions:
            self._add_layers(width, feedforward, dropout)

    def forward(
        self, regional: Tensor, heard: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return regions after listening, and the weights for each companion.

        Parameters
        ----------
        regional : Tensor of shape (regions, batch, time, width)
        heard : sequence of Tensor of shape (batch, time, width)
        masks : sequence of bool Tensor of shape (batch, time)

        Returns
        -------
        aligned : Tensor of shape (regions, batch, time, width)
        weights : list of Tensor
            As of :class:`CrossAttention`.
        """
        if not self.attend:
            return regional, []
        pairs = [
            attend(regional, sequence, mask)
            for attend, sequence, mask in zip(self.attend, heard, masks, strict=True)
        ]
        total = reduce(torch.add, [mixed for mixed, _ in pairs])
        return self._join(regional, total), [weights for _, weights in pairs]


class CompanionAttention(Listener):
    """A companion listens to each region over time: the mean over regions.

    All regions are heard with the same weights, so that this grows with no montage.

    Parameters
    ----------
    width, heads, feedforward : int
    dropout : float
    """

    def __init__(
        self, *, width: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.attend = Attention(width, heads)
        self._add_layers(width, feedforward, dropout)

    def forward(self, sequence: Tensor, regional: Tensor, mask: Tensor) -> Tensor:
        """Return the companion after listening.

        Parameters
        ----------
        sequence : Tensor of shape (batch, time, width)
        regional : Tensor of shape (regions, batch, time, width)
        mask : bool Tensor of shape (batch, time)
            False where the EEG is not to be heard.

        Returns
        -------
        Tensor of shape (batch, time, width)
        """
        heard = self.attend(sequence, regional, mask).mean(0)
        return self._join(sequence, heard * mask.any(-1)[:, None, None])


class CrossAttention(nn.Module):
    """Multi-head attention from each region's time series to one companion's.

    Keys have no bias: it would shift all scores of a query alike, and change nothing.
    """

    def __init__(self, groups: int, width: int, heads: int) -> None:
        super().__init__()
        self.groups, self.heads = groups, heads
        self.query = GroupedLinear(groups, width, width)
        self.key = GroupedLinear(groups, width, width, bias=False)
        self.value = GroupedLinear(groups, width, width)
        self.out = GroupedLinear(groups, width, width)

    def forward(
        self, regional: Tensor, heard: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what each region hears, and its weights.

        Parameters
        ----------
        regional : Tensor of shape (regions, batch, time, width)
        heard : Tensor of shape (batch, time, width)
        mask : bool Tensor of shape (batch, time)
            False where the companion is not to be heard.

        Returns
        -------
        mixed : Tensor of shape (regions, batch, time, width)
            Exactly zero for a sample in which the companion is missing altogether.
        weights : Tensor of shape (batch, groups, regions of each, heads, time, time)
        """
        _, batch, time, width = regional.shape
        groups, heads, depth = self.groups, self.heads, width // self.heads
        # Regions that share weights also share keys: their queries form one matrix,
        # (groups, batch, heads, regions of the group x time, depth).
        queries = self.query(regional.reshape(groups, -1, width))
        queries = queries.reshape(groups, -1, batch, time, heads, depth)
        queries = queries.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)
        rows = heard.reshape(1, -1, width).expand(groups, -1, -1)
        keys, values = (
            project(rows).reshape(groups, batch, time, heads, depth).transpose(2, 3)
            for project in (self.key, self.value)
        )
        # Keys before queries: a softmax along a short last axis is slow on a CPU.
        weights = masked_softmax(
            product(keys * depth**-0.5, queries.mT),
            mask[:, None, :, None],
            dim=-2,
        )
        mixed = product(weights.mT, values)
        mixed = mixed.reshape(groups, batch, heads, -1, time, depth)
        mixed = mixed.permute(0, 3, 1, 4, 2, 5).reshape(groups, -1, width)
        out = self.out(mixed).reshape(regional.shape) * mask.any(-1)[:, None, None]
        weights = weights.reshape(groups, batch, heads, time, -1, time)
        return out, weights.permute(1, 0, 4, 2, 5, 3)


class SpatialAttention(nn.Module):
    r"""A mean over regions, weighted by a learned score or evenly.

    .. math:: \alpha = \operatorname{softmax}_r\big(w^T \tanh(W z_r + b)\big), \quad
              g = \sum_r \alpha_r z_r

    Parameters
    ----------
    width : int
    learned : bool
        Whether there is a score; all regions weigh alike without.
    """

    def __init__(self, width: int, *, learned: bool = True) -> None:
        super().__init__()
        self.score = (
            nn.Sequential(
                Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False)
            )
            if learned
            else None
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summary (batch, width) of (batch, regions, width), and weights."""
        if self.score is None:
            weights = torch.full_like(tokens[..., 0], 1 / tokens.shape[-2])
        else:
            weights = self.score(tokens).squeeze(-1).softmax(-1)
        return (weights.unsqueeze(-2) @ tokens).squeeze(-2), weights


def _padded(groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return channel numbers and weight rows of all groups, filled to equal size.

    A filler reads the channel of zeros behind the last one; its weight does not matter.
    """
    largest = max(map(len, groups))
    zeros = sum(map(len, groups))
    gather, slots, start = [], [], 0
    for group in groups:
        fill = largest - len(group)
        gather += [*group, *[zeros] * fill]
        slots += [*range(start, start + len(group)), *[0] * fill]
        start += len(group)
    return torch.tensor(gather), torch.tensor(slots)


def _taps(sequence: Tensor, kernel: int) -> Tensor:
    """Lay each step's neighbours side by side.

    Turns (..., time, width) into (..., time, kernel * width), zero beyond the ends.
    """
    time, before = sequence.shape[-2], (kernel - 1) // 2
    padded = functional.pad(sequence, (0, 0, before, kernel - 1 - before))
    return torch.cat([padded[..., k : k + time, :] for k in range(kernel)], -1)
