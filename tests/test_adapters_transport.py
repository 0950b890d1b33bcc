"""Transport losses equal linear programs, closed forms, POT's values, slow loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from domainemo.adapters.composite import Composite
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import PairwiseSimilarity
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.transport.costs import (
    distances_between,
    label_costs,
    relative_costs,
    typical,
)
from domainemo.adapters.transport.deep_jdot import DeepJDOT
from domainemo.adapters.transport.exact import exact_plan, partial_plan
from domainemo.adapters.transport.joint import joint_problem
from domainemo.adapters.transport.partial_transport import PartialTransport
from domainemo.adapters.transport.sinkhorn_divergence import (
    SinkhornDivergence,
    sinkhorn_divergence,
)
from domainemo.adapters.transport.sliced_wasserstein import (
    SlicedWasserstein,
    sliced_wasserstein,
)
from domainemo.adapters.transport.unbalanced_jdot import (
    UnbalancedJDOT,
    unbalanced_plan,
)
from domainemo.adapters.transport.weighted_jdot import WeightedJDOT, domain_masses
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError

torch.set_num_threads(1)
DOUBLE = torch.float64
CLASSES, WIDTH = 3, 4
JOINT = (DeepJDOT, UnbalancedJDOT, PartialTransport, WeightedJDOT)
ALL = (*JOINT, SinkhornDivergence, SlicedWasserstein)
every = pytest.mark.parametrize("cls", ALL)


def draw(seed, n=7, m=9, dim=3, shift=0.7):
    """Two samples with weights of all sorts, zeros among them, in float64."""
    generator = np.random.default_rng(seed)
    source = generator.normal(size=(n, dim))
    target = generator.normal(size=(m, dim)) + shift
    weights = [generator.uniform(0.2, 2.0, size=size) for size in (n, m)]
    weights[0][1] = weights[1][2] = 0.0
    return [torch.as_tensor(each) for each in (source, target, *weights)]


def problem(seed, n=7, m=9):
    """Costs and masses of which some are zero."""
    source, target, p, u = draw(seed, n, m)
    return distances_between(source, target), p / p.sum(), u / u.sum()


def batch(seed=0, n=8, m=6, lost=(), names=("eeg", "eye")):
    """A source of two domains and a target; of `lost`, every third sample is gone."""
    generator = torch.Generator().manual_seed(seed)

    def outputs(size, shift):
        def values(width):
            drawn = torch.randn(size, width, generator=generator, dtype=DOUBLE)
            return (drawn + shift).requires_grad_()

        branches = (*names, FUSION)
        present = {name: torch.arange(size) % 3 > 0 for name in lost}
        embeddings = {name: values(WIDTH) for name in branches}
        return Outputs(embeddings, {b: values(CLASSES) for b in branches}, present)

    labels, domains = torch.arange(n) % CLASSES, torch.arange(n) % 2
    return Source(outputs(n, 0.0), labels, domains), Target(outputs(m, 0.5), 0.4)


def number(value):
    return float(value.detach())


def prepared(cls, **options):
    torch.manual_seed(0)
    adapter = cls(**{"schedule": "constant", **options})
    widths = dict.fromkeys(("eeg", "eye", FUSION), WIDTH)
    adapter.prepare(widths, CLASSES, domains=2)
    return adapter.double()


def leaves(*domains):
    return {
        (role, kind, branch): values
        for role, domain in enumerate(domains)
        for kind in ("embeddings", "logits")
        for branch, values in getattr(domain.outputs, kind).items()
    }


def gradients(losses, source, target):
    found = leaves(source, target)
    total = sum(losses.values(), torch.zeros((), dtype=DOUBLE))
    values = torch.autograd.grad(total, found.values(), allow_unused=True)
    return dict(zip(found, values, strict=True))


# ------------------------------------------------------------------ slow, by the book


def linear_program(costs, p, u, mass=1.0):
    """The plan of least cost among all that carry the mass, by a general solver."""
    n, m = costs.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = linprog(
        np.asarray(costs).ravel(),
        A_ub=np.r_[rows, columns],
        b_ub=np.r_[p, u] + 1e-12,
        A_eq=np.ones((1, n * m)),
        b_eq=[mass],
    )
    assert found.success
    return found.x.reshape(n, m)


def slow_median(costs, pairs):
    """Half of the weight lies up to it."""
    total = upto = 0.0
    ranked = sorted(zip(costs.ravel(), pairs.ravel(), strict=True))
    total = sum(weight for _, weight in ranked)
    for cost, weight in ranked:
        upto += weight
        if upto >= total / 2 - 1e-12:
            return cost
    return 0.0


def slow_problem(source, target, shares, label_weight):
    """Costs of embeddings and labels, and those that the plan goes by, in loops."""
    n, m = len(source.labels), len(target.outputs.logits[FUSION])
    embeddings, labels, unknown = np.zeros((3, n, m))
    logits = target.outputs.logits[FUSION].tolist()
    for i, j in itertools.product(range(n), range(m)):
        sizes = [math.exp(value) for value in logits[j]]
        probability = sizes[int(source.labels[i])] / sum(sizes)
        labels[i, j] = -label_weight * math.log(probability)
    for branch, share in shares.items():
        z, other = (
            domain.outputs.embeddings[branch].detach().numpy()
            for domain in (source, target)
        )
        ours, theirs = source.outputs.weight(branch), target.outputs.weight(branch)
        pairs = np.outer(ours, theirs)
        far = np.array([[sum((a - b) ** 2) for b in other] for a in z])
        embeddings += share * pairs * far / slow_median(far, pairs)
        unknown += share * (1 - pairs)
    return embeddings, labels, embeddings + labels + unknown


# ------------------------------------------------------------------------------ costs


def test_typical_is_the_weighted_median():
    for seed in range(3):
        source, target, p, u = draw(seed)
        costs, pairs = distances_between(source, target), torch.outer(p, u)
        expected = slow_median(costs.numpy(), pairs.numpy())
        assert float(typical(costs, pairs)) == expected
        found = relative_costs(source, target, p, u)
        slow = ot.dist(source.numpy(), target.numpy()) * (pairs > 0).numpy()
        np.testing.assert_allclose(found.numpy() * expected, slow, atol=1e-12)


def test_typical_where_most_pairs_cost_nothing_is_the_mean():
    costs = torch.tensor([[0.0, 0.0, 3.0], [0.0, 5.0, 0.0]])
    assert float(typical(costs, torch.ones(2, 3))) == pytest.approx(8 / 6)
    assert float(typical(costs * 0, torch.ones(2, 3))) == 0
    assert float(typical(costs, torch.zeros(2, 3))) == 0


def test_label_costs_are_torchs_cross_entropy():
    logits = torch.randn(5, 3, dtype=DOUBLE)
    labels = torch.tensor([2, 0, 1, 1])
    for i, j in itertools.product(range(4), range(5)):
        expected = torch.nn.functional.cross_entropy(logits[j], labels[i])
        assert label_costs(labels, logits)[i, j] == pytest.approx(float(expected))


@pytest.mark.parametrize("lost", [(), ("eye",)])
def test_joint_costs_equal_loops(lost):
    source, target = batch(lost=lost)
    shares = {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}
    expected = slow_problem(source, target, shares, 0.7)
    found = joint_problem(source, target, branches="all", label_weight=0.7)
    for name, costs in zip(("embeddings", "labels", "costs"), expected, strict=True):
        values = getattr(found, name).detach().numpy()
        np.testing.assert_allclose(values, costs, rtol=1e-9)
    assert found.source_mass.tolist() == pytest.approx([1 / 8] * 8)
    alone = joint_problem(source, target, branches="eye", label_weight=0.7)
    present = source.outputs.weight("eye")
    assert alone.source_mass.tolist() == (present / present.sum()).tolist()


# ------------------------------------------------------------------------------ plans


@pytest.mark.parametrize("seed", range(3))
def test_exact_and_partial_plans_solve_the_linear_program(seed):
    costs, p, u = problem(seed)
    plan, _ = exact_plan(costs, p, u)
    np.testing.assert_allclose(plan, linear_program(costs, p, u), atol=1e-8)
    for mass in (0.3, 0.7, 0.95):
        plan = partial_plan(costs, p, u, mass=mass)
        assert float(plan.sum()) == pytest.approx(mass)
        expected = linear_program(costs, p, u, mass)
        np.testing.assert_allclose(plan, expected, atol=1e-8)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_costs_that_are_not_finite_are_nobodys_plan(bad):
    costs, p, u = problem(0)
    costs[2, 3] = bad
    assert exact_plan(costs, p, u)[0].isnan().all()
    assert partial_plan(costs, p, u, mass=0.7).isnan().all()


def test_a_potential_is_how_the_cost_grows_with_a_mass():
    costs, p, u = problem(0)
    _, potential = exact_plan(costs, p, u)
    for i, j in ((0, 3), (2, 6), (5, 4)):
        moved = p.clone()
        moved[i] += 1e-6
        moved[j] -= 1e-6
        before, after = (
            float((linear_program(costs, each, u) * costs.numpy()).sum())
            for each in (p, moved)
        )
        slope = float(potential[i] - potential[j])
        assert (after - before) / 1e-6 == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize(("epsilon", "tau"), [(0.05, 0.1), (0.1, 1.0), (0.5, 0.2)])
def test_unbalanced_plan_is_stationary_and_that_of_pot(epsilon, tau):
    costs, p, u = problem(1)
    costs = costs / typical(costs, torch.outer(p, u))
    found = unbalanced_plan(costs, p, u, epsilon=epsilon, tau=tau, iterations=500)
    rows, columns = p > 0, u > 0
    assert not found[~rows].any() and not found[:, ~columns].any()
    costs, p, u = costs[rows][:, columns], p[rows], u[columns]
    plan = found[rows][:, columns]
    # The derivative of the problem by each entry of the plan.
    slope = costs + epsilon * (plan / torch.outer(p, u)).log()
    slope = slope + tau * ((plan.sum(1) / p).log()[:, None] + (plan.sum(0) / u).log())
    assert float(slope.abs().max()) < 1e-8
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        *(each.numpy() for each in (p, u, costs)),
        epsilon,
        tau,
        numItermax=20_000,
        stopThr=1e-13,
    )
    np.testing.assert_allclose(plan, theirs, rtol=1e-6)


def test_the_default_iterations_are_enough():
    costs, p, u = problem(2)
    costs = costs / typical(costs, torch.outer(p, u))
    plans = [
        unbalanced_plan(costs, p, u, epsilon=0.05, tau=0.1, iterations=n)
        for n in (50, 200)
    ]
    torch.testing.assert_close(*plans, rtol=1e-6, atol=1e-12)


def test_costs_of_any_size_overflow_nothing():
    costs, p, u = (each.float() for each in problem(3))
    for scale in (1e-6, 1.0, 1e3, 1e6):
        plan = unbalanced_plan(scale * costs, p, u, epsilon=0.05, tau=0.1)
        assert plan.isfinite().all() and plan.sum() <= 1 + 1e-4


# --------------------------------------------------------------------- joint transport


def expected_plan(cls, costs, p, u):
    if cls is UnbalancedJDOT:
        arrays = p.numpy(), u.numpy(), costs
        options = {"numItermax": 20_000, "stopThr": 1e-13}
        return ot.unbalanced.sinkhorn_unbalanced(*arrays, 0.05, 0.1, **options)
    return linear_program(costs, p, u, 0.7 if cls is PartialTransport else 1.0)


@pytest.mark.parametrize("lost", [(), ("eye",)])
@pytest.mark.parametrize("cls", JOINT)
def test_joint_losses_equal_the_formula(cls, lost):
    """Domains of one size and equal weight carry alike in the weighted transport."""
    source, target = batch(lost=lost)
    shares = {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}
    embeddings, labels, costs = slow_problem(source, target, shares, 0.7)
    masses = [torch.full((n,), 1 / n, dtype=DOUBLE) for n in (8, 6)]
    plan = expected_plan(cls, costs, *masses)
    adapter = prepared(cls, weight=2.0, label_weight=0.7, schedule="ramp")
    found = adapter(source, target)
    factor = 2 * math.tanh(5 * 0.4)
    terms = {"embeddings": embeddings, "labels": labels}
    assert set(found) == set(terms)
    for name, term in terms.items():
        expected = factor * (plan * term).sum()
        assert number(found[name]) == pytest.approx(expected, rel=1e-5)


def test_deep_jdot_is_the_cheapest_of_all_assignments():
    source, target = batch(n=5, m=5, names=())
    *_, costs = slow_problem(source, target, {FUSION: 1.0}, 1.0)
    cheapest = min(
        sum(costs[i, j] for i, j in enumerate(order)) / 5
        for order in itertools.permutations(range(5))
    )
    found = prepared(DeepJDOT)(source, target)
    assert number(sum(found.values())) == pytest.approx(cheapest)


def test_the_gradient_is_that_of_the_fixed_plan():
    source, target = batch(names=())
    adapter = prepared(DeepJDOT, label_weight=0.5)
    found = gradients(adapter(source, target), source, target)
    _, _, costs = slow_problem(source, target, {FUSION: 1.0}, 0.5)
    plan = linear_program(costs, np.full(8, 1 / 8), np.full(6, 1 / 6))
    z, other = (d.outputs.embeddings[FUSION].detach() for d in (source, target))
    far = ot.dist(z.numpy(), other.numpy())
    gaps = (z[:, None] - other).numpy()
    median = slow_median(far, np.ones_like(far))
    expected = (2 * plan[..., None] * gaps).sum(1) / median
    # The median grows with the distance of one pair, that which has it.
    one, another = np.argwhere(np.isclose(far, median, rtol=1e-9))[0]
    expected[one] -= (plan * far).sum() / median**2 * 2 * gaps[one, another]
    np.testing.assert_allclose(found[0, "embeddings", FUSION], expected, atol=1e-7)
    # Cross-entropy's: what is predicted, less the labels that the plan brings.
    brought = plan.T @ np.eye(CLASSES)[source.labels]
    believed = target.outputs.logits[FUSION].softmax(-1).detach().numpy()
    expected = 0.5 * (believed / 6 - brought)
    np.testing.assert_allclose(found[1, "logits", FUSION], expected, atol=1e-7)


@pytest.mark.parametrize("cls", [SinkhornDivergence, DeepJDOT, UnbalancedJDOT])
def test_nothing_is_gained_by_shrinking_the_embeddings(cls):
    source, target = batch(names=())
    found = gradients(prepared(cls)(source, target), source, target)
    along = sum(
        (found[place, name, FUSION] * side.outputs.embeddings[FUSION].detach()).sum()
        for place, side in enumerate((source, target))
        for name in ("embeddings",)
    )
    assert abs(float(along)) < 1e-6


def test_transport_of_both_waits_for_a_network_that_has_learned():
    source, target = batch(names=())
    early = Target(target.outputs, 0.3)
    adapter = UnbalancedJDOT()
    assert not any(map(number, adapter(source, early).values()))


def label_shifted(seed=0, n=60):
    """Three far classes: alike in the source, 70, 20 and 10 per cent in the target."""
    generator = torch.Generator().manual_seed(seed)
    centres = 6 * torch.eye(3, dtype=DOUBLE)
    ours = torch.arange(n) % 3
    theirs = torch.tensor([0] * 42 + [1] * 12 + [2] * 6)
    points = [
        centres[labels] + torch.randn(n, 3, generator=generator, dtype=DOUBLE)
        for labels in (ours, theirs)
    ]
    outputs = [
        Outputs({FUSION: p}, {FUSION: torch.zeros(n, 3, dtype=DOUBLE)}) for p in points
    ]
    return Source(outputs[0], ours, ours * 0), Target(outputs[1], 1.0), theirs


def test_under_label_shift_all_but_the_exact_plan_keep_to_the_classes():
    source, target, theirs = label_shifted()
    given = joint_problem(source, target, branches="all", label_weight=1.0)
    given = given.costs, given.source_mass, given.target_mass
    wrong = source.labels[:, None] != theirs
    plans = {
        "exact": exact_plan(*given)[0],
        "partial": partial_plan(*given, mass=0.6),
        "unbalanced": unbalanced_plan(*given, epsilon=0.05, tau=0.1),
        "dear": unbalanced_plan(*given, epsilon=0.05, tau=50.0, iterations=3000),
    }
    share = {name: float((p * wrong).sum() / p.sum()) for name, p in plans.items()}
    # 70 per cent of the target are of a class that a third of the source is of.
    assert share["exact"] > 0.36 and share["dear"] > 0.3
    assert share["partial"] < 0.02 and share["unbalanced"] < 0.02
    assert plans["unbalanced"].sum() < 0.9 < plans["dear"].sum()


# -------------------------------------------------------------------- weighted domains


def test_masses_of_domains_equal_a_loop():
    scores = torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=DOUBLE)
    domains = torch.tensor([0, 2, 2, 0, 1, 2])
    weights = torch.tensor([1.0, 1.0, 0.0, 0.5, 0.0, 1.0], dtype=DOUBLE)
    found = domain_masses(scores, domains, weights)
    # Domain 1 has no weight and domain 3 no sample.
    odds = {0: math.exp(0.3), 2: math.exp(2.0)}
    size = {0: 1.5, 2: 2.0}
    expected = [
        float(w) * odds.get(d, 0.0) / sum(odds.values()) / size.get(d, 1.0)
        for d, w in zip(domains.tolist(), weights, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected)
    assert not domain_masses(scores, domains, 0 * weights).any()


def test_weights_of_domains_learn_by_the_optimal_cost():
    source, target = batch(names=())
    adapter = prepared(WeightedJDOT)
    with torch.no_grad():
        adapter.scores.copy_(torch.tensor([0.4, -0.1]))
    _, _, costs = slow_problem(source, target, {FUSION: 1.0}, 1.0)

    def optimum(scores):
        own = np.exp(scores)[source.domains.numpy()]
        plan = linear_program(costs, own / own.sum(), np.full(6, 1 / 6))
        return (plan * costs).sum()

    loss = sum(adapter(source, target).values())
    assert number(loss) == pytest.approx(optimum(np.array([0.4, -0.1])))
    (found,) = torch.autograd.grad(loss, adapter.scores)
    step = 1e-5
    slope = optimum(np.array([0.4 + step, -0.1])) - optimum(np.array([0.4, -0.1]))
    assert number(found[0]) == pytest.approx(slope / step, rel=1e-2)
    assert number(found.sum()) == pytest.approx(0, abs=1e-12)


def test_the_near_domain_comes_to_carry_more():
    torch.manual_seed(0)
    source, target = batch(n=40, m=40, names=())
    near = (source.domains == 0).to(DOUBLE)[:, None]
    points = target.outputs.embeddings[FUSION].detach()
    far = points.flip(0) + 0.1 * torch.randn_like(points) + 4 * (1 - near)
    outputs = Outputs({FUSION: far}, source.outputs.logits)
    source = Source(outputs, source.labels, source.domains)
    adapter = prepared(WeightedJDOT)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=0.05)
    assert adapter.scores.tolist() == [0, 0]
    for _ in range(40):
        optimiser.zero_grad()
        sum(adapter(source, target).values()).backward()
        optimiser.step()
    assert adapter.scores.softmax(-1)[0] > 0.8


# ------------------------------------------------------------------ Sinkhorn divergence


def slow_sinkhorn(source, target, p, u, epsilon, scale):
    """Debiased by POT's plans, of the samples that have a weight."""

    def value(a, b, masses):
        costs = ot.dist(a, b) / scale
        options = {"numItermax": 2000, "stopThr": 1e-10, "warn": False}
        plan = ot.bregman.sinkhorn_log(*masses, costs, epsilon, **options)
        surprise = (plan * np.log(plan / np.outer(*masses))).sum()
        return (plan * costs).sum() + epsilon * surprise

    x, y = source[p > 0], target[u > 0]
    p, u = p[p > 0] / p.sum(), u[u > 0] / u.sum()
    return value(x, y, (p, u)) - (value(x, x, (p, p)) + value(y, y, (u, u))) / 2


