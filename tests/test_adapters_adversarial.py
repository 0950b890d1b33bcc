"""Adversarial losses equal slow code, the papers' equations and pytorch-adapt's."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from domainemo.adapters.adversarial.afn import AdaptiveFeatureNorm, norm_step
from domainemo.adapters.adversarial.bsp import (
    BatchSpectralPenalisation,
    largest_spectrum,
)
from domainemo.adapters.adversarial.cdan import (
    CDAN,
    ConditionalDiscriminator,
    certainty,
    multilinear,
)
from domainemo.adapters.adversarial.dann import DANN
from domainemo.adapters.adversarial.discriminator import domain_loss
from domainemo.adapters.adversarial.domain_confusion import (
    DomainConfusion,
    confusion_loss,
)
from domainemo.adapters.adversarial.mcd import MCD, classifier_discrepancy
from domainemo.adapters.adversarial.mdd import MDD, margin_disparity
from domainemo.adapters.adversarial.reversal import reverse
from domainemo.adapters.branches import cross_entropy
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError

torch.set_num_threads(1)
DOUBLE = torch.float64
DIMS = {"eeg": 4, "eye": 5, FUSION: 6}
CLASSES = 3
EVERY = [
    (DANN, {}),
    (CDAN, {}),
    (CDAN, {"entropy": True}),
    (DomainConfusion, {}),
    (MCD, {}),
    (MDD, {}),
    (BatchSpectralPenalisation, {}),
    (AdaptiveFeatureNorm, {}),
]
NAMED = [f"{cls.__name__}{'-e' * bool(options)}" for cls, options in EVERY]
every = pytest.mark.parametrize(("cls", "options"), EVERY, ids=NAMED)


def batch(seed=0, samples=8, progress=0.4, lost=(), shift=0.5):
    """A source and a target in float64; of the branches `lost`, every third sample."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(width, scale):
        values = torch.randn(samples, width, generator=generator, dtype=DOUBLE)
        return scale * values

    def outputs(shift):
        return Outputs(
            {b: (drawn(w, 1) + shift).requires_grad_() for b, w in DIMS.items()},
            {b: drawn(CLASSES, 2).requires_grad_() for b in DIMS},
            {branch: torch.arange(samples) % 3 > 0 for branch in lost},
        )

    labels = torch.arange(samples) % CLASSES
    return Source(outputs(0.0), labels, labels * 0), Target(outputs(shift), progress)


def prepared(cls, seed=0, **options):
    torch.manual_seed(seed)
    adapter = cls(**options)
    adapter.prepare(DIMS, CLASSES, 2)
    return adapter.double()


def embeddings(source, target, branch=FUSION):
    return [each.outputs.embeddings[branch] for each in (source, target)]


def sigmoid(value):
    return 1 / (1 + math.exp(-value.item()))


def softmax(row):
    powers = [math.exp(value) for value in row.tolist()]
    return [power / sum(powers) for power in powers]


def weights_of(seed, n):
    weights = np.random.default_rng(seed).uniform(0.2, 2, size=n)
    weights[1] = 0
    return torch.as_tensor(weights)


def normal(seed, *shape):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def slow_mean(values, weights):
    total = sum(
        float(w) * float(value) for value, w in zip(values, weights, strict=True)
    )
    return total / sum(map(float, weights))


# ------------------------------------------------------------------- gradient reversal


def test_reversal_changes_the_gradient_alone():
    x = normal(0, 3, 2).requires_grad_()
    found = reverse(x, 0.7)
    assert torch.equal(found, x)
    (found.square() * torch.tensor([1.0, 3.0])).sum().backward()
    torch.testing.assert_close(x.grad, -0.7 * 2 * x.detach() * torch.tensor([1.0, 3.0]))


