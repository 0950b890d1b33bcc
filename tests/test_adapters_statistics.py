"""Statistical alignments equal slow, independent code of what was published."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.adapters.kernels import (
    gaussian_kernel,
    maximum_mean_discrepancy,
    unbiased_discrepancy,
)
from domainemo.adapters.marginal import correlation_distance
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.statistics.cmd import (
    CMD,
    central_moment_discrepancy,
    within_range,
)
from domainemo.adapters.statistics.dan import DAN, multi_kernel_discrepancy
from domainemo.adapters.statistics.deep_coral import DeepCORAL
from domainemo.adapters.statistics.dsan import DSAN, local_discrepancy
from domainemo.adapters.statistics.homm import HoMM, moment_tensor_discrepancy
from domainemo.adapters.statistics.jan import JAN, joint_discrepancy
from domainemo.adapters.statistics.log_coral import (
    LogCORAL,
    log_euclidean_distance,
    matrix_logarithm,
)
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError

torch.set_num_threads(1)
DOUBLE = torch.float64
SEEDS = pytest.mark.parametrize("seed", range(3))


def draw(seed, n=7, m=9, dim=3, shift=0.7):
    """Two samples with weights of all sorts, zeros among them, in float64."""
    generator = np.random.default_rng(seed)
    source = generator.normal(size=(n, dim))
    target = generator.normal(size=(m, dim)) * 1.5 + shift
    weights = [generator.uniform(0.2, 2.0, size=size) for size in (n, m)]
    if n > 1:
        weights[0][1] = 0.0
    if m > 2:
        weights[1][2] = 0.0
    return [torch.as_tensor(each) for each in (source, target, *weights)]


def predictions(seed, n=7, m=9, classes=4):
    generator = np.random.default_rng(100 + seed)
    both = generator.dirichlet([0.5] * classes, size=n + m)
    return torch.as_tensor(both[:n]), torch.as_tensor(both[n:])


def ones(n):
    return torch.ones(n, dtype=DOUBLE)


# ------------------------------------------------------------------ slow, by the book


def slow_bandwidth(points, weights):
    total = pairs = 0.0
    for i, j in itertools.product(range(len(points)), repeat=2):
        distance = sum((points[i] - points[j]) ** 2) + 1e-5
        total += weights[i] * weights[j] * distance
        pairs += weights[i] * weights[j] * (i != j)
    return total / pairs


def slow_kernel(source, target, p, u):
    """Five Gaussian kernels between all pairs of points of both samples."""
    points, weights = np.r_[source, target], np.r_[p, u]
    bandwidth = slow_bandwidth(points, weights)
    kernel = np.zeros((len(points), len(points)))
    for i, j in itertools.product(range(len(points)), repeat=2):
        distance = sum((points[i] - points[j]) ** 2) + 1e-5
        for scale in (0.25, 0.5, 1, 2, 4):
            kernel[i, j] += math.exp(-distance / (bandwidth * scale))
    return kernel


def mean_over(pairs):
    """Return the weighted mean of (value, weight) pairs."""
    values = [(value, weight) for value, weight in pairs if weight]
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / total


def slow_discrepancy(kernel, p, u, estimate):
    n, m = len(p), len(u)
    if estimate == "linear":
        return mean_over(
            (
                kernel[i, k]
                + kernel[n + i, n + k]
                - kernel[i, n + k]
                - kernel[k, n + i],
                p[i] * u[i] * p[k] * u[k],
            )
            for i, k in ((i, (i + 1) % n) for i in range(n))
        )

    def within(start, weights):
        indices = itertools.product(range(len(weights)), repeat=2)
        return mean_over(
            (kernel[start + i, start + j], weights[i] * weights[j])
            for i, j in indices
            if estimate == "full" or i != j
        )

    across = mean_over(
        (kernel[i, n + j], p[i] * u[j])
        for i, j in itertools.product(range(n), range(m))
    )
    return within(0, p) + within(n, u) - 2 * across


def slow_covariance(points, weights):
    """Return the covariance, by weights that are how often a point is there."""
    mean = sum(w * x for w, x in zip(weights, points, strict=True)) / sum(weights)
    gaps = points - mean
    outer = sum(w * np.outer(g, g) for w, g in zip(weights, gaps, strict=True))
    return outer / (sum(weights) - 1)


# -------------------------------------------------------------------------------- DAN


@SEEDS
@pytest.mark.parametrize("estimate", ["full", "unbiased", "linear"])
def test_dan_equals_loops(seed, estimate):
    points = draw(seed, m=7 if estimate == "linear" else 9)
    source, target, p, u = (each.numpy() for each in points)
    kernel = slow_kernel(source, target, p, u)
    expected = slow_discrepancy(kernel, p, u, estimate)
    found = multi_kernel_discrepancy(*points, estimate=estimate)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_dan_unbiased_is_that_of_pytorch_adapt():
    """Theirs averages the kernels where ours adds them, and has no jitter."""
    source, target, *_ = draw(1)
    bandwidth = slow_bandwidth(torch.cat([source, target]).numpy(), np.ones(16))
    scales = 2.0 ** torch.arange(-2, 3, dtype=DOUBLE)
    theirs = load("layers").MMDLoss(scales, "quadratic", bandwidth=bandwidth)
    found = multi_kernel_discrepancy(
        source, target, ones(7), ones(9), estimate="unbiased"
    )
    expected = 5 * float(theirs(source, target))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_unbiased_estimate_is_so_over_all_subsamples():
    """Its mean over the samples of a finite population is the population's."""
    n, m, size = 5, 6, 3
    points = draw(3, n=n, m=m)[:2]
    kernel = gaussian_kernel(torch.cat(points), ones(n + m))

    def subsets(total):
        chosen = itertools.combinations(range(total), size)
        return [torch.eye(total, dtype=DOUBLE)[list(each)].sum(0) for each in chosen]

    found, full = [], []
    for p, u in itertools.product(subsets(n), subsets(m)):
        found.append(float(unbiased_discrepancy(kernel, p, u)))
        k, p, u = kernel.numpy(), p.numpy(), u.numpy()
        full.append(slow_discrepancy(k, p, u, "full"))
    population = slow_discrepancy(kernel.numpy(), np.ones(n), np.ones(m), "unbiased")
    assert np.mean(found) == pytest.approx(population, rel=1e-9)
    assert np.mean(full) > population + 0.1


