"""Runs commands in copies of one process, and kills them at a given moment.

``python killing.py`` reads commands from its input, a line of JSON each: a folder,
arguments, a signal and the moment at which it comes. It answers each with a line: how
the command ended, how long it took, what it said, and which of its processes live on.

Everything heavy is imported once, before the first command: a copy starts at once, and
what is killed is the command's work and not, most of the time, the import of torch.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 300  # seconds that a command may take


def members(group):
    """Return the processes of a group that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[2]) == group and words[0] != "Z":
            found.append(path.parent.name)
    return found


def outliving(group, seconds=10):
    """Return the processes of a group that still live after some time."""
    deadline = time.monotonic() + seconds
    while (found := members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def undrawn(draw, *endings):
    """Stand in for the drawing of a figure, which takes nearly all of a report."""
    picture = b'<svg viewBox="0 0 10 10" xmlns="http://www.w3.org/2000/svg"></svg>'
    return (picture,) * len(endings)


def load():
    """Import what the commands import; have every epoch kept, and nothing drawn."""
    import torch._dynamo  # noqa: F401

    import domainemo
    from domainemo.reports import page
    from domainemo.training import loop

    for each in pkgutil.walk_packages(domainemo.__path__, "domainemo."):
        importlib.import_module(each.name)
    loop._SECONDS_BETWEEN_CHECKPOINTS = 0
    page.render = undrawn
    gc.freeze()  # what is there is shared by all copies, and need not be looked at


def work(folder, arguments, out, said):
    """Be the command, to the end of this process."""
    from domainemo.cli import main

    os.setsid()
    os.chdir(folder)
    for number, file in enumerate((out, said), 1):
        os.dup2(file.fileno(), number)
    sys.argv = ["domainemo", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    sys.stdout.flush()
    os._exit(code)


def answers_signals(pid):
    """Return whether a process has come to where it answers SIGTERM."""
    status = Path("/proc", str(pid), "status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def used(pid):
    """Return how long a process has worked, in seconds of a processor."""
    return int(Path("/proc", str(pid), "schedstat").read_text().split()[0]) / 1e9


def is_exiting(pid):
    """Return whether a process only gives back its memory, with its code settled."""
    words = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return bool(int(words[6]) & 4)  # PF_EXITING


def watch(pid, kind, moment):
    """Wait for a process, and kill it once it has worked for as long as `moment`.

    The moment is one of its work and not of the clock: how busy the machine is does
    not change what is killed.
    """
    began = worked = None
    sent = in_time = False
    deadline = time.monotonic() + LONGEST
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return {"code": code, "in_time": in_time, "worked": worked}
        if began is None:
            began = used(pid) if answers_signals(pid) else None
        else:
            worked = used(pid) - began
            if kind and not sent and worked >= moment:
                os.kill(pid, kind)
                sent, in_time = True, not is_exiting(pid)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def run(folder, arguments, kind=None, moment=0.0):
    """Run a command, and perhaps kill it."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        pid = os.fork()
        if not pid:
            work(folder, arguments, out, said)
        ended = watch(pid, kind, moment)
        for file in (out, said):
            file.seek(0)
        return {**ended, "said": out.read() + said.read(), "left": outliving(pid)}


if __name__ == "__main__":
    load()
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)
