"""NumPy archives: arrays, and pickles that were saved as arrays."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...errors import data_error
from .limits import AGAIN, Refusal, inflated_limit
from .pickles import filled, loads_pickle

__all__ = ["read_npz", "read_pickled_npz"]

_CHUNK = 2**20
_CHECK = "Check that the file is of the data set and the part it is read as."


def read_npz(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of a NumPy archive; only those named, or all.

    An entry may have 64 MiB and 100 times its compressed bytes, 4 GiB at most; reading
    takes little more memory than the arrays, and never more than twice these limits.

    Parameters
    ----------
    path : Path
        A ``.npz`` file.
    names : sequence of str, optional
        The keys.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    DataError
        If the file or an entry is missing, damaged (checksums are verified), larger
        than that, or holds Python objects or records in place of numbers or text.
    """
    result = {}
    for name, (array, pickled) in _entries(path, names).items():
        if pickled is not None:
            raise data_error(
                f"{path}, key {name!r}",
                "pickled Python objects",
                "an array of numbers or text",
                _CHECK,
            )
        result[name] = array
    return result


def read_pickled_npz(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read entries of a NumPy archive that are pickles: dictionaries kept as one entry.

    ``numpy.savez(path, data=pickle.dumps(values))`` writes a pickle as an array without
    axes; some copies hold Python objects, the pickle or the values themselves. Both are
    read by :func:`loads_pickle`, which see for what they may hold.

    Parameters
    ----------
    path : Path
        A ``.npz`` file.
    names : sequence of str
        The keys.

    Returns
    -------
    dict of str to Any
        What each pickle holds. An entry that is a plain array comes back as it is.

    Raises
    ------
    DataError
        As :func:`read_npz` and :func:`loads_pickle`.
    """
    return {
        name: _unpickled(array, pickled, f"{path}, key {name!r}")
        for name, (array, pickled) in _entries(path, names).items()
    }


def _unpickled(array: NDArray[Any], pickled: bytes | None, where: str) -> Any:
    if pickled is not None:
        array = loads_pickle(pickled, where)
        if not isinstance(array, np.ndarray):
            raise data_error(where, type(array).__name__, "a pickled array", AGAIN)
    if array.shape or array.dtype.kind not in "SO":
        return array
    value = array[()]
    return loads_pickle(value, where) if isinstance(value, bytes) else value


# ------------------------------------------------------------------------ archive


def _entries(
    path: Path, names: Sequence[str] | None
) -> dict[str, tuple[NDArray[Any], bytes | None]]:
    """Return each entry as an array, and the pickle if it is one of objects."""
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {}
            if names is None:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
            for name in names:
                where = f"{path}, key {name!r}"
                entries[name] = _array(_read(archive, name))
            return entries
    except Refusal as error:
        raise error.at(where) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        found = f"no file to read ({error.strerror})"
        raise data_error(where, found, "a NumPy archive", "Check the path.") from error
    except Exception as error:
        found = f"damage ({type(error).__name__}: {error})"
        expected = "an intact NumPy archive (.npz)"
        raise data_error(where, found, expected, AGAIN) from error


def _read(archive: zipfile.ZipFile, name: str) -> bytearray:
    """Return an entry's bytes, once they are all there and the checksum is right."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if name not in members:
        listed = ", ".join(sorted(members)[:10]) or "nothing"
        raise Refusal(f"no such entry, but {listed[:300]}", f"{name!r}", _CHECK)
    info = members[name]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal("an unusual compression", "what numpy.savez writes")
    limit = inflated_limit(info.compress_size)
    if info.file_size > limit:
        raise Refusal(
            f"{info.file_size} bytes, compressed to {info.compress_size}",
            f"at most {limit}",
        )
    data = bytearray()
    with archive.open(info) as file:
        # In pieces, as what a piece inflates to is then bounded, whatever the sizes
        # say. The read after the last one verifies the checksum.
        while piece := file.read(_CHUNK):
            data += piece
    if len(data) != info.file_size:
        raise Refusal(f"{len(data)} bytes", f"{info.file_size} bytes")
    return data


def _array(data: bytearray) -> tuple[NDArray[Any], bytes | None]:
    """Return the array of a .npy file; or an empty one and the pickle of objects."""
    file = io.BytesIO(data[:_CHUNK])
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Refusal(f"version {version} of the .npy format", "version 1 or 2")
    read = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
    with warnings.catch_warnings():
        # Headers of Python 2, and odd escapes in damaged ones.
        warnings.simplefilter("ignore")
        shape, fortran, dtype = read(file)
    start = file.tell()
    if dtype.kind == "O":
        return np.empty(0), bytes(memoryview(data)[start:])
    if dtype.kind not in "biufcSU":
        raise Refusal(f"values of type {dtype}", "numbers or text")
    values = memoryview(data)[start:]
    return filled(values, dtype, shape, "F" if fortran else "C", len(data)), None
