"""What domainemo finds of the machine it runs on: libraries, devices, data, storage."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ..errors import DataError, DomainemoError
from ..places import during_import
from ..words import count

__all__ = ["Found", "Health", "examine"]

_LEFT_OUT = ("test", "docs")
"""Extras for whoever works on this package."""


@dataclass(frozen=True)
class Found:
    """A library, a plug-in or a data set, and what is wrong with it.

    Attributes
    ----------
    name : str
    told : str
        Its version, or how much of it there is; empty where there is none.
    problem : str or None
        Why it cannot be used; None where it can.
    extra : str or None
        The extra of the installation that would bring it; None where it is needed.
    """

    name: str
    told: str = ""
    problem: str | None = None
    extra: str | None = None


@dataclass(frozen=True)
class Health:
    """What was found.

    Attributes
    ----------
    versions : mapping of str to str
    libraries, plugins : list of Found
    devices : list of str
        What training may run on, the one that ``--device auto`` takes first.
    threads : mapping of str to int or str
    data_root : str or None
    datasets : list of Found
    storage : mapping of str to value
        Of what was read of recordings: folder, bytes, free bytes and whether it can be
        written to.
    """

    versions: dict[str, str]
    libraries: list[Found]
    plugins: list[Found]
    devices: list[str]
    threads: dict[str, int | str]
    data_root: str | None
    datasets: list[Found]
    storage: dict[str, Any]

    @property
    def broken(self) -> list[Found]:
        """What is needed, or installed on purpose, and cannot be used."""
        every = [*self.libraries, *self.plugins]
        return [
            each for each in every if each.problem and (not each.extra or each.told)
        ]

    @property
    def lacks_data(self) -> bool:
        """Whether a data root is named and is no folder."""
        return self.data_root is not None and not Path(self.data_root).is_dir()


def examine(data_root: str | None = None) -> Health:
    """Look at everything; each library is imported, which takes seconds.

    Parameters
    ----------
    data_root : str, optional
        Else the environment's ``DOMAINEMO_DATA``.
    """
    root = data_root or os.environ.get("DOMAINEMO_DATA") or None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Health(
            versions=_versions(),
            libraries=[*_libraries()],
            plugins=[*_plugins()],
            devices=_devices(),
            threads=_threads(),
            data_root=root,
            datasets=_datasets(Path(root)) if root and Path(root).is_dir() else [],
            storage=_storage(),
        )


def _versions() -> dict[str, str]:
    from .. import __version__

    return {
        "domainemo": __version__,
        "place": str(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
    }


def _libraries() -> Iterator[Found]:
    """Yield what the installation asks for, imported as this package imports it."""
    try:
        wanted = importlib.metadata.requires("domainemo") or []
    except importlib.metadata.PackageNotFoundError:
        why = "it runs from a folder and is not installed, so what it needs is unknown"
        yield Found("domainemo", problem=f"{why}. Install it with pip.")
        return
    for requirement in map(Requirement, wanted):
        told = str(requirement.marker or "")
        extra = told.rpartition("== ")[2].strip("\"'") if "extra" in told else None
        if extra not in _LEFT_OUT and requirement.name != "domainemo":
            yield _library(requirement, extra)


def _library(requirement: Requirement, extra: str | None) -> Found:
    name = requirement.name
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Found(name, problem="it is not installed", extra=extra)
    problem = None
    if not requirement.specifier.contains(version, prereleases=True):
        problem = f"it is version {version}; expected {requirement.specifier}"
    return Found(name, version, problem or _importing(name), extra)


def _importing(name: str) -> str | None:
    """Return why a library cannot be imported; None where it can."""
    try:
        if name == "pytorch-adapt":  # which this package imports in its own way
            from ..adapters.pytorch_adapt.library import load

            load("hooks")
        else:
            importlib.import_module(_module(name))
    except DomainemoError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        return f"it cannot be imported: {type(error).__name__}: {first}"
    return None


def _module(name: str) -> str:
    """Return the name under which a library is imported."""
    plain = name.replace("-", "_")
    owned = _modules().get(name.lower().replace("_", "-"), [])
    return plain if plain in owned or not owned else owned[0]


@cache
def _modules() -> dict[str, list[str]]:
    """Return the public modules of each library that is installed."""
    found: dict[str, list[str]] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners if not module.startswith("_") else ():
            found.setdefault(owner.lower().replace("_", "-"), []).append(module)
    return {name: sorted(modules) for name, modules in found.items()}


def _plugins() -> Iterator[Found]:
    """Yield the packages that bring parts of their own."""
    for entry in importlib.metadata.entry_points(group="domainemo"):
        try:
            entry.load()
            yield Found(entry.name, entry.value)
        except Exception as error:
            yield Found(entry.name, entry.value, during_import(error))


def _devices() -> list[str]:
    try:
        import torch
    except Exception:  # told among the libraries
        return []
    gpus = [
        f"cuda:{number}, {torch.cuda.get_device_name(number)}, "
        f"{torch.cuda.get_device_properties(number).total_memory / 2**30:.0f} GiB"
        for number in range(torch.cuda.device_count())
    ]
    built = torch.version.cuda
    why = f"torch is built for CUDA {built} and finds no GPU"
    alone = "" if gpus else f"; {why if built else 'torch is built without CUDA'}"
    return [*gpus, f"cpu, {torch.backends.cpu.get_cpu_capability()}{alone}"]


def _threads() -> dict[str, int | str]:
    from ..processes import cores

    named = {
        name: value
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        if (value := os.environ.get(name))
    }
    return {"cores": cores(), **named}


def _datasets(root: Path) -> list[Found]:
    """Return every data set that is read from files, and how much of it is there."""
    tables = sorted(path.parent for path in root.glob("*/dataset.toml"))
    found = [Found(str(path), "a table folder") for path in tables]
    try:
        return [*_readers(root), *found]
    except (ImportError, DomainemoError):  # told among the libraries and plug-ins
        return found


def _readers(root: Path) -> Iterator[Found]:
    from ..data.loading import takes_root
    from ..data.reader import Reader
    from ..registry import entries, find

    for entry in entries("dataset"):
        cls: Any = find("dataset", entry.name)
        if takes_root(cls) and issubclass(cls, Reader):
            try:
                files = cls(root).files()
                size = sum(path.stat().st_size for path in files)
                told = f"{count(len(files), 'file')}, {size / 1e6:,.1f} MB"
                yield Found(entry.name, told)
            except (DataError, OSError) as error:
                yield Found(entry.name, problem=str(error))


def _storage() -> dict[str, Any]:
    """Return where what was read of recordings is kept, and how much room there is."""
    try:
        from ..data.cache import cache_folder

        folder = cache_folder()
    except ImportError:  # told among the libraries
        return {}
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    kept = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in kept),
        "free": shutil.disk_usage(place).free,
        "writable": place.is_dir() and os.access(place, os.W_OK),
    }
