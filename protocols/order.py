"""The order of subjects and sessions: numbers in names count as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

__all__ = ["in_order"]


def in_order(names: Iterable[Any]) -> list[Any]:
    """Return distinct names in natural order: session "2" before session "10"."""
    return sorted(set(names), key=_natural)


def _natural(name: Any) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", str(name))
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts if p]
