"""What no network may depend on, and what every network must do; see networks.py."""

import copy
import math

import pytest
import torch
from networks import NETWORKS, batch_for, build, turned
from safetensors.torch import load, save
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from domainemo.backbones.layers import Dropout
from domainemo.core import FUSION
from domainemo.registry import entries, find
from domainemo.testing import checks

torch.set_num_threads(1)
EVERY = [(cls, case) for cls, cases in NETWORKS.items() for case in cases]
every_case = pytest.mark.parametrize(
    ("cls", "case"), EVERY, ids=[f"{cls.__name__}, {case}" for cls, case in EVERY]
)


def test_no_network_is_missing_here():
    assert {find("backbone", entry.name) for entry in entries("backbone")} == {
        *NETWORKS
    }


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=f"{cls.__name__}, {case}, {each.name}")
        for cls, cases in NETWORKS.items()
        for case, (modalities, options) in cases.items()
        for each in checks(cls, options=options, sensors=[modalities])
    ],
)
def test_shipped_checks(check):
    check()


def told(model, signals, masks):
    """Return the embeddings of all branches, and the views where there are any."""
    found = dict(model(signals, masks))
    views = model.views(signals, masks) if hasattr(model, "views") else {}
    return found | {f"view {name}": value for name, value in views.items()}


def own_sensor(branch):
    """Return the sensor that a branch or view is of."""
    return branch.removeprefix("view ").split("/")[0]


def close(first, second):
    assert first.keys() == second.keys()
    for branch in first:
        torch.testing.assert_close(first[branch], second[branch])


def same(first, second):
    return all(torch.equal(first[branch], second[branch]) for branch in first)


def longer(signals, masks, more):
    """Return a batch with more steps at its end, in which something stands."""
    pad = (0, 0, 0, 0, 0, more)
    return (
        {n: functional.pad(s, pad, value=9.0) for n, s in signals.items()},
        {n: functional.pad(m, (0, more)) for n, m in masks.items()},
    )


def without_chance(model):
    """Return a network that drops nothing in training."""
    for module in model.modules():
        if isinstance(module, Dropout | nn.Dropout):
            module.training = False
    return model


@every_case
@pytest.mark.parametrize("time", [1, 6])
def test_every_branch_has_a_finite_embedding_and_a_head(cls, case, time):
    model, modalities = build(cls, case, training=True)
    embeddings = model(*batch_for(modalities, time=time))
    assert set(embeddings) == {*modalities, FUSION}
    for branch, embedding in embeddings.items():
        assert embedding.shape[0] == 4 and embedding.isfinite().all()
        head = model.head(branch, embedding.shape[-1], 3).double()
        assert head(embedding).shape == (4, 3)


# ---------------------------------------------------------------------- invariances


@every_case
@pytest.mark.parametrize("time", [1, 7])
@pytest.mark.parametrize("more", [1, 17])
def test_more_padding_changes_no_bit(cls, case, time, more):
    model, modalities = build(cls, case, dtype=torch.float32)
    batch = batch_for(modalities, time=time, dtype=torch.float32)
    assert same(told(model, *batch), told(model, *longer(*batch, more)))


@every_case
def test_padding_stays_out_in_training_too(cls, case):
    model, modalities = build(cls, case, training=True)
    without_chance(model)  # what is drawn at random depends on the length
    batch = batch_for(modalities)
    close(told(model, *batch), told(model, *longer(*batch, 3)))


@every_case
@pytest.mark.parametrize("junk", [7.0, math.nan, math.inf])
def test_what_stands_in_masked_places_is_never_seen(cls, case, junk):
    model, modalities = build(cls, case)
    signals, masks = batch_for(modalities)
    spoilt = {
        name: signal.masked_fill(~masks[name][..., None, None], junk)
        for name, signal in signals.items()
    }
    assert same(told(model, signals, masks), told(model, spoilt, masks))


@every_case
def test_a_sample_does_not_depend_on_its_batch(cls, case):
    model, modalities = build(cls, case)
    signals, masks = batch_for(modalities, time=7)
    together = told(model, signals, masks)
    for i in range(4):
        own = slice(i, i + 1)
        alone = told(
            model,
            {n: s[own] for n, s in signals.items()},
            {n: m[own] for n, m in masks.items()},
        )
        close(alone, {branch: found[own] for branch, found in together.items()})


