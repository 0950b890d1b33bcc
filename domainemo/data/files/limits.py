"""What a file may claim of itself, and how a refusal is told.

A file says how large its contents are before they are read, and a damaged or hostile
one says anything. So a claim is held against the bytes that are there.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DataError, data_error

__all__ = ["AGAIN", "LARGEST", "RATIO", "SMALL", "Refusal", "inflated_limit"]

SMALL = 64 * 2**20
"""Bytes that compressed data may always inflate to."""

RATIO = 100
"""Bytes that they may inflate to beyond these, for each compressed byte.

Recordings and features shrink to a half or a tenth; a thousandth is what zeros shrink
to.
"""

LARGEST = 4 * 2**30
"""Bytes that one variable or entry may have at most: MATLAB's own limit."""

AGAIN = "The file is damaged, or not the publisher's; fetch it again."
"""The usual remedy."""


class Refusal(Exception):
    """What was found and what was expected, in a place that the caller knows."""

    def __init__(
        self, found: str, expected: str = "an intact file", remedy: str = AGAIN
    ) -> None:
        super().__init__(found)
        self.found, self.expected, self.remedy = found, expected, remedy

    def at(self, where: Path | str) -> DataError:
        """Return the error that names the place."""
        return data_error(where, self.found, self.expected, self.remedy)


def inflated_limit(compressed: int) -> int:
    """Return how many bytes so many compressed ones may inflate to."""
    return min(SMALL + RATIO * compressed, LARGEST)
