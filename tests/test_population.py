"""Trainings as one program end as each does alone."""

import copy

import pytest
import torch
from domainemo.data.simulator import Simulated
from domainemo.registry import entries
from domainemo.runs import job as jobs
from domainemo.runs.run import run
from domainemo.training.fit import Fitting
from domainemo.training.loop import Loop
from domainemo.training.model import state_of
from domainemo.training.population import Member, train_together

SMALL = {
    "backbone.hidden": (16,),
    "backbone.width": 8,
    "backbone.fusion_width": 16,
    "training.epochs": 2,
    "training.batch_size": 8,
}


def taken_apart(monkeypatch, data, **choices):
    """Return all trainings of a run, not begun, and what each ends with alone."""
    begun, ended = [], []
    alone = jobs.fit

    def fit(model, adapter, *rest, **given):
        begun.append((copy.deepcopy((model, adapter)), rest, given))
        fitted = alone(model, adapter, *rest, **given)
        state = {n: v.clone() for n, v in state_of(model, adapter).items()}
        ended.append((fitted, state))
        return fitted

    monkeypatch.setattr(jobs, "fit", fit)
    choices = {"baselines": False, "device": "cpu", **choices}
    run(data, **choices)
    return begun, ended


def members_of(begun):
    found = []
    for (model, adapter), rest, given in begun:
        given = dict(given)
        seed, _, report = (given.pop(n) for n in ("seed", "checkpoint", "report"))
        task = Fitting(model, adapter, *rest, **given)
        found.append(Member(Loop(task, seed=seed, report=lambda row: None)))
    return found


@pytest.fixture(scope="module")
def data():
    return Simulated(subjects=3, sessions=1, trials=8, windows=(4, 6)).load()


def difference(member, state):
    end = member.task.best
    assert end.keys() == state.keys()
    return max(
        float((end[name].double() - state[name].double()).abs().max())
        for name in state
        if state[name].numel() and torch.isfinite(state[name].double()).all()
    )


@pytest.mark.parametrize(
    "adapter",
    [
        each.name
        for each in entries("adapter")
        if not each.name.startswith("pytorch-adapt")
    ],
)
def test_each_member_ends_as_alone(monkeypatch, data, adapter):
    begun, ended = taken_apart(
        monkeypatch, data, adapter=adapter, backbone="concatenation-mlp", options=SMALL
    )
    members = members_of(begun)
    if not begun[0][0][1].vectorises:
        pytest.skip("x")
    train_together(members)
    for member, (fitted, state) in zip(members, ended, strict=True):
        assert member.failure is None
        print(adapter, difference(member, state))
        assert difference(member, state) < 1e-4
