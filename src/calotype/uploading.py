"""Uploading: bytes that a client sends to the backend's service itself, past this process.

Asked for, an upload is a row and an intent, committed before anybody can send a byte, and a
request that the service takes until it ends. Completed, it is what a put makes of bytes that were
verified: where the service vouches for them they stay where they are; else they are read, and kept
where nobody was admitted to write, for the sender could still change them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import BinaryIO, Never, get_args

from sqlalchemy import Connection

from calotype import media
from calotype.backends import Admits, Backend, Key, Vouches
from calotype.catalog import Catalog, copies, intents, settings, uploads
from calotype.catalog.intents import INTENT_AGE, Intent, NotWritten
from calotype.catalog.repeating import repeated
from calotype.catalog.uploads import MISMATCH, Place, Row
from calotype.digest import Digest
from calotype.errors import (
    CalotypeError,
    DigestMismatch,
    Locked,
    Misconfigured,
    NotFound,
    TooLarge,
    UrlExpired,
)
from calotype.heart import Heart, beating
from calotype.ledger import Line
from calotype.model import Put, Status
from calotype.mounting import Mount
from calotype.names import plain
from calotype.putting import ROUNDS, Arrival, Putter, refuse_blocked
from calotype.quantities import SECOND, when
from calotype.references import Referrer
from calotype.staging import Content, Limits, check_size, known, receive
from calotype.wishes import Wish

LIFE = 2 * 3600 * SECOND
"""How long bytes may be sent, unless the service has an end of its own."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}", re.ASCII)

