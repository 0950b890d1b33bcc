"""Self-training: losses by the book, thresholds, teachers and prototypes that move."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from domainemo.adapters.composite import Composite
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.entropies import entropy, variety
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import pairwise_similarity
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.self_training.bnm import BNM, nuclear_norm
from domainemo.adapters.self_training.consistency_under_augmentation import (
    ConsistencyUnderAugmentation,
    perturbed,
)
from domainemo.adapters.self_training.entropy_minimisation import EntropyMinimisation
from domainemo.adapters.self_training.information_maximisation import (
    InformationMaximisation,
)
from domainemo.adapters.self_training.mcc import MCC, class_confusion
from domainemo.adapters.self_training.mean_teacher import MeanTeacher, disagreement
from domainemo.adapters.self_training.pr_pl import (
    PRPL,
    class_means,
    confident_pairs,
    orthogonality,
    thresholds,
)
from domainemo.adapters.self_training.pseudo_labels import (
    PseudoLabels,
    class_thresholds,
)
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.screens.confidence import Screening
from domainemo.testing.batches import DOMAINS, WIDTHS, draw, outputs_of, source_of
from domainemo.training.augmentation import augmented
from domainemo.training.judge import Judge

torch.set_num_threads(1)
DOUBLE = torch.float64
BRANCHES = ("eeg", "eye", FUSION)
PER_BRANCH = (
    BNM,
    MCC,
    ConsistencyUnderAugmentation,
    EntropyMinimisation,
    InformationMaximisation,
    MeanTeacher,
    PseudoLabels,
)


def drawn(seed, n=9, classes=4, sharpness=2.0):
    """Return logits and weights of all sorts, a zero among them, in float64."""
    generator = np.random.default_rng(seed)
    logits = sharpness * generator.normal(size=(n, classes))
    weights = generator.uniform(0.2, 2.0, size=n)
    weights[2] = 0.0
    return torch.as_tensor(logits), torch.as_tensor(weights)


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def doubt(probabilities):
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def batch(seed=0, progress=0.5, **more):
    tensors = draw(BRANCHES, seed=seed)
    source, seen = source_of(tensors), outputs_of(tensors, "target")
    return source, Target(seen, progress, teacher=seen, **more)


def filled(seed=0, progress=0.5):
    """Return a batch with a judge and an augmented target, as in training."""
    source, target = batch(seed, progress)
    other, changed = (batch(seed + n)[1].outputs for n in (1, 2))
    return source, replace(target, judge=other, augmented=changed)


def made(cls, **options):
    torch.manual_seed(0)
    adapter = cls(**options)
    adapter.prepare(WIDTHS, 3, DOMAINS)
    return adapter


# ------------------------------------------------------------------ certain and varied


@pytest.mark.parametrize("seed", range(3))
def test_entropy_and_variety_equal_loops(seed):
    logits, weights = drawn(seed)
    rows = [softmax(row) for row in logits.tolist()]
    total = float(weights.sum())
    expected = sum(float(w) * doubt(p) for p, w in zip(rows, weights, strict=True))
    assert float(entropy(logits, weights)) == pytest.approx(expected / total)
    mean = [
        sum(float(w) * p[k] for p, w in zip(rows, weights, strict=True)) / total
        for k in range(4)
    ]
    assert float(variety(logits, weights)) == pytest.approx(doubt(mean))


def test_information_is_what_pytorch_adapt_and_our_validator_compute():
    layers = load("layers")
    _, target = batch(3)
    logits = target.outputs.logits[FUSION]
    expected = layers.EntropyLoss()(logits) + layers.DiversityLoss()(logits)
    adapter = InformationMaximisation(branches="fusion", schedule="constant")
    (found,) = adapter(*batch(3)).values()
    assert float(found) == pytest.approx(float(expected), abs=1e-5)
    from domainemo.validators.shared import information

    assert float(found) == pytest.approx(-information(target), abs=1e-6)
    half = InformationMaximisation(
        branches="fusion", schedule="constant", diversity=0.5
    )
    (found,) = half(*batch(3)).values()
    expected = layers.EntropyLoss()(logits) + 0.5 * layers.DiversityLoss()(logits)
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_class_confusion_equals_loops(seed):
    logits, weights = drawn(seed)
    rows = [softmax(row) for row in logits.tolist()]
    count = [
        float(w) * (1 + math.exp(-doubt(p))) for p, w in zip(rows, weights, strict=True)
    ]
    table = [
        [
            sum(u * p[j] * p[k] for p, u in zip(rows, count, strict=True))
            for k in range(4)
        ]
        for j in range(4)
    ]
    expected = sum(
        table[j][k] / sum(table[j]) for j in range(4) for k in range(4) if j != k
    )
    assert float(class_confusion(logits, weights)) == pytest.approx(expected / 4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_confusion_is_pytorch_adapts_with_its_gradient(temperature):
    logits, _ = drawn(4)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = class_confusion(ours / temperature, torch.ones(9, dtype=DOUBLE))
    expected = load("layers").MCCLoss(T=temperature)(theirs)
    assert float(found.detach()) == pytest.approx(float(expected.detach()))
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_class_without_mass_is_not_confused():
    """Where pytorch-adapt has no number at all."""
    logits = torch.tensor([[60.0, -60.0, 0.0], [60.0, -60.0, 59.0]])
    logits.requires_grad_()
    loss = class_confusion(logits, torch.ones(2))
    assert load("layers").MCCLoss()(logits).isnan()
    first = torch.tensor(logits.tolist(), dtype=DOUBLE)[:, [0, 2]]
    expected = class_confusion(first, torch.ones(2, dtype=DOUBLE)) * 2 / 3
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert logits.grad.isfinite().all() and logits.grad.any()


@pytest.mark.parametrize("n", [3, 9])
def test_nuclear_norm_is_the_sum_of_singular_values_with_its_gradient(n):
    matrix = drawn(5, n=n)[0].softmax(-1).requires_grad_()
    (found,) = torch.autograd.grad(nuclear_norm(matrix), matrix)
    values = np.linalg.svd(matrix.detach().numpy(), compute_uv=False)
    assert float(nuclear_norm(matrix).detach()) == pytest.approx(values.sum())
    (expected,) = torch.autograd.grad(torch.linalg.svdvals(matrix).sum(), matrix)
    torch.testing.assert_close(found, expected)
    numeric = torch.empty_like(matrix)
    for place in np.ndindex(*matrix.shape):
        step = torch.zeros_like(matrix)
        step[place] = 1e-6
        ends = [nuclear_norm(matrix.detach() + sign * step) for sign in (1, -1)]
        numeric[place] = (ends[0] - ends[1]) / 2e-6
    torch.testing.assert_close(found, numeric, atol=1e-6, rtol=1e-5)


def test_bnm_is_pytorch_adapts():
    (found,) = BNM(branches="fusion", schedule="constant")(*batch(6)).values()
    logits = batch(6)[1].outputs.logits[FUSION]
    assert float(found) == pytest.approx(float(load("layers").BNMLoss()(logits)))


@pytest.mark.parametrize(
    "matrix",
    [torch.eye(3), torch.ones(4, 3) / 3, torch.eye(3)[[0, 0, 1, 1]], torch.zeros(4, 3)],
    ids=["equal values", "one direction", "equal and zero", "nothing"],
)
def test_nuclear_norm_has_a_gradient_where_singular_values_are_equal(matrix):
    matrix = matrix.clone().requires_grad_()
    norm = nuclear_norm(matrix)
    norm.backward()
    assert float(norm.detach()) == pytest.approx(
        float(torch.linalg.svdvals(matrix.detach()).sum()), abs=1e-6
    )
    left, values, right = torch.linalg.svd(matrix.detach(), full_matrices=False)
    kept = values > 1e-6
    torch.testing.assert_close(matrix.grad, left[:, kept] @ right[kept])


def test_bnm_leaves_lost_samples_out():
    source, target = batch(7)
    there = torch.arange(12) % 3 > 0
    lost = replace(target.outputs, present={"eeg": there})
    (found,) = BNM(branches="eeg", schedule="constant")(
        source, replace(target, outputs=lost)
    ).values()
    rest = target.outputs.logits["eeg"][there].softmax(-1)
    expected = -np.linalg.svd(rest.numpy(), compute_uv=False).sum() / len(rest)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def descend(loss, values, steps=80, rate=0.2):
    """Return values after steps of Adam down a loss of them."""
    values = values.clone().requires_grad_()
    optimiser = torch.optim.Adam([values], rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(values).backward()
        optimiser.step()
    return values.detach()


def test_variety_keeps_classes_apart_that_entropy_alone_lets_go():
    """Twelve doubtful samples that lean towards one class, and some of them less."""
    logits = torch.tensor([[0.5, 0.3]] * 6 + [[0.5, 0.4]] * 6)
    weights = torch.ones(12)
    alone = descend(lambda x: entropy(x, weights), logits)
    assert (alone.argmax(-1) == 0).all() and float(entropy(alone, weights)) < 0.1
    losses = {
        "im": lambda x: entropy(x, weights) - variety(x, weights),
        "bnm": lambda x: -nuclear_norm(x.softmax(-1)) / 12,
    }
    for name, loss in losses.items():
        found = descend(loss, logits)
        assert float(entropy(found, weights)) < 0.1, name
        assert sorted(set(found.argmax(-1).tolist())) == [0, 1], name
    confused = descend(lambda x: class_confusion(x, weights), logits)
    assert float(class_confusion(confused, weights)) < 0.1


# ---------------------------------------------------------------------- pseudo-labels


def slow_thresholds(learned, threshold):
    most = max(*learned, 1 - sum(learned))
    found = []
    for share in learned:
        status = share / most
        found.append(threshold * status / (2 - status))
    return found


def test_thresholds_are_flexmatchs():
    learned = [0.3, 0.1, 0.0, 0.25]
    found = class_thresholds(torch.tensor(learned, dtype=DOUBLE), 0.95)
    assert found.tolist() == pytest.approx(slow_thresholds(learned, 0.95))
    # All are lenient before anything is learned, and the best learned is strict.
    assert class_thresholds(torch.zeros(3), 0.95).tolist() == [0, 0, 0]
    full = class_thresholds(torch.tensor([0.6, 0.3, 0.0]), 0.9)
    assert full[0] == pytest.approx(0.9) and full[0] > full[1] > full[2] == 0


@pytest.mark.parametrize("curriculum", [True, False])
def test_pseudo_labels_equal_loops_over_steps(curriculum):
    adapter = made(
        PseudoLabels,
        threshold=0.6,
        momentum=0.8,
        curriculum=curriculum,
        schedule="constant",
        branches=("eeg", "fusion"),
    ).double()
    learned = [0.0] * 3
    for seed in range(4):
        source, target = batch(seed)
        wide = {b: v.double() for b, v in target.outputs.logits.items()}
        taught = Outputs({}, wide, {"eeg": torch.arange(12) % 4 > 0})
        teacher = batch(seed + 10)[1].outputs.logits[FUSION].double()
        teacher = Outputs({}, {FUSION: teacher}, {FUSION: torch.arange(12) != 5})
        losses = adapter(source, replace(target, outputs=taught, teacher=teacher))
        limits = slow_thresholds(learned, 0.6) if curriculum else [0.6] * 3
        rows = [softmax(row) for row in teacher.logits[FUSION].tolist()]
        for branch in ("eeg", FUSION):
            total = mass = 0.0
            for i, row in enumerate(rows):
                label = row.index(max(row))
                lost = i == 5 or (branch == "eeg" and i % 4 == 0)
                if max(row) > limits[label] and not lost:
                    own = softmax(wide[branch][i].tolist())
                    total -= math.log(own[label])
                    mass += 1
            expected = total / mass / 2
            assert float(losses[branch]) == pytest.approx(expected), branch
        sure = [
            row.index(max(row))
            for i, row in enumerate(rows)
            if max(row) > 0.6 and i != 5
        ]
        learned = [
            0.8 * old + 0.2 * sure.count(c) / 11 for c, old in enumerate(learned)
        ]
        assert adapter.learned.tolist() == pytest.approx(learned)
    assert max(learned) > 0


def test_thresholds_move_in_training_alone_and_are_saved():
    adapter = made(PseudoLabels, threshold=0.5)
    adapter(*batch())
    learned = adapter.learned.clone()
    assert learned.any()
    adapter.eval()(*batch(1))
    assert torch.equal(adapter.learned, learned)
    other = made(PseudoLabels, threshold=0.5)
    other.load_state_dict(adapter.state_dict())
    assert torch.equal(other.learned, learned)


def test_labels_of_a_confident_teacher_carry_a_classifier_over_a_shift():
    """Two clusters moved aside: learning its own labels, a line follows them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    noise = 0.5 * torch.randn(60, 2, generator=generator)
    moved = centres[labels] + noise + torch.tensor([1.7, 0.0])
    line = nn.Linear(2, 2)
    line.load_state_dict(
        {"weight": torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), "bias": torch.zeros(2)}
    )
    adapter = PseudoLabels(threshold=0.9, schedule="constant", branches="fusion")
    adapter.prepare({FUSION: 2}, 2, 1)
    optimiser = torch.optim.Adam(line.parameters(), 0.02)
    before = float((line(moved).argmax(-1) == labels).float().mean())
    for _ in range(200):
        logits = line(moved)
        seen = Outputs({FUSION: moved}, {FUSION: logits})
        source = Source(seen, labels, labels)  # not looked at
        (loss,) = adapter(source, Target(seen, 0.5)).values()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = float((line(moved).argmax(-1) == labels).float().mean())
    assert before < 0.9 < 0.97 < after


