"""Screening that knows a bad sensor: each option against a loop or a closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import domainemo as de
from domainemo.adapters.composite import Composite
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.screening import believed, learned
from domainemo.core import FUSION, Outputs, Pseudo, Screen, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.screens.confidence import Screening, confident
from domainemo.screens.neighbours import with_neighbours
from domainemo.screens.typicality import (
    Typicality,
    class_statistics,
    farthest,
    nearest_class,
)
from domainemo.statistics.temperature import best_temperature
from domainemo.testing import check
from domainemo.training.judge import Judge
from domainemo.training.screened import screen_target

BRANCHES = ("eeg", "eye", FUSION)
DIMS = {"eeg": 4, "eye": 3, FUSION: 5}
CLASSES = 3


def outputs(samples=12, seed=0, present=None, branches=BRANCHES):
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        {b: torch.randn(samples, DIMS[b], generator=generator) for b in branches},
        {b: 2 * torch.randn(samples, CLASSES, generator=generator) for b in branches},
        present or {},
    )


def source(samples=40, seed=1, **more):
    labels = torch.arange(samples) % CLASSES
    return Source(outputs(samples, seed, **more), labels, labels * 0)


def judged(seen, **more):
    return Target(seen, 0.9, judge=seen, **more)


def weights(screen, target):
    return {name: each.tolist() for name, each in screen(target).weights.items()}


def open_to_all(**options):
    """A screen whose other gates are open."""
    return Screening(own_opinion=0.0, teachers=1, **options)


# ------------------------------------------------------------------- a rule by class


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_balanced_rule_equals_sorted_lists(share):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        confidences = torch.rand(2, 14, generator=generator).mul(8).round() / 8  # ties
        confidences[torch.rand(2, 14, generator=generator) < 0.2] = -1.0
        labels = torch.randint(CLASSES, (2, 14), generator=generator)
        found = confident(
            confidences, rule="balanced", share=share, threshold=0.0, labels=labels
        )
        expected = torch.zeros(2, 14, dtype=torch.bool)
        for branch in range(2):
            for label in range(CLASSES):
                rows = [
                    i
                    for i in range(14)
                    if labels[branch, i] == label and confidences[branch, i] >= 0
                ]
                rows.sort(key=lambda i: -float(confidences[branch, i]))
                expected[branch, rows[: round(len(rows) * share)]] = True
        assert torch.equal(found, expected)


@pytest.mark.parametrize("share", [0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["pooled", "calibrated"])
def test_the_other_rules_of_shares_equal_sorted_lists(rule, share):
    """Of all branches together, or of each; the number is rounded."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        confidences = torch.rand(2, 13, generator=generator)
        confidences[torch.rand(2, 13, generator=generator) < 0.2] = -1.0
        found = confident(confidences, rule=rule, share=share, threshold=0.0)
        expected = torch.zeros(2, 13, dtype=torch.bool)
        every = [(b, i) for b in range(2) for i in range(13) if confidences[b, i] >= 0]
        pools = [every]
        if rule == "calibrated":
            pools = [[place for place in every if place[0] == b] for b in range(2)]
        for pool in pools:
            pool.sort(key=lambda place: -float(confidences[place]))
            for place in pool[: round(len(pool) * share)]:
                expected[place] = True
        assert torch.equal(found, expected)


