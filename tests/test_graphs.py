"""Graph convolution against its spectral definition, pooling against loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from domainemo.backbones.graphs import (
    ChebyshevConvolution,
    LearnedGraph,
    RegionPooling,
    chebyshev,
    distance_prior,
    electrode_positions,
    scaled_laplacian,
)
from domainemo.backbones.regions import ELECTRODES, regions
from domainemo.errors import ConfigurationError, DataError

torch.set_num_threads(1)
DOUBLE = torch.float64


def random_graph(nodes=9, seed=0, density=0.5):
    """A symmetric adjacency without self-loops, every node linked to the next."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(2, nodes, nodes, generator=generator, dtype=DOUBLE)
    upper = torch.triu(draw[0] * (draw[1] < density), 1)
    upper += torch.diag(torch.ones(nodes - 1, dtype=DOUBLE), 1)
    return upper + upper.T


# ------------------------------------------------------------------------- Laplacian


def slow_laplacian(adjacency):
    count = len(adjacency)
    degree = [sum(row) for row in adjacency]
    found = np.zeros((count, count))
    for i, j in itertools.product(range(count), repeat=2):
        if degree[i] > 0 and degree[j] > 0:
            found[i, j] -= adjacency[i][j] / math.sqrt(degree[i] * degree[j])
        if i == j and degree[i] > 0:
            found[i, j] += 1
    return found


