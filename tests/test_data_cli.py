"""``domainemo data``: what the commands print, write and answer.

Takes about 20 s.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import domainemo as de
from domainemo import registry
from domainemo.cli import main
from domainemo.data import download as downloads
from domainemo.data.table import Table

SMALL = ["--set=subjects=3", "--set=data.sessions=2", "--set=trials=6"]

PLUGIN = """
import time
from pathlib import Path

import numpy as np

from domainemo import register
from domainemo.core import Modality
from domainemo.data.reader import Reader, Recording, Trial
from domainemo.errors import data_error


@register(name="made")
class Made(Reader):
    \"\"\"A file of numbers, one a line, for each subject.\"\"\"

    home = "nowhere"
    classes = ("low", "high")

    def __init__(self, root, *, gain: float = 1.0, seconds: float = 0.0) -> None:
        self.root, self.gain, self.seconds = Path(root), gain, seconds

    def recordings(self):
        files = sorted(self.root.glob("*.txt"))
        if not files:
            raise data_error(self.root, "no *.txt", "some", "Download them.")
        return [Recording(int(path.stem), {"eye": path}) for path in files]

    def trials(self, recording):
        if self.seconds:
            recording.files["eye"].with_suffix(".open").touch()
            time.sleep(self.seconds)
        path = recording.files["eye"]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                values = np.array([float(word) for word in line.split()])
            except ValueError as error:
                where = f"{path}, line {number}"
                yield data_error(where, repr(line), "numbers", "Fetch it again.")
                continue
            yield Trial(
                session=1,
                trial=number,
                stimulus=number,
                label=number % 2,
                signals={"eye": self.gain * values[:, None, None]},
                start=np.arange(len(values)) * 2.0,
                notes=("a short one",) if len(values) < 3 else (),
            )

    def modalities(self):
        return {"eye": Modality(("pupil",), ("value",), "eye")}

    def title(self):
        return f"made (gain {self.gain:g})"

    def release(self):
        return "release 7"

    def missing(self):
        there = {path.stem for path in self.root.glob("*.txt")}
        return [f"subject {name}" for name in "123" if name not in there]
"""


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """Forget what plug-ins register, and keep nothing of what is read."""
    before = set(sys.modules)
    monkeypatch.setenv("DOMAINEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    yield
    registry._classes.pop(("dataset", "made"), None)
    for name in set(sys.modules) - before:
        if name.startswith("domainemo_plugin_"):
            del sys.modules[name]


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Options that read two subjects' files by a plug-in."""
    (tmp_path / "made.py").write_text(PLUGIN, encoding="utf-8")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "1.txt").write_text("1 2 3 4\n5 6\n7 8 9\n")
    (folder / "3.txt").write_text("2 2 3 4\n4 6\n6 8 9\n")
    return ["made", f"--data-root={folder}", "--plugin=made.py", "--jobs=1"]


