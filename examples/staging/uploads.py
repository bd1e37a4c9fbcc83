"""Uploads: an original is kept once, and each image that is to be made of it refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select

from calotype import Store
from calotype.model import Put
from examples.staging.keeping import keep
from examples.staging.styles import STYLES
from examples.staging.tables import images, jobs, projects

ORIGINAL = "original"


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload did: ``status`` is the store's answer, ``images`` are ids to come back for."""

    digest: str
    status: str
    images: tuple[int, ...]


def new_project(engine: Engine, now: int, name: str) -> int:
    """Open a project; its id."""
    with engine.begin() as connection:
        made = insert(projects).values(name=name, created_at=now).returning(projects.c.id)
        return int(connection.execute(made).scalar_one())


def upload(
    store: Store,
    engine: Engine,
    now: int,
    project: int,
    picture: Path | bytes,
    styles: Sequence[str] = tuple(STYLES),
) -> Upload:
    """Keep a picture and order it in ``styles``: an image and a job for each, all or nothing.

    ``LookupError`` where there is no such project (any more), ``NotAnImage`` for other files.
    """

    def write(connection: Connection, put: Put) -> Upload:
        made = add_images(store, connection, now, project, put.digest, styles)
        return Upload(put.digest, put.status, made)

    return keep(store, engine, now, picture, write)


def add_images(
    store: Store,
    connection: Connection,
    now: int,
    project: int,
    digest: str,
    styles: Sequence[str] = tuple(STYLES),
) -> tuple[int, ...]:
    """Rows, references and jobs in the caller's transaction; the images' ids."""
    _require_open(connection, project)
    return tuple(_add(store, connection, now, project, digest, style) for style in styles)


def _add(
    store: Store, connection: Connection, now: int, project: int, digest: str, style: str
) -> int:
    if style not in STYLES:
        raise LookupError(f"No style {style!r}: there are {', '.join(STYLES)}.")
    row = insert(images).values(
        project_id=project, style=style, original_digest=digest, created_at=now
    )
    image = int(connection.execute(row.returning(images.c.id)).scalar_one())
    store.attach(digest, owner_of(image), ORIGINAL, connection=connection)
    connection.execute(insert(jobs).values(image_id=image))
    return image


def owner_of(image: int) -> str:
    """The name under which an image refers to its bytes."""
    return f"image/{image}"


def _require_open(connection: Connection, project: int) -> None:
    found = select(projects.c.id).where(projects.c.id == project, projects.c.deleted_at.is_(None))
    if connection.scalar(found) is None:
        raise LookupError(f"No project {project}.")
