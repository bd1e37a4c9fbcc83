"""The studio: what the service holds, and everything it does by its name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import Engine

from calotype import Store
from calotype.backends import Backend
from calotype.model import Imported
from examples.staging import backfill, deleting, jobs, monitoring, uploads
from examples.staging.monitoring import Statistics
from examples.staging.styles import STYLES
from examples.staging.tables import open_database
from examples.staging.uploads import Upload

GRACE = "24h"


def present() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Studio:
    """A folder with ``staging.db`` (our tables and the store's) and ``originals`` (the bytes).

    Safe across threads; any number of processes may open the same folder.
    """

    url: str
    folder: Path
    store: Store
    engine: Engine
    clock: Callable[[], int]

    @classmethod
    def open(
        cls,
        folder: Path,
        clock: Callable[[], int] = present,
        backend: str | Backend | None = None,
    ) -> Self:
        """Open the studio in a folder, or make it."""
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'staging.db'}"
        where = backend if backend is not None else f"file:{folder / 'originals'}"
        store = Store(catalog=url, backend=where, grace=GRACE, clock=clock)
        store.create()  # our statements name its tables
        return cls(url, folder, store, open_database(url), clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()
        self.store.close()

    def new_project(self, name: str) -> int:
        """Open a project; its id."""
        return uploads.new_project(self.engine, self.clock(), name)

    def upload(
        self, project: int, picture: Path | bytes, styles: Sequence[str] = tuple(STYLES)
    ) -> Upload:
        """Keep a picture and order it in ``styles``; see ``uploads.upload``."""
        return uploads.upload(self.store, self.engine, self.clock(), project, picture, styles)

    def work(self) -> Counter[str]:
        """Run every queued job; how they ended."""
        return jobs.work(self.store, self.engine, self.clock)

    def delete_image(self, image_id: int) -> bool:
        """Delete an image; True when its original's bytes were freed."""
        return deleting.delete_image(self.store, self.engine, self.clock(), image_id)

    def delete_project(self, project_id: int) -> int:
        """Delete a project with all its images; how many."""
        return deleting.delete_project(self.engine, self.clock(), project_id)

    def cleanup_orphans(self, limit: int = 100) -> int:
        """Free files that nothing has referred to for 24 hours; how many were originals."""
        return deleting.cleanup_orphans(self.store, self.engine, limit)

    def backfill(self, root: Path) -> Imported:
        """Move old images' originals into the store; their paths begin at ``root``."""
        return backfill.backfill(self.store, self.engine, self.clock(), self.url, root)

    def statistics(self) -> Statistics:
        """Originals in numbers."""
        return monitoring.statistics(self.store, self.engine)

    def numbers(self) -> dict[str, int | float]:
        """The same by name, and how many jobs wait: what is monitored."""
        return self.statistics().by_name() | {"QueuedJobs": monitoring.queued(self.engine)}

    def bill(self, project_id: int) -> int:
        """What a project owes, in cents."""
        return monitoring.bill(self.engine, project_id)
