"""The schema's number: made, read, checked, and raised by Alembic when it is behind."""

from __future__ import annotations

import secrets
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select

from calotype.catalog import moving, sqlite, tables, triggers
from calotype.errors import Corrupt, Misconfigured, SchemaAhead, SchemaBehind
from calotype.quantities import Instant

if TYPE_CHECKING:
    from calotype.catalog import Catalog

CURRENT = 5
"""The schema this program writes: the number of the last Alembic revision."""

VERSION_TABLE = "calotype_version"

VERSION_DDL = (
    f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
)
VERSION_ROW = f"INSERT INTO {VERSION_TABLE} VALUES ('{CURRENT:04}')"

STORE_ID = select(tables.meta.c.value).where(tables.meta.c.key == "store_id")


def number(connection: Connection) -> int | None:
    """The schema's number, or None where there are no tables of ours.

    ``Misconfigured`` where they are not to be used, for the catalog is being copied here or was
    moved away; ``Corrupt`` where they do not say anything.
    """
    names = inspect(connection).get_table_names()
    value = None
    if tables.meta.name in names:
        value = connection.scalar(select(tables.meta.c.value).where(tables.meta.c.key == "schema"))
    elif tables.blob.name not in names:
        return None
    if value is None and tables.meta.name in names:
        moving.refuse(connection)
    if value is None or not value.isdecimal() or int(value) < 1:
        raise Corrupt(
            "The catalog does not say which schema it has; nothing was changed.",
            hint="Restore the catalog from a copy. The files that it speaks of are untouched.",
        )
    return int(value)


def create(connection: Connection, backend: tuple[str, str], now: Instant) -> None:
    """Make every table, trigger and first row, in the transaction of ``connection``."""
    tables.metadata.create_all(connection)
    triggers.ensure(connection)
    connection.exec_driver_sql(VERSION_DDL)
    connection.exec_driver_sql(VERSION_ROW)
    first_rows(connection, backend, now)


def first_rows(connection: Connection, backend: tuple[str, str], now: Instant) -> None:
    """The rows that every catalog has: its identity, its first backend, its signing key."""
    facts = {
        "schema": str(CURRENT),
        "store_id": str(uuid.uuid4()),
        "generation": secrets.token_hex(8),
        "created_at": str(now),
        "full_look": "0",
    }
    connection.execute(
        tables.meta.insert(), [{"key": key, "value": value} for key, value in facts.items()]
    )
    connection.execute(tables.backend.insert(), first_backend(*backend))
    connection.execute(
        tables.signing_key.insert(),
        {"id": secrets.token_hex(4), "secret": secrets.token_hex(32), "created_at": now},
    )


def first_backend(name: str, url: str) -> dict[str, str | int]:
    """The row of the backend that a store begins with."""
    return {"name": name, "url": url, "role": "primary", "epoch": 1, "erase_seq": 0}


def require_current(found: int, catalog: Catalog) -> None:
    """Let a current schema pass; raise an older SQLite one (after a copy); refuse the rest."""
    if found == CURRENT:
        return
    if found > CURRENT:
        raise SchemaAhead(
            f"The catalog {catalog.name} has schema {found}, this program knows {CURRENT}; "
            "nothing was changed.",
            hint="Upgrade calotype: pip install -U calotype.",
        )
    if not catalog.is_sqlite or catalog.path is None:
        raise SchemaBehind(
            f"The catalog {catalog.name} has schema {found}, this program needs {CURRENT}; "
            "nothing was changed.",
            hint="Run 'calotype upgrade'.",
        )
    upgrade(catalog)


def require_backend(catalog: Catalog) -> None:
    """Refuse a backend that this catalog does not speak of: its bytes would seem lost."""
    urls = [each.url for each in catalog.backends]
    if catalog.backend_url not in urls and not catalog.implied:
        raise Misconfigured(
            f"The catalog {catalog.name} keeps its bytes in {' and '.join(urls)}, not in "
            f"{catalog.backend_url}; nothing was changed.",
            hint="Pass that backend, in calotype.toml as the url of [backends.main]. To have the "
            "bytes in another one as well: 'calotype backend add'. To move a store, move its "
            "catalog and its blobs together.",
        )


def upgrade(catalog: Catalog) -> Path | None:
    """Bring the catalog to the current schema; the path of the copy made before (SQLite).

    Safe beside a second upgrader: the revisions run in one write transaction, which looks again
    at what is there.
    """
    return to(catalog, "head")


def to(catalog: Catalog, revision: str) -> Path | None:
    """Bring the catalog up or down to a revision, after a copy (SQLite), whose path is given.

    The copy is made as the writer, of what the revisions are about to change: None where another
    was faster and the catalog is there already. What fails changes nothing, and leaves no copy.
    """
    from calotype.catalog import migrations

    copies: list[Path] = []
    try:
        migrations.to(catalog, revision, before=lambda found: _copy(catalog, found, copies))
    except BaseException:
        for copy in copies:
            copy.unlink(missing_ok=True)
        raise
    return copies[0] if copies else None


def _copy(catalog: Catalog, found: int, copies: list[Path]) -> None:
    """Copy an SQLite catalog; its name goes to ``copies`` before there is anything to remove.

    It has another name until it is whole; what a kill leaves of that is gc's to sweep.
    """
    if catalog.path is None:
        return
    copy = catalog.path.with_name(f"{catalog.path.name}.schema{found}.{secrets.token_hex(3)}")
    draft = copy.with_name(f".{copy.name}")
    copies += [copy, draft]
    draft.touch(mode=0o600)
    pool = catalog.engine.pool.recreate()  # the writer may hold an application's only connection
    try:
        with closing(pool.connect()) as another:
            another.cursor().execute("VACUUM INTO ?", (str(draft),))
    finally:
        pool.dispose()
    sqlite.sync(draft)
    draft.rename(copy)
    sqlite.sync(copy.parent)
