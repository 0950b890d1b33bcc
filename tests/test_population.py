"""Trainings that run as one program end as each would alone."""

import json
import re
import shutil
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fitted import fit
from torch import nn
from torch.func import vmap
from torch.nn import functional

from domainemo.core import Adapter, Source, Target
from domainemo.data.simulator import Simulated
from domainemo.errors import ConfigurationError, DomainemoWarning, RunError
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries, find
from domainemo.runs import job as jobs
from domainemo.runs import units
from domainemo.runs.experiment import experiment
from domainemo.runs.memory import held_by_a_step, step_needed
from domainemo.runs.plan import plan
from domainemo.runs.run import run
from domainemo.testing.firewall import with_random_target_labels
from domainemo.training import population
from domainemo.training.batches import LabelledSamples, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.draws import MemberDraws
from domainemo.training.fit import Fitting
from domainemo.training.loop import Loop
from domainemo.training.model import Network, state_of
from domainemo.training.population import Member, NotStackable, train_together

CPU = torch.device("cpu")
SMALL = {
    "backbone.hidden": (12,),
    "backbone.width": 8,
    "backbone.fusion_width": 12,
}
TRAINING = {
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.modality_dropout": 0.2,
}
STACKED = [
    each.name for each in entries("adapter") if find("adapter", each.name)().vectorises
]


@cache
def recordings():
    return Simulated(subjects=4, sessions=1, trials=4, windows=(3, 5)).load()


def training(seed, adapter="uf-ama", backbone="concatenation-mlp", short=0, **options):
    """Return the parts of a training: one subject is the target, `short` trials go."""
    data = recordings()
    options = {**TRAINING, **(SMALL if backbone == "concatenation-mlp" else {})} | {
        name.replace("__", "."): value for name, value in options.items()
    }
    made = experiment(backbone=backbone, adapter=adapter, device="cpu", options=options)
    torch.manual_seed(seed)
    network = made.build_backbone(data.inputs.modalities)
    model = Network(network, data.inputs.modalities, len(data.classes))
    own = made.build_adapter(made.adapter)
    own.prepare(model.dims, model.classes, 3)
    subjects = data.inputs.windows["subject"].to_numpy()
    names = np.unique(subjects)
    held = names[seed % len(names)]
    there = (subjects != held) & (data.inputs.windows["trial"].to_numpy() > short)
    rows = np.flatnonzero(there)
    source, members = sample(data.inputs, rows, network.sampling, CPU)
    target, _ = sample(
        data.inputs, np.flatnonzero(subjects == held), network.sampling, CPU
    )
    source, target = in_default_precision(source), in_default_precision(target)
    first = members[:, 0]
    codes = np.unique(subjects[rows], return_inverse=True)[1]
    known = LabelledSamples(
        source,
        torch.from_numpy(data.labels[first]),
        torch.from_numpy(codes[np.searchsorted(rows, first)]),
    )
    given = {
        "validator": made.validator.build(),
        "held_out": None,
        "training": made.training,
    }
    return model, own, known, target, given


def in_default_precision(samples):
    signals = {n: v.to(torch.get_default_dtype()) for n, v in samples.signals.items()}
    return replace(samples, signals=signals)


def alone(seed, **chosen):
    """Return what a training ends with that nobody trains beside."""
    model, adapter, *rest, given = training(seed, **chosen)
    with deterministic():
        fitted = fit(model, adapter, *rest, **given, seed=seed)
    return fitted, {n: v.clone() for n, v in state_of(model, adapter).items()}


def member(seed, checkpoint=None, **chosen):
    *parts, given = training(seed, **chosen)
    task = Fitting(*parts, **given, traced=None)
    return Member(Loop(task, seed=seed, checkpoint=checkpoint))


def together(members):
    with deterministic():
        train_together(members)
    return [each.task.best for each in members]


class deterministic:
    """As a run trains."""

    def __enter__(self):
        torch.use_deterministic_algorithms(True)

    def __exit__(self, *error):
        torch.use_deterministic_algorithms(False)


