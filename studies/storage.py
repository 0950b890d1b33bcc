"""Where a study is kept, who holds which candidate, and what becomes of the killed."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from ..data.files.limits import LARGEST, Refusal, check_file
from ..errors import ConfigurationError, DataError, data_error, did_you_mean
from ..files import explained, lock
from .sampling import RETRY_OF
from .settings import JOURNAL, SQLITE

__all__ = [
    "INTERRUPTED",
    "OPTIONS",
    "WORKER",
    "address_of",
    "disk_error",
    "file_of",
    "is_alive",
    "is_local",
    "is_lost",
    "name_of",
    "name_worker",
    "note_outcome",
    "open_storage",
    "quiet",
    "reason_of",
    "repeat",
    "repeat_killed",
    "worker_name",
]

OUTCOME = "outcome"
"""The attribute that says how a candidate ended and why, before Optuna is told."""

REASON = "reason"
"""The attribute that said why, in studies of earlier versions."""

OPTIONS = "options"
"""The attribute that holds a candidate's options as they were drawn, by full name."""

WORKER = "worker"
"""The attribute that names the process that runs a candidate."""

DEATHS = "deaths"
"""The attribute that counts how often a candidate's process was killed."""

INTERRUPTED = "interrupted"
KILLED = "its process was killed"

_SILENT = {TrialState.FAIL: KILLED, TrialState.PRUNED: "fell behind the others"}
"""Why a candidate ended that left no word."""

_SQLITE_FILE = "sqlite:///"
_REMEDY = (
    "The study was not begun anew, since its candidates would be lost. Put back a copy "
    "of this file, or tune into another --output folder."
)

_call = ""
"""How this process's name begins."""

_REPEATS = 5  # of a candidate whose process is killed each time
_HEARTBEAT = 30  # seconds between signs of life, where machines share a storage
_GRACE = 120  # seconds without one until a candidate counts as dead


def address_of(folder: Path, given: str | None) -> str:
    """Return a storage's address.

    Parameters
    ----------
    folder : Path
        The study's.
    given : str, optional
        An address, ``"journal"``, or ``"sqlite"``, which is the default.

    Raises
    ------
    ConfigurationError
        If it is none of these, or would keep nothing.
    """
    if given in (None, SQLITE):
        return f"{_SQLITE_FILE}{folder.resolve() / 'study.db'}"
    given = str(given)  # a number is a word that looks like one
    journal = str(folder.resolve() / "study.journal")
    # An address may be given once more, in any spelling.
    if given == JOURNAL or str(Path(given).resolve()) == journal:
        return journal
    nowhere = re.search(r"^sqlite[^:]*:/*$|:memory:|mode=memory", given)
    if "://" not in given or nowhere:
        raise ConfigurationError(
            f"The storage is {given!r}.{did_you_mean(given, (SQLITE, JOURNAL))} "
            f"Expected {SQLITE!r} or {JOURNAL!r}, which lie in the study's folder, or "
            f"an address such as postgresql+psycopg://user@host/database."
        )
    return given


def name_of(address: str) -> str:
    """Return what a configuration says of a storage: no password, no folder."""
    if address.startswith("sqlite:"):
        return SQLITE
    return without_password(address) if "://" in address else JOURNAL


def is_local(address: str) -> bool:
    """Return whether a storage belongs to one folder, whose lock guards it."""
    return address.startswith("sqlite:") or "://" not in address


def open_storage(address: str, read_only: bool = False) -> BaseStorage:
    """Open a storage.

    Parameters
    ----------
    address : str
        From :func:`address_of`.
    read_only : bool
        True makes nothing: no file, no table, no row.

    Raises
    ------
    ConfigurationError
        If it cannot be reached; or to be read, and is no study's.
    """
    with _explained(address):
        file = file_of(address)
        if file is not None:
            _check_place(file, read_only)
        if "://" not in address:
            return JournalStorage(_Journal(address, lock_obj=_JournalLock(address)))
        choices: dict[str, Any] = {"skip_table_creation": read_only}
        if is_local(address):
            choices["engine_kwargs"] = {"connect_args": {"timeout": 120}}
        elif not read_only:
            choices |= _heartbeats()
        if read_only and file is not None:
            address = f"{_SQLITE_FILE}{_read_only(file)}&uri=true"
        storage = RDBStorage(address, **choices)
        # A server is told, and does not find out by itself, that nobody asks any more.
        weakref.finalize(storage, storage.engine.dispose)
        return storage


