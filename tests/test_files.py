"""Files of MATLAB, pickles and NumPy archives: sound, damaged and hostile ones.

Takes about 17 s on one core.
"""

from __future__ import annotations

import collections
import contextlib
import io
import math
import os
import pickle
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domainemo.data.files import (
    loads_pickle,
    open_mat,
    pickles,
    read_npz,
    read_pickle,
    read_pickled_npz,
)
from domainemo.errors import DataError

MIB = 2**20
SLOWEST = 10_000  # ms; a hang, not a slow machine
fuzz = settings(
    max_examples=400,
    deadline=SLOWEST,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def same(one, other):
    """Whether two values are the same, down to types and each array's data type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        if one.dtype == object:
            return same(one.ravel().tolist(), other.ravel().tolist())
        return one.tobytes() == other.tobytes()
    if isinstance(one, float) and not math.isnan(one):
        return struct.pack("d", one) == struct.pack("d", other)
    return one == other or (one != one and other != other)


@contextlib.contextmanager
def bounded(mebibytes, seconds=30):
    """Fail if the block takes more memory, or more time."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes * MIB, f"{peak / MIB:.0f} MiB"
    assert time.perf_counter() - start < seconds


# ------------------------------------------------------------ pickles: what they hold

VALUES = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -1e300]])

# What Python 2.7 writes for {"data": VALUES, u"labels": [1, 2.5]}, by protocol.
PYTHON2 = {
    0: b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n"
    b"(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I2\nI3\ntp8\n"
    b"cnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\n"
    b"NNNI-1\nI-1\nI0\ntp14\nbI00\nS"
    + repr(VALUES.tobytes())[1:].encode()
    + b"\np15\ntp16\nbsVlabels\np17\n(lp18\nI1\naF2.5\nas.",
    1: b"}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02"
    b"(cnumpy\nndarray\nq\x03(K\x00tq\x04U\x01bq\x05tq\x06Rq\x07(K\x01(K\x02K\x03t"
    b"q\x08cnumpy\ndtype\nq\t(U\x02f8q\nK\x00K\x01tq\x0bRq\x0c(K\x03U\x01<q\r"
    b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0ebI00\nU\x30"
    + VALUES.tobytes()
    + b"q\x0ftq\x10bX\x06\x00\x00\x00labelsq\x11]q\x12(K\x01G@\x04"
    + bytes(6)
    + b"eu.",
    2: b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03"
    b"cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x03\x86"
    b"cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07(K\x03U\x01<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x30\x00\x00\x00"
    + VALUES.tobytes()
    + b"tbX\x06\x00\x00\x00labelsq\x08]q\t(K\x01G@\x04"
    + bytes(6)
    + b"eu.",
}


@pytest.mark.parametrize("protocol", PYTHON2)
def test_pickles_of_python_2_open(protocol, tmp_path):
    path = tmp_path / "s01.dat"
    path.write_bytes(PYTHON2[protocol])
    read = read_pickle(path)
    assert same(read, {"data": VALUES, "labels": [1, 2.5]})
    assert same(read, pickle.loads(PYTHON2[protocol], encoding="latin1"))
    read["data"][0, 0] = 7  # Can be written to.


def test_python_2_integers_truth_and_text_open():
    assert loads_pickle(b"(I01\nI00\nL123L\nS'a\\xe9\\n'\nt.", "here") == (
        *(True, False, 123),
        "a\xe9\n",
    )
    assert loads_pickle(b"\x80\x02\x8a\x03\x40\x42\x0f.", "here") == 1_000_000


PLAIN = {
    "numbers": [0, -1, 255, 256, 65536, -(2**31), 2**40, 2**63, 0.5, math.inf, 1 + 2j],
    "text": ["", "a", "é漢🙂", "\n'\"\\", b"", b"\x00\xff", bytearray(b"ab")],
    "none": (None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": [{1, "a"}, frozenset({2.5}), set()],
    3: {4: {5: {}}},
    None: {b"key": 1, 2.5: 2, True: 3},
    "order": collections.OrderedDict([("b", 1), ("a", 2)]),
    "arrays": [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(12, dtype=">i2").reshape(3, 4)),
        np.arange(24, dtype="<f4").reshape(2, 3, 4)[:, ::2],
        np.array(3, "u1"),
        np.zeros((0, 5), "c16"),
        np.array([True, False]),
        np.array([["ab", "é"], ["", "xyz"]]),
        np.array([b"ab", b"c"]),
        np.array([1, "a", None, [1, 2], {"b": np.arange(3)}], dtype=object),
        np.array([[[1], [2]], [[3], [4]], [0, 0]], dtype=object).T,
    ],
    "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("é")],
    np.int64(9): "numpy key",
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back_as_they_are(protocol):
    read = loads_pickle(pickle.dumps(PLAIN, protocol), "here")
    assert same(read, {**PLAIN, "order": {"b": 1, "a": 2}})  # Not ordered any more.


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.booleans() | st.none()
leaves = numbers | st.text(max_size=5) | st.binary(max_size=5)
plain_values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain_values, st.integers(0, 5))
@fuzz
def test_any_plain_value_comes_back(value, protocol):
    assert same(loads_pickle(pickle.dumps(value, protocol), "here"), value)


def test_values_that_share_an_array_still_share_it():
    array = np.arange(3)
    first, second = loads_pickle(pickle.dumps([array, array]), "here")
    assert first is second


# ---------------------------------------------------------- pickles: what they may not