@pytest.fixture
def domainemo(monkeypatch, capsys):
    """Run the command in this process; demand its exit code, return what it said."""

    def run(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            main()
        signal.signal(signal.SIGTERM, before)
        said = capsys.readouterr()
        assert ended.value.code == code, said.out + said.err
        return said.out if code in (0, 3) and said.out else " ".join(said.err.split())

    return run


# -------------------------------------------------------------------------- check


def test_check_says_what_is_there(domainemo, files):
    lines = domainemo("data", "check", *files, "--set=gain=2").splitlines()
    assert lines == [
        "made (gain 2)",
        "Release: release 7",
        "Files: 2 (36 bytes), 2 recordings",
        "Read: 2 subjects, 6 trials, 18 windows",
        "Missing values: eye 0.0%",
        "",
        "Not there (1)",
        "- subject 2",
        "",
        "Corrected (1)",
        "- a short one: 2 trials in 2 recordings (subject 1; subject 3)",
        "",
        "Usable: 2 recordings of 2 subjects.",
    ]


def test_check_names_every_problem_and_ends_with_3(domainemo, files, tmp_path):
    (tmp_path / "files" / "1.txt").write_text("1 2 3\nx\n1 2 4\ny z\n")
    said = domainemo("data", "check", *files, code=3)
    assert "Problems (3)" in said  # and subject 1 is left with one class
    for number, found in ((2, "'x'"), (4, "'y z'")):
        path = tmp_path / "files" / "1.txt"
        where = f"- subject 1: {path}, line {number}: found {found}; expected numbers."
        assert where in " ".join(said.split())
    assert said.splitlines()[-1] == "Not usable: 3 problems."
    assert "Read: 2 subjects, 5 trials" in said


def test_check_as_json_says_the_same(domainemo, files, tmp_path):
    (tmp_path / "files" / "2.txt").write_text(
        (tmp_path / "files" / "1.txt").read_text()
    )
    found = json.loads(domainemo("data", "check", *files, "--json"))
    assert (found["usable"], found["files"], found["trials"]) == (True, 3, 9)
    assert found["windows"] == 3 * (4 + 2 + 3)
    (copy,) = found["warnings"]
    assert copy["places"] == ["subject 1", "subject 2"]
    (note,) = found["corrections"]
    assert (note["note"], note["trials"]) == ("a short one", 3)
    assert found["verdict"] == "Usable: 3 recordings of 3 subjects, with 1 warning."
    (tmp_path / "files" / "3.txt").write_text("?\n")
    found = json.loads(domainemo("data", "check", *files, "--json", code=3))
    assert not found["usable"]
    assert found["problems"][0]["recording"] == "subject 3"


def test_check_in_several_processes(domainemo, files):
    alone = domainemo("data", "check", *files)
    assert domainemo("data", "check", *files[:-1], "--jobs=2") == alone


def test_check_works_without_files(domainemo):
    said = domainemo("data", "check", "simulated", *SMALL)
    assert "Files: none; the recordings are made up" in said
    assert said.splitlines()[-1] == "Usable: 6 recordings of 3 subjects."


def test_check_works_for_a_table(domainemo, tmp_path):
    data = de.Simulated(subjects=3, sessions=1, trials=6).load()
    de.write_table(data, tmp_path / "own")
    said = domainemo("data", "check", "own")
    assert "Files: own, read as a whole" in said
    assert said.splitlines()[-1] == "Usable: 3 recordings of 3 subjects."
    (tmp_path / "own" / "windows.csv").write_text("subject\n")
    said = domainemo("data", "check", "own", code=3)
    assert "windows.csv" in said
    assert said.splitlines()[-1] == "Not usable: 1 problem."


def test_an_empty_folder_is_not_usable(domainemo, files, tmp_path):
    for path in (tmp_path / "files").iterdir():
        path.unlink()
    said = domainemo("data", "check", *files, code=3)
    assert "found no *.txt; expected some. Download them." in " ".join(said.split())
    assert said.splitlines()[-1] == "Not usable: 1 problem."


def test_ctrl_c_ends_a_check_with_a_sentence(files, tmp_path):
    """Also for the processes that read, which a terminal interrupts as well."""
    code = "from domainemo.cli import main; main()"
    options = [*files[:-1], "--jobs=2", "--set=seconds=60"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "data", "check", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "files").glob("*.open"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "Interrupted. Nothing was written" in said
    assert "Traceback" not in said
    assert out == ""


# ------------------------------------------------------------------------ describe


def test_describe_prints_the_counts(domainemo):
    data = de.Simulated(subjects=3, sessions=2, trials=6).load()
    said = domainemo("data", "describe", "simulated", *SMALL)
    windows = data.inputs.windows
    assert (
        f"Subjects: 3; sessions: 6; trials: 36; windows: {len(data)}; window step: 4 s"
    ) in said
    trials = windows.assign(label=data.labels).groupby(["subject", "session", "trial"])
    seconds = 4 * trials.size()
    for label, name in enumerate(data.classes):
        count = (data.labels == label).sum()
        lasting = seconds[trials["label"].first() == label]
        row = [name, count, f"{count / len(data):.1%}", 12, "33.3%"]
        row += [f"{number:.1f}" for number in (lasting.mean(), lasting.min())]
        assert re.search(r"\s+".join(map(re.escape, map(str, row))), said), row
    for subject in (1, 2, 3):
        rows = (windows["subject"] == subject).to_numpy()
        row = [subject, 2, 12, rows.sum(), *np.bincount(data.labels[rows])]
        for name in ("eeg", "eye"):
            row.append(f"{np.isnan(data.inputs.signals[name][rows]).mean():.1%}")
        assert re.search(r"\s+".join(map(re.escape, map(str, row))), said), row


def test_describe_says_where_length_tells_the_class(domainemo):
    revealing = [*SMALL, "--set=length_reveals_class=true"]
    said = domainemo("data", "describe", "simulated", *revealing)
    assert "A trial's length alone tells the class" in said


def test_many_subjects_are_not_listed(domainemo):
    options = ["--set=sessions=1", "--set=trials=3", "--set=windows=[2, 2]"]
    few = domainemo("data", "describe", "simulated", "--set=subjects=40", *options)
    many = domainemo("data", "describe", "simulated", "--set=subjects=41", *options)
    assert re.search(r"^40 +1 +3 +6 ", few, re.MULTILINE)
    assert not re.search(r"^40 ", many, re.MULTILINE)
    assert "Subjects: 41;" in many


def test_describe_as_json_and_as_a_figure(domainemo, files, tmp_path):
    said = domainemo("data", "describe", *files, "--json", "--figure=made.svg")
    found = json.loads(said)
    assert (found["trials"], found["windows"], found["step"]) == (6, 18, 2)
    low, high = found["classes"]
    # Trial 2 is of class low, 1 and 3 are high; each window lasts 2 s.
    assert (low["trials"], low["windows"]) == (2, 4)
    assert high["duration"] == {"mean": 7.0, "shortest": 6.0, "longest": 8.0}
    assert (tmp_path / "made.svg").read_text().startswith("<?xml")
    said = domainemo("data", "describe", *files, "--figure=made.svg", code=2)
    assert "not overwritten" in said


# ------------------------------------------------------------- convert and download


def test_convert_writes_what_is_read(domainemo, files, tmp_path):
    said = domainemo("data", "convert", *files, "--set=gain=3", "--output=new folder")
    command = f"domainemo adapt --dataset '{tmp_path / 'new folder'}'"
    assert said.splitlines()[-1] == command
    data = Table(tmp_path / "new folder").load()
    values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 2, 2, 3, 4, 4, 6, 6, 8, 9]
    np.testing.assert_array_equal(
        data.inputs.signals["eye"].ravel(), 3 * np.array(values)
    )
    assert data.labels.tolist() == 2 * [1, 1, 1, 1, 0, 0, 1, 1, 1]
    assert data.inputs.windows["start"].tolist()[:5] == [0, 2, 4, 6, 0]
    assert "made (gain 3)" in data.inputs.name
    checked = domainemo("data", "check", "new folder")
    assert checked.splitlines()[-1] == "Usable: 2 recordings of 2 subjects."


def test_convert_overwrites_nothing(domainemo, files, tmp_path):
    (tmp_path / "old").mkdir()
    said = domainemo("data", "convert", *files, "--output=old", code=2)
    assert "old: this exists" in said
    assert list((tmp_path / "old").iterdir()) == []


def test_download_tells_what_came(domainemo, monkeypatch, tmp_path):
    asked = []

    def fetch(name, folder, on_progress=None, *, url=downloads.EEGMAT_URL):
        asked.append((name, str(folder), url))
        on_progress(1, 1, "a.edf")
        return [tmp_path / "a.edf"]

    monkeypatch.setattr(downloads, "download", fetch)
    said = domainemo("data", "download", "eegmat", "--data-root=here it is")
    assert said.splitlines() == [
        "1 file is in here it is. Look at eegmat with:",
        "domainemo data check eegmat --data-root 'here it is'",
    ]
    monkeypatch.setenv("DOMAINEMO_DATA", "there")
    domainemo("data", "download", "eegmat", "--url=https://mirror/")
    assert asked == [
        ("eegmat", "here it is", downloads.EEGMAT_URL),
        ("eegmat", "there", "https://mirror/"),
    ]


def test_what_cannot_be_downloaded_is_explained(domainemo, tmp_path):
    said = domainemo("data", "download", "seed", "--data-root=here", code=2)
    assert "'seed' cannot be downloaded" in said
    assert not (tmp_path / "here").exists()


# ----------------------------------------------------------------------- bad options


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (["check", "simulate"], ["'simulated'", "Did you mean"]),
        (["check", "eegmat"], ["--data-root", "DOMAINEMO_DATA"]),
        (["check", "simulated", "--jobs=none"], ["--jobs", "'none'"]),
        (["check", "simulated", "--set=subject=3"], ["'data.subjects'"]),
        (["check", "simulated", "--set=backbone.width=3"], ["backbone.width"]),
        (["check", "simulated", "--plugin=nowhere.py"], ["nowhere.py"]),
        (["describe", "simulated", "--figure=a.jpg"], ["a.jpg", ".svg, .pdf, .png"]),
        (["describe", "simulated", "--jobs=0"], ["--jobs", "'0'"]),
        (["download", "eegmat"], ["--data-root", "DOMAINEMO_DATA"]),
    ],
)
def test_bad_options_are_explained(domainemo, arguments, phrases, tmp_path):
    said = domainemo("data", *arguments, code=2)
    for phrase in phrases:
        assert phrase in said
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_fit_stop_describe_and_convert(domainemo, files, tmp_path):
    (tmp_path / "files" / "1.txt").write_text("x\n")
    for command in (["describe"], ["convert", "--output=new"]):
        said = domainemo("data", command[0], *files, *command[1:], code=3)
        assert "1.txt, line 1: found 'x'; expected numbers" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["data", "--help"], ["data", "check", "--help"]])
def test_help_needs_no_heavy_imports(command):
    script = textwrap.dedent(f"""
        import sys
        from domainemo.cli import app
        app({command!r}, standalone_mode=False)
        heavy = {{"torch", "pandas", "numpy", "matplotlib", "scipy", "pooch"}}
        print("HEAVY", sorted(heavy & set(sys.modules)))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "HEAVY []" in done.stdout


def test_checking_needs_no_plotting(domainemo, files):
    script = "\n".join(
        [
            "import sys",
            "from domainemo.cli import app",
            f"app(['data', 'check', *{files!r}], standalone_mode=False)",
            "print('HEAVY', sorted({'matplotlib', 'mne'} & set(sys.modules)))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "HEAVY []" in done.stdout