@pytest.mark.parametrize("epsilon", [0.2, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_sinkhorn_divergence_is_that_of_pot(seed, epsilon):
    points = draw(seed)
    arrays = [each.numpy() for each in points]
    far = ot.dist(*arrays[:2])
    scale = slow_median(far, np.outer(*arrays[2:]))
    expected = slow_sinkhorn(*arrays, epsilon, scale)
    found = sinkhorn_divergence(*points, epsilon=epsilon, iterations=500)
    assert number(found) == pytest.approx(expected, rel=1e-6)
    usual = sinkhorn_divergence(*points, epsilon=epsilon)
    assert float(usual) == pytest.approx(expected, rel=0.02)


def test_sinkhorn_gradient_is_that_of_finite_differences():
    source, target, p, u = draw(0, n=4, m=5, dim=2)
    source.requires_grad_()
    value = sinkhorn_divergence(source, target, p, u, epsilon=0.3, iterations=500)
    (found,) = torch.autograd.grad(value, source)
    arrays = [each.detach().numpy() for each in (source, target, p, u)]
    way = np.random.default_rng(1).normal(size=(4, 2))

    def at(step):
        moved = arrays[0] + step * way
        far = ot.dist(moved, arrays[1])
        scale = slow_median(far, np.outer(*arrays[2:]))
        return slow_sinkhorn(moved, *arrays[1:], 0.3, scale)

    ends = [at(step) for step in (1e-4, -1e-4)]
    slope = (ends[0] - ends[1]) / 2e-4
    assert float((found.numpy() * way).sum()) == pytest.approx(slope, rel=1e-4)


def test_sinkhorn_of_large_epsilon_is_the_distance_of_means():
    source, target, p, u = draw(1)
    far = distances_between(source, target)
    scale = slow_median(far.numpy(), np.outer(p, u))
    means = [(w / w.sum()) @ each for w, each in ((p, source), (u, target))]
    expected = float((means[0] - means[1]).square().sum()) / scale
    found = sinkhorn_divergence(source, target, p, u, epsilon=1e5)
    assert number(found) == pytest.approx(expected, rel=1e-3)


@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0.0, 3.0))
@settings(deadline=None, max_examples=20)
def test_sinkhorn_divergence_is_not_negative(seed, n, shift):
    points = draw(seed, n=max(n, 3), m=max(n, 3), shift=shift)
    found = sinkhorn_divergence(*points, epsilon=0.3, iterations=300)
    assert number(found) > -1e-9


