"""A throw-away PostgreSQL server, for what several processes write at once."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["postgres_server"]

_SETTINGS = {
    "listen_addresses": "",  # a socket in a folder of our own: no port to compete for
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "32MB",
    "autovacuum": "off",
}
_SECONDS = 60


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server of its own; it is stopped and removed whatever happens.

    Where PostgreSQL is not installed, the test is skipped; with ``CI_RUN=1`` in the
    environment it fails.

    Yields
    ------
    str
        An empty database's address, ``postgresql+psycopg://...``.
    """
    programs = _programs()
    if programs is None:
        reason = "no PostgreSQL here (Debian's package postgresql)"
        (pytest.fail if os.environ.get("CI_RUN") == "1" else pytest.skip)(reason)
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    identity = _identity(folder)
    try:
        _make_cluster(programs, folder, identity)
        with _running(programs, folder, identity):
            yield f"postgresql+psycopg://tests@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """Return the folder of the newest server's programs."""
    packaged = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    found = sorted(packaged, key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _identity(folder: Path) -> dict[str, Any]:
    """Return who runs the server: PostgreSQL refuses root, which owns nothing here."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _make_cluster(programs: Path, folder: Path, identity: dict[str, Any]) -> None:
    options = ["--username=tests", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        [programs / "initdb", f"--pgdata={folder / 'data'}", "--no-sync", *options],
        capture_output=True,
        text=True,
        cwd=folder,
        **identity,
    )
    assert done.returncode == 0, f"initdb failed:\n{done.stdout}{done.stderr}"


@contextmanager
def _running(programs: Path, folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    settings = {**_SETTINGS, "unix_socket_directories": folder}
    choices = [f"--{name}={value}" for name, value in settings.items()]
    log = folder / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", *choices],
            stdout=file,
            stderr=file,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            **identity,
        )
    try:
        _await(programs, folder, server, log)
        yield
    finally:
        _stop(server)


def _await(
    programs: Path, folder: Path, server: subprocess.Popen[bytes], log: Path
) -> None:
    ready = [programs / "pg_isready", "--quiet", f"--host={folder}"]
    end = time.monotonic() + _SECONDS
    while subprocess.run(ready).returncode != 0:
        alive = server.poll() is None and time.monotonic() < end
        assert alive, f"PostgreSQL did not start:\n{log.read_text()}"
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Close the connections and stop; at once if that takes too long."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(_SECONDS)
