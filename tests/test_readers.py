"""What holds of every reader alike; what is special to one stands in its own file."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from fixtures.every import FIXTURES, WAIVED
from typer.testing import CliRunner

import domainemo
from domainemo.cli import app
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import KINDS, entries, find, parameters
from domainemo.testing import checks

assert KINDS["dataset"] == "domainemo.data"

NO_FIXTURE = {"simulated", "table", "mne", "bids"}
"""Checked as shipped in test_dataset_checks.py; `bids` is in test_raw.py."""

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


@pytest.fixture
def kept(tmp_path_factory, monkeypatch):
    """Keep what is read for all tests of this file, and for them alone."""
    folder = tmp_path_factory.getbasetemp() / "kept"
    monkeypatch.setenv("DOMAINEMO_CACHE", str(folder))


def reader(name, root):
    return find("dataset", name)(root, **FIXTURES[name].options)


def test_every_data_set_has_a_fixture_here():
    assert {entry.name for entry in entries("dataset")} - NO_FIXTURE == set(FIXTURES)


def shipped():
    for name in NAMES:
        fixture = FIXTURES[name]
        options = fixture.options if fixture.quick is None else fixture.quick
        found = checks(find("dataset", name), options=options, files=fixture.write)
        for each in found:
            yield pytest.param(name, each, id=f"{name}-{each.name}")


@pytest.mark.parametrize(("name", "check"), list(shipped()))
def test_shipped_check(name, check, roots):
    replace(check, files=roots(name))()


# ------------------------------------------------------------------------- reading


@every_reader
def test_two_processes_read_what_one_reads(
    name, roots, loaded, two_processes, monkeypatch
):
    opened = "domainemo.data.reader.process_pool"
    monkeypatch.setattr(opened, lambda workers: nullcontext(two_processes))
    one, two = loaded(name), reader(name, roots(name)).load(jobs=2)
    assert one.inputs.name == two.inputs.name
    assert one.inputs.windows.equals(two.inputs.windows)
    np.testing.assert_array_equal(one.labels, two.labels)
    for modality, array in one.inputs.signals.items():
        np.testing.assert_array_equal(array, two.inputs.signals[modality])


@every_reader
def test_a_reader_says_who_publishes_the_data_set_and_its_name(name, roots):
    made = reader(name, roots(name))
    assert made.home.startswith("https://")
    assert made.title().startswith(name)


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


# --------------------------------------------------------------------- the main job


# The fixture's few eye movements are alike in some trials.
@pytest.mark.filterwarnings("ignore:.*the signals of 'eye' are the same")
@pytest.mark.parametrize("backbone", ["r2gfanet", "uf-ama"])
@every_reader
def test_adapt_runs(name, backbone, roots, loaded, kept, tmp_path):
    options = [f"--set=data.{k}={v}" for k, v in FIXTURES[name].options.items()]
    small = ["training.epochs=1", "training.batch_size=256"]
    small += ["backbone.width=4", "backbone.heads=1"]
    # The whole adapter, whose screen takes most of the time, on one of the networks.
    adapter = "uf-ama" if backbone == "r2gfanet" else "marginal"
    if backbone == "r2gfanet":
        small += ["backbone.feedforward=8"]
    done = CliRunner().invoke(
        app,
        [
            "adapt",
            f"--dataset={name}",
            f"--data-root={roots(name)}",
            "--protocol=cross-subject",
            f"--backbone={backbone}",
            f"--adapter={adapter}",
            "--no-baselines",
            "--jobs=1",
            "--device=cpu",
            WAIVED,
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