def test_reversal_is_that_of_pytorch_adapt():
    x = normal(1, 4, 3).requires_grad_()
    theirs = load("layers").GradientReversal(weight=0.3).double()
    (expected,) = torch.autograd.grad(theirs(x).sin().sum(), x)
    (found,) = torch.autograd.grad(reverse(x, 0.3).sin().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # theirs is float32


def test_reversal_vectorises_and_nests():
    x = normal(2, 3, 4, 5)
    expected = -0.7 * x.cos()

    def loss(x):
        return reverse(x, 0.7).sin().sum()

    vmap, grad = torch.func.vmap, torch.func.grad
    torch.testing.assert_close(vmap(grad(loss))(x), expected)
    torch.testing.assert_close(vmap(vmap(grad(loss)))(x), expected)
    torch.testing.assert_close(vmap(grad(loss), 1, 1)(x), expected)
    torch.testing.assert_close(grad(lambda x: vmap(loss)(x).sum())(x), expected)


def test_reversal_of_a_reversal_in_second_derivatives():
    x = torch.tensor(2.0, dtype=DOUBLE, requires_grad=True)
    (first,) = torch.autograd.grad(reverse(x, 0.5) ** 3, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    # -0.5 * 3 x², whose derivative passes through the reversal once more.
    assert first.item() == -6 and second.item() == 0.25 * 6 * 2


# --------------------------------------------------------------------- DANN


@pytest.mark.parametrize("seed", range(3))
def test_domain_loss_equals_a_loop(seed):
    source, target = normal(seed, 6), normal(seed + 10, 9)
    p, u = weights_of(seed, 6), weights_of(seed + 10, 9)
    expected = -0.5 * slow_mean([math.log(sigmoid(d)) for d in source], p)
    expected -= 0.5 * slow_mean([math.log(1 - sigmoid(d)) for d in target], u)
    assert domain_loss(source, target, p, u).item() == pytest.approx(expected)


def test_domain_loss_of_one_batch_is_torchs():
    source, target, ones = normal(0, 7), normal(1, 7), torch.ones(7, dtype=DOUBLE)
    expected = nn.functional.binary_cross_entropy_with_logits(
        torch.cat([source, target]), torch.cat([ones, 0 * ones])
    )
    torch.testing.assert_close(domain_loss(source, target, ones, ones), expected)
    nothing = domain_loss(0 * source, 0 * target, ones, ones)
    assert nothing.item() == pytest.approx(math.log(2))


def plain_discriminator(adapter, branch, features):
    """The discriminator's logits in NumPy, and its gradient by the features by hand."""
    layers = list(adapter.adversaries[branch])[::2]
    w = [each.weight.detach().numpy() for each in layers]
    b = [each.bias.detach().numpy() for each in layers]
    first = features @ w[0].T + b[0]
    second = first.clip(0) @ w[1].T + b[1]
    logits = (second.clip(0) @ w[2].T + b[2])[:, 0]
    slope = ((w[2] * (second > 0)) @ w[1] * (first > 0)) @ w[0]
    return logits, slope


@pytest.mark.parametrize("schedule", ["constant", "ramp", "delayed"])
def test_the_features_gradient_is_minus_lambda_times_the_discriminators(schedule):
    source, target = batch(lost=("eye",))
    adapter = prepared(DANN, weight=0.6, branches="all", schedule=schedule)
    losses = adapter(source, target)
    assert set(losses) == set(DIMS)
    ramps = {"constant": 1, "ramp": math.tanh(2), "delayed": math.tanh(0.5)}
    for branch, share in {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}.items():
        domains = embeddings(source, target, branch)
        found = torch.autograd.grad(losses[branch], domains, retain_graph=True)
        total = 0.0
        for domain, mine, kind in zip(domains, found, (1, 0), strict=True):
            rows = source.outputs.weight(branch).numpy()
            logits, slope = plain_discriminator(
                adapter, branch, domain.detach().numpy()
            )
            share_of_source = np.array([sigmoid(d) for d in logits])
            by_logit = 0.5 * rows / rows.sum() * (share_of_source - kind)
            strength = 0.6 * ramps[schedule] * share
            expected = -strength * by_logit[:, None] * slope
            np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-5, atol=1e-9)
            right = share_of_source if kind else 1 - share_of_source
            total -= 0.5 * slow_mean(np.log(right), rows)
        assert losses[branch].item() == pytest.approx(total)


ADVERSARIES = [(DANN, ""), (CDAN, ""), (MDD, ""), (DomainConfusion, "discriminator.")]


@pytest.mark.parametrize(("cls", "path"), ADVERSARIES)
def test_the_adversary_learns_in_full_from_the_first_step(cls, path):
    """What is scheduled and weighted is what the features do, not what it learns."""
    gradients = []
    for progress, weight in ((0.0, 1.0), (1.0, 1.0), (1.0, 0.1)):
        source, target = batch(progress=progress)
        adapter = prepared(cls, weight=weight)
        losses = adapter(source, target)
        parameters = list(adapter.parameters())
        gradients.append(
            torch.autograd.grad(losses[path + FUSION], parameters, retain_graph=True)
        )
        features = embeddings(source, target)
        pushed = torch.autograd.grad(sum(losses.values()), features)
        assert all(bool(each.any()) == (progress > 0) for each in pushed)
    for each in gradients[1:]:
        torch.testing.assert_close(each, gradients[0])
    assert any(each.any() for each in gradients[0])


# --------------------------------------------------------------------- CDAN


def test_multilinear_equals_a_loop():
    features, probabilities = normal(0, 4, 3), normal(1, 4, 2).softmax(-1)
    found = multilinear(features, probabilities)
    for n in range(4):
        expected = [float(f * g) for f in features[n] for g in probabilities[n]]
        assert found[n].tolist() == pytest.approx(expected)


def test_projections_are_those_of_pytorch_adapt_and_keep_products():
    torch.manual_seed(0)
    discriminator = ConditionalDiscriminator(1500, 3, width=4).double()
    assert discriminator.layers[0].in_features == 1024
    assert set(dict(discriminator.named_buffers())) == {"of_features", "of_classes"}
    seen = []
    discriminator.layers.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].detach())
    )
    features, probabilities = normal(0, 5, 1500), normal(1, 5, 3).softmax(-1)
    discriminator(features, probabilities)
    theirs = load("layers").RandomizedDotProduct([1500, 3], 1024)
    theirs.rand_mat0 = discriminator.of_features
    theirs.rand_mat1 = discriminator.of_classes
    torch.testing.assert_close(seen[0], theirs(features, probabilities))
    # Inner products are, in the mean, those of all 4500 products (Long et al.).
    same = (features @ features.T) * (probabilities @ probabilities.T)
    scale = same.diagonal().sqrt()
    error = (seen[0] @ seen[0].T - same) / torch.outer(scale, scale)
    assert error.abs().max() < 0.25 and error.square().mean().sqrt() < 0.1


