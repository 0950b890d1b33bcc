"""What a file may claim of itself, and how a refusal is told.

A file says how large its contents are before they are read, and a damaged or hostile
one says anything. So a claim is held against the bytes that are there, and text
against bounds on its length and depth, before it is parsed.
"""

from __future__ import annotations

import json
import re
import tomllib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError, data_error

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AGAIN",
    "LARGEST",
    "RATIO",
    "SMALL",
    "TABLE",
    "TEXT",
    "Refusal",
    "check_file",
    "inflated_limit",
    "parse_json",
    "parse_parquet",
    "parse_toml",
    "read_text",
]

SMALL = 64 * 2**20
"""Bytes that compressed data may always inflate to."""

RATIO = 100
"""Bytes that they may inflate to beyond these, for each compressed byte.

Recordings and features shrink to a half or a tenth; a thousandth is what zeros shrink
to.
"""

LARGEST = 4 * 2**30
"""Bytes that one variable or entry may have at most: MATLAB's own limit."""

TEXT = 4 * 2**20
"""Bytes of a file that describes: TOML; of JSON, 16 times that."""

TABLE = 512 * 2**20
"""Bytes of a table that is text: CSV."""

DEPTH = 32
"""Brackets within brackets of TOML, and names in a dotted key."""

AGAIN = "The file is damaged, or not the publisher's; fetch it again."
"""The usual remedy."""


class Refusal(Exception):
    """What was found and what was expected, in a place that the caller knows."""

    def __init__(
        self, found: str, expected: str = "an intact file", remedy: str = AGAIN
    ) -> None:
        super().__init__(f"{found}; expected {expected}")
        self.found, self.expected, self.remedy = found, expected, remedy

    def at(self, where: Path | str) -> DataError:
        """Return the error that names the place."""
        return data_error(where, self.found, self.expected, self.remedy)


def inflated_limit(compressed: int) -> int:
    """Return how many bytes so many compressed ones may inflate to."""
    return min(SMALL + RATIO * compressed, LARGEST)


def check_file(path: Path, most: int) -> None:
    """Refuse what is no plain file, or is too large to be what it is read as.

    A pipe would make its reader wait for ever, and a device never ends.

    Raises
    ------
    Refusal
    OSError
        If there is none.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise Refusal("no plain file", "a file", "Give another file.")
    if size > most:
        raise Refusal(f"{size} bytes", f"at most {most}")


def read_text(path: Path, most: int = TEXT) -> str:
    """Return a text file's content, line ends as they are.

    Raises
    ------
    Refusal
        If it is no plain file, has more than so many bytes, or is no UTF-8.
    OSError
        If it cannot be read.
    """
    check_file(path, most)
    try:
        # Spreadsheets put a byte-order mark first.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"a byte that is not UTF-8 at position {error.start}",
            "UTF-8 text",
            "Save the file again with the encoding UTF-8.",
        ) from error


# What may hide a bracket or a dot, then what counts. Each alternative ends, so that
# the scan takes one pass.
_TOKENS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*"
    r"|[\[{\]}.=,\n]",
    re.DOTALL,
)


def parse_toml(text: str) -> dict[str, Any]:
    """Return a TOML document of bounded depth.

    Raises
    ------
    ValueError
        If it is no TOML, deeper than `DEPTH`, or holds a number beyond 64 bits; the
        message says where.
    """
    depth = names = 0
    for token in _TOKENS.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case ".":
                names += 1
            case "=" | "," | "\n":
                names = 0
        if max(depth, names) >= DEPTH:
            line = text.count("\n", 0, token.start()) + 1
            what = "brackets in brackets" if depth >= DEPTH else "names in one key"
            raise ValueError(f"line {line} has more than {DEPTH} {what}")
    document = tomllib.loads(text)
    _check_numbers(document, "the document")
    return document


def _check_numbers(value: Any, where: str) -> None:
    """Refuse whole numbers that no other program would read, or could print."""
    if isinstance(value, dict):
        for key, each in value.items():
            _check_numbers(each, key)
    elif isinstance(value, list):
        for each in value:
            _check_numbers(each, where)
    elif isinstance(value, int) and value.bit_length() > 63:
        raise ValueError(f"{where!r} holds a number of {value.bit_length()} bits")


def parse_json(content: bytes) -> Any:
    """Return what JSON of bounded length holds.

    Raises
    ------
    Refusal, ValueError
        If it is longer, nested too deeply, or no JSON.
    """
    if len(content) > 16 * TEXT:
        raise Refusal(f"{len(content)} bytes", f"at most {16 * TEXT}")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_parquet(content: bytes) -> pd.DataFrame:
    """Return a table, if its cells are no more than its bytes can hold.

    Raises
    ------
    Refusal
        If it claims more.
    ArrowException
        If it is damaged.
    """
    import pandas as pd
    from pyarrow.parquet import read_metadata

    claimed = read_metadata(BytesIO(content))
    rows, columns = claimed.num_rows, claimed.num_columns
    groups = range(claimed.num_row_groups)
    packed = sum(claimed.row_group(i).total_byte_size for i in groups)
    most = inflated_limit(len(content))
    if max(8 * rows * columns, packed) > most:
        raise Refusal(f"{rows} rows of {columns} columns", f"at most {most} bytes")
    return pd.read_parquet(BytesIO(content))
