"""Every loss equals slow, independent code, and empty sets contribute nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.adapters.branches import cross_entropy, schedule_factor, shares
from domainemo.adapters.composite import Composite
from domainemo.adapters.conditional import (
    Conditional,
    conditional_discrepancy,
    purity,
)
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.kernels import (
    gaussian_kernel,
    maximum_mean_discrepancy,
    signed_discrepancy,
)
from domainemo.adapters.marginal import (
    Marginal,
    correlation_distance,
    transport_distance,
)
from domainemo.adapters.none import SourceOnly
from domainemo.adapters.pairwise import PairwiseSimilarity, pairwise_similarity
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.uf_ama import UFAMA, ReleasedUFAMA
from domainemo.core import FUSION, Adapter, Outputs, Pseudo, Screen, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.screens.confidence import Screening, confident

torch.set_num_threads(1)
DOUBLE = torch.float64


def draw(seed, n=7, m=7, dim=3, shift=0.7):
    """Two samples with weights of all sorts, zeros among them, in float64."""
    generator = np.random.default_rng(seed)
    source = generator.normal(size=(n, dim))
    target = generator.normal(size=(m, dim)) + shift
    weights = [generator.uniform(0.2, 2.0, size=size) for size in (n, m)]
    weights[0][1] = weights[1][2] = 0.0
    return [torch.as_tensor(each) for each in (source, target, *weights)]


def ones(n):
    return torch.ones(n, dtype=DOUBLE)


def scalars(value):
    return [float(each) for each in value]


# ------------------------------------------------------------------ slow, by the book


def slow_bandwidth(points, weights):
    total = pairs = 0.0
    for i, j in itertools.product(range(len(points)), repeat=2):
        distance = sum((points[i] - points[j]) ** 2) + 1e-5
        total += weights[i] * weights[j] * distance
        pairs += weights[i] * weights[j] * (i != j)
    return total / pairs


def slow_kernel(a, b, bandwidth):
    distance = sum((a - b) ** 2) + 1e-5
    return sum(math.exp(-distance / (bandwidth * 2.0 ** (q - 2))) for q in range(5))


def slow_discrepancy(source, target, p, u, bandwidth):
    """Squared distance of the two weighted means, term by term."""
    p, u = np.asarray(p) / sum(p), np.asarray(u) / sum(u)
    total = 0.0
    for i, j in itertools.product(range(len(source)), repeat=2):
        total += p[i] * p[j] * slow_kernel(source[i], source[j], bandwidth)
    for i, j in itertools.product(range(len(target)), repeat=2):
        total += u[i] * u[j] * slow_kernel(target[i], target[j], bandwidth)
    for i, j in itertools.product(range(len(source)), range(len(target))):
        total -= 2 * p[i] * u[j] * slow_kernel(source[i], target[j], bandwidth)
    return total


def slow_linear(source, target, p, u, bandwidth):
    total = weights = 0.0
    for i in range(len(source)):
        k = (i + 1) % len(source)
        weight = p[i] * u[i] * p[k] * u[k]
        total += weight * (
            slow_kernel(source[i], source[k], bandwidth)
            + slow_kernel(target[i], target[k], bandwidth)
            - slow_kernel(source[i], target[k], bandwidth)
            - slow_kernel(source[k], target[i], bandwidth)
        )
        weights += weight
    return total / weights


def slow_cross_entropy(logits, labels, weights):
    total = mass = 0.0
    for row, label, weight in zip(logits.tolist(), labels, weights, strict=True):
        top = max(row)
        log_sum = top + math.log(sum(math.exp(value - top) for value in row))
        total += float(weight) * (log_sum - row[int(label)])
        mass += float(weight)
    return total / mass if mass else 0.0


# --------------------------------------------------------------------------- marginal


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("linear", [False, True])
def test_mmd_equals_loops(seed, linear):
    points = draw(seed)
    source, target, p, u = (each.numpy() for each in points)
    bandwidth = slow_bandwidth(np.r_[source, target], np.r_[p, u])
    slow = slow_linear if linear else slow_discrepancy
    expected = slow(source, target, p, u, bandwidth)
    found = maximum_mean_discrepancy(*points, linear=linear)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_mmd_full_of_unequal_batches_equals_loops():
    points = draw(4, n=5, m=9)
    source, target, p, u = (each.numpy() for each in points)
    bandwidth = slow_bandwidth(np.r_[source, target], np.r_[p, u])
    expected = slow_discrepancy(source, target, p, u, bandwidth)
    assert float(maximum_mean_discrepancy(*points)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_coral_equals_numpy(seed):
    source, target, *_ = draw(seed, n=6, m=9, dim=4)
    gap = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    expected = (gap**2).sum() / (4 * 4**2)
    found = correlation_distance(source, target, ones(6), ones(9))
    assert float(found) == pytest.approx(expected, rel=1e-10)
    frequency = torch.tensor([1, 2, 0, 3, 1, 1])
    weighted = np.cov(source.numpy().T, fweights=frequency.numpy())
    expected = ((weighted - np.cov(target.numpy().T)) ** 2).sum() / (4 * 4**2)
    found = correlation_distance(source, target, frequency.to(DOUBLE), ones(9))
    assert float(found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_transport_equals_pot(seed):
    source, target, p, u = draw(seed, n=6, m=8)
    costs = ot.dist(source.numpy(), target.numpy())
    masses = [(w / w.sum()).numpy() for w in (p, u)]
    expected = ot.emd2(*masses, costs) / (masses[0] @ costs @ masses[1])
    found = transport_distance(source, target, p, u)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_transport_on_a_line_pairs_the_sorted(seed, n):
    generator = np.random.default_rng(seed)
    source, target = generator.normal(size=(2, n))
    costs = np.subtract.outer(source, target) ** 2
    expected = ((np.sort(source) - np.sort(target)) ** 2).mean() / costs.mean()
    columns = [torch.as_tensor(each)[:, None] for each in (source, target)]
    found = transport_distance(*columns, ones(n), ones(n))
    assert float(found) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_transport_gradient_is_that_of_the_fixed_plan():
    """Of a quotient, whose numerator alone depends on the plan."""
    source, target, p, u = draw(0, n=4, m=4, dim=2)
    source.requires_grad_()
    transport_distance(source, target, p, u).backward()
    costs = ot.dist(source.detach().numpy(), target.numpy())
    p, u = (p / p.sum()).numpy(), (u / u.sum()).numpy()
    plan, mean = ot.emd(p, u, costs), p @ costs @ u
    gaps = source.detach().numpy()[:, None] - target.numpy()[None]
    gain, scale = (
        (2 * each[..., None] * gaps).sum(1) for each in (plan, np.outer(p, u))
    )
    expected = (gain - (plan * costs).sum() / mean * scale) / mean
    np.testing.assert_allclose(source.grad.numpy(), expected, atol=1e-9)


def test_transport_cannot_be_lowered_by_making_everything_smaller():
    source, target, p, u = draw(0, n=6, m=8)
    scale = torch.tensor(0.5, dtype=DOUBLE, requires_grad=True)
    value = transport_distance(scale * source, scale * target, p, u)
    value.backward()
    assert value > 0.1
    assert float(scale.grad) == pytest.approx(0, abs=1e-9)


def coral(source, target):
    return correlation_distance(source, target, ones(len(source)), ones(len(target)))


def test_coral_is_that_of_pytorch_adapt():
    source, target, *_ = draw(1, n=8, m=8, dim=5)
    theirs = load("layers").CORALLoss()(source, target)
    assert float(coral(source, target)) == pytest.approx(float(theirs))


def test_mmd_is_that_of_pytorch_adapt():
    """Theirs leaves out the diagonal, takes every second pair, and averages kernels."""
    source, target, *_ = draw(1, n=8, m=8)
    joined = torch.cat([source, target])
    bandwidth = slow_bandwidth(joined.numpy(), np.ones(16))
    layer = load("layers").MMDLoss
    scales = 2.0 ** torch.arange(-2, 3, dtype=DOUBLE)

    def theirs(kind, *points):
        return 5 * layer(scales, kind, bandwidth=bandwidth)(*points)

    rolled = source.roll(1, 0), target.roll(1, 0)
    expected = (theirs("linear", source, target) + theirs("linear", *rolled)) / 2
    found = maximum_mean_discrepancy(source, target, ones(8), ones(8), linear=True)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)

    kernel = gaussian_kernel(joined, ones(16))
    same = [kernel[part, part] for part in (slice(0, 8), slice(8, 16))]
    diagonal = sum(8 * 5 - k.sum() / 8 for k in same) / (8 * 7)
    found = maximum_mean_discrepancy(source, target, ones(8), ones(8))
    expected = theirs("quadratic", source, target) + diagonal
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


# ------------------------------------------------------------------------ conditional


@pytest.mark.parametrize("minimum", [0.2, 0.5, 1.0])
def test_conditional_equals_a_loop_over_classes(minimum):
    source, target, p, u = draw(2, n=9, m=8)
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=9)
    assignments = generator.dirichlet([0.5] * 4, size=8)
    both = np.r_[source.numpy(), target.numpy()]
    bandwidth = slow_bandwidth(both, np.r_[p.numpy(), u.numpy()])
    expected = [0.0] * 4
    for number in range(4):
        members = (labels == number) * p.numpy()
        assigned = assignments[:, number] * u.numpy()
        if members.sum() > 0 and assigned.sum() >= minimum:
            expected[number] = slow_discrepancy(
                source.numpy(), target.numpy(), members, assigned, bandwidth
            )
    found = conditional_discrepancy(
        source,
        target,
        torch.as_tensor(labels),
        torch.as_tensor(assignments),
        p,
        u,
        minimum=minimum,
    )
    assert 3 not in labels and expected[3] == 0 < max(expected)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighting", ["purity", "equal"])
def test_conditional_weighs_classes_and_levels(weighting):
    source, target = batch(lost=("eye",))
    assignments = target.outputs.logits[FUSION].softmax(-1)
    weights = [1.0, 1.0, 1.0]
    if weighting == "purity":
        for number, column in enumerate(assignments.T.tolist()):
            found = sum(value**2 for value in column) / sum(column)
            weights[number] = max((found - 1 / 3) / (1 - 1 / 3), 0)
        assert purity(assignments).tolist() == pytest.approx(weights, rel=1e-5)
    adapter = Conditional(weight=2.0, weighting=weighting, schedule="constant")
    losses = adapter(source, target)
    for branch, share in {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}.items():
        classes = conditional_discrepancy(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.labels,
            assignments,
            source.outputs.weight(branch),
            target.outputs.weight(branch),
        )
        mean = sum(w * float(c) for w, c in zip(weights, classes, strict=True)) / 3
        assert float(losses[branch]) == pytest.approx(2 * share * mean, rel=1e-5)


def test_purity_is_of_the_samples_that_count():
    assignments = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))
    assignments = assignments / assignments.sum(-1, keepdim=True)
    there = torch.tensor([1, 0, 1, 1, 0, 1, 1])
    torch.testing.assert_close(
        purity(assignments, there.float()), purity(assignments[there.bool()])
    )


def test_purity_at_its_ends():
    assert not purity(torch.full((5, 4), 0.25)).any()
    assert torch.equal(purity(torch.eye(4)), torch.ones(4))
    absent = torch.eye(4)[torch.tensor([0, 1, 0])]
    assert purity(absent)[2:].tolist() == [0.0, 0.0]


def test_an_absent_class_contributes_zero_with_zero_gradient():
    source, target, *_ = draw(3)
    source.requires_grad_(), target.requires_grad_()
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 2])
    certain = torch.eye(3, dtype=DOUBLE)[torch.tensor([0, 0, 1, 1, 1, 1, 1])]

    def gradients(assignments, labels):
        value = conditional_discrepancy(
            source, target, labels, assignments, ones(7), ones(7)
        ).sum()
        return value, *torch.autograd.grad(value, [source, target])

    value, ours, theirs = gradients(certain, labels)
    # Class 1 has no source, class 2 no target: class 0 alone is compared.
    assert value > 0
    assert not ours[6].any() and ours[:6].any()
    assert not theirs[2:].any() and theirs[:2].any()
    for value in gradients(certain, torch.full((7,), 2)):
        assert not value.any()


# --------------------------------------------------------------------------- pairwise


@pytest.mark.parametrize("seed", range(3))
def test_pairwise_equals_a_double_loop(seed):
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=(6, 4))
    labels, weights = generator.integers(4, size=6), generator.uniform(size=6)
    weights[2] = 0
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    total = mass = 0.0
    for i, j in itertools.product(range(6), repeat=2):
        norms = np.linalg.norm(shares[i]) * np.linalg.norm(shares[j])
        similar = shares[i] @ shares[j] / norms
        hit = similar if labels[i] == labels[j] else 1 - similar
        total -= weights[i] * weights[j] * math.log(hit + 1e-3)
        mass += weights[i] * weights[j]
    found = pairwise_similarity(
        torch.as_tensor(logits), torch.as_tensor(labels), torch.as_tensor(weights)
    )
    assert float(found) == pytest.approx(total / mass, rel=1e-9)


# -------------------------------------------------------------------------- screening


def slow_confident(confidences, rule, share, threshold):
    """Which (modality, sample) is confident, by sorting lists."""
    places = [
        (m, i)
        for m, row in enumerate(confidences)
        for i, value in enumerate(row)
        if value >= 0
    ]
    if rule == "absolute":
        return {(m, i) for m, i in places if confidences[m][i] > threshold}
    groups = [places]
    if rule == "calibrated":
        count = len(confidences)
        groups = [[place for place in places if place[0] == m] for m in range(count)]
    chosen = set()
    for group in groups:
        ranked = sorted(group, key=lambda place: -confidences[place[0]][place[1]])
        chosen |= set(ranked[: round(len(group) * share)])
    return chosen


def slow_screening(
    probabilities, present, floor=0.0, teachers=1, own_opinion=0.0, **options
):
    """Label and weights of every sample, case by case."""
    names = [name for name in probabilities if name != FUSION]
    batch = len(probabilities[names[0]])
    confidences = [
        [
            max(probabilities[name][i]) if present[name][i] else -1.0
            for i in range(batch)
        ]
        for name in names
    ]
    high = slow_confident(confidences, **options)
    least = min((confidences[m][i] for m, i in high), default=math.inf)
    labels, weights = [], {name: [0.0] * batch for name in (*names, FUSION)}
    for i in range(batch):
        sure = [m for m in range(len(names)) if (m, i) in high]
        opinions = [int(np.argmax(probabilities[names[m]][i])) for m in sure]
        labels.append(None)
        if not sure or len(set(opinions)) > 1:
            continue
        labels[-1] = opinions[0]
        own = {name: each[i][opinions[0]] for name, each in probabilities.items()}
        willing = {name: value * 3 >= own_opinion for name, value in own.items()}
        enough = len(sure) >= (teachers if len(names) > 2 else 1)
        both = len(sure) >= min(2, len(names))
        weights[FUSION][i] = float(both and willing[FUSION])
        for m, name in enumerate(names):
            learns = m not in sure and enough and least > floor
            weights[name][i] = float(learns and willing[name])
    return labels, weights


# As published: the network in training judges, one teacher is enough, and nobody asks
# the taught branch.
PUBLISHED = {"judge": "released", "teachers": 1, "own_opinion": 0.0}

RULES = [
    {"rule": "pooled", "share": 0.5},
    {"rule": "pooled", "share": 0.3, "teaching_floor": 0.6},
    {"rule": "calibrated", "share": 0.5},
    {"rule": "calibrated", "share": 0.25},
    {"rule": "absolute", "threshold": 0.6},
    {"rule": "absolute", "threshold": 0.95, "teaching_floor": 0.99},
    {"rule": "pooled", "teachers": 2},
    {"rule": "calibrated", "teachers": 2, "own_opinion": 1.0},
    {"rule": "pooled", "teachers": 3, "own_opinion": 0.5},
]


@pytest.mark.parametrize("options", RULES, ids=str)
@pytest.mark.parametrize("names", [("eeg", "eye"), ("eeg", "eye", "ecg"), ("eeg",)])
@pytest.mark.parametrize("lost", [False, True])
def test_screening_equals_a_loop(options, names, lost):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        # One branch is overconfident, as in practice.
        logits = {
            name: (1 + 2 * number) * torch.randn(13, 3, generator=generator)
            for number, name in enumerate(names)
        }
        present = {
            name: torch.rand(13, generator=generator) > (0.3 if lost else -1.0)
            for name in names
        }
        logits[FUSION] = torch.randn(13, 3, generator=generator)
        outputs = Outputs({}, logits, present)
        found = Screening(**{**PUBLISHED, **options})(Target(outputs, 0.5))
        settings = {"share": 0.5, "threshold": 0.9, **options}
        labels, weights = slow_screening(
            {name: value.softmax(-1).tolist() for name, value in logits.items()},
            {name: value.tolist() for name, value in present.items()},
            floor=settings.pop("teaching_floor", 0.0),
            **settings,
        )
        for branch in (*names, FUSION):
            assert found.weights[branch].tolist() == weights[branch]
        for label, expected in zip(found.labels.tolist(), labels, strict=True):
            assert expected is None or label == expected


def test_calibration_keeps_an_overconfident_branch_from_crowding_out_the_other():
    confidences = torch.tensor([[0.99, 0.98, 0.97, 0.96], [0.6, 0.5, 0.4, 0.45]])
    pooled = confident(confidences, rule="pooled", share=0.5, threshold=0.0)
    calibrated = confident(confidences, rule="calibrated", share=0.5, threshold=0.0)
    assert pooled.tolist() == [[True] * 4, [False] * 4]
    assert calibrated.tolist() == [[True, True, False, False]] * 2


def test_an_untaught_judge_is_believed_and_nobody_else():
    """Nothing is believed before it is there, whatever the network and its teacher."""
    (_, judge), (_, network) = batch(1), batch(2)
    screen, released = Screening(), Screening(**{**PUBLISHED, "own_opinion": 1.0})
    assert screen.judged_from == 0.6 and not screen.needs_teacher
    seen = replace(network, teacher=network.outputs)
    assert not any(weights.any() for weights in screen(seen).weights.values())
    found = screen(replace(seen, judge=judge.outputs))
    expected = released(judge)
    assert torch.equal(found.labels, expected.labels)
    assert found.weights.keys() == expected.weights.keys()
    for branch, weights in expected.weights.items():
        assert torch.equal(found.weights[branch], weights)
    assert any(weights.any() for weights in found.weights.values())


def test_the_judges_fusion_opens_the_gate_of_teaching():
    """Not the network's, which may have been taught to agree."""
    source, target = batch(4)
    against = {
        FUSION: -20
        * torch.nn.functional.one_hot(
            Screening()(replace(target, judge=target.outputs)).labels, 3
        ).float()
    }
    judge = Outputs({}, {**target.outputs.logits, **against}, {})
    term = Distillation(schedule="constant")
    losses = term(source, replace(target, judge=target.outputs))
    assert any(loss > 0 for loss in losses.values())
    losses = term(source, replace(target, judge=judge))
    assert not any(loss.any() for loss in losses.values())