# ----------------------------------------------------------------------- mean teacher


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_disagreement_equals_loops(threshold):
    source, target = filled(2)
    there = {"student": torch.arange(12) != 3, "teacher": torch.arange(12) != 4}
    outputs = replace(target.outputs, present={"eye": there["student"]})
    judge = replace(target.judge, present={"eye": there["teacher"]})
    adapter = MeanTeacher(
        weight=2.0, threshold=threshold, branches="eye", schedule="constant"
    )
    losses = adapter(source, replace(target, outputs=outputs, judge=judge))
    total = mass = 0.0
    for i in range(12):
        own, other = (
            softmax(each.logits["eye"][i].tolist()) for each in (outputs, judge)
        )
        if i not in (3, 4) and max(other) >= threshold:
            total += sum((p - q) ** 2 for p, q in zip(own, other, strict=True)) / 3
            mass += 1
    assert 0 < mass < 10 or threshold == 0
    assert float(losses["eye"]) == pytest.approx(2 * total / mass, rel=1e-5)


def test_a_network_agrees_with_nobody_before_the_teacher_and_then_follows_it():
    adapter = MeanTeacher(schedule="constant", branches="fusion")
    source, target = batch()
    assert adapter(source, target)[FUSION] == 0
    logits, opinion = target.outputs.logits[FUSION], filled()[1].judge.logits[FUSION]
    followed = descend(lambda x: disagreement(x, opinion, torch.ones(12)), logits)
    assert not torch.equal(logits.argmax(-1), opinion.argmax(-1))
    assert torch.equal(followed.argmax(-1), opinion.argmax(-1))


