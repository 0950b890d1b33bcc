"""Adapters without a target equal slow loops over the source domains."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from domainemo.adapters.branches import levels
from domainemo.adapters.composite import on_source_alone
from domainemo.adapters.domains import members
from domainemo.adapters.generalisation.group_dro import raised
from domainemo.adapters.generalisation.irm import invariance_penalty, scale_gradients
from domainemo.adapters.generalisation.mixup import (
    mixed_cross_entropy,
    partners,
    proportions,
)
from domainemo.adapters.generalisation.source_coral import (
    pairwise_correlation_distance,
)
from domainemo.adapters.generalisation.v_rex import risk_variance
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import find

torch.set_num_threads(1)
DOUBLE = torch.float64
DOMAINS, CLASSES, DIM = 4, 3, 5
ADAPTERS = ["group-dro", "irm", "mixup", "source-coral", "v-rex"]
PER_BRANCH = [name for name in ADAPTERS if name != "mixup"]


def drawn(seed, n=14):
    """Logits and labels of domains 0, 1 and 3, of 2 none, with weights."""
    generator = np.random.default_rng(seed)
    logits = torch.as_tensor(2 * generator.normal(size=(n, CLASSES)))
    labels = torch.as_tensor(generator.integers(CLASSES, size=n))
    domains = torch.as_tensor(generator.permutation(np.resize([0, 1, 3], n)))
    weights = torch.as_tensor(generator.uniform(0.2, 2, n))
    weights[1] = 0
    return logits, labels, domains, weights


def batch(seed=0, n=12, *, lost=False, domains=None):
    """A batch as training has it, in float64; one sample has lost the eye tracker."""
    generator = torch.Generator().manual_seed(seed)

    def draw(width):
        return torch.randn(n, width, generator=generator, dtype=DOUBLE)

    widths = {"eeg": 4, "eye": 3, FUSION: DIM}
    present = torch.ones(n, dtype=torch.bool)
    present[0] = False
    there = (
        dict.fromkeys(widths, torch.zeros_like(present)) if lost else {"eye": present}
    )
    outputs = Outputs(
        {name: draw(width) for name, width in widths.items()},
        {name: draw(CLASSES) for name in widths},
        there,
    )
    if domains is None:
        domains = torch.tensor([0, 1, 3]).repeat(n)[:n].roll(1)
    labels = torch.arange(n) // 2 % CLASSES
    return Source(outputs, labels, domains), Target(outputs, 0.5)


def prepared(name, domains=DOMAINS, **options):
    torch.manual_seed(0)
    adapter = find("adapter", name)(**options)
    adapter.prepare({"eeg": 4, "eye": 3, FUSION: DIM}, CLASSES, domains)
    return adapter.double()


def by_domain(domains, weights):
    """The places of every domain that has samples of weight."""
    for number in range(DOMAINS):
        mine = torch.nonzero((domains == number) & (weights > 0)).flatten()
        if len(mine):
            yield mine


def slow_risks(logits, labels, domains, weights):
    each = functional.cross_entropy(logits, labels, reduction="none")
    return [
        float((each * weights)[mine].sum() / weights[mine].sum())
        for mine in by_domain(domains, weights)
    ]


# ------------------------------------------------------------------------------ v-rex


@pytest.mark.parametrize("seed", range(3))
def test_v_rex_is_the_variance_of_risks(seed):
    logits, labels, domains, weights = drawn(seed)
    expected = np.var(slow_risks(logits, labels, domains, weights))
    found = risk_variance(logits, labels, members(domains, weights, DOMAINS))
    assert float(found) == pytest.approx(expected, rel=1e-9)


# -------------------------------------------------------------------------------- irm


def test_irm_has_the_gradient_of_the_dummy_scale():
    logits, labels, *_ = drawn(0)
    for row, label, found in zip(
        logits, labels, scale_gradients(logits, labels), strict=True
    ):
        scale = torch.ones((), dtype=DOUBLE, requires_grad=True)
        loss = functional.cross_entropy(scale * row, label)
        torch.testing.assert_close(found, torch.autograd.grad(loss, scale)[0])


def test_irm_is_the_mean_of_all_ways_of_halving():
    """The paper multiplies the gradients of two halves of a domain's samples."""
    logits, labels, *_ = drawn(1, n=10)
    domains = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 1, 1])  # four and six
    means = []
    for mine in by_domain(domains, torch.ones(10)):
        products = []
        for half in itertools.combinations(mine.tolist(), len(mine) // 2):
            rest = [i for i in mine.tolist() if i not in half]
            scale = torch.ones((), dtype=DOUBLE, requires_grad=True)
            first, second = (
                torch.autograd.grad(
                    functional.cross_entropy(scale * logits[[*part]], labels[[*part]]),
                    scale,
                )[0]
                for part in (half, rest)
            )
            products.append(float(first * second))
        means.append(np.mean(products))
    ones = torch.ones(10, dtype=DOUBLE)
    found = invariance_penalty(logits, labels, members(domains, ones, 2))
    assert float(found) == pytest.approx(np.mean(means), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_irm_equals_a_loop_over_pairs(seed):
    logits, labels, domains, weights = drawn(seed)
    domains[torch.nonzero(domains == 3).flatten()[1:]] = 0  # one sample is left of 3
    slopes, each = scale_gradients(logits, labels), []
    for mine in by_domain(domains, weights):
        if len(mine) > 1:
            pairs = [(i, j) for i in mine for j in mine if i != j]
            mass = sum(weights[i] * weights[j] for i, j in pairs)
            total = sum(
                weights[i] * weights[j] * slopes[i] * slopes[j] for i, j in pairs
            )
            each.append(float(total / mass))
    assert len(each) == 2
    found = invariance_penalty(logits, labels, members(domains, weights, DOMAINS))
    assert float(found) == pytest.approx(np.mean(each), rel=1e-9)


# ----------------------------------------------------------------------- source-coral


@pytest.mark.parametrize("seed", range(3))
def test_source_coral_equals_a_loop_over_pairs(seed):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(18, DIM)) * generator.uniform(0.5, 2, size=DIM)
    domains = torch.as_tensor(generator.permutation(np.resize([0, 1, 3], 18)))
    domains[torch.nonzero(domains == 3).flatten()[1:]] = 2  # one sample is left of 3
    times = torch.as_tensor(generator.integers(1, 4, size=18))
    times[torch.nonzero(domains == 0).flatten()[0]] = 0
    several = [m for m in by_domain(domains, times) if len(m) > 1]
    assert len(several) == 3
    moments = []
    for mine in several:
        theirs, often = points[mine], times[mine].numpy()
        mean = np.average(theirs, axis=0, weights=often)
        moments.append((mean, np.cov(theirs.T, fweights=often)))
    expected = np.mean(
        [
            ((mean - other) ** 2).mean() + ((spread - another) ** 2).mean()
            for (mean, spread), (other, another) in itertools.combinations(moments, 2)
        ]
    )
    belonging = members(domains, times.double(), DOMAINS)
    found = pairwise_correlation_distance(torch.as_tensor(points), belonging)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_source_coral_of_equal_domains_is_zero():
    points = torch.randn(6, DIM, dtype=DOUBLE).repeat(3, 1)
    domains = torch.arange(3).repeat_interleave(6)
    belonging = members(domains, torch.ones(18, dtype=DOUBLE), DOMAINS)
    found = pairwise_correlation_distance(points, belonging)
    assert float(found) == pytest.approx(0, abs=1e-20)


# -------------------------------------------------------------------------- group DRO


def test_groups_weights_in_closed_form():
    before = np.array([0.1, 0.2, 0.3, 0.4])
    risk = np.array([0.5, 2.0, 9.0, 1.0])
    shown = np.array([1.0, 1.0, 0.0, 0.5])
    step = before * np.exp(0.3 * risk)
    tensors = (torch.as_tensor(each) for each in (np.log(before), risk))
    found = raised(*tensors, torch.ones(4), 0.3).exp()
    assert found.tolist() == pytest.approx(step / step.sum())  # the paper's
    tensors = (torch.as_tensor(each) for each in (np.log(before), risk, shown))
    found = raised(*tensors, 0.3).exp()
    there = shown > 0
    expected = np.where(there, step / step[there].sum() * before[there].sum(), before)
    assert found.tolist() == pytest.approx(expected)
    nobody = raised(torch.as_tensor(np.log(before)), torch.ones(4), torch.zeros(4), 0.3)
    assert nobody.exp().tolist() == pytest.approx(before)


def test_group_dro_equals_a_loop_over_steps():
    adapter = prepared("group-dro", rate=0.5, weight=2.0)
    shares = np.full(DOMAINS, 1 / DOMAINS)
    for seed in range(3):
        source, target = batch(seed)
        losses = adapter(source, target)
        counted = levels(source.outputs, "all")
        each = {}
        for branch in counted:
            found = slow_risks(
                source.outputs.logits[branch],
                source.labels,
                source.domains,
                source.outputs.weight(branch),
            )
            each[branch] = np.array([found[0], found[1], 0, found[2]])
        mean = sum(share * each[branch] for branch, share in counted.items())
        step, there = shares * np.exp(0.5 * mean), np.array([0, 1, 3])
        shares[there] *= (
            np.exp(0.5 * mean)[there] * shares[there].sum() / step[there].sum()
        )
        for branch, share in counted.items():
            expected = 2 * share * (shares * each[branch]).sum()
            assert float(losses[branch]) == pytest.approx(expected, rel=1e-6)
        assert adapter.log_shares.exp().tolist() == pytest.approx(shares)
    assert shares[2] == 0.25 and shares.sum() == pytest.approx(1)
    kept = adapter.log_shares.clone()
    adapter.eval()(source, target)
    assert torch.equal(adapter.log_shares, kept)


def test_a_sensor_that_a_domain_never_had_does_not_make_it_look_easy():
    source, target = batch()
    there = source.domains != 1
    present = {**source.outputs.present, "eye": there}
    alike = {name: torch.zeros_like(v) for name, v in source.outputs.logits.items()}
    outputs = replace(source.outputs, logits=alike, present=present)
    adapter = prepared("group-dro", rate=1.0)
    adapter(replace(source, outputs=outputs), target)
    assert adapter.log_shares.exp().tolist() == pytest.approx([0.25] * 4)


# ------------------------------------------------------------------------------ mixup


@pytest.mark.parametrize("seed", range(4))
def test_partners_equal_a_search(seed):
    generator = np.random.default_rng(seed)
    size = 9
    domains = torch.as_tensor(generator.integers(3, size=size))
    weights = torch.ones(size)
    weights[generator.permutation(size)[:3]] = 0
    found = partners(domains, weights)
    for i in range(size):
        following = [(i + step) % size for step in range(1, size)]
        there = [j for j in following if weights[j] > 0]
        wanted = [j for j in there if domains[j] != domains[i]] or there
        assert found[i] == wanted[0]


def test_partners_of_one_domain_are_the_next_samples():
    ones = torch.ones(4)
    assert partners(ones.long(), ones).tolist() == [1, 2, 3, 0]
    assert partners(torch.tensor([0, 0, 1, 0]), ones).tolist() == [2, 2, 3, 2]
    assert partners(torch.tensor([7]), torch.ones(1)).tolist() == [0]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_proportions_follow_the_beta_distribution(alpha):
    found = proportions(50, alpha)
    expected = stats.beta(alpha, alpha).ppf((np.arange(50) + 0.5) / 50)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert float(found.mean()) == pytest.approx(0.5)
    many = proportions(4000, alpha).numpy()
    assert many.std() == pytest.approx(stats.beta(alpha, alpha).std(), rel=1e-2)


def test_mixed_cross_entropy_is_torchs_of_mixed_labels():
    logits, labels, domains, weights = drawn(2)
    partner, share = partners(domains, weights), proportions(14, 0.7)
    truth = functional.one_hot(labels, CLASSES).double()
    truth = share[:, None] * truth + (1 - share[:, None]) * truth[partner]
    each = functional.cross_entropy(logits, truth, reduction="none")
    found = mixed_cross_entropy(logits, labels, partner, share, weights)
    torch.testing.assert_close(found, (each * weights).sum() / weights.sum())


@torch.no_grad()
def test_mixup_mixes_as_it_says():
    source, target = batch()
    adapter = prepared("mixup", weight=2.0, alpha=0.7)
    embeddings, total = source.outputs.embeddings[FUSION], 0.0
    partner, share = partners(source.domains, torch.ones(12)), proportions(12, 0.7)
    for i, j in enumerate(partner.tolist()):
        assert source.domains[i] != source.domains[j]
        mixed = share[i] * embeddings[i] + (1 - share[i]) * embeddings[j]
        for k, part in ((i, share[i]), (j, 1 - share[i])):
            loss = functional.cross_entropy(adapter.head(mixed), source.labels[k])
            total += float(part * loss)
    found = adapter(source, target)[FUSION]
    assert float(found) == pytest.approx(2 * total / 12, rel=1e-9)
    predicted = adapter.predict(target.outputs)
    assert torch.equal(predicted, adapter.head(embeddings))


# ------------------------------------------------------------------------- all of them


def with_leaves(source):
    outputs, leaves = source.outputs, []

    def require(tensors):
        made = {k: v.clone().requires_grad_() for k, v in tensors.items()}
        leaves.extend(made.values())
        return made

    made = replace(
        outputs, embeddings=require(outputs.embeddings), logits=require(outputs.logits)
    )
    return replace(source, outputs=made), leaves


def total_and_gradients(adapter, source, target):
    source, leaves = with_leaves(source)
    total = sum(adapter(source, target).values())
    return total, torch.autograd.grad(total, leaves, allow_unused=True)


@pytest.mark.parametrize("name", ADAPTERS)
def test_nothing_present_gives_zero_with_zero_gradient(name):
    total, gradients = total_and_gradients(prepared(name), *batch(lost=True))
    assert total == 0
    assert not any(each.any() for each in gradients if each is not None)


@pytest.mark.parametrize("name", ["irm", "source-coral", "v-rex"])
@pytest.mark.parametrize("case", ["one domain", "one sample of each"])
def test_what_compares_domains_is_zero_where_nothing_can_be_compared(name, case):
    if case == "one domain":
        source, target = batch(domains=torch.zeros(12, dtype=torch.long))
    else:
        source, target = batch(n=3)
    if name == ("irm" if case == "one domain" else "v-rex"):
        return  # which is defined there
    total, gradients = total_and_gradients(
        prepared(name, schedule="constant"), source, target
    )
    assert total == 0
    assert not any(each.any() for each in gradients if each is not None)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("case", ["one", "equal", "one class", "beyond", "far"])
def test_degenerate_batches_stay_finite(name, case):
    source, target = batch(n=1 if case == "one" else 12)
    if case == "equal":
        for values in source.outputs.embeddings.values():
            values.fill_(1.0)
    if case == "far":
        for values in source.outputs.logits.values():
            values.mul_(100)
    if case == "one class":
        source = replace(source, labels=source.labels * 0)
    if case == "beyond":  # held-out domains follow those that train
        source = replace(source, domains=source.domains + DOMAINS)
    adapter = prepared(name)
    total, gradients = total_and_gradients(adapter, source, target)
    assert total.isfinite()
    assert all(each.isfinite().all() for each in gradients if each is not None)


@pytest.mark.parametrize("name", ADAPTERS)
def test_they_need_no_target(name):
    adapter = prepared(name, schedule="constant")
    assert not adapter.needs_target and on_source_alone(adapter) is adapter
    source, target = batch()
    other = replace(target, outputs=batch(5)[0].outputs)
    found, again = (prepared(name)(source, each) for each in (target, other))
    assert all(torch.equal(found[branch], again[branch]) for branch in found)


@pytest.mark.parametrize("name", PER_BRANCH)
def test_branches_are_chosen_and_weighted(name):
    source, target = batch()
    options = {"schedule": "constant"}
    (alone,) = prepared(name, branches="eye", **options)(source, target).items()
    assert alone[0] == "eye" and alone[1] != 0
    twice = prepared(name, branches=("eye", "eeg"), weight=4.0, **options)
    losses = twice(source, target)
    assert [*losses] == ["eye", "eeg"]
    if name != "group-dro":  # whose weights of domains depend on all branches
        torch.testing.assert_close(losses["eye"], 2 * alone[1])
    ramp = prepared(name, branches="eye", schedule="ramp")(source, target)["eye"]
    torch.testing.assert_close(ramp, math.tanh(2.5) * alone[1])
    with pytest.raises(ConfigurationError, match="no branch 'ecg'"):
        prepared(name, branches=("ecg",))(source, target)


# ------------------------------------------------------------------- a planted problem


def planted():
    """Two values: one tells the class weakly but everywhere, the other tells it well
    in the large domain, and the opposite in the small one."""
    generator = torch.Generator().manual_seed(0)
    domains = torch.tensor([0] * 180 + [1] * 20)
    labels = torch.arange(200) % 2
    sign = labels * 2.0 - 1
    noise = torch.randn(200, 2, generator=generator)
    weak = sign + noise[:, 0] * 1.5
    strong = sign * torch.where(domains == 0, 2.0, -2.0) + noise[:, 1] * 0.3
    return torch.stack([weak, strong], 1), labels, domains


def trained(name, weight):
    """Return every domain's accuracy and risk under a linear classifier."""
    points, labels, domains = planted()
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 2)
    adapter = find("adapter", name)(weight=weight, schedule="constant")
    adapter.prepare({FUSION: 2}, 2, 2)
    optimiser = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(150):
        outputs = Outputs({FUSION: points}, {FUSION: network(points)})
        source = Source(outputs, labels, domains)
        losses = adapter(source, Target(outputs, 0.5))
        total = functional.cross_entropy(outputs.logits[FUSION], labels)
        optimiser.zero_grad()
        (total + sum(losses.values())).backward()
        optimiser.step()
    logits = network(points).detach()
    right = (logits.argmax(-1) == labels).float()
    each = functional.cross_entropy(logits, labels, reduction="none")
    return [
        [float(values[domains == d].mean()) for d in (0, 1)] for values in (right, each)
    ]


@pytest.mark.parametrize(
    ("name", "weight"), [("group-dro", 5.0), ("v-rex", 10.0), ("irm", 10.0)]
)
def test_the_worst_domain_is_raised(name, weight):
    right, risk = trained(name, 0.0)
    assert right[0] > 0.95 > 0.6 > right[1]
    robust, even = trained(name, weight)
    assert min(robust) > min(right) + 0.2
    assert abs(even[0] - even[1]) < 0.5 * abs(risk[0] - risk[1])