class _Journal(JournalFileBackend):
    """Names the file where it cannot be written; half a line is cut off later."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end."""
        with explained(Path(self._file_path)):
            super().append_logs(logs)


class _JournalLock(JournalFileOpenLock):
    """Guards a journal while a process writes to it.

    Optuna's own locks are files, which a killed process leaves behind, and everyone
    then waits for half a minute; the system releases this one at once.
    """

    def __init__(self, address: str) -> None:
        super().__init__(address, grace_period=None)
        self._journal = Path(address)
        self._held = ExitStack()

    def acquire(self) -> bool:
        """Wait for it; cut off a line that a killed process has not finished."""
        with ExitStack() as held:
            held.enter_context(lock(Path(self._lock_file), wait=True))
            _cut_unfinished(self._journal)
            self._held = held.pop_all()
        return True

    def release(self) -> None:
        """Let others write."""
        self._held.close()


def _cut_unfinished(journal: Path) -> None:
    """Remove what stands after the last whole line, which the next one would join."""
    with journal.open("rb+") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def file_of(address: str) -> Path | None:
    """Return the file that a storage is; None for a server, or what is in memory."""
    if "://" not in address:
        return Path(address)
    if address.startswith(_SQLITE_FILE) and not address.startswith("sqlite:///file:"):
        return Path(address.removeprefix(_SQLITE_FILE).partition("?")[0])
    return None


def _read_only(file: Path) -> str:
    """Return SQLite's own address of a file that it shall not write to."""
    return f"file:{quote(str(file.absolute()))}?mode=ro"


def _check_place(file: Path, read_only: bool) -> None:
    """Refuse what is no study's own file, before anything is opened."""
    if file.is_symlink():
        raise Refusal("a link to another place", "the study's own file")
    if not file.exists():
        if not read_only:
            return
        raise Refusal("no such file", "the study's own file")
    check_file(file, LARGEST)
    if not read_only or file.suffix != ".db":
        return
    from contextlib import closing

    with closing(sqlite3.connect(_read_only(file), uri=True)) as connection:
        # A view or a trigger is a program of the file's author.
        programs = connection.execute(
            "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
            "OR sql LIKE 'CREATE VIRTUAL%'"
        ).fetchall()
    if programs:
        names = ", ".join(repr(name) for (name,) in programs[:3])
        raise Refusal(f"views, triggers or virtual tables ({names})", "tables only")


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Say in a sentence why a storage could not be opened."""
    try:
        yield
    except Refusal as error:
        raise ConfigurationError(
            f"{address}: found {error.found}; expected {error.expected}, of a study "
            f"that `domainemo tune` has kept. Give the folder of a study, or name "
            f"where it is kept with --storage."
        ) from error
    except ImportError as error:
        raise ConfigurationError(
            f"{without_password(address)}: {error}. PostgreSQL needs a driver: "
            f"pip install 'domainemo[postgres]', and an address such as "
            f"postgresql+psycopg://user@host/database."
        ) from error
    except Exception as error:  # SQLAlchemy's and every driver's own
        file = file_of(address)
        if file is not None and isinstance(error.__cause__, sqlite3.OperationalError):
            raise disk_error(file, error) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if is_local(address):
            found = f"a file that cannot be used ({type(error).__name__}: {reason})"
            raise damaged(file or Path(address), found) from error
        raise ConfigurationError(
            f"{without_password(address)}: the study's storage cannot be opened: "
            f"{reason}. Check the address, and that the server runs."
        ) from error


def damaged(path: Path, found: str) -> DataError:
    """Return the error that names a file of a study, and how it goes on."""
    return data_error(path, found, "the candidates of the study", _REMEDY)


def disk_error(file: Path, error: Exception) -> ConfigurationError:
    """Return the error that names a study's own file which a disk or its rights fail.

    Parameters
    ----------
    file : Path
    error : Exception
        SQLite's, or what SQLAlchemy or Optuna made of it.
    """
    reason = str(error.__cause__ or error).splitlines()[0]
    return ConfigurationError(
        f"{file}: the study's storage could not be read or written: {reason}. What "
        f"is finished is kept. See that its disk has room and that you may write "
        f"to it, and run the same command again."
    )


def _heartbeats() -> dict[str, Any]:
    """Return how a storage of several machines notices one that died."""
    import inspect

    from sqlalchemy.pool import NullPool

    # Optuna 5 has renamed it.
    new = "heartbeat_stale_trial_callback"
    known = new in inspect.signature(RDBStorage.__init__).parameters
    return {
        "heartbeat_interval": _HEARTBEAT,
        "grace_period": _GRACE,
        new if known else "failed_trial_callback": repeat,
        # A connection for each use: none goes stale, none is left open.
        "engine_kwargs": {"poolclass": NullPool},
    }


def without_password(address: str) -> str:
    """Return an address that may be shown and kept."""
    if "://" not in address:
        return address
    from sqlalchemy.engine import make_url

    url = make_url(address)
    if url.password is None:
        return address
    return url.render_as_string(hide_password=True)


def worker_name() -> str:
    """Return the name of this process among all machines."""
    return f"{_call}{socket.gethostname()}:{os.getpid()}"


def name_worker(call: str) -> None:
    """Have the name of this process begin with that of a cluster's call."""
    global _call
    _call = f"{call}:"


