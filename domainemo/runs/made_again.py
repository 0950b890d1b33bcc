"""An object that was made in Python, of what its run's configuration tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..choices import flatten
from ..errors import ConfigurationError
from ..parts import Part, describe_object
from ..registry import find, parameters

__all__ = ["made_again"]


def made_again(kind: str, name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that make an object again which was made in Python.

    Parameters
    ----------
    kind, name : str
        Of a registered part.
    described : mapping
        What `describe_object` said of it, with dotted names.

    Raises
    ------
    ConfigurationError
        If these options make another one: it holds what no option tells.
    """
    known = parameters(find(kind, name))
    options = {key: value for key, value in described.items() if key in known}
    again = flatten(describe_object(Part(kind, name, options).build()))
    apart = [k for k in {**described, **again} if described.get(k) != again.get(k)]
    if apart:
        raise ConfigurationError(
            f"The {kind} {name!r} of this run was an object made in Python, which its "
            f"configuration does not tell whole ({', '.join(apart)}), so that it "
            f"cannot be made again. Run it by its name, with options, to go on from it."
        )
    return options