def test_the_current_network_judges_by_the_teacher_where_there_is_one():
    certain = {"eeg": 20 * torch.eye(3), "eye": 20 * torch.eye(3)}
    doubtful = {name: torch.zeros(3, 3) for name in certain}
    fusion = {FUSION: torch.zeros(3, 3)}
    teacher, outputs = Outputs({}, certain | fusion), Outputs({}, doubtful | fusion)
    screen = Screening(rule="absolute", judge="current")
    believed = screen(Target(outputs, 0.5, teacher))
    assert believed.weights[FUSION].tolist() == [1.0, 1.0, 1.0]
    assert believed.labels.tolist() == [0, 1, 2]
    assert not screen(Target(outputs, 0.5)).weights[FUSION].any()
    assert screen.needs_teacher and not Screening(judge="released").needs_teacher


# --------------------------------------------------------- consistency, distillation


def batch(seed=0, names=("eeg", "eye"), samples=12, lost=()):
    """A source and a target; of the sensors `lost`, every third sample is missing."""
    generator = torch.Generator().manual_seed(seed)

    def outputs(shift):
        branches = (*names, FUSION)
        present = {name: torch.arange(samples) % 3 > 0 for name in lost}
        return Outputs(
            {b: torch.randn(samples, 4, generator=generator) + shift for b in branches},
            {b: 3 * torch.randn(samples, 3, generator=generator) for b in branches},
            present,
        )

    labels = torch.arange(samples) % 3
    return Source(outputs(0.0), labels, labels * 0), Target(outputs(0.5), 0.4)