ASKED = [
    "os.system os.popen os.execv posix.system nt.system subprocess.Popen",
    "subprocess.check_output pty.spawn shutil.rmtree builtins.eval builtins.exec",
    "builtins.getattr builtins.open builtins.__import__ builtins.compile builtins.map",
    "builtins.type builtins.object builtins.list builtins.int __builtin__.eval",
    "__builtin__.apply __builtin__.file functools.partial functools.reduce",
    "operator.attrgetter operator.methodcaller operator.itemgetter itertools.count",
    "types.FunctionType types.CodeType marshal.loads pickle.loads _pickle.loads",
    "copyreg._reconstructor copyreg.__newobj__ copy_reg._reconstructor",
    "importlib.import_module runpy.run_path runpy._run_code timeit.timeit pdb.run",
    "cProfile.run code.interact bdb.Bdb webbrowser.open socket.create_connection",
    "urllib.request.urlopen ctypes.CDLL multiprocessing.Process threading.Thread",
    "pathlib.Path pathlib.PosixPath io.FileIO io.open tempfile.mktemp zipfile.ZipFile",
    "collections.Counter collections.defaultdict collections.deque",
    "_codecs.decode codecs.encode codecs.open datetime.datetime decimal.Decimal",
    "numpy.load numpy.save numpy.fromfile numpy.memmap numpy.zeros numpy.vectorize",
    "numpy.recarray numpy.matrix numpy.void numpy.float64 numpy.object_",
    "numpy.core.multiarray.fromfile numpy.core.multiarray.zeros",
    "numpy._core.multiarray.empty numpy.core.numeric.fromfunction",
    "numpy.lib.format.open_memmap numpy.lib.npyio.load numpy.ma.core._mareconstruct",
    "numpy.testing._private.utils.runstring numpy.testing.runstring",
    "numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran.myeval",
    "numpy.distutils.exec_command.exec_command numpy.random._pickle.__randomstate_ctor",
    "torch.load torch.hub.load torch._utils._rebuild_tensor_v2 torch.jit.load",
    "pandas.read_pickle pandas.eval pandas.core.frame.DataFrame joblib.load",
    "sklearn.utils.parallel.delayed scipy.io.loadmat mne.read_epochs",
    "domainemo.data.files.read_pickle domainemo.data.files.pickles._make_array",
    "sys.exit sys.setrecursionlimit signal.alarm gc.collect atexit.register",
]
NAMES = [tuple(name.rsplit(".", 1)) for line in ASKED for name in line.split()]


def short(text):
    """The instruction that pushes text."""
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


@pytest.mark.parametrize(("module", "name"), NAMES, ids=".".join)
def test_a_name_that_is_not_on_the_list_is_refused(module, name):
    old = f"c{module}\n{name}\n".encode()
    new = short(module) + short(name) + b"\x93"
    for asking in (old, new):
        for data in (asking + b".", asking + b"(S'x'\ntR.", b"]" + asking + b"a."):
            with pytest.raises(DataError, match="here: found a pickle that asks") as e:
                loads_pickle(data, "here")
            assert f"{module}.{name}" in str(e.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "ndarray.__class__"),
        ("numpy", "dtype.__class__.__base__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy.core", "multiarray._reconstruct"),
        ("builtins", "set.__class__.__subclasses__"),
        ("collections", "OrderedDict.fromkeys"),
        ("collections", "_sys.modules"),
        ("_codecs", "encode.__self__"),
        ("_codecs", "encode.__globals__"),
        ("builtins\x00", "set"),
        ("builtins ", "set"),
        ("Builtins", "set"),
        ("", "set"),
        ("builtins", ""),
        ("builtins", "set\x00"),
        ("numpy\n", "ndarray"),
    ],
)
def test_dotted_and_disguised_names_are_refused(module, name):
    with pytest.raises(DataError, match="asks for"):
        loads_pickle(b"\x80\x04" + short(module) + short(name) + b"\x93.", "here")


class Calling:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def exploits(target):
    """Objects whose unpickling writes the file `target`."""
    program = f"open({str(target)!r}, 'w').close()"
    payload = Calling(exec, program)
    inner = pickle.dumps(payload)
    return {
        "alone": payload,
        "system": Calling(os.system, f"touch {target}"),
        "open": Calling(open, str(target), "w"),
        "list": [1, [2, payload]],
        "key": {"a": 1, Calling(eval, program): 2},
        "value": {"data": np.arange(3), "more": {"x": (payload,)}},
        "set": {Calling(eval, program)},
        "object array": np.array([1, payload, None], dtype=object),
        "lonely object": np.array(payload, dtype=object),
        "pickle in pickle": Calling(pickle.loads, inner),
        "call's argument": Calling(complex, Calling(eval, f"{program} or 1.0"), 2.0),
        "shape": Calling(np.zeros, Calling(eval, f"({program} or 1,)")),
        "ordered": collections.OrderedDict([("a", payload)]),
    }


@pytest.mark.parametrize("name", exploits("x"))
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_is_executed(name, protocol, tmp_path):
    target = tmp_path / "ran"
    data = pickle.dumps(exploits(target)[name], protocol)

    with contextlib.suppress(TypeError):  # What it returns may be no key.
        pickle.loads(data)
    assert target.exists(), "The exploit itself must work."
    target.unlink()

    path = tmp_path / "features"
    path.write_bytes(data)
    with pytest.raises(DataError, match="asks for") as error:
        read_pickle(path)
    assert str(path) in str(error.value)
    for each in ({"data": data}, {"data": np.array(data, object)}):
        np.savez(tmp_path / "a.npz", **each)
        with pytest.raises(DataError, match=r"a\.npz, key 'data'.*asks for"):
            read_pickled_npz(tmp_path / "a.npz", ["data"])
    np.savez(tmp_path / "a.npz", data=np.array([exploits(target)[name]], object))
    with pytest.raises(DataError, match=r"a\.npz, key 'data'.*asks for"):
        read_pickled_npz(tmp_path / "a.npz", ["data"])
    with pytest.raises(DataError, match=r"a\.npz, key 'data'.*pickled"):
        read_npz(tmp_path / "a.npz", ["data"])
    assert not target.exists()