# ------------------------------------------------------------------ sliced Wasserstein


@pytest.mark.parametrize("seed", range(3))
def test_sliced_wasserstein_is_that_of_pot(seed):
    source, target, p, u = draw(seed)
    directions = torch.randn(20, 3, dtype=DOUBLE)
    lines = (directions / directions.norm(dim=-1, keepdim=True)).T.numpy()
    masses = [(w / w.sum()).numpy() for w in (p, u)]
    points = source.numpy(), target.numpy()
    expected = ot.sliced_wasserstein_distance(*points, *masses, projections=lines)
    found = sliced_wasserstein(source, target, p, u, directions)
    assert number(found) == pytest.approx(float(expected) ** 2, rel=1e-9)


def test_sliced_wasserstein_is_that_of_pytorch_adapt():
    source, target, *_ = (each.float() for each in draw(0, n=8, m=8))
    torch.manual_seed(3)
    expected = load("layers").SlicedWasserstein()(source, target)
    torch.manual_seed(3)
    directions = torch.randn(3, 128).T
    found = sliced_wasserstein(source, target, torch.ones(8), torch.ones(8), directions)
    torch.testing.assert_close(found, expected)


def test_the_gradient_of_sliced_wasserstein():
    source, target, p, u = draw(2, n=4, m=5)
    directions = torch.randn(6, 3, dtype=DOUBLE)
    points = source.requires_grad_(), target.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, b: sliced_wasserstein(a, b, p, u, directions), points
    )


