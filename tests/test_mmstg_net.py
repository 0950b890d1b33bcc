"""MMSTG-Net against explicit equations, and what may not change its output."""

import re
import tomllib
from functools import partial
from pathlib import Path

import networks
import pytest
import torch
from networks import DOUBLE, OF_MMSTG_NET, SMALL, batch_for, eeg, measures, pair, turned
from torch import nn
from torch.nn import functional

from domainemo.backbones.graphs import (
    RegionPooling,
    electrode_positions,
    scaled_laplacian,
)
from domainemo.backbones.mmstg_net import (
    GatedFusion,
    MMSTGNet,
    MultiScaleConvolution,
    SpatioTemporalBlock,
)
from domainemo.backbones.regions import ELECTRODES, regions
from domainemo.cli.configuration import configure
from domainemo.core import FUSION, Modality
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.samplings.trials import Trials

torch.set_num_threads(1)
CASES = OF_MMSTG_NET
every_case = pytest.mark.parametrize("case", CASES)
build = partial(networks.build, MMSTGNet)


def gap(first, second):
    return max(float((first[b] - second[b]).detach().abs().max()) for b in first)


# -------------------------------------------------------------------------- contract


def test_name_size_and_defaults():
    assert find("backbone", "mmstg-net") is MMSTGNet
    cap = Modality(ELECTRODES, tuple("abcde"), "eeg")
    model = MMSTGNet({"eeg": cap, "eye": measures(33)})
    assert sum(parameter.numel() for parameter in model.parameters()) == 160_932
    sampling = model.sampling
    assert isinstance(sampling, Sequences)
    assert (sampling.length, sampling.stride) == (8, 4)
    whole = Trials()
    other = MMSTGNet(pair(), partition=6, kernels=[1, 3], sampling=whole)
    assert (other.partition, other.kernels, other.sampling) == ("6", (1, 3), whole)
    assert isinstance(model.head(FUSION, 128, 3)[1], nn.Linear)


def test_the_shipped_configuration():
    described = configure({}, [], "mmstg-net").describe()
    assert described["backbone"] == "mmstg-net"
    assert described["adapter"] == "mmstg-net"
    options = described["options"]
    expected = {"adapter.weight": 0.1, "training.epochs": 80, "training.batch_size": 64}
    assert expected.items() <= options.items()


