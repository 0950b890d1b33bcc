"""MATLAB files of version 5 to 7.2, checked before SciPy reads them.

SciPy believes what a file says of its sizes: a flipped bit can make it allocate any
amount, or read one thing for another. So the structure of a variable (the format is
described in MathWorks' "MAT-File Format") is walked first, without allocating, and must
fit the bytes that are there to the last one.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import data_error
from .limits import AGAIN, LARGEST, Refusal, inflated_limit

__all__ = ["MatFile", "open_mat"]

OBJECTS = 200_000
"""Arrays that the cells and structs of a variable may hold."""

DEPTH = 16
"""Cells and structs that may lie inside one another."""

_HEADER = 128
_TAG = 8
_CHUNK = 2**20
_HEAD = 4096
_MATRIX, _COMPRESSED = 14, 15
_SAVE = "Open it in MATLAB or Octave and save it with save -v7."

_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {
    **{6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2"},
    **{11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"},
}
"""Data type of each class of numbers."""

_NAMES = {
    **{_CELL: "a cell array", _STRUCT: "a struct", 3: "an object", _CHAR: "text"},
    **{5: "a sparse array", 16: "a function handle", 17: "an object"},
}
"""What the other classes are, for people."""

_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
"""Bytes of a number in each type of storage."""

_TEXT_WIDTHS = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2, 18: 4}
"""Least bytes of a character in each type of storage."""


def open_mat(path: Path) -> MatFile:
    """Open a MATLAB file and list its variables, without reading their values.

    Parameters
    ----------
    path : Path
        A file of version 5 to 7.2, as MATLAB's ``save -v6`` and ``save -v7`` write it.

    Returns
    -------
    MatFile

    Raises
    ------
    DataError
        If the file is missing, cut off, damaged, of version 4 or of version 7.3, or
        holds two variables of one name.
    """
    return MatFile(path)


@dataclass(frozen=True)
class _Entry:
    """Where a variable lies in the file, and what it is."""

    name: str
    place: int
    stored: int
    compressed: bool
    matlab_class: int


class MatFile:
    """A MATLAB file of version 5 to 7.2.

    Opening it reads a few bytes of each variable; asking for a variable reads that one
    alone. A variable may have 64 MiB and 100 times its compressed bytes, or if it is
    not compressed as many as it has; its values may take 4 GiB, and its cells and
    structs hold 200 000 arrays, 16 deep. Reading takes up to three times the variable's
    size in memory.

    Compressed variables may have bytes after their end, as some copies in circulation
    do; checksums are verified.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    path : Path
    names : tuple of str
        Variables in the order of the file.

    Raises
    ------
    DataError
        See :func:`open_mat`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._header = file.read(_HEADER)
                self._order = _byte_order(path, self._header)
                entries = _index(file, self._order)
        except OSError as error:
            found = f"no file to read ({error.strerror})"
            expected = "a MATLAB file"
            raise data_error(path, found, expected, "Check the path.") from error
        except Refusal as error:
            raise error.at(path) from error
        twice = [name for name, n in Counter(e.name for e in entries).items() if n > 1]
        if twice:
            found = f"two variables of the name {twice[0]!r}"
            raise data_error(path, found, "each name once", AGAIN)
        self._entries = {entry.name: entry for entry in entries}
        self.names: tuple[str, ...] = tuple(self._entries)

    def array(self, name: str) -> NDArray[Any]:
        """Read an array of real numbers.

        Parameters
        ----------
        name : str

        Returns
        -------
        ndarray
            In MATLAB's shape (two axes or more) and of MATLAB's class: ``double`` is
            float64 even where the file holds it as small integers. Logical arrays are
            bool.

        Raises
        ------
        DataError
            If there is no such variable, it is damaged or too large, or it is
            something else: text, a struct, a cell, sparse or complex.
        """
        entry = self._entry(name)
        if entry.matlab_class not in _NUMBERS:
            raise data_error(
                self._where(name),
                _NAMES.get(entry.matlab_class, "an unknown class"),
                "an array of real numbers",
                "Check that the file is of the data set and the part it is read as.",
            )
        array: NDArray[Any] = self._load(entry)
        return array

    def value(self, name: str) -> Any:
        """Read a variable of any kind, in Python's terms.

        Parameters
        ----------
        name : str

        Returns
        -------
        Any
            A struct is a dict, an array of structs a list of them; a cell array is
            always a list; both in MATLAB's order, down the columns. A line of text is a
            str, several are a list. A single number is a number; an array of more, or
            none, is an array without its axes of length 1.

        Raises
        ------
        DataError
            If there is no such variable, it is damaged or too large, or holds objects,
            function handles, sparse or complex arrays.
        """
        return _plain(self._load(self._entry(name)))

    def _where(self, name: str) -> str:
        return f"{self.path}, variable {name!r}"

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            listed = ", ".join(self.names[:10]) or "nothing"
            raise data_error(
                self._where(name),
                f"no such variable among {len(self.names)} ({listed[:300]})",
                f"{name!r}",
                "Check that the file is of the data set and the part it is read as.",
            )
        return self._entries[name]

    def _load(self, entry: _Entry) -> Any:
        """Return the variable as SciPy reads it, once its structure is checked."""
        where = self._where(entry.name)
        try:
            with self.path.open("rb") as file:
                stream = io.BytesIO()
                stream.write(self._header)
                _copy(file, entry, self._order, stream)
            with stream.getbuffer() as view:
                _Walk(view, self._order).variable()
            return _read(stream, entry.name, self._order)
        except Refusal as error:
            raise error.at(where) from error
        except Exception as error:
            found = f"damage ({type(error).__name__}: {error})"
            raise data_error(where, found, "an intact variable", AGAIN) from error


