"""A data set's files for a check: written, read, damaged and put back."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import tempfile
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np

from ..core import EmotionData
from ..data.loading import takes_root
from ..data.reader import Reader
from ..errors import DataError
from .requirements import Check, require

__all__ = [
    "attempt",
    "changed",
    "cut",
    "difference",
    "flipped",
    "foreign",
    "of_each_kind",
    "read",
    "written",
]

_MOST_KINDS = 6
_FLIPS, _STRETCHES, _STRETCH = 8, 4, 64
_HEADER = 600
_times = count(1)  # a file that was changed has a time that it never had before


@contextmanager
def written(check: Check) -> Iterator[Path]:
    """Write the files that a check reads into a folder; none where there are none."""
    # Arrays that are mapped from the files may outlive them, which Windows refuses.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        root = Path(place).resolve() / "files"
        if check.files is None or callable(check.files):
            root.mkdir()
        else:
            shutil.copytree(check.files, root)
        if callable(check.files):
            check.files(root)
        yield root


def read(check: Check, root: Path) -> EmotionData:
    """Read everything with a new object; what is warned of is let pass."""
    data = _load(check, root)
    require(
        isinstance(data, EmotionData),
        f"a {type(data).__name__} that load() returns, not an EmotionData",
    )
    return data


def _load(check: Check, root: Path) -> EmotionData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = check.build(root) if takes_root(check.part) else check.build()
        data: EmotionData = made.load()
        return data


def attempt(check: Check, root: Path, where: str) -> EmotionData | DataError:
    """Read files that may be damaged; refuse any other exception than DataError."""
    try:
        return _load(check, root)
    except DataError as error:
        return error
    except Exception as error:
        message = textwrap.shorten(str(error), 200).removesuffix(".")
        found = f"{type(error).__name__} ({message}) {where}"
        raise AssertionError(found) from error


def difference(first: EmotionData, second: EmotionData) -> str | None:
    """Say what two readings do not share, bit for bit; None where they agree."""
    ours, theirs = first.inputs, second.inputs
    if ours.name != theirs.name:
        return f"the name {theirs.name!r}, and {ours.name!r} before"
    if first.classes != second.classes:
        return f"the classes {second.classes}, and {first.classes} before"
    if len(ours) != len(theirs):
        return f"{len(theirs)} windows, and {len(ours)} before"
    if not ours.windows.equals(theirs.windows):
        return "another windows table"
    if not np.array_equal(first.labels, second.labels):
        return f"other labels in {(first.labels != second.labels).sum()} windows"
    if list(ours.modalities.items()) != list(theirs.modalities.items()):
        return f"the modalities {dict(theirs.modalities)}"
    for name, array in ours.signals.items():
        if array.tobytes() != theirs.signals[name].tobytes():
            return f"other values in {name!r}"
    return None


def of_each_kind(check: Check, root: Path, whole: EmotionData) -> list[Path]:
    """Return a file of each kind that matters, of a few kinds.

    Files of one kind have names that differ in their digits alone. A reader names its
    files; of other data sets a file matters whose loss is noticed.
    """
    made = check.build(root)
    reader = isinstance(made, Reader)
    paths = made.files() if reader else [p for p in root.rglob("*") if p.is_file()]
    kinds: dict[str, Path] = {}
    for path in sorted(map(Path, paths)):
        place = path.relative_to(root) if path.is_relative_to(root) else path
        kinds.setdefault(re.sub(r"\d+", "#", str(place)), path)
    found = list(kinds.values())
    if not reader:
        found = [path for path in found if _matters(check, root, whole, path)]
    require(bool(found), "no file at all whose loss is noticed")
    return found[:_MOST_KINDS]


def _matters(check: Check, root: Path, whole: EmotionData, path: Path) -> bool:
    with changed(path, None):
        left = attempt(check, root, f"without {path.name}")
    return isinstance(left, DataError) or difference(whole, left) is not None


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """Give a file another content, or none at all, and put it back as it was."""
    whole, state = path.read_bytes(), path.stat()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9 * next(_times)))
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(whole)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


# ------------------------------------------------------------------------- damages


def foreign() -> dict[str, bytes]:
    """Return what is found under a file's name, by how it is called."""
    array = io.BytesIO()
    np.save(array, np.arange(6.0))
    return {
        "emptied": b"",
        "replaced by a page of a web site": b"<html>403 Forbidden</html>",
        "replaced by zeros": b"\x00" * 4096,
        "replaced by the beginning of an HDF file": b"\x89HDF\r\n\x1a\n" + b"\x00" * 99,
        "replaced by a pickle": pickle.dumps({"data": [1, 2, 3]}),
        "replaced by another array": array.getvalue(),
    }


def cut(content: bytes) -> dict[str, bytes]:
    """Return a file's content with its end cut off, by how it is called."""
    lengths = {len(content) * part // 4 for part in (1, 2, 3)} | {len(content) - 2}
    return {
        f"cut off after {length} of {len(content)} bytes": content[:length]
        for length in sorted(lengths)
        if length > 0
    }


def flipped(content: bytes) -> dict[str, bytes]:
    """Return a file's content with single bits flipped, and stretches overwritten."""
    generator = np.random.default_rng(0)
    found: dict[str, bytes] = {}
    if not content:
        return found
    for number in range(_FLIPS):
        # Half of them where the structure is: at the beginning, and the end of a zip.
        header = generator.integers(-_HEADER, _HEADER, size=3)
        anywhere = generator.integers(len(content), size=3)
        places = (header if number % 2 else anywhere) % len(content)
        bits = generator.integers(8, size=len(places))
        found[f"with bits flipped at bytes {_listed(places)}"] = _flip(
            content, places.tolist(), bits.tolist()
        )
    for number in range(_STRETCHES):
        first = int(generator.integers(len(content)))
        put = bytes(_STRETCH) if number % 2 else content[:_STRETCH]
        found[f"with {len(put)} bytes from {first} on overwritten"] = (
            content[:first] + put + content[first + len(put) :]
        )
    return {where: bytes for where, bytes in found.items() if bytes != content}


def _flip(content: bytes, places: Sequence[int], bits: Sequence[int]) -> bytes:
    changed = bytearray(content)
    for place, bit in zip(places, bits, strict=True):
        changed[place] ^= 1 << bit
    return bytes(changed)


def _listed(numbers: np.ndarray) -> str:
    return ", ".join(map(str, sorted(numbers.tolist())))