def test_few_products_are_not_projected():
    discriminator = ConditionalDiscriminator(64, 4, width=4)
    assert discriminator.layers[0].in_features == 256
    assert not list(discriminator.buffers())


def test_certainty_is_that_of_pytorch_adapt():
    logits, ones = normal(3, 9, 4), torch.ones(9, dtype=DOUBLE)
    found = certainty(logits)
    for row, each in zip(logits, found, strict=True):
        entropy = -sum(p * math.log(p) for p in softmax(row))
        assert each.item() == pytest.approx(1 + math.exp(-entropy))
    theirs = load("layers").EntropyWeights()(logits)
    torch.testing.assert_close(found / (found @ ones), theirs)
    assert float(certainty(torch.zeros(4))) == pytest.approx(1.25)


@pytest.mark.parametrize("entropy", [False, True])
def test_cdan_equals_a_loop(entropy):
    source, target = batch(lost=("eye",))
    adapter = prepared(CDAN, branches="eye", entropy=entropy)
    expected = 0.0
    for domain, kind in ((source, 1), (target, 0)):
        outputs = domain.outputs
        losses, weights = [], []
        for f, logits, there in zip(
            outputs.embeddings["eye"],
            outputs.logits["eye"],
            outputs.present["eye"],
            strict=True,
        ):
            g = softmax(logits)
            seen = torch.tensor([a.item() * b for a in f for b in g], dtype=DOUBLE)
            d = adapter.adversaries["eye"].layers(seen)
            losses.append(-math.log(sigmoid(d) if kind else 1 - sigmoid(d)))
            doubt = -sum(p * math.log(p) for p in g)
            weights.append(there * ((1 + math.exp(-doubt)) if entropy else 1))
        expected += 0.5 * slow_mean(losses, weights)
    (found,) = adapter(source, target).values()
    assert found.item() == pytest.approx(expected)
    logits = [each.outputs.logits["eye"] for each in (source, target)]
    assert torch.autograd.grad(found, logits, allow_unused=True) == (None, None)