def test_unequal_batches_are_refused_by_the_linear_estimate_alone():
    points = draw(0)
    for estimate in ("full", "unbiased"):
        assert multi_kernel_discrepancy(*points, estimate=estimate).isfinite()
    with pytest.raises(ConfigurationError, match="found 7 source and 9 target"):
        multi_kernel_discrepancy(*points, estimate="linear")
    with pytest.raises(ConfigurationError, match=r"estimate is 'best'.*unbiased"):
        DAN(estimate="best")


# -------------------------------------------------------------------------------- JAN


@SEEDS
@pytest.mark.parametrize("estimate", ["full", "unbiased"])
def test_jan_equals_loops(seed, estimate):
    source, target, p, u = draw(seed)
    ours, theirs = predictions(seed)
    found = joint_discrepancy(source, target, ours, theirs, p, u, estimate=estimate)
    both = np.r_[ours, theirs]
    kernel = slow_kernel(*(each.numpy() for each in (source, target, p, u)))
    for i, j in itertools.product(range(16), repeat=2):
        kernel[i, j] *= math.exp(-sum((both[i] - both[j]) ** 2) / 1.68)
    expected = slow_discrepancy(kernel, p.numpy(), u.numpy(), estimate)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_jan_is_the_joint_discrepancy_of_pytorch_adapt():
    """Theirs takes one set of kernels for all layers: ours is a sum of five of them."""
    source, target, *_ = draw(2)
    ours, theirs = predictions(2)
    bandwidth = slow_bandwidth(torch.cat([source, target]).numpy(), np.ones(16))
    expected = 0.0
    for scale in (0.25, 0.5, 1, 2, 4):
        width, narrow = (bandwidth * scale) ** 0.5, 1.68**0.5
        layer = load("layers").MMDLoss(1.0, "quadratic", bandwidth=1.0)
        value = layer(
            [source / width, ours / narrow], [target / width, theirs / narrow]
        )
        expected += float(value)
    found = joint_discrepancy(
        source, target, ours, theirs, ones(7), ones(9), estimate="unbiased"
    )
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_jan_sees_what_embedding_and_prediction_have_to_do_with_each_other():
    """Both are distributed alike in both domains, but they are paired otherwise."""
    embeddings = torch.eye(2, dtype=DOUBLE).repeat(5, 1)
    swapped = embeddings.flip(1)
    alike = multi_kernel_discrepancy(embeddings, embeddings, ones(10), ones(10))
    same = joint_discrepancy(*[embeddings] * 4, ones(10), ones(10))
    other = joint_discrepancy(*[embeddings] * 3, swapped, ones(10), ones(10))
    assert abs(float(alike)) < 1e-12 and abs(float(same)) < 1e-12
    assert other > 0.1
    constant = torch.full((10, 2), 0.5, dtype=DOUBLE)
    arguments = embeddings, embeddings + 1, constant, constant
    torch.testing.assert_close(
        joint_discrepancy(*arguments, ones(10), ones(10)),
        maximum_mean_discrepancy(*arguments[:2], ones(10), ones(10)),
    )