def test_lines_are_drawn_anew_in_training_and_kept_in_evaluation():
    source, target = batch()
    adapter = prepared(SlicedWasserstein)
    first, second = (number(adapter(source, target)[FUSION]) for _ in range(2))
    assert first != second
    twin = prepared(SlicedWasserstein)
    torch.manual_seed(9)
    twin.directions.normal_()
    twin.load_state_dict(adapter.state_dict())
    kept = [each.eval()(source, target) for each in (adapter, adapter, twin)]
    assert kept[0] == kept[1] == kept[2]


# ---------------------------------------------------------------------- all of a kind


@every
def test_equal_domains_have_no_distance(cls):
    """In joint transport: where labels do not count, or are predicted surely."""
    source, _ = batch()
    labels = source.labels
    certain = {b: 50.0 * torch.eye(3, dtype=DOUBLE)[labels] for b in ("eeg", FUSION)}
    embeddings = {b: source.outputs.embeddings[b] for b in certain}
    outputs = Outputs(embeddings, certain)
    same = Source(outputs, labels, source.domains), Target(outputs, 0.4)
    losses = prepared(cls, branches=("eeg", FUSION))(*same)
    total = sum(losses.values())
    found = torch.autograd.grad(total, list(embeddings.values()))
    if cls is UnbalancedJDOT:  # entropy blurs its plan
        assert 0 <= number(total) < 0.1
        return
    assert number(total) == pytest.approx(0, abs=1e-9)
    assert all(float(each.abs().max()) < 1e-7 for each in found)


