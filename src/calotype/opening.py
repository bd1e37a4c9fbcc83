"""From what an application gives to the catalog and the backend that it means. Touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from calotype.backends import Backend
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.catalog import FIRST, Catalog
from calotype.catalog.places import MEMORY, database_of, same
from calotype.errors import Misconfigured
from calotype.masking import masked
from calotype.media import EXTENSIONS
from calotype.presence import holds_bytes, require_writable
from calotype.quantities import Instant

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from calotype.catalog.database import Database


def open_backend(given: str | Backend, database: Database | None = None) -> Backend:
    """The backend of a URL, or the one given; ``database`` is the catalog's. Touches nothing yet.

    ``file:DIR``, ``memory:``, ``s3:``, ``supabase:`` and ``supabase+http(s):``, ``database:``,
    ``postgresql://...`` or ``sqlite:///FILE``.
    """
    if not isinstance(given, str):
        return _checked(given)
    url = given
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and colon:
        return MemoryBackend()
    if scheme == "file" and rest:
        return LocalBackend(_folder_of(url) if rest[:2] == "//" else Path(rest))
    if scheme == "s3" and rest:
        from calotype.backends.s3 import S3Backend

        return S3Backend(url)
    if scheme in ("supabase", "supabase+http", "supabase+https"):
        return _supabase(url)
    if scheme.partition("+")[0] in ("database", "postgresql", "postgres", "sqlite") and colon:
        return _in_database(url, database)
    raise Misconfigured(
        f"Not a backend URL that this version knows: {masked(url)!r}.",
        hint="Write file:DIR for a folder, s3://BUCKET/PREFIX, supabase://PROJECT/BUCKET, "
        "database: for the catalog's own database, or postgresql://... for another one.",
    )


def _folder_of(url: str) -> Path:
    """The folder of a URL in the long form, file:///DIR."""
    try:
        parts = urlsplit(url)
        here = parts.netloc in ("", "localhost")
    except ValueError:
        here = False
    if not here or not parts.path:
        raise Misconfigured(
            f"Not the URL of a folder of this machine: {masked(url)!r}.",
            hint="Write file:DIR or file:///DIR.",
        )
    return Path(unquote(parts.path))


def _supabase(url: str) -> Backend:
    from calotype.backends.supabase import SupabaseBackend

    return SupabaseBackend(url, {extension: kind for kind, extension in EXTENSIONS.items()})


def _in_database(url: str, database: Database | None) -> Backend:
    from calotype.backends.database import DatabaseBackend

    if url == "database:" and database is not None:
        return DatabaseBackend(database)
    made = DatabaseBackend.at(url)
    catalog = database.path if database is not None else None
    if made.file is not None and catalog is not None and same(made.file, catalog):
        raise Misconfigured(
            f"The backend {made.url} is the catalog's own file.", hint="Write database: instead."
        )
    return made


def _checked(given: object) -> Backend:
    if not isinstance(given, Backend):
        raise Misconfigured(
            f"Not a backend: {type(given).__name__}.",
            hint="Give a URL such as file:DIR, or an object with the methods of "
            "calotype.backends.Backend.",
        )
    return given


def place_of(path: Path | None, backend: str | Backend | None) -> str | Backend:
    """Where the bytes are, said or implied by the store's folder."""
    if backend is not None:
        return backend
    if path is None:
        raise Misconfigured(
            "Where are the bytes to be kept?", hint="Give a folder, or backend='file:DIR'."
        )
    return f"file:{path / 'blobs'}"


def public(url: str | None) -> str | None:
    """Where signed URLs lead; ``Misconfigured`` for what no browser could follow."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.netloc
        plain = not (parts.query or parts.fragment)
    except ValueError:
        whole, plain = "", False
    if not (whole or url.startswith("/")) or not plain:
        raise Misconfigured(
            f"Not a public URL: {masked(url)!r}.",
            hint="Give one such as https://media.example.org, or a path such as /media.",
        )
    return url


def database_at(
    path: Path | None, url: str | None, engine: Engine | None, schema: str | None
) -> Database:
    """The catalog's database; ``Misconfigured`` unless exactly one was named."""
    if sum(given is not None for given in (path, url, engine)) != 1:
        raise Misconfigured(
            "A store has exactly one catalog.", hint="Give a folder, catalog= or engine=."
        )
    if url is not None and not isinstance(url, str):
        raise Misconfigured(
            f"catalog= is the URL of a database, as text, not a {type(url).__qualname__}.",
            hint="Write 'sqlite:///catalog.db' or 'postgresql://...'; a folder comes first, and an "
            "engine goes in engine=.",
        )
    if url in MEMORY:
        return database_of(None, None, None, schema, memory=True)
    file = path / "catalog.db" if path is not None else None
    return database_of(file, url, engine, schema, memory=False)


def catalog_in(
    database: Database,
    backend: Backend,
    given: Mapping[str, Backend],
    implied: bool,
    clock: Callable[[], Instant],
    settle: Callable[[Catalog], None],
) -> Catalog:
    """The catalog in a database; ``implied`` says that nobody named the backend.

    The first backend is called as it is among those ``given``. ``settle`` is told of a
    catalog that is at home nowhere yet.
    """

    def occupied() -> bool:
        return not database.memory and holds_bytes(backend)

    return Catalog(
        database,
        backend_url=backend.url,
        backend_name=next((name for name, each in given.items() if each is backend), FIRST),
        implied=implied,
        clock=clock,
        occupied=occupied,
        ready=lambda: require_writable(backend),
        settle=settle,
    )