def apart(first, second):
    """Return the largest difference between two states, relative where it is large."""
    assert first.keys() == second.keys()
    gaps = [
        ((first[n].double() - value.double()) / (1 + value.double().abs())).nan_to_num()
        for n, value in second.items()
    ]
    return max(float(each.abs().max()) for each in gaps if each.numel())


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


# Of the few samples here none may be typical.
@pytest.mark.parametrize("typicality", [0.0, 0.3])
def test_screens_that_know_the_source_are_stacked(typicality):
    chosen = {
        "adapter": "confidence+uf-ama",
        "adapter__confidence__typicality": typicality,
        "adapter__confidence__neighbours": 0.5,
        "adapter__confidence__rule": "balanced",
        "adapter__confidence__labels": "soft",
        "adapter__confidence__judge": "mean-teacher",
        "adapter__confidence__judged_from": 0.4,
        "adapter__confidence__own_opinion": 0.0,
        "adapter__uf-ama__consistency": 2.0,
    }
    members, believed = [member(seed, short=seed - 1, **chosen) for seed in (1, 2)], 0.0
    for seed, found in zip((1, 2), together(members), strict=True):
        fitted, expected = alone(seed, short=seed - 1, **chosen)
        assert apart(found, expected) < 2e-3
        believed += fitted.screened[-1]["weights/fusion"].sum()
    assert typicality or believed
    if typicality:
        limits = [each.task.screen.known["eeg"].limit for each in members]
        assert all(each.isfinite() for each in limits) and not torch.equal(*limits)


class Somewhere:
    """Draws what an adapter's space allows: numbers somewhere, else the first."""

    def __init__(self, share):
        self.share = share

    def suggest_float(self, name, low, high, **kind):
        return low + self.share * (high - low)

    def suggest_int(self, name, low, high, **kind):
        return low

    def suggest_categorical(self, name, choices):
        return choices[0]


def numbers(adapter, share):
    """Return the options that a study searches of an adapter, as numbers of its own."""
    cls = find("adapter", adapter)
    drawn = cls.space(Somewhere(share)) if hasattr(cls, "space") else {}
    if adapter == "mixup":  # is asked of scipy: one for all
        drawn["alpha"] = 0.3
    return {f"adapter__{name}": value for name, value in drawn.items()}


@pytest.mark.parametrize("adapter", STACKED)
def test_a_member_ends_as_it_does_alone(adapter):
    """Of unequal length, and with numbers, such as loss weights, of their own."""
    seeds = {1: 0, 2: 1}
    chosen = {s: {"adapter": adapter, **numbers(adapter, s / 4)} for s in seeds}
    members = [member(s, short=n, **chosen[s]) for s, n in seeds.items()]
    for (seed, short), found in zip(seeds.items(), together(members), strict=True):
        fitted, expected = alone(seed, short=short, **chosen[seed])
        # Adam makes a whole step of a gradient that is nothing but rounding.
        assert apart(found, expected) < 1e-3
        history = members[seed - 1].task.conclude(members[seed - 1].loop).history
        assert [row.keys() for row in history] == [r.keys() for r in fitted.history]
        for ours, theirs in zip(history, fitted.history, strict=True):
            np.testing.assert_allclose(
                [*ours.values()], [*theirs.values()], rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize(
    "backbone",
    [each.name for each in entries("backbone") if each.name != "concatenation-mlp"],
)
def test_every_network_can_be_a_member(backbone):
    chosen = {"backbone": backbone, "training__epochs": 1}
    # Adam makes a whole step of a gradient that is nothing but rounding: the less of
    # it, the closer both have to be.
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        members = [member(seed, **chosen) for seed in (1, 2)]
        first, _ = together(members)
        fitted, expected = alone(1, **chosen)
    finally:
        torch.set_default_dtype(usual)
    assert apart(first, expected) < 1e-9
    losses, alike = members[0].loop.history[0], fitted.history[0]
    np.testing.assert_allclose([*losses.values()], [*alike.values()], 1e-8, 1e-10)


def test_members_have_settings_of_their_own():
    """Of the optimiser, the loss, the schedule and what is drawn."""
    chosen = [
        {"training__learning_rate": 3e-3, "training__clip": 0.5},
        {"training__weight_decay": 0.3, "training__clip": 0.0},
        {"training__label_smoothing": 0.2, "training__epochs": 3},
        {"training__modality_dropout": 0.5, "adapter__marginal": 5.0},
        {"training__label_smoothing": 0.3, "training__decay": "constant"},
    ]
    members = [member(1, **each) for each in chosen]
    for each, found in zip(chosen, together(members), strict=True):
        assert apart(found, alone(1, **each)[1]) < 1e-3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"adapter__distance": ("mmd", "coral")}, "differ in distance"),
        ({"adapter__weight": (0.0, 1.0)}, "differ in weight"),
        ({"adapter__weight": (1.0, 2)}, "differ in weight"),
        ({"training__branch_share": (0.2, 0.5)}, "a branch_share of their own: Runt"),
    ],
)
def test_what_members_cannot_have_of_their_own_is_told(options, told):
    ((name, values),) = options.items()
    members = [member(1, adapter="marginal", **{name: each}) for each in values]
    with pytest.raises(NotStackable, match=told):
        together(members)