@pytest.mark.parametrize("lost", [(), ("eye",)])
def test_consistency_equals_a_loop(lost):
    source, target = batch(lost=lost)
    screen = Screening(rule="calibrated", **PUBLISHED)
    pseudo = screen(target)
    loss = slow_cross_entropy(
        target.outputs.logits[FUSION], pseudo.labels, pseudo.weights[FUSION]
    )
    found = Consistency(weight=0.3, schedule="ramp", screen=screen)(source, target)
    factor = 0.3 * schedule_factor("ramp", 0.4)
    assert set(found) == {FUSION} and loss > 0
    assert float(found[FUSION]) == pytest.approx(factor * loss, rel=1e-5)


@pytest.mark.parametrize(("scale", "weight"), [(0.0, 0.1), (5.0, 0.2), (20.0, 0.5)])
def test_consistency_as_released_follows_the_source_loss(scale, weight):
    source, target = batch()
    certain = 0.5 * scale * torch.eye(3)[source.labels]
    logits = dict.fromkeys(("eeg", "eye", FUSION), certain)
    loss = slow_cross_entropy(logits[FUSION], source.labels, torch.ones(12))
    assert weight == (0.5 if loss <= 0.1 else 0.2 if loss < 0.2 else 0.1)
    source = Source(Outputs(source.outputs.embeddings, logits), source.labels, None)
    options = {"schedule": "constant", "screen": Screening(**PUBLISHED)}
    plain = Consistency(**options)(source, target)[FUSION]
    found = Consistency(confidence="released", **options)(source, target)[FUSION]
    assert plain > 0 and torch.allclose(found, weight * plain)