class Small(nn.Module):
    """A layer, running statistics, a count, and a mask that is infinite."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))

    def forward(self, signals, masks):
        return self.layers(signals)


def test_a_judge_with_momentum_is_the_moving_average_since_its_start():
    torch.manual_seed(0)
    model, judge = Small().double(), Judge(0.3, 0.9)
    expected = None
    for step in range(8):
        judge.step(model, step / 8)
        latest = copy.deepcopy(model.state_dict())
        if step == 3:
            expected = latest
        elif step > 3:
            expected = {
                name: 0.9 * expected[name] + 0.1 * value
                if value.is_floating_point()
                else value
                for name, value in latest.items()
            }
        assert (judge.model is None) == (step < 3)
        for weight in model.parameters():
            weight.data += torch.randn_like(weight)
        model(torch.randn(5, 3, dtype=DOUBLE), None)
    assert judge.model.mask.tolist() == [0.0, -math.inf]
    for name, value in judge.state().items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert judge.model.layers[1].num_batches_tracked == 7
    assert not judge.model.training
    assert not any(weight.requires_grad for weight in judge.model.parameters())


def test_a_judge_without_momentum_stays_and_one_of_zero_is_the_network():
    model, stays, follows = Small(), Judge(0.0), Judge(0.0, 0.0)
    first = copy.deepcopy(model.state_dict())
    for step in range(3):
        for weight in model.parameters():
            weight.data += 1.0
        if not step:
            model.load_state_dict(first)
        stays.step(model, step / 3)
        follows.step(model, step / 3)
    for name, value in model.state_dict().items():
        assert torch.equal(stays.state()[name], first[name])
        assert torch.equal(follows.state()[name], value)


@pytest.mark.parametrize(
    ("start", "momentum"), [(None, 0.9), (0.5, 1.0), (0.5, -0.1), (0.5, math.nan)]
)
def test_a_momentum_that_moves_no_judge_is_refused(start, momentum):
    with pytest.raises(ConfigurationError, match="expected a momentum from 0 to below"):
        Judge(start, momentum)


def test_joined_adapters_have_one_judge():
    teacher = MeanTeacher(judge_momentum=0.9, judged_from=0.4)
    alike = MeanTeacher(judge_momentum=0.9, judged_from=0.2)
    joined = Composite(terms={"a": teacher, "b": alike, "c": Marginal()})
    assert (joined.judge_momentum, joined.judged_from) == (0.9, 0.2)
    assert Composite(terms={"in": joined}).judge_momentum == 0.9
    assert Composite(terms={"c": Consistency()}).judge_momentum is None
    other = MeanTeacher(judge_momentum=0.8)
    with pytest.raises(ConfigurationError) as raised:
        Composite(terms={"a": teacher, "b": other, "c": Consistency()})
    assert (
        "'a' one that moves with momentum 0.9, the adapter 'b' one that moves with "
        "momentum 0.8, the adapter 'c' one that stays as it was" in str(raised.value)
    )
    with pytest.raises(ConfigurationError, match="the screen one that stays as it was"):
        Composite(terms={"a": teacher}, screen=Screening())
    # A screen that asks for no judge does not mind how it moves.
    Composite(terms={"a": teacher}, screen=Screening(judge="current"))


# ----------------------------------------------------------------------- augmentation


def test_consistency_under_augmentation_equals_loops():
    source, target = filled(3)
    changed = replace(target.augmented, present={"eye": torch.arange(12) != 1})
    adapter = ConsistencyUnderAugmentation(threshold=0.6, schedule="constant")
    losses = adapter(source, replace(target, augmented=changed))
    for branch, share in {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}.items():
        total = mass = 0.0
        for i in range(12):
            weak = softmax(target.teacher.logits[branch][i].tolist())
            strong = softmax(changed.logits[branch][i].tolist())
            if max(weak) >= 0.6 and not (branch == "eye" and i == 1):
                total -= math.log(strong[weak.index(max(weak))])
                mass += 1
        assert 0 < mass < 12
        assert float(losses[branch]) == pytest.approx(share * total / mass, rel=1e-5)


def test_consistency_asks_for_the_augmented_target():
    with pytest.raises(ConfigurationError, match="without `augmented`; expected what"):
        ConsistencyUnderAugmentation()(*batch())


def signals(samples=400, seed=0):
    """Return windows of unequal spread per channel and feature, and a mask."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([[1.0, 10.0], [0.1, 3.0], [5.0, 0.5]])
    values = spread * torch.randn(samples, 4, 3, 2, generator=generator) + 7.0
    mask = torch.ones(samples, 4, dtype=torch.bool)
    mask[:, 3] = False
    return values, mask, spread


