"""The application's own tables, beside the store's in one SQLite database.

Instants are microseconds since 1970, as in the store's tables. ``original_digest`` and
``staged_digest`` are plain columns on purpose: a deleted image's row stays, for the bill, and a
foreign key would keep its bytes with it. What keeps bytes are references.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
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
    text,
)

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("style", Text, nullable=False),
    Column("original_digest", String(64), index=True),
    Column("original_url", Text, comment="where it was before originals were shared"),
    Column("original_path", Text, comment="the same, as a file of this machine"),
    Column("staged_digest", String(64)),
    Column("price_cents", Integer, nullable=False, server_default=text("0")),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    sqlite_autoincrement=True,  # an id names an owner: it must never come back
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("image_id", ForeignKey("images.id"), nullable=False, index=True),
    Column("state", Text, nullable=False, server_default=text("'queued'")),
    Column("error", Text),
    Column("finished_at", BigInteger),
    CheckConstraint("state IN ('queued', 'done', 'failed', 'cancelled')", name="jobs_state"),
    Index("jobs_queued", "id", sqlite_where=text("state = 'queued'")),
)

READS = {"reads": True}


def open_database(url: str) -> Engine:
    """An engine whose transactions may write from the start; the tables are made if need be."""
    engine = create_engine(url, connect_args={"timeout": 30, "isolation_level": None})
    event.listen(engine, "connect", _hold_foreign_keys)
    event.listen(engine, "begin", _begin)
    metadata.create_all(engine)
    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read, and so wait for no writer."""
    return engine.execution_options(**READS)


def _hold_foreign_keys(raw: sqlite3.Connection, _: object) -> None:
    """SQLite wants it on every connection; references could not be held otherwise."""
    raw.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """A transaction that has read cannot always become SQLite's writer: begin as one."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
