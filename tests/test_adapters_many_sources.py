"""Adapters that tell source domains apart equal slow loops over the domains."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from domainemo.adapters.domains import members, risks
from domainemo.adapters.kernels import gaussian_kernel
from domainemo.adapters.many_sources.distances import (
    Distances,
    domain_distances,
    nearness,
)
from domainemo.adapters.many_sources.m3sda import M3SDA, moment_distance
from domainemo.adapters.many_sources.ms_mda import MSMDA, disagreement
from domainemo.adapters.many_sources.source_weighting import SourceWeighting
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import find

torch.set_num_threads(1)
DOUBLE = torch.float64
DOMAINS, CLASSES, DIM = 4, 3, 5
NAMES = {"ms-mda": MSMDA, "m3sda": M3SDA, "source-weighting": SourceWeighting}
ADAPTERS = [*NAMES]


def points(seed, n=14, m=11, dim=DIM):
    """Samples of domains 0, 1 and 3, of 2 none, with weights of all sorts."""
    generator = np.random.default_rng(seed)
    source = torch.as_tensor(generator.normal(size=(n, dim)))
    target = torch.as_tensor(generator.normal(size=(m, dim)) + 0.7)
    weights = [torch.as_tensor(generator.uniform(0.2, 2, size)) for size in (n, m)]
    weights[0][1] = weights[1][2] = 0
    domains = torch.as_tensor(generator.permutation(np.resize([0, 1, 3], n)))
    return source, target, domains, *weights


def batch(seed=0, n=12, *, lost=False, domains=None):
    """A batch as training has it, in float64; one sample has lost the eye tracker."""
    generator = torch.Generator().manual_seed(seed)

    def outputs(shift):
        def draw(width):
            return torch.randn(n, width, generator=generator, dtype=DOUBLE) + shift

        widths = {"eeg": 4, "eye": 3, FUSION: DIM}
        present = torch.ones(n, dtype=torch.bool)
        present[0] = False
        return Outputs(
            {name: draw(width) for name, width in widths.items()},
            {name: draw(CLASSES) for name in widths},
            {"eye": present, FUSION: torch.zeros_like(present) if lost else present},
        )

    labels = torch.arange(n) % CLASSES
    if domains is None:
        domains = torch.tensor([0, 1, 3]).repeat(n)[:n].roll(1)
    return Source(outputs(0.0), labels, domains), Target(outputs(0.6), 0.5)


def prepared(name, domains=DOMAINS, **options):
    torch.manual_seed(0)
    adapter = find("adapter", name)(**options)
    adapter.prepare({"eeg": 4, "eye": 3, FUSION: DIM}, CLASSES, domains)
    return adapter.double()


def slow_kernel(a, b, bandwidth):
    distance = float(((a - b) ** 2).sum()) + 1e-5
    return sum(math.exp(-distance / (bandwidth * 2.0 ** (q - 2))) for q in range(5))


# ---------------------------------------------------------------------------- domains


def test_members_and_risks_equal_loops():
    generator = torch.Generator().manual_seed(0)
    *_, domains, weights, _ = points(0)
    logits = torch.randn(14, CLASSES, generator=generator, dtype=DOUBLE)
    labels = torch.arange(14) % CLASSES
    belonging = members(domains, weights, DOMAINS)
    found = risks(logits, labels, belonging)
    for number in range(DOMAINS):
        mine = domains == number
        assert torch.equal(belonging[number], torch.where(mine, weights, 0.0))
        if not mine.any():
            assert found[number] == 0
            continue
        each = functional.cross_entropy(logits[mine], labels[mine], reduction="none")
        expected = (each * weights[mine]).sum() / weights[mine].sum()
        torch.testing.assert_close(found[number], expected)


# ------------------------------------------------------------------------------ m3sda


def slow_moments(source, target, domains, p, u, moments):
    total = 0.0
    for power in range(1, moments + 1):
        means = []
        for number in np.unique(domains):
            mine = domains == number
            means.append(np.average(source[mine] ** power, axis=0, weights=p[mine]))
        theirs = np.average(target**power, axis=0, weights=u)
        total += np.mean([np.linalg.norm(mean - theirs) for mean in means])
        pairs = itertools.combinations(means, 2)
        total += np.mean([np.linalg.norm(a - b) for a, b in pairs])
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moments", [1, 2, 4])
def test_m3sda_equals_a_loop_over_pairs(seed, moments):
    source, target, domains, p, u = points(seed)
    expected = slow_moments(
        *(each.numpy() for each in (source, target, domains, p, u)), moments
    )
    belonging = members(domains, p, DOMAINS)
    found = moment_distance(source, target, belonging, u, moments=moments)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_m3sda_of_equal_domains_is_zero():
    source, *_ = points(0, n=6)
    source.requires_grad_()
    domains = torch.arange(3).repeat_interleave(6)
    belonging = members(domains, torch.ones(18, dtype=DOUBLE), 3)
    repeated = source.repeat(3, 1)
    found = moment_distance(
        repeated, source.flip(0), belonging, torch.ones(6, dtype=DOUBLE)
    )
    assert float(found.detach()) == pytest.approx(0, abs=1e-12)
    assert not torch.autograd.grad(found, source)[0].any()


def test_m3sda_of_one_domain_or_without_a_target():
    source, target, domains, p, u = points(1)
    one = members(domains * 0, p, DOMAINS)
    mean = (source * p[:, None]).sum(0) / p.sum()
    theirs = (target * u[:, None]).sum(0) / u.sum()
    found = moment_distance(source, target, one, u, moments=1)
    torch.testing.assert_close(found, (mean - theirs).norm())
    assert not moment_distance(source, target, one, 0 * u).any()
    several = members(domains, p, DOMAINS)
    alone = moment_distance(source, target, several, 0 * u)
    assert 0 < alone < moment_distance(source, target, several, u)
    assert torch.equal(alone, moment_distance(source, 3 * target, several, 0 * u))


def test_descending_m3sda_removes_an_offset_per_domain():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(60, 2, generator=generator, dtype=DOUBLE)
    target = torch.randn(60, 2, generator=generator, dtype=DOUBLE)
    domains = torch.arange(60) % 3
    planted = torch.tensor([[3.0, 0.0], [0.0, -3.0], [2.0, 2.0]], dtype=DOUBLE)
    offsets = torch.zeros(3, 2, dtype=DOUBLE, requires_grad=True)
    weights = torch.ones(60, dtype=DOUBLE)
    optimiser = torch.optim.Adam([offsets], 0.2)
    for _ in range(60):
        moved = source + (planted + offsets)[domains]
        loss = moment_distance(moved, target, members(domains, weights, 3), weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (planted + offsets).abs().max() < 0.8


# -------------------------------------------------------------------------- distances


@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_loops(seed):
    source, target, domains, p, u = points(seed)
    joined, weights = torch.cat([source, target]), torch.cat([p, u])
    pairs = weights[:, None] * weights
    gaps = (joined[:, None] - joined).square().sum(-1) + 1e-5
    distinct = ~torch.eye(len(joined), dtype=torch.bool)
    bandwidth = float((gaps * pairs).sum() / pairs[distinct].sum())

    def mean(first, second, w, v, distinct):
        total = mass = 0.0
        for i, j in itertools.product(range(len(first)), range(len(second))):
            if not (distinct and i == j):
                total += w[i] * v[j] * slow_kernel(first[i], second[j], bandwidth)
                mass += w[i] * v[j]
        return float(total / mass)

    found, measured = domain_distances(source, target, members(domains, p, DOMAINS), u)
    assert measured.tolist() == [1, 1, 0, 1] and found[2] == 0
    for number in (0, 1, 3):
        mine, own = source[domains == number], p[domains == number]
        expected = (
            mean(mine, mine, own, own, True)
            + mean(target, target, u, u, True)
            - 2 * mean(mine, target, own, u, False)
        )
        assert float(found[number]) == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_a_single_domain_is_that_of_pytorch_adapt():
    """Theirs leaves out the diagonal as well, and averages kernels."""
    source, target, *_ = points(1, n=8, m=8)
    joined = torch.cat([source, target])
    gaps = (joined[:, None] - joined).square().sum(-1)
    bandwidth = float(gaps.sum() / (16 * 15))
    scales = 2.0 ** torch.arange(-2, 3, dtype=DOUBLE)
    layer = load("layers").MMDLoss(scales, "quadratic", bandwidth=bandwidth)
    ones = torch.ones(8, dtype=DOUBLE)
    found, _ = domain_distances(source, target, members(ones.long() * 0, ones, 1), ones)
    expected = 5 * layer(source, target)
    assert float(found) == pytest.approx(float(expected), rel=1e-3)


def test_distances_are_unbiased_whatever_the_number_of_samples():
    generator = torch.Generator().manual_seed(0)
    domains = torch.tensor([0] * 2 + [1] * 14)
    ones = torch.ones(16, dtype=DOUBLE)
    belonging = members(domains, ones, 2)
    drawn = torch.randn(2, 800, 16, 3, generator=generator, dtype=DOUBLE)
    found, _ = domain_distances(
        *drawn, belonging.expand(800, -1, -1), ones.expand(800, -1)
    )
    error = found.std(0) / math.sqrt(800)
    assert (found.mean(0).abs() < 4 * error + 0.01).all()


def test_averages_move_by_the_momentum_and_only_in_training():
    distances = Distances(DOMAINS, momentum=0.75).double()
    expected = [0.0] * DOMAINS
    for seed in range(3):
        source, target, domains, p, u = points(seed)
        # Domain 3 is shown in the first batch only.
        domains = domains if seed == 0 else domains.clamp(max=1)
        belonging = members(domains, p, DOMAINS)
        now, measured = domain_distances(source, target, belonging, u)
        for number in range(DOMAINS):
            if measured[number]:
                old, new = expected[number], float(now[number])
                expected[number] = new if seed == 0 else 0.75 * old + 0.25 * new
        average, known = distances(source, target, belonging, u)
        assert average.tolist() == pytest.approx(expected)
        assert torch.equal(distances.average, average)
        assert known.tolist() == distances.known.tolist() == [1, 1, 0, 1]
    before = copy.deepcopy(distances.state_dict())
    other = distances.eval()(source + 1, target, belonging, u)[0]
    assert not torch.equal(other, before["average"])
    assert torch.equal(distances.average, before["average"])


def test_nearness_in_closed_form():
    average = torch.tensor([0.2, 1.0, 0.0, 0.4, 9.0], dtype=DOUBLE)
    known = torch.tensor([1, 1, 0, 1, 0], dtype=DOUBLE)
    near = np.exp(-np.array([0.2, 1.0, 0.4]) / 0.5)
    expected = 3 * near / near.sum()
    found = nearness(average, known, temperature=0.5)
    assert found[[0, 1, 3]].tolist() == pytest.approx(expected.tolist())
    assert found[[2, 4]].tolist() == [1, 1]  # not known
    two = nearness(average, known, temperature=0.5, keep=0.5)
    assert two[1] == 0 and two[[0, 1, 3]].sum() == pytest.approx(3)
    assert two[0] / two[3] == pytest.approx(math.exp(0.4))
    one = nearness(average, known, temperature=0.5, keep=1e-9)
    assert one.tolist() == [3, 0, 1, 0, 1]
    assert nearness(average, 0 * known, temperature=0.5).tolist() == [1] * 5
    alike = nearness(0 * average, torch.ones(5), temperature=0.5, keep=0.3)
    assert sorted(alike.tolist()) == [0, 0, 0, 2.5, 2.5]  # ties: the first ones


@pytest.mark.parametrize("count", range(1, 31))
def test_a_share_of_domains_is_rounded_up_to_whole_ones(count):
    average = torch.arange(count, dtype=torch.float32)
    for tenths in range(1, 11):
        found = nearness(average, torch.ones(count), temperature=1e9, keep=tenths / 10)
        assert int((found > 0).sum()) == -(-count * tenths // 10)


# ----------------------------------------------------------------------------- ms-mda


def of_domain(adapter, number, embeddings):
    """Features and logits of one domain, through torch's own functions."""
    extract, classify = adapter.extract, adapter.classify
    linear = functional.linear(
        embeddings, extract.weight[number].T, extract.bias[number, 0]
    )
    features = functional.leaky_relu(functional.layer_norm(linear, (adapter.width,)))
    return features, functional.linear(
        features, classify.weight[number].T, classify.bias[number, 0]
    )


