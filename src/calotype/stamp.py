"""Stamps: what tells that a file is as it was."""

from __future__ import annotations

import os
from typing import NamedTuple

_63_BITS = (1 << 63) - 1


class Stamp(NamedTuple):
    """Of a file: bytes, nanoseconds since 1970 of its last change, the inode's low bits."""

    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """The stamp that the system's answer makes; a database takes its numbers.

        Dates before 1677 and after 2262 count as the nearest one between.
        """
        modified = found.st_mtime_ns
        if not -_63_BITS <= modified <= _63_BITS:
            modified = _63_BITS if modified > 0 else -_63_BITS
        return cls(found.st_size, modified, found.st_ino & _63_BITS)
