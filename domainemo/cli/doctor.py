"""``domainemo doctor``: what there is on this machine, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from ..errors import ConfigurationError, DataError
from .data.shared import Json, Root, print_lines
from .terminal import echo_json

if TYPE_CHECKING:
    from .health import Found, Health

__all__ = ["doctor"]


def doctor(data_root: Root = None, json: Json = False) -> None:
    """Say what is installed, found and broken on this machine.

    Versions, libraries that cannot be imported and why, devices, threads, the data sets
    below the data root, and where recordings are kept that were read. Ends with 0 where
    all that is needed works, with 2 where some of it does not, with 3 where the data
    root is no folder. Nothing is changed.
    """
    from .health import examine

    health = examine(data_root)
    if json:
        echo_json({**asdict(health), "works": not (health.broken or health.lacks_data)})
    else:
        print_lines(list(_lines(health)))
    if health.broken:
        raise typer.Exit(ConfigurationError.exit_code)
    if health.lacks_data:
        raise typer.Exit(DataError.exit_code)


def _lines(health: Health) -> Iterator[str]:
    """Yield the paragraphs; the verdict comes last."""
    versions = health.versions
    yield f"domainemo {versions['domainemo']} in {versions['place']}"
    yield (
        f"Python {versions['python']} ({versions['executable']}) on "
        f"{versions['platform']}"
    )
    yield from _section("Libraries", _libraries(health.libraries))
    yield from _section("Plug-ins", map(_told, health.plugins))
    yield from _section("Devices, the one that auto takes first", health.devices)
    yield from _section(
        "Threads", [f"{name}: {value}" for name, value in health.threads.items()]
    )
    yield from _section("Data", _data(health))
    if health.storage:
        yield from _section("Kept of recordings that were read", _storage(health))
    yield ""
    yield _verdict(health)


def _section(heading: str, items: Iterator[str] | map[str] | list[str]) -> list[str]:
    found = [f"- {item}" for item in items]
    return ["", heading, *found] if found else []


def _libraries(libraries: list[Found]) -> Iterator[str]:
    """Yield what works in one line, and the others by themselves."""
    working = [f"{each.name} {each.told}" for each in libraries if not each.problem]
    if working:
        yield f"{', '.join(working)}: can be imported"
    for each in libraries:
        if each.problem and each.extra and not each.told:
            yield f"{each.name}: not installed; pip install 'domainemo[{each.extra}]'"
        elif each.problem:
            yield f"{each.name}: {each.problem}"


def _told(each: Found) -> str:
    return f"{each.name} ({each.told})" + (f": {each.problem}" if each.problem else "")


def _data(health: Health) -> Iterator[str]:
    if health.data_root is None:
        yield "no data root: name it by --data-root or the environment's DOMAINEMO_DATA"
        return
    if health.lacks_data:
        yield f"{health.data_root}: there is no such folder"
        return
    yield f"data root: {health.data_root}"
    for each in health.datasets:
        if not each.problem:
            yield f"{each.name}: {each.told}"
    absent = [each.name for each in health.datasets if each.problem]
    if absent:
        yield (
            f"not found: {', '.join(absent)}; `domainemo data check NAME` says what is "
            f"looked for"
        )


def _storage(health: Health) -> Iterator[str]:
    storage = health.storage
    yield (
        f"{storage['folder']}: {storage['bytes'] / 1e6:,.1f} MB, "
        f"{storage['free'] / 1e9:,.1f} GB free on its disk"
    )
    if not storage["writable"]:
        yield (
            "it cannot be written to, so that recordings are read anew each time; the "
            "environment variable DOMAINEMO_CACHE names another place"
        )


def _verdict(health: Health) -> str:
    if health.broken:
        names = ", ".join(each.name for each in health.broken)
        return f"Not all that is needed works: {names}."
    if health.lacks_data:
        return "The data root is no folder."
    return "All that is needed works."