def _read(stream: io.BytesIO, name: str, order: str) -> Any:
    import scipy.io

    stream.seek(0)
    with warnings.catch_warnings():
        # SciPy warns of a variable that it cannot read, and returns text in its place.
        warnings.simplefilter("error")
        return scipy.io.loadmat(
            stream,
            mat_dtype=True,
            uint16_codec="utf-16-le" if order == "<" else "utf-16-be",
        )[name]


def _plain(value: Any) -> Any:
    """Return SciPy's arrays of objects and records as lists and dicts."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names:
        records = [
            {name: _plain(record[name]) for name in value.dtype.names}
            for record in value.ravel(order="F")
        ]
        return records[0] if len(records) == 1 else records
    if value.dtype.kind == "O":
        # SciPy's way with structs that have no fields.
        if value.size and all(each is None for each in value.flat):
            return {} if value.size == 1 else [{} for _ in value.flat]
        return [_plain(each) for each in value.ravel(order="F")]
    if value.dtype.kind == "U":
        lines = [str(each) for each in value.ravel(order="F")]
        return lines if len(lines) > 1 else "".join(lines)
    return value.item() if value.size == 1 else value.squeeze()


# -------------------------------------------------------------------------- index


def _byte_order(path: Path, header: bytes) -> str:
    """Return the byte order, if this is a file of version 5 to 7.2."""
    expected = "a MATLAB file of version 5 to 7.2"
    if not header:
        raise data_error(path, "an empty file", expected, "Fetch it again.")
    if header.startswith((b"\x89HDF", b"MATLAB 7.3")):
        found = "a MATLAB file of version 7.3 (HDF5)"
        raise data_error(path, found, expected, _SAVE)
    mark = header[126:128]
    if len(header) == _HEADER and mark in (b"IM", b"MI"):
        order = "<" if mark == b"IM" else ">"
        (version,) = struct.unpack(f"{order}H", header[124:126])
        if version >> 8 == 1 and 0 not in header[:4]:
            return order
    if _looks_like_version_4(header):
        found = "a MATLAB file of version 4"
        raise data_error(path, found, expected, _SAVE)
    found = f"a file that starts with {header[:20]!r}"
    raise data_error(path, found, expected, AGAIN)


def _looks_like_version_4(header: bytes) -> bool:
    """Whether there are a type, a shape, a flag and a name, and nothing before them."""
    for order in "<>":
        if len(header) >= 20:
            kind, _, _, is_complex, length = _words(header, 0, 5, order)
            name = header[20 : 20 + length]
            if kind < 5000 and is_complex < 2 and 1 < length < 64:
                return name.isascii() and name.find(b"\0") == length - 1
    return False


def _index(file: IO[bytes], order: str) -> list[_Entry]:
    """Return where each variable lies; inflates no more than their heads."""
    length = file.seek(0, io.SEEK_END)
    entries, place = [], _HEADER
    while place < length:
        file.seek(place)
        tag = file.read(_TAG)
        if len(tag) < _TAG:
            raise Refusal(f"{len(tag)} bytes at the end", "none")
        kind, stored = struct.unpack(f"{order}II", tag)
        end = place + _TAG + stored
        if kind not in (_MATRIX, _COMPRESSED) or not stored:
            found = f"an element of type {kind} and {stored} bytes at byte {place}"
            raise Refusal(found, "a variable")
        if end > length:
            found = f"the end of the file at byte {length}, within a variable"
            raise Refusal(found, f"at least {end} bytes")
        entry = _entry(file, place, stored, kind == _COMPRESSED, order)
        # Without a name: the variables of function handles.
        if entry.name:
            entries.append(entry)
        place = end
    return entries


def _entry(
    file: IO[bytes], place: int, stored: int, compressed: bool, order: str
) -> _Entry:
    """Read a variable's name and class."""
    if compressed:
        data = file.read(min(stored, 4 * _HEAD))
        try:
            head = zlib.decompressobj().decompress(data, _HEAD)
        except zlib.error as error:
            found = f"a variable that cannot be inflated at byte {place} ({error})"
            raise Refusal(found, "an intact variable") from error
    else:
        file.seek(place)
        head = file.read(min(stored + _TAG, _HEAD))
    with memoryview(head) as view:
        walk = _Walk(view, order, 0)
        if len(head) < _TAG or walk.words(0, 1)[0] != _MATRIX:
            raise Refusal(f"something else at byte {place}", "a variable")
        part = walk.head(_TAG, len(head))
    return _Entry(part.name, place, stored, compressed, part.matlab_class)


