"""A command that is killed at any moment, and given again, ends as if undisturbed.

Each command is run once to its end. Then it is killed at random moments of its work, by
SIGKILL, SIGTERM or SIGINT, and the same command is run again to its end; what it leaves
must be what the first run has left, bit for bit but for the time it took.
``DOMAINEMO_KILLS_SEED`` draws other moments.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import killing
import pandas as pd
import pytest
from studies_told import candidates_of

from domainemo import files
from domainemo.studies.findings import SOURCE_ONLY_CANDIDATE, load_findings
from domainemo.studies.storage import (
    INTERRUPTED,
    KILLED,
    address_of,
    open_storage,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="needs Linux's /proc"
)

SEED = os.environ.get("DOMAINEMO_KILLS_SEED", "0")
KILLS = 20  # of each command
CODES = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGTERM: 143,
    signal.SIGINT: 4,
}
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "DOMAINEMO_DATA": "",
    # No thread lives while a process is copied.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

# A study's candidates hold out one of a source subject's two trials of each class.
DATA = [
    "--set=data.subjects=3",
    "--set=data.sessions=1",
    "--set=data.trials=6",
    "--set=data.windows=[2, 3]",
]
NETWORK = [
    *("--backbone=concatenation-mlp", "--set=backbone.hidden=[4]"),
    *("--set=backbone.width=4", "--set=backbone.fusion_width=4"),
    *("--epochs=2", "--set=training.batch_size=8"),
    "--set=training.learning_rate=0.01",
]
ADAPT = [*DATA, *NETWORK, "--adapter=marginal", "--jobs=1"]
SEARCH = ["--candidates=8", "--sampler=tpe", "--pruner=median", "--jobs=1"]
SEARCH += ["--validator=source-and-information"]  # by which some fall behind
STUDY = [*SEARCH, "--development=2", "--final-seeds=1"]
COMMANDS = {
    "adapt": ["adapt", *ADAPT, "--output=made"],
    "tune": ["tune", *DATA, *NETWORK, "--adapter=marginal", *STUDY, "--output=made"],
    "pretrain": ["pretrain", *DATA, *NETWORK, "--jobs=1", "--output=made"],
    "convert": ["data", "convert", "simulated", *DATA, "--jobs=1", "--output=made"],
    "report": ["report", "made"],
}


class Driver:
    """Another process, which runs commands in copies of itself."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, killing.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )

    def __call__(self, folder, name, kind=None, moment=0.0):
        """Run a command in a folder; nothing it says is a traceback."""
        line = json.dumps([str(folder), COMMANDS[name], kind, moment])
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        for word in ("Traceback", "Exception ignored", "did not foresee", "Aborted"):
            assert word not in answer["said"], answer["said"]
        assert not answer["left"], "a process outlives the command"
        return answer

    def close(self):
        self.process.communicate()


@pytest.fixture(scope="module")
def driver():
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def undisturbed(driver, tmp_path_factory):
    """Return a function that runs a command undisturbed, once: where, how long."""
    made = {}

    def get(name):
        if name not in made:
            folder = begin(name, tmp_path_factory.mktemp(name), get)
            answer = driver(folder, name)
            assert answer["code"] == 0, answer["said"]
            made[name] = folder, answer["worked"], contents(name, folder)
        return made[name]

    return get


def begin(name, folder, undisturbed):
    """Put into a folder what the command needs: only a report needs something."""
    if name == "report":
        shutil.copytree(undisturbed("tune")[0] / "made", folder / "made")
    return folder


# ------------------------------------------------------------------- what is compared


