"""Too little to normalise by: what is said, and whose scale serves instead."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import domainemo as de
from domainemo.adapters.none import SourceOnly
from domainemo.backbones.uf_ama import UFAMA
from domainemo.data.normalisation import check_enough, scales_of
from domainemo.errors import ConfigurationError, DataError, DomainemoWarning
from domainemo.runs.experiment import experiment
from domainemo.runs.folds import lay_out_folds
from domainemo.runs.model import Model
from domainemo.training.model import Network


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=3, trials=6).load()


def trained_by(data, method):
    torch.manual_seed(0)
    chosen = experiment(
        backbone="uf-ama",
        normalisation=method,
        options={"backbone.width": 8},
        device="cpu",
    )
    modalities = dict(data.inputs.modalities)
    model = Network(UFAMA(modalities, width=8), modalities, len(data.classes)).eval()
    source = np.flatnonzero(data.inputs.windows["subject"] != 2)
    raw = scales_of(data.inputs, source)
    scales = raw if method in ("source", "none") else {}
    return Model(model, SourceOnly(), chosen, modalities, data.classes, scales, raw)


@pytest.fixture(scope="module")
def trained(data):
    return trained_by(data, "session")


def of_subject(data, subject, windows=slice(None)):
    rows = np.flatnonzero(data.inputs.windows["subject"] == subject)[windows]
    return data.inputs.take(rows)


def rescaled(inputs, scales):
    """Scale value by value, as a network that saw nothing else was trained on."""
    signals = {
        name: (array - scales[name].mean) / scales[name].deviation
        for name, array in inputs.signals.items()
    }
    return replace(inputs, signals=signals)


def probabilities(table):
    return table[[name for name in table if name.startswith("p_")]].to_numpy()


@pytest.mark.parametrize("method", ["session", "subject"])
def test_one_window_says_nothing_of_itself(data, method):
    """Any two of them would be predicted alike."""
    trained = trained_by(data, method)
    for window in (0, 7):
        one = of_subject(data, 2, slice(window, window + 1))
        with pytest.raises(DataError, match=r"nothing is left of .*: 1 window.*--norm"):
            trained.predict(one)
    first = of_subject(data, 2, slice(0, 1))
    same = first.take(np.zeros(4, dtype=np.int64))
    windows = same.windows.assign(start=np.arange(4.0))
    with pytest.raises(DataError, match=r"nothing is left of .*: 4 windows"):
        trained.predict(replace(same, windows=windows))


def test_windows_are_told_apart_by_the_scale_of_the_source(data, trained):
    plain = trained_by(data, "none")
    found = []
    for window in (0, 7):
        one = of_subject(data, 2, slice(window, window + 1))
        table = trained.predict(one, "source")
        expected = plain.predict(rescaled(one, trained.raw_scales))
        np.testing.assert_allclose(
            probabilities(table), probabilities(expected), atol=1e-5
        )
        found.append(probabilities(table))
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_a_baseline_of_the_same_person_gives_the_scale(data, trained):
    plain = trained_by(data, "none")
    one = of_subject(data, 2, slice(7, 8))
    baseline = of_subject(data, 2, slice(20, 60))
    table = trained.predict(one, baseline)
    scales = scales_of(baseline, np.arange(len(baseline)))
    expected = plain.predict(rescaled(one, scales))
    np.testing.assert_allclose(probabilities(table), probabilities(expected), atol=1e-5)
    assert table["subject"].tolist() == [2]
    # Of several people each has their own.
    both = data.inputs.take(
        np.flatnonzero(np.isin(data.inputs.windows["subject"], [1, 2]))
    )
    two = data.inputs.take(np.flatnonzero(data.inputs.windows["subject"] == 1)[:1])
    again = trained.predict(two, both)
    expected = trained.predict(two, of_subject(data, 1))
    np.testing.assert_array_equal(probabilities(again), probabilities(expected))
    with pytest.raises(
        DataError, match=r"found the subjects 1; expected .* of 2 there"
    ):
        trained.predict(one, of_subject(data, 1))
    with pytest.raises(DataError, match="longer baseline"):
        trained.predict(one, one)


def test_the_default_is_as_in_training(data, trained):
    whole = of_subject(data, 2)
    np.testing.assert_array_equal(
        probabilities(trained.predict(whole)),
        probabilities(trained.predict(whole, "own")),
    )
    by_source = trained_by(data, "source")
    np.testing.assert_array_equal(
        probabilities(by_source.predict(whole)),
        probabilities(by_source.predict(whole, "source")),
    )


def test_choices_that_do_not_fit_are_refused(data, trained):
    one = of_subject(data, 2, slice(0, 8))
    with pytest.raises(ConfigurationError, match=r"not normalised; .* Leave out"):
        trained_by(data, "none").predict(one, "own")
    with pytest.raises(ConfigurationError, match="'sorce'; expected 'own', 'source'"):
        trained.predict(one, "sorce")
    with pytest.raises(ConfigurationError, match=r"does not hold .* earlier version"):
        replace(trained, raw_scales={}).predict(one, "source")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_windows_are_told_with_their_number(data, trained, count):
    few = of_subject(data, 2, slice(0, count))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained.predict(few)
    told = [f"{count} windows of eeg" in str(each.message) for each in caught]
    assert any(told) == (count <= 3)


def test_constant_values_are_told_with_their_number(data, trained):
    whole = of_subject(data, 2)
    eye = whole.signals["eye"].copy()
    eye[:, :2] = 4.2
    flat = replace(whole, signals={**whole.signals, "eye": eye})
    with pytest.warns(
        DomainemoWarning, match=r"2 of 33 values of eye \(.*, .*\)"
    ) as told:
        trained.predict(flat)
    for channel in whole.modalities["eye"].channels[:2]:
        assert channel in str(told[0].message)


def test_training_is_told_before_it_begins(data):
    """A session of one window is refused; one of three is said."""
    windows = data.inputs.windows
    chosen = experiment(backbone="uf-ama", device="cpu")

    def shortened(count):
        of_one = np.flatnonzero(windows["subject"] == 1)
        kept = np.sort(np.r_[np.flatnonzero(windows["subject"] != 1), of_one[:count]])
        return data.inputs.take(kept)

    with pytest.raises(DataError, match=r"subject 1, session 1: 1 window.*--exclude"):
        lay_out_folds(shortened(1), chosen)
    with pytest.warns(DomainemoWarning, match="subject 1, session 1: 3 windows of eeg"):
        lay_out_folds(shortened(3), chosen)
    lay_out_folds(shortened(4), chosen)
    lay_out_folds(shortened(1), experiment(normalisation="source", device="cpu"))


@pytest.mark.parametrize(
    ("method", "sessions", "others"),
    [
        ("session", 2, "subject or source"),
        ("session", 1, "source"),
        ("subject", 2, "source"),
    ],
)
def test_only_what_changes_something_is_advised(method, sessions, others):
    """Of a single session, a subject's windows are the session's."""
    data = de.Simulated(subjects=3, trials=6, sessions=sessions).load()
    windows = data.inputs.windows
    rows = [np.flatnonzero(windows["subject"] == each) for each in (1, 2, 3)]
    if sessions == 2 and method == "session":
        kept = windows["session"] == 2
        rows[0] = np.r_[rows[0][:3], rows[0][kept.iloc[rows[0]]]]
    else:
        rows[0] = rows[0][:3]
    few = data.inputs.take(np.concatenate(rows))
    chosen = experiment(backbone="uf-ama", normalisation=method, device="cpu")
    with pytest.warns(
        DomainemoWarning, match=rf"3 windows of eeg.*\(--normalisation {others}\)\.$"
    ):
        lay_out_folds(few, chosen)


class TwoSeen(de.Protocol):
    """Sees two windows of the first subject, and tests all others of theirs."""

    domain = "subject"

    def split(self, windows):
        first = (windows["subject"] == 1).to_numpy()
        theirs = np.flatnonzero(first)
        yield de.Fold("fold", np.flatnonzero(~first), theirs[:2], theirs[2:])


def test_what_is_held_out_does_not_count(data):
    """Of a group only what may be seen is enough or not."""
    chosen = experiment(protocol=TwoSeen(), normalisation="subject", device="cpu")
    with pytest.warns(DomainemoWarning, match="subject 1: 2 windows of eeg"):
        lay_out_folds(data.inputs, chosen)
    visible = np.ones(len(data.inputs), dtype=bool)
    rows = np.flatnonzero(data.inputs.windows["subject"] == 1)
    visible[rows[2:]] = False
    with pytest.warns(
        DomainemoWarning, match=r"subject 1: 2 windows of eeg; .* of eye"
    ):
        check_enough(data.inputs, "subject", [visible], remedy="")
