"""Reading a file while it stands still, so that nothing is kept that no file ever was."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from calotype import staging
from calotype.backends import Backend
from calotype.errors import Unavailable
from calotype.intake import IN_MEMORY
from calotype.staging import Content, Limits, Located
from calotype.stamp import Stamp

# a path may be bytes:
# ruff: noqa: PTH116

TICK = 20_000_000
"""Nanoseconds: two changes of a file that are further apart have different instants."""

COARSE_TICK = 2_000_000_000
"""The same on file systems that keep whole seconds."""


def read_still(
    path: Located, backend: Backend, limits: Limits, modified: int | None = None
) -> tuple[Content, bool]:
    """The file's content, and whether a change from now on might leave its stamp as it is.

    ``modified`` is when it was changed last, as far as is known. Raises what ``staging.receive``
    raises, and ``Unavailable`` where it changed meanwhile.
    """
    if modified is None or time.time_ns() - modified < 2 * TICK:
        let_time_pass(path)
    began = time.time_ns()
    content = staging.receive(path, backend, limits, in_memory=IN_MEMORY)
    try:
        now = Stamp.of(os.stat(path))
        if content.stamp != now:
            raise Unavailable("It changed while it was read.", hint="Import it again.")
    except BaseException:
        content.discard()
        raise
    return content, _may_hide_a_change(now, began)


def let_time_pass(path: Located) -> None:
    """Wait until a change from now on would have another instant than the last one."""
    with suppress(OSError):  # the reading says it better
        age = time.time_ns() - os.stat(path).st_mtime_ns
        if 0 <= age < TICK:
            time.sleep((TICK - age) / 1e9 + 0.001)


def _may_hide_a_change(stamp: Stamp, began: int) -> bool:
    """True where a change after the reading ``began`` could have the same instant as the last.

    So it is for a file that was changed just then, or by a clock that runs ahead of ours.
    """
    tick = COARSE_TICK if stamp.modified % 1_000_000_000 == 0 else TICK
    return stamp.modified + tick > began
