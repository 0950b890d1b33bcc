"""Whether a study's own storage still holds what it held as the study last stopped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from sqlalchemy.exc import SQLAlchemyError

from ..errors import DomainemoError
from .storage import damaged, disk_error, file_of

__all__ = ["check_file", "check_studies", "digest_of", "explained", "making", "named"]


def check_file(address: str) -> None:
    """Refuse a file that is missing or empty, before anything opens it.

    Whatever opens it would make it anew.

    Parameters
    ----------
    address : str
        Of the storage of a study that has begun.

    Raises
    ------
    DataError
        Naming the file.
    """
    path = file_of(address)
    if path is None:
        return
    if not path.is_file():
        raise damaged(path, "no such file")
    if not path.stat().st_size:
        raise damaged(path, "an empty file")


def digest_of(studies: Mapping[str, Study]) -> str:
    """Return a hash of what finished candidates left in the storage."""
    digest = sha256()
    for key, study in studies.items():
        held: tuple[object, ...] = (key, study.user_attrs)
        digest.update(json.dumps(held, sort_keys=True, default=str).encode())
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                held = (
                    *(trial.number, trial.state.name, trial.values, trial.params),
                    *(trial.user_attrs, sorted(trial.intermediate_values.items())),
                )
                digest.update(json.dumps(held, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def check_studies(
    address: str, studies: Mapping[str, Study], digest: str | None
) -> None:
    """Compare what a study's own file holds with what it held.

    Parameters
    ----------
    address : str
    studies : mapping of str to Study
    digest : str or None
        From :func:`digest_of`; None where the study was killed and nobody could note
        it, so that it is only read.

    Raises
    ------
    DataError
        Naming the file.
    """
    path = file_of(address)
    if path is None:
        return
    with explained(address):
        if address.startswith("sqlite:"):
            _check_database(path)
        found = digest_of(studies)
    if digest not in (None, found):
        raise damaged(path, "other candidates than as the study last stopped")


def _check_database(path: Path) -> None:
    """Have SQLite look whether all of its file is sound; nothing is written."""
    place = f"file:{quote(str(path.absolute()))}?mode=ro"
    with closing(sqlite3.connect(place, uri=True)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, f"a damaged database ({' '.join(found.split())})")


@contextmanager
def named(address: str) -> Iterator[None]:
    """Name a study's own file where it cannot be read or written in this block.

    Raises
    ------
    ConfigurationError
        In the place of an error of the storage.
    """
    try:
        yield
    except DomainemoError:
        raise
    except Exception as error:
        path, found = file_of(address), _of_storage(error)
        if path is None or found is None:
            raise
        raise disk_error(path, found) from error


@contextmanager
def making(address: str) -> Iterator[None]:
    """Do the same where a study's own file is made; half of one is not kept.

    What was there before is left as it is.
    """
    path = file_of(address)
    made = path is not None and not path.exists()
    try:
        with named(address):
            yield
    except DomainemoError:
        if path is not None and made:
            for left in (path, path.with_name(f"{path.name}-journal")):
                left.unlink(missing_ok=True)
        raise


def _of_storage(error: BaseException | None) -> Exception | None:
    """Return the storage's own error; Optuna may trip over it while it tidies up."""
    while error is not None:
        if isinstance(error, StorageInternalError | SQLAlchemyError | sqlite3.Error):
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def explained(address: str) -> Iterator[None]:
    """Name a study's own file where it cannot be opened and read in this block.

    Raises
    ------
    DataError
        In the place of every error that is no sentence already.
    """
    path = file_of(address)
    try:
        yield
    except DomainemoError:
        raise
    except Exception as error:  # Optuna's, SQLAlchemy's, SQLite's and JSON's
        if path is None:
            raise
        reason = " ".join(str(error).splitlines()[:1])[:200].rstrip(". ")
        found = f"a file that cannot be used ({type(error).__name__}: {reason})"
        raise damaged(path, found) from error
