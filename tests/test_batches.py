"""Samples as tensors, and the batches drawn from them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import Inputs, Modality, Sequences, Trials, Windows
from domainemo.training.batches import (
    Samples,
    epoch_batches,
    majority_label,
    sample,
    sample_labelled,
)

quick = settings(max_examples=25, deadline=None, database=None)
CPU = torch.device("cpu")


def recordings(lost=(2, 7)):
    """Trials of 3, 5 and 2 windows in shuffled rows; the eye tracker lost some."""
    rng = np.random.default_rng(0)
    windows = pd.DataFrame(
        [(1, 1, t, t, float(s)) for t, n in ((1, 3), (2, 5), (3, 2)) for s in range(n)],
        columns=["subject", "session", "trial", "stimulus", "start"],
    )
    windows = windows.sample(frac=1, random_state=0).reset_index(drop=True)
    eeg = rng.normal(size=(10, 2, 3)).astype(np.float32)
    eye = rng.normal(size=(10, 4, 1)).astype(np.float32)
    eye[list(lost)] = np.nan
    modalities = {
        "eeg": Modality(("FZ", "CZ"), ("a", "b", "c"), "eeg"),
        "eye": Modality(("p", "q", "r", "s"), ("v",), "eye"),
    }
    return Inputs({"eeg": eeg, "eye": eye}, windows, modalities)


def draw(source, target, batch_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return list(epoch_batches(source, target, batch_size, generator))


# ---------------------------------------------------------------------------- epochs


@quick
@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 20), st.integers(0, 99))
def test_an_epoch_passes_the_source_once(source, target, batch_size, seed):
    batches = draw(source, target, batch_size, seed)
    size = min(batch_size, source)
    assert len(batches) == source // size
    assert all(len(here) == len(there) == size for here, there in batches)
    numbers = torch.cat([here for here, _ in batches]).tolist()
    assert len(set(numbers)) == len(numbers)  # none twice
    assert set(numbers) <= set(range(source))
    assert source - len(numbers) < size  # only an incomplete batch is left out


@quick
@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 20), st.integers(0, 99))
def test_the_target_is_covered_evenly(source, target, batch_size, seed):
    numbers = torch.cat([there for _, there in draw(source, target, batch_size, seed)])
    counts = Counter(numbers.tolist())
    assert set(counts) <= set(range(target))
    every = [counts[number] for number in range(target)]
    assert max(every) - min(every) <= 1


def test_epochs_differ_by_seed_and_repeat_with_it():
    one, same, other = draw(20, 15, 4, 1), draw(20, 15, 4, 1), draw(20, 15, 4, 2)
    for first, second in zip(one, same, strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_every_pass_has_an_order_of_its_own():
    others = torch.cat([there for _, there in draw(40, 10, 10)]).view(4, 10)
    assert len({tuple(each.tolist()) for each in others}) == 4


def test_every_source_sample_is_left_out_now_and_then_only():
    """Ten samples in batches of four: each is used in 80 % of the epochs."""
    used = Counter()
    epochs = 400
    for seed in range(epochs):
        for here, _ in draw(10, 3, 4, seed):
            used.update(here.tolist())
    shares = np.array([used[number] / epochs for number in range(10)])
    # Five standard deviations of a share of 0.8 in 400 draws.
    assert (abs(shares - 0.8) < 5 * np.sqrt(0.8 * 0.2 / epochs)).all()


# ------------------------------------------------------------------------- majority


@quick
@given(st.data())
def test_majority_label_against_a_loop(data):
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12)))
    member = st.integers(-1, len(labels) - 1)
    members = np.array(
        data.draw(
            st.lists(
                st.lists(member, min_size=3, max_size=3).filter(lambda r: max(r) >= 0),
                min_size=1,
                max_size=8,
            )
        )
    )
    expected = []
    for row in members:
        counts = Counter(int(labels[i]) for i in row if i >= 0)
        most = max(counts.values())
        expected.append(min(label for label, n in counts.items() if n == most))
    assert majority_label(members, labels).tolist() == expected


def test_majority_label_reads_only_the_members_labels():
    """Other windows' labels may be withheld (-1), as in a training job."""
    labels = np.array([-1, 2, -1, 1])
    assert majority_label(np.array([[1, -1], [3, 3]]), labels).tolist() == [2, 1]