def test_cdan_tells_swapped_classes_apart_where_dann_cannot():
    """Features of either domain fall on the same places, their classes do not."""
    places = 2 * torch.eye(DIMS[FUSION], dtype=DOUBLE)[torch.arange(8) % 2]
    certain = 9 * torch.eye(CLASSES, dtype=DOUBLE)

    def domain(classes):
        return Outputs({FUSION: places}, {FUSION: certain[classes]})

    labels = torch.arange(8) % 2
    source = Source(domain(labels), labels, labels * 0)
    target = Target(domain(1 - labels), 0.5)
    reached = {}
    for cls in (DANN, CDAN):
        adapter = prepared(cls)
        optimizer = torch.optim.Adam(adapter.parameters(), 1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            (loss,) = adapter(source, target).values()
            loss.backward()
            optimizer.step()
        reached[cls] = loss.item()
    assert reached[DANN] == pytest.approx(math.log(2), abs=1e-3)
    assert reached[CDAN] < 0.05


# --------------------------------------------------------------------- domain confusion


def test_confusion_equals_a_loop_and_pytorch_adapt():
    source, target = normal(0, 6), normal(1, 8)
    p, u = weights_of(0, 6), weights_of(1, 8)
    expected = 0.0
    for logits, weights in ((source, p), (target, u)):
        each = [-(math.log(sigmoid(d)) + math.log(sigmoid(-d))) / 2 for d in logits]
        expected += 0.5 * slow_mean(each, weights)
    assert confusion_loss(source, target, p, u).item() == pytest.approx(expected)
    ones, target = torch.ones(6, dtype=DOUBLE), target[:6]
    both = torch.cat([source, target])
    theirs = load("layers").UniformDistributionLoss()(
        torch.stack([both, torch.zeros_like(both)], -1)
    )
    torch.testing.assert_close(confusion_loss(source, target, ones, ones), theirs)
    least = confusion_loss(0 * source, 0 * target, ones, ones)
    assert least.item() == pytest.approx(math.log(2))


def test_confusion_and_discrimination_learn_apart():
    source, target = batch()
    adapter = prepared(DomainConfusion)
    losses = adapter(source, target)
    assert set(losses) == {"discriminator.fusion", "confusion.fusion"}
    parameters, features = list(adapter.parameters()), embeddings(source, target)

    def moves(loss, wanted):
        found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
        return [each is not None and bool(each.any()) for each in found]

    assert any(moves(losses["discriminator.fusion"], parameters))
    assert not any(moves(losses["discriminator.fusion"], features))
    assert all(moves(losses["confusion.fusion"], features))
    assert not any(moves(losses["confusion.fusion"], parameters))
    expected = 0.0
    for each in features:
        logits, _ = plain_discriminator(adapter, FUSION, each.detach().numpy())
        uniform = [-math.log(sigmoid(d) * sigmoid(-d)) / 2 for d in logits]
        expected += math.tanh(2) * np.mean(uniform) / 2
    assert losses["confusion.fusion"].item() == pytest.approx(expected, rel=1e-6)


# --------------------------------------------------------------------- MCD


def test_classifier_discrepancy_equals_a_loop_and_pytorch_adapt():
    first, second, weights = normal(0, 7, 4), normal(1, 7, 4), weights_of(0, 7)
    each = [
        sum(abs(p - q) for p, q in zip(softmax(a), softmax(b), strict=True)) / 4
        for a, b in zip(first, second, strict=True)
    ]
    found = classifier_discrepancy(first, second, weights)
    assert found.item() == pytest.approx(slow_mean(each, weights))
    theirs = load("layers").MCDLoss()(first, second)
    ones = torch.ones(7, dtype=DOUBLE)
    torch.testing.assert_close(classifier_discrepancy(first, second, ones), theirs)


def test_mcd_heads_differ_and_features_make_them_agree():
    source, target = batch()
    adapter = prepared(MCD, weight=0.5)
    losses = adapter(source, target)
    features = target.outputs.embeddings[FUSION]
    free = features.detach().clone().requires_grad_()
    differ = classifier_discrepancy(
        *(head(free) for head in adapter.heads), torch.ones(8, dtype=DOUBLE)
    )
    assert losses["discrepancy"].item() == pytest.approx(-differ.item())
    parameters = list(adapter.parameters())
    expected = torch.autograd.grad(differ, [free, *parameters])
    found = torch.autograd.grad(losses["discrepancy"], [features, *parameters])
    # Descending, features lower the difference and heads raise it.
    torch.testing.assert_close(found[0], 0.5 * math.tanh(2) * expected[0])
    torch.testing.assert_close(found[1:], tuple(-each for each in expected[1:]))
    here = source.outputs.embeddings[FUSION]
    learned = sum(
        nn.functional.cross_entropy(head(here), source.labels) for head in adapter.heads
    )
    torch.testing.assert_close(losses["heads"], learned)


def test_mcd_predicts_the_mean_probability():
    source, _ = batch()
    adapter = prepared(MCD)
    features = source.outputs.embeddings[FUSION]
    expected = sum(head(features).softmax(-1) for head in adapter.heads) / 2
    found = adapter.predict(source.outputs)
    torch.testing.assert_close(found.exp(), expected)
    assert adapter.shapes_prediction


# --------------------------------------------------------------------- MDD


@pytest.mark.parametrize("seed", range(3))
def test_margin_disparity_equals_a_loop(seed):
    source, target = normal(seed, 6, 4), normal(seed + 10, 7, 4)
    p, u = weights_of(seed, 6), weights_of(seed + 10, 7)
    generator = np.random.default_rng(seed)
    here, there = (torch.as_tensor(generator.integers(4, size=n)) for n in (6, 7))
    agree = [-math.log(softmax(r)[y]) for r, y in zip(source, here, strict=True)]
    differ = [-math.log(1 - softmax(r)[y]) for r, y in zip(target, there, strict=True)]
    expected = 3 * slow_mean(agree, p) + slow_mean(differ, u)
    found = margin_disparity(source, target, here, there, p, u, gamma=3)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 4.0])