def test_noise_is_relative_to_the_spread_of_what_was_recorded():
    values, mask, spread = signals()
    values[:, 3] = 1e6  # no signal: it must not count
    torch.manual_seed(0)
    changed = perturbed(values, mask, noise=0.3, channel_dropout=0, scaling=0)
    found = (changed - values)[:, :3].std((0, 1))
    torch.testing.assert_close(found, 0.3 * spread, rtol=0.1, atol=0)


def test_a_gain_is_of_a_sample_and_feature_and_channels_drop_whole():
    values, mask, _ = signals()
    torch.manual_seed(0)
    gain = perturbed(values, mask, noise=0, channel_dropout=0, scaling=0.5) / values
    torch.testing.assert_close(gain, gain[:, :1, :1].expand_as(gain))
    logs = gain[:, 0, 0].log()
    assert logs.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.1)
    assert abs(float(logs.mean())) < 0.1
    kept = perturbed(values, mask, noise=0, channel_dropout=0.9, scaling=0) / values
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    channels = kept[:, 0, :, 0]
    assert torch.equal(kept, channels[:, None, :, None].expand_as(kept))
    # 0.9 each, but where all three would be lost, which is 0.729, all three stay.
    assert float((channels == 0).float().mean()) == pytest.approx(0.9 - 0.729, abs=0.03)
    assert channels.any(-1).all()