@pytest.mark.parametrize("adapter", ["uf-ama", "cdan", "mean-teacher"])
def test_who_else_trains_changes_nothing_but_rounding(adapter):
    found = [
        together([member(s, adapter=adapter) for s in seeds])[0]
        for seeds in ([1], [1, 2], [1, 3, 4, 2])
    ]
    assert apart(found[0], found[1]) < 2e-5
    assert apart(found[0], found[2]) < 2e-5


def test_a_member_that_diverges_leaves_the_others_alone():
    members = [member(seed) for seed in (1, 2, 3)]
    with torch.no_grad():
        next(members[1].task.model.parameters()).fill_(float("nan"))
    found = together(members)
    assert isinstance(members[1].failure, RunError)
    assert members[0].failure is members[2].failure is None
    assert apart(found[0], together([member(1)])[0]) < 2e-5
    assert apart(found[2], together([member(3)])[0]) < 2e-5


@pytest.mark.parametrize("resumed", ["together", "alone"])
def test_a_killed_member_goes_on_from_its_checkpoint(tmp_path, monkeypatch, resumed):
    monkeypatch.setattr("domainemo.training.loop._SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    chosen = {"training__epochs": 3}
    places = {seed: Checkpoint(tmp_path / str(seed)) for seed in (1, 2)}
    members = [member(seed, places[seed], **chosen) for seed in (1, 2)]
    finish = members[0].loop.finish_epoch

    def killed(taken):
        finish(taken)
        if members[0].loop.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(members[0].loop, "finish_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        together(members)
    expected = together([member(1, **chosen)])[0]
    if resumed == "together":
        again = [member(seed, places[seed], **chosen) for seed in (1, 2)]
        assert equal(together(again)[0], expected)
    else:
        model, adapter, *rest, given = training(1, **chosen)
        with deterministic():
            fit(model, adapter, *rest, **given, seed=1, checkpoint=places[1])
        assert apart(state_of(model, adapter), expected) < 2e-5


def test_a_member_that_is_ended_as_it_resumes_leaves_the_others_alone(
    tmp_path, monkeypatch
):
    """Its epochs are told again, and whoever is told may have enough of it."""
    monkeypatch.setattr("domainemo.training.loop._SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    place = Checkpoint(tmp_path / "1")
    together([member(1, place, training__epochs=1)])
    members = [member(1, place), member(2)]

    def enough(row):
        raise RunError("fell behind")

    monkeypatch.setattr(members[0].loop, "_report", enough)
    found = together(members)
    assert str(members[0].failure) == "fell behind"
    assert members[1].failure is None
    assert apart(found[1], together([member(2)])[0]) < 2e-5


def test_a_checkpoint_holds_its_own_member_alone(tmp_path, monkeypatch):
    """What others have learned may be of this one's target."""
    monkeypatch.setattr("domainemo.training.loop._SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    chosen, sizes = {"training__epochs": 1}, []
    for seeds in ([1], [1, 2, 3]):
        places = [Checkpoint(tmp_path / f"{seed} of {len(seeds)}") for seed in seeds]
        members = zip(seeds, places, strict=True)
        together([member(seed, place, **chosen) for seed, place in members])
        content = places[0].load(torch.device("cpu"))
        held = [v for v in content["parts"].values() if v.numel()]
        assert all(v.untyped_storage().nbytes() == v.nbytes for v in held)
        sizes.append(len(places[0].path.read_bytes()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@pytest.mark.parametrize("when", ["load", "finish_epoch"])
def test_a_member_with_an_error_that_nobody_foresaw_leaves_the_others_alone(when):
    members = [member(seed) for seed in (1, 2, 3)]

    def broken(*given):
        raise KeyError("best")

    setattr(members[1].loop, when, broken)
    found = together(members)
    assert isinstance(members[1].failure, RunError)
    assert "KeyError: 'best'" in str(members[1].failure)
    assert members[0].failure is members[2].failure is None
    assert apart(found[0], together([member(1)])[0]) < 2e-5


def test_draws_are_those_of_torch_alone():
    network = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.4))

    def drawing(values):
        values = network(values)
        attended = functional.scaled_dot_product_attention
        values = attended(values, values, values, dropout_p=0.3)
        values = values + torch.rand_like(values) + torch.randn(3, 1)
        return values * torch.randperm(8) + torch.randint(5, (3, 1))

    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]

    def one(values, marker):
        with MemberDraws(generators, marker):
            return drawing(values)

    values = torch.randn(4, 2, 3, 6)
    found = vmap(one, randomness="error")(values, torch.zeros(4))
    for seed in range(4):
        torch.manual_seed(seed)
        torch.testing.assert_close(found[seed], drawing(values[seed]))


class ReadsAValue(Adapter):
    """Branches on what a tensor holds, which no stack of trainings can."""

    def forward(self, source: Source, target: Target) -> dict[str, torch.Tensor]:
        total = target.outputs.logits["fusion"].sum()
        return {"odd": total if total > 0 else -total}


def test_what_cannot_be_stacked_says_so_and_changes_nothing():
    members = [member(seed, adapter=ReadsAValue()) for seed in (1, 2)]
    before = {n: v.clone() for n, v in members[0].task.model.state_dict().items()}
    with pytest.raises(NotStackable, match="data-dependent control flow"):
        together(members)
    assert equal(before, members[0].task.model.state_dict())


# -------------------------------------------------------------------------- whole runs


def probabilities(results):
    table = results.predictions
    return table[[name for name in table if name.startswith("p_")]].to_numpy()


def whole(data, output=None, **chosen):
    options = {**SMALL, "training.epochs": 2, "training.batch_size": 8}
    given = {"backbone": "concatenation-mlp"}
    if chosen.get("baselines", True):
        given["controls"] = "majority-class"
    return run(
        data, device="cpu", options=options, output=output, **{**given, **chosen}
    )


def test_a_run_as_one_program_gives_the_same_numbers(tmp_path):
    alone = whole(recordings(), seeds=[0, 1])
    program = whole(recordings(), tmp_path, engine="population", seeds=[0, 1])
    np.testing.assert_allclose(probabilities(program), probabilities(alone), atol=1e-4)
    text = ["method", "fold", "seed", "level", "epoch", "access", "normalisation"]
    assert program.table[text].equals(alone.table[text])
    assert 'engine = "population"' in (tmp_path / "config.toml").read_text()
    again = whole(recordings(), tmp_path, engine="population", seeds=[0, 1], memory=9)
    assert probabilities(again).tobytes() == probabilities(program).tobytes()


def test_a_run_that_was_killed_ends_with_the_same_bits(tmp_path, monkeypatch):
    undisturbed = whole(recordings(), tmp_path / "whole", engine="population")
    finish = jobs._Training.finish
    calls = []

    def killed(self, together=1):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        finish(self, together)

    with monkeypatch.context() as patch:
        patch.setattr(jobs._Training, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            whole(recordings(), tmp_path / "killed", engine="population")
    resumed = whole(recordings(), tmp_path / "killed", engine="population")
    assert probabilities(resumed).tobytes() == probabilities(undisturbed).tobytes()


def test_workers_share_the_program_and_change_no_bit(two_processes):
    here = whole(recordings(), engine="population", baselines=False)
    there = whole(
        recordings(), engine="population", baselines=False, executor=two_processes
    )
    assert probabilities(here).tobytes() == probabilities(there).tobytes()


def test_a_target_s_labels_leave_no_trace_where_others_train_with_them():
    data = recordings()
    noisy = with_random_target_labels(data, CrossSubject())
    found = []
    for each in (data, noisy):
        table = whole(each, engine="population", baselines=False).predictions
        mine = table[table["fold"] == "subject 1"]
        found.append(mine[[name for name in mine if name.startswith("p_")]].to_numpy())
    assert len(found[0]) and found[0].tobytes() == found[1].tobytes()


def test_what_cannot_be_one_program_is_run_one_by_one_and_says_so():
    with pytest.warns(DomainemoWarning, match="one by one"):
        found = whole(
            recordings(), adapter=ReadsAValue(), engine="population", baselines=False
        )
    expected = whole(recordings(), adapter=ReadsAValue(), baselines=False)
    assert probabilities(found).tobytes() == probabilities(expected).tobytes()


@pytest.mark.parametrize("kind", ["backbone", "adapter"])
def test_why_not_is_said_once_of_the_part_that_is_why(kind, monkeypatch):
    """Whatever the method, the fold and the seed."""
    name = {"backbone": "concatenation-mlp", "adapter": "marginal"}[kind]
    cls = find(kind, name)
    forward = cls.forward

    def reads(self, *given):
        found = forward(self, *given)
        total = sum(each.sum() for each in found.values())
        return found if total > 0 else dict(found)

    monkeypatch.setattr(cls, "forward", reads)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole(recordings(), adapter="marginal", engine="population", seeds=[0, 1])
    told = {str(each.message) for each in caught if "program" in str(each.message)}
    (said,) = told
    part = {"backbone": f"of {name}", "adapter": f"with {name}"}[kind]
    assert said.startswith(f"Trainings {part} cannot be one program (")
    assert "fold" not in said and "seed" not in said and "subject" not in said


def test_folds_of_more_and_of_fewer_domains_are_run_one_by_one():
    """Of five people in groups of two, the last group's fold trains one more head."""
    data = Simulated(subjects=5, sessions=1, trials=4, windows=(3, 3)).load()
    options = SMALL | {"protocol.leave_out": 2, "training.epoch": 2}
    chosen = {
        "backbone": "concatenation-mlp",
        "adapter": "ms-mda",
        "options": options,
        "epochs": 1,
        "batch_size": 8,
        "device": "cpu",
        "baselines": False,
    }
    with pytest.warns(
        DomainemoWarning, match=r"with ms-mda cannot .*their networks differ"
    ):
        found = run(data, engine="population", **chosen)
    expected = run(data, **chosen)
    assert probabilities(found).tobytes() == probabilities(expected).tobytes()


def test_parts_that_turn_out_not_to_stack_are_run_one_by_one(monkeypatch):
    def refuse(members):
        raise NotStackable("a reason")

    monkeypatch.setattr(population, "train_together", refuse)
    with pytest.warns(DomainemoWarning, match=r"one program \(a reason\)"):
        found = whole(recordings(), engine="population", baselines=False)
    expected = whole(recordings(), baselines=False)
    assert probabilities(found).tobytes() == probabilities(expected).tobytes()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [2, 2]),  # half of what is free
        (1.9, [1, 1, 1, 1]),
        (2.0, [2, 2]),
        (3.5, [3, 1]),
        (99.0, [4]),
        (0.1, [1, 1, 1, 1]),
    ],
)
def test_so_many_are_one_program_as_memory_allows(monkeypatch, given, expected):
    """Where a training takes 1 GiB, a quarter of it of recordings."""
    monkeypatch.setattr(units, "memory_needed", lambda inputs, jobs: 2**28)
    monkeypatch.setattr(units, "step_needed", lambda inputs, chosen, job: 3 * 2**28)
    monkeypatch.setattr(units, "free_on", lambda device: 4 * 2**30)
    sizes = []
    together = jobs._run_together

    def counted(inputs, several):
        sizes.append(len(several))
        return together(inputs, several)

    monkeypatch.setattr(jobs, "_run_together", counted)
    whole(recordings(), engine="population", memory=given, baselines=False)
    assert sizes == expected


@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (3, 2), (9, 1)])
def test_processes_of_a_study_share_the_memory(monkeypatch, processes, expected):
    """Each has jobs of its own, of which a training takes 1 GiB."""
    monkeypatch.setattr(units, "memory_needed", lambda inputs, jobs: 2**30)
    monkeypatch.setattr(units, "step_needed", lambda inputs, chosen, job: 0)
    chosen = {"backbone": "concatenation-mlp", "adapter": "marginal", "device": "cpu"}
    made = experiment(**chosen, engine="population", memory=8)
    every = plan(recordings(), made).jobs(Path())
    waiting = [(job, None) for job in every if job.adapter is not None] * 4
    assert len(waiting) >= 8
    found = units.units(recordings().inputs, made, waiting, 1, processes)
    assert len(found[0]) == expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(8, [6, 6]), (5, [3, 3, 3, 3]), (2, [2, 1, 2, 1, 2, 1, 2, 1])],
)
def test_candidates_are_divided_alike(monkeypatch, memory, expected):
    """A pruner compares the means of their folds; a training takes 1 GiB."""
    monkeypatch.setattr(units, "memory_needed", lambda inputs, jobs: 2**30)
    monkeypatch.setattr(units, "step_needed", lambda inputs, chosen, job: 0)
    chosen = {"backbone": "concatenation-mlp", "adapter": "marginal", "device": "cpu"}
    made = experiment(**chosen, engine="population", memory=memory)
    every = plan(recordings(), made).jobs(Path())
    ours = [job for job in every if job.method == "marginal"][:3]
    waiting = [(job, candidate) for candidate in range(4) for job in ours]
    found = units.units(recordings().inputs, made, waiting, 1, 1, 3)
    assert [len(unit) for unit in found] == expected
    assert [each for unit in found for each in unit] == waiting


