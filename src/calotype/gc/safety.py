"""The safe limit: a run that would let go of very much stops and asks."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from calotype.catalog import totals
from calotype.errors import GcLimit

SAFE_SHARE = 0.2
SAFE_COUNT = 1000
"""A run that would remove more blobs than both of these stops and asks."""


@dataclass(frozen=True, slots=True)
class Safety:
    """How much the run of a plan may let go of; everything when it is forced."""

    plan: str
    force: bool = False

    def allows(self, connection: Connection, gone: int, more: int) -> bool:
        """True when a run that let go of ``gone`` blobs may take ``more``."""
        if self.force or gone + more <= SAFE_COUNT:
            return True
        return gone + more <= max(SAFE_SHARE * (gone + totals.count_blobs(connection)), SAFE_COUNT)

    def check(self, connection: Connection, gone: int, more: int) -> None:
        """Raise ``GcLimit`` where that is too much."""
        if self.allows(connection, gone, more):
            return
        blobs = gone + totals.count_blobs(connection)
        what = f"it stopped after {gone}" if gone else "nothing was removed"
        raise GcLimit(
            f"gc would let go of {gone + more} of {blobs} blobs, more than {SAFE_SHARE:.0%} "
            f"and {SAFE_COUNT}; {what}.",
            hint=f"Look at the plan; then 'calotype gc --plan {self.plan} --force'.",
        )
