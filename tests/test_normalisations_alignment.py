"""Euclidean alignment, whitening and Riemannian re-centring, against plain NumPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import domainemo as de
from domainemo import DataError, Inputs, Modality
from domainemo.data.normalisation import normalise
from domainemo.normalisations.euclidean import EuclideanAlignment
from domainemo.normalisations.riemannian import Riemannian, riemannian_mean
from domainemo.normalisations.whitening import Whitening, decorrelation
from domainemo.testing import check

NAMES = ("euclidean-alignment", "whitening", "riemannian")


def windows_of(seed=0, windows=400, channels=4, features=3):
    """Correlated values of unlike size, with means of their own."""
    rng = np.random.default_rng(seed)
    values = channels * features
    mixing = rng.normal(size=(values, values)) / 2 + 3 * np.eye(values)
    drawn = rng.normal(size=(windows, values)) @ mixing
    drawn = drawn * np.geomspace(0.01, 100, values) + rng.normal(0, 50, values)
    return drawn.reshape(windows, channels, features).astype(np.float32)


def z_scores(values):
    values = values.astype(np.float64)
    return (values - values.mean(0)) / values.std(0)


def shrunk(covariance, samples):
    """Ledoit and Wolf's estimate, from their Lemmas 3.2 to 3.5."""
    size = len(covariance)
    mean = np.trace(covariance) / size
    spread = ((covariance - mean * np.eye(size)) ** 2).sum() / size
    apart = sum(((np.outer(x, x) - covariance) ** 2).sum() for x in samples)
    share = min(apart / size / len(samples) ** 2, spread) / spread
    return (1 - share) * covariance + share * mean * np.eye(size)


def applied(method, seen, values=None):
    learned = {k: np.asarray(v, np.float32) for k, v in method.fit(seen).items()}
    return method.apply(seen if values is None else values, learned)


# ---------------------------------------------------------------- Euclidean alignment


def test_euclidean_alignment_is_its_formula():
    seen = windows_of(windows=40)
    scores = z_scores(seen)
    reference = sum(x @ x.T for x in scores) / (40 * 3)
    columns = [x[:, k] for x in scores for k in range(3)]
    root = linalg.inv(linalg.sqrtm(shrunk(reference, columns)))
    expected = np.stack([root @ x for x in scores])
    np.testing.assert_allclose(
        applied(EuclideanAlignment(), seen), expected, rtol=1e-4, atol=1e-4
    )


def test_the_mean_covariance_of_aligned_channels_is_the_identity():
    """But for the shrinkage, which many windows need little of."""
    found = applied(EuclideanAlignment(), windows_of(windows=4000)).astype(np.float64)
    mean = np.mean([x @ x.T / 3 for x in found], 0)
    np.testing.assert_allclose(mean, np.eye(4), atol=0.02)


# -------------------------------------------------------------------------- whitening


def test_whitening_is_its_formula():
    seen = windows_of(windows=60)
    rows = z_scores(seen).reshape(60, -1)
    root = linalg.inv(linalg.sqrtm(shrunk(rows.T @ rows / 60, rows)))
    expected = (rows @ root.real).reshape(seen.shape)
    np.testing.assert_allclose(
        applied(Whitening(), seen), expected, rtol=1e-3, atol=1e-3
    )


def test_the_covariance_of_whitened_values_is_the_identity():
    found = applied(Whitening(), windows_of(windows=8000)).reshape(8000, -1)
    np.testing.assert_allclose(np.cov(found.T, ddof=0), np.eye(12), atol=0.03)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)


def test_of_few_windows_next_to_nothing_is_amplified():
    """Other windows of the same person stay of the size of z-scores."""
    everything = windows_of(windows=500)
    for few in (2, 3, 10):
        found = applied(Whitening(), everything[:few], everything)
        plain = (everything - everything[:few].mean(0)) / everything[:few].std(0)
        assert np.isfinite(found).all()
        assert found.std() < 11 * plain.std()


def test_a_value_that_never_varies_leaves_the_others_as_without_it():
    rows = z_scores(windows_of(windows=50)).reshape(50, -1)
    without = decorrelation(rows)
    found = decorrelation(np.insert(rows, 5, 0.0, axis=1))
    assert found[5, 5] == 1 and np.count_nonzero(found[5]) == 1
    kept = np.delete(np.delete(found, 5, 0), 5, 1)
    np.testing.assert_allclose(kept, without)


def test_too_many_values_are_refused():
    with pytest.raises(DataError, match=r"1056 values.*euclidean-alignment"):
        Whitening().fit(np.zeros((3, 33, 32), np.float32))


@pytest.mark.parametrize("method", [EuclideanAlignment(), Whitening()])
def test_gains_and_offsets_of_values_do_not_matter(method):
    seen = windows_of(windows=80)
    rng = np.random.default_rng(3)
    gains, offsets = rng.uniform(0.1, 10, (4, 3)), rng.normal(0, 5, (4, 3))
    other = (seen * gains + offsets).astype(np.float32)
    np.testing.assert_allclose(
        applied(method, other), applied(method, seen), rtol=1e-2, atol=5e-3
    )


