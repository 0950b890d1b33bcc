"""What holds of every reader alike; what is special to one stands in its own file."""

import copy
import inspect
import pickle
from contextlib import nullcontext
from functools import cache

import numpy as np
import pandas as pd
import pytest
from fixtures.every import FIXTURES
from typer.testing import CliRunner

import domainemo
from domainemo.cli import app
from domainemo.core import PROVENANCE
from domainemo.data.reader import Reader
from domainemo.errors import ConfigurationError, DataError
from domainemo.processes import process_pool
from domainemo.registry import KINDS, entries, find, parameters

assert KINDS["dataset"] == "domainemo.data"

NO_FILES = {"simulated", "table"}
NAMES = sorted(FIXTURES)
every_reader = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Return a data root per data set, written once."""
    written = {}

    def root(name):
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name)
            FIXTURES[name].write(written[name])
        return written[name]

    return root


@pytest.fixture(scope="module")
def loaded(roots):
    """Return what one process reads of a data set, read once."""
    return cache(lambda name: reader(name, roots(name)).load())


@pytest.fixture(scope="module")
def pool():
    """Return two processes that read for all tests of this file: to start is slow."""
    with process_pool(2) as started:
        yield started


@pytest.fixture
def kept(tmp_path_factory, monkeypatch):
    """Keep what is read for all tests of this file, and for them alone."""
    folder = tmp_path_factory.getbasetemp() / "kept"
    monkeypatch.setenv("DOMAINEMO_CACHE", str(folder))


def reader(name, root):
    return find("dataset", name)(root, **FIXTURES[name].options)


def test_every_data_set_has_a_fixture_here():
    assert {entry.name for entry in entries("dataset")} - NO_FILES == set(FIXTURES)


# ------------------------------------------------------------------------- reading


@every_reader
def test_what_is_read_is_canonical(name, loaded):
    data = loaded(name)
    windows = data.inputs.windows
    assert tuple(windows.columns) == PROVENANCE
    for column in ("subject", "session", "trial"):
        assert pd.api.types.is_integer_dtype(windows[column]), column
    order = windows.sort_values(["subject", "session", "trial", "start"]).index
    assert (order == windows.index).all()
    assert not windows.duplicated(["subject", "session", "trial", "start"]).any()
    for modality, array in data.inputs.signals.items():
        assert array.dtype == np.float32, modality
        assert not np.isinf(array).any(), modality
    assert set(data.labels) <= set(range(len(data.classes)))
    trials = windows[["subject", "session", "trial"]].assign(label=data.labels)
    per_trial = trials.groupby(["subject", "session", "trial"])["label"].nunique()
    assert (per_trial == 1).all(), "a label is a trial's"
    clips = windows.groupby(["subject", "session", "trial"])["stimulus"].nunique()
    assert (clips == 1).all(), "a stimulus is a trial's"


@every_reader
def test_two_processes_read_what_one_reads(name, roots, loaded, pool, monkeypatch):
    opened = "domainemo.data.reader.process_pool"
    monkeypatch.setattr(opened, lambda workers: nullcontext(pool))
    one, two = loaded(name), reader(name, roots(name)).load(jobs=2)
    assert one.inputs.name == two.inputs.name
    assert one.inputs.windows.equals(two.inputs.windows)
    np.testing.assert_array_equal(one.labels, two.labels)
    for modality, array in one.inputs.signals.items():
        np.testing.assert_array_equal(array, two.inputs.signals[modality])


@every_reader
def test_a_recording_of_its_own_reads_as_among_others(name, roots, loaded):
    """No recording's values may depend on which others are there."""
    made, data = reader(name, roots(name)), loaded(name)
    recording = made.recordings()[-1]
    read = made.read(recording)
    windows = data.inputs.windows
    for trial in read:
        of_trial = windows["subject"] == recording.subject
        of_trial &= windows["session"] == trial.session
        of_trial &= windows["trial"] == trial.trial
        rows = of_trial.to_numpy()
        for modality, array in trial.signals.items():
            np.testing.assert_array_equal(
                data.inputs.signals[modality][rows], array.astype(np.float32)
            )


