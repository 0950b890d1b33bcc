"""The kinds of file that data sets come in: MATLAB, pickles, NumPy archives.

Every way in which a file may be cut off, damaged or hostile ends in a
:class:`~domainemo.errors.DataError` that names the file and the key; none runs code
from a file, and all take memory within the limits that they state.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archives import read_npz, read_pickled_npz
    from .matlab import MatFile, open_mat
    from .pickles import loads_pickle, read_pickle

__all__ = [
    "MatFile",
    "loads_pickle",
    "open_mat",
    "read_npz",
    "read_pickle",
    "read_pickled_npz",
]

_MODULE = {
    "MatFile": "matlab",
    "loads_pickle": "pickles",
    "open_mat": "matlab",
    "read_npz": "archives",
    "read_pickle": "pickles",
    "read_pickled_npz": "archives",
}


def __getattr__(name: str) -> Any:
    """Import a reader when it is first used: bounds on text need no NumPy."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
