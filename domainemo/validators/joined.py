"""What validators that are made of others have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..core import Source, Target, Validator
from ..errors import ConfigurationError
from ..registry import find

__all__ = ["Joined", "as_asked"]


class Joined(Validator):
    """A validator made of others; it asks for whatever one of them asks for.

    Parameters
    ----------
    names : sequence of str
        Of registered validators, which are made with their defaults.

    Raises
    ------
    ConfigurationError
        If there is none, or no validator by a name.
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
        shares = {each.mixes for each in self.members} - {None}
        self.mixes = max((each for each in shares if each is not None), default=None)

    def of_members(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> list[float]:
        """Return every member's single score."""
        return [
            each(*as_asked(each, training, held_out, target)) for each in self.members
        ]

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