# ------------------------------------------------------------------------- covariances


def test_deep_coral_is_that_of_the_paper_and_of_pytorch_adapt():
    source, target = batch(lost=("eye",))
    losses = DeepCORAL(weight=3.0, schedule="constant")(source, target)
    for branch, share in {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}.items():
        points = [
            each.outputs.embeddings[branch][each.outputs.weight(branch) > 0]
            for each in (source, target)
        ]
        gap = np.subtract(*(np.cov(each.numpy().T) for each in points))
        expected = (gap**2).sum() / (4 * 4**2)
        theirs = float(load("layers").CORALLoss()(*points))
        assert theirs == pytest.approx(expected, rel=1e-4)
        assert float(losses[branch]) == pytest.approx(3 * share * expected, rel=1e-4)


def test_correlation_distance_in_closed_form():
    """A scaled sample is far, and the same sample is not: operators in order."""
    source, *_ = draw(0)
    covariance = np.cov(source.numpy().T)
    for scale in (1.0, 1.5, 10.0):
        expected = (scale**2 - 1) ** 2 * (covariance**2).sum() / (4 * 3**2)
        found = correlation_distance(source, scale * source + 5, ones(7), ones(7))
        assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@SEEDS
@pytest.mark.parametrize("shrinkage", [0.01, 0.1, 1.0])
def test_log_coral_equals_scipy(seed, shrinkage):
    source, target, p, u = draw(seed, dim=12)  # more dimensions than points
    logarithms = []
    for points, weights in ((source, p), (target, u)):
        covariance = slow_covariance(points.numpy(), weights.numpy())
        mean = np.trace(covariance) / 12
        shrunk = (1 - shrinkage) * covariance + (shrinkage * mean + 1e-6) * np.eye(12)
        logarithms.append(scipy.linalg.logm(shrunk))
    expected = (np.subtract(*logarithms) ** 2).sum() / (4 * 12**2)
    found = log_euclidean_distance(source, target, p, u, shrinkage=shrinkage)
    assert float(found) == pytest.approx(expected, rel=1e-8)
    single = [each.float() for each in (source, target, p, u)]
    found = log_euclidean_distance(*single, shrinkage=shrinkage)
    assert float(found) == pytest.approx(expected, rel=2e-3)


def test_log_coral_counts_ratios_of_variances():
    """Scaled by s, all logarithms differ by log s², whatever the covariance."""
    source, *_ = draw(0, n=30)
    for scale in (1.0, 3.0, 30.0):
        expected = 3 * math.log(scale**2) ** 2 / (4 * 3**2)
        found = log_euclidean_distance(source, scale * source, ones(30), ones(30))
        assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-12)


def symmetric(matrix):
    return (matrix + matrix.mT) / 2


