"""Statistics of each domain's own: of embeddings, and of layers within a network."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import domainemo as de
from domainemo.adapters.statistics.domain_normalisation import (
    DomainSpecificNormalisation,
    moments,
)
from domainemo.adapters.test_time.batch_statistics import normalise_by_target
from domainemo.backbones.concatenation import Concatenation
from domainemo.backbones.layers import MaskedBatchNorm
from domainemo.core import FUSION, Modality, Outputs, Source, Target
from domainemo.testing import check
from domainemo.training.model import Network


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def outputs(embedding, there=None):
    present = {} if there is None else {FUSION: there}
    logits = embedding.new_zeros(len(embedding), 3)
    return Outputs({FUSION: embedding}, {FUSION: logits}, present)


def source_of(embedding, labels, there=None):
    return Source(outputs(embedding, there), labels, torch.zeros_like(labels))


def adapter(dim=4, **options):
    torch.manual_seed(0)
    made = DomainSpecificNormalisation(**options)
    made.prepare({FUSION: dim}, 3, 1)
    return made.double()


# ----------------------------------------------------- embeddings normalised by domain


def slow_moments(values, weights):
    """Return mean and variance column by column."""
    rows = [row for row, w in zip(values.tolist(), weights.tolist(), strict=True) if w]
    columns = list(zip(*rows, strict=True))
    means = [sum(column) / len(rows) for column in columns]
    spreads = [
        sum((value - mean) ** 2 for value in column) / len(rows)
        for column, mean in zip(columns, means, strict=True)
    ]
    return torch.tensor(means).double(), torch.tensor(spreads).double()


def test_moments_equal_a_loop_and_are_zero_of_nothing():
    values, weights = random(9, 4), torch.tensor([1.0, 0, 1, 1, 1, 0, 1, 1, 1]).double()
    for found, expected in zip(
        moments(values, weights), slow_moments(values, weights), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not any(found.any() for found in moments(values, 0 * weights))
    mean, variance = moments(values, weights / 7)
    torch.testing.assert_close(mean, moments(values, weights)[0])
    torch.testing.assert_close(variance, moments(values, weights)[1])


def test_the_loss_is_that_of_batch_normalisation_and_a_classifier():
    made, embedding, labels = adapter(weight=0.7), 5 + random(8, 4), torch.arange(8) % 3
    there = torch.tensor([True, True, False, True, True, True, False, True])
    found = made(
        source_of(embedding, labels, there), Target(outputs(random(8, 4)), 0.5)
    )
    norm = nn.BatchNorm1d(4, affine=False).double()
    logits = made.classifier(norm(embedding[there]))
    expected = 0.7 * nn.functional.cross_entropy(logits, labels[there])
    torch.testing.assert_close(found[FUSION], expected)


def test_each_domain_has_running_statistics_which_the_first_batch_sets():
    made, labels = adapter(momentum=0.3), torch.arange(6) % 3
    given = [
        (2 + random(6, 4, seed=k), -3 * random(6, 4, seed=9 + k)) for k in range(3)
    ]
    for ours, theirs in given:
        made(source_of(ours, labels), Target(outputs(theirs), 0.5))
    for domain in (0, 1):
        mean, variance = given[0][domain].mean(0), given[0][domain].var(0)
        for pair in given[1:]:
            mean = 0.7 * mean + 0.3 * pair[domain].mean(0)
            variance = 0.7 * variance + 0.3 * pair[domain].var(0)
        torch.testing.assert_close(made.mean[domain], mean)
        torch.testing.assert_close(made.variance[domain], variance)
    seen = random(5, 4, seed=30)
    scaled = (seen - made.mean[1]) / (made.variance[1] + 1e-5).sqrt()
    torch.testing.assert_close(
        made.eval().predict(outputs(seen)), made.classifier(scaled)
    )
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made(source_of(given[0][0], labels), Target(outputs(given[0][1]), 1.0))
    assert all(torch.equal(before[n], v) for n, v in made.state_dict().items())


@pytest.mark.parametrize("there", [0, 1])
def test_a_batch_of_one_and_of_none_go_by_what_is_known(there):
    made, labels = adapter(), torch.arange(4) % 3
    made(source_of(random(4, 4), labels), Target(outputs(random(4, 4)), 0.5))
    known = made.mean.clone()
    seen = torch.arange(4) < there
    embedding = random(4, 4, seed=5).requires_grad_()
    target = random(4, 4, seed=6)
    loss = made(source_of(embedding, labels, seen), Target(outputs(target, seen), 0.5))
    loss[FUSION].backward()
    assert torch.equal(made.mean, known)
    assert bool(embedding.grad.isfinite().all()) and not embedding.grad[there:].any()
    if not there:
        assert loss[FUSION] == 0


def test_a_planted_offset_and_gain_are_repaired():
    """The network's own classifier is off by them; this one predicts as before."""
    labels = torch.arange(300) % 3
    points = 2 * torch.nn.functional.one_hot(labels, 4)[:, :4] + 0.5 * random(300, 4)
    moved = 3 * points + torch.tensor([12.0, -9.0, 0.0, 3.0])
    made = adapter()
    optimiser = torch.optim.Adam(made.parameters(), 0.05)
    plain = nn.Linear(4, 3).double()
    both = torch.optim.Adam(plain.parameters(), 0.05)
    for _ in range(100):
        loss = made(source_of(points, labels), Target(outputs(moved), 0.5))[FUSION]
        loss = loss + nn.functional.cross_entropy(plain(points), labels)
        optimiser.zero_grad()
        both.zero_grad()
        loss.backward()
        optimiser.step()
        both.step()
    made.eval()

    def right(logits):
        return float((logits.argmax(1) == labels).double().mean())

    assert right(made.predict(outputs(moved))) > 0.95 > 0.8 > right(plain(moved))


