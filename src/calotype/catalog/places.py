"""Places: which file a catalog is, and where its bytes are as seen from there."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ArgumentError

from calotype.errors import Misconfigured


def beside(catalog: Path | None, backend_url: str) -> str:
    """A folder's URL as seen from the catalog's folder, so that both can be moved together.

    Links on the way are followed, or one place would have two names; the folder itself may be one.
    """
    if catalog is None or not backend_url.startswith("file:"):
        return backend_url
    above, name = os.path.split(backend_url.removeprefix("file:"))
    folder = Path(os.path.realpath(above), name)
    try:
        return f"file:{os.path.relpath(folder, os.path.realpath(catalog.parent))}"
    except ValueError:
        return backend_url


def file_of(url: str | None, engine: Engine | None) -> Path | None:
    """The SQLite file that an URL or an engine leads to; None for any other database."""
    try:
        parsed = engine.url if engine is not None else make_url(url or "")
    except ArgumentError as error:
        raise Misconfigured(
            f"Not a catalog URL: {url!r}.", hint="Write sqlite:///catalog.db or postgresql://..."
        ) from error
    if engine is None and parsed.get_backend_name() == "sqlite" and parsed.query:
        raise Misconfigured(
            f"A catalog URL takes no options: {url!r}.", hint="Give an engine= of your own."
        )
    if (
        parsed.get_backend_name() != "sqlite"
        or not parsed.database
        or parsed.database.startswith((":memory:", "file:"))
    ):
        return None
    return Path(parsed.database).absolute()
