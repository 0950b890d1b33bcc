"""What a folder holds, by length and hash; what was damaged since, and is set aside.

A folder's record, ``files.json``, says how long each of its files is and what its
SHA-256 is, so that a file which was cut off, changed or exchanged since is noticed
where it is read.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from ..errors import DataError, DomainemoError, DomainemoWarning, data_error
from .atomic import explained, sync, write

__all__ = [
    "RECORD",
    "REMEDY",
    "check",
    "check_all",
    "discard_damaged",
    "doubted",
    "find_damage",
    "is_expected",
    "is_recorded",
    "read",
    "record",
    "records",
    "set_aside",
    "write_recorded",
]

RECORD = "files.json"
"""The file that says what the other files of its folder are."""

REMEDY = (
    "It was damaged or exchanged after it had been written. Run the command that made "
    "it once more, with the same choices: what is damaged is set aside and made anew."
)

MOST = 16 * 2**30
"""Bytes that no file of a run has."""

MOST_RECORDS = 64 * 2**20
"""Bytes that no record has."""

Parsed = TypeVar("Parsed")


def record(folder: Path, *names: str) -> None:
    """Record files as they are.

    Parameters
    ----------
    folder : Path
    *names : str
        Of those that are not recorded yet; by default all files of the folder are.
    """
    kept = _kept(folder) if names else {}
    every = sorted(path.name for path in folder.iterdir() if path.is_file())
    new = [name for name in names or every if name not in (RECORD, *kept)]
    if new:
        _write_record(folder, kept | {name: _facts(folder / name) for name in new})


def write_recorded(path: Path, content: bytes | str) -> None:
    """Write a file and record it; nothing is done where it is there already.

    The record comes first. Who is killed in between finds the file damaged, and makes
    it anew.
    """
    content = content.encode() if isinstance(content, str) else content
    facts = _facts_of(content)
    kept = _kept(path.parent)
    if kept.get(path.name) != facts:
        _write_record(path.parent, {**kept, path.name: facts})
    if not path.is_file() or _facts(path) != facts:
        write(path, content)


def is_expected(path: Path) -> bool:
    """Return whether a file is there, or is recorded and should be."""
    return path.exists() or path.name in _kept(path.parent)


def is_recorded(path: Path, content: bytes | str) -> bool:
    """Return whether a file was recorded with this very content."""
    content = content.encode() if isinstance(content, str) else content
    return _kept(path.parent).get(path.name) == _facts_of(content)


def records(folder: Path) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the recorded length and hash of each file; None without a record.

    Raises
    ------
    DataError
        If the record itself is damaged.
    """
    path = folder / RECORD
    if not os.path.lexists(path):
        return None
    files: dict[str, dict[str, Any]] = {}
    whole = False
    # A pipe would be waited for, and what a link leads to is not this folder's.
    if path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_RECORDS:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(path.read_bytes())
            files = stored["files"]
            whole = stored["sha256"] == _digest_of(files) and _describes(files)
    if not whole:
        raise data_error(path, _words(path), "the record that was written", REMEDY)
    return files


def find_damage(folder: Path) -> DataError | None:
    """Return what is wrong with the first file that is not as it was recorded.

    None where all are, and where there is no record, which is noted.
    """
    try:
        if records(folder) is None:
            _note_unrecorded(folder)
            return None
        check_all(folder)
    except DataError as error:
        return error
    return None


def check_all(folder: Path) -> None:
    """Compare every recorded file of a folder with its record.

    Raises
    ------
    DataError
        For the first that is missing or differs, or where there is no record.
    """
    known = records(folder)
    if known is None:
        found = "no such file"
        raise data_error(folder / RECORD, found, "the record of its folder", REMEDY)
    for name in known:
        check(folder / name)


def check(path: Path, remedy: str = REMEDY) -> str:
    """Compare a file with its folder's record; return its SHA-256.

    A folder without a record was made by an earlier version: it is noted that its
    files cannot be checked.

    Raises
    ------
    DataError
        If it is missing or differs.
    """
    known = records(path.parent)
    if not path.is_file():
        raise data_error(path, "no such file", "the one that was written", remedy)
    size = path.stat().st_size
    if size > MOST:  # before all of it is read
        raise data_error(path, f"{size} bytes", f"at most {MOST}", remedy)
    found = _facts(path)
    if known is None:
        _note_unrecorded(path.parent)
    elif path.name not in known:
        expected = f"one that {RECORD} beside it names"
        raise data_error(path, "a file that nobody recorded", expected, remedy)
    elif found != known[path.name]:
        recorded = known[path.name].get("bytes")
        expected = f"the file of {recorded} bytes that {RECORD} beside it describes"
        same = found["bytes"] == recorded
        words = "another content of this length" if same else _words(path)
        raise data_error(path, words, expected, remedy)
    return str(found["sha256"])


