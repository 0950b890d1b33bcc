"""A throw-away SLURM of one node: this machine, on loopback, and its own munge."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

__all__ = ["slurm"]

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_SECONDS = 60
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} RealMemory=4000 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Run a SLURM; it is stopped and removed whatever happens.

    Where it is not installed, the test is skipped; with ``CI_RUN=1`` in the environment
    it fails.

    Yields
    ------
    dict
        What the environment must hold for SLURM's commands to find it.
    """
    programs = {name: shutil.which(name, path=_PLACES) for name in _PROGRAMS}
    if missing := [name for name, path in programs.items() if path is None]:
        reason = f"no {missing[0]} here (Debian's packages slurm-wlm and munge)"
        (pytest.fail if os.environ.get("CI_RUN") == "1" else pytest.skip)(reason)
    # A socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _configure(folder)
        with ExitStack() as running:
            for name, *options in _daemons(folder):
                command = [programs[name], *options]
                running.enter_context(_running(command, folder, environment))
            _await(programs["sinfo"], folder, environment)
            yield {"SLURM_CONF": environment["SLURM_CONF"]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    text = _CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        ports=_free_ports(2),
        user=getpass.getuser(),
        folder=folder,
        processors=os.cpu_count(),
    )
    (folder / "slurm.conf").write_text(text)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _daemons(folder: Path) -> list[list[str]]:
    files = {
        "key-file": "key",
        "pid-file": "pid",
        "log-file": "log",
        "seed-file": "seed",
    }
    own = [f"--{option}={folder / 'munge' / name}" for option, name in files.items()]
    munge = ["--foreground", "--force", f"--socket={folder / 'munge.socket'}", *own]
    return [["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]]


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("w") as log:
        daemon = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _await(sinfo: str, folder: Path, environment: dict[str, str]) -> None:
    """Wait until the node takes jobs."""
    command = [sinfo, "--noheader", "--format=%T"]
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    raise AssertionError(f"SLURM did not start: {done.stdout}{done.stderr}\n{logs}")
