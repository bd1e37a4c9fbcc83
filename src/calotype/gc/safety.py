"""The safe limit: a run that would let go of very much stops and asks."""

from __future__ import annotations

from sqlalchemy import Connection

from calotype.catalog import totals
from calotype.errors import GcLimit

SAFE_SHARE = 0.2
SAFE_COUNT = 1000
"""A run that would remove more blobs than both of these stops and asks."""


class Safety:
    """How much the run of a plan may let go of; everything when it is forced."""

    def __init__(self, plan: str, force: bool = False) -> None:
        self._plan = plan
        self._force = force
        self._blobs: int | None = None

    def allows(self, connection: Connection, gone: int, more: int) -> bool:
        """True when a run that let go of ``gone`` blobs may take ``more``."""
        if self._force or gone + more <= SAFE_COUNT:
            return True
        return gone + more <= max(SAFE_SHARE * self._at_first(connection, gone), SAFE_COUNT)

    def check(self, connection: Connection, gone: int, more: int) -> None:
        """Raise ``GcLimit`` where that is too much."""
        if self.allows(connection, gone, more):
            return
        blobs = self._at_first(connection, gone)
        what = f"it stopped after {gone}" if gone else "nothing was removed"
        raise GcLimit(
            f"gc would let go of {gone + more} of {blobs} blobs, more than {SAFE_SHARE:.0%} "
            f"and {SAFE_COUNT}; {what}.",
            hint=f"Look at the plan; then 'calotype gc --plan {self._plan} --force'.",
        )

    def _at_first(self, connection: Connection, gone: int) -> int:
        """How many blobs there were when the run began; counted once, for it reads them all."""
        if self._blobs is None:
            self._blobs = gone + totals.count_blobs(connection)
        return self._blobs
