"""Pickles of arrays, read without running anything that they ask for.

Unpickling a file with :mod:`pickle` runs any program that its author put there. The
data sets of the field are published as pickles all the same, many from Python 2. They
hold arrays in plain containers, for which a small part of the pickle machine is enough:
it is written out here, calls nothing that a file names, and knows a fixed list of
names, each with a function of this module behind it.

A file cannot make it allocate without bound either: see :func:`loads_pickle`.
"""

from __future__ import annotations

import codecs
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import data_error
from .limits import AGAIN, Refusal

__all__ = ["filled", "loads_pickle", "read_pickle"]

STEPS = 1_000_000
"""Instructions a pickle may have, and values that its result may hold."""

LENGTH = 1_000_000
"""An axis that an array without values may have, however few its bytes."""

DEPTH = 32
"""Containers that may lie inside one another."""

_ARRAYS = "arrays of numbers or text in plain containers"
_DISTRUST = (
    "A pickle can ask for any program to be run; domainemo runs none. Do not open the "
    "file with another program unless you trust its origin, and fetch it from the "
    "publisher."
)


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays in plain containers; of Python 2 too.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Any
        See :func:`loads_pickle`.

    Raises
    ------
    DataError
        If the file cannot be read; see :func:`loads_pickle`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise data_error(
            path, f"no file to read ({error.strerror})", "a pickle", "Check the path."
        ) from error
    return loads_pickle(data, str(path))


def loads_pickle(data: bytes, where: str) -> Any:
    """Return what a pickle holds, if that is arrays in plain containers.

    These are: None, bool, int, float, complex, str, bytes, bytearray, list, tuple,
    dict, set, frozenset, and NumPy's arrays and scalars of such numbers and text.
    Ordered dictionaries come back as dictionaries. ``str`` of Python 2 is read as
    Latin-1, so that it comes back as text; arrays are what they were.

    Whatever the bytes are, no more memory is taken than ten times their number and 512
    MiB (four times for an array of Python 2): what arrays and converted text take
    together is counted, and there are at most a million instructions and values, 32
    containers deep. Nothing is called that a file names.

    Parameters
    ----------
    data : bytes
        All protocols up to 5.
    where : str
        The file, and the key in it, for messages.

    Returns
    -------
    Any
        Arrays can be written to.

    Raises
    ------
    DataError
        If the pickle is damaged, goes on after its end, or asks for anything else; the
        message names it.
    """
    machine = _Machine(data)
    try:
        with warnings.catch_warnings():
            # Odd escapes in the text of a damaged file.
            warnings.simplefilter("ignore")
            return machine.run()
    except Refusal as error:
        raise error.at(where) from error
    except Exception as error:
        found = f"a pickle that fails ({type(error).__name__}: {error})"
        raise data_error(where, found, _ARRAYS, AGAIN) from error


def filled(
    data: bytes | bytearray | memoryview,
    dtype: np.dtype[Any],
    shape: Any,
    order: Literal["C", "F"],
    limit: int,
) -> NDArray[Any]:
    """Return the array whose values are `data`, which is not copied.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
    dtype : dtype
    shape : tuple of int
        As claimed by the file; anything.
    order : {"C", "F"}
    limit : int
        What no length may exceed, if above a million: an array without values takes no
        bytes, whatever its shape.

    Raises
    ------
    Refusal
        If shape, data type and bytes do not fit one another.
    """
    limit = max(limit, LENGTH)
    if type(shape) is not tuple or len(shape) > 32:
        raise Refusal(f"the shape {_short(shape)}", "a tuple of up to 32 lengths")
    for length in shape:
        if type(length) is not int or not 0 <= length <= limit:
            raise Refusal(f"the shape {_short(shape)}", f"lengths from 0 to {limit}")
    if not 0 < dtype.itemsize <= limit:
        raise Refusal(f"values of {dtype.itemsize} bytes", f"1 to {limit} bytes")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise Refusal(
            f"{len(data)} bytes for an array of shape {_short(shape)} and type {dtype}",
            f"{expected} bytes",
        )
    if not data:
        return np.empty(shape, dtype)
    if dtype.kind == "b" and np.frombuffer(data, np.uint8).max() > 1:
        raise Refusal("truth values other than 0 and 1")
    if dtype.kind == "U":
        codes = np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder))
        if codes.max() > 0x10FFFF:
            raise Refusal("text with characters that do not exist")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