def test_what_is_exactly_at_a_threshold_is_not_above_it():
    """A half and a half are exact: a probability, a floor, a contradiction."""
    halves = {"rule": "absolute", "share": 0.5}
    assert not confident(torch.tensor([[0.5]]), threshold=0.5, **halves).any()
    assert confident(torch.tensor([[0.5]]), threshold=0.49, **halves).all()
    sure, even = torch.tensor([[0.0, 9.0]]), torch.zeros(1, 2)
    seen = Outputs(
        {b: torch.zeros(1, dim) for b, dim in DIMS.items()},
        {"eeg": sure, "eye": even, FUSION: even},
    )
    target = judged(seen)
    # The eyes give the other class no more than the half that is allowed.
    for most, learns in ((0.5, 1.0), (0.49, 0.0)):
        screen = open_to_all(rule="absolute", threshold=0.9, contradiction=most)
        assert weights(screen, target)["eye"] == [learns]
    # Of two that are confident the least is so by a half: no more than the floor.
    logits = {"eeg": torch.cat([sure, even]), "eye": torch.cat([even, even])}
    embeddings = {b: torch.zeros(2, dim) for b, dim in DIMS.items()}
    lost = {"eye": torch.tensor([True, False])}
    both = Outputs(embeddings, {**logits, FUSION: torch.zeros(2, 2)}, lost)
    for floor, teaches in ((0.5, 0.0), (0.49, 1.0)):
        screen = open_to_all(rule="pooled", share=0.5, teaching_floor=floor)
        assert weights(screen, judged(both))["eye"][0] == teaches


