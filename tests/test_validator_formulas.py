"""Every validator's value equals its formula, written again or by another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, balanced_accuracy_score
from sklearn.neighbors import KernelDensity

from domainemo.adapters.pytorch_adapt.library import load
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.training.mixing import mix
from domainemo.validators.class_ami import cluster_agreement
from domainemo.validators.comparing import comparison
from domainemo.validators.deep_embedded import domain_ratios
from domainemo.validators.joined import asked_once
from domainemo.validators.mixval import interpolation_consistency
from domainemo.validators.reverse_validation import taught_accuracy
from domainemo.validators.shared import sampled
from domainemo.validators.transfer_score import clustering_tendency

SAMPLES, CLASSES, DIM = 60, 3, 4


def outputs(seed, shift=0.0, samples=SAMPLES):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, DIM, generator=generator).double() + shift
    logits = 2 * torch.randn(samples, CLASSES, generator=generator).double()
    logits[:, 0] += drawn[:, 0]
    return Outputs({FUSION: drawn}, {FUSION: logits})


@pytest.fixture(scope="module")
def seen():
    """The source that trains, the held-out source and the target."""
    labels = torch.arange(SAMPLES) % CLASSES
    training, held_out = (
        Source(outputs(seed), labels, torch.zeros_like(labels)) for seed in (1, 2)
    )
    return training, held_out, Target(outputs(3, 0.5), 0.5)


def score(name, seen, **options):
    training, held_out, target = seen
    validator = find("validator", name)(**options)
    return validator(
        training if validator.needs_training else None,
        held_out if validator.held_out else None,
        target,
    )


def as_theirs(each):
    """A side as pytorch-adapt takes it."""
    logits = each.outputs.logits[FUSION]
    found = {
        "features": each.outputs.embeddings[FUSION],
        "logits": logits,
        "preds": logits.softmax(1),
    }
    return found | ({"labels": each.labels} if isinstance(each, Source) else {})


# ------------------------------------------------------------------- pytorch-adapt's


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("bnm", "BNMValidator"),
        ("entropy", "EntropyValidator"),
        ("diversity", "DiversityValidator"),
        ("snd", "SNDValidator"),
    ],
)
def test_a_look_at_the_target_is_that_of_pytorch_adapt(seen, name, theirs):
    expected = getattr(load("validators"), theirs)()(target_train=as_theirs(seen[2]))
    assert score(name, seen) == pytest.approx(expected, abs=1e-9)


def test_class_ami_has_as_many_clusters_as_classes_whatever_is_predicted():
    """Three pairs that lie apart, and two classes that are predicted of three."""
    embeddings = torch.tensor([[0.0], [0.1], [5.0], [5.1], [10.0], [10.1]])
    predicted = torch.tensor([0, 0, 0, 0, 1, 1])
    expected = adjusted_mutual_info_score(predicted, [0, 0, 1, 1, 2, 2])
    assert cluster_agreement(embeddings, predicted, 3) == pytest.approx(expected)
    # As many samples as classes are enough.
    few = embeddings[::2], torch.tensor([0, 1, 2])
    assert cluster_agreement(*few, 3) == pytest.approx(1)
    assert cluster_agreement(*few, 4) == 0


def test_class_ami_is_pytorch_adapts_from_the_same_start(seen):
    np.random.seed(0)  # noqa: NPY002  (theirs draws from the global state)
    theirs = load("validators").ClassClusterValidator()
    expected = theirs(target_train=as_theirs(seen[2]))
    assert score("class-ami", seen) == pytest.approx(expected, abs=1e-12)
    assert score("class-ami", seen) == score("class-ami", seen)


def test_mmd_is_pytorch_adapts_unbiased_estimate(seen):
    training, _, target = map(as_theirs, seen)
    theirs = load("validators").MMDValidator(mmd_kwargs={"mmd_type": "quadratic"})
    expected = theirs(src_train=training, target_train=target)
    assert score("mmd", seen) == pytest.approx(expected, abs=1e-9)


def test_nearest_source_is_pytorch_adapts(seen):
    _, held_out, target = map(as_theirs, seen)
    logits = seen[1].outputs.logits[FUSION].float()
    target = {k: v.float() for k, v in target.items()}
    held_out = {
        "preds": logits.softmax(1),
        "labels": held_out["labels"],
    }
    theirs = load("validators").NearestSourceValidator()
    expected = theirs(src_val=held_out, target_train=target)
    assert score("nearest-source", seen) == pytest.approx(expected, abs=1e-6)


# --------------------------------------------------------------- skada's, written anew


def test_importance_weighted_is_the_accuracy_by_skadas_weights(seen):
    held_out = seen[1]
    source, other = (each.outputs.embeddings[FUSION].numpy() for each in seen[1:])
    own, theirs = (KernelDensity().fit(each) for each in (source, other))
    weights = np.exp(theirs.score_samples(source) - own.score_samples(source))
    weights /= weights.sum()
    correct = held_out.outputs.logits[FUSION].argmax(1) == held_out.labels
    expected = float((weights * correct.numpy()).sum())
    assert score("importance-weighted", seen) == pytest.approx(expected, abs=1e-9)


def test_deep_embedded_is_the_controlled_risk_of_skada(seen):
    training, held_out, target = (e.outputs.embeddings[FUSION].numpy() for e in seen)
    fitted = LogisticRegression().fit(
        np.concatenate([training, target]), [1] * len(training) + [0] * len(target)
    )
    chances = fitted.predict_proba(held_out)
    weights = len(training) / len(target) * chances[:, 0] / chances[:, 1]
    predicted = seen[1].outputs.logits[FUSION].softmax(1).numpy()
    losses = np.array(
        [-math.log(p[y]) for p, y in zip(predicted, seen[1].labels, strict=True)]
    )
    weighted = weights * losses
    eta = -np.cov(weighted, weights)[0, 1] / np.var(weights, ddof=1)
    expected = -(weighted.mean() + eta * weights.mean() - eta)
    assert score("deep-embedded", seen) == pytest.approx(expected, abs=1e-6)


def test_where_domains_are_alike_a_point_is_as_likely_in_either():
    """However many samples there are of each."""
    alike = [torch.zeros(size, 2).double() for size in (3, 10, 5)]
    assert domain_ratios(*alike).tolist() == pytest.approx([1, 1, 1], rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_mano_is_skadas_by_either_normalisation(seen, scale):
    target = seen[2]
    logits = scale * target.outputs.logits[FUSION]
    rows = []
    shifted = (logits - logits.max(1, keepdim=True).values).numpy()
    softmax = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        confident = -np.log(softmax).mean() > 5
    assert confident == (scale > 1)
    for row in logits.numpy():
        taylor = 1 + row + row**2 / 2
        rows.append((taylor - taylor.min()) / (taylor - taylor.min()).sum())
    shares = softmax if confident else np.array(rows)
    expected = np.mean(shares**4) ** 0.25
    changed = Target(Outputs({}, {FUSION: logits}), 0.5)
    assert score("mano", (None, None, changed)) == pytest.approx(expected, abs=1e-12)


def test_reverse_validation_is_skadas_of_a_logistic_regression(seen):
    _, held_out, target = seen
    points, tested = (e.outputs.embeddings[FUSION].numpy() for e in (target, held_out))
    predicted = target.outputs.logits[FUSION].argmax(1).numpy()
    backward = LogisticRegression().fit(points, predicted)
    expected = balanced_accuracy_score(held_out.labels, backward.predict(tested))
    assert score("reverse-validation", seen) == pytest.approx(expected)
    same = Target(
        Outputs(target.outputs.embeddings, {FUSION: torch.eye(3)[[1] * 60]}), 1
    )
    assert score("reverse-validation", (None, held_out, same)) == pytest.approx(1 / 3)


def test_in_reverse_validation_a_rare_class_counts_as_much_as_a_frequent_one():
    points = torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]).double()
    tested = -torch.ones(4, 1).double()
    given = points, torch.tensor([0, 0, 1, 1]), tested, torch.tensor([0, 0, 0, 1]), 2
    assert float(taught_accuracy(*given)) == 0.5


def test_mixval_is_the_mean_of_the_consistency_within_and_across_classes():
    # Mixed with the one as far from the end: 0 with 5, 1 with 4, 2 with 3.
    predicted = torch.tensor([0, 1, 2, 2, 0, 0])
    mixed = torch.tensor([0, 1, 1, 2, 0, 1])
    within = [True, False, True, False]  # 0, 5 and 2, 3
    across = [True, True]  # 1, 4
    expected = (sum(within) / 4 + sum(across) / 2) / 2
    there = torch.ones(6, dtype=torch.bool)
    assert interpolation_consistency(predicted, mixed, there) == pytest.approx(expected)
    assert interpolation_consistency(predicted[:1], mixed[:1], there[:1]) == 1.0
    target = Target(
        Outputs({}, {FUSION: torch.eye(3)[predicted]}),
        0.5,
        mixed=Outputs({}, {FUSION: torch.eye(3)[mixed]}),
    )
    assert score("mixval", (None, None, target)) == pytest.approx(expected)


def test_mixing_leaves_out_what_either_lacks():
    first = torch.arange(8.0).view(2, 2, 1, 2)
    masks = torch.tensor([[True, True], [True, False]])
    signals, both = mix(
        ({"eeg": first}, {"eeg": masks}),
        ({"eeg": first.flip(0)}, {"eeg": masks.flip(0)}),
        0.75,
    )
    assert torch.equal(both["eeg"], torch.tensor([[True, False], [True, False]]))
    expected = 0.75 * first[0, 0] + 0.25 * first[1, 0]
    torch.testing.assert_close(signals["eeg"][0, 0], expected)
    assert not signals["eeg"][:, 1].any()


# ----------------------------------------------------------------------- of the papers


def test_the_tendency_to_cluster_is_a_half_at_random_and_near_one_in_clusters():
    generator = torch.Generator().manual_seed(0)
    even = torch.rand(1000, 2, generator=generator).double()
    assert float(clustering_tendency(even)) == pytest.approx(0.5, abs=0.1)
    centres = 100 * torch.tensor([[0.0, 0], [1, 0], [0, 1]]).double()
    tight = centres[torch.arange(1000) % 3] + even
    assert float(clustering_tendency(tight)) > 0.9
    assert float(clustering_tendency(even[:19])) == 0.0
    assert float(clustering_tendency(torch.ones(50, 2).double())) == 0.0


def test_the_transfer_score_adds_the_tendency_and_the_share_of_information(seen):
    target = seen[2]
    tendency = float(clustering_tendency(target.outputs.embeddings[FUSION]))
    share = score("information-maximisation", seen) / math.log(CLASSES)
    assert score("transfer-score", seen) == pytest.approx(tendency + share)


def test_ensemble_agreement_counts_who_predicts_with_the_mean_prediction():
    validator = find("validator", "ensemble-agreement")()
    targets = [Target(outputs(seed), 1.0) for seed in range(4)]
    found = [validator.evidence(None, None, each) for each in targets]
    shares = [each.outputs.logits[FUSION].softmax(1).numpy() for each in targets]
    ensemble = np.mean(shares, axis=0).argmax(1)
    expected = [(each.argmax(1) == ensemble).mean() for each in shares]
    assert comparison(validator, found) == pytest.approx(expected)
    assert comparison(validator, found[:1]) == [1.0]
    # A mean of probabilities, not a vote: the one that is sure outweighs two.
    doubtful, sure = [2.0, 0.45, 0.55], [2.0, 0.95, 0.05]
    assert comparison(validator, [doubtful, doubtful, sure]) == [0, 0, 1]
    broken = validator.evidence(
        None, None, Target(Outputs({}, {FUSION: torch.full((5, 3), math.nan)}), 1.0)
    )
    assert comparison(validator, [broken, *found])[1:] == pytest.approx(expected)
    assert comparison(validator, [broken, None]) == [-math.inf, -math.inf]


# ----------------------------------------------------------------------- combinations


def test_members_are_asked_once_of_the_same_network(monkeypatch):
    """Its score and its evidence need one answer; another network, another one."""
    validator = find("validator", "rank-average")(validators=("class-ami",))
    targets = [Target(outputs(seed), 1.0) for seed in (1, 2)]

    def told():
        return [
            (validator(None, None, each), validator.evidence(None, None, each))
            for each in targets
        ]

    apart = told()
    asked = []
    cls = find("validator", "class-ami")
    answer = cls.__call__
    monkeypatch.setattr(
        cls, "__call__", lambda *given: asked.append(given) or answer(*given)
    )
    with asked_once():
        assert told() == apart
    assert len(asked) == 2
    validator(None, None, targets[0])
    assert len(asked) == 3


def test_the_rank_average_ranks_each_score_and_averages(seen):
    validator = find("validator", "rank-average")()
    _, held_out, _ = seen
    found = []
    for seed in range(5):
        target = Target(outputs(10 + seed), 1.0)
        source = Source(outputs(20 + seed), held_out.labels, held_out.domains)
        found.append(validator.evidence(None, source, target))
        members = ("source", "reverse-validation", "class-ami")
        parts = [score(n, (None, source, target)) for n in members]
        assert found[-1] == parts
        assert validator(None, source, target) == pytest.approx(np.mean(parts))
    ranks = np.mean([rankdata(column) for column in zip(*found, strict=True)], axis=0)
    assert comparison(validator, found) == pytest.approx(list(ranks / 5))
    # What is no number is left out, and the others are ranked among themselves.
    with_broken = comparison(validator, [[math.nan, 1.0, 1.0], *found])
    assert with_broken == pytest.approx([-math.inf, *(ranks / 5)])


def test_the_weighted_sum_is_that(seen):
    expected = score("source", seen) + 0.5 * score("information-maximisation", seen)
    assert score("weighted-sum", seen) == pytest.approx(expected)
    options = {"validators": ("entropy", "mmd"), "weights": (2.0, 3.0)}
    expected = 2 * score("entropy", seen) + 3 * score("mmd", seen)
    assert score("weighted-sum", seen, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("weighted-sum", {"weights": (1.0,)}, "one for each"),
        ("weighted-sum", {"validators": (), "weights": ()}, "is empty"),
        ("rank-average", {"validators": ("guarded",)}, "score each by itself"),
        ("rank-average", {"validators": ("bmn",)}, "bnm"),
        ("guarded", {"validator": "guarded"}, "a guard before a guard"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(name, options, match):
    with pytest.raises(ConfigurationError, match=match):
        find("validator", name)(**options)


def test_a_combination_asks_for_what_its_members_ask_for():
    made = find("validator", "weighted-sum")(
        validators=("mmd", "mixval", "source"), weights=(1.0, 1.0, 1.0)
    )
    assert (made.needs_training, made.held_out, made.mixes) == (True, True, 0.55)
    alone = find("validator", "rank-average")(validators=("bnm", "entropy"))
    assert (alone.needs_training, alone.held_out, alone.mixes) == (False, False, None)
    assert find("validator", "weighted-sum")().sees_target
    blind = find("validator", "weighted-sum")(validators=("source",), weights=(1.0,))
    assert not blind.sees_target


def test_members_that_mix_by_several_shares_are_refused(monkeypatch):
    """Samples are mixed once, and some would be shown others than they ask for."""
    mixval = find("validator", "mixval")
    other = type("Other", (mixval,), {"mixes": 0.9, "__init__": lambda self: None})
    known = {"mixval": mixval, "other": other}
    monkeypatch.setattr(
        "domainemo.validators.joined.find", lambda kind, name: known[name]
    )
    with pytest.raises(ConfigurationError, match=r"keep 0\.55 and 0\.9 of themselves"):
        find("validator", "rank-average")(validators=("mixval", "other"))


# ------------------------------------------------------------------------------- cost


def test_samples_are_drawn_once_and_for_all():
    assert torch.equal(sampled(5, 10), torch.arange(5))
    first = sampled(5000, 100)
    assert torch.equal(first, sampled(5000, 100))
    assert len(first.unique()) == 100
    assert torch.equal(first, first.sort().values)
    assert float(first.double().mean()) == pytest.approx(2500, abs=3 * 1443 / 10)


@pytest.mark.parametrize("name", ["snd", "class-ami", "mmd", "importance-weighted"])
def test_a_sample_is_scored_as_that_sample_alone(seen, name):
    training, held_out, target = seen
    rows = sampled(SAMPLES, 20)

    def cut(each):
        its = each.outputs
        return Outputs(
            {FUSION: its.embeddings[FUSION][rows]}, {FUSION: its.logits[FUSION][rows]}
        )

    smaller = (
        Source(cut(training), training.labels[rows], training.domains[rows]),
        Source(cut(held_out), held_out.labels[rows], held_out.domains[rows]),
        Target(cut(target), 0.5),
    )
    assert score(name, seen, samples=20) == pytest.approx(score(name, smaller))
