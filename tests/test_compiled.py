"""Steps that are compiled leave what they would leave without, but for rounding."""

import pandas as pd
import pytest
import torch
from test_population import STACKED, alone, apart, member, together, training

import domainemo as de
from domainemo.backbones import products
from domainemo.core import Adapter
from domainemo.errors import ConfigurationError, DomainemoWarning
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries
from domainemo.testing.firewall import with_random_target_labels
from domainemo.training import compiled
from domainemo.training.fit import Fitting
from domainemo.training.loop import Loop
from domainemo.training.seeds import seed_torch

NETWORKS = [each.name for each in entries("backbone")]
POINTS = (0.0, 0.45, 0.9)  # such as before a target is shown, with it, and judged


@pytest.fixture
def traced(monkeypatch):
    """Take programs as they are traced: a compiler takes a minute for each."""
    monkeypatch.setattr(compiled, "_compile", lambda program, inputs: program)


@pytest.fixture
def exact():
    """Compute in double precision, in which rounding is far below any mistake."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def task(wanted, seed=1, **chosen):
    model, adapter, *rest, given = training(seed, training__compile=wanted, **chosen)
    return Fitting(model, adapter, *rest, **given, traced=None)


def steps(wanted, points=POINTS, **chosen):
    """Return losses, gradients and buffers of a step at several points of training."""
    fitting, found = task(wanted, **chosen), []
    fitting.parts.train()
    seed_torch(5)
    batches = fitting.batches()
    for number, progress in enumerate(points):
        fitting.parts.zero_grad()
        here, there = batches[number % len(batches)]
        losses = fitting.step(progress, here=here, there=there)
        found.append({f"loss {n}": value.detach() for n, value in losses.items()})
        found[-1] |= {
            n: p.grad.clone()
            for n, p in fitting.objective.named_parameters()
            if p.grad is not None
        }
        found[-1] |= {
            n: value.clone() for n, value in fitting.objective.named_buffers()
        }
    return found, fitting


def same(first, second):
    for here, there in zip(first, second, strict=True):
        assert here.keys() == there.keys()
        assert apart(here, there) < 1e-9


@pytest.mark.parametrize(
    ("kind", "name"),
    [("adapter", name) for name in STACKED] + [("backbone", name) for name in NETWORKS],
)
def test_a_traced_step_is_the_step(traced, exact, kind, name):
    without, _ = steps(False, **{kind: name})
    within, fitting = steps(True, **{kind: name})
    assert not fitting.compiled.given_up
    same(within, without)


def test_what_is_asked_of_the_processor_is_no_part_of_a_step(traced, monkeypatch):
    """Also where nothing has asked for it before."""
    products.onednn_faster.cache_clear()
    monkeypatch.setattr(products, "_OPERATIONS", 1)
    monkeypatch.setattr(products, "_NARROW", 1)
    _, fitting = steps(True, backbone="concatenation-mlp", points=(0.9,))
    assert not fitting.compiled.given_up


def test_a_compiled_step_is_the_step(exact):
    small = {"adapter": "uf-ama", "adapter__schedule": "constant"}
    without, _ = steps(False, (0.9,), **small)
    within, _ = steps(True, (0.9,), **small)
    same(within, without)


def test_a_population_ends_as_it_would_uncompiled(traced, exact):
    without = together([member(seed) for seed in range(3)])
    within = together([member(seed, training__compile=True) for seed in range(3)])
    for here, there in zip(within, without, strict=True):
        assert apart(here, there) < 1e-9


def test_members_of_unequal_length_with_weights_of_their_own(traced, exact):
    def members(wanted):
        return [
            member(seed, short=seed, training__compile=wanted, adapter__marginal=weight)
            for seed, weight in ((0, 0.5), (1, 2.0))
        ]

    pairs = zip(together(members(True)), together(members(False)), strict=True)
    for here, there in pairs:
        assert apart(here, there) < 1e-9


def test_what_training_ends_with_is_the_same_twice(traced):
    first, second = (alone(2, training__compile=True)[1] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_is_the_same_and_does_not_know_the_labels_of_its_target(traced, tmp_path):
    data = de.Simulated(subjects=3, sessions=1, trials=4, windows=(3, 5)).load()

    def ran(name, data, wanted):
        return de.run(
            data,
            backbone="concatenation-mlp",
            adapter="uf-ama",
            baselines=False,
            folds=["subject 1"],
            options={"training.epochs": 3, "training.compile": wanted},
            output=tmp_path / name,
        ).predictions

    without, within = ran("without", data, False), ran("within", data, True)
    pd.testing.assert_frame_equal(without, within, rtol=1e-3, atol=1e-3)
    noisy = with_random_target_labels(data, CrossSubject())
    there = [name for name in within if name.startswith("p_") or name == "predicted"]
    pd.testing.assert_frame_equal(within[there], ran("noisy", noisy, True)[there])


def test_without_a_compiler_nothing_begins(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "torch._inductor.config.cpp.cxx", (None, str(tmp_path / "none-there"))
    )
    with pytest.raises(ConfigurationError, match=r"no C\+\+ compiler here; expected"):
        de.run(
            de.Simulated(subjects=3, sessions=1).load(),
            options={"training.compile": True},
            output=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


class Looking(Adapter):
    """An adapter that looks at a value to decide what to do."""

    def forward(self, source, target):
        embedding = target.outputs.embeddings["fusion"].mean()
        return {"own": embedding if embedding > 0 else -embedding}


class Drawing(Looking):
    """One that draws as nobody foresees."""

    def forward(self, source, target):
        embedding = target.outputs.embeddings["fusion"]
        return {"own": (embedding * torch.empty_like(embedding).normal_()).mean()}


class Counting(Looking):
    """One that counts its steps where nobody sees it."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, source, target):
        self.steps.append(target.progress)
        return {"own": len(self.steps) * target.outputs.embeddings["fusion"].mean()}


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (Looking, "looks at a value"),
        (Drawing, "random numbers"),
        (Counting, "attribute"),
    ],
)
def test_what_cannot_be_compiled_is_said_and_goes_on(traced, adapter, why):
    def ends(wanted):
        model, _, *rest, given = training(3, training__compile=wanted)
        own = adapter()
        own.prepare(model.dims, model.classes, 3)
        loop = Loop(Fitting(model, own, *rest, **given, traced=None), seed=3)
        loop.run()
        return model.state_dict()

    without = ends(False)
    with pytest.warns(DomainemoWarning, match=f"cannot be compiled .*{why}"):
        within = ends(True)
    assert all(torch.equal(within[name], without[name]) for name in without)


def test_batches_of_many_lengths_are_given_up(traced, monkeypatch):
    monkeypatch.setattr(compiled, "_MOST_KINDS", 1)
    with pytest.warns(DomainemoWarning, match="of more than 1 kinds"):
        within, fitting = steps(True)
    without, _ = steps(False)
    assert fitting.compiled.given_up
    for here, there in zip(within, without, strict=True):
        assert apart(here, there) < 1e-4
