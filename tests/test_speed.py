"""The speed benchmarks: the yardstick is the released arithmetic; the page is its tables."""

import re
from types import SimpleNamespace

import pytest
import torch
from scripts import script
from torch.nn import functional

from domainemo.adapters.branches import schedule_factor
from domainemo.backbones.layers import channel_order


@pytest.fixture(scope="module")
def scripts():
    """The scripts, which import what stands beside them."""
    return SimpleNamespace(**{name: script(name) for name in ("speed", "released")})


# ------------------------------------------------------------------- the yardstick


def as_released(name):
    return re.sub(r"(encoders\.\d+\.layers)", r"\1.layers", name)


@pytest.fixture(scope="module", params=[1.0, 60.0], ids=["unsure", "sure"])
def pair(scripts, request):
    """One batch through the released step and through the library's, without dropout.

    The classifiers of the second are so steep that a batch passes the floor of 0.9.
    """
    shape = scripts.speed.Shape(4, 96, 4, 7, 5)
    made = scripts.released.released_experiment()
    options = made.with_options(
        {"backbone.dropout": 0.0, "backbone.head_dropout": 0.0}
    )
    member = scripts.speed.member(options, shape, 0)
    model = member.task.model
    with torch.no_grad():
        for head in model.heads.values():
            head[-1].weight.mul_(request.param)
    theirs = scripts.released.Released((7, 5), dropout=0.0, head_dropout=0.0)
    state = {
        as_released(name): value for name, value in model.backbone.state_dict().items()
    }
    for number, head in enumerate(model.heads.values()):
        found = head.state_dict(prefix=f"heads.{number}.")
        state |= found
    theirs.load_state_dict(state)
    scripts.speed.begin([member], 0.0)
    here, there = member.batches[0]
    ours = member.task.losses(0.0, here=here, there=there)
    source, target = (
        [
            signals[name][:, 0, channel_order(modality)]
            for name, modality in shape.modalities().items()
        ]
        for signals, _ in (
            member.task.source.samples.batch(here),
            member.task.target.batch(there),
        )
    )
    labels = functional.one_hot(member.task.source.labels[here], 4).float()
    found = theirs.losses(source, labels, target, 0)
    sum(ours.values()).backward()
    sum(found.values()).backward()
    return SimpleNamespace(
        ours=ours,
        theirs=found,
        gradients={name: p.grad for name, p in model.backbone.named_parameters()},
        released={name: p.grad for name, p in theirs.named_parameters()},
        sure=request.param > 1,
    )


def test_the_yardstick_computes_the_losses_of_the_library(pair):
    for name, value in pair.theirs.items():
        own = [loss for each, loss in pair.ours.items() if each.startswith(name)]
        assert own, (name, list(pair.ours))
        torch.testing.assert_close(sum(own), value, rtol=1e-4, atol=2e-6)
    assert sum(pair.ours.values()).item() == pytest.approx(
        sum(pair.theirs.values()).item(), rel=1e-5
    )
    if pair.sure:  # every term is at work
        assert min(pair.theirs[name] for name in ("consistency", "distillation")) > 0


def test_and_its_gradients_and_trains_no_classifier(pair, scripts):
    for name, gradient in pair.gradients.items():
        torch.testing.assert_close(
            pair.released[as_released(name)], gradient, rtol=1e-3, atol=2e-6
        )
    trained = scripts.released.Released((7, 5))
    own = {id(p) for group in trained.optimiser.param_groups for p in group["params"]}
    assert own == {id(p) for n, p in trained.named_parameters() if "heads" not in n}


def test_its_weights_follow_the_epochs_as_the_library_has_them(scripts):
    for epoch in range(400):
        expected = schedule_factor("released", epoch / 400 + 1e-6)
        assert scripts.released.marginal_weight(epoch) == pytest.approx(expected)