def rotated(values, seed=0):
    """Return a matrix of these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    size = len(values)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=DOUBLE))
    return basis.Q @ torch.diag(torch.tensor(values, dtype=DOUBLE)) @ basis.Q.mT


@pytest.mark.parametrize(
    "values",
    [(0.3, 1.0, 2.5), (1.0, 1.0, 2.5), (2.0, 2.0, 2.0), (1.0, 1.0 + 1e-9, 3.0)],
    ids=["distinct", "two equal", "all equal", "nearly equal"],
)
def test_the_logarithms_gradient_is_right_where_eigenvalues_are_equal(values):
    matrix = rotated(values).requires_grad_()
    assert torch.allclose(
        matrix_logarithm(matrix), rotated([math.log(value) for value in values])
    )

    def function(matrix):
        return matrix_logarithm(symmetric(matrix))

    assert torch.autograd.gradcheck(function, (matrix,), atol=1e-6)


def test_the_logarithms_gradient_of_a_multiple_of_the_identity():
    matrix = (4 * torch.eye(5)).requires_grad_()
    direction = symmetric(torch.arange(25.0).reshape(5, 5))
    (matrix_logarithm(matrix) * direction).sum().backward()
    torch.testing.assert_close(matrix.grad, direction / 4)


def test_the_logarithms_gradient_vectorises():
    """As of one matrix after the other, equal eigenvalues among them."""
    matrices = torch.stack([rotated(v) for v in ((1, 2, 3), (1, 1, 2), (2, 2, 2))])

    def loss(matrix):
        return matrix_logarithm(matrix)[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(matrices)
    for matrix, gradient in zip(matrices, found, strict=True):
        leaf = matrix.clone().requires_grad_()
        loss(leaf).backward()
        torch.testing.assert_close(gradient, leaf.grad)
    assert found.isfinite().all() and found.any()


def test_a_logarithm_of_what_is_not_finite_is_no_number_and_no_error():
    matrices = torch.stack([rotated((1, 2, 3)), rotated((1, 2, 3)) * math.nan])
    found = matrix_logarithm(matrices)
    assert found[0].isfinite().all() and found[1].isnan().all()


# ------------------------------------------------------------------------------- CMD


def slow_moments(source, target, p, u, highest):
    total = 0.0
    means = [np.average(x, axis=0, weights=w) for x, w in ((source, p), (target, u))]
    total += math.sqrt(sum((means[0] - means[1]) ** 2))
    for k in range(2, highest + 1):
        ours = np.average((source - means[0]) ** k, axis=0, weights=p)
        theirs = np.average((target - means[1]) ** k, axis=0, weights=u)
        total += math.sqrt(sum((ours - theirs) ** 2))
    return total


@SEEDS
@pytest.mark.parametrize("moments", [1, 2, 5])
def test_cmd_equals_numpy(seed, moments):
    source, target, p, u = draw(seed)
    ours, theirs = within_range(source, target, p, u)
    there = np.r_[source.numpy()[p > 0], target.numpy()[u > 0]]
    low, high = there.min(0), there.max(0)
    arrays = [(each.numpy() - low) / (high - low) for each in (source, target)]
    expected = slow_moments(*arrays, p.numpy(), u.numpy(), moments)
    found = central_moment_discrepancy(ours, theirs, p, u, moments=moments)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_cmd_of_coins_in_closed_form():
    """A coin of chance q has the mean q and the variance q (1 - q)."""
    fair, biased = torch.tensor([[0.0], [1]]), torch.tensor([[0.0], [0], [0], [1]])
    weights = torch.ones(2), torch.ones(4)
    found = central_moment_discrepancy(fair, biased, *weights, moments=3)
    third = 0.25 * 0.75 * (1 - 2 * 0.25)
    expected = 0.25 + (0.25 - 0.25 * 0.75) + third
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_cmd_does_not_depend_on_scale_or_origin():
    source, target = batch()
    moved = [
        replace(each, outputs=replace(each.outputs, embeddings=shifted(each.outputs)))
        for each in (source, target)
    ]
    torch.testing.assert_close(CMD()(*moved), CMD()(source, target), rtol=1e-3, atol=0)


def shifted(outputs):
    return {branch: 7 * x + 3 for branch, x in outputs.embeddings.items()}


# ------------------------------------------------------------------------------ HoMM


def moment_tensor(points, weights, order):
    """Return the weighted mean of the outer powers, entry by entry."""
    dim = points.shape[1]
    tensor = np.zeros((dim,) * order)
    for place in itertools.product(range(dim), repeat=order):
        for point, weight in zip(points, weights, strict=True):
            tensor[place] += weight * math.prod(point[axis] for axis in place)
    return tensor / sum(weights)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_homm_equals_the_tensors_themselves(order):
    points = draw(order)
    source, target, p, u = (each.numpy() for each in points)
    gap = moment_tensor(source, p, order) - moment_tensor(target, u, order)
    expected = (gap**2).sum() / 3**order
    found = moment_tensor_discrepancy(*points, order=order)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("centred", [False, True])
def test_homm_is_the_mean_square_of_the_authors_code_relative_to_scale(centred):
    source, target = batch(lost=("eye",))
    adapter = HoMM(centred=centred, branches="eye", schedule="constant")
    points = [
        each.outputs.embeddings["eye"][each.outputs.weight("eye") > 0].double().numpy()
        for each in (source, target)
    ]
    if centred:
        points = [each - each.mean(0) for each in points]
    scale = np.sqrt((np.concatenate(points) ** 2).mean())
    tensors = [
        np.einsum("ni,nj,nk->ijk", each, each, each) / len(each) / scale**3
        for each in points
    ]
    expected = (np.subtract(*tensors) ** 2).mean()
    found = adapter(source, target)["eye"]
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_homm_sees_skewness_that_covariances_do_not():
    skewed = torch.tensor([[-1.0], [-1], [2]], dtype=DOUBLE)
    points = skewed, -skewed, ones(3), ones(3)
    assert correlation_distance(*points) == 0
    assert abs(float(moment_tensor_discrepancy(*points, order=2))) < 1e-12
    assert float(moment_tensor_discrepancy(*points, order=3)) == pytest.approx(16)


# ------------------------------------------------------------------------------ DSAN


def test_dsan_equals_a_loop_over_the_classes_of_both():
    """Class 2 is no target sample's, class 3 no source sample's."""
    source, target, p, u = draw(5)
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    assignments = predictions(5)[1].numpy()
    assignments[:, 2] *= 0.1
    assignments[:, 2:] *= 0.9
    assignments /= assignments.sum(1, keepdims=True)
    kernel = slow_kernel(*(each.numpy() for each in (source, target, p, u)))
    guessed = {int(a.argmax()) for a, w in zip(assignments, u, strict=True) if w > 0}
    common = sorted(guessed & {0, 1, 2})
    assert common == [0, 1] and 3 in guessed
    expected = 0.0
    for number in common:
        members = (labels == number) * p.numpy()
        assigned = assignments[:, number] * u.numpy()
        expected += slow_discrepancy(kernel, members, assigned, "full") / len(common)
    found = local_discrepancy(
        source, target, torch.as_tensor(labels), torch.as_tensor(assignments), p, u
    )
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_dsan_compares_classes_and_not_the_whole():
    """Distributed alike, and the classes have changed places."""
    points = torch.eye(2, dtype=DOUBLE).repeat(5, 1)
    labels, certain = torch.arange(10) % 2, torch.eye(2, dtype=DOUBLE).repeat(5, 1)
    weights = ones(10), ones(10)
    same = local_discrepancy(points, points, labels, certain, *weights)
    other = local_discrepancy(points, points, labels, certain.flip(1), *weights)
    assert abs(float(same)) < 1e-12 < 0.1 < float(other)
    assert abs(float(multi_kernel_discrepancy(points, points, *weights))) < 1e-12


def test_dsan_believes_the_fusion_without_gradient():
    source, target = batch()
    logits = {b: v.requires_grad_() for b, v in target.outputs.logits.items()}
    losses = DSAN(weight=1.0, schedule="constant", branches="eeg")(source, target)
    certain = logits[FUSION].detach().softmax(-1)
    expected = local_discrepancy(
        source.outputs.embeddings["eeg"],
        target.outputs.embeddings["eeg"],
        source.labels,
        certain,
        torch.ones(12),
        torch.ones(12),
    )
    torch.testing.assert_close(losses, {"eeg": expected})
    assert not losses["eeg"].requires_grad


# ------------------------------------------------------------------- all of the family

ADAPTERS = {
    "dan": DAN,
    "dan unbiased": lambda **o: DAN(estimate="unbiased", **o),
    "dan linear": lambda **o: DAN(estimate="linear", **o),
    "jan": JAN,
    "jan unbiased": lambda **o: JAN(estimate="unbiased", **o),
    "deep-coral": DeepCORAL,
    "log-coral": LogCORAL,
    "cmd": CMD,
    "homm": HoMM,
    "homm centred": lambda **o: HoMM(order=4, centred=True, **o),
    "dsan": DSAN,
}
ALL = pytest.mark.parametrize("name", ADAPTERS)


def batch(seed=0, samples=12, lost=(), shift=1.0, names=("eeg", "eye")):
    """A source and a target; of the sensors `lost`, every third sample is missing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 3

    def outputs(shift):
        branches = (*names, FUSION)
        present = {name: torch.arange(samples) % 3 > 0 for name in lost}
        means = 2 * torch.eye(4)[labels] + shift
        return Outputs(
            {b: torch.randn(samples, 4, generator=generator) + means for b in branches},
            {b: 3 * torch.eye(3)[labels] + 0 * means[:, :3] for b in branches},
            present,
        )

    return Source(outputs(0.0), labels, labels * 0), Target(outputs(shift), 0.4)