def test_what_is_perturbed_by_nothing_is_the_same_and_seeds_repeat():
    values, mask, _ = signals(20)
    same = perturbed(values, mask, noise=0, channel_dropout=0, scaling=0)
    assert torch.equal(same, values)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(
            perturbed(values, mask, noise=0.1, channel_dropout=0.1, scaling=0.1)
        )
    assert torch.equal(*found) and not torch.equal(found[0], values)


class Shifts(Adapter):
    """Adds one to a signal, and says that a sensor is lost."""

    def forward(self, source, target):
        return {}

    def augment(self, signals, masks):
        lost = torch.zeros_like(masks["eye"])
        return {k: v + 1 for k, v in signals.items()}, {**masks, "eye": lost}


def recorded():
    values = {"eeg": torch.ones(2, 3, 4, 5), "eye": torch.ones(2, 3, 1, 2)}
    masks = {name: torch.ones(2, 3, dtype=torch.bool) for name in values}
    masks["eeg"][:, 2] = False
    return values, masks


def test_what_is_augmented_is_zero_where_there_is_no_signal():
    values, masks = recorded()
    changed, kept = augmented(Shifts(), (values, masks))
    assert (changed["eeg"][:, :2] == 2).all() and not changed["eeg"][:, 2].any()
    assert not changed["eye"].any() and not kept["eye"].any()
    assert torch.equal(kept["eeg"], masks["eeg"]) and masks["eye"].all()
    assert (values["eeg"] == 1).all()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda s, m: s, "a dict"),
        (lambda s, m: ({"eeg": s["eeg"]}, m), "a dict"),
        (lambda s, m: (s | {"eye": s["eye"][:1]}, m), "for 'eye'"),
        (lambda s, m: (s, m | {"eye": m["eye"].float()}), "for 'eye'"),
        (lambda s, m: (s | {"eye": s["eye"].double()}, m), "for 'eye'"),
    ],
)
def test_what_is_no_augmented_batch_is_refused(change, found):
    class Wrong(Shifts):
        def augment(self, signals, masks):
            return change(signals, masks)

    with pytest.raises(ConfigurationError) as raised:
        augmented(Wrong(), recorded())
    assert "augment" in str(raised.value) and found in str(raised.value)
    assert "two dicts of Tensors shaped as those handed over" in str(raised.value)