@every_case
def test_weights_are_bound_to_channels_by_name(cls, case):
    model, modalities = build(cls, case, dtype=torch.float32)
    sensors, orders = turned(modalities, {"T7": "t3", "Fp1": "FP1"})
    other = cls(sensors, **NETWORKS[cls][case][1]).eval()
    other.load_state_dict(model.state_dict())
    signals, masks = batch_for(modalities, dtype=torch.float32)
    moved = {name: signal[:, :, orders[name]] for name, signal in signals.items()}
    expected = told(model, signals, masks)
    assert same(expected, told(other, moved, masks))
    assert not same(expected, told(other, signals, masks))


@every_case
def test_a_branch_sees_its_sensor_alone(cls, case):
    model, modalities = build(cls, case)
    signals, masks = batch_for(modalities)
    before = told(model, signals, masks)
    for changed in modalities:
        after = told(model, {**signals, changed: signals[changed] + 1.0}, masks)
        for branch in before:
            equal = torch.equal(before[branch], after[branch])
            assert equal == (own_sensor(branch) not in (changed, FUSION)), branch


# --------------------------------------------------------------------- lost sensors


@every_case
@pytest.mark.parametrize("time", [2, 6])
def test_any_sensor_may_be_missing(cls, case, time):
    model, modalities = build(cls, case, training=True)
    signals, masks = batch_for(modalities, time=time)
    for lost in (*([name] for name in modalities), list(modalities)):
        partly = {n: m & (n not in lost) for n, m in masks.items()}
        model.zero_grad()
        found = told(model, signals, partly)
        torch.stack([each.square().sum() for each in found.values()]).sum().backward()
        assert all(each.isfinite().all() for each in found.values())
        assert not any(found[b].any() for b in found if own_sensor(b) in lost)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients and all(g.isfinite().all() for g in gradients)


# ------------------------------------------------------------ gradients, populations


@every_case
def test_gradients_reach_every_weight(cls, case):
    model, modalities = build(cls, case, training=True)
    found = told(model, *batch_for(modalities, batch=8))
    torch.stack([each.square().sum() for each in found.values()]).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.any(), name


@every_case
@pytest.mark.parametrize("stack_buffers", [True, False])
def test_stacked_networks_equal_a_loop(cls, case, stack_buffers):
    models = [build(cls, case, seed=seed)[0] for seed in range(3)]
    signals, masks = batch_for(NETWORKS[cls][case][0], time=6)
    several = {n: torch.stack([s, s + 1, s * 2]) for n, s in signals.items()}
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])
    if not stack_buffers:
        buffers = dict(skeleton.named_buffers())

    def run(parameters, buffers, signals):
        return functional_call(skeleton, (parameters, buffers), (signals, masks))

    axes = (0, 0 if stack_buffers else None, 0)
    found = vmap(run, in_dims=axes)(parameters, buffers, several)
    for i, model in enumerate(models):
        expected = model({n: s[i] for n, s in several.items()}, masks)
        close(dict(expected), {branch: each[i] for branch, each in found.items()})


@every_case
def test_stacked_networks_have_the_gradients_of_one(cls, case):
    model, modalities = build(cls, case, training=True)
    without_chance(model)
    signals, masks = batch_for(modalities)

    def loss(parameters):
        found = functional_call(model, parameters, (signals, masks))
        return torch.stack([each.square().sum() for each in found.values()]).sum()

    loss(dict(model.named_parameters())).backward()
    learned = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    stacked = {n: torch.stack([p, p]) for n, p in learned.items()}
    found = vmap(grad(loss))(stacked)
    for name in learned:
        expected = model.get_parameter(name).grad
        if expected is None:  # what this loss does not use
            expected = torch.zeros_like(learned[name])
        torch.testing.assert_close(found[name][1], expected)


@every_case
def test_stacked_networks_draw_their_own_dropout(cls, case):
    model, modalities = build(cls, case, dtype=torch.float32, training=True)
    shares = [m.probability for m in model.modules() if isinstance(m, Dropout)]
    batch = batch_for(modalities, dtype=torch.float32)
    parameters, buffers = stack_module_state([model, model])

    def run(parameters, buffers):
        return functional_call(model, (parameters, buffers), batch)

    found = vmap(run, randomness="different")(parameters, buffers)
    # Equal weights and inputs: only the dropout tells them apart.
    alike = torch.allclose(found[FUSION][0], found[FUSION][1], atol=1e-4)
    assert alike == (not any(shares))


@every_case
def test_state_survives_safetensors(cls, case):
    model, modalities = build(cls, case)
    other, _ = build(cls, case, seed=1)
    batch = batch_for(modalities)
    assert not same(told(model, *batch), told(other, *batch))
    other.load_state_dict(load(save(model.state_dict())))
    assert same(told(model, *batch), told(other, *batch))