def _copy(file: IO[bytes], entry: _Entry, order: str, stream: io.BytesIO) -> None:
    """Append the variable's element to the stream, inflated and within the limits."""
    file.seek(entry.place + _TAG * entry.compressed)
    if not entry.compressed:
        rest = entry.stored + _TAG
        while chunk := file.read(min(rest, _CHUNK)):
            stream.write(chunk)
            rest -= len(chunk)
        return
    limit = inflated_limit(entry.stored)
    inflated, size = 0, None
    for chunk in _inflated(file, entry.stored):
        if size is None:
            if len(chunk) < _TAG:
                raise Refusal("a variable without a size", "an intact variable")
            size = struct.unpack_from(f"{order}I", chunk, 4)[0] + _TAG
        inflated += len(chunk)
        if max(size, inflated) > limit:
            found = f"{max(size, inflated)} bytes or more, compressed to {entry.stored}"
            raise Refusal(found, f"at most {limit} bytes")
        # What follows the variable is inflated too, for the checksum at the end.
        stream.write(chunk[: max(0, size + _HEADER - stream.tell())])
    if size is None or inflated < size:
        raise Refusal(f"{inflated} bytes when inflated", f"{size or _TAG} bytes")


def _inflated(file: IO[bytes], stored: int) -> Any:
    """Yield what the next `stored` bytes inflate to, in pieces."""
    machine = zlib.decompressobj()
    data = b""
    while not machine.eof:
        if not data:
            data = file.read(min(stored, _CHUNK))
            stored -= len(data)
        piece = machine.decompress(data, _CHUNK)
        if piece:
            yield piece
        elif not data and not machine.eof:
            raise Refusal("compressed data that end too early", "an intact variable")
        data = machine.unconsumed_tail


# --------------------------------------------------------------------------- walk


@dataclass(frozen=True)
class _Head:
    """What every array says of itself before its values."""

    matlab_class: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    end: int