@pytest.mark.parametrize(("teachers", "taught"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_of_three_modalities_so_many_must_agree_as_are_asked_for(teachers, taught):
    """Two are sure of one class, and the third has not made up its mind."""
    sure, even = torch.tensor([[0.0, 9.0, 0.0]]), torch.zeros(1, 3)
    logits = {"eeg": sure, "ecg": sure, "eye": even, FUSION: even}
    seen = Outputs({name: torch.zeros(1, 2) for name in logits}, logits)
    options = {"rule": "absolute", "threshold": 0.9, "own_opinion": 0.0}
    screen = Screening(teachers=teachers, **options)
    found = weights(screen, judged(seen))
    # The fusion learns what two agree on, whatever is asked for.
    assert found == {"eeg": [0.0], "ecg": [0.0], "eye": [taught], FUSION: [1.0]}


def test_no_class_crowds_out_another():
    confidences = torch.tensor([[0.99, 0.98, 0.97, 0.96, 0.5, 0.4, 0.45, 0.42]])
    labels = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    rules = {
        rule: confident(
            confidences, rule=rule, share=0.5, threshold=0.0, labels=labels
        )[0].tolist()
        for rule in ("calibrated", "balanced")
    }
    assert rules["calibrated"] == [True] * 4 + [False] * 4
    assert rules["balanced"] == [True, True, False, False, True, False, True, False]


# ------------------------------------------------------------------------- typicality


def test_distances_are_mahalanobis_to_the_nearest_class():
    """Against NumPy and scikit-learn's covariance, sample by sample."""
    from sklearn.covariance import LedoitWolf

    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    points = points @ torch.diag(torch.tensor([3.0, 1.0, 0.3, 1.0])) + 2
    labels = torch.arange(60) % CLASSES
    means, whitening = class_statistics(points, labels, CLASSES)
    values = points.double().numpy()
    centres = np.stack([values[labels == k].mean(0) for k in range(CLASSES)])
    about = np.concatenate([values[labels == k] - centres[k] for k in range(CLASSES)])
    inverse = LedoitWolf(assume_centered=True).fit(about).precision_
    others = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    expected = [
        min(float((z - c) @ inverse @ (z - c)) for c in centres)
        for z in others.double().numpy()
    ]
    found = nearest_class(others, means, whitening)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_a_share_of_the_source_lies_as_far_as_what_is_typical(share):
    given, known = source(50), Typicality(DIMS["eeg"], CLASSES)
    embeddings = given.outputs.embeddings["eeg"]
    known.learn(embeddings, given.labels, share)
    own = nearest_class(embeddings, known.means, known.whitening)
    others = 2 * outputs(30, seed=3).embeddings["eeg"]
    far = nearest_class(others, known.means, known.whitening)
    expected = [float((own >= each).float().mean()) >= share - 1e-6 for each in far]
    assert known(others).tolist() == expected
    # Of the source itself, all but the share that is farther.
    assert int((~known(embeddings)).sum()) == math.ceil(share * 50 - 1e-9) - 1
    assert not known(torch.full((1, DIMS["eeg"]), 1e3)).any()
    assert not known(torch.full((1, DIMS["eeg"]), math.nan)).any()


def test_statistics_are_defined_where_little_is_known():
    points, labels = torch.ones(5, 3), torch.tensor([1, 1, 1, 1, 1])
    means, whitening = class_statistics(points, labels, CLASSES)
    assert torch.equal(means, torch.ones(CLASSES, 3)) and not whitening.any()
    means, whitening = class_statistics(points[:0], labels[:0], CLASSES)
    assert not means.any() and not whitening.any()
    assert farthest(torch.empty(0), 0.1) == math.inf
    # Three tenths of five is one and a half: two lie as far.
    assert farthest(torch.tensor([3.0, 1, 5, 2, 4]), 0.3) == 4
    known = Typicality(3, CLASSES)
    assert known(points).all()  # before it has learned
    known.learn(points[:0], labels[:0], 0.1)
    assert known(points).all()


def test_a_branch_neither_teaches_nor_learns_what_is_not_typical():
    screen = open_to_all(rule="absolute", threshold=0.8, typicality=0.05)
    assert screen.needs_training and not screen.held_out
    screen.prepare(DIMS, CLASSES)
    screen.learn(source(60), None)
    plain = open_to_all(rule="absolute", threshold=0.8)
    sure, doubtful = 20 * torch.eye(3)[[0, 0, 0, 0]], torch.zeros(4, 3)
    near = {b: torch.zeros(4, dim) for b, dim in DIMS.items()}
    logits = {"eeg": sure, "eye": doubtful, FUSION: sure}
    seen = Outputs(near, logits)
    assert weights(screen, judged(seen)) == weights(plain, judged(seen))
    assert weights(screen, judged(seen))["eye"] == [1.0] * 4
    for branch in BRANCHES:
        far = {**near, branch: near[branch].clone()}
        far[branch][1] = 100.0
        found = weights(screen, judged(Outputs(far, logits)))
        taught = [1.0, 1.0 if branch == FUSION else 0.0, 1.0, 1.0]
        assert found["eye"] == taught, branch
    both = {"eeg": sure, "eye": sure, FUSION: sure}
    for branch in BRANCHES:
        far = {**near, branch: near[branch].clone()}
        far[branch][1] = 100.0
        found = weights(screen, judged(Outputs(far, both)))
        assert found[FUSION] == [1.0, 0.0, 1.0, 1.0], branch


def test_what_the_source_never_had_is_typical():
    present = {"eye": torch.zeros(40, dtype=torch.bool)}
    screen = Screening(typicality=0.1)
    screen.prepare(DIMS, CLASSES)
    screen.learn(source(present=present), None)
    assert screen.known["eye"](torch.full((3, DIMS["eye"]), 9.0)).all()
    assert not screen.known["eeg"](torch.full((3, DIMS["eeg"]), 99.0)).any()


def test_only_what_a_judge_apart_makes_of_the_source_can_be_learned():
    for option in ({"typicality": 0.1}, {"temperature": "held-out"}):
        with pytest.raises(ConfigurationError, match=f"option {next(iter(option))}"):
            Screening(judge="current", **option)
    with pytest.raises(ConfigurationError, match="Call its `prepare` first"):
        Screening(typicality=0.1)(judged(outputs()))


# ---------------------------------------------------------------------- contradiction


@pytest.mark.parametrize("most", [0.5, 0.7, 1.0])
def test_no_branch_learns_against_what_it_holds(most):
    for seed in range(4):
        seen = outputs(60, seed)
        open_, gated = (
            open_to_all(rule="calibrated", contradiction=each)(judged(seen))
            for each in (1.0, most)
        )
        assert torch.equal(open_.labels, gated.labels)
        stopped = 0
        for branch in BRANCHES:
            for i, own in enumerate(seen.logits[branch].softmax(-1)):
                held = float(own.max()) > most and own.argmax() != open_.labels[i]
                expected = 0.0 if held else float(open_.weights[branch][i])
                assert float(gated.weights[branch][i]) == expected
                stopped += bool(held and open_.weights[branch][i])
        assert bool(stopped) == (most < 1)


# ------------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_neighbours_are_averaged_as_in_a_loop(share):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 9, CLASSES, generator=generator).softmax(-1)
    good = torch.rand(2, 9, generator=generator) > 0.3
    good[:, 4] = False
    trials = torch.tensor([0, 0, 2, 2, 4, 0, 6, 6, 2])
    found = with_neighbours(probabilities, good, trials, share)
    for branch in range(2):
        for i in range(9):
            peers = [
                probabilities[branch, j]
                for j in range(9)
                if trials[j] == trials[i] and good[branch, j]
            ]
            own = probabilities[branch, i]
            expected = own
            if peers:
                expected = (1 - share) * own + share * sum(peers) / len(peers)
            torch.testing.assert_close(found[branch, i], expected)


def test_trials_that_disagree_are_doubted_and_poor_neighbours_do_not_count():
    sure = 6 * torch.eye(3)[[0, 0, 1, 2]]
    seen = Outputs(
        {b: torch.zeros(4, dim) for b, dim in DIMS.items()},
        dict.fromkeys(BRANCHES, sure),
    )
    target = judged(seen, trials=torch.tensor([0, 0, 0, 3]))
    options = {"rule": "absolute", "threshold": 0.9}
    assert weights(open_to_all(**options), target)[FUSION] == [1.0] * 4
    screen = open_to_all(**options, neighbours=1.0)
    assert weights(screen, target)[FUSION] == [0.0, 0.0, 0.0, 1.0]
    # A window of no typical embedding has no say.
    screen = open_to_all(**options, neighbours=1.0, typicality=0.05)
    screen.prepare(DIMS, CLASSES)
    screen.learn(source(60), None)
    far = {b: each.clone() for b, each in seen.embeddings.items()}
    for each in far.values():
        each[2] = 100.0
    found = weights(screen, replace(target, judge=replace(seen, embeddings=far)))
    assert found[FUSION] == [1.0, 1.0, 0.0, 1.0]
    with pytest.raises(ConfigurationError, match=r"expected `Target\.trials`"):
        screen(judged(seen))


# ------------------------------------------------------------------------ temperature


def test_each_branch_is_scaled_by_the_temperature_of_people_held_out():
    present = {"eye": torch.arange(40) % 4 > 0}
    screen = Screening(temperature="held-out", rule="absolute", threshold=0.6)
    assert screen.held_out and not screen.needs_training
    screen.prepare(DIMS, CLASSES)
    held = source(present=present)
    screen.learn(None, held)
    scaled = {}
    seen = outputs(20, seed=5)
    for branch in BRANCHES:
        there = held.outputs.weight(branch) > 0
        temperature = best_temperature(
            held.outputs.logits[branch][there].numpy(), held.labels[there].numpy()
        )
        assert temperature != pytest.approx(1.0, abs=0.01)
        scaled[branch] = seen.logits[branch] / temperature
    plain = Screening(rule="absolute", threshold=0.6)
    expected = weights(plain, judged(replace(seen, logits=scaled)))
    assert weights(screen, judged(seen)) == expected
    assert expected != weights(plain, judged(seen))
    with pytest.raises(ConfigurationError, match="no source domain was kept"):
        screen.learn(None, None)


# ------------------------------------------------------------------------ soft labels


def test_soft_labels_are_the_mean_of_confident_branches():
    seen = outputs(16, seed=2)
    options = {"rule": "absolute", "threshold": 0.6}
    hard, soft = (
        open_to_all(**options, labels=k)(judged(seen)) for k in ("hard", "soft")
    )
    assert hard.shares is None and torch.equal(hard.labels, soft.labels)
    kinds = set()
    for i in range(16):
        sure = [
            p
            for p in (seen.logits[b][i].softmax(-1) for b in ("eeg", "eye"))
            if p.max() > 0.6
        ]
        alone = torch.eye(CLASSES)[soft.labels[i]]
        kinds.add(len(sure))
        expected = sum(sure) / len(sure) if sure else alone
        torch.testing.assert_close(soft.shares[i], expected)
    assert kinds == {0, 1, 2}


def test_what_is_learned_of_soft_labels_is_their_cross_entropy():
    logits, shares = torch.randn(5, CLASSES), torch.rand(5, CLASSES).softmax(-1)
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0])
    pseudo = Pseudo(shares.argmax(-1), {}, shares)
    total = sum(
        w * -sum(q * math.log(p) for q, p in zip(own, other, strict=True))
        for w, own, other in zip(
            weight.tolist(), shares.tolist(), logits.softmax(-1).tolist(), strict=True
        )
    )
    assert float(learned(logits, pseudo, weight)) == pytest.approx(
        total / 2.5, rel=1e-5
    )
    certain = replace(pseudo, shares=torch.eye(CLASSES)[pseudo.labels])
    hard = learned(logits, replace(pseudo, shares=None), weight)
    torch.testing.assert_close(learned(logits, certain, weight), hard)
    # Both terms that learn labels learn soft ones where the screen gives them.
    seen, given = outputs(40, seed=3), source(40)
    for term in (Consistency, Distillation):
        losses = [
            sum(
                term(screen=open_to_all(labels=kind, share=0.5), schedule="constant")(
                    given, judged(seen)
                ).values()
            )
            for kind in ("hard", "soft")
        ]
        assert losses[0] > 0 and losses[1] > 0 and losses[0] != losses[1]