@pytest.mark.parametrize("minimum", [1, 3, 6])
@pytest.mark.parametrize("names", [("eeg", "eye"), ("eeg", "eye", "ecg")])
def test_distillation_equals_a_loop(minimum, names):
    taught = 0
    for seed in range(6):
        source, target = batch(seed, names=names, lost=("eye",))
        screen = Screening(rule="pooled", **PUBLISHED)
        pseudo, outputs = screen(target), target.outputs
        found = Distillation(minimum=minimum, schedule="constant", screen=screen)(
            source, target
        )
        assert set(found) == set(names)
        for name in names:
            weights = pseudo.weights[name].clone()
            enough = int((weights > 0).sum()) >= minimum
            for i in range(12):
                agrees = outputs.logits[FUSION][i].argmax() == pseudo.labels[i]
                weights[i] *= bool(agrees) and enough
                weights[i] *= bool(outputs.present.get(name, torch.ones(12))[i])
            loss = slow_cross_entropy(outputs.logits[name], pseudo.labels, weights)
            taught += loss > 0
            assert float(found[name]) == pytest.approx(loss / len(names), rel=1e-5)
    assert taught > 0 or minimum == 6


def test_weighted_cross_entropy_is_torchs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=generator, dtype=DOUBLE)
    labels = torch.arange(9) % 4
    weights = torch.rand(9, generator=generator, dtype=DOUBLE)
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (each * weights).sum() / weights.sum()
    assert torch.allclose(cross_entropy(logits, labels, weights), expected)
    assert cross_entropy(logits, labels, weights) == pytest.approx(
        slow_cross_entropy(logits, labels, weights)
    )