def unbiased_by_loops(first, second):
    """Gretton et al., 2012, eq. 3, with the kernel of all points together."""
    every = torch.cat([first, second])
    kernel = gaussian_kernel(every, torch.ones(len(every), dtype=DOUBLE))
    n, m = len(first), len(second)
    if n < 2:
        return torch.zeros((), dtype=DOUBLE)
    total = torch.zeros((), dtype=DOUBLE)
    for i, j in itertools.product(range(n + m), repeat=2):
        if i < n and j < n:
            total = total + (i != j) * kernel[i, j] / (n * (n - 1))
        elif i >= n and j >= n:
            total = total + (i != j) * kernel[i, j] / (m * (m - 1))
        else:
            total = total - kernel[i, j] / (n * m)
    return total


def test_ms_mda_equals_a_loop_over_domains():
    source, target = batch()
    adapter = prepared("ms-mda", marginal=0.7, disagreement=0.3, weight=2.0)
    losses = adapter(source, target)
    there = source.outputs.weight(FUSION) > 0
    theirs = target.outputs.embeddings[FUSION]
    seen = target.outputs.weight(FUSION)
    classified, moved, shares = [], [], []
    for number in range(DOMAINS):
        features, logits = of_domain(adapter, number, theirs)
        shares.append(logits.softmax(-1))
        mine = there & (source.domains == number)
        if mine.any():
            own = source.outputs.embeddings[FUSION][mine]
            ours, predicted = of_domain(adapter, number, own)
            classified.append(functional.cross_entropy(predicted, source.labels[mine]))
            moved.append(unbiased_by_loops(ours, features[seen > 0]))
    apart = [
        ((a - b).abs().mean(-1) * seen).sum() / seen.sum()
        for a, b in itertools.combinations(shares, 2)
    ]
    ramp = math.tanh(2.5)
    expected = {
        "sources": 2 * torch.stack(classified).mean(),
        "marginal": 2 * ramp * 0.7 * torch.stack(moved).mean(),
        "disagreement": 2 * ramp * 0.7 * 0.3 * torch.stack(apart).mean(),
    }
    assert len(classified) == 3 and len(apart) == 6
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss)
    predicted = adapter.predict(target.outputs)
    torch.testing.assert_close(predicted.exp(), torch.stack(shares).mean(0))