@pytest.mark.parametrize("method", [EuclideanAlignment(), Whitening()])
def test_a_missing_value_is_the_mean_to_the_others(method):
    seen = windows_of(windows=80)
    learned = method.fit(seen)
    lost, filled = seen[:5].copy(), seen[:5].copy()
    lost[2, 1, 1], lost[4] = np.nan, np.nan
    filled[2, 1, 1] = learned["mean"][1, 1]
    found, expected = method.apply(lost, learned), method.apply(filled, learned)
    assert np.array_equal(np.isnan(found), np.isnan(lost))
    there = np.isfinite(found)
    np.testing.assert_allclose(found[there], expected[there], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------- Riemannian


def covariances(seed=0, windows=30, channels=5):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(windows, channels, 4 * channels))
    factors *= rng.uniform(0.3, 3, (windows, channels, 1))
    return factors @ factors.swapaxes(1, 2) / (4 * channels)


def mixing(seed=1, channels=5):
    return np.random.default_rng(seed).normal(size=(channels, channels))


def distance(a, b):
    return np.sqrt((np.log(linalg.eigvalsh(a, b)) ** 2).sum())


def test_the_mean_has_the_least_squared_distance():
    found = covariances()
    mean = riemannian_mean(found)

    def total(centre):
        return sum(distance(each, centre) ** 2 for each in found)

    # There the logarithms of all add up to nothing.
    inverse = linalg.inv(linalg.sqrtm(mean))
    logarithms = [linalg.logm(inverse @ each @ inverse) for each in found]
    np.testing.assert_allclose(np.mean(logarithms, axis=0), 0, atol=1e-7)
    rng, least = np.random.default_rng(0), total(mean)
    for size in (1e-2, 0.1):
        for _ in range(10):
            step = rng.normal(size=mean.shape)
            root = linalg.sqrtm(mean)
            moved = root @ linalg.expm(size * (step + step.T)) @ root
            assert total(moved) > least


def test_the_mean_of_matrices_that_commute_is_geometric():
    diagonals = np.random.default_rng(0).uniform(1e-3, 1e3, (20, 4))
    found = riemannian_mean(np.stack([np.diag(d) for d in diagonals]))
    expected = np.diag(np.exp(np.log(diagonals).mean(0)))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_mean_of_two_is_their_geodesics_middle():
    a, b = covariances(windows=2)
    root = linalg.sqrtm(a)
    inverse = linalg.inv(root)
    expected = root @ linalg.sqrtm(inverse @ b @ inverse) @ root
    np.testing.assert_allclose(riemannian_mean(np.stack([a, b])), expected, rtol=1e-6)


def test_the_mean_of_very_unlike_covariances_is_found_with_smaller_steps():
    """Whole steps go too far, and back again."""
    rng = np.random.default_rng(0)
    bases = np.linalg.qr(rng.normal(size=(4, 5, 5)))[0]
    found = (bases * np.exp(rng.normal(0, 3.5, (4, 1, 5)))) @ bases.swapaxes(1, 2)
    found = (found + found.swapaxes(1, 2)) / 2
    inverse = linalg.inv(linalg.sqrtm(riemannian_mean(found)))
    logarithms = [linalg.logm(inverse @ each @ inverse) for each in found]
    np.testing.assert_allclose(np.mean(logarithms, axis=0), 0, atol=1e-6)


def test_the_mean_goes_along_with_every_change_of_basis():
    found, basis = covariances(), mixing()
    moved = basis @ found @ basis.T
    np.testing.assert_allclose(
        riemannian_mean(moved), basis @ riemannian_mean(found) @ basis.T, rtol=1e-6
    )


def test_recentred_covariances_have_the_identity_as_mean_and_keep_their_distances():
    """Whatever the basis: what is left of it is a rotation."""
    first, basis = covariances(), mixing()
    second = basis @ first @ basis.T
    found = [
        applied(Riemannian(), each.astype(np.float32)).astype(np.float64)
        for each in (first, second)
    ]
    for each in found:
        np.testing.assert_allclose(riemannian_mean(each), np.eye(5), atol=1e-3)
    for i, j in ((0, 1), (3, 7)):
        expected = distance(first[i], first[j])
        for each in found:
            assert distance(each[i], each[j]) == pytest.approx(expected, rel=5e-3)
    np.testing.assert_allclose(
        *(np.linalg.eigvalsh(each) for each in found), rtol=2e-2, atol=1e-3
    )