# --------------------------------------------------------------------------- assembly


class Named(Adapter):
    needs_target = False

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def forward(self, source, target):
        return {name: torch.tensor(float(len(name))) for name in self.names}


class Nobody(Screen):
    calls = 0

    def forward(self, target):
        self.calls += 1
        weights = {branch: torch.zeros(12) for branch in target.outputs.logits}
        return Pseudo(torch.zeros(12, dtype=torch.long), weights)


def test_composites_nest_with_paths():
    inner = Composite(terms={"b": Named("x", "yy"), "c": Named("zzz")})
    outer = Composite(terms={"a": Named("x"), "inner": inner})
    losses = outer(*batch())
    assert {name: float(loss) for name, loss in losses.items()} == {
        "a.x": 1.0,
        "inner.b.x": 1.0,
        "inner.b.yy": 2.0,
        "inner.c.zzz": 3.0,
    }
    assert not outer.needs_target and not outer.needs_teacher
    mixed = Composite(terms={"inner": inner, "marginal": Marginal()})
    assert mixed.needs_target and not mixed.needs_teacher
    assert Composite(
        terms={"inner": Composite(terms={"c": Conditional()})}
    ).needs_teacher
    screened = Composite(terms={"a": Named("x")}, screen=Screening(judge="current"))
    assert screened.needs_teacher and screened.judged_from is None
    late, early = (Consistency(screen=Screening(judged_from=p)) for p in (0.8, 0.3))
    assert Composite(terms={"late": late, "early": early}).judged_from == 0.3