def test_soft_labels_must_fit():
    class Bad(Screen):
        def forward(self, target):
            every = {b: torch.ones(12) for b in target.outputs.logits}
            return Pseudo(torch.zeros(12, dtype=torch.long), every, torch.ones(12))

    with pytest.raises(ConfigurationError, match=r"soft labels of shape \(12, 3\)"):
        believed(Bad(), judged(outputs()))


# ----------------------------------------------------------------------- mean teacher


def test_a_mean_teacher_judges_as_it_moves():
    screen = Screening(judge="mean-teacher", judge_momentum=0.9, judged_from=0.2)
    assert (screen.judged_from, screen.judge_momentum) == (0.2, 0.9)
    assert Screening().judge_momentum is None
    for term in (Consistency(screen=screen), Distillation(screen=screen)):
        joined = Composite(terms={"taught": term})
        assert (joined.judged_from, joined.judge_momentum) == (0.2, 0.9)
    preset = find("adapter", "uf-ama")(screen=screen)
    assert (preset.judged_from, preset.judge_momentum) == (0.2, 0.9)
    with pytest.raises(ConfigurationError, match="share one judge"):
        Composite(terms={"a": Consistency()}, screen=screen)
    seen, other = outputs(seed=0), outputs(seed=1)
    assert not any(map(any, weights(screen, Target(seen, 0.9)).values()))
    found = weights(screen, Target(other, 0.9, judge=seen))
    assert found == weights(Screening(), judged(seen))
    layer = torch.nn.Linear(1, 1)
    judge = Judge(screen.judged_from, screen.judge_momentum)
    assert not judge.step(layer, 0.1) and judge.model is None
    assert judge.step(layer, 0.2) and not judge.step(layer, 0.3)