# ------------------------------------------------------------- layers within a network


def test_masked_batch_normalisation_is_torchs_where_all_is_there():
    ours, theirs = MaskedBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    for norm in (ours, theirs):
        with torch.no_grad():
            norm.weight.copy_(random(5, seed=8))
            norm.bias.copy_(random(5, seed=9))
    there = torch.ones(7, dtype=torch.bool)
    first, second = 3 + random(7, 5), 2 * random(7, 5, seed=1)
    theirs.momentum = 1.0  # the first batch sets the running statistics
    for values in (first, second):
        torch.testing.assert_close(ours(values, there), theirs(values))
        theirs.momentum = 0.1
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == 2
    torch.testing.assert_close(ours.eval()(first, there), theirs.eval()(first))


def test_masked_batch_normalisation_leaves_out_what_is_not_there():
    there = torch.tensor([True, False, True, True, False])
    values = random(5, 3).requires_grad_()
    norm, alone = MaskedBatchNorm(3).double(), MaskedBatchNorm(3).double()
    found = norm(values, there)[there]
    torch.testing.assert_close(found, alone(values[there], there[there]))
    assert torch.equal(norm.running_var, alone.running_var)
    gradient = torch.autograd.grad(found.square().sum() + found[0, 0], values)[0]
    assert not gradient[~there].any()
    # One or none: by what is known, which stays as it is.
    known = norm.running_mean.clone()
    for number in (0, 1):
        few = torch.arange(5) < number
        found, values.grad = norm(values, few), None
        found.sum().backward()
        assert torch.equal(norm.running_mean, known) and norm.num_batches_tracked == 1
        expected = (values - known) / (norm.running_var + norm.eps).sqrt()
        torch.testing.assert_close(found, expected)


MODALITIES = {
    "eeg": Modality(("Fz", "Cz", "Pz"), ("alpha", "beta"), "eeg"),
    "eye": Modality(("a", "b"), ("value",), "eye"),
}