def test_one_screen_serves_all_terms_and_the_inner_one_wins():
    source, target = batch()
    screen, inner = Nobody(), Nobody()
    terms = {"taught": Distillation(), "agreed": Consistency()}
    composite = Composite(
        terms={**terms, "inner": Composite(terms={"own": Consistency()}, screen=inner)},
        screen=screen,
    )
    losses = composite(source, target)
    assert screen.calls == inner.calls == 1
    assert set(losses) == {
        "taught.eeg",
        "taught.eye",
        "agreed.fusion",
        "inner.own.fusion",
    }
    assert not any(loss.any() for loss in losses.values())
    assert target.pseudo is None


def test_schedules_in_closed_form():
    assert [schedule_factor("constant", p) for p in (0.0, 0.5, 1.0)] == [1.0] * 3
    assert schedule_factor("ramp", 0.0) == 0.0
    for progress in (0.1, 0.5, 1.0):
        expected = math.tanh(5 * progress)
        assert schedule_factor("ramp", progress) == pytest.approx(expected)
    assert [schedule_factor("delayed", p) for p in (0.0, 0.2, 1 / 3)] == [0.0] * 3
    for progress in (0.4, 0.7, 1.0):
        expected = math.tanh(7.5 * (progress - 1 / 3))
        assert schedule_factor("delayed", progress) == pytest.approx(expected)
    released = [schedule_factor("released", epoch / 400) for epoch in range(401)]
    assert released[:11] == [1.0] * 11
    assert released[11:41] == [pytest.approx(0.49991, abs=1e-5)] * 30
    assert released[41:86] == [pytest.approx(math.exp(-0.6 * e)) for e in range(41, 86)]
    assert released[86:] == [0.0] * 315


def test_branches_count_as_in_uf_ama():
    source, _ = batch()
    assert shares(source.outputs) == {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}
    alone = Outputs({}, {FUSION: torch.zeros(2, 3)})
    assert shares(alone) == {FUSION: 1.0}
    three, _ = batch(names=("eeg", "eye", "ecg"))
    assert sum(shares(three.outputs).values()) == pytest.approx(1)


