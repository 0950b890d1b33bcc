"""Ctrl-C, a scheduler's stop and a closed terminal, at any moment of any command."""

import os
import signal
import subprocess
import sys
import time

import pytest
from killing import outliving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")

CODES = {signal.SIGINT: 4, signal.SIGTERM: 143, signal.SIGHUP: 129}

# A command that takes as long as it is let, instead of torch and its seconds.
WORK = """
import sys, time
from pathlib import Path
from domainemo.cli import main, commands
from domainemo.cli.stopping import interruptible

@commands.app.command("wait")
def wait(how: str) -> None:
    Path("begun").touch()
    if how == "before":
        time.sleep(60)
    try:
        with interruptible("Half is kept."):
            if how == "destructor":
                class Slow:
                    def __del__(self):
                        time.sleep(60)
                Slow()
            if how == "converted":
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    raise ImportError("a module could not be imported") from None
            if how == "importing":
                Path("slow_module.py").write_text("import time; time.sleep(60)")
                sys.path.insert(0, ".")
                import slow_module
            time.sleep(60)
    finally:
        Path("tidied").touch()
        if how == "tidying":
            time.sleep(60)

main()
"""


def started(folder, *arguments, code=WORK, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_until(holds, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def ended(process):
    """Return the exit code and what was said, which is no traceback."""
    out, said = process.communicate(timeout=60)
    assert "Traceback" not in said + out and "Exception ignored" not in said, said
    assert "Aborted" not in said, said
    return process.returncode, said


@pytest.mark.parametrize("kind", CODES)
def test_a_command_ends_in_order_with_a_sentence(kind, tmp_path):
    process = started(tmp_path, "wait", "working")
    wait_until((tmp_path / "begun").exists, process)
    time.sleep(0.1)
    process.send_signal(kind)
    assert ended(process) == (CODES[kind], "\nInterrupted. Half is kept.\n")
    assert (tmp_path / "tidied").exists()


@pytest.mark.parametrize("how", ["before", "destructor", "converted", "importing"])
def test_wherever_it_comes(how, tmp_path):
    """Also where Python cannot raise, and where a library changes what was raised."""
    process = started(tmp_path, "wait", how)
    wait_until((tmp_path / "begun").exists, process)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 143 and said.startswith("\nInterrupted. What is finished is kept")


def test_twice_in_a_row_ends_at_once(tmp_path):
    process = started(tmp_path, "wait", "tidying")
    wait_until((tmp_path / "begun").exists, process)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "tidied").exists, process)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (4, "\nInterrupted. Half is kept.\n")


def test_what_is_ignored_stays_ignored(tmp_path):
    """As `nohup` has it for a terminal that is closed."""
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WORK}"
    process = started(tmp_path, "wait", "working", code=code)
    wait_until((tmp_path / "begun").exists, process)
    time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143


def test_while_the_program_starts(tmp_path):
    """From when its first line is read, through the import of everything heavy."""
    code = "print('here', flush=True)\nfrom domainemo.cli import main\nprint('now', "
    code += "flush=True)\nmain()"
    for moment in (0.0, 0.05, 0.2, 0.8):
        process = started(tmp_path, "adapt", "--epochs=1", "--dry-run", code=code)
        assert process.stdout.readline() == "here\n"
        assert process.stdout.readline() == "now\n"
        time.sleep(0.01 + moment)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 4


POOL = """
import os, signal, sys, threading, time
from domainemo.processes import process_pool

def late():
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    try:
        threading.Timer(float(sys.argv[1]), late).start()
        with process_pool(3) as pool:
            list(pool.map(time.sleep, [30] * 3))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("moment", ["0.0", "0.02", "0.1", "0.4"])
def test_ctrl_c_while_workers_start_reaches_this_process_alone(moment, tmp_path):
    (tmp_path / "script.py").write_text(POOL)
    process = subprocess.Popen(
        [sys.executable, "script.py", moment],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    code, said = ended(process)
    assert code == 0, said
    # None is left, not even one that had only begun.
    assert not outliving(process.pid)


def test_ctrl_c_while_one_worker_starts_ends_that_one_too(tmp_path):
    """Its pool has not been told of it yet, and cannot end it."""
    late = "threading.Timer(float(sys.argv[1]), late).start()"
    assert late in POOL
    code = POOL.replace(
        late,
        """start = multiprocessing.context.SpawnProcess.start

        def interrupted(process):
            start(process)
            late()

        multiprocessing.context.SpawnProcess.start = interrupted""",
    )
    (tmp_path / "script.py").write_text(f"import multiprocessing.context\n{code}")
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert ended(process) == (0, "")
    assert not outliving(process.pid)


SCRIPT = """
import os, signal, time
from pathlib import Path
from domainemo.processes import process_pool

def asked(number):
    Path(f"at-{number}").touch()
    time.sleep(60)

if __name__ == "__main__":
    with process_pool(2, script=True) as pool:
        calls = [pool.submit(asked, number) for number in range(2)]
        while len(list(Path().glob("at-*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""


def test_a_killed_script_leaves_no_worker_with_a_call_of_its_own(tmp_path):
    """As the benchmarks have them: what they are asked for stands in the script."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    assert process.wait(timeout=60) == -signal.SIGTERM
    assert not outliving(process.pid)