def test_one_of_joined_adapters_augments():
    assert Shifts().augments and not Marginal().augments
    plain = Composite(terms={"a": Marginal()})
    joined = Composite(terms={"a": Marginal(), "b": Shifts()})
    outer = Composite(terms={"in": joined, "none": plain})
    assert joined.augments and outer.augments and not plain.augments
    assert (outer.augment(*recorded())[0]["eeg"] == 2).all()
    with pytest.raises(ConfigurationError, match="'in' and 'b' all augment the target"):
        Composite(terms={"in": joined, "b": Shifts()})


# ------------------------------------------------------------------------------ pr-pl


@pytest.mark.parametrize("seed", range(3))
def test_confident_pairs_equal_loops(seed):
    logits, weights = drawn(seed, sharpness=3.0)
    rows = [softmax(row) for row in logits.tolist()]
    total = mass = 0.0
    for p, v in zip(rows, weights.tolist(), strict=True):
        for q, w in zip(rows, weights.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(p, q, strict=True))
            norms = math.sqrt(sum(a * a for a in p) * sum(b * b for b in q))
            similar = min(dot / norms, 1.0)
            if similar > 0.8:
                total -= v * w * math.log(similar + 1e-3)
            elif similar < 0.3:
                total -= v * w * math.log(1 - similar + 1e-3)
            mass += v * w * (similar > 0.8 or similar < 0.3)
    assert 0 < mass < float(weights.sum()) ** 2
    found = confident_pairs(logits, weights, 0.8, 0.3)
    assert float(found) == pytest.approx(total / mass)