def is_alive(worker: str) -> bool:
    """Return whether a process lives, as far as can be told from here."""
    import psutil

    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname():
        return True  # its heartbeat tells
    return pid.isdecimal() and psutil.pid_exists(int(pid))


def note_outcome(
    trial: Trial,
    state: TrialState,
    values: Sequence[float] | None = None,
    reason: str = "",
) -> None:
    """Note how a candidate ended, in one step.

    Optuna is told after that; where the process is killed in between,
    :func:`repeat_killed` tells it.

    Parameters
    ----------
    trial : optuna.Trial
    state : optuna.trial.TrialState
    values : sequence of float, optional
        Of a complete one.
    reason : str
        Why it is not complete.
    """
    found = {"state": state.name, "values": values, "reason": reason}
    trial.set_user_attr(OUTCOME, found)


def repeat_killed(study: Study, dead: Callable[[str], bool]) -> None:
    """Account for candidates whose process is gone, and have them run again.

    One that had ended, and only Optuna was not told yet, counts as what it was.

    Parameters
    ----------
    study : Study
    dead : callable
        Whether the process of that name is gone.
    """
    for each in study.get_trials(deepcopy=False):
        worker = each.user_attrs.get(WORKER, "")
        if each.state == TrialState.RUNNING and dead(worker):
            unfinished = {"state": TrialState.FAIL.name, "values": None}
            found = each.user_attrs.get(OUTCOME, unfinished)
            try:
                study.tell(each.number, found["values"], TrialState[found["state"]])
            except (ValueError, RuntimeError):  # another process was faster
                continue
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    for each in failed:
        if is_lost(each):
            repeat(study, each)


def repeat(study: Study, killed: FrozenTrial) -> None:
    """Have a killed candidate run again, once, under a number of its own."""
    first = killed.user_attrs.get(RETRY_OF, killed.number)
    earlier = [
        each
        for each in study.get_trials(deepcopy=False)
        if each.user_attrs.get(RETRY_OF) == first
    ]
    if any(each.number > killed.number for each in earlier):
        return
    # Interrupted ones come again as often as it takes.
    deaths = killed.user_attrs.get(DEATHS, 0) + (reason_of(killed) == KILLED)
    if deaths > _REPEATS:
        return
    kept = {
        key: value
        for key, value in killed.user_attrs.items()
        if key not in (OUTCOME, REASON, WORKER)
    }
    attributes = {**kept, RETRY_OF: first, DEATHS: deaths}
    # One killed while it drew draws again, from the beginning: the same seed would give
    # the rest of its options what it gave the first.
    drawn = OPTIONS in killed.user_attrs
    params = killed.params if drawn else killed.system_attrs.get("fixed_params", {})
    study.enqueue_trial(params, user_attrs=attributes)


def is_lost(candidate: FrozenTrial) -> bool:
    """Return whether a candidate ended by no doing of its own: killed, interrupted."""
    failed = candidate.state == TrialState.FAIL
    return failed and reason_of(candidate) in (KILLED, INTERRUPTED)


def reason_of(candidate: FrozenTrial) -> str:
    """Return why a candidate did not finish; empty for any other.

    One that failed in silence was killed.
    """
    found = candidate.user_attrs.get(OUTCOME)
    # An interrupt may have come between the note and what Optuna was told.
    if found is not None and found["state"] == candidate.state.name:
        noted = found["reason"]
    else:
        noted = candidate.user_attrs.get(REASON)
    return str(noted or _SILENT.get(candidate.state, ""))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from narrating; its experimental parts are known to be that."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