def changed(case):
    source, target = batch(n=1 if case == "one sample" else 8)
    if case == "one sample":
        return source, Target(batch(m=1)[1].outputs, 0.4)
    if case == "a class absent":
        return Source(source.outputs, source.labels % 2, source.domains), target
    if case == "a domain absent":
        return Source(source.outputs, source.labels, source.domains * 0), target
    if case == "a sensor missing in some":
        return batch(lost=("eye",))
    for domain in (source, target):
        for kind in (domain.outputs.embeddings, domain.outputs.logits):
            for values in kind.values():
                if case == "equal features":
                    values.data.fill_(1.0)
                elif case == "far logits" and kind is domain.outputs.logits:
                    values.data.mul_(200)
    return source, target


@every
@pytest.mark.parametrize(
    "case",
    [
        "one sample",
        "a class absent",
        "a domain absent",
        "a sensor missing in some",
        "equal features",
        "far logits",
    ],
)
def test_what_training_meets_is_finite(cls, case):
    source, target = changed(case)
    losses = prepared(cls)(source, target)
    assert all(loss.isfinite() and loss >= -1e-9 for loss in losses.values())
    for (_, kind, _), found in gradients(losses, source, target).items():
        assert found is None or found.isfinite().all()
        if case == "equal features" and kind == "embeddings":
            assert found is None or float(found.abs().max()) < 1e-12