def test_on_equal_domains_the_margin_is_log_gamma(gamma):
    """There the best adversary gives the class gamma / (1 + gamma) (Zhang et al.)."""
    class_, ones = torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=DOUBLE)

    def slope(share):
        logit = torch.tensor([share / (1 - share)], dtype=DOUBLE).log().requires_grad_()
        row = torch.stack([logit, torch.zeros_like(logit)], -1)
        loss = margin_disparity(row, row, class_, class_, ones, ones, gamma=gamma)
        return torch.autograd.grad(loss, logit)[0].item()

    best = gamma / (1 + gamma)
    assert slope(best) == pytest.approx(0, abs=1e-12)
    assert slope(0.9 * best) < 0 < slope(1.1 * best)


def test_margin_disparity_of_certain_predictions_is_finite():
    far = torch.tensor([[120.0, 0.0, 0.0]], requires_grad=True)
    ones, class_ = torch.ones(1), torch.zeros(1, dtype=torch.long)
    loss = margin_disparity(far, far, class_, class_, ones, ones, gamma=4)
    loss.backward()
    assert loss.item() == pytest.approx(120 - math.log(2))
    # Of the one class, of the two others.
    assert far.grad.tolist() == [pytest.approx([1, -0.5, -0.5])]


def test_mdd_follows_the_branchs_own_classifier():
    source, target = batch(lost=("eye",))
    adapter = prepared(MDD, branches=("eye", FUSION), gamma=2.0)
    losses = adapter(source, target)
    assert set(losses) == {"eye", FUSION}
    for branch, found in losses.items():
        head, domains = adapter.adversaries[branch], (source.outputs, target.outputs)
        agree, differ = (
            [
                -math.log(p if domain is source.outputs else 1 - p)
                for row, logits in zip(
                    head(domain.embeddings[branch]), domain.logits[branch], strict=True
                )
                for p in [softmax(row)[int(logits.argmax())]]
            ]
            for domain in domains
        )
        weights = [domain.weight(branch) for domain in domains]
        expected = 2 * slow_mean(agree, weights[0]) + slow_mean(differ, weights[1])
        assert found.item() == pytest.approx(expected)


