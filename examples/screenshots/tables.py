"""The application's own tables, beside the store's in one database."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from calotype import Store
from calotype.catalog.tables import blob

metadata = MetaData()

datasets = Table(
    "datasets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("tag", Text, nullable=False, unique=True),
    sqlite_autoincrement=True,  # importers hold on to an id: it must never be another dataset's
)

search_results = Table(
    "search_results",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dataset_id", Integer, ForeignKey("datasets.id", ondelete="CASCADE"), nullable=False),
    Column("file", Text, nullable=False, comment="the search, below its dataset's folder"),
    Column("state", String(2), nullable=False),
    Column("search_name", Text, nullable=False),
    Column("license_number", Text, nullable=False),
    Column("license_name", Text, nullable=False),
    Column("license_status", Text, nullable=False),
    Column("image_hash", String(64), ForeignKey(blob.c.digest, ondelete="RESTRICT")),
    Column("screenshot", Text, nullable=False, comment="the file, for as long as there is no hash"),
    Index("ix_search_results_image", "image_hash"),
    Index("ix_search_results_dataset", "dataset_id"),
    sqlite_autoincrement=True,  # logs name results by their ids
)


def places(home: Path) -> tuple[str, str]:
    """Where the rows are, and where the images: as configured, or in the archive's folder."""
    return (
        os.environ.get("SCREENSHOTS_DATABASE", f"sqlite:///{home / 'archive.db'}"),
        os.environ.get("SCREENSHOTS_IMAGES", f"file:{home / 'imagecache'}"),
    )


def open_archive(home: Path, **options: object) -> tuple[Engine, Store]:
    """The application's engine and the store in the same database; made where they are not."""
    home.mkdir(parents=True, exist_ok=True)
    url, images = places(home)
    store = Store(catalog=url, backend=images, **options)  # type: ignore[arg-type]
    store.create()  # our tables point at the store's
    if url.startswith("sqlite:"):
        engine = create_engine(url, connect_args={"timeout": 30})
        event.listen(engine, "connect", _hold_foreign_keys)
    else:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    _make_tables(engine)
    return engine, store


def _make_tables(engine: Engine) -> None:
    """Make what is missing; any number of importers may begin at once."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # whose IF NOT EXISTS is not for two at once
            connection.execute(select(func.pg_advisory_xact_lock(20260901)))
        for table in (datasets, search_results):
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda each: str(each.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))


def _hold_foreign_keys(connection: object, _: object) -> None:
    """SQLite wants it on every connection."""
    connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]