def test_terms_scale_with_their_weight_and_schedule():
    source, target = batch()
    for term in (Marginal, Conditional, Consistency, Distillation):
        one = term(schedule="constant")(source, target)
        other = term(weight=3.0, schedule="ramp")(source, target)
        for name, loss in one.items():
            expected = 3 * math.tanh(2) * loss
            torch.testing.assert_close(other[name], expected)
    for name, loss in PairwiseSimilarity()(source, target).items():
        doubled = PairwiseSimilarity(weight=2.0)(source, target)[name]
        torch.testing.assert_close(doubled, 2 * loss)


@pytest.mark.parametrize("distance", ["mmd", "mmd-linear", "coral", "transport"])
def test_marginal_weighs_its_levels(distance):
    source, target = batch(lost=("eye",))
    losses = Marginal(distance=distance, schedule="constant")(source, target)
    functions = {"coral": correlation_distance, "transport": transport_distance}
    for branch, share in {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}.items():
        points = [
            *(domain.outputs.embeddings[branch] for domain in (source, target)),
            *(domain.outputs.weight(branch) for domain in (source, target)),
        ]
        if distance in functions:
            expected = functions[distance](*points)
        else:
            linear = distance == "mmd-linear"
            expected = maximum_mean_discrepancy(*points, linear=linear)
        torch.testing.assert_close(losses[branch], share * expected)


