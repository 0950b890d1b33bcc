"""Files that outlast a power cut: written whole or not at all, locked, and recorded.

What surrounds them is here alone: no other file of this package renames a file to its
place, flushes one, or locks one.
"""

from .atomic import (
    clear_partial,
    explained,
    is_partial,
    publish,
    sync,
    write,
    writing,
)
from .integrity import (
    RECORD,
    REMEDY,
    check,
    check_all,
    discard_damaged,
    doubted,
    find_damage,
    is_expected,
    is_recorded,
    read,
    record,
    records,
    set_aside,
    write_recorded,
)
from .locks import lock

__all__ = [
    "RECORD",
    "REMEDY",
    "check",
    "check_all",
    "clear_partial",
    "discard_damaged",
    "doubted",
    "explained",
    "find_damage",
    "is_expected",
    "is_partial",
    "is_recorded",
    "lock",
    "publish",
    "read",
    "record",
    "records",
    "set_aside",
    "sync",
    "write",
    "write_recorded",
    "writing",
]