# -------------------------------------------------------------------------- samples


@pytest.mark.parametrize(
    "sampling", [Windows(), Sequences(length=2), Sequences(length=4), Trials()]
)
@pytest.mark.parametrize("rows", [range(10), [9, 3, 4, 0, 7, 2, 8]])
def test_batches_hold_the_windows_that_members_names(sampling, rows):
    inputs = recordings()
    rows = np.array(list(rows))
    samples, members = sample(inputs, rows, sampling, CPU)
    assert set(members[members >= 0]) <= set(rows.tolist())
    index = torch.arange(len(samples))
    signals, masks = samples.batch(index)
    for name, array in inputs.signals.items():
        assert signals[name].dtype == torch.float32
        for i, row in enumerate(members):
            for t, window in enumerate(row):
                real = window >= 0 and np.isfinite(array[window]).all()
                assert bool(masks[name][i, t]) == real
                expected = array[window] if real else np.zeros_like(array[0])
                np.testing.assert_array_equal(signals[name][i, t].numpy(), expected)


def test_a_batch_follows_its_index():
    samples, _ = sample(recordings(), np.arange(10), Sequences(length=2), CPU)
    everything, masks = samples.batch(torch.arange(len(samples)))
    index = torch.tensor([3, 0, 3])
    some, some_masks = samples.batch(index)
    for name in everything:
        assert torch.equal(some[name], everything[name][index])
        assert torch.equal(some_masks[name], masks[name][index])


def test_batches_are_exactly_zero_where_masked():
    samples, members = sample(recordings(), np.arange(10), Trials(), CPU)
    signals, masks = samples.batch(torch.arange(len(samples)))
    assert (members < 0).any()
    for name, values in signals.items():
        assert (~masks[name]).any()
        assert (values[~masks[name]] == 0).all()
        assert (values[masks[name]] != 0).any(dim=-1).any(dim=-1).all()


def test_who_shares_a_trial_is_told_wherever_a_sample_is_padded():
    samples, members = sample(recordings(), np.arange(10), Sequences(length=4), CPU)
    trials = recordings().windows["trial"].to_numpy()
    own = [trials[row[row >= 0][0]] for row in members]
    expected = [own.index(trial) for trial in own]
    assert (members < 0).any() and len(set(expected)) < len(expected)
    for rows in (samples.rows, samples.rows.flip(1)):
        found = replace(samples, rows=rows).same_trial(torch.arange(len(samples)))
        assert found.tolist() == expected


def test_a_padded_sample_has_the_domain_of_its_windows():
    inputs = recordings()
    domains = inputs.windows["trial"].to_numpy() + 3
    given = inputs, np.arange(10), np.zeros(10, np.int64), domains
    found = sample_labelled(*given, Sequences(length=4), CPU)
    members = found.samples.rows
    assert (members < 0).any()
    expected = [domains[row[row >= 0][-1]] for row in members.numpy()]
    assert found.domains.tolist() == expected


def test_members_of_a_part_stay_within_it():
    """A trial that is divided in time is sampled on each side by itself."""
    inputs = recordings()
    trial = inputs.windows["trial"] == 2
    early = np.flatnonzero(trial & (inputs.windows["start"] < 3))
    _, members = sample(inputs, early, Trials(), CPU)
    assert sorted(members[members >= 0]) == sorted(early)


def test_a_lost_window_hides_one_modality_only():
    inputs = recordings(lost=(2,))
    samples, members = sample(inputs, np.arange(10), Windows(), CPU)
    assert isinstance(samples, Samples)
    assert not samples.present["eye"][2]
    assert samples.present["eye"].sum() == 9
    assert samples.present["eeg"].all()
    assert members[:, 0].tolist() == list(range(10))