@every
@pytest.mark.parametrize("empty", ["source", "target", "both"])
def test_a_sensor_that_is_missing_altogether_gives_zero(cls, empty):
    source, target = batch()
    for name, domain in (("source", source), ("target", target)):
        if empty in (name, "both"):
            size = len(domain.outputs.logits[FUSION])
            domain.outputs.present["eye"] = torch.zeros(size, dtype=torch.bool)
    losses = prepared(cls, branches="eye")(source, target)
    assert not any(loss.any() for loss in losses.values())
    found = gradients(losses, source, target)
    assert not any(each.any() for each in found.values() if each is not None)


@every
def test_what_is_lost_does_not_matter(cls):
    junk = []
    for value in (0.0, 1000.0):
        source, target = batch(lost=("eye",))
        for domain in (source, target):
            lost = domain.outputs.weight("eye") == 0
            domain.outputs.embeddings["eye"].data[lost] = value
        torch.manual_seed(1)
        losses = prepared(cls)(source, target)
        found = gradients(losses, source, target)[1, "embeddings", "eye"]
        assert found.any() and not found[target.outputs.weight("eye") == 0].any()
        junk.append(losses)
    for name, loss in junk[0].items():
        torch.testing.assert_close(loss, junk[1][name], rtol=1e-7, atol=1e-12)


