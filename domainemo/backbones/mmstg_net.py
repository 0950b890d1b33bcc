"""MMSTG-Net: multi-scale convolution over time, graphs over the scalp, gated fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core import FUSION, Backbone, Modality, Sampling
from ..errors import ConfigurationError
from ..registry import register
from ..samplings.sequences import Sequences
from ..values import Bounds
from .explanation import Connectivity
from .graphs import (
    ChebyshevConvolution,
    Edges,
    LearnedGraph,
    Order,
    Prior,
    Reach,
    RegionPooling,
    Spectrum,
    electrode_positions,
)
from .layers import (
    Dropout,
    DropoutShare,
    Size,
    TemporalPooling,
    channel_order,
    observed,
    single_eeg,
    trimmed,
)
from .products import Linear
from .regions import regions

if TYPE_CHECKING:
    import optuna

__all__ = ["GatedFusion", "MMSTGNet", "MultiScaleConvolution"]

Readout = Literal["regions", "electrodes"]
Graphs = Literal["both", "electrodes", "regions"]
Fusing = Literal["gate", "concatenation"]


@register(name="mmstg-net")
class MMSTGNet(Backbone):
    """Multi-scale spatio-temporal graphs over EEG, fused with other sensors by a gate.

    After MMSTG-Net (Bi, Lu and Sun, IEEE JBHI 2026, 10.1109/JBHI.2026.3667946). Only
    the paper's abstract could be read, so this is a reconstruction and says where it is
    one. Its contrastive term is the adapter ``mmstg-net``.

    Documented (title and abstract): a multimodal spatio-temporal graph network for EEG
    and eye tracking, which jointly models temporal dynamics at several scales, cortical
    connectivity and cross-modal alignment by a contrast.

    Reconstruction (ours, each with its reason):

    - `kernels` (1, 3, 5), `scale_width` 16: the scales are a single window, its
      neighbours and theirs, concatenated, GELU, LayerNorm and a linear layer; no batch
      norm, as padding and the rest of the batch would enter its statistics;
    - connectivity by the learned, symmetric adjacency and Chebyshev convolution of
      `order` 3 of DGCNN, beside a distance `prior` with `prior_scale` in metres, so
      that neighbours are joined before anything is learned; `spectrum` "bound" spares
      an eigenvalue problem in every step. One graph over electrodes and one over the
      regions of `partition`, whose places are the means of their electrodes', serve
      all blocks, as connectivity is of the scalp and not of a layer. `graphs` leaves
      one of them out, and `adjacency` learns their edges, keeps them as they were
      drawn ("frozen"), or has the distance prior alone ("distance");
    - regions are the mean of their electrodes, and what they compute is added to each
      of these: the second spatial scale;
    - `block_widths` (32, 64): two blocks, convolution over time, then over both graphs,
      LayerNorm, GELU, `dropout` 0.3, residual;
    - pooling over time by a learned score per electrode, then `readout` "regions": a
      linear layer reads every region's mean, as weights that all electrodes share would
      lose what lies where; ``"electrodes"`` reads each, as DGCNN does, with four times
      the weights;
    - a companion's channels pass one linear layer to `width`, the same convolution
      over time and pooling;
    - the projections of the contrast are each modality's embedding, so that it needs
      no parameters of its own; the gates see them at unit length;
    - `fusion_width` 128, `head_dropout` 0.5: one hidden layer and a linear classifier;
    - several companions: see :class:`GatedFusion`; `fused_by` "concatenation" lays
      the features of all modalities side by side instead, without a gate;
    - `sampling`: 8 windows, starting every 4.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Exactly one of kind ``"eeg"`` and any number of companions, such as eye
        movements. Without a companion the network is of EEG alone.
    width : int
        Dimension of each modality's embedding.
    kernels : sequence of int
        Windows that each scale sees; odd.
    scale_width : int
        Features of each scale.
    block_widths : sequence of int
        Features of an electrode after each spatio-temporal block.
    order : int
        Chebyshev polynomials of a graph convolution.
    partition : {"16", "20", "6", "1"}
        Brain regions, see :mod:`domainemo.backbones.regions`.
    graphs : {"both", "electrodes", "regions"}
        What is convolved over. A `readout` of regions does not depend on it.
    adjacency : {"learned", "frozen", "distance"}
        What the edges are.
    prior, prior_scale : float
        Weight and reach in metres of the distance prior.
    spectrum : {"bound", "exact"}
        See :func:`domainemo.backbones.graphs.scaled_laplacian`.
    readout : {"regions", "electrodes"}
        What the EEG's embedding is read from.
    fused_by : {"gate", "concatenation"}
        How the modalities are fused.
    dropout : float
        Dropout in the encoders.
    fusion_width : int
        Dimension of the fusion embedding.
    head_dropout : float
        Dropout before the fusion classifier.
    sampling : Sampling, optional
        ``Sequences(length=8, stride=4)`` by default.

    Attributes
    ----------
    electrodes : mapping of str to tuple of str
        The electrodes of each region.
    nodes : tuple of str
        The electrodes as `electrode_graph` has them, whose ``adjacency()`` is the
        connectivity; the graph is None where there is none.
    regions : tuple of str
        The nodes of `region_graph`, likewise.

    Raises
    ------
    ConfigurationError
        If there is not exactly one EEG modality, or an option is out of range, or of
        what the others leave out.
    DataError
        If an electrode's name is unknown.
    """

    order_of_nodes: Tensor

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 64,
        kernels: Sequence[int] = (1, 3, 5),
        scale_width: Size = 16,
        block_widths: Sequence[Size] = (32, 64),
        order: Order = 3,
        partition: str = "16",
        graphs: Graphs = "both",
        adjacency: Edges = "learned",
        prior: Prior = 1.0,
        prior_scale: Reach = 0.03,
        spectrum: Spectrum = "bound",
        readout: Readout = "regions",
        fused_by: Fusing = "gate",
        dropout: DropoutShare = 0.3,
        fusion_width: Size = 128,
        head_dropout: Annotated[float, Bounds(0, 1)] = 0.5,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        # A configuration file has lists, and may well say 16 where it means "16".
        self.kernels, self.block_widths = tuple(kernels), tuple(block_widths)
        self.partition = str(partition)
        self.width, self.scale_width, self.order = width, scale_width, order
        self.prior, self.prior_scale, self.spectrum = prior, prior_scale, spectrum
        self.graphs, self.adjacency = graphs, adjacency
        self.readout, self.fused_by, self.dropout = readout, fused_by, dropout
        self.fusion_width, self.head_dropout = fusion_width, head_dropout
        self.sampling = sampling or Sequences(length=8, stride=4)
        if not self.block_widths:
            raise ConfigurationError(
                "mmstg-net: block_widths is empty; expected the width of each block, "
                "such as the default (32, 64)."
            )
        self.eeg = single_eeg("mmstg-net", modalities)
        self.companions = tuple(name for name in modalities if name != self.eeg)
        self._check_meaning()
        self._build(modalities)

    def _check_meaning(self) -> None:
        """Refuse an option of what the others leave out."""
        if self.adjacency != "learned" and self.order == 1:
            raise ConfigurationError(
                f"mmstg-net: adjacency is {self.adjacency!r}, but an order of 1 sees "
                f"each node alone and no edge; leave one of the options out."
            )
        if self.adjacency == "distance" and not self.prior:
            raise ConfigurationError(
                "mmstg-net: adjacency is 'distance', but a prior of 0 leaves no edge "
                "between neighbours either; give the prior a weight above 0."
            )
        if self.graphs == "regions" and self.partition == "1":
            raise ConfigurationError(
                "mmstg-net: graphs is 'regions', but partition '1' has a single "
                "region, which no edge joins to another; leave one of the options out."
            )
        if self.fused_by != "gate" and not self.companions:
            raise ConfigurationError(
                f"mmstg-net: fused_by is {self.fused_by!r}, but EEG alone is fused "
                f"with nothing; leave the option out, or add a modality."
            )

    def _build(self, modalities: Mapping[str, Modality]) -> None:
        """Make the layers."""
        convolution = partial(
            MultiScaleConvolution, kernels=self.kernels, scale_width=self.scale_width
        )
        width, eeg = self.width, modalities[self.eeg]
        self._build_graphs(eeg)
        widths = (len(eeg.features), *self.block_widths)
        self.blocks = nn.ModuleList(
            SpatioTemporalBlock(
                convolution(inputs, outputs),
                inputs,
                outputs,
                order=self.order,
                graphs=self.graphs,
                dropout=self.dropout,
            )
            for inputs, outputs in pairwise(widths)
        )
        self.pool = TemporalPooling(widths[-1])
        places = self.regions if self.readout == "regions" else self.nodes
        # Without a bias, nothing recorded is nothing summarised.
        self.summarise = nn.Linear(len(places) * widths[-1], width, bias=False)
        self.companion_encoders = nn.ModuleDict(
            {
                name: CompanionEncoder(
                    modalities[name], convolution(width, width), width, self.dropout
                )
                for name in self.companions
            }
        )
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(width, width, bias=False)
                for name in (self.eeg, *self.companions)
            }
        )
        self.gate, fused = None, width * (1 + len(self.companions))
        if self.fused_by == "gate":
            self.gate = GatedFusion(self.companions, width)
            fused = self.gate.outputs
        self.fusion = nn.Sequential(nn.Linear(fused, self.fusion_width), nn.GELU())

    def _build_graphs(self, eeg: Modality) -> None:
        """Make both graphs, their nodes in an order that names alone decide."""
        found = regions(eeg.channels, self.partition)
        order = [channel for members in found.values() for channel in members]
        self.regions = tuple(found)
        self.electrodes = {
            region: tuple(eeg.channels[channel] for channel in members)
            for region, members in found.items()
        }
        self.nodes = tuple(eeg.channels[channel] for channel in order)
        self.register_buffer("order_of_nodes", torch.tensor(order), persistent=False)
        numbers = iter(range(len(order)))
        groups = [[next(numbers) for _ in members] for members in found.values()]
        self.pooling = RegionPooling(groups)
        positions = electrode_positions(self.nodes)
        centres = np.stack([positions[group].mean(0) for group in groups])
        graph = partial(
            LearnedGraph,
            prior=self.prior,
            scale=self.prior_scale,
            spectrum=self.spectrum,
            edges=self.adjacency,
        )
        self.electrode_graph = graph(positions) if self.graphs != "regions" else None
        self.region_graph = graph(centres) if self.graphs != "electrodes" else None

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the width, the order of the graph filters and the dropout."""
        return {
            "width": trial.suggest_categorical("width", [32, 64, 128]),
            "order": trial.suggest_int("order", 1, 4),
            "dropout": trial.suggest_float("dropout", 0.0, 0.6),
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
        ours: Mapping[str, Tensor] = {
            name: masks[name] for name in (self.eeg, *self.companions)
        }
        if not self.training:
            signals, ours = trimmed(signals, ours)
        seen = dict(zip(ours, observed(signals, ours), strict=True))
        summaries = {self.eeg: self._summary(seen[self.eeg], ours[self.eeg])}
        for name, encoder in self.companion_encoders.items():
            summaries[name] = encoder(seen[name], ours[name])
        embeddings = {
            name: self.projections[name](summary) for name, summary in summaries.items()
        }
        if self.gate is None:
            fused = torch.cat(list(summaries.values()), -1)
        else:
            there = {name: mask.any(-1, keepdim=True) for name, mask in ours.items()}
            fused = self.gate(self.eeg, summaries, embeddings, there)
        return {**embeddings, FUSION: self.fusion(fused)}

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier: linear on the fusion, a hidden layer elsewhere."""
        if branch != FUSION:
            return super().head(branch, dim, classes)
        return nn.Sequential(nn.Dropout(self.head_dropout), nn.Linear(dim, classes))

    def connectivity(self) -> Connectivity:
        """Return the graphs' edges between brain regions, as they are now."""
        shares = self.pooling.members / self.pooling.members.sum(-1, keepdim=True)
        unit = torch.eye(len(shares)).to(shares)
        graphs = {
            "electrodes": (self.electrode_graph, shares),
            "regions": (self.region_graph, unit),
        }
        weights = {
            name: (means @ graph.adjacency() @ means.mT).detach()
            for name, (graph, means) in graphs.items()
            if graph is not None
        }
        return Connectivity(self.regions, weights)

    @contextmanager
    def without_edges(self, first: str, second: str) -> Iterator[None]:
        """Cut all edges between two regions in every graph, for as long as it lasts.

        Parameters
        ----------
        first, second : str
            Names among `regions`; one twice for the edges within.
        """
        one, other = (self.regions.index(name) for name in (first, second))
        of_node = self.pooling.region_of
        of_region = torch.arange(len(self.regions), device=of_node.device)
        places = ((self.electrode_graph, of_node), (self.region_graph, of_region))
        graphs = [(graph, place) for graph, place in places if graph is not None]
        for graph, place in graphs:
            here, there = place == one, place == other
            cut = here[:, None] & there | there[:, None] & here
            graph.kept = (~cut).to(graph.distances)
        try:
            yield
        finally:
            for graph, _ in graphs:
                graph.kept = None

    def _summary(self, signal: Tensor, mask: Tensor) -> Tensor:
        """Return the EEG's features (batch, width), zero where there is none."""
        graphs = [
            None if graph is None else graph()
            for graph in (self.electrode_graph, self.region_graph)
        ]
        nodes = signal.index_select(-2, self.order_of_nodes).movedim(-2, 0)
        for block in self.blocks:
            nodes = block(nodes, mask, *graphs, self.pooling)
        pooled = self.pool(nodes, mask)
        if self.readout == "regions":
            pooled = self.pooling(pooled)
        summary: Tensor = self.summarise(pooled.movedim(0, 1).flatten(-2))
        return summary


class MultiScaleConvolution(nn.Module):
    """Convolutions over time of several lengths, side by side, then mixed.

    All sequences have the same weights. They run as one convolution of the greatest
    length, with weights of zero where a shorter one does not look.

    Parameters
    ----------
    inputs, outputs : int
        Features of each node before and after.
    kernels : sequence of int
        Steps that each convolution sees; odd, so that it looks as far back as ahead.
    scale_width : int
        Features of each convolution.

    Raises
    ------
    ConfigurationError
        If a kernel is even or below 1, or there is none.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernels: Sequence[int], scale_width: int
    ) -> None:
        super().__init__()
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
            raise ConfigurationError(
                f"A multi-scale convolution with kernels={tuple(kernels)} is not "
                f"possible; expected odd numbers of windows, such as 1, 3, 5."
            )
        self.kernels = tuple(kernels)
        self.scales = nn.ModuleList(
            nn.Linear(kernel * inputs, scale_width) for kernel in kernels
        )
        joined = scale_width * len(self.kernels)
        self.mix = nn.Sequential(
            nn.GELU(), nn.LayerNorm(joined), Linear(joined, outputs)
        )

    def forward(self, sequences: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        sequences : Tensor of shape (..., time, inputs)
            Zero where there is nothing.

        Returns
        -------
        Tensor of shape (..., time, outputs)
        """
        *leading, time, inputs = sequences.shape
        reach = max(self.kernels) // 2
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for kernel, each in zip(self.kernels, self.scales, strict=True):
            scale, missing = cast(nn.Linear, each), reach - kernel // 2
            weight = scale.weight.view(-1, kernel, inputs).mT
            weights.append(functional.pad(weight, (missing, missing)))
            biases.append(scale.bias)
        # As an image of one column, whose channels lie together in memory as they are.
        image = sequences.reshape(-1, time, 1, inputs).permute(0, 3, 1, 2)
        kernels = torch.cat(weights).unsqueeze(-1)
        found = functional.conv2d(image, kernels, torch.cat(biases), padding=(reach, 0))
        scales = found.permute(0, 2, 3, 1).reshape(*leading, time, -1)
        mixed: Tensor = self.mix(scales)
        return mixed


class SpatioTemporalBlock(nn.Module):
    r"""Convolution over time, then over electrodes and regions; residual.

    With the convolution over time :math:`C`, the graph convolutions :math:`G` over
    electrodes and :math:`R` over regions, and the mean over a region's electrodes
    :math:`P`, whose way back is :math:`U`

    .. math:: H = C(X), \quad
              Y = SX + \operatorname{GELU}(\operatorname{LN}(G(H) + U R(P H)))

    where :math:`S` is linear, or the identity where sizes agree.

    Parameters
    ----------
    temporal : MultiScaleConvolution
        From `inputs` to `outputs`.
    inputs, outputs : int
    order : int
        Chebyshev polynomials of the graph convolutions.
    graphs : {"both", "electrodes", "regions"}
        Which of :math:`G` and :math:`R` there are.
    dropout : float
    """

    def __init__(
        self,
        temporal: MultiScaleConvolution,
        inputs: int,
        outputs: int,
        *,
        order: int,
        graphs: Graphs = "both",
        dropout: float,
    ) -> None:
        super().__init__()
        self.temporal = temporal
        convolution = partial(ChebyshevConvolution, outputs, outputs, order)
        self.over_electrodes = convolution() if graphs != "regions" else None
        # Where there are two convolutions, the other's bias serves both.
        self.over_regions = (
            convolution(bias=graphs == "regions") if graphs != "electrodes" else None
        )
        self.norm = nn.LayerNorm(outputs)
        self.dropout = Dropout(dropout)
        self.shortcut = (
            nn.Identity() if inputs == outputs else Linear(inputs, outputs, bias=False)
        )

    def forward(
        self,
        nodes: Tensor,
        mask: Tensor,
        electrodes: Tensor | None,
        regions: Tensor | None,
        pooling: RegionPooling,
    ) -> Tensor:
        """Map (nodes, batch, time, inputs) to (nodes, batch, time, outputs).

        Parameters
        ----------
        nodes : Tensor of shape (nodes, batch, time, inputs)
            Zero where `mask` is False, as is what is returned.
        mask : bool Tensor of shape (batch, time)
        electrodes : Tensor of shape (nodes, nodes) or None
            The scaled Laplacian; of no graph none.
        regions : Tensor of shape (regions, regions) or None
        pooling : RegionPooling
        """
        hidden = self.temporal(nodes)
        found = []
        if self.over_regions is not None:
            found.append(pooling.unpool(self.over_regions(pooling(hidden), regions)))
        if self.over_electrodes is not None:
            found.append(self.over_electrodes(hidden, electrodes))
        spatial = self.dropout(functional.gelu(self.norm(_sum(found))))
        masked: Tensor = (self.shortcut(nodes) + spatial) * mask[..., None]
        return masked


class CompanionEncoder(nn.Module):
    """All channels of a sensor as one node, over time.

    Parameters
    ----------
    modality : Modality
        Weights are bound to channels in the order of their names.
    temporal : MultiScaleConvolution
        From `width` to `width`.
    width : int
    dropout : float
    """

    order_of_channels: Tensor

    def __init__(
        self,
        modality: Modality,
        temporal: MultiScaleConvolution,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        order = channel_order(modality)
        self.register_buffer("order_of_channels", order, persistent=False)
        self.up = nn.Linear(len(order) * len(modality.features), width)
        self.temporal, self.dropout = temporal, Dropout(dropout)
        self.pool = TemporalPooling(width)

    def forward(self, signal: Tensor, mask: Tensor) -> Tensor:
        """Encode (batch, time, channels, features) under (batch, time): (batch, width).

        Zero where the whole sample is missing.
        """
        ordered = signal.index_select(-2, self.order_of_channels).flatten(-2)
        # The bias has filled the padding: cleared before the convolution looks across.
        steps = self.up(ordered) * mask[..., None]
        hidden = self.dropout(self.temporal(steps))
        pooled: Tensor = self.pool(hidden, mask)
        return pooled


class GatedFusion(nn.Module):
    r"""The EEG and its companions, by a gate for every pair.

    With features :math:`h` and projections of unit length :math:`u, v`

    .. math:: g_c = \sigma(W_c [u; v_c] + b_c), \quad
              f = \Big[\operatorname{mean}_c\big(g_c \circ h_e + (1 - g_c) \circ
              h_c\big);\; \operatorname{mean}_c\big(h_e \circ h_c\big)\Big]

    where the means are over the companions that the sample has. With one companion this
    is the equation of two modalities; with none the first half is :math:`h_e` and the
    second zero, left out where the network has no companion at all. Where the EEG is
    missing the gates are closed: the mean of :math:`h_c`, and zero.

    Parameters
    ----------
    companions : sequence of str
    width : int
        Of features and projections.
    """

    def __init__(self, companions: Sequence[str], width: int) -> None:
        super().__init__()
        self.outputs = 2 * width if companions else width
        self.gates = nn.ModuleDict(
            {name: nn.Linear(2 * width, width) for name in companions}
        )

    def forward(
        self,
        eeg: str,
        features: Mapping[str, Tensor],
        projections: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> Tensor:
        """Fuse.

        Parameters
        ----------
        eeg : str
            Which of the modalities is the EEG.
        features, projections : mapping of str to Tensor of shape (batch, width)
            Zero where the modality is missing.
        present : mapping of str to bool Tensor of shape (batch, 1)

        Returns
        -------
        Tensor of shape (batch, 2 * width), or (batch, width) without companions
        """
        own = features[eeg]
        if not self.gates:
            return own
        units = {
            name: functional.normalize(value, dim=-1, eps=1e-6)
            for name, value in projections.items()
        }
        gated, products = [], []
        for name, gate in self.gates.items():
            opened = gate(torch.cat([units[eeg], units[name]], -1)).sigmoid()
            opened = opened * present[eeg]
            mixed = opened * own + (1 - opened) * features[name]
            gated.append(mixed * present[name])
            products.append(own * features[name])
        there = torch.stack([present[name] for name in self.gates]).sum(0)
        total = there.clamp(min=1)
        alone = own * (there == 0)
        return torch.cat([_sum(gated) / total + alone, _sum(products) / total], -1)


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, terms)
