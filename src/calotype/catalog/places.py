"""Places: which database a catalog is in, and where its bytes are as seen from there."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL, Engine
from sqlalchemy.exc import ArgumentError

from calotype.catalog import postgres, sqlite
from calotype.catalog.database import Database
from calotype.catalog.embedded import Embedded
from calotype.catalog.failures import translated
from calotype.catalog.postgres import Postgres
from calotype.errors import Misconfigured
from calotype.masking import masked

PATIENCE = 30.0
"""Seconds a write waits for other writers before it gives up with ``Locked``."""
MEMORY = ("sqlite://", "sqlite:///:memory:")
"""The URLs of a catalog in this process's memory."""


def beside(catalog: Path | None, backend_url: str) -> str:
    """The URL of a folder or file as seen from the catalog, so that both can be moved together.

    Links on the way are followed, or one place would have two names; it may be one itself.
    """
    scheme = next((each for each in ("file:", "sqlite:///") if backend_url.startswith(each)), None)
    if catalog is None or scheme is None:
        return backend_url
    above, name = os.path.split(backend_url.removeprefix(scheme))
    place = Path(os.path.realpath(above), name)
    try:
        return f"{scheme}{os.path.relpath(place, os.path.realpath(catalog.parent))}"
    except ValueError:
        return backend_url


def same(one: Path, other: Path) -> bool:
    """True for two paths of one place, or of one that is not there yet."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)


def from_beside(catalog: Path | None, backend_url: str) -> str:
    """The URL that ``beside`` was given, or another one of the same place."""
    for begins in ("file:", "sqlite:///"):
        if catalog is not None and backend_url.startswith(begins):
            there = Path(os.path.realpath(catalog.parent), backend_url.removeprefix(begins))
            return f"{begins}{os.path.normpath(there)}"
    return backend_url


def database_of(
    path: Path | None,
    url: str | None,
    engine: Engine | None,
    schema: str | None = None,
    *,
    memory: bool,
    patience: float = PATIENCE,
) -> Database:
    """The database of a file of our own, an URL, an application's engine, or in memory."""
    where = _server(url, engine) if path is None and not memory else None
    if where is not None:
        return Postgres(where, engine=engine, schema=_plain(schema), patience=patience)
    if schema is not None:
        raise Misconfigured(
            f"SQLite has no schemas: {schema!r}.", hint="Leave schema away, or use PostgreSQL."
        )
    if path is not None or memory:
        return Embedded(path, own=True, engine=None, patience=patience)
    file = file_of(url, engine)
    given = engine if engine is not None and engine.dialect.name == "sqlite" else None
    if file is None and given is not None:
        with translated():
            file = sqlite.file_behind(given)
    if file is not None or given is not None:
        return Embedded(file, own=False, engine=engine, patience=patience)
    raise Misconfigured(
        "A catalog is kept in SQLite or PostgreSQL, not in "
        f"{_parsed(url, engine).get_backend_name()}.",
        hint="Write catalog='sqlite:///catalog.db' or 'postgresql://...', or give a folder.",
    )


def _server(url: str | None, engine: Engine | None) -> URL | None:
    """The PostgreSQL database that an URL or an engine leads to; None for any other."""
    parsed = _parsed(url, engine)
    if parsed.get_backend_name() != postgres.DIALECT:
        return None
    if engine is not None and engine.dialect.driver != postgres.DRIVER:
        raise Misconfigured(
            f"The engine uses the driver {engine.dialect.driver!r}.",
            hint=f"Make it with postgresql+{postgres.DRIVER}://...",
        )
    return parsed


def _plain(schema: str | None) -> str | None:
    if schema is not None and (not schema.strip() or "\0" in schema or schema.startswith("pg_")):
        raise Misconfigured(
            f"No name of a schema: {schema!r}.", hint="Give one such as 'calotype'."
        )
    return schema


def _parsed(url: str | None, engine: Engine | None) -> URL:
    if engine is not None:
        return engine.url
    url = url or ""
    try:
        return postgres.parsed(url)
    except (ArgumentError, ValueError):
        raise Misconfigured(
            f"Not the URL of a database: {masked(url)!r}.",
            hint="Write sqlite:///catalog.db or postgresql://USER@HOST:PORT/NAME.",
        ) from None


def file_of(url: str | None, engine: Engine | None) -> Path | None:
    """The SQLite file that an URL names, or an engine's; None for any other database."""
    parsed = _parsed(url, engine)
    if engine is None and parsed.get_backend_name() == "sqlite":
        _require_file_alone(parsed, masked(url or ""))
    if (
        parsed.get_backend_name() != "sqlite"
        or not parsed.database
        or parsed.database.startswith((":memory:", "file:"))
    ):
        return None
    return Path(parsed.database).absolute()


def _require_file_alone(parsed: URL, shown: str) -> None:
    """Raise where an SQLite URL says more than which file."""
    if parsed.query:
        raise Misconfigured(
            f"A catalog URL takes no options: {shown!r}.", hint="Give an engine= of your own."
        )
    if parsed.host or parsed.username or parsed.password:
        raise Misconfigured(
            f"An SQLite file is on no host: {shown!r}.",
            hint="Write sqlite:///FILE, or sqlite:////DIR/FILE from the root on.",
        )