# ------------------------------------------------------------------------ machine


class _Mutable:
    """An array or a data type that an instruction is still to fill."""

    value: Any = None


class _Array(_Mutable):
    pass


class _Kind(_Mutable):
    pass


class _Global:
    """A name on the list, with what it does when called."""

    def __init__(self, call: Callable[..., Any] | None) -> None:
        self.call = call


class _Machine:
    """The pickle machine: a stack, marks in it, a memo, and limits."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        # Array and converted text: twice the bytes, and once again for each.
        self.allowance = 4 * len(data) + 2**20
        self.values = STEPS

    def run(self) -> Any:
        for _ in range(STEPS):
            code = self.take(1)
            if code == b".":
                return self.result()
            step = _STEPS.get(code)
            if step is None:
                raise Refusal(
                    f"the pickle instruction {code!r} at byte {self.place - 1}",
                    _ARRAYS,
                    _DISTRUST,
                )
            step(self)
        raise Refusal(f"more than {STEPS} instructions")

    def result(self) -> Any:
        value = self.pop()
        if self.stack or self.marks:
            raise Refusal("a pickle that ends before it is complete")
        if self.place != len(self.data):
            found = f"{len(self.data) - self.place} bytes after the pickle's end"
            raise Refusal(found, "none")
        return self.plain(value, 0)

    def plain(self, value: Any, depth: int) -> Any:
        """Copy the containers, with arrays in the place of those to be filled.

        Small pickles can hold themselves, or unfold to any number of values.
        """
        self.values -= 1
        if depth > DEPTH or self.values < 0:
            raise Refusal(
                f"containers more than {DEPTH} deep"
                if depth > DEPTH
                else f"more than {STEPS} values"
            )
        if isinstance(value, dict):
            return {k: self.plain(each, depth + 1) for k, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.plain(each, depth + 1) for each in value)
        if isinstance(value, _Array):
            return self.plain_array(value.value, depth)
        if isinstance(value, _Global | _Kind):
            raise Refusal("a function or a data type where a value should be")
        return value

    def plain_array(self, array: NDArray[Any] | None, depth: int) -> NDArray[Any]:
        if array is None:
            raise Refusal("an array without values", _ARRAYS)
        if array.dtype.kind != "O":
            return array
        flat = np.empty(array.size, dtype=object)
        for i, each in enumerate(array.reshape(-1)):
            flat[i] = self.plain(each, depth + 1)
        return flat.reshape(array.shape)

    def take(self, count: int) -> bytes:
        start, self.place = self.place, self.place + count
        if self.place > len(self.data):
            raise Refusal(
                f"the end of the data at byte {len(self.data)}, within the pickle"
            )
        return self.data[start : self.place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self, limit: int | None = None) -> bytes:
        end = self.data.find(b"\n", self.place)
        if end < 0 or (limit is not None and end - self.place > limit):
            raise Refusal(f"a line without end, or too long, at byte {self.place}")
        return self.take(end + 1 - self.place)[:-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refusal(f"an instruction without a value at byte {self.place}")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise Refusal(f"an instruction without a mark at byte {self.place}")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        value = self.pop()
        self.push(value)
        if type(value) is not kind:
            raise Refusal(f"an instruction for a {kind.__name__} on something else")
        return value

    def spend(self, count: int) -> None:
        """Take from the allowance: one value may be read any number of times."""
        self.allowance -= count
        if self.allowance < 0:
            raise Refusal(
                f"a pickle of {len(self.data)} bytes that grows to many times that"
            )


# ------------------------------------------------------------------- instructions

_KEYS = (
    *(str, bytes, int, float, bool, type(None)),
    *(np.bool_, np.int8, np.int16, np.int32, np.int64),
    *(np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64, np.str_, np.bytes_),
)


def _key(value: Any) -> Any:
    """Return the key; the hash of nested tuples can take for ever."""
    if type(value) not in _KEYS:
        raise Refusal(f"a key of type {type(value).__name__}", "text or a number")
    return value


def _set_items(target: dict[Any, Any], values: list[Any]) -> None:
    if len(values) % 2:
        raise Refusal("a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        target[_key(key)] = value


def _dict(values: list[Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    _set_items(result, values)
    return result


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    if type(function) is not _Global or type(arguments) is not tuple:
        raise Refusal("a call of something that is no function", remedy=_DISTRUST)
    if function.call is None:
        raise Refusal("a call of numpy.ndarray", remedy=_DISTRUST)
    machine.push(function.call(machine, *arguments))


def _build(machine: _Machine) -> None:
    state, target = machine.pop(), machine.pop()
    if type(state) is not tuple or type(target) not in (_Array, _Kind):
        raise Refusal("a state for something that has none", remedy=_DISTRUST)
    if type(target) is _Kind:
        _set_kind(target, state)
    else:
        _set_array(machine, target, state)
    machine.push(target)


def _find(machine: _Machine, module: Any, name: Any) -> None:
    known = _GLOBALS.get((module, name)) if type(module) is type(name) is str else None
    if known is None:
        asked = f"{module}.{name}" if type(module) is type(name) is str else "no name"
        raise Refusal(
            f"a pickle that asks for {_short(asked)}",
            f"nothing but {_ARRAYS}",
            _DISTRUST,
        )
    machine.push(known)


def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    _find(machine, module.decode(), name.decode())


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    _find(machine, module, name)


def _put(machine: _Machine, index: int) -> None:
    value = machine.pop()
    machine.push(value)
    machine.memo[index] = value


def _get(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        raise Refusal(f"a reference to value {index}, which does not exist")
    machine.push(machine.memo[index])


def _integer(text: bytes) -> int | bool:
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text.removesuffix(b"L"))


def _long(machine: _Machine, size: int) -> int:
    if size > 9:
        raise Refusal(f"an integer of {size} bytes", "up to 9 bytes")
    return int.from_bytes(machine.take(size), "little", signed=True)


def _quoted(text: bytes) -> str:
    """Return the text that Python 2 wrote like a literal."""
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise Refusal("text without quotation marks")
    return codecs.escape_decode(text[1:-1])[0].decode("latin-1")


def _pack(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(values)))


def _extend(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(values)


def _add(machine: _Machine, values: list[Any]) -> None:
    machine.top(set).update(map(_key, values))


def _append(machine: _Machine) -> None:
    _extend(machine, [machine.pop()])


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine.top(dict), [key, value])


def _set_all(machine: _Machine) -> None:
    values = machine.pop_to_mark()
    _set_items(machine.top(dict), values)


_TEXTS: Mapping[bytes, tuple[int, Callable[[bytes], Any]]] = {
    # Size of the length that stands before the bytes, and what they are.
    b"U": (1, lambda data: data.decode("latin-1")),
    b"T": (4, lambda data: data.decode("latin-1")),
    b"C": (1, bytes),
    b"B": (4, bytes),
    b"\x8e": (8, bytes),
    b"\x8c": (1, lambda data: data.decode("utf-8", "surrogatepass")),
    b"X": (4, lambda data: data.decode("utf-8", "surrogatepass")),
    b"\x8d": (8, lambda data: data.decode("utf-8", "surrogatepass")),
    b"\x96": (8, bytearray),
}
_READ: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"]": lambda m: [],
    b"}": lambda m: {},
    b")": lambda m: (),
    b"\x8f": lambda m: set(),
    b"I": lambda m: _integer(m.line(24)),
    b"L": lambda m: _integer(m.line(24)),
    b"J": lambda m: int.from_bytes(m.take(4), "little", signed=True),
    b"K": lambda m: m.number(1),
    b"M": lambda m: m.number(2),
    b"\x8a": lambda m: _long(m, m.number(1)),
    b"\x8b": lambda m: _long(m, m.number(4)),
    b"F": lambda m: float(m.line(64)),
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],
    b"S": lambda m: _quoted(m.line()),
    b"V": lambda m: m.line().decode("raw-unicode-escape"),
    b"l": lambda m: m.pop_to_mark(),
    b"t": lambda m: tuple(m.pop_to_mark()),
    b"d": lambda m: _dict(m.pop_to_mark()),
    b"\x91": lambda m: frozenset(map(_key, m.pop_to_mark())),
}
_DO: Mapping[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),
    b"(": lambda m: m.marks.append(len(m.stack)),
    b"\x85": lambda m: _pack(m, 1),
    b"\x86": lambda m: _pack(m, 2),
    b"\x87": lambda m: _pack(m, 3),
    b"a": _append,
    b"e": lambda m: _extend(m, m.pop_to_mark()),
    b"s": _set_item,
    b"u": _set_all,
    b"\x90": lambda m: _add(m, m.pop_to_mark()),
    b"p": lambda m: _put(m, int(m.line(24))),
    b"q": lambda m: _put(m, m.number(1)),
    b"r": lambda m: _put(m, m.number(4)),
    b"\x94": lambda m: _put(m, len(m.memo)),
    b"g": lambda m: _get(m, int(m.line(24))),
    b"h": lambda m: _get(m, m.number(1)),
    b"j": lambda m: _get(m, m.number(4)),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"b": _build,
}


def _pushing(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(read(machine))


def _text(size: int, decode: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(decode(machine.take(machine.number(size))))


_STEPS: Mapping[bytes, Callable[[_Machine], Any]] = {
    **_DO,
    **{code: _pushing(read) for code, read in _READ.items()},
    **{code: _text(size, decode) for code, (size, decode) in _TEXTS.items()},
}


# -------------------------------------------------------------------------- names

_NUMBERS = re.compile(r"[|<>=]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9}|O[48]?)")


def _raw(machine: _Machine, data: Any) -> bytes | bytearray:
    """Return the bytes, which Python 2 held as text."""
    if type(data) is str:
        machine.spend(len(data))
        return data.encode("latin-1")
    if type(data) not in (bytes, bytearray):
        raise Refusal(f"values of an array as {type(data).__name__}", "bytes")
    return data  # type: ignore[no-any-return]


def _kind(data_type: Any) -> np.dtype[Any]:
    if type(data_type) is not _Kind:
        raise Refusal("an array without a data type")
    return data_type.value  # type: ignore[no-any-return]


def _make_kind(machine: _Machine, name: Any, *_: Any) -> _Kind:
    if type(name) is bytes:
        name = name.decode("latin-1")
    if type(name) is not str or not _NUMBERS.fullmatch(name):
        raise Refusal(f"the data type {_short(name)}", "numbers or text")
    kind = _Kind()
    kind.value = np.dtype("O" if "O" in name else name)
    return kind


def _set_kind(kind: _Kind, state: tuple[Any, ...]) -> None:
    order = state[1].decode() if type(state[1]) is bytes else state[1]
    size_fits = state[5] in (-1, kind.value.itemsize)
    if state[0] not in (3, 4) or state[2:5] != (None,) * 3 or not size_fits:
        raise Refusal("a compound data type", "numbers or text")
    if order not in ("<", ">", "|", "="):
        raise Refusal(f"the byte order {_short(order)}", "<, > or |")
    if order in ("<", ">"):
        kind.value = kind.value.newbyteorder(order)


def _make_array(machine: _Machine, kind: Any, *_: Any) -> _Array:
    if kind is not _NDARRAY:
        raise Refusal("an array of a class other than numpy.ndarray")
    return _Array()


def _set_array(machine: _Machine, array: _Array, state: tuple[Any, ...]) -> None:
    _, shape, kind, fortran, data = state
    order: Literal["C", "F"] = "F" if fortran else "C"
    dtype = _kind(kind)
    if dtype.kind == "O":
        # NumPy lists objects row by row, even those of a Fortran array.
        array.value = _objects(machine, shape, data)
    else:
        array.value = _copied(machine, _raw(machine, data), dtype, shape, order)


def _copied(
    machine: _Machine,
    data: bytes | bytearray,
    dtype: np.dtype[Any],
    shape: Any,
    order: Literal["C", "F"],
) -> NDArray[Any]:
    machine.spend(len(data))
    if dtype.kind == "O":
        raise Refusal("objects as bytes")
    return filled(data, dtype, shape, order, len(machine.data)).copy(order)


def _objects(machine: _Machine, shape: Any, values: Any) -> NDArray[Any]:
    """Return an array of what the list holds, which is as plain as all else."""
    if type(values) is not list:
        raise Refusal("an array of objects without a list")
    machine.spend(8 * len(values))
    # Its shape is checked like that of numbers of one byte each.
    places = filled(bytes(len(values)), np.dtype("u1"), shape, "C", len(machine.data))
    flat = np.empty(len(values), dtype=object)
    for i, each in enumerate(values):
        flat[i] = each
    return flat.reshape(places.shape)


def _from_buffer(
    machine: _Machine, data: Any, kind: Any, shape: Any, order: Any
) -> _Array:
    if order not in ("C", "F"):
        raise Refusal(f"the order {_short(order)}", "C or F")
    array = _Array()
    array.value = _copied(machine, _raw(machine, data), _kind(kind), shape, order)
    return array


def _scalar(machine: _Machine, kind: Any, data: Any) -> Any:
    return _copied(machine, _raw(machine, data), _kind(kind), (), "C")[()]


def _encode(machine: _Machine, text: Any, codec: Any) -> bytes:
    if type(text) is not str or codec not in ("latin1", "latin-1"):
        raise Refusal(f"text in {_short(codec)}", "bytes written as Latin-1")
    machine.spend(len(text))
    return text.encode("latin-1")


def _empty_bytes(machine: _Machine) -> bytes:
    return b""


def _bytearray(machine: _Machine, data: Any = b"", codec: str = "") -> bytearray:
    if codec:
        return bytearray(_encode(machine, data, codec))
    if type(data) not in (bytes, bytearray):
        raise Refusal(f"a bytearray of {type(data).__name__}", "of bytes")
    machine.spend(len(data))
    return bytearray(data)


def _items(machine: _Machine, values: Any) -> Any:
    if type(values) not in (list, tuple, set):
        raise Refusal(f"a container of {type(values).__name__}", "of a list")
    machine.spend(128 * len(values))
    return values


def _set(machine: _Machine, values: Any = ()) -> set[Any]:
    return set(map(_key, _items(machine, values)))


def _frozenset(machine: _Machine, values: Any = ()) -> frozenset[Any]:
    return frozenset(map(_key, _items(machine, values)))


def _ordered(machine: _Machine, pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in _items(machine, pairs):
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise Refusal("an ordered dictionary without pairs")
        _set_items(result, list(pair))
    return result


def _complex(machine: _Machine, real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise Refusal("a complex number without two parts")
    return complex(real, imaginary)


_NDARRAY = _Global(None)


def _globals() -> dict[tuple[str, str], _Global]:
    """Return the list of names, under every module that ever held them."""
    known = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _Global(_make_kind),
        ("_codecs", "encode"): _Global(_encode),
        ("collections", "OrderedDict"): _Global(_ordered),
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = _Global(_make_array)
        known[f"{core}.multiarray", "scalar"] = _Global(_scalar)
        known[f"{core}.numeric", "_frombuffer"] = _Global(_from_buffer)
    for builtins in ("builtins", "__builtin__"):
        known[builtins, "bytes"] = _Global(_empty_bytes)
        known[builtins, "bytearray"] = _Global(_bytearray)
        known[builtins, "set"] = _Global(_set)
        known[builtins, "frozenset"] = _Global(_frozenset)
        known[builtins, "complex"] = _Global(_complex)
    return known


_GLOBALS = _globals()


def _short(value: Any) -> str:
    """Return a value for a message; a file may hold a name of any length."""
    if type(value) is tuple and not all(type(each) is int for each in value):
        return "of something other than integers"
    if type(value) not in (str, tuple, int):
        return type(value).__name__
    if type(value) is tuple and len(value) > 8:
        return f"of {len(value)} lengths"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
