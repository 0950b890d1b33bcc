"""The files that are shipped: studies, published setups, and benchmarks, by name."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..choices import BenchmarkChoices, choices_of
from ..errors import ConfigurationError, DomainemoWarning, did_you_mean

__all__ = ["NAMED", "benchmarks", "is_benchmark", "read_configuration", "studies"]


def studies() -> dict[str, Path]:
    """Return the shipped configurations by name."""
    return {name: path for name, path in _files().items() if name not in benchmarks()}


def benchmarks() -> dict[str, Path]:
    """Return the shipped benchmarks by name."""
    return {k: path for k, path in _files().items() if k.endswith("-ablation")}


NAMED: Mapping[str, Callable[[], dict[str, Path]]] = {
    "study": studies,
    "benchmark": benchmarks,
}
"""What is shipped as files, each kind with what returns them by name."""


def is_benchmark(given: Mapping[str, Any]) -> bool:
    """Return whether a file that holds this says what a benchmark crosses."""
    return not choices_of(BenchmarkChoices).keys().isdisjoint(given)


def _files() -> dict[str, Path]:
    found = {path.stem: path for path in _shipped().glob("named/*.toml")}
    return dict(sorted(found.items()))


def read_configuration(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Read a configuration: a file, that of a folder, or a shipped one by its name.

    Parameters
    ----------
    name : str
    said : mapping
        What the command line says, such as which ``dataset``; None where nothing.

    Raises
    ------
    ConfigurationError
        If there is no such file and no such name, or it is a benchmark's.

    Warns
    -----
    DomainemoWarning
        Where there is a published setup for the data set that is given.
    """
    from ..runs.folder import read_config

    place, shipped = Path(name), studies()
    path = place / "config.toml" if place.is_dir() else place
    whole = place / "benchmark.toml"
    if whole.is_file() and not path.exists():
        raise _for_a_benchmark(str(whole))
    if path.exists() or (place.is_dir() and name not in shipped):
        found = read_config(path)
        if is_benchmark(found):
            raise _for_a_benchmark(name)
        return found
    if name in shipped:
        return _with_its_data_set(name, read_config(shipped[name]), said)
    if name in benchmarks():
        raise _for_a_benchmark(name)
    raise ConfigurationError(
        _instead(name, said)
        or f"{name}: there is no such configuration file."
        f"{did_you_mean(name, shipped)} Give the path of a TOML file, or a name that "
        f"`domainemo list studies` shows."
    )


def _for_a_benchmark(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: this is a benchmark, of many runs; expected the configuration of "
        f"one. `domainemo benchmark {name}` runs it."
    )


def _shipped() -> Path:
    spec = importlib.util.find_spec("domainemo.studies")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _data_sets() -> dict[str, dict[str, Any]]:
    """Return what a study adds of each data set."""
    from ..runs.folder import read_config

    return read_config(_shipped() / "datasets.toml")


def _searching(backbone: str) -> dict[str | None, str]:
    """Return a system's studies by the data set they are for; None for any."""
    return {
        found.get("dataset"): name
        for name, found in _read().items()
        if "space" in found and found["backbone"] == backbone
    }


def _released(like: Mapping[str, Any]) -> dict[str | None, str]:
    """Return setups of the same parts by data set, of those without a search."""
    parts = ("backbone", "adapter", "pairs", "sampling", "protocol")
    return {
        found.get("dataset"): name
        for name, found in _read().items()
        if "space" not in found and all(found.get(k) == like.get(k) for k in parts)
    }


def _read() -> dict[str, dict[str, Any]]:
    from ..runs.folder import read_config

    return {name: read_config(path) for name, path in studies().items()}


def _with_its_data_set(
    name: str, found: dict[str, Any], said: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a shipped configuration; a study with what its data set adds."""
    dataset = said.get("dataset") or found.get("dataset")
    if not dataset or Path(dataset, "dataset.toml").is_file():
        return found
    backbone = said.get("backbone") or found["backbone"]
    searches = "space" in found
    alike = _searching(backbone) if searches else _released(found)
    setup = alike.get(dataset, name)
    if setup != name:
        warnings.warn(
            f"For {backbone} on {dataset} there is a published setup: --config "
            f"{setup}. {name} does not have its options.",
            DomainemoWarning,
            stacklevel=1,
        )
    if not searches:
        return found
    added = _data_sets().get(dataset, {})
    study = {**added.get("study", {}), **found.get("study", {})}
    return {**added, **found, "study": study}


def _instead(former: str, said: Mapping[str, Any]) -> str | None:
    """Return what to type for a study that was called DATASET-SYSTEM; else None."""
    for dataset, added in _data_sets().items():
        system = former.removeprefix(f"{dataset}-")
        found = _searching(system) if system != former else {}
        if not found:
            continue
        given = said.get("dataset") or dataset
        now = found.get(dataset) or found[None]
        if dataset not in found or given != dataset:
            now += f" --dataset {given}"
        text = f"{former}: this study is now `--config {now}`."
        if given == dataset:
            return text
        set_for = {**added, **added["study"]}
        del set_for["study"]
        options = " ".join(
            f"--{option} {','.join(value) if isinstance(value, list) else value}"
            for option, value in set_for.items()
        )
        return (
            f"{text} What it set for {dataset} is yours to say of other recordings: "
            f"{options} (`adapt` takes no --development)."
        )
    return None
