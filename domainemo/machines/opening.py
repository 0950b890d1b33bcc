"""Open a cluster: Dask's workers on this machine, at an address, or from SLURM."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..data.files.limits import parse_toml
from ..errors import ConfigurationError, did_you_mean
from ..processes import check_main, cores, starting
from ..values import Bounds, check_value, given_path, plain

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["LOCAL", "check_cluster", "cluster", "slurm_cluster"]

LOCAL = "dask"
"""In place of an address: workers on this machine."""

_SECONDS = 10  # to reach a scheduler
_CLOSING_SECONDS = 10
_TABLE = "slurm"
_KEYS: Mapping[str, Any] = {
    "cores": Annotated[int, Bounds(least=1)],
    "memory": str,
    "walltime": str,
    "queue": str,
    "account": str,
    "job_extra_directives": Sequence[str],
    "job_directives_skip": Sequence[str],
    "job_script_prologue": Sequence[str],
    "python": str,
    "local_directory": str,
    "log_directory": str,
    "interface": str,
    "scheduler_options": dict,
}
"""What a file of a SLURM cluster may hold: arguments of dask-jobqueue's own."""

_PATIENCE = "distributed.deploy.lost-worker-timeout"
_CONFIGURATION = {
    # Of a large table, calls carry the rows that they train on.
    "distributed.admin.large-graph-warning-threshold": "1 GiB",
}


def check_cluster(where: str | Path, jobs: int | None = None) -> None:
    """Refuse what :func:`cluster` could not open, without opening anything.

    Raises
    ------
    ConfigurationError
    """
    given_path("where", where, "a file, an address or 'local'")
    where, jobs = str(where), plain(jobs)
    check_value("jobs", jobs, Annotated[int, Bounds(least=1)] | None)
    if not _is_address(where):
        if where != LOCAL:
            _read(where)
            if jobs is None:
                raise ConfigurationError(
                    f"{where}: say how many SLURM jobs to submit: --jobs N."
                )
    elif jobs is not None:
        raise ConfigurationError(
            f"The cluster at {where} has the workers that it has; leave away how many "
            f"there should be ({jobs})."
        )
    with _explained():
        import distributed

        assert distributed
        if not _is_address(where) and where != LOCAL:
            import dask_jobqueue

            assert dask_jobqueue
    if _is_address(where):
        _check_address(where)


def _check_address(address: str) -> None:
    """Refuse what no scheduler can have as its address, which Dask would wait for."""
    from distributed.comm.registry import backends

    scheme, _, place = address.partition("://")
    fits = scheme == "inproc" or re.fullmatch(r"[^\s/]+:\d{1,5}(/\S*)?", place)
    if scheme.lower() not in backends or not fits:
        raise ConfigurationError(
            f"{address!r} is no address of a Dask scheduler; expected one such as "
            f"tcp://host:8786, with its port, as `dask scheduler` prints it."
        )


def _is_address(where: str) -> bool:
    return "://" in where