@every
def test_branches_say_where(cls):
    source, target = batch()
    options = {"label_weight": 0.0} if cls in JOINT else {}
    losses = prepared(cls, branches="eeg", **options)(source, target)
    found = gradients(losses, source, target)
    moved = {key for key, each in found.items() if each is not None and each.any()}
    assert moved == {(0, "embeddings", "eeg"), (1, "embeddings", "eeg")}
    with pytest.raises(ConfigurationError, match="no branch 'ege'"):
        prepared(cls, branches="ege")(source, target)
    none = Outputs(
        {FUSION: source.outputs.embeddings[FUSION]},
        {FUSION: source.outputs.logits[FUSION]},
    )
    losses = prepared(cls, branches="modalities")(
        Source(none, source.labels, source.domains), Target(none, 0.4)
    )
    assert not any(loss.any() for loss in losses.values())


@every
def test_descending_it_undoes_a_planted_shift(cls):
    """By a translation of the target; who is of which class is predicted rightly."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    centres = 4 * torch.randn(3, WIDTH, generator=generator, dtype=DOUBLE)
    clouds = [
        centres[labels] + torch.randn(48, WIDTH, generator=generator, dtype=DOUBLE)
        for _ in range(2)
    ]
    logits = {FUSION: 4.0 * torch.eye(3, dtype=DOUBLE)[labels]}
    source = Source(Outputs({FUSION: clouds[0]}, logits), labels, labels * 0)
    offset = torch.full((WIDTH,), 1.5, dtype=DOUBLE, requires_grad=True)
    adapter = prepared(cls)
    optimiser = torch.optim.Adam([offset], lr=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        target = Target(Outputs({FUSION: clouds[1] + offset}, logits), 1.0)
        sum(adapter(source, target).values()).backward()
        optimiser.step()
    assert float(offset.detach().norm()) < 0.25 * 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PartialTransport(mass=1.0), r"mass is 1.0.*in \(0, 1\)"),
        (lambda: UnbalancedJDOT(tau=0.0), "tau is 0.0.*above 0"),
        (lambda: SinkhornDivergence(epsilon=-1.0), "epsilon is -1.0.*above 0"),
        (lambda: SinkhornDivergence(iterations=0), "iterations is 0.*at least 1"),
        (lambda: SlicedWasserstein(projections=0), "projections is 0.*at least 1"),
        (lambda: DeepJDOT(label_weight=-1.0), "label_weight is -1.0.*at least 0"),
    ],
)
def test_options_out_of_bounds_are_explained(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_composite_vectorises_where_all_its_terms_do():
    pairs = PairwiseSimilarity()
    assert Composite(terms={"pairs": pairs, "gap": UnbalancedJDOT()}).vectorises
    for term in (DeepJDOT(), Marginal(distance="transport")):
        assert not Composite(terms={"pairs": pairs, "gap": term}).vectorises
