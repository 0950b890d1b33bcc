"""A Dask cluster as an executor: a call whose worker is lost is made once more."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker
from distributed import Future as Remote

from ..errors import ConfigurationError, RunError
from .beside import pack_call
from .worker import Died, Parcel, end_run, on_worker

__all__ = ["Call", "DaskExecutor"]

_ATTEMPTS = 2


class Call(Future[Any]):
    """What a call returns, once it does, and what became of it so far.

    Attributes
    ----------
    packed : bytes
    workers : list of str
        On which it was begun; more than one where it was lost with its worker.
    """

    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self.packed = packed
        self.workers: list[str] = []
        self.remote: Remote[Any] | None = None

    def cancel(self) -> bool:
        """Have the cluster drop it."""
        self.release()
        return super().cancel()

    def release(self) -> None:
        """Want nothing of the cluster any more, which else would do lost work anew."""
        if self.remote is not None:
            self.remote.release()
            self.remote = None

    def end(self, error: Exception) -> None:
        """Have it fail, where it has not ended yet."""
        if not self.done():
            self.set_exception(error)


class DaskExecutor(Executor):
    """Makes every call in a process of its own, beside a worker of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client
    workers : int
        How many calls are made at once.
    here : bool
        Whether all its processes are on this machine.
    """

    def __init__(self, client: Client, workers: int, *, here: bool) -> None:
        self._client, self._max_workers, self.here = client, workers, here
        self._run = f"domainemo-{uuid4().hex}"
        self._calls: dict[Any, Call] = {}
        self._parcels: dict[str, Callable[[str, str], None]] = {}
        client.subscribe_topic(self._run, self._hear)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Call:
        """Have a call made; its function and arguments are pickled."""
        call = Call(
            pack_call(partial(function, **kwargs) if kwargs else function, *args)
        )
        self._send(call)
        return call

    def send(
        self, folder: Path, watched: str, on_text: Callable[[str, str], None]
    ) -> None:
        """Send a folder's files to every worker that does not see it, now or later.

        Parameters
        ----------
        folder : Path
        watched : str
            The name of files that calls make beside them.
        on_text : callable
            Called with the path in the folder of such a file, and with what it holds,
            whenever that has changed.
        """
        self._parcels[folder.name] = on_text
        self._client.register_plugin(Parcel(folder, watched))

    def take_back(self, folder: Path) -> None:
        """Have the workers remove what :meth:`send` has sent them."""
        if self._parcels.pop(folder.name, None) is not None:
            self._client.unregister_worker_plugin(folder.name)

    def close(self) -> None:
        """Have the workers drop what is under way, and end what they keep for it."""
        for call in list(self._calls.values()):
            call.cancel()
        with suppress(Exception):  # of a cluster that is gone
            self._client.run(end_run, self._run)

    def _send(self, call: Call) -> None:
        key = f"{self._run}-{uuid4().hex}"
        self._calls[key] = call
        remote = self._client.submit(
            on_worker, self._run, call.packed, key=key, pure=False
        )
        call.remote = remote
        remote.add_done_callback(partial(self._end, call))

    def _hear(self, event: tuple[float, Any]) -> None:
        """Take note of what a worker tells; in Dask's thread."""
        told = event[1]
        if "text" in told:
            name, _, path = told["path"].partition("/")
            if name in self._parcels:
                self._parcels[name](path, told["text"])
            return
        call = self._calls.get(told["key"])
        if call is None:
            return
        call.workers.append(told["worker"])
        if len(call.workers) > _ATTEMPTS:
            call.end(_lost(call))
            call.release()

    def _end(self, call: Call, remote: Remote[Any]) -> None:
        """Answer a call; make it once more where its process died."""
        self._calls.pop(remote.key, None)
        try:
            well, answer = pickle.loads(remote.result())
            call.release()
        except Died:
            if len(call.workers) < _ATTEMPTS:
                self._send(call)
            else:
                call.end(_lost(call))
        except KilledWorker:
            call.end(_lost(call))
        except CancelledError:
            call.end(
                RunError(
                    "the connection to the cluster was lost. Run again to resume, once "
                    "its scheduler runs."
                )
            )
        except ModuleNotFoundError as error:
            call.end(
                ConfigurationError(
                    f"the cluster's workers have no {error.name}. Install domainemo, "
                    f"in the same version, on all of its machines."
                )
            )
        except Exception as error:
            call.end(error)
        else:
            if call.done():
                return
            if well:
                call.set_result(answer)
            else:
                call.set_exception(answer)


def _lost(call: Call) -> RunError:
    return RunError(
        f"its workers were lost, one after the other ({', '.join(call.workers)}), "
        f"perhaps for want of memory or of the time they were given. Run again to "
        f"resume, with more of both."
    )