def test_the_weights_that_are_compared_of_every_epoch_are_reckoned_with():
    data, needed = recordings(), {}
    fold = SimpleNamespace(source=np.arange(len(data.inputs)))
    job = SimpleNamespace(fold=fold, classes=data.classes)
    for validator in ("entropy", "rank-average"):
        for epochs in (10, 30):
            made = experiment(
                backbone="concatenation-mlp",
                adapter="none",
                validator=validator,
                device="cpu",
                options={"training.epochs": epochs},
            )
            weights, _ = held_by_a_step(data.inputs, made, job)
            needed[validator, epochs] = step_needed(data.inputs, made, job)
    assert needed["entropy", 10] == needed["entropy", 30]
    grown = needed["rank-average", 30] - needed["rank-average", 10]
    assert grown == 20 * weights


def test_what_a_step_keeps_grows_with_the_batch_and_leaves_the_generator_alone():
    data = recordings()
    state = torch.random.get_rng_state()
    needed = []
    for size in (4, 8, 16):
        options = {**SMALL, "training.batch_size": size}
        made = experiment(
            backbone="concatenation-mlp", adapter="none", device="cpu", options=options
        )
        fold = SimpleNamespace(source=np.arange(len(data.inputs)))
        job = SimpleNamespace(fold=fold, classes=data.classes)
        needed.append(step_needed(data.inputs, made, job))
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second = np.diff(needed)
    assert second == 2 * first > 0
    network = made.build_backbone(data.inputs.modalities)
    model = Network(network, data.inputs.modalities, len(data.classes))
    weights = sum(4 * each.numel() for each in model.parameters())
    assert needed[0] - first == 4 * weights  # of a batch of none