def test_thresholds_approach_each_other_as_in_the_released_code():
    upper, lower, epochs = 0.9, 0.5, 20_000
    for epoch in range(epochs + 1):
        if epoch in (0, epochs // 2, epochs):
            assert thresholds(0.9, 0.5, epoch / epochs) == pytest.approx(
                (upper, lower), abs=1e-4
            )
        step = (upper - lower) / epochs
        upper, lower = upper - step, lower + step
    assert upper > lower
    with pytest.raises(
        ConfigurationError, match=r"lower 0.6 above upper 0.5; expected"
    ):
        PRPL(upper=0.5, lower=0.6)


def test_prototypes_equal_loops_over_steps():
    adapter = made(PRPL, momentum=0.7, rank=4)
    means, votes = {}, np.eye(3)
    for seed in range(4):
        source, target = batch(seed)
        labels = source.labels % (2 if seed == 0 else 3)  # one class comes later
        there = torch.arange(12) != seed
        outputs = replace(source.outputs, present={FUSION: there})
        losses = adapter(replace(source, outputs=outputs, labels=labels), target)
        losses = {name: float(loss.detach()) for name, loss in losses.items()}
        rows = outputs.embeddings[FUSION].numpy()
        for label in set(labels[there].tolist()):
            mean = rows[(labels == label).numpy() & there.numpy()].mean(0)
            old = means.get(label, mean)
            means[label] = 0.7 * old + 0.3 * mean
        prototypes = np.stack([means.get(label, 0 * rows[0]) for label in range(3)])
        np.testing.assert_allclose(adapter.prototypes, prototypes, atol=1e-6)
        left, right = adapter.left.detach().numpy(), adapter.right.detach().numpy()
        matches = rows @ left @ (prototypes @ right).T
        table = np.zeros((3, 3))
        for i in range(12):
            table[labels[i], matches[i].argmax()] += bool(there[i]) / 11
        votes = 0.7 * votes + 0.3 * table
        np.testing.assert_allclose(adapter.votes, votes, atol=1e-6)
        weights = there.double()
        expected = pairwise_similarity(torch.as_tensor(matches), labels, weights)
        assert losses["source"] == pytest.approx(float(expected), rel=1e-4)
        theirs = target.outputs.embeddings[FUSION].numpy() @ left
        theirs = torch.as_tensor(theirs @ (prototypes @ right).T, dtype=DOUBLE)
        high, low = 0.7 + 0.2 * math.exp(-1), 0.7 - 0.2 * math.exp(-1)
        expected = confident_pairs(theirs, torch.ones(12, dtype=DOUBLE), high, low)
        assert losses["target"] == pytest.approx(float(expected), rel=1e-3)
        gap = np.linalg.norm(prototypes.T @ prototypes - np.eye(8))
        assert losses["prototypes"] == pytest.approx(0.01 * gap, rel=1e-5)


def test_prototypes_predict_the_class_that_most_of_their_samples_have():
    """Pairs alone may match the samples of a class with another's prototype."""
    adapter = made(PRPL)
    outputs = batch()[1].outputs
    with torch.no_grad():
        adapter.prototypes.copy_(torch.randn(3, 8))
        matches = outputs.embeddings[FUSION] @ adapter.left
        matches = matches @ (adapter.prototypes @ adapter.right).mT
        own = adapter.predict(outputs)
        torch.testing.assert_close(own, matches.log_softmax(-1), atol=1e-5, rtol=1e-4)
        # The first two prototypes are matched by one class, the third by another.
        adapter.votes.copy_(
            torch.tensor([[0.1, 0.0, 0.3], [0.0, 0.1, 0.0], [0.4, 0.2, 0.1]])
        )
        found = adapter.predict(outputs).exp()
    shares = matches.softmax(-1)
    torch.testing.assert_close(found[:, 0], shares[:, 2])
    torch.testing.assert_close(found[:, 2], shares[:, 0] + shares[:, 1])
    assert (found[:, 1] < 1e-11).all()


def test_means_of_no_sample_are_zero_and_orthonormal_prototypes_are_at_no_distance():
    rows = torch.randn(5, 4)
    labels = torch.tensor([0, 0, 2, 2, 1])
    means, there = class_means(rows, labels, torch.tensor([1.0, 1, 1, 0, 0]), 3)
    torch.testing.assert_close(
        means, torch.stack([rows[:2].mean(0), 0 * rows[0], rows[2]])
    )
    assert there.tolist() == [1, 0, 1]
    square = torch.linalg.qr(torch.randn(4, 4, dtype=DOUBLE))[0].requires_grad_()
    distance = orthogonality(square)
    distance.backward()
    assert float(distance.detach()) < 1e-5 and square.grad.isfinite().all()


def test_pairs_alone_teach_prototypes_to_predict():
    """Three clusters around the origin, and a target that is moved aside a little."""
    torch.manual_seed(1)
    centres = 2.0 * torch.eye(4)[:3]
    labels = torch.arange(48) % 3
    adapter = PRPL(rank=4, momentum=0.5)
    adapter.prepare({FUSION: 4}, 3, 1)
    optimiser = torch.optim.Adam(adapter.parameters(), 0.02)

    def seen(shift):
        embedded = centres[labels] + 0.3 * torch.randn(48, 4) + shift
        return Outputs({FUSION: embedded}, {FUSION: torch.zeros(48, 3)})

    for step in range(150):
        source = Source(seen(0.0), labels, torch.zeros_like(labels))
        losses = adapter(source, Target(seen(0.3), step / 150))
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    predicted = adapter.eval().predict(seen(0.3)).argmax(-1)
    assert float((predicted == labels).float().mean()) > 0.95


# ------------------------------------------------------------------------ what is lost


@pytest.mark.parametrize("cls", PER_BRANCH)
def test_branches_are_chosen(cls):
    adapter = made(cls, schedule="constant")
    everywhere = adapter(*filled())
    assert set(everywhere) == set(BRANCHES)
    for branch in BRANCHES:
        alone = made(cls, branches=branch, schedule="constant")(*filled())
        assert set(alone) == {branch}
        share = 0.5 if branch == FUSION else 0.25
        torch.testing.assert_close(share * alone[branch], everywhere[branch])


@pytest.mark.parametrize("cls", PER_BRANCH)
def test_a_lost_sensor_says_nothing_and_learns_nothing(cls):
    source, target = filled()
    logits = {b: v.clone().requires_grad_() for b, v in target.outputs.logits.items()}
    gone = {"eye": torch.zeros(12, dtype=torch.bool)}
    outputs = replace(target.outputs, logits=logits, present=gone)
    changed = replace(target, outputs=outputs, augmented=outputs)
    losses = made(cls, branches="eye", schedule="constant")(source, changed)
    assert float(losses["eye"].detach()) == 0
    if losses["eye"].requires_grad:
        losses["eye"].backward()
        assert not logits["eye"].grad.any()


@pytest.mark.parametrize(
    "loss",
    [
        entropy,
        variety,
        class_confusion,
        lambda x, w: nuclear_norm(x.softmax(-1) * w.sqrt().unsqueeze(-1)),
        lambda x, w: disagreement(x, torch.zeros_like(x), w),
        lambda x, w: confident_pairs(x, w, 0.8, 0.3),
    ],
    ids=["entropy", "variety", "mcc", "bnm", "mean teacher", "pr-pl"],
)
def test_what_is_undefined_is_zero_and_never_not_a_number(loss):
    logits = 5 * torch.randn(6, 3)
    cases = {
        "no sample": (logits, torch.zeros(6)),
        "one sample": (logits[:1], torch.ones(1)),
        "equal samples": (logits[:1].expand(6, 3).clone(), torch.ones(6)),
        "equal logits": (torch.zeros(6, 3), torch.ones(6)),
        "far apart": (30 * logits, torch.ones(6)),
    }
    for name, (values, weights) in cases.items():
        values = values.clone().requires_grad_()
        found = loss(values, weights)
        found.backward()
        assert found.isfinite() and values.grad.isfinite().all(), name
        if name == "no sample":
            assert float(found.detach()) == 0 and not values.grad.any()


def test_the_gradient_of_a_whole_batch_does_not_depend_on_lost_rows():
    """What stands in a lost row has no meaning for any loss over the batch."""
    logits, _ = drawn(8)
    weights = torch.ones(9, dtype=DOUBLE)
    weights[3:5] = 0
    other = logits.clone()
    other[3:5] = torch.tensor([40.0, -40.0, 0.0, 9.0])
    for loss in (entropy, variety, class_confusion, confident):
        found = [loss(values, weights) for values in (logits, other)]
        torch.testing.assert_close(*found)


def confident(logits, weights):
    return confident_pairs(logits, weights, 0.8, 0.3)