@every_reader
def test_reading_leaves_the_files_alone(name, roots):
    root, made = roots(name), reader(name, roots(name))

    def state():
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        return [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    before = state()
    made.read(made.recordings()[0])
    assert state() == before
    assert set(made.files()) <= {path for path, *_ in before}


@every_reader
def test_a_reader_says_what_there_is_and_travels_to_other_processes(
    name, roots, loaded
):
    made = reader(name, roots(name))
    assert isinstance(made, Reader)
    assert made.home.startswith("https://")
    assert made.release() and made.title().startswith(name)
    assert all(isinstance(text, str) for text in made.missing())
    again = pickle.loads(pickle.dumps(made))
    assert again.title() == made.title()
    assert again.recordings() == made.recordings()
    assert made.title() in loaded(name).inputs.name


# ------------------------------------------------------------------------- refusals


@every_reader
@pytest.mark.parametrize("root", ["nothing", "empty", "a file", None])
def test_a_root_without_the_files_is_explained(name, root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("text")
    place = None if root is None else tmp_path / root
    with pytest.raises(DataError) as caught:
        find("dataset", name)(place).load()
    message = str(caught.value)
    assert name in message or str(place) in message
    assert "expected" in message and "found" in message


@every_reader
def test_options_are_refused_by_name_with_what_is_possible(name, tmp_path):
    cls = find("dataset", name)
    for option, parameter in parameters(cls).items():
        wrong = {str: "no such thing", float: -1.0, tuple: ("no such thing",)}
        value = wrong.get(type(parameter.default))
        if value is None or option == "threshold":
            continue
        with pytest.raises(ConfigurationError) as caught:
            cls(tmp_path, **{option: value})
        assert option in str(caught.value), option
        assert name in str(caught.value), option


@every_reader
def test_the_options_are_kept_under_their_own_names(name, tmp_path):
    cls = find("dataset", name)
    made = cls(tmp_path)
    for option in parameters(cls):
        assert hasattr(made, option), option
        assert f"{option} :" in inspect.getdoc(cls), option
    assert copy.deepcopy(made).title() == made.title()


# --------------------------------------------------------------------- the main job


@pytest.mark.parametrize("backbone", ["r2gfanet", "uf-ama"])
@every_reader
def test_adapt_runs(name, backbone, roots, loaded, kept, tmp_path):
    options = [f"--set=data.{k}={v}" for k, v in FIXTURES[name].options.items()]
    small = ["training.epochs=1", "training.batch_size=256"]
    small += ["backbone.width=8", "backbone.heads=1"]
    if backbone == "r2gfanet":
        small += ["backbone.feedforward=16"]
    done = CliRunner().invoke(
        app,
        [
            "adapt",
            f"--dataset={name}",
            f"--data-root={roots(name)}",
            "--protocol=cross-subject",
            f"--backbone={backbone}",
            "--no-baselines",
            "--jobs=1",
            "--device=cpu",
            f"--output={tmp_path / 'run'}",
            *options,
            *(f"--set={text}" for text in small),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    data = loaded(name)
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    tested = data.inputs.windows.groupby(["subject", "session", "trial"]).ngroups
    keys = ["subject", "session", "trial"]
    assert predictions.groupby(keys).ngroups == tested
    table = pd.read_csv(tmp_path / "run" / "results.csv")
    assert set(table["dataset"]) == {data.inputs.name}


@every_reader
def test_what_is_kept_is_what_was_read(name, roots, loaded, kept):
    options = FIXTURES[name].options
    read, mapped = (
        domainemo.load(name, roots(name), jobs=1, **options) for _ in range(2)
    )
    for data in (read, mapped):
        assert data.inputs.name == loaded(name).inputs.name
        assert data.inputs.windows.equals(loaded(name).inputs.windows)
        np.testing.assert_array_equal(data.labels, loaded(name).labels)
        for modality, array in data.inputs.signals.items():
            assert isinstance(array, np.memmap)
            np.testing.assert_array_equal(array, loaded(name).inputs.signals[modality])
