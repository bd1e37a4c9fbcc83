"""From a backend's URL to the backend, or a backend as it is given."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from calotype.backends import Backend
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.errors import Misconfigured
from calotype.media import EXTENSIONS


def open_backend(given: str | Backend) -> Backend:
    """The backend of a URL, or the one given. Touches nothing yet.

    ``file:DIR``, ``memory:``, ``s3:``, ``supabase:`` and ``supabase+http(s):``.
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
    raise Misconfigured(
        f"Not a backend URL that this version knows: {url!r}.",
        hint="Write file:DIR for a folder, s3://BUCKET/PREFIX or supabase://PROJECT/BUCKET.",
    )


def _supabase(url: str) -> Backend:
    from calotype.backends.supabase import SupabaseBackend

    return SupabaseBackend(url, {extension: kind for kind, extension in EXTENSIONS.items()})


def _checked(given: object) -> Backend:
    if not isinstance(given, Backend):
        raise Misconfigured(
            f"Not a backend: {type(given).__name__}.",
            hint="Give a URL such as file:DIR, or an object with the methods of "
            "calotype.backends.Backend.",
        )
    return given
