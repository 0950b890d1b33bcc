"""Networks that fool a score are caught by the guard, whichever it stands before."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import one_hot

from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.registry import entries, find
from domainemo.validators.comparing import comparison
from domainemo.validators.guarded import accuracy_floor, is_sound

CLASSES, SAMPLES, DIM = 3, 300, 4
MEMBERS = [each.name for each in entries("validator") if each.name != "guarded"]
LABELS = torch.arange(SAMPLES) % CLASSES


def side(seed, predict, confidence=4.0):
    """Clusters, one a class, and what a network makes of them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(SAMPLES, DIM, generator=generator).double()
    embeddings = 3 * torch.eye(CLASSES, DIM).double()[LABELS] + 0.5 * noise
    logits = confidence * one_hot(predict(LABELS, generator), CLASSES).double()
    logits += 0.3 * torch.randn(SAMPLES, CLASSES, generator=generator).double()
    return Outputs({FUSION: embeddings}, {FUSION: logits})


def right(labels, generator):
    """One in five is wrong."""
    wrong = torch.rand(len(labels), generator=generator) < 0.2
    return torch.where(wrong, (labels + 1) % CLASSES, labels)


def at_random(labels, generator):
    return torch.randint(CLASSES, labels.shape, generator=generator)


NETWORKS = {
    "constant": lambda labels, generator: torch.zeros_like(labels),
    "random but confident": at_random,
    "one class missing": lambda labels, generator: labels.clamp(max=CLASSES - 2),
    "permuted classes": lambda labels, generator: (labels + 1) % CLASSES,
}


def network(name, progress=0.5):
    """What validators are handed of a network, by its name."""
    predict, confidence = NETWORKS.get(name, right), 40.0 if name in NETWORKS else 4.0
    sides = [side(seed, predict, confidence) for seed in range(4)]
    source, held_out = (Source(each, LABELS, LABELS * 0) for each in sides[:2])
    return source, held_out, Target(sides[2], progress, mixed=sides[3])


def asked(validator, training, held_out, target):
    return (
        training if validator.needs_training else None,
        held_out if validator.held_out else None,
        target,
    )


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("adversary", NETWORKS)
def test_the_guard_catches_them_before_any_validator(member, adversary):
    guarded = find("validator", "guarded")(validator=member)
    # The adversary comes later, which is all that `last` looks at.
    given = [network("good"), network(adversary, progress=1.0)]
    found = [guarded.evidence(*asked(guarded, *each)) for each in given]
    good, bad = comparison(guarded, found)
    assert good - bad > 0.999


def test_some_validators_alone_are_fooled():
    """Else the guard would be for nothing."""
    fooled = {
        (name, adversary)
        for name in (
            "last",
            "entropy",
            "snd",
            "mano",
            "bnm",
            "information-maximisation",
        )
        for adversary in NETWORKS
        for validator in [find("validator", name)()]
        if validator(*asked(validator, *network(adversary, 1.0)))
        > validator(*asked(validator, *network("good")))
    }
    assert {
        ("snd", "constant"),
        ("entropy", "constant"),
        ("mano", "constant"),
    } <= fooled
    assert ("information-maximisation", "constant") not in fooled
    assert ("bnm", "constant") not in fooled
    for name in ("entropy", "mano", "bnm", "information-maximisation"):
        assert (name, "random but confident") in fooled
    assert len({each for each in fooled if each[0] == "last"}) == len(NETWORKS)


def test_what_is_sound_is_left_to_the_validator_behind_the_guard():
    guarded = find("validator", "guarded")(validator="bnm")
    bnm = find("validator", "bnm")()
    given = [network(f"good {seed}") for seed in range(3)]
    scores = [bnm(None, None, target) for *_, target in given]
    assert comparison(guarded, [[1.0, s] for s in scores]) == scores
    # Where nothing is sound, too: something must be chosen.
    assert comparison(guarded, [[0.0, s] for s in scores]) == scores


def test_whatever_is_unsound_stands_a_unit_below_all_that_is_sound(monkeypatch):
    """In its own order; what is sound keeps its score."""
    guarded = find("validator", "guarded")(validator="ensemble-agreement")
    (member,) = guarded.members
    monkeypatch.setattr(member, "compare", lambda found: [score for (score,) in found])
    found = [[1.0, 0.0], [1.0, 3.0], [0.0, 5.0], [0.0, 2.0]]
    assert comparison(guarded, found) == [0, 3, -1, -4]


def test_who_is_exactly_at_the_floor_is_not_above_it():
    """Three of four right in each of two classes, of which a guess is half right."""
    predicted = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    logits = one_hot(predicted, 2).double()
    labels = torch.tensor([0] * 4 + [1] * 4)
    source = Source(Outputs({}, {FUSION: logits}), labels, labels * 0)
    target = Target(Outputs({}, {FUSION: logits}), 1.0)
    # Half way to no error, where a standard error is sqrt(1/4 (1/4 + 1/4)) / 2.
    assert accuracy_floor(labels, 2, 9.0) == 0.75
    assert not is_sound(source, target, 9.0)
    assert is_sound(source, target, 2**0.5 - 1e-6)


def test_a_network_that_is_not_finite_is_never_taken():
    guarded = find("validator", "guarded")(validator="bnm")
    held_out, target = network("good")[1:]
    broken = Outputs(target.outputs.embeddings, {FUSION: torch.full((9, 3), math.nan)})
    found = [
        guarded.evidence(None, held_out, Target(broken, 1.0)),
        guarded.evidence(None, *network("constant")[1:]),
    ]
    assert comparison(guarded, found)[0] == -math.inf
    assert math.isfinite(comparison(guarded, found)[1])


def test_one_guess_in_fifty_passes_the_floor():
    """Two standard errors of a guess."""
    passed = 0
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(SAMPLES, CLASSES, generator=generator)
        source = Source(Outputs({}, {FUSION: logits}), LABELS, LABELS * 0)
        passed += is_sound(source, Target(Outputs({}, {FUSION: logits}), 1.0))
    assert 1 <= passed <= 20
    # Of few samples, it is no more than half way to no error at all.
    assert accuracy_floor(torch.tensor([0, 1, 2]), 3, 2.0) == pytest.approx(2 / 3)
    assert accuracy_floor(torch.tensor([], dtype=torch.int64), 3, 2.0) == 1 / 3
    # Of three classes two occur, of nine and of four samples.
    two = torch.tensor([0] * 9 + [1] * 4)
    expected = 1 / 3 + (2 / 9 * (1 / 9 + 1 / 4)) ** 0.5 / 2
    assert accuracy_floor(two, 3, 1.0) == pytest.approx(expected)