@pytest.mark.parametrize(
    ("changes", "engine", "why"),
    [
        ({}, "population", "the network keeps 0.1 MB .* at most 16"),
        ({"seeds": [0]}, "single", "4 trainings of a method are few"),
        ({"backbone": "physiosync", "options": {}}, "single", "more than 16"),
        ({"seeds": [0], "device": "cuda"}, "population", "a GPU has room"),
        ({"seeds": [0], "folds": ["subject 1"], "device": "cuda"}, "single", "few"),
        ({"adapter": "deep-jdot", "baselines": False}, "single", "not vectorise"),
        ({"adapter": "deep-jdot"}, "population", "at most 16"),  # of source only
        ({"engine": "single"}, "single", None),
    ],
)
def test_an_automatic_engine_follows_a_rule(changes, engine, why):
    """Of the network, the device and how many there are, not of what else is free."""
    chosen = {"backbone": "concatenation-mlp", "adapter": "marginal", "seeds": [0, 1]}
    chosen |= {"engine": "auto", "device": "cpu", "options": SMALL} | changes
    made = experiment(**{**chosen, "device": "cpu"})
    made = replace(made, device=chosen["device"])  # where none need be
    jobs = plan(recordings(), replace(made, device="cpu")).jobs(Path())
    found = units.engine_for(recordings().inputs, made, jobs).more
    assert found["engine"] == engine
    if why is None:
        assert "engine_why" not in found
    else:
        assert re.match(f"{engine}: .*{why}", found["engine_why"])


