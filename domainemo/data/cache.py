"""What a reader made of its files, kept on disk and mapped into memory afterwards.

An entry is a folder: one ``.npy`` file per modality, the windows, the labels and a
description. Its name is made of everything that the content depends on: the data set,
its options, the names, sizes and times of change of all its files, and the code that
read them. So an entry is never out of date, and never has to be deleted by hand.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache as remember
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__, files
from ..core import EmotionData, Inputs, Modality
from ..errors import ConfigurationError, DataError, DomainemoWarning, data_error
from .sentinels import sentinels

__all__ = ["cache_folder", "entry_folder", "read_entry", "unreadable", "write_entry"]

_WINDOWS = "windows.parquet"
_LABELS = "labels.npy"
_DESCRIPTION = "entry.json"


def cache_folder() -> Path:
    """Return where entries lie: ``DOMAINEMO_CACHE``, or the system's own place."""
    chosen = os.environ.get("DOMAINEMO_CACHE")
    if chosen:
        return Path(chosen)
    import pooch

    return Path(pooch.os_cache("domainemo"))


def entry_folder(
    data_set: str,
    choices: Mapping[str, Any],
    files: list[Path],
    code: str = "",
    root: Path = Path(),
) -> Path:
    """Return the folder of an entry, whether it is there or not.

    Parameters
    ----------
    data_set : str
        Its name.
    choices : mapping
        Its root and its options.
    files : list of Path
        Every file that is read.
    code : str
        What reads them, of a data set from outside this package.
    root : Path
        As the paths of those begin that lie where the data set does.

    Returns
    -------
    Path
        One folder for the choices, and in it one for the state of files and code.

    Raises
    ------
    DataError
        If one of them is not there.
    """
    chosen = json.dumps(choices, sort_keys=True, default=_in_words)
    state = sha256(f"{__version__} {np.__version__} {_code()} {code}".encode())
    for path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        # By its name, which may tell the subject, and as the very file that it is, as
        # two of one size and time may have changed places.
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        state.update(f"{name}\0{path.resolve()}\0{facts}\n".encode())
    first = f"{data_set}-{sha256(chosen.encode()).hexdigest()[:16]}"
    return cache_folder() / first / state.hexdigest()[:24]


def _in_words(value: Any) -> str:
    """Return what tells an option that JSON does not have from others."""
    if isinstance(value, Path):
        return str(value)
    try:
        return sha256(pickle.dumps(value)).hexdigest()
    except (pickle.PicklingError, AttributeError, TypeError):
        return str(value)


def unreadable(path: str | Path, error: OSError) -> DataError:
    """Return the error that names a file or folder which the system refuses."""
    return data_error(
        path,
        f"what cannot be read ({error.strerror})",
        "files and folders that are there and may be read",
        "Put it back, mend the link, or have it made readable.",
    )


def read_entry(folder: Path, *, warn: bool = True) -> EmotionData | None:
    """Return an entry with its arrays mapped, or None if it is not there or not whole.

    Parameters
    ----------
    folder : Path
        From :func:`entry_folder`.
    warn : bool
        Whether to warn of values once more.

    Warns
    -----
    DomainemoWarning
        If it is there and not whole; and of what was warned of as it was read.
    """
    if not folder.exists():
        return None
    try:
        files.check_all(folder)
        stored = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        modalities = {
            name: Modality(
                tuple(each["channels"]),
                tuple(each["features"]),
                each["kind"],
                each["unit"],
                each["span"],
            )
            for name, each in stored["modalities"].items()
        }
        signals = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in modalities
        }
        windows = pd.read_parquet(folder / _WINDOWS)
        labels = np.load(folder / _LABELS)
        told = stored["name"], stored["labelled_trials"]
        inputs = Inputs(signals, windows, modalities, *told)
        for text in stored["sentinels"] if warn else ():
            warnings.warn(text, DomainemoWarning, stacklevel=3)
        return EmotionData(inputs, labels, tuple(stored["classes"]))
    except Exception as error:  # damaged in any way
        warnings.warn(
            f"What was kept of the recordings is damaged, so they are read again: "
            f"{error}",
            DomainemoWarning,
            stacklevel=2,
        )
        return None


def write_entry(folder: Path, data: EmotionData) -> None:
    """Write an entry in one atomic step, and remove those that it replaces.

    Parameters
    ----------
    folder : Path
        From :func:`entry_folder`. Where another process has just written it, that one
        stays.
    data : EmotionData

    Raises
    ------
    ConfigurationError
        If the disk is full, or the folder cannot be written.
    """
    try:
        with files.writing(folder) as partial:
            partial.mkdir()
            for name, array in data.inputs.signals.items():
                np.save(partial / f"{name}.npy", array)
            np.save(partial / _LABELS, data.labels)
            data.inputs.windows.to_parquet(partial / _WINDOWS)
            description = {
                "name": data.inputs.name,
                "labelled_trials": data.inputs.labelled_trials,
                "classes": data.classes,
                "sentinels": list(sentinels(data.inputs)),
                "modalities": {k: asdict(v) for k, v in data.inputs.modalities.items()},
            }
            text = json.dumps(description, indent=1)
            (partial / _DESCRIPTION).write_text(text, encoding="utf-8")
            files.record(partial)
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    except ConfigurationError:
        if not folder.exists() or read_entry(folder, warn=False) is None:
            raise
    for other in folder.parent.iterdir():
        # Of files that have changed since. Who has them mapped keeps them.
        if other != folder and not files.is_partial(other):
            shutil.rmtree(other, ignore_errors=True)


@remember
def _code() -> str:
    """Return a hash of all code that reads, so that no entry outlives a correction."""
    digest = sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