def test_ms_mda_weighs_the_prediction_by_distance():
    source, target = batch()
    adapter = prepared("ms-mda", weighting="distance", temperature=0.1)
    plain = prepared("ms-mda")
    adapter(source, target)
    counted = nearness(
        adapter.distances.average, adapter.distances.known, temperature=0.1
    )
    assert counted.std() > 0.1
    embeddings = target.outputs.embeddings[FUSION]
    shares = [of_domain(adapter, d, embeddings)[1].softmax(-1) for d in range(DOMAINS)]
    expected = sum(
        w * share for w, share in zip(counted / DOMAINS, shares, strict=True)
    )
    torch.testing.assert_close(adapter.predict(target.outputs).exp(), expected)
    assert not torch.allclose(
        adapter.predict(target.outputs), plain.predict(target.outputs)
    )
    assert not plain.distances.known.any()  # nothing is measured for nothing


def test_a_domain_that_is_absent_teaches_its_branch_nothing():
    source, target = batch()
    adapter = prepared("ms-mda")
    losses = adapter(source, target)
    for name in ("sources", "marginal"):
        weight = adapter.extract.weight
        (gradient,) = torch.autograd.grad(losses[name], weight, retain_graph=True)
        assert not gradient[2].any() and gradient[[0, 1, 3]].flatten(1).any(1).all()