STATUSES: Mapping[str, Status] = {status: status for status in get_args(Status)}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is to be sent: PUT its bytes to ``url`` with ``headers`` until ``expires_at``.

    Then ``complete(id)``. ``url`` is None where the scope has the file already, so that no byte
    need be sent. It is a secret: whoever has it may send.
    """

    id: str
    url: str | None = field(repr=False)
    headers: Mapping[str, str]
    expires_at: datetime


class _Completed(Exception):
    """Another call was faster to complete the upload."""


@dataclass(frozen=True, slots=True)
class Uploader:
    """What uploads need to know: the verbs of their scope, and what a file may be."""

    putter: Putter
    referrer: Referrer
    limits: Limits

    @property
    def catalog(self) -> Catalog:
        """The rows."""
        return self.putter.catalog

    def ask(self, digest: Digest, size: int, media_type: str) -> Upload:
        """Admit a client to send ``size`` bytes that hash to ``digest``.

        ``Misconfigured`` where the backend takes none, ``TooLarge``, ``QuotaExceeded``,
        ``Blocked``, ``DigestMismatch`` where the scope's file has another size. What other scopes
        have changes nothing here.
        """
        _require_sendable(size, media_type, self.limits)
        _admits(self.putter.mounts.primary)
        self.catalog.ensure()
        if self._is_here(digest, size):
            row = Row(secrets.token_hex(16), digest, size, None, self.catalog.clock() + LIFE)
            self._note(row)
            return Upload(row.id, None, {}, when(row.ends_at))
        for _ in range(ROUNDS):
            try:
                return self._admitted(digest, size, media_type)
            except NotWritten:
                self.putter.mounts.refresh()
        raise Locked("The store's primary backend changes all the time.", hint="Try again.")

    def complete(self, ident: str, wish: Callable[[Digest], Wish]) -> Put:
        """Verify the bytes that were sent, and keep them as ``wish`` has it; once.

        The same again, or by another at the same time, answers the same. ``NotFound`` for an
        upload of no such id or without its bytes, ``DigestMismatch`` for other bytes,
        ``UrlExpired`` for one that is over.
        """
        row = self._row(ident)
        asked = wish(row.digest)
        if row.outcome is None:
            try:
                return self._kept(row, asked).put()
            except _Completed:
                row = self._row(ident)
        status = STATUSES.get(row.outcome or "")
        if status is None:
            raise _mismatch(row)
        return Put(row.digest, status, self.referrer.asset(row.digest, trashed=True))

    def _is_here(self, digest: Digest, size: int) -> bool:
        """True where the scope has the asset, and its bytes are sound."""
        asset = self.referrer.check([digest])[digest]
        if asset is not None and asset.size != size:
            raise DigestMismatch(
                f"The file {digest} has {asset.size} bytes, not {size}.",
                hint="Correct the digest or the size; both are those of the whole file.",
            )
        return asset is not None and bool(self.putter.probe([digest]))

    def _admitted(self, digest: Digest, size: int, media_type: str) -> Upload:
        mount = self.putter.mounts.primary
        token = secrets.token_hex(8)
        # Neither the plain key nor a known blob's extension: they would tell what others have.
        key = Key(digest, token, media.EXTENSIONS.get(media_type, ""))
        until = self.catalog.clock() + LIFE
        admission = _admits(mount).admit(key, size, media_type, until)
        row = Row(secrets.token_hex(16), digest, size, token, admission.until)
        self._note(row, mount.name, Intent(digest, key, token))
        return Upload(row.id, admission.url, admission.headers, when(row.ends_at))

    @repeated
    def _note(self, row: Row, backend: str = "", intent: Intent | None = None) -> None:
        """The rows, before anybody can send a byte."""
        with self.catalog.write() as connection:
            if intent is not None:
                settings.lock_digests(connection, [row.digest])
                refuse_blocked(copies.blocks(connection, [row.digest]))
                room = {str(row.digest): row.size}
                settings.require_room(connection, self.putter.scope, room)
                intents.admit(connection, backend, intent, row.size, row.ends_at)
            uploads.add(connection, self.putter.scope, row)

    def _row(self, ident: str) -> Row:
        plain(ident, "upload")
        row = None
        if self.catalog.exists():
            with self.catalog.read() as connection:
                row = uploads.find(connection, self.putter.scope, ident)
        if row is None:
            raise NotFound(
                f"No upload {ident!r} in scope {self.putter.scope!r}.",
                hint="Ask for a new one with direct_upload.",
            )
        return row

    def _kept(self, row: Row, asked: Wish) -> Line:
        putter = replace(self.putter, witness=partial(self._witness, row))
        now = self.catalog.clock()
        if now >= row.ends_at + INTENT_AGE:
            raise _over(row)
        with self.catalog.read() as connection:
            refuse_blocked(copies.blocks(connection, [row.digest]))
        if row.token is None:
            content = known(row.digest, row.size, partial(_gone, row), self.limits)
            return putter.put([Arrival(content, asked)])[0]
        if row.place is None or not row.place.open:
            raise _over(row)
        mount = putter.mounts.named(row.place.backend)
        return self._in_place(putter, row, mount, row.place, asked) or self._elsewhere(
            putter, row, mount, row.place, asked
        )

    def _in_place(
        self, putter: Putter, row: Row, mount: Mount, place: Place, asked: Wish
    ) -> Line | None:
        """Keep the bytes where they lie; None unless they are proven, at the right key for good."""
        backend = mount.backend
        if mount.name != putter.mounts.primary.name:
            return None
        if not (isinstance(backend, Vouches) and backend.vouch(place.key, row.size)):
            return None
        content = Content(row.digest, row.size, _Lying(backend, place.key), self.limits.pixels)
        if content.facts.extension != place.key.extension:
            return None
        putter.probe([row.digest])  # a lost copy is found to be lost, and mended by this one
        intent = Intent(row.digest, place.key, place.token)
        return putter.adopt(mount.name, Arrival(content, asked), intent)

    def _elsewhere(self, putter: Putter, row: Row, mount: Mount, place: Place, asked: Wish) -> Line:
        """Read the bytes, and put what was read."""
        size = mount.backend.size(place.key)
        if size is None:
            raise self._missing(row)
        if size != row.size:
            raise self._refused(row)
        try:
            content = self._received(row, mount.backend, place)
        except TooLarge:
            raise self._refused(row) from None
        except NotFound:
            raise self._missing(row) from None
        try:
            if content.digest != row.digest:
                raise self._refused(row)
            return putter.put([Arrival(content, asked)])[0]
        finally:
            content.discard()

    def _received(self, row: Row, backend: Backend, place: Place) -> Content:
        heart = Heart(self.catalog, [Intent(row.digest, place.key, place.token)])
        limits = replace(self.limits, file_size=row.size)
        with backend.open(place.key) as file:
            return receive(beating(file, heart.beat), self.putter.backend, limits)

    def _witness(self, row: Row, connection: Connection, answers: Sequence[Status]) -> None:
        """With the asset stands what became of the upload; bytes that are not used go."""
        (status,) = answers
        if row.token is None and status == "created":
            raise _over(row)  # the scope let go of it meanwhile, and others' bytes are not its
        self._end(connection, row, status)

    def _end(self, connection: Connection, row: Row, outcome: str) -> None:
        if not uploads.complete(connection, row.id, outcome):
            raise _Completed
        if row.token is not None:
            intents.withdraw(connection, [row.token], self.catalog.clock())

    def _missing(self, row: Row) -> CalotypeError:
        if self.catalog.clock() >= row.ends_at:
            return _over(row)
        return NotFound(
            f"The bytes of upload {row.id!r} have not arrived.",
            hint="PUT them to its url with its headers, then complete it.",
        )

    @repeated
    def _refused(self, row: Row) -> CalotypeError:
        """Let the wrong bytes go, and remember that they were wrong; what to raise."""
        with self.catalog.write() as connection:
            self._end(connection, row, MISMATCH)
        return _mismatch(row)


@dataclass(frozen=True, slots=True)
class _Lying:
    """Bytes that lie in a backend already."""

    backend: Backend
    key: Key

    def open(self) -> BinaryIO:
        return self.backend.open(self.key)

    def discard(self) -> None: ...


def _admits(mount: Mount) -> Admits:
    backend = mount.backend
    if not isinstance(backend, Admits):
        raise Misconfigured(
            f"The backend {mount.url} takes no direct uploads.",
            hint="Put the file instead. S3 and Supabase Storage take direct uploads.",
        )
    return backend


def _require_sendable(size: object, media_type: object, limits: Limits) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise Misconfigured(f"Not a file's size: {size!r}.", hint="Give its bytes as a number.")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise Misconfigured(
            f"Not a media type: {str(media_type)[:80]!r}.",
            hint="Write image/jpeg, or application/octet-stream for any file.",
        )
    check_size(size, limits)


def _over(row: Row) -> UrlExpired:
    return UrlExpired(
        f"The upload {row.id!r} is over; nothing of it was stored.",
        hint="Ask for a new one with direct_upload, and send the file again.",
    )


def _gone(row: Row) -> Never:
    raise _over(row)


def _mismatch(row: Row) -> DigestMismatch:
    return DigestMismatch(
        f"The bytes sent for upload {row.id!r} are not the {row.size} of {row.digest}; "
        "nothing was stored.",
        hint="Ask for a new upload and send the file again, or correct the digest.",
    )
