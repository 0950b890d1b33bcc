"""The six copies of a sample in pre-training, against their equations."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from domainemo.core import Backbone
from domainemo.training.batches import Samples
from domainemo.training.copies import COPIES, copied, copies_of
from domainemo.training.pairs import Random, Synchronous
from domainemo.training.pretrain import fit_pairs
from domainemo.training.settings import Training
from domainemo.training.synchrony import SynchronyContrast

RANGES = {0: (1.0, 1.0), 1: (0.7, 0.8), 2: (1.2, 1.3)}


def batch(seed=0):
    """Six samples of unlike length, copy by copy."""
    generator = torch.Generator().manual_seed(seed)
    shape = (COPIES, 3, 2, 4)
    values = 5 + 9 * torch.randn(shape, generator=generator, dtype=torch.float64)
    mask = torch.arange(3) < torch.tensor([3, 3, 2, 3, 1, 2])[:, None]
    share = torch.rand(COPIES, generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return values * mask[..., None, None], mask, torch.arange(COPIES), share, noise


def variance(numbers):
    mean = sum(numbers) / len(numbers)
    return sum((x - mean) ** 2 for x in numbers) / len(numbers)


def test_copies_equal_a_slow_loop():
    values, mask, copies, share, noise = batch()
    found = copied(values, mask, copies, share, noise)
    for i in range(COPIES):
        low, high = RANGES[i % 3]
        factor = low + float(share[i]) * (high - low)
        places = [
            (t, c, f)
            for t in range(3)
            if mask[i, t]
            for c in range(2)
            for f in range(4)
        ]
        scaled = [factor * float(values[i][place]) for place in places]
        drawn = [float(noise[i][place]) for place in places]
        gain = (10**-0.5 * variance(scaled) / variance(drawn)) ** 0.5 * (i > 2)
        for place, one, two in zip(places, scaled, drawn, strict=True):
            assert float(found[i][place]) == pytest.approx(one + gain * two, rel=1e-10)
        assert not found[i][~mask[i]].any()


def test_noise_is_five_decibels_below_the_signal():
    values, mask, copies, share, noise = batch()
    noisy = copied(values, mask, copies.clamp(min=3), share, noise)
    scaled = copied(values, mask, copies.clamp(min=3) - 3, share, noise)
    for i in range(COPIES):
        signal, added = scaled[i][mask[i]], (noisy - scaled)[i][mask[i]]
        ratio = signal.var(correction=0) / added.var(correction=0)
        assert 10 * ratio.log10().item() == pytest.approx(5.0)


def test_what_does_not_vary_gets_no_noise_and_nothing_is_undefined():
    values, mask, copies, share, noise = batch()
    values[3] = 2.0
    mask[4] = False
    found = copied(values * mask[..., None, None], mask, copies, share, noise)
    assert found.isfinite().all()
    assert torch.equal(found[3], values[3]) and not found[4].any()
    silent = copied(values, mask, copies, share, torch.zeros_like(noise))
    assert silent.isfinite().all()


def test_factors_and_noise_are_each_modality_s_own():
    values, mask, *_ = batch()
    torch.manual_seed(0)
    shown = {"eeg": values, "gsr": values}
    found = copies_of(shown, dict.fromkeys(shown, mask), torch.arange(COPIES))
    assert torch.equal(found["eeg"][0], values[0]) and torch.equal(
        found["gsr"][0], values[0]
    )
    for i in range(1, COPIES):
        assert not torch.equal(found["eeg"][i], found["gsr"][i])


# ---------------------------------------------------------------- in a pre-training


def moments(subjects=4, stimuli=3, times=2):
    rows = [
        (subject, stimulus, 4.0 * time)
        for subject in range(subjects)
        for stimulus in range(stimuli)
        for time in range(times)
    ]
    return pd.DataFrame(rows, columns=["subject", "stimulus", "start"])


def test_an_epoch_shows_every_moment_as_each_copy_with_other_groups():
    table = moments()
    pairing = Synchronous(table, augment=True)
    epoch = pairing.epoch(5, np.random.default_rng(0))
    seen, groups = Counter(), {}
    for step in epoch:
        assert 2 <= len(step.samples) <= 5
        for pair, copies in zip(step.samples, step.copies, strict=True):
            (copy,) = set(copies.ravel().tolist())
            rows = table.iloc[pair.ravel()]
            ((moment, _),) = rows.groupby(["stimulus", "start"])
            seen[moment, copy] += 1
            people = frozenset(rows["subject"])
            groups.setdefault((*moment, min(people)), set()).add(people)
    assert seen == {
        ((stimulus, 4.0 * time), copy): 2
        for stimulus in range(3)
        for time in range(2)
        for copy in range(COPIES)
    }
    assert any(len(each) > 1 for each in groups.values())
    assert all(b.copies is None for b in Synchronous(table).epoch(5, rng(0)))


def rng(seed):
    return np.random.default_rng(seed)


def test_random_pairs_may_be_of_two_copies():
    table = moments()
    ours = Synchronous(table, augment=True).epoch(5, rng(3))
    theirs = Random(table, augment=True).epoch(5, rng(3))
    assert [b.samples.shape for b in ours] == [b.samples.shape for b in theirs]
    assert all(b.samples.shape == b.copies.shape for b in theirs)
    drawn = Counter(
        place
        for b in theirs
        for place in zip(b.samples.ravel(), b.copies.ravel(), strict=True)
    )
    assert max(drawn.values()) == 1 and len(drawn) == 24 * COPIES
    mixed = [len(set(pair.ravel())) > 1 for b in theirs for pair in b.copies]
    assert 0.6 < np.mean(mixed) < 1.0


class Watching(Backbone):
    """Notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 2)
        self.shown = []

    def views(self, signals, masks):
        """Return one view."""
        self.shown.append(signals["eeg"].clone())
        return {"eeg": self.layer(signals["eeg"].flatten(1))}

    def forward(self, signals, masks):
        """Not called."""
        raise NotImplementedError


@pytest.mark.parametrize("augment", [False, True])
def test_the_network_is_shown_the_copies_and_by_default_none(augment):
    table, backbone = moments(), Watching()
    values = torch.randn(24, 2, 4)
    samples = Samples(
        {"eeg": values},
        {"eeg": torch.ones(24, dtype=torch.bool)},
        torch.arange(24)[:, None],
        torch.zeros(24, dtype=torch.long),
    )
    fit_pairs(
        backbone,
        SynchronyContrast({"eeg": 2}, projection=(4,)),
        samples,
        Synchronous(table, augment=augment),
        training=Training(epochs=1, batch_size=6),
        seed=0,
    )
    shown = torch.cat(backbone.shown).flatten(1)
    assert len(shown) == 24 * (COPIES if augment else 1)
    # How much of a recorded window each is: exactly one multiple, where noise is none.
    flat = values.flatten(1)
    shares = (shown @ flat.T) / flat.square().sum(1)
    residues = (shown[:, None] - shares[..., None] * flat).square().sum(-1)
    factors = shares.gather(1, residues.argmin(1, keepdim=True)).squeeze(1)
    clean = residues.min(1).values < 1e-8
    counts = [
        int((clean & (factors >= low - 1e-4) & (factors <= high + 1e-4)).sum())
        for low, high in RANGES.values()
    ]
    assert counts == ([24, 24, 24] if augment else [24, 0, 0])
    assert int((~clean).sum()) == (72 if augment else 0)