def test_a_single_source_domain():
    source, target = batch(domains=torch.zeros(12, dtype=torch.long))
    losses = prepared("ms-mda", domains=1)(source, target)
    assert losses["sources"] > 0 and losses["marginal"] > 0
    assert losses["disagreement"] == 0
    assert all(
        loss > 0 for loss in prepared("m3sda", domains=1)(source, target).values()
    )
    adapter = prepared("source-weighting", domains=1, keep=0.5)
    embeddings = source.outputs.embeddings[FUSION]
    there = source.outputs.weight(FUSION) > 0
    expected = functional.cross_entropy(
        adapter.head(embeddings)[there], source.labels[there]
    )
    torch.testing.assert_close(adapter(source, target)[FUSION], expected)


def test_equal_classifiers_agree():
    shares = torch.rand(1, 6, CLASSES, dtype=DOUBLE).repeat(4, 1, 1).requires_grad_()
    found = disagreement(shares, torch.ones(6, dtype=DOUBLE))
    assert found == 0 and not torch.autograd.grad(found, shares)[0].any()


# ------------------------------------------------------------------- source weighting


@pytest.mark.parametrize("keep", [1.0, 0.4])
@torch.no_grad()
def test_source_weighting_equals_a_loop(keep):
    source, target = batch()
    adapter = prepared("source-weighting", keep=keep, weight=3.0, temperature=0.2)
    found = adapter(source, target)[FUSION]
    measured = adapter.distances
    counted = nearness(measured.average, measured.known, temperature=0.2, keep=keep)
    assert (counted == 0).sum() == (0 if keep == 1 else 1)
    there = source.outputs.weight(FUSION)
    total = 0.0
    logits = adapter.head(source.outputs.embeddings[FUSION])
    for i in range(12):
        each = functional.cross_entropy(logits[i], source.labels[i])
        total += float(there[i] * counted[source.domains[i]] * each)
    assert float(found) == pytest.approx(3 * total / float(there.sum()))
    predicted = adapter.predict(target.outputs)
    assert torch.equal(predicted, adapter.head(target.outputs.embeddings[FUSION]))