class _Walk:
    """Checks that a variable is what it says it is, byte by byte, reading no values."""

    def __init__(self, view: memoryview, order: str, start: int = _HEADER) -> None:
        self.view, self.order, self.start = view, order, start
        self.objects, self.memory = OBJECTS, LARGEST

    def variable(self) -> None:
        kind, size = self.words(self.start, 2)
        end = self.start + _TAG + size
        if kind != _MATRIX or end != len(self.view):
            raise Refusal(f"an element of {size} bytes", "the variable's size")
        self.matrix(self.start + _TAG, end, 0)

    def matrix(self, place: int, end: int, depth: int) -> None:
        """Check the array between two places."""
        if place == end and depth:
            return  # An empty array, within a cell or a struct.
        head = self.head(place, end)
        if head.is_complex:
            found, expected = "complex numbers", "real numbers"
            raise Refusal(found, expected, "Save their parts on their own, with -v7.")
        count = math.prod(head.shape)
        if head.matlab_class in _NUMBERS:
            self.numbers(head, count, end)
        elif head.matlab_class == _CHAR:
            self.text(head, count, end)
        elif head.matlab_class == _CELL:
            self.children(head.end, end, count, depth)
        elif head.matlab_class == _STRUCT:
            place, fields = self.fields(head.end, end)
            if fields == 0 and count > OBJECTS:
                raise Refusal(f"{count} structs", f"up to {OBJECTS}")
            self.children(place, end, count * fields, depth)
        else:
            found = _NAMES.get(head.matlab_class, f"class {head.matlab_class}")
            raise Refusal(
                found,
                "numbers, text, a cell array or a struct",
                "Convert it in MATLAB and save it with save -v7.",
            )

    def head(self, place: int, end: int) -> _Head:
        kind, start, size, place = self.element(place, end)
        if (kind, size) != (6, 8):
            raise Refusal(f"flags of type {kind} and {size} bytes", "type 6, 8 bytes")
        flags = self.words(start, 1)[0]
        matlab_class, is_complex = flags & 0xFF, bool(flags & 0x800)
        shape: tuple[int, ...] = ()
        # An object has a name, but no shape.
        if matlab_class != 17:
            kind, start, size, place = self.element(place, end)
            if kind not in (5, 6) or size % 4 or not 8 <= size <= 4 * 32:
                raise Refusal(f"a shape of {size} bytes", "2 to 32 lengths")
            shape = self.words(start, size // 4)
            if max(shape) >= 2**31:
                raise Refusal("a length below 0", "lengths from 0")
        kind, start, size, place = self.element(place, end)
        if kind not in (1, 2, 16):
            raise Refusal(f"a name of type {kind}", "text")
        name = bytes(self.view[start : start + size]).decode("latin-1")
        return _Head(matlab_class, is_complex, shape, name, place)

    def numbers(self, head: _Head, count: int, end: int) -> None:
        kind, _, size, place = self.element(head.end, end)
        expected = count * _WIDTHS.get(kind, 0)
        if kind not in _WIDTHS or size != expected or place != end:
            found = f"{size} bytes of values (type {kind}) for the shape {head.shape}"
            raise Refusal(found, f"{expected} bytes and nothing behind them")
        self.take(count * np.dtype(_NUMBERS[head.matlab_class]).itemsize)

    def text(self, head: _Head, count: int, end: int) -> None:
        kind, _, size, place = self.element(head.end, end)
        least = count * _TEXT_WIDTHS.get(kind, 0)
        if kind not in _TEXT_WIDTHS or size < least or place != end:
            found = f"{size} bytes of text (type {kind}) for the shape {head.shape}"
            raise Refusal(found, f"at least {least} bytes and nothing behind them")
        self.take(4 * size)

    def fields(self, place: int, end: int) -> tuple[int, int]:
        """Check the names of a struct's fields; return where they end, how many."""
        kind, start, size, place = self.element(place, end)
        length = self.words(start, 1)[0] if (kind, size) == (5, 4) else 0
        kind, start, size, place = self.element(place, end)
        if not length or kind != 1 or size % length:
            raise Refusal(f"{size} bytes of field names", "names of one length")
        if size // length > OBJECTS:
            raise Refusal(f"{size // length} fields", f"up to {OBJECTS}")
        text = bytes(self.view[start : start + size])
        names = [text[i : i + length].split(b"\0")[0] for i in range(0, size, length)]
        if len(set(names)) < len(names) or not all(names):
            raise Refusal("fields without a name of their own", "names")
        return place, len(names)

    def children(self, place: int, end: int, count: int, depth: int) -> None:
        self.objects -= count
        if self.objects < 0 or depth == DEPTH:
            found = f"more than {OBJECTS} arrays, or more than {DEPTH} levels"
            raise Refusal(found, "fewer")
        for _ in range(count):
            kind, size = self.words(place, 2) if place + _TAG <= end else (0, 0)
            start, place = place + _TAG, place + _TAG + size
            if kind != _MATRIX or place > end:
                raise Refusal(f"an element of type {kind}, {size} bytes", "an array")
            self.matrix(start, place, depth + 1)
        if place != end:
            raise Refusal(f"{end - place} bytes after the last element", "none")

    def element(self, place: int, end: int) -> tuple[int, int, int, int]:
        """Return type, start and size of the element here, and where the next is."""
        if place + _TAG > end:
            raise Refusal("an array that ends too early", "an intact variable")
        kind, size = self.words(place, 2)
        if kind >> 16:  # Up to four bytes lie within the tag.
            kind, size = kind & 0xFFFF, kind >> 16
            start, after = place + 4, place + _TAG
            if size > 4:
                raise Refusal(f"an element of {size} bytes in 4", "up to 4 bytes")
        else:
            start = place + _TAG
            after = start + -(-size // 8) * 8
        if after > end:
            found = f"an element of {size} bytes where {end - place} are left"
            raise Refusal(found, "an intact variable")
        return kind, start, size, after

    def words(self, place: int, count: int) -> tuple[int, ...]:
        return _words(self.view, place, count, self.order)

    def take(self, count: int) -> None:
        self.memory -= count
        if self.memory < 0:
            raise Refusal(f"more than {LARGEST} bytes of values", f"up to {LARGEST}")


def _words(
    data: bytes | memoryview, place: int, count: int, order: str
) -> tuple[int, ...]:
    return struct.unpack_from(f"{order}{count}I", data, place)