# --------------------------------------------------------------------- BSP, AFN


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (1, 3)])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_spectrum_is_that_of_pytorch_adapt(shape, k):
    features = normal(0, *shape).requires_grad_()
    ones = torch.ones(shape[0], dtype=DOUBLE)
    found = largest_spectrum(features, ones, k)
    theirs = load("layers").BatchSpectralLoss(k=k)(features)
    torch.testing.assert_close(found, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(found, features), torch.autograd.grad(theirs, features)
    )


def test_spectrum_counts_weights():
    features = normal(1, 5, 3)
    weights = torch.tensor([2.0, 0, 1, 1, 1], dtype=DOUBLE)
    rows = features[[0, 0, 2, 3, 4]].numpy()
    expected = np.linalg.svd(rows, compute_uv=False)[0] ** 2
    assert largest_spectrum(features, weights, 1).item() == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2])
def test_spectrum_where_singular_values_coincide(k):
    features = torch.eye(4, 3, dtype=DOUBLE).requires_grad_()
    found = largest_spectrum(features, torch.ones(4, dtype=DOUBLE), k)
    (gradient,) = torch.autograd.grad(found, features)
    assert found.item() == pytest.approx(k) and gradient.isfinite().all()
    # A descent all the same.
    stepped = largest_spectrum(features - 0.1 * gradient, torch.ones(4), 3)
    assert stepped < 3


def test_spectrum_shows_what_is_not_finite():
    features = torch.ones(4, 3)
    features[0, 0] = torch.nan
    assert largest_spectrum(features, torch.ones(4), 1).isnan()


def test_norm_step_is_that_of_pytorch_adapt():
    features, weights = normal(0, 6, 4).requires_grad_(), weights_of(0, 6)
    ones = torch.ones(6, dtype=DOUBLE)
    theirs = load("layers").AdaptiveFeatureNorm(step_size=0.5)(features)
    found = norm_step(features, ones, 0.5)
    torch.testing.assert_close(found, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(found, features), torch.autograd.grad(theirs, features)
    )
    (gradient,) = torch.autograd.grad(norm_step(features, weights, 0.5), features)
    for row, slope, weight in zip(features.detach(), gradient, weights, strict=True):
        expected = -2 * 0.5 * weight / weights.sum() * row / row.norm()
        torch.testing.assert_close(slope, expected)


