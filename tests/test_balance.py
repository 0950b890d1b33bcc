"""Source batches that show every domain, or every class, alike."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fitted import fit
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.core import Inputs, Modality
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.windows import Windows
from domainemo.training import fit as fitting
from domainemo.training import loop
from domainemo.training.batches import LabelledSamples, epoch_batches, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.model import Network
from domainemo.training.seeds import reproducible
from domainemo.training.settings import Training

quick = settings(max_examples=40, deadline=None, database=None)
SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def draw(groups, target, batch_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(epoch_batches(len(groups), target, batch_size, generator, groups))


def grouped(sizes, seed=0):
    """Groups of some sizes, numbered with gaps and in no order."""
    numbers = np.repeat(3 * np.arange(len(sizes)) + 1, sizes)
    return torch.as_tensor(np.random.default_rng(seed).permutation(numbers))


# ---------------------------------------------------------------------------- epochs


@quick
@given(SIZES, st.integers(0, 30), st.integers(2, 20), st.integers(0, 99))
def test_every_batch_shows_every_group_alike(sizes, target, batch_size, seed):
    groups = grouped(sizes, seed)
    batches = draw(groups, target, batch_size, seed)
    size = min(batch_size, len(groups))
    assert len(batches) == len(groups) // size
    for here, there in batches:
        assert len(here) == size and len(there) == (size if target else 0)
        counts = Counter(groups[here].tolist())
        each = [counts[int(number)] for number in groups.unique()]
        assert max(each) - min(each) <= 1


@quick
@given(SIZES, st.integers(2, 20), st.integers(0, 99))
def test_within_a_group_samples_are_passed_evenly(sizes, batch_size, seed):
    groups = grouped(sizes, seed)
    shown = Counter(
        torch.cat([h for h, _ in draw(groups, 5, batch_size, seed)]).tolist()
    )
    for number in groups.unique():
        theirs = torch.nonzero(groups == number).flatten().tolist()
        counts = [shown[each] for each in theirs]
        assert max(counts) - min(counts) <= 1


def test_without_groups_nothing_has_changed():
    """The draws of a training that is not balanced, written down as they were."""
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    order, others = (torch.randperm(n, generator=again) for n in (10, 12))
    for step, (here, there) in enumerate(epoch_batches(10, 12, 4, generator)):
        assert torch.equal(here, order[4 * step : 4 * step + 4])
        assert torch.equal(there, others[4 * step : 4 * step + 4])


def test_places_within_a_batch_tell_nothing():
    """Every group stands at every place: of 300 epochs in about a third each."""
    groups = grouped([30, 10, 5])
    places = np.zeros((3, 6))
    for seed in range(300):
        here, _ = draw(groups, 5, 6, seed)[1]
        for place, number in enumerate(groups[here].tolist()):
            places[number // 3, place] += 1
    assert (abs(places / 300 - 1 / 3) < 5 * np.sqrt(2 / 9 / 300)).all()
    within = {tuple(groups[here].tolist()) for here, _ in draw(groups, 5, 6)}
    assert len(within) > 3  # of seven batches


def test_who_is_shown_once_more_in_a_batch_is_drawn():
    """Of three groups in a batch of four, each is the one in a third of the epochs."""
    groups, twice = grouped([4, 4, 4]), Counter()
    for seed in range(300):
        here, _ = draw(groups, 5, 4, seed)[0]
        ((number, _),) = Counter(groups[here].tolist()).most_common(1)
        twice[number] += 1
    shares = np.array([twice[int(each)] / 300 for each in groups.unique()])
    assert (abs(shares - 1 / 3) < 5 * np.sqrt(2 / 9 / 300)).all()


def test_balanced_epochs_differ_by_seed_and_repeat_with_it():
    groups = grouped([12, 12])
    orders = [torch.cat([h for h, _ in draw(groups, 5, 6, seed)]) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_more_groups_than_a_batch_holds_take_turns():
    groups = grouped([4] * 10)
    shown = [groups[here].tolist() for here, _ in draw(groups, 5, 5)]
    assert all(len(set(each)) == 5 for each in shown)
    assert all(
        set(a) | set(b) == set(groups.tolist()) for a, b in itertools.pairwise(shown)
    )


# -------------------------------------------------------------------------- trainings


@pytest.fixture(scope="module")
def recordings():
    """A large and a small domain; classes are as unequal, and otherwise divided."""
    import pandas as pd

    rng = np.random.default_rng(0)
    labels = torch.tensor([0] * 26 + [1] * 4 + [0] * 2 + [1] * 4)
    domains = torch.tensor([0] * 30 + [1] * 6)
    signals = rng.normal(size=(36, 4, 5)).astype(np.float32)
    windows = pd.DataFrame(
        {
            "subject": domains,
            "session": 1,
            "trial": range(36),
            "stimulus": 1,
            "start": 0,
        }
    )
    modality = Modality(("FZ", "CZ", "PZ", "OZ"), tuple("abcde"), "eeg")
    inputs = Inputs({"eeg": signals}, windows, {"eeg": modality})
    samples, _ = sample(inputs, np.arange(36), Windows(), torch.device("cpu"))
    return LabelledSamples(samples, labels, domains)


class Killed(Exception):
    pass


def train(source, *, checkpoint=None, kill_after=None, **settings):
    def report(row):
        if row["epoch"] == kill_after:
            raise Killed

    modality = Modality(("FZ", "CZ", "PZ", "OZ"), tuple("abcde"), "eeg")
    with reproducible(1):
        torch.manual_seed(0)
        network = R2GFANet({"eeg": modality}, width=8, heads=2)
        model = Network(network, {"eeg": modality}, 2)
        adapter = find("adapter", "group-dro")()
        adapter.prepare(model.dims, 2, 2)
        fitted = fit(
            model,
            adapter,
            source,
            source.samples,
            validator=find("validator", "last")(),
            held_out=None,
            training=Training(epochs=3, batch_size=8, **settings),
            seed=5,
            checkpoint=checkpoint and Checkpoint(checkpoint),
            report=report,
        )
    return {**model.state_dict(), **adapter.state_dict()}, fitted.history


@pytest.mark.parametrize("balance", ["none", "domains", "classes"])
def test_the_setting_reaches_the_batches(recordings, monkeypatch, balance):
    drawn, plain = [], fitting.epoch_batches

    def record(*arguments):
        for here, there in plain(*arguments):
            drawn.append(here)
            yield here, there

    monkeypatch.setattr(fitting, "epoch_batches", record)
    train(recordings, balance=balance)
    assert len(drawn) == 3 * 4
    groups = recordings.labels if balance == "classes" else recordings.domains
    shares = [float((groups[here] == 1).float().mean()) for here in drawn]
    assert (set(shares) == {0.5}) == (balance != "none")


@pytest.mark.parametrize("balance", ["domains", "classes"])
def test_a_resumed_training_ends_with_the_same_bits(
    recordings, tmp_path, monkeypatch, balance
):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole, history = train(recordings, balance=balance)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train(recordings, balance=balance, checkpoint=path, kill_after=2)
    found, again = train(recordings, balance=balance, checkpoint=path)
    assert history == again
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    plain, _ = train(recordings)
    assert not torch.equal(plain["log_shares"], whole["log_shares"])


@pytest.mark.parametrize("balance", ["none", "domains", "classes"])
def test_class_weights_even_out_what_the_batches_show(recordings, balance):
    """Over many epochs, the weights of both classes' samples come to the same sum."""
    training = Training(batch_size=8, balance=balance)
    # Three classes, of which the one in the middle is in no recording.
    recordings = replace(recordings, labels=2 * recordings.labels)
    groups = fitting._groups(recordings, training)
    model = torch.nn.Module()
    model.classes = 3
    weights = fitting._class_weights(model, recordings.labels, training, groups)
    assert weights.isfinite().all()
    sums = torch.zeros(3)
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        for here, _ in epoch_batches(36, 0, 8, generator, groups):
            labels = recordings.labels[here]
            sums.index_add_(0, labels, weights[labels])
    assert float(sums[0]) == pytest.approx(float(sums[2]), rel=0.03)
    # Of two classes out of three, each counts a third: as without balance.
    assert float(sums[0]) / (400 * 32) == pytest.approx(1 / 3, rel=0.03)


def test_an_unknown_balance_is_explained():
    with pytest.raises(ConfigurationError, match=r"balance is 'subjects'.*'domains'"):
        Training(balance="subjects")
