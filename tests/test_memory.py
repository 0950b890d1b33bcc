"""How much memory a fold takes: little more than the recordings themselves."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import domainemo as de
from domainemo import Fold, Inputs, Modality
from domainemo.controls import logistic_regression, shared
from domainemo.data import normalisation
from domainemo.data.normalisation import normalise
from domainemo.errors import RunError
from domainemo.runs import memory
from domainemo.runs.controls import control_probabilities

quick = settings(max_examples=30, deadline=None, database=None)


@st.composite
def signals(draw):
    """Recordings of any width, some values missing, some columns far from zero."""
    seed = draw(st.integers(0, 10_000))
    shape = draw(st.sampled_from([(23, 1, 1), (31, 2, 1), (17, 1, 3), (40, 5, 7)]))
    rng = np.random.default_rng(seed)
    array = rng.normal(rng.normal(0, 1e4, shape[1:]), rng.uniform(0.1, 9), shape)
    array[rng.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    return array.astype(np.float32)


def at_once(array):
    """Return mean and deviation, computed on all windows at once."""
    finite = np.isfinite(array)
    count = np.maximum(finite.sum(0), 1)
    values = np.where(finite, array, 0).astype(np.float64)
    mean = values.sum(0) / count
    spread = np.where(finite, values - mean, 0)
    deviation = np.sqrt(np.square(spread).sum(0) / count)
    deviation[deviation <= np.maximum(1e-6 * np.abs(mean), 1e-37)] = 1
    return mean.astype(np.float32), deviation.astype(np.float32)


@quick
@given(signals(), st.integers(1, 90))
def test_scales_have_the_bits_of_all_windows_at_once(array, together):
    rows = np.random.default_rng(0).permutation(len(array))[: len(array) - 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalisation, "_TOGETHER", together)
        scale = normalisation.scale_of(array, rows)
    mean, deviation = at_once(array[rows])
    np.testing.assert_array_equal(scale.mean, mean)
    np.testing.assert_array_equal(scale.deviation, deviation)


def inputs_of(array, subjects):
    """Return recordings of one modality, subjects in turn."""
    import pandas as pd

    count = len(array)
    windows = pd.DataFrame(
        {
            "subject": np.arange(count) % subjects,
            "session": 1,
            "trial": np.arange(count) // subjects,
            "stimulus": np.arange(count) // subjects,
            "start": 0.0,
        }
    )
    channels = tuple(f"c{i}" for i in range(array.shape[1]))
    features = tuple(f"f{i}" for i in range(array.shape[2]))
    return Inputs({"eeg": array}, windows, {"eeg": Modality(channels, features, "x")})


@pytest.mark.parametrize("method", ["session", "subject", "source", "none"])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_what_is_written_to_given_arrays_is_the_same(method, precision):
    array = np.random.default_rng(1).normal(3, 2, (60, 4, 3)).astype(np.float32)
    array[5, 2] = np.nan
    array[7] = np.nan
    inputs = inputs_of(array, 3)
    source = np.flatnonzero(inputs.windows["subject"] < 2)
    target = np.flatnonzero(inputs.windows["subject"] == 2)
    expected, _ = normalise(inputs, method, source=source, target=target)
    out = {"eeg": np.empty(array.shape, precision)}
    found, _ = normalise(inputs, method, source=source, target=target, out=out)
    assert found.signals["eeg"] is out["eeg"]
    np.testing.assert_array_equal(out["eeg"], expected.signals["eeg"])


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_logistic_regression_is_that_of_the_whole_table(order, monkeypatch):
    """In float32, standardised by the source, all features at once."""
    rng = np.random.default_rng(4)
    array = rng.normal(2, 3, (90, 6, 11)).astype(np.float32)
    labels = rng.integers(0, 3, 90)
    array[np.arange(90), 0, labels] += 9
    array[11] = np.nan
    inputs = inputs_of(array, 3)
    source = np.flatnonzero(inputs.windows["subject"] != 1)
    if order == "shuffled":
        source = rng.permutation(source)
    test = np.flatnonzero(inputs.windows["subject"] == 1)
    normalised, _ = normalise(inputs, "session", source=source, target=test)
    features = normalised.signals["eeg"].reshape(90, -1)
    scaler = StandardScaler().fit(features[source])
    features = np.nan_to_num(scaler.transform(features)).astype(np.float64)
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    expected = model.fit(features[source], labels[source]).predict_proba(features)
    monkeypatch.setattr(shared, "_TOGETHER", 7)
    monkeypatch.setattr(shared, "_VALUES", 700)
    fold = Fold("f", source, test, test)
    found = control_probabilities(
        logistic_regression.LogisticRegression(),
        inputs,
        "session",
        fold,
        source,
        labels[source],
        test[:, None],
        3,
    )
    np.testing.assert_array_equal(found, expected[test].astype(np.float32))


PEAK = """
import re
from domainemo.runs import run  # what every run imports
import sklearn.linear_model, pyarrow.parquet
import domainemo as de