@contextmanager
def cluster(
    where: str | Path, jobs: int | None = None, *, threads: int = 1
) -> Iterator[Executor]:
    """Open a Dask cluster for a block, as an executor.

    Parameters
    ----------
    where : str or Path
        ``"dask"`` for workers on this machine; the address of a Dask scheduler, such
        as ``"tcp://host:8786"``; or a TOML file with a table ``[slurm]``.
    jobs : int, optional
        How many: processes on this machine, by default one for each of its processors;
        or SLURM's jobs. A cluster at an address has those that it has.
    threads : int
        Processors that each training uses.

    Yields
    ------
    Executor
        For ``executor=`` of :func:`~domainemo.run` and others.

    Raises
    ------
    ConfigurationError
        If there is no such cluster, or the extra ``cluster`` is not installed.

    Examples
    --------
    >>> with de.cluster("dask", jobs=4) as executor:
    ...     results = de.run(data, executor=executor)
    """
    jobs = plain(jobs)
    check_cluster(where, jobs)
    import dask

    from .executor import DaskExecutor

    where = str(where)
    # A worker that starts again within this time is not given up, and killed, by Dask:
    # that takes some seconds, more where the machine is busy.
    patience = {_PATIENCE: "1h" if where == LOCAL else "1m"}
    with dask.config.set({**_CONFIGURATION, **patience}), ExitStack() as opened:
        if _is_address(where):
            client, slots = opened.enter_context(_at(where))
        elif where == LOCAL:
            slots = jobs or max(cores() // threads, 1)
            client = opened.enter_context(_local(slots))
        else:
            assert jobs is not None
            client, slots = opened.enter_context(_slurm(where, jobs, threads))
        executor = DaskExecutor(client, slots, here=where == LOCAL)
        try:
            yield executor
        finally:
            executor.close()


@contextmanager
def _explained() -> Iterator[None]:
    """Say which extra is missing where an import fails in this block."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"A cluster needs Dask, and {error.name} cannot be imported: "
            f"pip install 'domainemo[cluster]'"
        ) from error


@contextmanager
def _client(place: Any) -> Iterator[Client]:
    """Connect to a scheduler; in the end, at once, whatever is under way."""
    from distributed import Client

    client = Client(place, timeout=_SECONDS, set_as_default=False)
    try:
        yield client
    finally:
        client.close(timeout=_CLOSING_SECONDS)


@contextmanager
def _local(workers: int) -> Iterator[Client]:
    """Start workers on this machine, which end with this process."""
    from distributed import LocalCluster

    # A worker that is started again later would import the script for itself.
    check_main()
    with starting():
        # Threads made here inherit that Ctrl-C does not reach them or their processes.
        local = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=None,  # of what trains, it would see nothing
            dashboard_address=":0",  # any free port
            silence_logs=logging.CRITICAL,
        )
    try:
        with _client(local) as client:
            yield client
    finally:
        local.close(timeout=_CLOSING_SECONDS)


@contextmanager
def _at(address: str) -> Iterator[tuple[Client, int]]:
    """Connect to a scheduler that runs already; leave it as it was."""
    with ExitStack() as opened:
        try:
            client = opened.enter_context(_client(address))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"No Dask scheduler answers at {address} within {_SECONDS} s. Check "
                f"the address, as `dask scheduler` prints it, and that it runs and can "
                f"be reached from here."
            ) from error
        threads = client.nthreads()
        if not threads:
            raise ConfigurationError(
                f"The Dask scheduler at {address} has no workers. Start some with "
                f"`dask worker {address}` on the machines that are to train."
            )
        yield client, sum(threads.values())


@contextmanager
def _slurm(file: str, workers: int, threads: int) -> Iterator[tuple[Client, int]]:
    """Submit SLURM jobs, each with a Dask worker; lost ones are submitted again."""
    asked = _read(file)
    if shutil.which("sbatch") is None:
        raise ConfigurationError(
            f"{file}: there is no sbatch on this machine. Run the command where SLURM "
            f"takes jobs, such as the cluster's login node."
        )
    slots = max(asked["cores"] // threads, 1)
    try:
        slurm = slurm_cluster(asked, slots)
    except Exception as error:  # of every kind, for values that do not fit
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ConfigurationError(
            f"{file}: dask-jobqueue refuses what [{_TABLE}] asks for: {reason}. "
            f"Correct it; memory, for one, is a text such as '4GB'."
        ) from error
    try:
        _check_script(file, slurm.job_script())
        slurm.adapt(minimum_jobs=workers, maximum_jobs=workers)
        with _client(slurm) as client:
            yield client, workers * slots
    finally:
        slurm.close(timeout=_CLOSING_SECONDS)


def _check_script(file: str, script: str) -> None:
    """Refuse a job that SLURM would; dask-jobqueue would submit it for ever."""
    command = ["sbatch", "--test-only"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.replace("sbatch: error: ", "").split())
        raise ConfigurationError(f"{file}: SLURM refuses such a job: {reason}.")


def slurm_cluster(asked: Mapping[str, Any], slots: int) -> Any:
    """Return dask-jobqueue's cluster, of no SLURM job yet.

    Parameters
    ----------
    asked : mapping
        What its file holds.
    slots : int
        Trainings that each job runs at once.
    """
    from dask_jobqueue.slurm import SLURMCluster

    own = {key: value for key, value in asked.items() if key != "cores"}
    # Any free port for its web page.
    own["scheduler_options"] = {
        "dashboard_address": ":0",
        **asked.get("scheduler_options", {}),
    }
    with starting():
        return SLURMCluster(
            **own,
            cores=slots,
            job_cpu=asked["cores"],
            processes=1,
            silence_logs=logging.CRITICAL,
        )


def _read(file: str) -> dict[str, Any]:
    """Read what is asked of SLURM."""
    expected = (
        f"'{LOCAL}', the address of a Dask scheduler such as tcp://host:8786, or a "
        f"TOML file with a table [{_TABLE}]"
    )
    if not Path(file).is_file():
        raise ConfigurationError(
            f"{file!r} is no executor: there is no such file. Expected {expected}."
        )
    try:
        found = parse_toml(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: cannot be read as TOML: {error}.") from error
    asked = found.get(_TABLE)
    if not isinstance(asked, dict) or len(found) > 1:
        raise ConfigurationError(
            f"{file}: found {', '.join(found) or 'nothing'}; expected one table "
            f"[{_TABLE}], of {', '.join(_KEYS)}."
        )
    for key, value in asked.items():
        if key not in _KEYS:
            raise ConfigurationError(
                f"{file}: {_TABLE}.{key} is not known.{did_you_mean(key, _KEYS)} "
                f"Expected some of {', '.join(_KEYS)}."
            )
        check_value(f"{file}: {_TABLE}.{key}", value, _KEYS[key])
    for key in ("cores", "memory"):
        if key not in asked:
            raise ConfigurationError(
                f"{file}: {_TABLE}.{key} is missing: what each SLURM job is given."
            )
    return asked
