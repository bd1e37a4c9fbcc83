"""Monitoring: what sharing originals comes to, counted each time and never kept as a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, Executable, ScalarSelect, and_, exists, func, select

from calotype import Store
from calotype.catalog.tables import blob, reference
from examples.staging.tables import images, jobs, reading
from examples.staging.uploads import ORIGINAL


@dataclass(frozen=True, slots=True)
class Statistics:
    """Originals in numbers; sizes are bytes.

    An original is a file that an image, deleted or not, was made of. It is orphaned when nothing
    keeps it any more; ``saved_size`` is what its images would take beyond that, each with a copy.
    """

    total_count: int
    total_size: int
    orphaned_count: int
    orphaned_size: int
    references: int
    saved_size: int
    saved_percent: float

    @property
    def avg_references(self) -> float:
        """Images an original, orphans counted too; 0 where there is none."""
        return self.references / self.total_count if self.total_count else 0.0

    def by_name(self) -> dict[str, int | float]:
        """The numbers by the names that dashboards know."""
        return {
            "TotalCount": self.total_count,
            "TotalSize": self.total_size,
            "OrphanedCount": self.orphaned_count,
            "OrphanedSize": self.orphaned_size,
            "AvgReferences": round(self.avg_references, 2),
            "SavedSize": self.saved_size,
            "SavedPercent": round(self.saved_percent, 1),
        }


def statistics(store: Store, engine: Engine) -> Statistics:
    """Count originals, their live references, and those that wait for the clean-up."""
    with reading(engine).connect() as connection:
        count, size, references, logical = connection.execute(_totals()).one()
        idle = {row.digest: row.size for row in connection.execute(_idle())}
    held = store.check(idle)
    orphans = [idle[digest] for digest, asset in held.items() if asset is None or asset.trashed]
    saved = logical - (size - sum(orphans))
    percent = 100 * saved / logical if logical else 0.0
    return Statistics(count, size, len(orphans), sum(orphans), references, saved, percent)


def _known() -> ScalarSelect[str]:
    known = select(images.c.original_digest).where(images.c.original_digest.is_not(None))
    return known.scalar_subquery()


def _totals() -> Executable:
    """Originals, their bytes, references to them, and the bytes of a copy for each reference."""
    uses = (
        select(reference.c.digest, func.count().label("uses"))
        .where(reference.c.role == ORIGINAL, reference.c.released_at.is_(None))
        .group_by(reference.c.digest)
        .subquery()
    )
    used = func.coalesce(uses.c.uses, 0)
    return (
        select(
            func.count(),
            func.coalesce(func.sum(blob.c.size), 0),
            func.coalesce(func.sum(used), 0),
            func.coalesce(func.sum(blob.c.size * used), 0),
        )
        .select_from(blob)
        .outerjoin(uses, uses.c.digest == blob.c.digest)
        .where(blob.c.digest.in_(_known()))
    )


def _idle() -> Executable:
    """Originals without a live reference of any kind; a hold may still keep them."""
    live = exists().where(
        and_(reference.c.digest == blob.c.digest, reference.c.released_at.is_(None))
    )
    return select(blob.c.digest, blob.c.size).where(blob.c.digest.in_(_known()), ~live)


def queued(engine: Engine) -> int:
    """Jobs that wait."""
    return _number(engine, select(func.count()).where(jobs.c.state == "queued"))


def bill(engine: Engine, project: int) -> int:
    """What a project owes, in cents: every image that was made, deleted ones too."""
    owed = select(func.coalesce(func.sum(images.c.price_cents), 0))
    return _number(engine, owed.where(images.c.project_id == project))


def _number(engine: Engine, statement: Executable) -> int:
    with reading(engine).connect() as connection:
        return int(connection.execute(statement).scalar_one())


def lines(numbers: Mapping[str, int | float]) -> list[str]:
    """Numbers for people, a line each."""
    return [f"{name:<14} {value:>12,}" for name, value in numbers.items()]
