"""Deleting: rows stay for the bill, references go with them, bytes when nothing refers to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    Update,
    cast,
    func,
    select,
    update,
)

from calotype import CalotypeError, Store
from calotype.catalog.tables import reference
from calotype.model import Report
from examples.staging.tables import images, projects, reading
from examples.staging.uploads import owner_of

LOG = logging.getLogger("staging")

GONE = ("erased", "unknown")


def delete_image(store: Store, engine: Engine, now: int, image: int) -> bool:
    """Delete an image softly; True when that freed its original's bytes.

    The row and its references go in one transaction, bytes only after its commit. A failure there
    fails no deletion: it is logged, and the clean-up frees them later. Harmless to repeat.
    ``LookupError`` where there never was such an image.
    """
    with engine.begin() as connection:
        deleted = (
            update(images)
            .where(images.c.id == image, images.c.deleted_at.is_(None))
            .values(deleted_at=now)
            .returning(images.c.original_digest)
        )
        original = connection.execute(deleted).scalar_one_or_none()
        _require(connection, image)
        released = store.release(owner_of(image), connection=connection)
    return original in _free(store, released.digests)


def _require(connection: Connection, image: int) -> None:
    if connection.scalar(select(images.c.id).where(images.c.id == image)) is None:
        raise LookupError(f"No image {image}.")


def _free(store: Store, digests: Sequence[str]) -> set[str]:
    """Free those of ``digests`` that nothing keeps, at once; which ones went."""
    if not digests:
        return set()
    try:
        return _freed(store, store.gc(digests=digests, now=True))
    except CalotypeError as error:
        LOG.warning("left for the clean-up: %s", error)
        return set()


def _freed(store: Store, report: Report) -> set[str]:
    """Digests whose bytes this run erased, and that are gone; not mere second copies of them."""
    if report.failed:
        LOG.warning("%d files could not be erased; the next clean-up tries again", report.failed)
    erased = {item.digest for item in report.items if item.action == "erase"}
    return {digest for digest in erased if store.explain(digest).verdict in GONE}


def delete_project(engine: Engine, now: int, project: int) -> int:
    """Delete a project and its images, in three statements however many; how many images.

    The clean-up frees what only they referred to once the grace is over. Harmless to repeat.
    """
    with engine.begin() as connection:
        mine = images.c.project_id == project
        connection.execute(_soft(projects, projects.c.id == project, now))
        deleted = connection.execute(_soft(images, mine, now)).rowcount
        release_images(connection, now, mine)
    return deleted


def _soft(table: Table, which: ColumnElement[bool], now: int) -> Update:
    return update(table).where(which, table.c.deleted_at.is_(None)).values(deleted_at=now)


def release_images(connection: Connection, now: int, which: ColumnElement[bool]) -> int:
    """Release every reference of the images ``which`` says, in one statement; how many.

    What ``store.release`` does for one owner: a date on live references. The store's triggers
    tell gc, whoever writes it.
    """
    owners = select(cast(images.c.id, String)).where(which)
    released = (
        update(reference)
        .where(
            reference.c.scope == "default",
            reference.c.owner_kind == "image",
            reference.c.owner_id.in_(owners),
            reference.c.released_at.is_(None),
        )
        .values(released_at=now)
    )
    return connection.execute(released).rowcount


def cleanup_orphans(store: Store, engine: Engine, limit: int = 100) -> int:
    """Free what nothing has referred to for the store's grace, ``limit`` files at most.

    How many of them were originals. For a timer: never raises for what the store could not do,
    which is logged and left for the next run.
    """
    try:
        freed = _freed(store, store.gc(limit=limit))
    except CalotypeError as error:
        LOG.warning("the clean-up is put off: %s", error)
        return 0
    with reading(engine).connect() as connection:
        originals = select(func.count(images.c.original_digest.distinct())).where(
            images.c.original_digest.in_(freed)
        )
        count = connection.scalar(originals) or 0
    LOG.info("clean-up: %d files freed, %d of them originals", len(freed), count)
    return count
