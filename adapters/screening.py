"""Which screen an adapter learns by: the composite's, or else its own."""

from __future__ import annotations

from domainemo.core import Pseudo, Screen, Target
from domainemo.registry import find
from domainemo.screens.confidence import Screening

__all__ = ["pseudo_of", "screen_of"]


def screen_of(given: Screen | str | None) -> Screen:
    """Return a screen that was made, a new one by its name, or the usual one."""
    if isinstance(given, str):
        made: Screen = find("screen", given)()
        return made
    return Screening() if given is None else given


def pseudo_of(target: Target, screen: Screen) -> Pseudo:
    """Return what the surrounding composite believes, or else what `screen` does."""
    return target.pseudo if target.pseudo is not None else screen(target)
