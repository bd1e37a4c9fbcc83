"""From a backend's URL to the backend."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from calotype.backends import Backend
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.errors import Misconfigured


def open_backend(url: str) -> Backend:
    """The backend that ``url`` names: ``file:DIR`` or ``memory:``. Touches nothing yet."""
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and colon:
        return MemoryBackend()
    if scheme == "file" and rest:
        return LocalBackend(Path(unquote(urlsplit(url).path) if rest[:2] == "//" else rest))
    raise Misconfigured(
        f"Not a backend URL that this version knows: {url!r}.",
        hint="Write file:DIR for a folder, or memory: for tests.",
    )