def with_embeddings(domain, embeddings, present=None):
    outputs = replace(domain.outputs, embeddings={FUSION: embeddings})
    if present is not None:
        outputs = replace(outputs, present={FUSION: present})
    return replace(domain, outputs=outputs)


def on_fusion(name):
    return ADAPTERS[name](branches=FUSION, schedule="constant")


def loss_and_gradients(name, source, target):
    """Return the fusion's loss, and its gradients by both domains' embeddings."""
    leaves = [
        each.outputs.embeddings[FUSION].clone().requires_grad_()
        for each in (source, target)
    ]
    moved = map(with_embeddings, (source, target), leaves)
    loss = on_fusion(name)(*moved)[FUSION]
    return loss, torch.autograd.grad(loss, leaves)


@ALL
def test_equal_domains_are_at_no_distance(name):
    """But for the unbiased estimates, for which they are nearer than chance."""
    source, _ = batch()
    certain = {branch: 20 * v for branch, v in source.outputs.logits.items()}
    target = Target(replace(source.outputs, logits=certain), 0.4)
    source = replace(source, outputs=target.outputs)
    for loss in ADAPTERS[name](schedule="constant")(source, target).values():
        if "unbiased" in name:
            assert loss < 0
        else:
            assert abs(float(loss)) < 1e-6