def test_a_missing_entry_counts_as_the_means():
    seen = covariances().astype(np.float32)
    seen[3, 1, :] = seen[3, :, 1] = np.nan
    seen[5] = np.nan
    method = Riemannian()
    learned = method.fit(seen)
    complete = np.delete(seen, (3, 5), 0).astype(np.float64)
    np.testing.assert_allclose(learned["centre"], riemannian_mean(complete), rtol=1e-6)
    found = method.apply(seen, learned)
    assert np.array_equal(np.isnan(found), np.isnan(seen))
    filled = np.where(np.isnan(seen), learned["centre"], seen)[3]
    root = linalg.inv(linalg.sqrtm(learned["centre"]))
    there = np.isfinite(found[3])
    np.testing.assert_allclose(
        found[3][there], (root @ filled @ root)[there], rtol=1e-4, atol=1e-4
    )


def test_what_is_no_covariance_is_z_scored_and_half_a_one_refused():
    square = windows_of(channels=3, features=3)
    np.testing.assert_allclose(
        applied(Riemannian(), square), z_scores(square), rtol=1e-3, atol=1e-3
    )
    flat = covariances()
    flat[:4] = np.ones((5, 5))  # of rank one
    with pytest.raises(DataError, match=r"4 of 30 windows.*not positive definite"):
        Riemannian().fit(flat.astype(np.float32))


def test_covariances_that_are_complete_in_no_window_are_refused():
    """As z-scores they would stand beside other sessions' re-centred ones."""
    seen = covariances().astype(np.float32)
    seen[:, 1, :] = seen[:, :, 1] = np.nan
    seen[3] = np.nan
    with pytest.raises(DataError, match=r"29 windows.*of 5 channels.*missing in each"):
        Riemannian().fit(seen)
    # What is no covariance, or not there at all, is z-scored as ever.
    square = windows_of(channels=3, features=3).copy()
    square[:, 1] = np.nan
    assert "mean" in Riemannian().fit(square)
    assert "mean" in Riemannian().fit(np.full_like(seen, np.nan))


# ----------------------------------------------------------------- in the library's way


@pytest.mark.parametrize("cls", [EuclideanAlignment, Whitening, Riemannian])
@pytest.mark.parametrize("by", ["session", "subject"])
def test_the_shipped_checks(cls, by):
    check(cls, options={"by": by})


def people():
    """Three people with covariances, each in a basis of its own, and an eye tracker."""
    rng = np.random.default_rng(0)
    windows = pd.DataFrame(
        [(s, 1, t, t, float(k)) for s in "abc" for t in (1, 2) for k in range(12)],
        columns=["subject", "session", "trial", "stimulus", "start"],
    )
    base = covariances(windows=24, channels=3)
    eeg = np.concatenate([m @ base @ m.T for m in rng.normal(size=(3, 3, 3))])
    eye = np.concatenate([rng.normal(m, 2, (24, 4, 1)) for m in (0, 5, 9)])
    signals = {"eeg": eeg.astype(np.float32), "eye": eye.astype(np.float32)}
    names = ("Fz", "Cz", "Pz")
    modalities = {
        "eeg": Modality(names, names, "eeg"),
        "eye": Modality(("a", "b", "c", "d"), ("value",), "eye"),
    }
    return Inputs(signals, windows, modalities, "test")


@pytest.mark.parametrize("name", NAMES)
def test_each_person_is_aligned_by_what_may_be_seen_of_them(name):
    inputs = people()
    windows = inputs.windows
    source = np.flatnonzero(windows["subject"] != "c")
    target = np.flatnonzero((windows["subject"] == "c") & (windows["trial"] == 1))
    held = np.flatnonzero((windows["subject"] == "c") & (windows["trial"] == 2))
    first, _ = normalise(inputs, name, source=source, target=target)
    other = {k: v.copy() for k, v in inputs.signals.items()}
    for array in other.values():
        array[held] *= 3
    second, _ = normalise(
        Inputs(other, windows, inputs.modalities), name, source=source, target=target
    )
    seen = np.concatenate([source, target])
    for kind, values in first.signals.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values[seen], second.signals[kind][seen])
        assert not np.allclose(values[held], second.signals[kind][held])
        own = Riemannian() if name == "riemannian" else None
        if own and kind == "eeg":
            mine = inputs.signals[kind][:24]
            np.testing.assert_allclose(values[:24], applied(own, mine), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_says_how_and_a_model_applies_it(name, tmp_path):
    data = de.load("simulated", subjects=3, sessions=1, trials=6, windows=[3, 4])
    choices = {
        "backbone": "concatenation-mlp",
        "normalisation": name,
        "options": {"training.epochs": 1, "normalisation.by": "subject"},
        "device": "cpu",
    }
    model = de.train(data, output=tmp_path, **choices)
    how = (tmp_path / "how.txt").read_text(encoding="utf-8")
    assert de.registry.find("normalisation", name)(by="subject").words in how
    again = de.Model.load(tmp_path)
    for by in (None, "source"):
        found = again.predict(data.inputs, normalise_by=by)
        pd.testing.assert_frame_equal(found, model.predict(data.inputs, by))