def contents(name, folder):
    """What a command has left, without how long it took."""
    if name != "tune":
        return tree(folder)
    study = folder / "made"
    findings = load_findings(study)
    places = places_of(findings.candidates)
    choices = [vars(choice) | {"command": ""} for choice in findings.choices]
    for choice in choices:
        choice["candidate"] = places[choice["candidate"]]
    scores = findings.scores.drop(columns="seconds")
    scores = scores[scores["candidate"].isin(places)]
    scores = scores.assign(candidate=scores["candidate"].map(places))
    scores = scores.sort_values(["candidate", "fold"])
    return {
        "candidates": candidates_of(open_storage(address_of(study, None), True)),
        "scores": scores.to_csv(index=False),
        "choices": choices,
        "chosen": (study / "chosen.toml").read_bytes(),
        "final": tree(study / "final"),
        "others": sorted(path.name for path in folder.glob("*")),
    }


def places_of(candidates):
    """Return which candidate of an undisturbed study each is, by its number.

    One that was killed has a number too, and those after it come later by one.
    """
    kept = candidates[~candidates["reason"].isin([KILLED, INTERRUPTED])]
    firsts = kept["retry_of"].fillna(kept["candidate"])
    places = dict(zip(kept["candidate"], firsts.rank().astype(int) - 1, strict=True))
    return {**places, SOURCE_ONLY_CANDIDATE: SOURCE_ONLY_CANDIDATE}


def tree(folder):
    """Every file of a folder, hidden ones too."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    damage = [files.find_damage(path.parent) for path in folder.rglob(files.RECORD)]
    assert not any(damage), damage
    return {str(path.relative_to(folder)): content(path) for path in paths}


def content(path):
    """A file's bytes, or what it says where it says how long something took."""
    if path.name == files.RECORD:
        return None  # hashes of the others, also of what says how long it took
    if path.suffix == ".json":
        return untimed(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix in (".csv", ".parquet"):
        read = pd.read_csv if path.suffix == ".csv" else pd.read_parquet
        table = read(io.BytesIO(path.read_bytes()))
        if "seconds" in table:
            return table.drop(columns="seconds").to_csv()
    return path.read_bytes()


def untimed(value):
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k != "seconds"}
    return [untimed(each) for each in value] if isinstance(value, list) else value


def differences(found, expected):
    """What differs, by name: of lists and of texts, the items and lines that do."""
    names = sorted(found.keys() | expected.keys())
    wrong = [name for name in names if found.get(name) != expected.get(name)]
    return {name: _apart(found.get(name), expected.get(name)) for name in wrong}


def _apart(found, expected):
    if isinstance(found, str) and isinstance(expected, str):
        found, expected = found.splitlines(), expected.splitlines()
    if isinstance(found, list) and isinstance(expected, list):
        pairs = enumerate(itertools.zip_longest(found, expected))
        return [(place, *pair) for place, pair in pairs if pair[0] != pair[1]]
    return found, expected


# ------------------------------------------------------------------------- the kills


def check(name, number, driver, undisturbed, folder):
    """Kill a command, run it again, and compare."""
    _, whole, expected = undisturbed(name)
    draw = random.Random(f"{SEED} {name} {number}")
    kind, moment = draw.choice(list(CODES)), draw.uniform(0, whole)
    begin(name, folder, undisturbed)
    killed = driver(folder, name, kind, moment)
    where = f"{kind.name} after {moment:.3f} of {whole:.3f} s"
    # One that comes while a process ends changes nothing any more.
    codes = {CODES[kind]} if killed["in_time"] else {CODES[kind], 0}
    assert killed["code"] in codes, (where, killed)
    # A table folder appears in one step, and what is there is never written again.
    if not (name == "convert" and (folder / "made").exists()):
        again = driver(folder, name)
        assert again["code"] == 0, (where, again["said"])
    wrong = differences(contents(name, folder), expected)
    assert not wrong, (where, wrong)


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_any_moment_and_run_again(
    name, number, driver, undisturbed, tmp_path
):
    check(name, number, driver, undisturbed, tmp_path)
    shutil.rmtree(tmp_path)


@pytest.mark.campaign
def test_the_study_that_is_killed_prunes(undisturbed):
    candidates = undisturbed("tune")[2]["candidates"]
    states = {state.name for state, *_ in candidates}
    assert states == {"COMPLETE", "PRUNED"}