@ALL
@pytest.mark.parametrize("empty", ["source", "target", "both"])
def test_an_empty_side_gives_zero_with_zero_gradient(name, empty):
    source, target = batch()
    nobody = torch.zeros(12, dtype=torch.bool)
    if empty != "target":
        source = with_embeddings(source, source.outputs.embeddings[FUSION], nobody)
    if empty != "source":
        target = with_embeddings(target, target.outputs.embeddings[FUSION], nobody)
    loss, gradients = loss_and_gradients(name, source, target)
    assert not loss.any() and not any(each.any() for each in gradients)


@ALL
@pytest.mark.parametrize("kept", [(1, 1), (1, 5), (5, 1)])
def test_a_batch_of_one_stays_finite(name, kept):
    source, target = batch()
    source, target = (
        with_embeddings(
            each, each.outputs.embeddings[FUSION], torch.arange(12) < number
        )
        for each, number in zip((source, target), kept, strict=True)
    )
    loss, gradients = loss_and_gradients(name, source, target)
    assert loss.isfinite() and all(each.isfinite().all() for each in gradients)
    if name in ("dan unbiased", "jan unbiased", "deep-coral", "log-coral", "cmd"):
        assert not loss.any() and not any(each.any() for each in gradients)


@ALL
@pytest.mark.parametrize("value", [0.0, 0.1, 100.0])
def test_points_that_are_all_equal_are_at_no_distance(name, value):
    source, target = batch()
    source, target = (
        with_embeddings(each, torch.full((12, 4), value)) for each in (source, target)
    )
    loss, gradients = loss_and_gradients(name, source, target)
    if name != "jan unbiased":  # predictions differ; see equal domains
        assert abs(float(loss.detach())) < 1e-5
    assert all(each.abs().max() < 1e-3 for each in gradients)


@ALL
@pytest.mark.parametrize("junk", [0.0, 50.0, -1e6])
def test_what_has_no_weight_does_not_matter(name, junk):
    there = torch.arange(12) % 4 > 0  # the linear estimate goes by place
    source, target = batch()

    def losses(value):
        changed = []
        for domain in (source, target):
            embeddings = domain.outputs.embeddings[FUSION].clone()
            embeddings[~there] = value
            embeddings.requires_grad_()
            logits = {b: v.double() for b, v in domain.outputs.logits.items()}
            outputs = replace(domain.outputs, logits=logits)
            double = replace(domain, outputs=outputs)
            changed.append(with_embeddings(double, embeddings.double(), there))
        return on_fusion(name)(*changed)[FUSION], changed

    expected, _ = losses(1.0)
    loss, changed = losses(junk)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-9)
    embeddings = [each.outputs.embeddings[FUSION] for each in changed]
    for gradient in torch.autograd.grad(loss, embeddings):
        assert not gradient[~there].any() and gradient[there].any()