# -------------------------------------------------------------------------- together

ALL = {
    "rule": "balanced",
    "contradiction": 0.9,
    "temperature": "held-out",
    "typicality": 0.1,
    "neighbours": 0.5,
    "labels": "soft",
    "judge": "mean-teacher",
}


@pytest.mark.parametrize("lost", [False, True])
def test_batches_side_by_side_are_screened_as_one_by_one(lost):
    screen = Screening(**ALL)
    screen.prepare(DIMS, CLASSES)
    screen.learn(source(), source(seed=9))
    trials = torch.tensor([0, 0, 0, 3, 3, 5, 0, 3, 8, 8, 8, 0])
    present = {"eye": torch.arange(12) % 3 > 0} if lost else {}
    every = [outputs(seed=seed, present=present) for seed in range(3)]
    stacked = Outputs(
        *(
            {b: torch.stack([getattr(o, kind)[b] for o in every]) for b in branches}
            for kind, branches in (
                ("embeddings", BRANCHES),
                ("logits", BRANCHES),
                ("present", tuple(present)),
            )
        )
    )

    def screened(embeddings, logits, present):
        found = screen(judged(Outputs(embeddings, logits, present), trials=trials))
        return found.labels, dict(found.weights), found.shares

    labels, given, shares = torch.func.vmap(screened)(
        stacked.embeddings, stacked.logits, stacked.present
    )
    taught = 0.0
    for n, each in enumerate(every):
        alone = screen(judged(each, trials=trials))
        assert torch.equal(labels[n], alone.labels)
        torch.testing.assert_close(shares[n], alone.shares)
        for branch, weight in alone.weights.items():
            assert torch.equal(given[branch][n], weight)
            taught += float(weight.sum())
    assert taught > 0