def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024

def run(name):
    data = de.load("table", name)
    de.run(
        data, backbone="concatenation-mlp", adapter="none", sampling="windows",
        folds=["subject 0"], training=de.Training(epochs=1), output=f"run of {name}",
    )
    return sum(each.nbytes for each in data.inputs.signals.values())

run("small")  # whatever is imported late
libraries = peak()
size = run("table")
print((peak() - libraries) / size)
"""


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_fold_takes_little_more_than_the_recordings(tmp_path):
    """Themselves, and logistic regression's copy of twice the precision.

    What allocators keep differs between processes: 2.8 to 3.4 times have been seen.
    """
    for name, count in (("small", 200), ("table", 12_000)):
        array = np.random.default_rng(0).normal(size=(count, 16, 160)).astype("f4")
        inputs = inputs_of(array, 4)
        inputs = inputs.take(np.argsort(inputs.windows["subject"], kind="stable"))
        labels = inputs.windows["trial"].to_numpy() % 2
        data = de.EmotionData(inputs, labels, ("calm", "glad"))
        de.write_table(data, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 3.8


# ----------------------------------------------------------------- estimate, refusal


def test_what_does_not_fit_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    data = de.Simulated(subjects=3, sessions=1, trials=3).load()
    size = sum(array.nbytes for array in data.inputs.signals.values())
    monkeypatch.setattr(memory, "available_memory", lambda: 2 * size - 1)
    choices = {"backbone": "concatenation-mlp", "adapter": "none", "output": tmp_path}
    with pytest.raises(RunError, match="of memory are free"):
        de.run(data, training=de.Training(epochs=1), **choices)
    assert not list(tmp_path.rglob("model.safetensors"))
    choices |= {"adapter": "marginal", "output": tmp_path / "study"}
    with pytest.raises(RunError, match=r"training 2 of the jobs.*--jobs"):
        de.tune(data, select="per-fold", candidates=2, jobs=2, **choices)
    assert not list(tmp_path.rglob("record.json"))


def test_the_tightest_limit_counts(tmp_path, monkeypatch):
    """Of the machine, and of the control group; what files take can be given back."""
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 9 kB\nMemAvailable:    3000 kB\n")
    group = [tmp_path / name for name in ("max", "current", "stat")]
    monkeypatch.setattr(memory, "_MEMORY", machine)
    monkeypatch.setattr(memory, "_GROUPS", (tuple(group),))
    assert memory.available_memory() == 3000 * 1024
    group[0].write_text("max\n")
    group[1].write_text("1000000\n")
    group[2].write_text("anon 3\ninactive_file 200000\n")
    assert memory.available_memory() == 3000 * 1024
    group[0].write_text("2000000\n")
    assert memory.available_memory() == 1_200_000
    machine.unlink()
    group[0].unlink()
    assert memory.available_memory() is None