@pytest.mark.parametrize("labels", [[0] * 12, [0, 1] * 6])
def test_dsan_of_an_absent_class_is_finite(labels):
    source, target = batch()
    source = replace(source, labels=torch.tensor(labels))
    loss, gradients = loss_and_gradients("dsan", source, target)
    assert loss > 0 and all(each.isfinite().all() for each in gradients)
    # Target samples that are surely of class 2 have nobody to be compared with.
    assert gradients[1][2].abs().max() < 0.1 * gradients[1][0].abs().max()
    only = {FUSION: torch.tensor([[-60.0, -60.0, 60.0]]).expand(12, 3)}
    target = replace(target, outputs=replace(target.outputs, logits=only))
    loss, gradients = loss_and_gradients("dsan", source, target)
    assert not loss.any() and not any(each.any() for each in gradients)


@ALL
def test_branches_weight_and_schedule(name):
    source, target = batch()
    all_of_them = ADAPTERS[name](weight=1.0, schedule="constant")(source, target)
    assert set(all_of_them) == {"eeg", "eye", FUSION}
    one = ADAPTERS[name](branches="eeg", weight=2.0)(source, target)
    assert set(one) == {"eeg"}
    expected = 2 * math.tanh(2) * all_of_them["eeg"] / 0.25
    torch.testing.assert_close(one["eeg"], expected)


@pytest.mark.parametrize("name", ["cmd", "homm", "homm centred"])
def test_nothing_is_gained_by_shrinking_the_embeddings(name):
    source, target = batch()
    _, gradients = loss_and_gradients(name, source, target)
    pairs = [
        (each.outputs.embeddings[FUSION].detach() * gradient)
        for each, gradient in zip((source, target), gradients, strict=True)
    ]
    size = sum(float(each.abs().sum()) for each in pairs)
    assert size > 1e-3
    assert abs(sum(float(each.sum()) for each in pairs)) < 1e-4 * size


@ALL
def test_unequal_batches(name):
    source, _ = batch(samples=12)
    _, target = batch(samples=9)
    if name == "dan linear":
        with pytest.raises(ConfigurationError, match="12 source and 9 target"):
            on_fusion(name)(source, target)
        return
    loss, gradients = loss_and_gradients(name, source, target)
    assert loss.isfinite() and [len(each) for each in gradients] == [12, 9]
    assert all(each.any() for each in gradients)


BLIND_TO_OFFSETS = ("deep-coral", "log-coral", "homm centred")


@ALL
def test_descending_the_loss_repairs_a_planted_shift(name):
    """An offset, or a scale where the method cannot see an offset."""
    source, target = batch(samples=24, shift=0.0)
    there = source.outputs.embeddings[FUSION]
    blind = name in BLIND_TO_OFFSETS
    shifted = 2.5 * there if blind else there + 1.5
    values = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([values], lr=0.1, betas=(0.5, 0.9))
    for _ in range(50):
        repaired = shifted * values.exp() if blind else shifted + values
        here = with_embeddings(target, repaired)
        loss = on_fusion(name)(source, here)[FUSION]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    wanted = -math.log(2.5) if blind else -1.5
    assert values.detach().tolist() == pytest.approx([wanted] * 4, abs=0.15)


ORDERLESS = [name for name in ADAPTERS if name != "dan linear"]


@given(st.integers(0, 10_000), st.sampled_from(ORDERLESS))
@settings(deadline=None, max_examples=30)
def test_the_order_of_a_batch_does_not_matter(seed, name):
    source, target = batch(seed % 97)
    order = torch.as_tensor(np.random.default_rng(seed).permutation(12))
    outputs = Outputs(
        {b: v[order] for b, v in source.outputs.embeddings.items()},
        {b: v[order] for b, v in source.outputs.logits.items()},
    )
    other = Source(outputs, source.labels[order], source.domains)
    adapter = ADAPTERS[name]()
    torch.testing.assert_close(
        adapter(other, target), adapter(source, target), rtol=1e-4, atol=1e-6
    )
