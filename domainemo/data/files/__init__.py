"""The kinds of file that data sets come in: MATLAB, pickles, NumPy archives.

Every way in which a file may be cut off, damaged or hostile ends in a
:class:`~domainemo.errors.DataError` that names the file and the key; none runs code
from a file, and all take memory within the limits that they state.
"""

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
