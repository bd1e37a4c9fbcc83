"""From a backend's URL to the backend, or a backend as it is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from calotype.backends import Backend
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.errors import Misconfigured
from calotype.media import EXTENSIONS

if TYPE_CHECKING:
    from calotype.catalog.database import Database


def open_backend(given: str | Backend, database: Database) -> Backend:
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
        return LocalBackend(Path(unquote(urlsplit(url).path) if rest[:2] == "//" else rest))
    if scheme == "s3" and rest:
        from calotype.backends.s3 import S3Backend

        return S3Backend(url)
    if scheme in ("supabase", "supabase+http", "supabase+https"):
        return _supabase(url)
    if scheme.partition("+")[0] in ("database", "postgresql", "sqlite") and colon:
        return _in_database(url, database)
    raise Misconfigured(
        f"Not a backend URL that this version knows: {url!r}.",
        hint="Write file:DIR for a folder, s3://BUCKET/PREFIX, supabase://PROJECT/BUCKET, "
        "database: for the catalog's own database, or postgresql://... for another one.",
    )


def _supabase(url: str) -> Backend:
    from calotype.backends.supabase import SupabaseBackend

    return SupabaseBackend(url, {extension: kind for kind, extension in EXTENSIONS.items()})


def _in_database(url: str, database: Database) -> Backend:
    from calotype.backends.database import DatabaseBackend

    if url == "database:":
        return DatabaseBackend(database)
    made = DatabaseBackend.at(url)
    if made.file is not None and database.path is not None and _same(made.file, database.path):
        raise Misconfigured(
            f"The backend {made.url} is the catalog's own file.", hint="Write database: instead."
        )
    return made


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _checked(given: object) -> Backend:
    if not isinstance(given, Backend):
        raise Misconfigured(
            f"Not a backend: {type(given).__name__}.",
            hint="Give a URL such as file:DIR, or an object with the methods of "
            "calotype.backends.Backend.",
        )
    return given