def test_uf_ama_is_the_sum_of_its_parts():
    source, target = batch()
    weights = {
        "marginal": 1.0,
        "conditional": 2.0,
        "consistency": 0.5,
        "distillation": 0.3,
        "pairwise": 0.7,
    }
    target = replace(target, judge=target.outputs)
    losses = UFAMA(**weights, schedule="ramp")(source, target)
    screen = Screening()
    options = {"schedule": "ramp", "screen": screen}
    terms = {
        "marginal": Marginal(schedule="ramp"),
        "conditional": Conditional(weight=2.0, schedule="ramp"),
        "consistency": Consistency(weight=0.5, **options),
        "distillation": Distillation(weight=0.3, **options),
        "pairwise": PairwiseSimilarity(weight=0.7),
    }
    expected = {
        f"{path}.{name}": loss
        for path, term in terms.items()
        for name, loss in term(source, target).items()
    }
    assert list(losses) == list(expected)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    some = UFAMA(conditional=0, distillation=0.0)(source, target)
    assert {name.split(".")[0] for name in some} == {
        "marginal",
        "consistency",
        "pairwise",
    }
    assert UFAMA().needs_teacher and not ReleasedUFAMA().needs_teacher
    assert SourceOnly()(source, target) == {} and not SourceOnly().needs_target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Marginal(distance="far"), "distance is 'far'.*mmd-linear"),
        (lambda: Marginal(schedule="soon"), "schedule is 'soon'.*ramp"),
        (lambda: Conditional(schedule="soon"), "conditional: schedule"),
        (lambda: Conditional(weighting="best"), "weighting is 'best'.*purity"),
        (lambda: Consistency(confidence="high"), "confidence is 'high'"),
        (lambda: Distillation(schedule="soon"), "distillation: schedule"),
        (lambda: Screening(rule="best"), "rule is 'best'.*calibrated"),
        (lambda: UFAMA(rule="best"), "rule is 'best'"),
    ],
)
def test_unknown_choices_are_explained(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


# -------------------------------------------------------------------------- empty sets

EMPTY = [
    "mmd",
    "mmd-linear",
    "coral",
    "transport",
    "conditional",
    "pairwise",
    "cross-entropy",
]


def distance(name, source, target, p, u):
    """Any of the losses as a function of two samples and their weights."""
    n, classes = len(source), 3
    labels = torch.arange(n) % classes
    logits = source[:, :classes]
    match name:
        case "mmd" | "mmd-linear":
            linear = name == "mmd-linear"
            return maximum_mean_discrepancy(source, target, p, u, linear=linear)
        case "coral":
            return correlation_distance(source, target, p, u)
        case "transport":
            return transport_distance(source, target, p, u)
        case "conditional":
            believed = (3 * target[:, :classes]).softmax(-1).detach()
            classes = conditional_discrepancy(source, target, labels, believed, p, u)
            return classes.sum()
        case "pairwise":
            return pairwise_similarity(logits, labels, p)
        case _:
            return cross_entropy(logits, labels, p)


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_set_gives_zero_with_zero_gradient(name):
    source, target, *_ = draw(0)
    for p, u in ((0, 1), (1, 0), (0, 0)):
        if name in ("pairwise", "cross-entropy") and p == 1:
            continue
        points = [each.clone().requires_grad_() for each in (source, target)]
        value = distance(name, *points, p * ones(7), u * ones(7))
        assert value.shape == () and not value.any()
        value.backward()
        assert not any(each.grad.any() for each in points if each.grad is not None)


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("junk", [0.0, 50.0])
def test_what_has_no_weight_does_not_matter(name, junk):
    source, target, *_ = draw(0)
    p, u = ones(7), ones(7)
    p[1] = u[2] = 0
    if name == "mmd-linear":
        # It pairs places: what is lost on one side is lost on both.
        u[1] = p[2] = 0
    points = [each.clone() for each in (source, target)]
    for sample, weights in zip(points, (p, u), strict=True):
        sample[weights == 0] = junk
    expected = distance(name, source, target, p, u)
    assert torch.allclose(distance(name, *points, p, u), expected, rtol=1e-9)
    moved = [each.clone().requires_grad_() for each in points]
    distance(name, *moved, p, u).backward()
    for sample, weights in zip(moved, (p, u), strict=True):
        assert sample.grad is None or not sample.grad[weights == 0].any()


# -------------------------------------------------------------------------- properties

samples = st.tuples(st.integers(0, 10_000), st.integers(3, 9), st.floats(0.0, 3.0))
quick = settings(deadline=None, max_examples=40)


@given(samples)
@quick
def test_mmd_is_a_squared_distance(case):
    seed, n, shift = case
    source, target, p, u = draw(seed, n=n, m=n, shift=shift)
    value = maximum_mean_discrepancy(source, target, p, u)
    assert float(value) >= -1e-12
    mirrored = maximum_mean_discrepancy(target, source, u, p)
    assert float(mirrored) == pytest.approx(float(value), rel=1e-9, abs=1e-12)
    same = maximum_mean_discrepancy(source, source, p, p)
    assert float(same) == pytest.approx(0, abs=1e-12)


@given(samples, st.sampled_from(["mmd", "coral", "transport"]))
@quick
def test_the_order_of_a_batch_does_not_matter(case, name):
    seed, n, shift = case
    source, target, p, u = draw(seed, n=n, m=n, shift=shift)
    generator = np.random.default_rng(seed)
    here, there = (torch.as_tensor(generator.permutation(n)) for _ in range(2))
    expected = distance(name, source, target, p, u)
    found = distance(name, source[here], target[there], p[here], u[there])
    assert float(found) == pytest.approx(float(expected), rel=1e-7, abs=1e-12)


@given(samples, st.sampled_from(["coral", "transport", "cross-entropy"]))
@quick
def test_twice_the_weight_is_the_sample_twice(case, name):
    seed, n, shift = case
    source, target, *_ = draw(seed, n=n, m=n, shift=shift)
    p = ones(n)
    p[0] = 2
    labels_stay = torch.cat([source, source[:1]]), torch.cat([ones(n), ones(1)])
    if name == "cross-entropy":
        labels = torch.cat([torch.arange(n) % 3, torch.zeros(1, dtype=torch.long)])
        expected = cross_entropy(labels_stay[0], labels, labels_stay[1])
        found = cross_entropy(source, labels[:n], p)
    else:
        expected = distance(name, labels_stay[0], target, labels_stay[1], ones(n))
        found = distance(name, source, target, p, ones(n))
    assert float(found) == pytest.approx(float(expected), rel=1e-7, abs=1e-12)


@given(samples)
@quick
def test_twice_the_weight_is_the_sample_twice_under_one_kernel(case):
    """The bandwidth is over distinct pairs: a copy of a sample makes one more."""
    seed, n, shift = case
    source, target, *_ = draw(seed, n=n, m=n, shift=shift)
    p = ones(n)
    p[0] = 2
    bandwidth = 1.7

    def kernel(points):
        distances = torch.cdist(points, points).square()
        return torch.exp(-distances / bandwidth)

    expected = signed_discrepancy(
        kernel(torch.cat([source, source[:1], target])),
        ones(n + 1)[:, None],
        ones(n)[:, None],
    )
    found = signed_discrepancy(
        kernel(torch.cat([source, target])), p[:, None], ones(n)[:, None]
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@given(samples, st.floats(0.1, 10.0), st.sampled_from(["mmd", "mmd-linear"]))
@quick
def test_only_the_ratio_of_weights_matters_to_mmd(case, factor, name):
    seed, n, shift = case
    source, target, p, u = draw(seed, n=n, m=n, shift=shift)
    found = distance(name, source, target, factor * p, factor * u)
    expected = distance(name, source, target, p, u)
    assert float(found) == pytest.approx(float(expected), rel=1e-7, abs=1e-12)