def test_penalties_add_up_both_domains():
    source, target = batch(lost=("eye",))
    rows = [
        each.outputs.embeddings["eye"][each.outputs.present["eye"]].detach().numpy()
        for each in (source, target)
    ]
    squares = [np.linalg.svd(each, compute_uv=False)[:2] ** 2 for each in rows]
    adapter = prepared(BatchSpectralPenalisation, weight=0.1, branches="eye", k=2)
    expected = 0.1 * sum(each.sum() for each in squares)
    assert adapter(source, target)["eye"].item() == pytest.approx(expected)
    adapter = prepared(AdaptiveFeatureNorm, weight=0.1, step=0.5, branches="all")
    losses = adapter(source, target)
    shares = {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}
    for branch, share in shares.items():
        assert losses[branch].item() == pytest.approx(share * 0.1 * 2 * 0.5**2)


# --------------------------------------------------------------------- all of them


def everything(source, target):
    domains = (source.outputs, target.outputs)
    return [x[FUSION] for each in domains for x in (each.embeddings, each.logits)]


@every
@pytest.mark.parametrize("lost", ["source", "target", "both"])
def test_of_nothing_nothing_is_learned(cls, options, lost):
    source, target = batch()
    gone = {FUSION: torch.zeros(8, dtype=torch.bool)}
    if lost != "target":
        source = replace(source, outputs=replace(source.outputs, present=gone))
    if lost != "source":
        target = replace(target, outputs=replace(target.outputs, present=gone))
    adapter = prepared(cls, **options)
    losses = adapter(source, target)
    wanted = [*everything(source, target), *adapter.parameters()]
    gradients = torch.autograd.grad(sum(losses.values()), wanted, allow_unused=True)
    moved = [each is not None and bool(each.any()) for each in gradients]
    assert all(each is None or each.isfinite().all() for each in gradients)
    # Of what was lost, nothing; these three also learn of one domain alone.
    alone = cls in (MCD, BatchSpectralPenalisation, AdaptiveFeatureNorm)
    if lost == "both" or not alone:
        assert not any(moved) and not any(losses.values())
    else:
        rows = slice(0, 2) if lost == "source" else slice(2, 4)
        assert not any(moved[rows]) and any(moved)


@every
def test_samples_that_are_lost_do_not_count(cls, options):
    if cls is not MCD:
        options = {**options, "branches": "all"}
    adapter = prepared(cls, **options)
    branches = ("eye", FUSION)
    found = []
    for value in (0.0, 50.0):
        source, target = batch(lost=branches)
        with torch.no_grad():
            for domain in (source.outputs, target.outputs):
                for branch in branches:
                    rows = ~domain.present[branch]
                    domain.embeddings[branch][rows] = value
                    domain.logits[branch][rows] = torch.tensor([value, 0, 0]).double()
        found.append(adapter(source, target))
    torch.testing.assert_close(found[1], found[0])


@every
@pytest.mark.parametrize("case", ["one", "equal", "zero", "certain"])
def test_awkward_batches_are_finite(cls, options, case):
    source, target = batch(samples=1 if case == "one" else 6)
    with torch.no_grad():
        for outputs in (source.outputs, target.outputs):
            if case in ("equal", "zero"):
                outputs.embeddings[FUSION].fill_(float(case == "equal"))
            if case == "certain":
                outputs.logits[FUSION].mul_(1e3)
    adapter = prepared(cls, **options)
    losses = adapter(source, target)
    wanted = [*everything(source, target), *adapter.parameters()]
    gradients = torch.autograd.grad(sum(losses.values()), wanted, allow_unused=True)
    assert all(each.isfinite() for each in losses.values())
    assert all(each is None or each.isfinite().all() for each in gradients)


