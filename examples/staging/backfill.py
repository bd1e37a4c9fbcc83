"""Backfill: images from before originals were shared, whose originals lie in files of their own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, insert

from calotype import Store
from calotype.model import Imported
from examples.staging.deleting import release_images
from examples.staging.tables import images
from examples.staging.uploads import ORIGINAL


def old_image(
    engine: Engine,
    now: int,
    project: int,
    style: str,
    *,
    url: str | None = None,
    path: str | None = None,
) -> int:
    """A row as it used to be written: it names where its original lies, and no digest."""
    row = insert(images).values(
        project_id=project, style=style, original_url=url, original_path=path, created_at=now
    )
    with engine.begin() as connection:
        return int(connection.execute(row.returning(images.c.id)).scalar_one())


def backfill(store: Store, engine: Engine, now: int, url: str, root: Path) -> Imported:
    """Keep every old image's original in the store; paths begin at ``root``.

    Stopped or killed, the same call goes on; rows that fail are listed, and stay as they are.
    The files stay too. An import knows nothing of ``deleted_at``: what it attached to images that
    were deleted, before or meanwhile, is released again.
    """
    done = store.import_table(
        url,
        images.name,
        "image/{id}",
        role=ORIGINAL,
        path_column="original_path",
        digest_column="original_digest",
        root=root,
    ).result()
    with engine.begin() as connection:
        release_images(connection, now, images.c.deleted_at.is_not(None))
    return done
