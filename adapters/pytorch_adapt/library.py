"""The one door to pytorch-adapt, which opens on any machine.

pytorch-adapt 0.0.83 is the last release. Two things it imports may be missing or broken
today, although nothing this library uses of it needs them:

- *torchvision*, for its image data sets. The wheel on PyPI is built for CUDA and fails
  at import beside a CPU build of torch.
- *pkg_resources*, imported by torchmetrics 0.9.3 to read version numbers. It was part
  of setuptools until version 82.

:func:`load` puts stand-ins for them into ``sys.modules`` while pytorch-adapt is first
imported, and takes them out again, so that no other library ever sees them. A
torchvision that works is used, and stays.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from domainemo.errors import ConfigurationError

__all__ = ["load"]

_OURS = ("pytorch_adapt", "pytorch_metric_learning", "torchmetrics")
"""The old libraries: those that may see the stand-ins."""

_SHARED = ("torch", "numpy", "packaging.version", "scipy", "sklearn.cluster", "tqdm")
"""What the old libraries share with others: imported before the stand-ins come."""

_CURIOUS = ("lpips", "torch_fidelity", "transformers")
"""What torchmetrics imports if it is there, and which would ask for torchvision."""

_STANDINS = {
    "PIL.Image": ("PIL", "PIL.Image"),
    "torchvision": (
        "torchvision",
        "torchvision.datasets",
        "torchvision.datasets.utils",
        "torchvision.transforms",
    ),
}
"""A module to try, and those to stand in for where it does not work."""

_lock = threading.RLock()


def load(name: str) -> ModuleType:
    """Return a part of pytorch-adapt, importing it if need be.

    The first call costs seconds, so make it where the part is used, not at import.

    Parameters
    ----------
    name : str
        The part: ``"layers"``, ``"hooks"``, ``"weighters"``, ``"validators"``, ...

    Returns
    -------
    module
        ``pytorch_adapt.<name>``.

    Raises
    ------
    ConfigurationError
        If pytorch-adapt is missing or cannot be imported.
    """
    full_name = f"pytorch_adapt.{name}"
    with _lock:
        if full_name in sys.modules:
            return sys.modules[full_name]
        before = set(sys.modules)
        try:
            _import_shared()
            with _silence(), _placed(_stand_ins()):
                return importlib.import_module(full_name)
        except Exception as error:
            # A half-imported library would fail differently the next time.
            _forget(_OURS, before)
            raise ConfigurationError(_explain(name, error)) from error


def _import_shared() -> None:
    """Import outside the silence, for these set warning filters of their own."""
    for name in _SHARED:
        importlib.import_module(name)


@contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _placed(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Put modules in ``sys.modules``, and back what was there."""
    table: dict[str, Any] = sys.modules
    before = {name: table[name] for name in modules if name in table}
    table.update(modules)
    try:
        yield
    finally:
        for name in modules:
            table.pop(name, None)
        table.update(before)


def _stand_ins() -> dict[str, ModuleType | None]:
    """Return what to place; None makes Python believe a module is not installed."""
    modules: dict[str, ModuleType | None] = {}
    if "pkg_resources" not in sys.modules:
        modules["pkg_resources"] = _package_versions()
    for module, names in _STANDINS.items():
        if not _works(module):
            modules |= _empty_package(names)
    if "torchvision" in modules:
        # Imported now, these would remember for good what they saw of torchvision.
        modules |= dict.fromkeys(n for n in _CURIOUS if n not in sys.modules)
    return modules


def _works(module: str) -> bool:
    before = set(sys.modules)
    try:
        importlib.import_module(module)
    except Exception:
        # Left behind, its submodules would spare a later import half of its work.
        _forget((module.partition(".")[0],), before)
        return False
    return True


def _forget(packages: tuple[str, ...], before: set[str]) -> None:
    """Drop the modules of `packages` that were not there `before`."""
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in packages:
            del sys.modules[name]


@cache
def _package_versions() -> ModuleType:
    """Stand in for pkg_resources: the two names that torchmetrics asks for."""
    module = ModuleType("pkg_resources")
    vars(module).update(
        get_distribution=importlib.metadata.distribution,
        DistributionNotFound=importlib.metadata.PackageNotFoundError,
    )
    return module


@cache
def _empty_package(names: tuple[str, ...]) -> dict[str, ModuleType]:
    modules: dict[str, ModuleType] = {name: _Empty(name) for name in names}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    return modules


class _Empty(ModuleType):
    """A module in which every name is a class that cannot be used."""

    def __init__(self, name: str) -> None:
        super().__init__(
            name, "Stand-in, see domainemo.adapters.pytorch_adapt.library."
        )
        self.__path__: list[str] = []
        # torchmetrics looks for the specification, then compares the version: at 0
        # it leaves the parts alone that need torchvision.
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__version__ = "0"

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Unusable,), {"__module__": self.__name__})


class _Unusable:
    """What an image data set of pytorch-adapt finds in place of torchvision."""

    def __init__(self, *_: object, **__: object) -> None:
        package = type(self).__module__.partition(".")[0]
        raise ConfigurationError(
            f"{type(self).__name__} needs {package}, which could not be imported when "
            f"pytorch-adapt was loaded. Install a {package} that matches torch; "
            f"`python -c 'import {package}'` shows what is wrong with the present one."
        )


def _explain(name: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing == "pytorch_adapt":
        problem = f"pytorch-adapt is not installed; asked for its {name!r}"
    elif missing == f"pytorch_adapt.{name}":
        return (
            f"pytorch-adapt has no part called {name!r}; expected layers, hooks, "
            f"weighters, containers, validators or another of its sub-packages."
        )
    else:
        problem = (
            f"pytorch-adapt's {name!r} could not be imported: "
            f"{type(error).__name__}: {error}"
        )
    return (
        f"{problem}. Expected pytorch-adapt 0.0.83 with torchmetrics 0.9.3 and "
        f"pytorch-metric-learning 1.6.3; install all three with: "
        f'pip install "pytorch-adapt==0.0.83".'
    )