def contradicting():
    """A subject like the target, and one far away whose labels are turned round."""
    generator = torch.Generator().manual_seed(0)

    def draw(n, shift, turned):
        points = torch.randn(n, 2, generator=generator)
        labels = (points[:, 0] > 0).long()
        points[:, 1] += shift
        return points, 1 - labels if turned else labels

    near, far, unseen = draw(40, 0, False), draw(60, 2.0, True), draw(200, 0, False)
    points, labels = (torch.cat(each) for each in zip(near, far, strict=True))
    domains = torch.tensor([0] * 40 + [1] * 60)
    source = Source(Outputs({FUSION: points}, {FUSION: points}), labels, domains)
    target = Target(Outputs({FUSION: unseen[0]}, {FUSION: unseen[0]}), 0.5)
    return source, target, unseen[1]


def right_of(name, **options):
    """Return how often an adapter predicts the target rightly, trained by itself."""
    source, target, truth = contradicting()
    torch.manual_seed(0)
    adapter = find("adapter", name)(**options)
    adapter.prepare({FUSION: 2}, 2, 2)
    optimiser = torch.optim.Adam(adapter.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        sum(adapter(source, target).values()).backward()
        optimiser.step()
    found = adapter.predict(target.outputs).argmax(-1)
    return float((found == truth).float().mean())


@pytest.mark.parametrize(
    ("name", "all_alike", "near_ones"),
    [
        ("source-weighting", {"temperature": 1e6}, {"temperature": 1e6, "keep": 0.5}),
        ("source-weighting", {"temperature": 1e6}, {"temperature": 0.1}),
        ("ms-mda", {"marginal": 0.0}, {"weighting": "distance", "temperature": 0.1}),
    ],
)
def test_a_contradicting_subject_far_away_is_not_followed(name, all_alike, near_ones):
    near = right_of(name, **{**all_alike, **near_ones})
    assert near > 0.95 and near > right_of(name, **all_alike) + 0.1


# ------------------------------------------------------------------------ empty cases


def total_and_gradients(adapter, source, target):
    leaves = []

    def leaf(outputs):
        def require(tensors):
            made = {k: v.clone().requires_grad_() for k, v in tensors.items()}
            leaves.extend(made.values())
            return made

        return replace(
            outputs,
            embeddings=require(outputs.embeddings),
            logits=require(outputs.logits),
        )

    source = replace(source, outputs=leaf(source.outputs))
    target = replace(target, outputs=leaf(target.outputs))
    total = sum(adapter(source, target).values())
    return total, torch.autograd.grad(total, leaves, allow_unused=True)


@pytest.mark.parametrize("name", ADAPTERS)
def test_nothing_present_gives_zero_with_zero_gradient(name):
    source, target = batch(lost=True)
    options = {"branches": FUSION} if name == "m3sda" else {}
    adapter = prepared(name, **options)
    total, gradients = total_and_gradients(adapter, source, target)
    # The classifiers of MS-MDA disagree, whoever is there: without weight, about none.
    assert total == 0
    assert not any(each.any() for each in gradients if each is not None)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("case", ["one", "equal", "one class", "beyond"])
def test_degenerate_batches_stay_finite(name, case):
    source, target = batch(n=1 if case == "one" else 12)
    if case == "equal":
        for each in (source, target):
            for values in each.outputs.embeddings.values():
                values.fill_(1.0)
    if case == "one class":
        source = replace(source, labels=source.labels * 0)
    if case == "beyond":  # held-out domains follow those that train
        source = replace(source, domains=source.domains + DOMAINS)
    adapter = prepared(name)
    total, gradients = total_and_gradients(adapter, source, target)
    assert total.isfinite()
    assert all(each.isfinite().all() for each in gradients if each is not None)
    assert adapter.predict(target.outputs).isfinite().all()


def test_branches_are_chosen():
    source, target = batch()
    adapter = prepared(
        "m3sda", branches=("eye",), weight=1.0, schedule="constant", moments=1
    )
    (name,) = losses = adapter(source, target)
    assert name == "eye"
    expected = moment_distance(
        source.outputs.embeddings["eye"],
        target.outputs.embeddings["eye"],
        members(source.domains, source.outputs.weight("eye"), DOMAINS),
        target.outputs.weight("eye"),
        moments=1,
    )
    torch.testing.assert_close(losses["eye"], expected)
    with pytest.raises(ConfigurationError, match="no branch 'ecg'"):
        prepared("m3sda", branches=("ecg",))(source, target)


def test_memory_returns_with_the_state():
    source, target = batch()
    first, second = (prepared("source-weighting", keep=0.4) for _ in range(2))
    for seed in range(3):
        first(*batch(seed))
    second.load_state_dict(first.state_dict())
    found = [adapter.eval()(source, target)[FUSION] for adapter in (first, second)]
    assert torch.equal(*found)
    assert torch.equal(second.distances.average, first.distances.average)
