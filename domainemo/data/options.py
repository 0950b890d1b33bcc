"""Options that all readers check alike."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import ConfigurationError

__all__ = ["check_option"]


def check_option(
    data_set: str, option: str, found: object, expected: Collection[object]
) -> None:
    """Raise :class:`ConfigurationError` unless an option is one of its values."""
    # 1 == True, so that the type must agree as well.
    if not any(found == each and type(found) is type(each) for each in expected):
        raise ConfigurationError(
            f"{data_set}: found {option}={found!r}; expected one of "
            f"{', '.join(map(repr, expected))}."
        )
