"""Worker processes start from any script, and never run it again."""

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing import resource_tracker

import pytest

from domainemo.errors import ConfigurationError, DomainemoError
from domainemo.processes import cores, pack, process_pool, starting, unpack
from domainemo.studies import search

GUARDED = """
from domainemo.processes import process_pool

if __name__ == "__main__":
    with process_pool(1) as pool:
        print(pool.submit(abs, -3).result(), __name__)
"""

BARE = """
print("begins")
import os
import domainemo as de
from domainemo.processes import process_pool

with process_pool(2) as pool:
    found = sorted(pool.map(abs, [-3, 4]))
    print(found, os.path.basename(globals().get("__file__", "-")))
print("ends")
"""


def run(how, code, folder):
    """Run a script as people do; return what it printed, and its errors."""
    (folder / "script.py").write_text(code)
    (folder / "package").mkdir(exist_ok=True)
    (folder / "package" / "__main__.py").write_text(code)
    arguments = {
        "file": ["script.py"],
        "command": ["-c", code],
        "module": ["-m", "script"],
        "package": ["-m", "package"],
        "standard input": ["-"],
    }[how]
    return subprocess.run(
        [sys.executable, *arguments],
        input=code if how == "standard input" else "",
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("how", ["file", "command", "standard input"])
def test_processes_start_wherever_the_code_comes_from(how, tmp_path):
    done = run(how, GUARDED, tmp_path)
    assert done.stdout.split() == ["3", "__main__"], done.stderr


@pytest.mark.parametrize("how", ["file", "command", "module", "package"])
def test_a_script_without_a_guard_runs_once(how, tmp_path):
    """The script's own name is still its own afterwards."""
    done = run(how, BARE, tmp_path)
    name = {"file": "script.py", "command": "-", "module": "script.py"}
    lines = ["begins", f"[3, 4] {name.get(how, '__main__.py')}", "ends"]
    assert done.stdout.splitlines() == lines, done.stderr


OWN_READER = """
import numpy as np
from pathlib import Path
import domainemo as de
from domainemo.data.reader import Reader, Recording, Trial

print("begins")

class Three(Reader):
    home = "https://example.org"
    classes = ("calm", "glad")
    def __init__(self, root=None): self.root = root
    def recordings(self): return [Recording(n, {"eeg": Path("x")}) for n in (1, 2, 3)]
    def trials(self, recording):
        yield Trial(1, 1, 1, 0, {"eeg": np.zeros((2, 1, 1))}, np.arange(2.0))
    def modalities(self): return {"eeg": de.Modality(("Cz",), ("power",), "eeg")}
    def title(self): return "three"
    def release(self): return "all"
    def missing(self): return []

def main():
    try:
        print(len(de.load(Three(), jobs=JOBS, cache=False)))
    except de.ConfigurationError as error:
        print("refused:", error)

"""


@pytest.mark.parametrize("jobs", [2, None])
@pytest.mark.parametrize("guarded", [True, False])
def test_a_class_of_the_script_works_or_is_refused(jobs, guarded, tmp_path):
    """Where processes are asked for; left to itself, loading needs none."""
    quick = "import domainemo.data.reader as r; r._WORTH_PROCESSES = -1.0\n"
    last = 'if __name__ == "__main__":\n    main()\n' if guarded else "main()\n"
    code = quick + OWN_READER.replace("JOBS", str(jobs)) + last
    done = run("file", code, tmp_path)
    if guarded or jobs is None:
        assert done.stdout.splitlines()[-1] == "6", done.stderr
    else:
        assert "refused: Three is defined in" in done.stdout, done.stderr
        assert 'if __name__ == "__main__":' in done.stdout
    if not guarded:
        assert done.stdout.count("begins") == 1


def test_a_class_of_a_command_is_refused(tmp_path):
    code = OWN_READER.replace("JOBS", "2") + "main()"
    done = run("command", code, tmp_path)
    assert "Three is defined in a notebook or a command" in done.stdout, done.stderr


EXECUTOR = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import domainemo as de
from domainemo.processes import check_executor

print("begins")
for method in ("spawn", "fork"):
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method))
    try:
        check_executor(pool)
        print(method, "accepted")
    except de.ConfigurationError as error:
        print(method, error)
