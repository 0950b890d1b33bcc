"""What validators that are made of others have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..core import Source, Target, Validator
from ..errors import ConfigurationError
from ..registry import find

__all__ = ["Joined", "as_asked", "asked_once"]

_TOLD: ContextVar[dict[tuple[int, ...], tuple[Any, list[float]]] | None] = ContextVar(
    "told", default=None
)


class Joined(Validator):
    """A validator made of others; it asks for whatever one of them asks for.

    Parameters
    ----------
    names : sequence of str
        Of registered validators, which are made with their defaults.

    Raises
    ------
    ConfigurationError
        If there is none, no validator by a name, or they mix samples by several shares.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names:
            raise ConfigurationError(
                "validator.validators is empty; expected the names of some validators."
            )
        self.members: list[Validator] = [find("validator", each)() for each in names]
        self.held_out = any(each.held_out for each in self.members)
        self.needs_training = any(each.needs_training for each in self.members)
        self.sees_target = any(each.sees_target for each in self.members)
        shares = sorted({e.mixes for e in self.members if e.mixes is not None})
        if len(shares) > 1:
            raise ConfigurationError(
                f"validator.validators has some for which samples keep "
                f"{' and '.join(map(str, shares))} of themselves where they are mixed; "
                f"expected one share, as they are mixed once."
            )
        self.mixes = shares[0] if shares else None

    def of_members(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> list[float]:
        """Return every member's single score."""
        known, asked = _TOLD.get(), (self, training, held_out, target)
        key = tuple(map(id, asked))
        if known is not None and key in known:
            return list(known[key][1])
        found = [
            each(*as_asked(each, training, held_out, target)) for each in self.members
        ]
        if known is not None:
            # With what was asked of: another object might get its number.
            known[key] = asked, found
        return list(found)

    def refuse_compared(self) -> None:
        """Refuse members that have no score of their own, but by comparison."""
        for each in self.members:
            if each.compares:
                name = getattr(type(each), "registered_name", type(each).__name__)
                raise ConfigurationError(
                    f"{type(self).__name__} is made of {name!r}, which scores several "
                    f"networks by comparing them; expected validators that score each "
                    f"by itself, such as source and class-ami."
                )


@contextmanager
def asked_once() -> Iterator[None]:
    """Ask members once, in this block, of what is the same.

    A network's score and its evidence are both made of all their scores, each of which
    may be a training of its own.
    """
    token = _TOLD.set({})
    try:
        yield
    finally:
        _TOLD.reset(token)


def as_asked(
    validator: Validator,
    training: Source | None,
    held_out: Source | None,
    target: Target,
) -> tuple[Source | None, Source | None, Target]:
    """Return what a validator is handed of what there is: only what it asks for."""
    return (
        training if validator.needs_training else None,
        held_out if validator.held_out else None,
        target,
    )