@every
def test_gradients_vectorise_over_folds(cls, options):
    adapter = prepared(cls, **options)
    folds = [batch(seed) for seed in range(3)]
    labels = folds[0][0].labels
    stacked = [
        torch.stack([everything(*fold)[number].detach() for fold in folds])
        for number in range(4)
    ]

    def total(here, logits, there, others):
        source = Source(Outputs({FUSION: here}, {FUSION: logits}), labels, labels * 0)
        target = Target(Outputs({FUSION: there}, {FUSION: others}), 0.4)
        return sum(adapter(source, target).values())

    gradient = torch.func.grad(total, argnums=(0, 2))
    found = torch.func.vmap(gradient)(*stacked)
    for number in range(3):
        expected = gradient(*(each[number] for each in stacked))
        torch.testing.assert_close(tuple(each[number] for each in found), expected)


@pytest.mark.parametrize("cls", [DANN, CDAN, DomainConfusion, MDD])
def test_an_adversary_per_branch_of_its_width(cls):
    named = {
        "fusion": {FUSION},
        "modalities": {"eeg", "eye"},
        "all": set(DIMS),
        ("eye", "fusion"): {"eye", FUSION},
    }
    source, target = batch()
    for branches, expected in named.items():
        adapter = prepared(cls, branches=branches, width=7)
        assert set(adapter.adversaries) == expected
        losses = adapter(source, target)
        assert {name.rpartition(".")[2] for name in losses} == expected
        widths = {p.shape[0] for n, p in adapter.named_parameters() if "bias" in n}
        assert 7 in widths and 128 not in widths
    with pytest.raises(ConfigurationError, match=r"no branch 'ear'.*'eeg'"):
        prepared(cls, branches="ear")


# ------------------------------------------------------------ a shift that was planted


def planted(seed):
    """Two classes along the first axis; the target lies elsewhere along both."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(64) % 2
    points = 0.8 * torch.randn(2, 64, 2, generator=generator)
    points[..., 0] += 4.0 * labels - 2
    points[1] += 1.2
    return points, labels


def trained_on_source():
    network = nn.ModuleDict({"embed": nn.Linear(2, 1), "head": nn.Linear(1, 2)})
    with torch.no_grad():
        network["embed"].weight.copy_(torch.tensor([[1.0, 0.0]]))
        network["head"].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        network["embed"].bias.zero_(), network["head"].bias.zero_()
    return network


@cache
def gap_after(cls, weight, steps=150):
    """The distance of the domains' means over the spread, and the accuracy."""
    points, labels = planted(seed=2)
    torch.manual_seed(2)
    network, adapter = trained_on_source(), cls(weight=weight, width=64)
    adapter.prepare({FUSION: 1}, 2, 1)
    parameters = [*network.parameters(), *adapter.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-2)

    def outputs(rows):
        embedding = network["embed"](rows)
        return Outputs({FUSION: embedding}, {FUSION: network["head"](embedding)})

    for step in range(steps):
        source = Source(outputs(points[0]), labels, labels * 0)
        target = Target(outputs(points[1]), step / steps)
        losses = adapter(source, target).values()
        logits = source.outputs.logits[FUSION]
        optimizer.zero_grad()
        (cross_entropy(logits, labels, torch.ones(64)) + sum(losses)).backward()
        optimizer.step()
    with torch.no_grad():
        here, there = (outputs(each).embeddings[FUSION] for each in points)
        told = adapter.predict(outputs(points[0])).argmax(-1)
    gap = (here.mean() - there.mean()).abs() / here.std()
    return float(gap), float((told == labels).float().mean())


@pytest.mark.parametrize("cls", [DANN, CDAN, DomainConfusion, MCD, MDD])
def test_a_planted_shift_is_reduced(cls):
    before, _ = gap_after(DANN, weight=0.0)
    after, right = gap_after(cls, weight=1.0)
    assert before > 0.6 and after < 0.75 * before
    assert right > 0.85