@pytest.mark.parametrize("seed", range(3))
def test_laplacian_equals_a_loop(seed):
    adjacency = random_graph(seed=seed)
    adjacency[3] = adjacency[:, 3] = 0
    slow = slow_laplacian(adjacency.tolist())
    bound, exact = (scaled_laplacian(adjacency, each) for each in ("bound", "exact"))
    np.testing.assert_allclose(bound, slow - np.eye(9), atol=1e-12)
    largest = np.linalg.eigvalsh(slow)[-1]
    np.testing.assert_allclose(exact, 2 * slow / largest - np.eye(9), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_spectrum_lies_within_one(seed):
    adjacency = random_graph(seed=seed)
    for name in ("bound", "exact"):
        values = torch.linalg.eigvalsh(scaled_laplacian(adjacency, name))
        assert values[0] == pytest.approx(-1) and values[-1] <= 1 + 1e-12
    assert values[-1] == pytest.approx(1)
    # Only a bipartite graph reaches the bound.
    path = torch.diag(torch.ones(4, dtype=DOUBLE), 1)
    values = torch.linalg.eigvalsh(scaled_laplacian(path + path.T))
    assert values[-1] == pytest.approx(1)


@pytest.mark.parametrize("spectrum", ["bound", "exact"])
def test_nodes_without_edges_have_finite_gradients(spectrum):
    linked = torch.block_diag(torch.ones(2, 2), torch.zeros(1, 1))
    for adjacency in (torch.zeros(3, 3), linked):
        adjacency.requires_grad_()
        laplacian = scaled_laplacian(adjacency, spectrum)
        laplacian.square().sum().backward()
        assert laplacian.isfinite().all() and adjacency.grad.isfinite().all()


# ----------------------------------------------------------------------- convolution


@pytest.mark.parametrize("spectrum", ["bound", "exact"])
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_convolution_equals_its_spectral_definition(order, spectrum):
    """U g(Lambda) U^T H, with T_k(x) = cos(k arccos x)."""
    torch.manual_seed(order)
    laplacian = scaled_laplacian(random_graph(seed=order), spectrum)
    layer = ChebyshevConvolution(4, 5, order).to(DOUBLE)
    nodes = torch.randn(9, 2, 3, 4, dtype=DOUBLE)
    values, vectors = torch.linalg.eigh(laplacian)
    angles = values.clamp(-1, 1).arccos()
    expected = layer.mix.bias.expand(9, 2, 3, 5)
    for k, weight in enumerate(layer.mix.weight.T.split(4)):
        response = vectors @ torch.diag(torch.cos(k * angles)) @ vectors.T
        expected = expected + torch.einsum("nm,mbti,io->nbto", response, nodes, weight)
    torch.testing.assert_close(layer(nodes, laplacian), expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_convolution_reaches_order_minus_one_edges(order):
    path = torch.diag(torch.ones(8, dtype=DOUBLE), 1)
    laplacian = scaled_laplacian(path + path.T, "exact")
    impulse = torch.zeros(9, 1, dtype=DOUBLE)
    impulse[4] = 1
    terms = torch.cat(chebyshev(impulse, laplacian, order), -1)
    reached = (terms.abs() > 1e-9).any(-1)
    distance = (torch.arange(9) - 4).abs()
    assert not reached[distance >= order].any()
    assert reached[distance == order - 1].all()


# ---------------------------------------------------------------------------- places


def test_distance_prior_equals_a_loop():
    positions = electrode_positions(ELECTRODES)
    found = distance_prior(positions, 0.04)
    for i, j in itertools.product(range(62), repeat=2):
        gap = math.dist(positions[i], positions[j])
        expected = math.exp(-(gap**2) / (2 * 0.04**2)) if i != j else 0.0
        assert float(found[i, j]) == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert torch.equal(found, found.T)


def test_distance_prior_does_not_depend_on_the_order_of_channels():
    order = torch.randperm(62, generator=torch.Generator().manual_seed(0)).tolist()
    found = distance_prior(electrode_positions(ELECTRODES))
    turned = distance_prior(electrode_positions([ELECTRODES[i] for i in order]))
    assert torch.equal(found[order][:, order], turned)


def test_neighbours_on_the_cap_are_near():
    prior = distance_prior(electrode_positions(ELECTRODES))

    def near(electrode, count):
        row = prior[ELECTRODES.index(electrode)]
        return {ELECTRODES[i] for i in row.topk(count).indices}

    assert near("CZ", 4) == {"C1", "C2", "FCZ", "CPZ"}
    assert near("CB1", 1) == {"PO7"} and near("CB2", 1) == {"PO8"}
    assert near("CB1", 4) < {"PO7", "O1", "P7", "PO5", "P5"}
    places = dict(zip(ELECTRODES, electrode_positions(ELECTRODES), strict=True))
    assert places["CB1"][0] < 0 < places["CB2"][0]
    assert places["CB1"][2] < places["PO7"][2] and places["CB2"][2] < places["PO8"][2]


def test_positions_go_by_name():
    modern = electrode_positions(["T7", "Cz", "P8"])
    assert np.array_equal(modern, electrode_positions(["t3", "CZ", "T6"]))
    with pytest.raises(DataError, match="'heart' has no known place"):
        electrode_positions(["Cz", "heart"])


# --------------------------------------------------------------------- learned graph


def test_adjacency_is_the_equation():
    torch.manual_seed(0)
    positions = electrode_positions(["Fz", "Cz", "Pz", "Oz"])
    graph = LearnedGraph(positions, prior=0.7, scale=0.05)
    with torch.no_grad():
        graph.weight.copy_(torch.randn(4, 4))
    found, weight = graph.adjacency().detach(), graph.weight.tolist()
    prior = distance_prior(positions, 0.05)
    for i, j in itertools.product(range(4), repeat=2):
        learned = max((weight[i][j] + weight[j][i]) / 2, 0)
        expected = learned + 0.7 * float(prior[i, j])
        assert float(found[i, j]) == pytest.approx(expected)
    assert torch.equal(found, found.T) and (found >= 0).all()
    torch.testing.assert_close(graph(), scaled_laplacian(found))


def test_every_edge_learns_from_the_start():
    torch.manual_seed(0)
    graph = LearnedGraph(electrode_positions(ELECTRODES))
    (graph() @ torch.randn(62, 3)).square().sum().backward()
    assert (graph.weight.grad != 0).all()
    learned = (graph.adjacency() - graph.distances).sum(-1)
    ratio = learned / graph.distances.sum(-1)
    assert 0.5 < ratio.median() < 2


def test_unfit_graphs_are_explained():
    for groups in ([[0, 1], [1]], [[0], [2]], [[0, 1], []]):
        with pytest.raises(ConfigurationError, match="exactly one region"):
            RegionPooling(groups)


# --------------------------------------------------------------------------- regions


@pytest.mark.parametrize("partition", ["16", "20", "6"])
def test_pooling_equals_a_loop(partition):
    groups = list(regions(ELECTRODES, partition).values())
    pooling = RegionPooling(groups).to(DOUBLE)
    nodes = torch.randn(62, 2, 3, 4, dtype=DOUBLE)
    pooled = pooling(nodes)
    assert pooled.shape == (int(partition), 2, 3, 4)
    back = pooling.unpool(pooled)
    for number, group in enumerate(groups):
        expected = sum(nodes[i] for i in group) / len(group)
        torch.testing.assert_close(pooled[number], expected)
        for i in group:
            assert torch.equal(back[i], pooled[number])
    torch.testing.assert_close(pooling(back), pooled)
