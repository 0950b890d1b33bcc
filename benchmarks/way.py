"""How many files the recordings pass on their way through a run, and how often.

``python benchmarks/way.py`` follows every call of this package that is handed the
recordings, or what holds them, through one fold of two trainings and the controls. A
stay is a stretch of such calls in one file. Beside it: the calls from `run` to the
adapter's loss, and the frozen records among their variables. Takes 20 s.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import domainemo as de
from domainemo.core import EmotionData, Inputs

PACKAGE = Path(de.__file__).resolve().parents[1]


class Way:
    """What was called, as a profiler of Python sees it."""

    def __init__(self) -> None:
        self.stays: list[str] = []
        self.calls: list[str] = []
        self.records: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call."""
        place = within(frame)
        if event != "call" or not place:
            return
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount
        handed = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
        if place != "domainemo/core.py" and any(map(holds_recordings, handed)):
            self.stays += [place] if self.stays[-1:] != [place] else []
        if code.co_name == "forward" and "adapters" in place and not self.calls:
            self._note_stack(frame)

    def _note_stack(self, frame: FrameType | None) -> None:
        while frame is not None:
            if within(frame):
                self.calls.append(f"{within(frame)}: {frame.f_code.co_name}")
                self.records |= {
                    type(value).__name__
                    for value in frame.f_locals.values()
                    if is_frozen(value)
                }
            frame = frame.f_back


def within(frame: FrameType) -> str:
    """Return the file of the package that a frame runs; empty where it is none's."""
    return place_of(frame.f_code.co_filename)


@cache
def place_of(name: str) -> str:
    """Return a file's path in the package; empty where it is none's."""
    path = Path(name).resolve()
    inside = "<" not in name and path.is_relative_to(PACKAGE)
    inside = inside and path != Path(__file__).resolve()
    return str(path.relative_to(PACKAGE)) if inside else ""


def holds_recordings(value: Any) -> bool:
    """Return whether a value is the recordings, or a record that has them."""
    if isinstance(value, EmotionData | Inputs):
        return True
    inner = getattr(value, "data", None) if dataclasses.is_dataclass(value) else None
    return isinstance(inner, EmotionData)


def is_frozen(value: Any) -> bool:
    """Return whether a value is a frozen record."""
    record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return record and type(value).__dataclass_params__.frozen


def main() -> None:
    """Follow a small run, and print what was found."""
    data = de.Simulated(subjects=2, sessions=1, trials=3, classes=2).load()
    way = Way()
    with tempfile.TemporaryDirectory() as folder:
        sys.setprofile(way)
        de.run(
            data,
            backbone="concatenation-mlp",
            adapter="marginal",
            sampling="windows",
            training=de.Training(epochs=1),
            device="cpu",
            folds=["subject 1"],
            output=Path(folder) / "run",
        )
        sys.setprofile(None)
    print(f"{len(way.stays)} stays in {len(set(way.stays))} files")
    print(f"{len(way.calls)} calls from run to the loss:")
    print("\n".join(f"  {each}" for each in reversed(way.calls)))
    print(f"{len(way.records)} frozen records: {', '.join(sorted(way.records))}")


if __name__ == "__main__":
    main()