def batch(size=40, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    signals = {
        name: shift
        + torch.randn(size, 1, len(m.channels), len(m.features), generator=generator)
        for name, m in MODALITIES.items()
    }
    masks = {name: torch.ones(size, 1, dtype=torch.bool) for name in MODALITIES}
    masks["eye"][::3] = False
    return signals, masks


def test_concatenation_without_it_is_a_chain_of_layers_as_before():
    torch.manual_seed(0)
    network = Concatenation(MODALITIES, hidden=(7,), width=4, fusion_width=6).eval()
    assert {name for name, _ in network.named_parameters()} == {
        *(f"encoders.{m}.layers.{k}.{p}" for m in MODALITIES for k in (0, 3)
          for p in ("weight", "bias")),
        "fusion.2.weight",
        "fusion.2.bias",
    }  # fmt: skip
    signals, masks = batch()
    found = network(signals, masks)
    eeg = network.encoders["eeg"]
    flat = signals["eeg"][:, 0][:, eeg.order_of_channels].flatten(1)
    assert torch.equal(found["eeg"], eeg.layers(flat))
    joined = torch.cat([found["eeg"], found["eye"]], -1)
    assert torch.equal(found[FUSION], network.fusion(joined))


@pytest.mark.parametrize("hidden", [[], [8]])
def test_concatenation_with_it_passes_the_shipped_checks(hidden):
    check(Concatenation, options={"normalisation": "batch", "hidden": hidden})


def test_adabn_undoes_what_shifts_a_layer_of_it():
    """Normalised by the target, a first layer has mean zero and variance one on it."""
    torch.manual_seed(0)
    network = Network(Concatenation(MODALITIES, normalisation="batch"), MODALITIES, 3)
    target = batch(seed=1, shift=4.0)
    network.train()
    network(*batch())  # the source
    network.eval()
    seen = []
    for encoder in network.backbone.encoders.values():
        (norm,) = (m for m in encoder.modules() if isinstance(m, MaskedBatchNorm))
        norm.register_forward_hook(
            lambda layer, given, out: seen.append(out.detach()[given[1]])
        )
    network(*target)
    assert max(float(out.mean(0).abs().max()) for out in seen) > 1
    normalise_by_target(network, [target])
    seen.clear()
    network(*target)
    assert [len(out) for out in seen] == [40, 26]
    for out in seen:
        torch.testing.assert_close(out.mean(0), 0 * out[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(out.var(0), 0 * out[0] + 1, atol=2e-2, rtol=0)


def of_the_eyes(network):
    """Return the normalisation of the eyes' encoder, and what it is given."""
    encoder = network.backbone.encoders["eye"]
    (norm,) = (m for m in encoder.modules() if isinstance(m, MaskedBatchNorm))
    given = []
    norm.register_forward_hook(lambda _, inputs, __: given.append(inputs))
    return norm, given


def test_adabn_counts_the_samples_in_which_a_sensor_is_there():
    torch.manual_seed(0)
    network = Network(Concatenation(MODALITIES, normalisation="batch"), MODALITIES, 3)
    norm, given = of_the_eyes(network)
    batches = [batch(12, seed=seed, shift=seed) for seed in (1, 5, 9)]
    batches[1][1]["eye"][2:] = False  # one sample: it has no variance, and no say
    batches[2][1]["eye"][:] = False
    batches[2][1]["eye"][4:7] = True
    normalise_by_target(network, batches)
    here = [values[there] for values, there in given]
    assert [len(each) for each in here] == [8, 1, 3]
    means, variances = (
        (8 * getattr(here[0], name)(0) + 3 * getattr(here[2], name)(0)) / 11
        for name in ("mean", "var")
    )
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)


def test_adabn_leaves_a_sensor_that_the_target_lacks_as_it_was():
    torch.manual_seed(0)
    network = Network(Concatenation(MODALITIES, normalisation="batch"), MODALITIES, 3)
    norm, _ = of_the_eyes(network)
    network.train()
    network(*batch(shift=2.0))
    network.eval()
    before = {name: value.clone() for name, value in norm.named_buffers()}
    batches = [batch(12, seed=seed, shift=7.0) for seed in range(3)]
    for _, masks in batches:
        masks["eye"][1:] = False
    normalise_by_target(network, batches)
    assert all(torch.equal(value, before[n]) for n, value in norm.named_buffers())
    assert norm.momentum == MaskedBatchNorm(1).momentum and not norm._forward_pre_hooks


def test_both_work_in_a_run_and_adabn_on_a_finished_model(tmp_path):
    data = de.load("simulated", subjects=3, sessions=1, trials=6, windows=[3, 4])
    choices = {
        "backbone": "concatenation-mlp",
        "options": {"training.epochs": 2, "backbone.normalisation": "batch"},
        "device": "cpu",
    }
    found = {}
    for name in ("none", "adabn", "domain-specific-normalisation"):
        folder = tmp_path / name
        de.run(
            data,
            adapter=name,
            folds=["subject 2"],
            output=folder,
            baselines=False,
            **choices,
        )
        new = np.flatnonzero(data.inputs.windows["subject"] == 2)
        found[name] = de.Model.load(folder, adapter=name).predict(data.take(new).inputs)
    columns = [column for column in found["none"] if column.startswith("p_")]
    for name in ("adabn", "domain-specific-normalisation"):
        assert not np.allclose(found[name][columns], found["none"][columns])
    model = de.train(
        data.take(np.flatnonzero(data.inputs.windows["subject"] != 2)), **choices
    )
    theirs = data.take(new).inputs
    adapted = model.predict(theirs, adapt="adabn")
    assert not np.allclose(adapted[columns], model.predict(theirs)[columns])
    pd.testing.assert_frame_equal(model.predict(theirs, adapt="adabn"), adapted)
