"""Graph convolution over electrodes and brain regions.

A graph is its adjacency: a symmetric tensor of shape (nodes, nodes), not negative.
Signals on a graph have the shape (..., nodes, features).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core import canonical_name
from ..errors import ConfigurationError
from ..values import Bounds
from .products import Linear, linear, product
from .regions import regions, standard_places

__all__ = [
    "ChebyshevConvolution",
    "Edges",
    "LearnedGraph",
    "Order",
    "Prior",
    "Reach",
    "RegionPooling",
    "Spectrum",
    "chebyshev",
    "distance_prior",
    "electrode_positions",
    "scaled_laplacian",
]

Spectrum = Literal["bound", "exact"]
Edges = Literal["learned", "frozen", "distance"]
Order = Annotated[int, Bounds(1, words="at least 1, the node itself")]
Prior = Annotated[float, Bounds(0, words="a weight of at least 0")]
Reach = Annotated[float, Bounds(above=0, words="metres above 0, such as 0.03")]

_STANDARD_NEIGHBOUR = {"CB1": "PO9", "CB2": "PO10"}
"""Electrodes of the NeuroScan cap that the 10-05 system has no place for.

CB1 and CB2 lie over the cerebellum, laterally below PO7 and O1, and PO8 and O2; PO9
and PO10 are the standard places there.
"""

_LARGEST_START = 0.1


def electrode_positions(channels: Sequence[str]) -> NDArray[np.float64]:
    """Return where electrodes lie on a template head.

    The places are those of MNE's standard 10-05 montage. CB1 and CB2 of the NeuroScan
    cap, which have none, are given those of PO9 and PO10.

    Parameters
    ----------
    channels : sequence of str
        Names as :func:`domainemo.backbones.regions.regions` takes them.

    Returns
    -------
    ndarray of shape (channels, 3)
        In metres: to the right, to the front, upwards.

    Raises
    ------
    DataError
        If a channel has no known place, or two channels are the same electrode.
    """
    regions(channels)  # refuses what has no place
    places = standard_places()
    names = [canonical_name(channel) for channel in channels]
    return np.array([places[_STANDARD_NEIGHBOUR.get(n, n)] for n in names], np.float64)


def distance_prior(positions: NDArray[np.float64], scale: float = 0.03) -> Tensor:
    r"""Return how close nodes are, as an adjacency.

    .. math:: W_{ij} = \exp(-\|x_i - x_j\|^2 / 2 s^2) \text{ for } i \ne j,
              \quad W_{ii} = 0

    the thresholdless Gaussian weights of Shuman et al. (2013). The diagonal is zero
    because a Chebyshev polynomial has a term of its own for the node itself.

    Parameters
    ----------
    positions : ndarray of shape (nodes, 3)
    scale : float
        Distance in the unit of `positions` at which the weight is 0.61. Neighbours on
        a cap of 62 electrodes are some 0.035 m apart.

    Returns
    -------
    Tensor of shape (nodes, nodes)
    """
    gaps = positions[:, None] - positions[None]
    weights = np.exp(-(gaps**2).sum(-1) / (2 * scale**2))
    np.fill_diagonal(weights, 0.0)
    return torch.as_tensor(weights, dtype=torch.get_default_dtype())


def scaled_laplacian(adjacency: Tensor, spectrum: Spectrum = "bound") -> Tensor:
    r"""Return the Laplacian with its spectrum moved into [-1, 1].

    .. math:: \tilde L = 2 L / \lambda_{max} - I, \quad
              L = I - D^{-1/2} W D^{-1/2}

    as Chebyshev polynomials need it (Defferrard et al., 2016). A node without an edge
    has a row of zeros in :math:`L`.

    Parameters
    ----------
    adjacency : Tensor of shape (..., nodes, nodes)
    spectrum : {"bound", "exact"}
        Whether :math:`\lambda_{max}` is 2, which no eigenvalue of :math:`L` exceeds,
        or the largest eigenvalue.

    Returns
    -------
    Tensor of shape (..., nodes, nodes)
    """
    degree = adjacency.sum(-1)
    linked = degree > 0
    # The inner choice keeps the gradient of an unlinked node finite.
    root = torch.where(linked, torch.where(linked, degree, 1.0).rsqrt(), 0.0)
    laplacian = (
        torch.diag_embed(linked.to(degree.dtype))
        - root[..., :, None] * adjacency * root[..., None, :]
    )
    unit = torch.eye(adjacency.shape[-1], dtype=degree.dtype, device=degree.device)
    if spectrum == "bound":
        return laplacian - unit
    largest: Tensor = torch.linalg.eigvalsh(laplacian)[..., -1, None, None]
    return 2 * laplacian / largest.clamp(min=1e-6) - unit


def chebyshev(nodes: Tensor, laplacian: Tensor, order: int) -> list[Tensor]:
    r"""Return the Chebyshev polynomials of a Laplacian, applied to a signal.

    .. math:: T_0 H = H, \quad T_1 H = \tilde L H, \quad
              T_k H = 2 \tilde L T_{k-1} H - T_{k-2} H

    Parameters
    ----------
    nodes : Tensor of shape (nodes, values)
    laplacian : Tensor of shape (nodes, nodes)
        Scaled, see :func:`scaled_laplacian`.
    order : int
        Number of polynomials, from :math:`T_0` on.

    Returns
    -------
    list of Tensor of shape (nodes, values)
    """
    terms = [nodes]
    if order > 1:
        terms.append(product(laplacian, nodes))
    while len(terms) < order:
        terms.append(2 * product(laplacian, terms[-1]) - terms[-2])
    return terms


class ChebyshevConvolution(nn.Module):
    r"""A graph convolution, :math:`\sum_{k<K} T_k(\tilde L) H \Theta_k + b`.

    It reaches K - 1 edges far (Defferrard et al., 2016; DGCNN, Song et al., 2018).

    Parameters
    ----------
    inputs, outputs : int
        Features of each node before and after.
    order : int
        The K of the equation.
    bias : bool
        Whether to add :math:`b`.
    """

    def __init__(
        self, inputs: int, outputs: int, order: int = 3, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.order = order
        self.mix = Linear(order * inputs, outputs, bias=bias)

    def forward(self, nodes: Tensor, laplacian: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        nodes : Tensor of shape (nodes, ..., inputs)
            Nodes come first, so that each polynomial is one product of two matrices.
        laplacian : Tensor of shape (nodes, nodes)
            Scaled, see :func:`scaled_laplacian`.

        Returns
        -------
        Tensor of shape (nodes, ..., outputs)
        """
        inputs = nodes.shape[-1]
        terms = chebyshev(nodes.flatten(1), laplacian, self.order)
        first, *others = torch.split(self.mix.weight, inputs, 1)
        mixed = linear(nodes.reshape(-1, inputs), first, self.mix.bias)
        for term, weight in zip(terms[1:], others, strict=True):
            mixed = product(term.reshape(-1, inputs), weight.mT, mixed)
        return mixed.view(*nodes.shape[:-1], -1)