def test_no_module_is_imported(tmp_path, monkeypatch):
    target = tmp_path / "imported"
    (tmp_path / "hostile_module.py").write_text(
        f"open({str(target)!r}, 'w').close()\nclass thing: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"asks for 'hostile_module\.thing'"):
        loads_pickle(b"chostile_module\nthing\n.", "here")
    assert "hostile_module" not in sys.modules
    assert not target.exists()


def array_pickle(shape, kind=b"f8", data=b"C\x08abcdefgh", start=b""):
    """A pickle of an array that says what it likes of its shape."""
    return (
        start + b"cnumpy.core.multiarray\n_reconstruct\n"
        b"(cnumpy\nndarray\n(I0\ntC\x01btR(K\x01"
        + shape
        + b"cnumpy\ndtype\n(S'"
        + kind
        + b"'\nI0\nI1\ntR(K\x03S'<'\nNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + data
        + b"tb."
    )


INSTRUCTIONS = {
    "persistent": b"P1\n.",
    "persistent, binary": b"K\x01Q.",
    "instance": b"(ios\nsystem\n.",
    "object": b"(cbuiltins\nset\no.",
    "new object": b"cbuiltins\nset\n)\x81.",
    "new object with names": b"cbuiltins\nset\n)}\x92.",
    "extension": b"\x82\x01.",
    "buffer out of band": b"\x97.",
    "read-only buffer": b"C\x01a\x98.",
    "state of a function": b"cbuiltins\nset\n}b.",
    "state of a list": b"]}b.",
    "state of a dict": b"}}b.",
    "function alone": b"cbuiltins\nset\n.",
    "array class alone": b"cnumpy\nndarray\n.",
    "array class called": b"cnumpy\nndarray\n(K\x01tR.",
    "data type alone": b"cnumpy\ndtype\n(S'f8'\ntR.",
    "call of text": b"S'x'\n)R.",
    "call without tuple": b"cbuiltins\nset\n]R.",
    "array of another class": array_pickle(b"(K\x01t").replace(
        b"cnumpy\nndarray", b"cbuiltins\nset"
    ),
    "array without values": b"cnumpy.core.multiarray\n_reconstruct\n"
    b"(cnumpy\nndarray\n(I0\ntS'b'\ntR.",
    "records": pickle.dumps(np.zeros(2, [("a", "f8")])),
    "dates": pickle.dumps(np.zeros(2, "M8[s]")),
    "masked": pickle.dumps(np.ma.zeros(2)),
    "function as key": b"}cbuiltins\nset\nK\x01s.",
    "function in a set": b"\x8f(cbuiltins\nset\n\x90.",
    "codec": b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    "slice type": b"cnumpy\ndtype\n(S'V8'\ntR.",
    "empty": b"",
    "stop alone": b".",
    "no stop": b"K\x01",
    "two values": b"K\x01K\x02.",
    "open mark": b"(K\x01.",
    "no mark": b"K\x01t.",
    "value below the mark": b"](a.",
    "no memo": b"h\x00.",
    "odd items": b"}(K\x01u.",
    "rest": b"K\x01.K\x02.",
    "html": b"<html><body>Please log in</body></html>",
    "bad utf-8": b"X\x01\x00\x00\x00\xff.",
    "bad integer": b"Ix\n.",
    "no quotes": b"Sx\n.",
    "escapes": b"S'\\xz'\n.",
    "odd escape": b"Vabc\\u12\n.",
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_other_instructions_are_refused(name, tmp_path):
    path = tmp_path / "features"
    path.write_bytes(INSTRUCTIONS[name])
    with pytest.raises(DataError, match=f"^{path}: found"):
        read_pickle(path)


# -------------------------------------------------------------- pickles: too much of it


HUGE = b"\x8a\x06" + (10**12).to_bytes(6, "little")
FRAMES = b"cnumpy._core.numeric\n_frombuffer\n"
LONG_TEXT = b"X" + struct.pack("<I", MIB) + b"a" * MIB + b"\x94"
LONG_BYTES = b"B" + struct.pack("<I", MIB) + b"a" * MIB + b"\x94"


def get(index):
    return b"h" + bytes([index])


def doubling(count):
    """Tuples, each with the one before it twice."""
    return b")\x94" + b"".join(get(n) * 2 + b"\x86\x94" for n in range(count))


BOMBS = {
    "shape": array_pickle(b"(" + HUGE + b"t"),
    "shape of nothing": array_pickle(b"(K\x00" + HUGE + b"t", data=b"C\x00"),
    "shape that overflows": array_pickle(b"(" + HUGE * 5 + b"t"),
    "negative shape": array_pickle(b"(J\xff\xff\xff\xffJ\xff\xff\xff\xfft"),
    "many axes": array_pickle(b"(" + b"K\x01" * 200 + b"t"),
    "shape of text": array_pickle(b"(S'1'\nt"),
    "truth as length": array_pickle(b"(\x88t"),
    "wide values": array_pickle(b"(K\x00t", b"S999999999", b"C\x00"),
    "wide text": array_pickle(b"(K\x00t", b"U99999999", b"C\x00"),
    "no width": array_pickle(b"(K\x05t", b"S0", b"C\x00"),
    "numbers as objects": array_pickle(b"(K\x01t", b"O8"),
    "objects without list": array_pickle(b"(K\x01t", b"O8", b"C\x08abcdefgh"),
    "objects, shape": array_pickle(b"(" + HUGE + b"t", b"O8", b"]"),
    "long double": array_pickle(b"(K\x01t", b"f16", b"C\x10abcdefghabcdefgh"),
    "characters": array_pickle(b"(K\x01t", b"U1", b"C\x04\xff\xff\xff\xff"),
    "truth": array_pickle(b"(K\x01t", b"b1", b"C\x01\x02"),
    "itself": b"]\x94h\x00a.",
    "itself in a dict": b"}\x94K\x01h\x00s.",
    "deep lists": b"]" * 30_000 + b"a" * 29_999 + b".",
    "deep tuples": b")" + b"\x85" * 30_000 + b".",
    "laughs": b"(]\x94"
    + b"".join(b"](" + get(n) * 9 + b"e\x94" for n in range(20))
    + b"t.",
    "laughing tuples": b"(" + doubling(30) + b"t.",
    "hash": b"(" + doubling(60) + b"t}" + get(60) + b"K\x01s.",
    "hash of a set": b"\x8f(" + b")" + b"\x85" * 60 + b"\x90.",
    "bytearray of a size": b"cbuiltins\nbytearray\n(" + HUGE + b"tR.",
    "bytes of a size": b"cbuiltins\nbytes\n(" + HUGE + b"tR.",
    "bytes": b"\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "bytes, all bits": b"\x8e" + b"\xff" * 8 + b"abc.",
    "text": b"\x8d" + struct.pack("<Q", 2**60) + b"abc.",
    "bytearray": b"\x96" + struct.pack("<Q", 2**60) + b"abc.",
    "integer": b"\x8b" + struct.pack("<I", 2**31 - 1) + b"abc.",
    "long integer": b"\x8b" + struct.pack("<I", MIB) + b"a" * MIB + b".",
    "digits": b"L" + b"9" * MIB + b"L\n.",
    "floating digits": b"F" + b"9" * MIB + b"\n.",
    "memo": b"K\x01r\xff\xff\xff\xffp" + b"9" * 5000 + b"\n.",
    "encoding again and again": b"(c_codecs\nencode\n\x94"
    + LONG_TEXT
    + b"h\x00(h\x01S'latin1'\ntR" * 5000
    + b"t.",
    "copying again and again": b"(cbuiltins\nbytearray\n\x94"
    + LONG_BYTES
    + b"h\x00(h\x01tR" * 5000
    + b"t.",
    "the same bytes for many arrays": b"("
    + FRAMES
    + b"\x94("
    + LONG_BYTES
    + b"cnumpy\ndtype\n(S'u1'\ntR("
    + b"J"
    + struct.pack("<i", MIB)
    + b"tS'C'\nt\x94"
    + b"h\x00h\x02R" * 5000
    + b"t.",
    "sets of one list": b"(cbuiltins\nset\n\x94]("
    + b"".join(b"M" + struct.pack("<H", n) for n in range(60_000))
    + b"e\x85\x94"
    + b"h\x00h\x01R" * 5000
    + b"t.",
}


REASONS = {
    **dict.fromkeys(["itself", "itself in a dict", "deep lists"], "more than 32 deep"),
    **dict.fromkeys(["laughs", "laughing tuples"], "more than 100000 values"),
    **dict.fromkeys(["hash", "hash of a set"], "a key of type tuple"),
    "encoding again and again": "grows to many times",
    "copying again and again": "grows to many times",
    "the same bytes for many arrays": "grows to many times",
    "sets of one list": "grows to many times",
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_would_grow_are_refused(name, monkeypatch):
    monkeypatch.setattr(pickles, "STEPS", 100_000)  # A tenth, to save time.
    data = BOMBS[name]
    with (
        bounded(512 / 10 + 10 * len(data) / MIB),
        pytest.raises(DataError, match=f"^here: found.*{REASONS.get(name, '')}"),
    ):
        loads_pickle(data, "here")


def test_a_million_values_are_the_most():
    """An empty set is the largest value that one byte makes."""
    data = b"(" + b"\x8f" * 100_000 + b"t."
    with bounded((512 + 10 * len(data) / MIB) / 10):
        assert len(loads_pickle(data, "here")) == 100_000
    with pytest.raises(DataError, match="here: found more than 1000000 instructions"):
        loads_pickle(b"(" + b"}" * 1_000_000 + b"t.", "here")


def test_missing_files_and_folders_are_named(tmp_path):
    for read in (read_pickle, open_mat, lambda p: read_npz(p, ["a"])):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(DataError, match=f"{path}.*found no file to read"):
                read(path)


# -------------------------------------------------------------------------- archives

DICTIONARY = {n: np.random.default_rng(n).normal(size=(n + 2, 3)) for n in range(3)}


def test_archives_with_pickled_bytes_open(tmp_path):
    path = tmp_path / "1_123.npz"
    as_bytes = {"data": pickle.dumps(DICTIONARY), "label": pickle.dumps({0: [1.0]})}
    copies = [
        as_bytes,
        {key: np.array(value, dtype=object) for key, value in as_bytes.items()},
        {"data": DICTIONARY, "label": {0: [1.0]}},
    ]
    for values in copies:
        for save in (np.savez, np.savez_compressed):
            save(path, plain=np.arange(3), **values)
            read = read_pickled_npz(path, ["label", "data", "plain"])
            truth = {"label": {0: [1.0]}, "data": DICTIONARY, "plain": np.arange(3)}
            assert same(read, truth)


def test_archives_of_arrays_open(tmp_path):
    path = tmp_path / "1_1.npz"
    arrays = {
        "a": np.arange(24.0).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        "none": np.zeros((0, 5)),
        "one": np.array(5, np.uint8),
        "text": np.array(["é", "abc"]),
        "bytes": np.array(b"not a pickle"),
        "x/y": np.array([True, False]),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        assert same(read_npz(path, list(arrays)), arrays)
        assert list(read_npz(path, ["one"])) == ["one"]
    np.savez(path, data=np.arange(3))
    read_npz(path, ["data"])["data"][0] = 1  # Can be written to.


def test_archive_of_python_2_opens_without_a_warning(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L,), }"
    entry = npy(header.ljust(117) + b"\n", np.array([1.0, 2.0]).tobytes())
    assert read_npz(archive(tmp_path, entry), ["data"])["data"].tolist() == [1, 2]


def npy(header, data, version=b"\x01\x00"):
    size = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    return b"\x93NUMPY" + version + size + header + data


def archive(folder, entry, method=zipfile.ZIP_DEFLATED):
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("data.npy", entry)
    return path


def claim(shape="(2,)", kind="'<f8'", data=bytes(16)):
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"
    return npy(header.encode() + b"\n", data)


ENTRIES = {
    "shape": claim("(1000000000000,)"),
    "shape of nothing": claim("(0, 1000000000000)", data=b""),
    "shape that overflows": claim("(" + "4294967296," * 4 + ")"),
    "negative": claim("(-1, -2)"),
    "truth": claim("(True, 2)"),
    "wide values": claim("(0,)", "'S2000000000'", b""),
    "no width": claim("(1000000,)", "'S0'", b""),
    "short": claim(data=bytes(15)),
    "long": claim(data=bytes(17)),
    "records": claim("(2,)", "[('a', '<f4'), ('b', '<f4')]"),
    "records of objects": claim("(2,)", "[('a', 'O')]"),
    "dates": claim("(2,)", "'<M8[s]'"),
    "bad data type": claim("(2,)", "'<x8'"),
    "calls": claim("(2,)", "__import__('os').system('true')"),
    "deep": claim("(" * 5000 + ")" * 5000),
    "long header": npy(b" " * 60_000 + b"\n", b""),
    "longer header": npy(b" " * 9_000_000 + b"\n", b"", b"\x02\x00"),
    "header cut off": b"\x93NUMPY\x01\x00\xff\xff{",
    "version": npy(b"{}", b"", b"\x03\x00"),
    "objects without a pickle": claim("()", "'|O'", b""),
    "objects without a whole pickle": claim("()", "'|O'", b"\x80\x04"),
    "objects that are no array": claim("()", "'|O'", b"K\x01."),
    "no array": b"hello",
    "empty": b"",
    "odd escape": claim("(2,)", "'\\d'"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_that_are_not_what_they_say_are_refused(name, tmp_path):
    path = archive(tmp_path, ENTRIES[name])
    for read in (read_npz, read_pickled_npz):
        with bounded(64), pytest.raises(DataError, match=f"^{path}, key 'data': found"):
            read(path, ["data"])


def test_archives_that_inflate_without_end_are_refused(tmp_path):
    size = 96 * MIB
    path = archive(tmp_path, npy(b"{}", bytes(size)))
    assert path.stat().st_size < MIB
    with bounded(16), pytest.raises(DataError, match=r"key 'data': found \d{9} bytes"):
        read_npz(path, ["data"])
    # The same, but it claims to be small, everywhere.
    data = path.read_bytes().replace(
        struct.pack("<I", size + 12), struct.pack("<I", 5000)
    )
    path.write_bytes(data)
    with bounded(16), pytest.raises(DataError, match=r"key 'data'.*CRC"):
        read_npz(path, ["data"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method, tmp_path):
    path = archive(tmp_path, claim(), method)
    with pytest.raises(DataError, match="unusual compression"):
        read_npz(path, ["data"])


def test_missing_keys_and_other_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, data=np.arange(3), label=np.arange(3))
    with pytest.raises(DataError, match=f"{path}, key 'eye'.*data, label"):
        read_npz(path, ["data", "eye"])
    for content in (b"", b"<html>", pickle.dumps(DICTIONARY)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}"):
            read_npz(path, ["data"])


# ---------------------------------------------------------------------- MATLAB, by hand


def element(kind, data, order="<"):
    padding = bytes(-len(data) % 8)
    return struct.pack(f"{order}II", kind, len(data)) + data + padding


def small(kind, data, order="<"):
    word = struct.pack(f"{order}I", len(data) << 16 | kind)
    return word + data.ljust(4, b"\0")


def matrix(code, shape, name, *parts, flags=0, order="<"):
    """A variable of a class, as MathWorks' "MAT-File Format" lays it out."""
    content = element(6, struct.pack(f"{order}II", code | flags, 0), order)
    content += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    content += element(1, name.encode(), order) + b"".join(parts)
    return element(14, content, order)


def deflated(data, after=b"", order="<", level=6):
    stored = zlib.compress(data, level) + after
    return struct.pack(f"{order}II", 15, len(stored)) + stored


def doubles(name="a", values=(1.0, 2.0, 3.0), order="<"):
    data = struct.pack(f"{order}{len(values)}d", *values)
    return matrix(6, (1, len(values)), name, element(9, data, order), order=order)


def mat(folder, *elements, order="<"):
    path = folder / "a.mat"
    mark = b"IM" if order == "<" else b"MI"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x100) + mark
    path.write_bytes(header + b"".join(elements))
    return path


# -------------------------------------------------------------------- MATLAB: contents

MATRICES = {
    "de_LDS1": np.random.default_rng(0).normal(size=(6, 5, 3)),
    "1": np.arange(12, dtype=np.int16).reshape(3, 4),
    "row": np.array([[1.0, 0.0, -1.0]]),
    "single": np.float32([[1.5], [2.5]]),
    "none": np.zeros((0, 3)),
    "logical": np.array([[True, False]]),
    "wide": np.array([[2**63, 1]], dtype=np.uint64),
    "cube": np.arange(24.0).reshape(2, 3, 2, 2),
}


@pytest.mark.parametrize("compress", [False, True])
def test_arrays_come_back_as_they_are(compress, tmp_path):
    path = tmp_path / "1_20131027.mat"
    scipy.io.savemat(path, MATRICES, do_compression=compress)
    file = open_mat(path)
    assert file.path == path
    assert file.names == tuple(MATRICES)
    for name, truth in MATRICES.items():
        array = file.array(name)
        assert array.shape == truth.shape
        assert array.dtype == truth.dtype
        np.testing.assert_array_equal(array, truth)


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_are_of_matlabs_class_however_they_are_stored(order, tmp_path):
    stored = {
        "f8": matrix(6, (1, 3), "a", small(2, b"\0\1\2", order), order=order),
        "i4": matrix(12, (1, 3), "b", small(1, b"\xff\0\1", order), order=order),
        "f4": matrix(
            7,
            (2, 1),
            "c",
            small(4, struct.pack(f"{order}HH", 7, 8), order),
            order=order,
        ),
        "b1": matrix(
            9, (1, 2), "d", small(2, b"\1\0", order), flags=0x200, order=order
        ),
    }
    elements = [*stored.values(), deflated(doubles("e", order=order), order=order)]
    file = open_mat(mat(tmp_path, *elements, order=order))
    truths = [[[0, 1, 2]], [[-1, 0, 1]], [[7], [8]], [[True, False]], [[1, 2, 3]]]
    for name, kind, truth in zip("abcde", [*stored, "f8"], truths, strict=True):
        array = file.array(name)
        assert array.dtype.newbyteorder("=") == np.dtype(kind)
        assert array.tolist() == truth


def test_structs_and_cells_come_back_as_dicts_and_lists(tmp_path):
    """As DREAMER's: a struct of a cell array of structs with cell arrays."""

    def cell(*values):
        array = np.empty((1, len(values)), dtype=object)
        for i, value in enumerate(values):
            array[0, i] = value
        return array

    rng = np.random.default_rng(0)
    trials = [[rng.normal(size=(n + s, 14)) for n in (3, 4)] for s in (0, 5)]
    values = {
        "Data": cell(
            *(
                {"Age": "22", "EEG": {"stimuli": cell(*t)}, "V": np.array([[4], [3]])}
                for t in trials
            )
        ),
        "Rate": 128.0,
        "noOfSubjects": 2,
        "Names": cell("AF3", "F7"),
        "single": cell("one"),
        "none": np.zeros((0, 0)),
        "empty": cell(),
        "Text": "zażółć 漢",
        "structs": np.array([[(1, "a"), (2, "b")]], [("x", object), ("y", object)]),
    }
    for compress in (False, True):
        path = tmp_path / "DREAMER.mat"
        scipy.io.savemat(path, {"DREAMER": values}, do_compression=compress)
        file = open_mat(path)
        assert file.names == ("DREAMER",)
        read = file.value("DREAMER")
        assert list(read) == list(values)
        assert read["Rate"] == 128
        assert read["Names"] == ["AF3", "F7"]
        assert read["single"] == ["one"]
        assert read["empty"] == []
        assert read["none"].shape == (0, 0)
        assert read["Text"] == "zażółć 漢"
        assert read["structs"] == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
        for subject, truth in zip(read["Data"], trials, strict=True):
            assert subject["Age"] == "22"
            assert subject["V"].tolist() == [4, 3]
            for one, other in zip(subject["EEG"]["stimuli"], truth, strict=True):
                np.testing.assert_array_equal(one, other)
        with pytest.raises(DataError, match=f"{path}, variable 'DREAMER'.*a struct"):
            file.array("DREAMER")


def test_structs_without_fields_and_empty_cells_within_cells(tmp_path):
    names = small(5, struct.pack("<i", 8)) + element(1, b"")
    struct_element = matrix(2, (1, 1), "s", names)
    inner = matrix(2, (1, 1), "", names) + element(14, b"")
    file = open_mat(mat(tmp_path, struct_element, matrix(1, (1, 2), "c", inner)))
    assert file.value("s") == {}
    first, second = file.value("c")
    assert first == {}
    assert second.size == 0


def test_text_of_all_codings(tmp_path):
    texts = {
        "a": matrix(4, (1, 2), "a", small(2, b"ab")),
        "b": matrix(4, (1, 2), "b", small(4, "é漢".encode("utf-16-le"))),
        "c": matrix(4, (1, 2), "c", element(16, "é漢".encode())),
        "d": matrix(4, (2, 2), "d", small(16, b"acbd")),
        "e": matrix(4, (0, 0), "e", small(16, b"")),
    }
    file = open_mat(mat(tmp_path, *texts.values()))
    read = [file.value(name) for name in texts]
    assert read == ["ab", "é漢", "é漢", ["ab", "cd"], ""]


def test_bytes_after_a_compressed_variable_do_no_harm(tmp_path):
    """Such copies are in circulation; SciPy needs to be told to read them."""
    one, two = doubles("a"), doubles("b", (4.0, 5.0))
    late = deflated(one + b"left over" * 99), deflated(two, after=b"more" * 999)
    path = mat(tmp_path, *late, doubles("c"))
    with pytest.raises(ValueError, match="Did not fully consume"):
        scipy.io.loadmat(path)
    file = open_mat(path)
    assert file.names == ("a", "b", "c")
    assert [file.array(name).tolist() for name in file.names] == [
        *([[1, 2, 3]], [[4, 5]], [[1, 2, 3]]),
    ]


def test_only_what_is_asked_for_is_read(tmp_path):
    """180 variables, of which the others' values are damaged."""
    broken = deflated(doubles("x", np.random.default_rng(0).normal(size=3000)))
    broken = broken[:8000] + b"\xff" * 100 + broken[8100:]
    parts = []
    for number in range(180):
        name = f"v{number}".ljust(4, "_")
        start = doubles(name, np.random.default_rng(number).normal(size=3000))
        stored = bytearray(deflated(start))
        stored[12_000:12_010] = bytes(10)
        parts.append(bytes(stored) if number != 90 else deflated(doubles("wanted")))
    file = open_mat(mat(tmp_path, *parts))
    assert len(file.names) == 180
    assert file.array("wanted").tolist() == [[1, 2, 3]]
    with pytest.raises(DataError, match=r"a\.mat, variable 'v7__'"):
        file.array("v7__")


def test_opening_reads_little(tmp_path):
    path = tmp_path / "a.mat"
    values = {f"v{n}": np.random.default_rng(n).normal(size=250_000) for n in range(8)}
    scipy.io.savemat(path, values, do_compression=False)
    assert path.stat().st_size > 15 * MIB
    with bounded(1):
        file = open_mat(path)
    with bounded(3 * 2 + 1):
        assert file.array("v5").size == 250_000


# --------------------------------------------------------------------- MATLAB: refusals


def test_other_versions_say_what_to_do(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.arange(3.0)}, format="4")
    with pytest.raises(DataError, match=f"{path}.*version 4.*save -v7"):
        open_mat(path)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM"
    for content in (header + bytes(384) + b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}.*7.3.*save -v7"):
            open_mat(path)
    for content in (b"", b"<html>log in</html>" * 20, bytes(1000), b"MATLAB 5.0"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}: found"):
            open_mat(path)


def test_other_classes_are_named(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"s": scipy.sparse.csc_matrix(np.eye(3)), "c": [1j]})
    file = open_mat(path)
    with pytest.raises(DataError, match=f"{path}, variable 's': found a sparse"):
        file.array("s")
    for read in (file.array, file.value):
        with pytest.raises(DataError, match=f"{path}, variable 'c': found complex"):
            read("c")
    # An object has no shape; its name is followed by its class.
    content = element(6, struct.pack("<II", 17, 0)) + small(1, b"t")
    content += small(1, b"MCOS") + element(1, b"table") + doubles("")
    function = matrix(16, (1, 1), "f", doubles(""))
    unnamed = matrix(9, (1, 8), "", element(2, bytes(8)))
    file = open_mat(mat(tmp_path, element(14, content), function, unnamed))
    assert file.names == ("t", "f")
    for name, found in (("t", "an object"), ("f", "a function handle")):
        for read in (file.array, file.value):
            with pytest.raises(DataError, match=f"variable '{name}': found {found}"):
                read(name)


def test_missing_and_repeated_variables_are_named(tmp_path):
    file = open_mat(mat(tmp_path, doubles("a"), doubles("b")))
    with pytest.raises(DataError, match=r"variable 'c': found no such variable.*a, b"):
        file.array("c")
    with pytest.raises(DataError, match="two variables of the name 'a'"):
        open_mat(mat(tmp_path, doubles("a"), deflated(doubles("a"))))


def nested(depth):
    data = doubles("")
    for level in range(depth):
        data = matrix(1, (1, 1), "a" if level == depth - 1 else "", data)
    return data


LENGTHS = small(5, struct.pack("<i", 4))
BIG = 2**31 - 1
VARIABLES = {
    "shape": matrix(6, (BIG, BIG), "a", element(9, bytes(24))),
    "shape, text": matrix(4, (BIG, 4), "a", element(16, bytes(24))),
    "shape, text without bytes": matrix(4, (1, BIG), "a", small(4, b"")),
    "shape, cell": matrix(1, (BIG, BIG), "a"),
    "shape, cell with something": matrix(1, (2, BIG), "a", doubles("")),
    "shape, struct": matrix(2, (BIG, 1), "a", LENGTHS, element(1, b"x\0\0\0")),
    "shape, struct without fields": matrix(
        2, (BIG, BIG), "a", LENGTHS, element(1, b"")
    ),
    "negative": matrix(6, (-1, -3), "a", element(9, bytes(24))),
    "many axes": matrix(6, (1,) * 33, "a", element(9, bytes(8))),
    "one axis": matrix(6, (1,), "a", element(9, bytes(8))),
    "short": matrix(6, (1, 3), "a", element(9, bytes(16))),
    "long": matrix(6, (1, 3), "a", element(9, bytes(32))),
    "more behind": matrix(6, (1, 3), "a", element(9, bytes(24)), element(9, bytes(8))),
    "no values": matrix(6, (1, 3), "a"),
    "size of the values": matrix(
        6, (1, 3), "a", struct.pack("<II", 9, 2**32 - 8) + bytes(24)
    ),
    "small size": matrix(6, (1, 3), "a", struct.pack("<I", 7 << 16 | 9) + bytes(20)),
    "storage": matrix(6, (1, 3), "a", element(99, bytes(24))),
    "storage of a matrix": matrix(6, (1, 3), "a", doubles("")),
    "class": matrix(77, (1, 3), "a", element(9, bytes(24))),
    "cell of something else": matrix(1, (1, 1), "a", element(9, bytes(24))),
    "cell of compressed": matrix(
        1, (1, 1), "a", element(15, zlib.compress(doubles("")))
    ),
    "cell too short": matrix(1, (1, 2), "a", doubles("")),
    "cell too long": matrix(1, (1, 1), "a", doubles(""), doubles("")),
    "cell beyond the end": matrix(1, (1, 1), "a", struct.pack("<II", 14, 2**31)),
    "deep": nested(5000),
    "field without length": matrix(
        2, (1, 1), "a", small(5, bytes(4)), element(1, b"x\0\0\0"), doubles("")
    ),
    "field without name": matrix(
        2, (1, 1), "a", LENGTHS, small(1, bytes(4)), doubles("")
    ),
    "field twice": matrix(
        2, (1, 1), "a", LENGTHS, element(1, b"x\0\0\0x\0\0\0"), doubles(""), doubles("")
    ),
    "sparse within": matrix(1, (1, 1), "a", matrix(5, (1, 1), "", element(9, b""))),
    "flags": element(14, element(6, bytes(4)) + bytes(80)),
    "empty": element(14, bytes(8)),
}


VARIABLE_REASONS = {
    "deep": "more than 16 levels",
    "shape, cell": "more than 200000 arrays",
    "shape, struct": "more than 200000 arrays",
    "shape, struct without fields": "structs; expected up to 200000",
    "cell of compressed": "an element of type 15",
    "sparse within": "a sparse array",
}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", VARIABLES)
def test_variables_that_are_not_what_they_say_are_refused(name, compress, tmp_path):
    data = deflated(VARIABLES[name]) if compress else VARIABLES[name]
    path = mat(tmp_path, data)
    with bounded(16), pytest.raises(DataError, match=f"^{path}.*: found") as error:
        open_mat(path).value("a")
    assert VARIABLE_REASONS.get(name, "") in str(error.value)
    assert len(str(error.value)) < 1000


def test_sixteen_levels_are_allowed(tmp_path):
    value = open_mat(mat(tmp_path, nested(16))).value("a")
    for _ in range(16):
        (value,) = value
    assert value.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="more than 16 levels"):
        open_mat(mat(tmp_path, nested(17))).value("a")


def test_many_empty_cells_are_refused(tmp_path):
    """Eight bytes each in the file, a hundred in memory."""
    count = 1_000_000
    cells = matrix(1, (1, count), "a", element(14, b"") * count)
    file = open_mat(mat(tmp_path, deflated(cells)))
    with bounded(32), pytest.raises(DataError, match=r"variable 'a'.*200000 arrays"):
        file.value("a")


def test_variables_that_inflate_without_end_are_refused(tmp_path):
    head = doubles("a")
    large = matrix(6, (1, 12 * MIB), "a", struct.pack("<II", 9, 96 * MIB))
    large = large[:4] + struct.pack("<I", len(large) - 8 + 96 * MIB) + large[8:]
    claims = {
        "zeros": deflated(large + bytes(96 * MIB)),
        "zeros behind": deflated(head + bytes(96 * MIB)),
        "claim": deflated(head[:4] + b"\xf0\xff\xff\xff" + head[8:]),
    }
    for data in claims.values():
        assert len(data) < MIB
        file = open_mat(mat(tmp_path, data))
        with (
            bounded(8),
            pytest.raises(DataError, match=r"variable 'a': found \d+ bytes or more"),
        ):
            file.array("a")


def test_damage_to_compressed_data_is_found(tmp_path):
    data = deflated(doubles("a", np.random.default_rng(0).normal(size=2000)))
    wrong_sum = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(DataError, match=r"a\.mat, variable 'a'.*incorrect data check"):
        open_mat(mat(tmp_path, wrong_sum)).array("a")
    without_sum = struct.pack("<II", 15, len(data) - 12) + data[8:-4]
    with pytest.raises(DataError, match=r"a\.mat, variable 'a'.*end too early"):
        open_mat(mat(tmp_path, without_sum)).array("a")
    with pytest.raises(DataError, match=r"a\.mat: found the end of the file"):
        open_mat(mat(tmp_path, data[:-100]))


# ----------------------------------------------------------------- damage of all kinds


@st.composite
def damage(draw, data):
    """The bytes cut off, with bits flipped, or bytes put in, taken out or replaced."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["flip", "flip", "cut", "insert", "drop", "write"]))
        place = draw(st.integers(0, max(0, len(data) - 1)))
        if kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=9))
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 9))]
        elif kind == "write":
            extreme = [bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"]
            data[place : place + 4] = draw(st.sampled_from(extreme))
        elif data:
            data[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


SANE = (type(None), bool, int, float, complex, str, bytes, bytearray, set, frozenset)


def check_sane(value, size):
    """Fail unless there are only plain values, not much larger than the file."""
    if isinstance(value, dict):
        for key, each in value.items():
            assert isinstance(key, str | bytes | int | float | None | np.generic)
            check_sane(each, size)
    elif type(value) in (list, tuple):
        for each in value:
            check_sane(each, size)
    elif type(value) is np.ndarray:
        assert value.dtype.kind in "biufcSUO"
        assert value.nbytes <= 8 * size
        assert max(value.shape, default=0) <= max(size, 1_000_000)
        if value.dtype == object:
            check_sane(value.ravel().tolist(), size)
    else:
        assert type(value) in SANE or isinstance(value, np.generic)


def attempt(read, path, data, truth=None):
    """Read damaged bytes: the truth (or something sane), or an error with the name."""
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            value = read(path)
        except DataError as error:
            message = str(error)
            assert message.startswith(str(path))
            assert "expected" in message
            assert "\n" not in message
            return
    if truth is None:
        check_sane(value, len(data))
    else:
        assert same(value, truth)


SMALL_VALUES = {
    "data": np.arange(6.0).reshape(2, 3),
    "labels": [1, 2.5, None, "a"],
    3: np.array(["ab"]),
    4: np.array([1, None, [2]], dtype=object),
}
SMALL_PICKLES = [*PYTHON2.values()] + [pickle.dumps(SMALL_VALUES, p) for p in range(6)]


@given(st.sampled_from(SMALL_PICKLES).flatmap(damage))
@settings(fuzz, max_examples=600)
def test_damaged_pickles(tmp_path, data):
    attempt(read_pickle, tmp_path / "s01.dat", data)


INSTRUCTION = st.sampled_from([bytes([code]) for code in range(256)])
SIMPLE = b"(]})tleuasRb\x85\x86\x87\x8f\x90\x91\x94N\x88"
CALLED = [
    b"multiarray\n_reconstruct\n",
    b"multiarray\nscalar\n",
    b"numeric\n_frombuffer\n",
]
FRAGMENTS = st.sampled_from(
    [
        *(bytes([code]) for code in SIMPLE),
        *(b"cnumpy.core." + name for name in CALLED),
        *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cbuiltins\nset\n"),
        *(b"c_codecs\nencode\n", b"S'f8'\n", b"U\x01a", b"C\x02ab", b"h\x00", b"K\x01"),
    ]
)


@given(st.lists(FRAGMENTS | INSTRUCTION, max_size=40).map(b"".join))
@settings(fuzz, max_examples=600)
def test_random_instructions(tmp_path, data):
    attempt(read_pickle, tmp_path / "s01.dat", data + b".")


def saved(save, *arguments, **values):
    buffer = io.BytesIO()
    save(buffer, *arguments, **values)
    return buffer.getvalue()


PICKLED = pickle.dumps(SMALL_VALUES)
ARCHIVES = [
    saved(save, data=value, label=np.arange(3))
    for save in (np.savez, np.savez_compressed)
    for value in (PICKLED, np.array(PICKLED, dtype=object))
]


@given(st.sampled_from(ARCHIVES).flatmap(damage))
@settings(fuzz, max_examples=600)
def test_damaged_archives(tmp_path, data):
    truth = {"data": SMALL_VALUES, "label": np.arange(3)}
    read = lambda path: read_pickled_npz(path, ["data", "label"])  # noqa: E731
    attempt(read, tmp_path / "1_123.npz", data, truth)


@given(damage(claim(data=VALUES.tobytes()[:16])))
@settings(fuzz, max_examples=500)
def test_damaged_entries(tmp_path, entry):
    """With the right checksum: as a hostile hand would write them."""
    path = archive(tmp_path, entry)
    read = lambda path: read_npz(path, ["data"])  # noqa: E731
    attempt(read, path, path.read_bytes())


MAT_VALUES = {
    "a": np.arange(6.0).reshape(2, 3),
    "s": {"x": np.array([[1, 2]], dtype=np.int16), "y": "text", "z": [[1.0], "b"]},
    "b": np.array([[True], [False]]),
}
RAW_MAT = saved(scipy.io.savemat, MAT_VALUES)
DEFLATED_MAT = saved(scipy.io.savemat, MAT_VALUES, do_compression=True)


def read_all(path):
    file = open_mat(path)
    return {name: file.value(name) for name in file.names}


def read_known(path):
    file = open_mat(path)
    return {name: file.value(name) for name in MAT_VALUES}


@given(damage(RAW_MAT))
@settings(fuzz, max_examples=600)
def test_damaged_matlab_files(tmp_path, data):
    attempt(read_all, tmp_path / "1.mat", data)


@given(damage(DEFLATED_MAT))
@settings(fuzz, max_examples=600)
def test_damaged_compressed_matlab_files(tmp_path, data):
    (tmp_path / "whole.mat").write_bytes(DEFLATED_MAT)
    truth = read_known(tmp_path / "whole.mat")
    attempt(read_known, tmp_path / "1.mat", data, truth)


@given(damage(RAW_MAT[128:]))
@settings(fuzz, max_examples=500)
def test_damaged_variables_with_the_right_checksum(tmp_path, data):
    attempt(read_all, tmp_path / "1.mat", RAW_MAT[:128] + deflated(data))


@given(st.binary(max_size=300))
@fuzz
def test_random_bytes(tmp_path, data):
    attempt(read_pickle, tmp_path / "a", data)
    attempt(lambda path: read_npz(path, ["a"]), tmp_path / "a.npz", data)
    attempt(read_all, tmp_path / "a.mat", data)
    attempt(read_all, tmp_path / "a.mat", RAW_MAT[:128] + data)