def test_a_batch_of_one_and_a_network_of_one_sensor():
    screen = Screening(**ALL)
    screen.prepare(DIMS, CLASSES)
    screen.learn(source(), source(seed=9))
    for samples in (1, 2):
        target = judged(outputs(samples), trials=torch.zeros(samples, dtype=torch.long))
        assert all(len(each) == samples for each in screen(target).weights.values())
    branches = ("eeg", FUSION)
    screen.prepare({b: DIMS[b] for b in branches}, CLASSES)
    screen.learn(source(branches=branches), source(branches=branches))
    target = judged(
        outputs(branches=branches), trials=torch.zeros(12, dtype=torch.long)
    )
    assert set(screen(target).weights) == set(branches)


class Careful(Screening):
    """The screen with all that it can ask for."""

    def __init__(self, *, threshold: float = 0.9):
        super().__init__(**ALL, threshold=threshold)


def test_a_screen_that_learns_of_the_source_passes_the_checks():
    check(Careful)


def test_defaults_ask_for_nothing_new():
    """Bit for bit: with its gates open, the screen is the one without them."""
    plain, opened = Screening(), Screening(contradiction=1.0, typicality=0.0)
    assert not plain.needs_training and not plain.held_out
    assert not list(plain.buffers())
    for seed in range(3):
        target = judged(outputs(seed=seed))
        assert weights(plain, target) == weights(opened, target)


def test_the_record_counts_after_the_last_gate():
    """Distillation teaches where the judge's fusion agrees, so the record does."""
    seen = outputs(10, seed=4)
    screen = open_to_all(rule="calibrated")
    adapter = Composite(terms={"taught": Distillation(minimum=2)}, screen=screen)
    found = screen_target(screen, judged(seen), 5, adapter)
    bare = screen_target(screen, judged(seen), 5, Composite(terms={}, screen=screen))
    fusion = seen.logits[FUSION].argmax(-1).numpy()
    stopped = 0
    for branch in ("eeg", "eye"):
        own = seen.logits[branch].argmax(-1).numpy()
        assert np.array_equal(found[f"opinions/{branch}"], own)
        for first in (0, 5):
            rows = slice(first, first + 5)
            given = bare[f"weights/{branch}"][rows]
            agrees = fusion[rows] == found["labels"][rows]
            enough = (given > 0).sum() >= 2
            assert np.array_equal(
                found[f"weights/{branch}"][rows], given * agrees * enough
            )
            stopped += int((given > 0).sum() - (given * agrees * enough > 0).sum())
    assert stopped
    assert np.array_equal(found["weights/fusion"], bare["weights/fusion"])


def test_a_number_says_that_trials_of_the_target_were_seen():
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(3, 3)).load()
    for share, said in ((0.5, True), (0.0, False)):
        results = de.run(
            data,
            backbone="concatenation-mlp",
            adapter="confidence+distillation",
            options={"adapter.confidence.neighbours": share},
            epochs=1,
            folds=["subject 1"],
            baselines=False,
        )
        words = results.table["target_seen"]
        assert (
            words.str.contains("which share a trial, seen in training")
        ).all() == said
        assert ("which share a trial" in results.how()) == said