class LearnedGraph(nn.Module):
    r"""A graph whose edges are learned, beside edges between neighbours.

    .. math:: W = \mathrm{ReLU}(\tfrac12 (\Theta + \Theta^T)) + \gamma W_{dist}

    after DGCNN's dynamical graph. :math:`\Theta` starts in U(0, 0.1): no edge lies
    where the ReLU has no gradient, and all edges of a node together weigh about as
    much as those to its neighbours in the prior.

    Parameters
    ----------
    positions : ndarray of shape (nodes, 3)
        In metres.
    prior : float
        The :math:`\gamma` of the equation.
    scale : float
        See :func:`distance_prior`.
    spectrum : {"bound", "exact"}
        See :func:`scaled_laplacian`.
    edges : {"learned", "frozen", "distance"}
        Whether :math:`\Theta` is learned, stays as it was drawn, or is not there.

    Attributes
    ----------
    kept : Tensor of shape (nodes, nodes) or None
        Which edges there are, as 1 and 0; None for all.
    """

    distances: Tensor
    kept: Tensor | None = None

    def __init__(
        self,
        positions: NDArray[np.float64],
        *,
        prior: float = 1.0,
        scale: float = 0.03,
        spectrum: Spectrum = "bound",
        edges: Edges = "learned",
    ) -> None:
        super().__init__()
        self.prior, self.spectrum = prior, spectrum
        count = len(positions)
        self.weight = (
            None
            if edges == "distance"
            else nn.Parameter(
                _LARGEST_START * torch.rand(count, count),
                requires_grad=edges == "learned",
            )
        )
        # It follows from the nodes' names, and is no part of a saved state.
        distances = distance_prior(positions, scale)
        self.register_buffer("distances", distances, persistent=False)

    def adjacency(self) -> Tensor:
        """Return the edges' weights; shape (nodes, nodes)."""
        edges = self.prior * self.distances
        if self.weight is not None:
            edges = ((self.weight + self.weight.mT) / 2).relu() + edges
        return edges if self.kept is None else edges * self.kept

    def forward(self) -> Tensor:
        """Return the scaled Laplacian; shape (nodes, nodes)."""
        return scaled_laplacian(self.adjacency(), self.spectrum)


class RegionPooling(nn.Module):
    """The mean over each region's nodes, and the way back.

    Parameters
    ----------
    groups : sequence of sequences of int
        Node numbers of each region; every node is in exactly one.

    Raises
    ------
    ConfigurationError
        If a node is in two regions or in none, or a region is empty.
    """

    members: Tensor
    region_of: Tensor

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        numbers = sorted(node for group in groups for node in group)
        if numbers != list(range(len(numbers))) or not all(groups):
            raise ConfigurationError(
                f"Regions of the nodes {[list(group) for group in groups]} are not "
                f"possible; expected every node from 0 on in exactly one region, and "
                f"no empty region."
            )
        members = torch.zeros(len(groups), len(numbers))
        region_of = torch.zeros(len(numbers), dtype=torch.long)
        for region, group in enumerate(groups):
            members[region, list(group)] = 1.0
            region_of[list(group)] = region
        self.register_buffer("members", members, persistent=False)
        self.register_buffer("region_of", region_of, persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """Average (nodes, ...) to (regions, ...)."""
        shares = self.members / self.members.sum(-1, keepdim=True)
        return product(shares, nodes.flatten(1)).view(-1, *nodes.shape[1:])

    def unpool(self, pooled: Tensor) -> Tensor:
        """Give each node what its region has: (regions, ...) to (nodes, ...)."""
        return pooled.index_select(0, self.region_of)