def read(path: Path, parse: Callable[[bytes], Parsed], remedy: str = REMEDY) -> Parsed:
    """Read a file that must be as it was recorded.

    Parameters
    ----------
    path : Path
    parse : callable
        Makes something of its content; whatever it raises means that the file is not
        what it should be.
    remedy : str
        What to do where it is damaged, as a sentence.

    Raises
    ------
    DataError
        Naming the file, if it is missing, differs or cannot be parsed.
    """
    check(path, remedy)
    content = path.read_bytes()
    try:
        return parse(content)
    except DomainemoError:
        raise
    except Exception as error:  # every format's own
        reason = " ".join(str(error).split())[:200].rstrip(":. ")
        found = f"{_words(path)} that cannot be read ({type(error).__name__}: {reason})"
        raise data_error(path, found, "what was written there", remedy) from error


@contextmanager
def doubted(folder: Path) -> Iterator[None]:
    """Name a folder that nobody recorded where its files turn out to make no sense.

    Where there is a record, they are as they were written, and an error is another's.

    Raises
    ------
    DataError
        In the place of every error that is no sentence already.
    """
    try:
        yield
    except (DomainemoError, OSError):
        raise
    except Exception as error:
        if os.path.lexists(folder / RECORD):
            raise
        reason = " ".join(str(error).split())[:200].rstrip(":. ")
        raise data_error(
            folder,
            f"files that do not fit together ({type(error).__name__}: {reason}), and "
            f"no {RECORD} that tells which of them was changed",
            "what a run or a study leaves",
            "Get another copy of this folder, or make it anew.",
        ) from error


def set_aside(path: Path, why: str) -> None:
    """Rename a damaged file or folder to ``NAME.damaged``, and say so.

    Parameters
    ----------
    path : Path
        Where there is nothing, nothing is renamed.
    why : str
        A sentence that names the file.
    """
    done = "It is made anew."
    if os.path.lexists(path):
        names = (f"{path.name}.damaged{f'-{n}' if n else ''}" for n in count())
        free = (path.with_name(name) for name in names)
        aside = next(each for each in free if not os.path.lexists(each))
        with explained(aside):
            path.replace(aside)
            sync(path.parent)
        done = f"{path.name} is set aside as {aside.name} and made anew."
    why = why.removesuffix(REMEDY).strip()
    warnings.warn(f"{why} {done}", DomainemoWarning, stacklevel=2)


def discard_damaged(path: Path) -> None:
    """Set a file aside that is not as it was recorded, and forget that it was there.

    For what is made anew in any case.
    """
    if not is_expected(path):
        return
    try:
        if records(path.parent) is not None:
            check(path)
    except DataError as error:
        set_aside(path, str(error))
        kept = _kept(path.parent)
        kept.pop(path.name, None)
        _write_record(path.parent, kept)


def _kept(folder: Path) -> dict[str, Any]:
    """Return what is recorded; nothing where the record is damaged."""
    try:
        return dict(records(folder) or {})
    except DataError:
        return {}


def _write_record(folder: Path, files: Mapping[str, Any]) -> None:
    content = {"files": files, "sha256": _digest_of(files)}
    write(folder / RECORD, json.dumps(content, indent=1))


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _facts_of(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": sha256(content).hexdigest()}


def _digest_of(files: Mapping[str, Any]) -> str:
    return sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _describes(files: Any) -> bool:
    """Return whether a record speaks of files of its own folder, and no others."""
    return isinstance(files, dict) and all(
        Path(name).name == name
        and name not in ("", "..")
        and "\0" not in name
        and isinstance(facts, dict)
        and facts.keys() == {"bytes", "sha256"}
        for name, facts in files.items()
    )


def _words(path: Path) -> str:
    if not path.is_file():
        return "no plain file"
    size = path.stat().st_size
    return f"{size} bytes" if size else "an empty file"


def _note_unrecorded(folder: Path) -> None:
    """Note once for a run, or another whole, that it cannot be checked."""
    whole = next((p for p in folder.parents if (p / "config.toml").exists()), folder)
    warnings.warn(
        f"{whole}: found files without a {RECORD}, as an earlier version wrote them; "
        f"whether they were damaged since cannot be checked.",
        DomainemoWarning,
        stacklevel=2,
    )
