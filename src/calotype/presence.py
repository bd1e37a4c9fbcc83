"""Presence: a folder that is not there is not taken for an empty one, nor a service for willing."""

from __future__ import annotations

import secrets
from contextlib import suppress

from calotype.backends import INSIDE, Backend, Notes, Remote, Stages, Vanishes
from calotype.catalog import Catalog, copies
from calotype.errors import CalotypeError, Unavailable
from calotype.mounting import Mount


def require_there(catalog: Catalog, mount: Mount) -> None:
    """Raise ``Unavailable`` where a backend looks unused although bytes of the catalog are in it.

    A disk that is not mounted looks so. To put there would hide the bytes under the mount, and to
    erase would believe that they are gone; so bytes that are let go of count until they are.
    """
    backend = mount.backend
    if not (isinstance(backend, Vanishes) and backend.vacant() and catalog.exists()):
        return
    with catalog.read() as connection:
        expected = copies.any_expected(connection, mount.name)
    if expected and backend.vacant():  # the first put makes the folder before its row is live
        raise Unavailable(
            f"There is no object in {backend.url}, but the catalog has some there; nothing was "
            "changed.",
            hint=_what_to_do(backend.url),
        )


def holds_bytes(backend: Backend) -> bool:
    """True where objects are in it. Raises within seconds what a service raises that is away."""
    if isinstance(backend, Remote):
        backend.reach()
    return next(iter(backend.scan("sha256/")), None) is not None


def require_writable(backend: Backend) -> None:
    """Raise what a place raises that takes nothing: asked once, before there is a catalog.

    It is tried with a temporary file, or a note of a name of its own, which is removed again. Not
    where the bytes are to lie in the catalog's own database, which is not made yet.
    """
    if isinstance(backend, Stages):
        for file in backend.stage_all([b"{}\n"]):
            file.discard()
    elif backend.url != INSIDE and isinstance(backend, Notes):
        name = f"calotype-tried-{secrets.token_hex(8)}"
        backend.write_note(name, b"{}\n")
        with suppress(CalotypeError):  # gc says it where nothing may be deleted
            backend.delete_note(name)


def _what_to_do(url: str) -> str:
    if not url.startswith("file:"):
        return "Is it the right database, and the right schema? If it was lost, restore a copy."
    return (
        "Is its disk mounted? If it was emptied for good, make a folder 'sha256' in it, "
        "run 'calotype fsck' and put the files again."
    )