"""


def test_processes_that_would_run_the_script_again_are_refused(tmp_path):
    done = run("file", EXECUTOR, tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0] == "begins"
    assert "would import" in lines[1] and "__main__" in lines[1]
    assert lines[2] == "fork accepted"
    guarded = EXECUTOR + "if __name__ == '__main__':\n    pass\n"
    done = run("file", guarded, tmp_path)
    assert done.stdout.splitlines()[1:] == ["spawn accepted", "fork accepted"]


TUNE = """
import domainemo as de

print("begins")
data = de.load("simulated", subjects=4, sessions=1, trials=6)
found = de.tune(
    data, backbone="concatenation-mlp", adapter="marginal", candidates=2, jobs=2,
    training=de.Training(epochs=1), output="study", final=False, development=2,
)
print(found.candidates["state"].tolist())
"""


def test_a_study_with_workers_needs_no_guard(tmp_path):
    done = run("file", TUNE, tmp_path)
    assert done.stdout.splitlines() == ["begins", "['complete', 'complete']"], (
        done.stderr
    )


WARNED = """
import warnings
import domainemo as de
from domainemo.processes import process_pool

if __name__ == "__main__":
    with process_pool(1) as pool:
        for text in ("eye is missing", "eye is missing", "eeg is missing"):
            pool.submit(warnings.warn, text, de.DomainemoWarning).result()
"""


def test_what_a_process_warns_of_is_a_sentence_and_no_place(tmp_path):
    done = run("file", WARNED, tmp_path)
    assert done.stderr == "Note: eye is missing\nNote: eeg is missing\n"


RUN = """
import domainemo as de

print("begins")
data = de.load("simulated", subjects=3, sessions=1, trials=3, windows=[2, 3])
found = de.run(
    data, backbone="concatenation-mlp", adapter="none", baselines=False, epochs=1,
    jobs=2,
)
print(sorted(found.table["fold"].unique()))
"""


@pytest.mark.parametrize("how", ["file", "command"])
def test_a_run_in_several_processes_needs_no_guard(how, tmp_path):
    """From a command, as from a notebook, there is no file that could be imported."""
    done = run(how, RUN, tmp_path)
    lines = ["begins", "['subject 1', 'subject 2', 'subject 3']"]
    assert done.stdout.splitlines() == lines, done.stderr


def test_workers_that_fail_are_not_started_for_ever(tmp_path, monkeypatch):
    """What ended the first is told at once: here, source only diverges."""
    monkeypatch.chdir(tmp_path)
    code = TUNE.replace("epochs=1", "epochs=1, learning_rate=1e30")
    with pytest.raises(DomainemoError, match=r"Source only.*: Training diverged in"):
        exec(code, {})


def test_what_only_posix_has_is_not_needed(tmp_path, monkeypatch):
    """As on Windows: no SIGHUP, no masks, no forking; only the start of processes."""
    resource_tracker.ensure_running()
    for module, name in [
        (signal, "SIGHUP"),
        (signal, "pthread_sigmask"),
        (os, "sched_getaffinity"),
    ]:
        monkeypatch.delattr(module, name, raising=False)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert cores() >= 1
    with process_pool(1) as pool:
        assert pool.submit(abs, -3).result() == 3
    with starting():
        process = search._starter()(tmp_path)  # which finds no study there
    process.join(120)
    assert process.exitcode == 1 and (tmp_path / f"{process.pid}.error").exists()


def test_what_is_packed_arrives():
    assert unpack(pack({"a": (1, [2.5, None])})) == {"a": (1, [2.5, None])}
    with pytest.raises(ConfigurationError, match="Other processes cannot be sent"):
        pack(lambda: 1)