def test_a_run_records_what_its_automatic_engine_was(tmp_path):
    chosen = {"seeds": [0, 1], "baselines": False}
    found = whole(recordings(), engine="auto", output=tmp_path / "auto", **chosen)
    expected = whole(recordings(), engine="population", **chosen)
    assert found.predictions.equals(expected.predictions)
    assert 'engine = "auto"' in (tmp_path / "auto/config.toml").read_text()
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("record.json")]
    assert len(records) == 8
    assert all(each["engine"].startswith("population: ") for each in records)
    # Where some are finished, fewer are left, and the rule sees all the same.
    shutil.rmtree(next(tmp_path.rglob("record.json")).parent)
    again = whole(recordings(), engine="auto", output=tmp_path / "auto", **chosen)
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("record.json")]
    assert len({each["engine"] for each in records}) == 1
    np.testing.assert_allclose(
        again.predictions.filter(like="p_"), found.predictions.filter(like="p_"), 1e-3
    )


def test_memory_is_refused_where_nothing_is_one_program():
    with pytest.raises(ConfigurationError, match="set --engine to population"):
        whole(recordings(), memory=1.0)
    with pytest.raises(ConfigurationError, match="memory"):
        whole(recordings(), engine="population", memory=0)


def test_a_fold_that_cannot_be_written_is_named_and_the_others_are_kept(
    tmp_path, monkeypatch
):
    finish = jobs._Training.finish

    def broken(self, *given):
        if self.job.fold.name == "subject 2":
            raise ValueError("no foresight")
        finish(self, *given)

    monkeypatch.setattr(jobs._Training, "finish", broken)
    with pytest.raises(RunError, match=r"(?s)1 of 4 jobs failed.*no foresight"):
        whole(recordings(), tmp_path, engine="population", baselines=False)
    assert len(list(tmp_path.glob("folds/*/*/*/record.json"))) == 3


def test_a_fold_that_fails_is_named_and_the_others_are_kept(tmp_path, monkeypatch):
    make = jobs._Training.__init__

    def spoilt(self, *given):
        make(self, *given)
        if self.job.fold.name == "subject 2":
            with torch.no_grad():
                next(self.task.model.parameters()).fill_(float("nan"))

    with monkeypatch.context() as patch:
        patch.setattr(jobs._Training, "__init__", spoilt)
        with pytest.raises(RunError, match="1 of 4 jobs failed") as caught:
            whole(recordings(), tmp_path, engine="population", baselines=False)
    assert "subject 2" in str(caught.value) and "diverged" in str(caught.value)
    assert len(list(tmp_path.glob("folds/*/*/*/record.json"))) == 3