def test_unfit_options_are_explained():
    for modalities in ({"eye": measures(3)}, {"a": eeg(), "b": eeg()}):
        with pytest.raises(ConfigurationError, match="exactly one modality of kind"):
            MMSTGNet(modalities)
    for options, words in (
        ({"kernels": (1, 2)}, "odd numbers"),
        ({"kernels": ()}, "odd numbers"),
        ({"width": 0}, r"width is .*; expected at least 1"),
        ({"block_widths": ()}, "block_widths is empty"),
        ({"block_widths": (8, 0)}, r"block_widths is \(8, 0\); expected at least 1"),
        ({"prior_scale": 0}, "prior_scale is 0; expected metres above 0"),
        ({"readout": "lobes"}, "'regions', 'electrodes'"),
        ({"order": 0}, "order is 0; expected at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; expected at least 0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            MMSTGNet(pair(), **options)
    for options, words in (
        ({"adjacency": "frozen", "order": 1}, "'frozen', but an order of 1 sees"),
        ({"adjacency": "distance", "prior": 0.0}, "prior of 0 leaves no edge"),
        ({"graphs": "regions", "partition": "1"}, "a single region"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            MMSTGNet(pair(), **options)
    with pytest.raises(ConfigurationError, match="EEG alone is fused with nothing"):
        MMSTGNet({"eeg": eeg()}, fused_by="concatenation")
    with pytest.raises(DataError, match="'heart'"):
        MMSTGNet(pair(["Cz", "heart"]))


# ----------------------------------------------------------------------- invariances


@pytest.mark.parametrize("readout", ["regions", "electrodes"])
def test_weights_are_bound_to_channels_by_name(readout):
    first = pair(ELECTRODES)
    modern = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    second, orders = turned(first, modern)
    model = MMSTGNet(first, readout=readout).eval()
    other = MMSTGNet(second, readout=readout).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(first, dtype=torch.float32)
    expected = model(signals, masks)
    moved = other({n: s[:, :, orders[n]] for n, s in signals.items()}, masks)
    assert all(torch.equal(expected[branch], moved[branch]) for branch in expected)
    edges = model.electrode_graph.adjacency()
    assert torch.equal(edges, other.electrode_graph.adjacency())
    assert [modern.get(name, name) for name in model.nodes] == list(other.nodes)


def test_time_matters_and_so_does_place():
    model, modalities = build()
    signals, masks = batch_for(modalities)
    masks = {name: torch.ones_like(mask) for name, mask in masks.items()}
    before = model(signals, masks)
    backwards = {name: signal.flip(1) for name, signal in signals.items()}
    moved = {**signals, "eeg": signals["eeg"].roll(1, 2)}
    for changed, branches in ((backwards, ("eeg", "eye", FUSION)), (moved, ("eeg",))):
        after = model(changed, masks)
        assert all(gap({b: before[b]}, after) > 1e-3 for b in branches)


# ------------------------------------------------------------------------- equations


@pytest.mark.parametrize("kernels", [(1, 3, 5), (3,), (5, 1)])
def test_multi_scale_convolution_equals_torchs(kernels):
    torch.manual_seed(0)
    ours = MultiScaleConvolution(3, 6, kernels=kernels, scale_width=4).to(DOUBLE)
    sequences = torch.randn(5, 2, 7, 3, dtype=DOUBLE)
    found = ours(sequences)
    for node in range(5):
        scales = []
        for kernel, scale in zip(kernels, ours.scales, strict=True):
            theirs = nn.Conv1d(3, 4, kernel, padding="same").to(DOUBLE)
            with torch.no_grad():
                weight = scale.weight.reshape(4, kernel, 3)
                theirs.weight.copy_(weight.transpose(1, 2))
                theirs.bias.copy_(scale.bias)
            scales.append(theirs(sequences[node].mT).mT)
        _, norm, last = ours.mix
        expected = last(norm(functional.gelu(torch.cat(scales, -1))))
        torch.testing.assert_close(found[node], expected)


@pytest.mark.parametrize(
    ("outputs", "graphs"),
    [(4, "both"), (6, "both"), (4, "electrodes"), (4, "regions")],
)
def test_block_equals_an_explicit_one(outputs, graphs):
    torch.manual_seed(1)
    groups = list(regions(sorted(SMALL, key=str.upper), "6").values())
    weights = [torch.rand(n, n, dtype=DOUBLE) for n in (len(SMALL), len(groups))]
    wide, coarse = (scaled_laplacian(each + each.T) for each in weights)
    temporal = MultiScaleConvolution(4, outputs, kernels=(1, 3), scale_width=5)
    block = SpatioTemporalBlock(
        temporal, 4, outputs, order=3, graphs=graphs, dropout=0.3
    )
    block = block.to(DOUBLE).eval()
    nodes, mask = torch.randn(11, 2, 5, 4, dtype=DOUBLE), torch.rand(2, 5) < 0.7
    nodes = nodes * mask[..., None]
    found = block(nodes, mask, wide, coarse, RegionPooling(groups).to(DOUBLE))

    def polynomials(laplacian):
        unit = torch.eye(len(laplacian), dtype=DOUBLE)
        return unit, laplacian, 2 * laplacian @ laplacian - unit

    hidden = block.temporal(nodes)
    for i, t in zip(*torch.where(mask), strict=True):
        own = hidden[:, i, t]
        means = torch.stack([own[list(group)].mean(0) for group in groups])
        fine = torch.cat([p @ own for p in polynomials(wide)], -1)
        rough = torch.cat([p @ means for p in polynomials(coarse)], -1)
        nothing = torch.zeros(len(fine), outputs, dtype=DOUBLE)
        fine = nothing if graphs == "regions" else block.over_electrodes.mix(fine)
        rough = nothing if graphs == "electrodes" else block.over_regions.mix(rough)
        for number, group in enumerate(groups):
            for node in group:
                spatial = functional.gelu(block.norm(fine[node] + rough[number]))
                expected = block.shortcut(nodes[node, i, t]) + spatial
                torch.testing.assert_close(found[node, i, t], expected)
    assert not found[:, ~mask].any()


def gate_inputs(names, batch=6, width=4):
    generator = torch.Generator().manual_seed(0)
    features, projections, present = {}, {}, {}
    for name in names:
        present[name] = torch.rand(batch, 1, generator=generator) < 0.6
        for store in (features, projections):
            drawn = torch.randn(batch, width, generator=generator, dtype=DOUBLE)
            store[name] = drawn * present[name]
    return features, projections, present


def equation(gate, u, v, own, other):
    """Fuse one sample of two modalities, as the reconstruction has it."""
    g = torch.sigmoid(gate(torch.cat([u / u.norm(), v / v.norm()])))
    return g * own + (1 - g) * other, own * other


@pytest.mark.parametrize("names", [("eye",), ("eye", "ecg"), ("a", "b", "c", "d")])
def test_gated_fusion_equals_a_loop_over_samples(names):
    torch.manual_seed(0)
    gate = GatedFusion(names, 4).to(DOUBLE)
    features, projections, present = gate_inputs(("eeg", *names), batch=40)
    found = gate("eeg", features, projections, present)
    cases = set()
    for i in range(40):
        there = [name for name in names if present[name][i]]
        own = features["eeg"][i]
        cases.add((bool(present["eeg"][i]), len(there)))
        if not there:
            expected = torch.cat([own, torch.zeros_like(own)])
        elif not present["eeg"][i]:
            mean = sum(features[name][i] for name in there) / len(there)
            expected = torch.cat([mean, torch.zeros_like(own)])
        else:
            pairs = [
                equation(
                    gate.gates[name],
                    projections["eeg"][i],
                    projections[name][i],
                    own,
                    features[name][i],
                )
                for name in there
            ]
            halves = zip(*pairs, strict=True)
            expected = torch.cat([sum(each) / len(pairs) for each in halves])
        torch.testing.assert_close(found[i], expected)
    assert {(True, 1), (False, 1), (True, len(names))} <= cases


def test_eeg_alone_is_fused_from_eeg_alone():
    features, projections, present = gate_inputs(("eeg",))
    gate = GatedFusion((), 4)
    assert gate.outputs == 4 and not list(gate.parameters())
    assert gate("eeg", features, projections, present) is features["eeg"]


# -------------------------------------------------------------------------- switches


def names_of(model):
    return {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("graphs", "gone", "left"),
    [
        ("electrodes", ("region_graph", "over_regions"), "electrode_graph.weight"),
        ("regions", ("electrode_graph", "over_electrodes"), "region_graph.weight"),
    ],
)
def test_a_graph_that_is_left_out_has_no_parameter(graphs, gone, left):
    whole, without = (
        names_of(MMSTGNet(pair())),
        names_of(MMSTGNet(pair(), graphs=graphs)),
    )
    lost = {name for name in whole if any(part in name for part in gone)}
    assert lost and without.isdisjoint(lost) and left in without
    # The one bias of both convolutions goes to the one that is left.
    assert {n for n in without - whole} <= {
        f"blocks.{number}.over_regions.mix.bias" for number in range(2)
    }


def test_without_the_electrodes_graph_a_block_hears_other_electrodes_by_region_alone():
    """An electrode's own time series aside, two of one region receive the same."""
    model, modalities = build("regions, frozen")
    block, graph = model.blocks[0], model.region_graph()
    signals, masks = batch_for(modalities)
    nodes = signals["eeg"].index_select(-2, model.order_of_nodes).movedim(-2, 0)
    nodes = nodes * masks["eeg"][..., None]
    found = block(nodes, masks["eeg"], None, graph, model.pooling)
    received = found - block.shortcut(nodes)
    region = model.pooling.region_of
    for number in region.unique():
        theirs = received[region == number]
        torch.testing.assert_close(theirs, theirs[:1].expand_as(theirs))


def test_a_frozen_adjacency_has_no_gradient_and_stays_as_it_was_drawn():
    frozen, modalities = build("regions, frozen", training=True)
    torch.manual_seed(0)
    learned = MMSTGNet(modalities, graphs="regions").to(DOUBLE).train()
    drawn = frozen.region_graph.weight.clone()
    assert torch.equal(drawn, learned.region_graph.weight)
    for model, moves in ((frozen, False), (learned, True)):
        weights = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, 0.01, weight_decay=0.1)
        sum(e.square().sum() for e in model(*batch_for(modalities)).values()).backward()
        optimiser.step()
        weight = model.region_graph.weight
        assert (weight.grad is not None) == moves
        assert torch.equal(weight, drawn) != moves


def test_the_distance_prior_alone_has_nothing_to_learn():
    model, _ = build("distances, one scale")
    for graph, places in (
        (model.electrode_graph, electrode_positions(model.nodes)),
        (model.region_graph, None),
    ):
        assert not list(graph.parameters())
        if places is not None:
            gaps = torch.cdist(*2 * [torch.from_numpy(places)]).square()
            expected = torch.exp(-gaps / (2 * 0.03**2)).fill_diagonal_(0)
            torch.testing.assert_close(graph.adjacency(), expected, atol=1e-6, rtol=0)


def test_one_scale_is_one_convolution():
    for kernels, count in (((1, 3, 5), 3), ((3,), 1)):
        model = MMSTGNet(pair(), kernels=kernels)
        found = [m for m in model.modules() if isinstance(m, MultiScaleConvolution)]
        assert len(found) == 3 and all(len(m.scales) == count for m in found)


def test_side_by_side_there_is_no_gate():
    model, modalities = build("electrodes, side by side")
    assert not any("gate" in name for name in names_of(model))
    batch = batch_for(modalities)
    seen = []
    for name in modalities:  # what the projections are of
        model.projections[name].register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
    fused = model(*batch)[FUSION]
    torch.testing.assert_close(fused, model.fusion(torch.cat(seen, -1)))


# ---------------------------------------------------------------------- connectivity


@pytest.mark.parametrize("case", ["whole", "regions, frozen", "distances, one scale"])
def test_connectivity_is_the_mean_edge_between_regions(case):
    model, _ = build(case)
    made = model.connectivity()
    assert set(made.weights) == (
        {"regions"} if "frozen" in case else {"electrodes", "regions"}
    )
    if case != "regions, frozen":
        edges = model.electrode_graph.adjacency()
        for i, one in enumerate(model.regions):
            for j, other in enumerate(model.regions):
                each = [
                    edges[model.nodes.index(a), model.nodes.index(b)]
                    for a in model.electrodes[one]
                    for b in model.electrodes[other]
                ]
                expected = torch.stack(each).mean().detach()
                torch.testing.assert_close(made.weights["electrodes"][i, j], expected)
    edges = model.region_graph.adjacency().detach()
    torch.testing.assert_close(made.weights["regions"], edges)


def test_edges_that_are_cut_are_gone_and_come_back():
    model, modalities = build()
    batch = batch_for(modalities)
    before = model(*batch)
    graph, one, other = model.electrode_graph, *model.regions[:2]
    whole = graph.adjacency()
    with pytest.raises(KeyError), model.without_edges(one, other):
        cut, inside = graph.adjacency(), model(*batch)
        raise KeyError
    for i, a in enumerate(model.nodes):
        for j, b in enumerate(model.nodes):
            between = {
                next(r for r, own in model.electrodes.items() if n in own)
                for n in (a, b)
            }
            gone = between == {one, other}
            assert cut[i, j] == (0 if gone else whole[i, j])
    assert gap({"eeg": before["eeg"]}, inside) > 1e-6
    assert torch.equal(before["eye"], inside["eye"])
    assert gap(before, model(*batch)) == 0


def test_the_page_names_every_entry_of_the_ablation_and_what_it_sets():
    repository = Path(__file__).parents[1]
    page = (repository / "docs" / "mmstg-net.md").read_text(encoding="utf-8")
    file = repository / "studies" / "named" / "mmstg-net-ablation.toml"
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["backbones"]
    for name, entry in entries.items():
        assert f"`{name}`" in page
        for option, value in entry.get("options", {}).get("backbone", {}).items():
            assert re.search(rf"`backbone\.{option}=", page), option
            MMSTGNet(pair(), **{option: value})
