"""Reading an object: one request where nothing fails, gone on with where it broke off."""

from __future__ import annotations

import http.client
import io
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from calotype.backends.s3.asking import Bucket, Call
from calotype.backends.s3.wire import BROKEN, Reply
from calotype.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

AT_ONCE = 1 << 20
"""Objects and ranges of up to so many bytes are read when they are opened."""

BUFFER = 256 << 10
RIGHT = "s3:GetObject and s3:ListBucket"
"""Without the second one Amazon answers 403 for what is not there."""

NO_PROXY = "A proxy between may change answers: go round it."

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Span:
    """What an answer gives: bytes ``start`` to before ``stop`` of the object with this ETag."""

    start: int
    stop: int
    etag: str


def opened(bucket: Bucket, name: str, start: int, stop: int | None) -> BinaryIO:
    """The bytes from ``start`` to before ``stop``, clipped; ``NotFound`` if the service says so."""
    if stop is not None and stop <= start:
        bucket.trying(lambda: _begun(bucket, _call(name, 0, 1), 0)[1].close())
        return io.BytesIO()
    call = _call(name, start, stop)

    def attempt() -> BinaryIO:
        span, reply = _begun(bucket, call, start)
        if span.stop - span.start > AT_ONCE:
            return io.BufferedReader(_Stream(bucket, name, span, reply), BUFFER)
        try:
            return io.BytesIO(reply.read(AT_ONCE) if reply.status != 416 else b"")
        except BROKEN as error:
            raise bucket.broken(error, call) from error
        finally:
            reply.close()

    return bucket.trying(attempt)


def _call(name: str, start: int, stop: int | None, etag: str = "") -> Call:
    headers = {"if-match": etag} if etag else {}
    if start or stop is not None:
        headers["range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    return Call("GET", name, "read from", RIGHT, headers=headers, fine=(200, 206, 416))


def _begun(bucket: Bucket, call: Call, start: int) -> tuple[Span, Reply]:
    """One attempt: where the answer's bytes lie, and the answer, to be read and closed."""
    reply = bucket.once(call)
    try:
        return _span(reply, call, start), reply
    except BaseException:
        reply.close()
        raise


def _span(reply: Reply, call: Call, start: int) -> Span:
    etag = reply.header("etag")
    if reply.status == 416:
        return Span(start, start, etag)
    length = reply.header("content-length")
    if not length.isdecimal():
        raise Unavailable("The service does not say how long an object is.", hint=NO_PROXY)
    size = int(length)
    if reply.status == 200 and "range" not in call.headers:
        return Span(0, size, etag)
    found = _RANGE.fullmatch(reply.header("content-range"))
    if not found or int(found[1]) != start or int(found[2]) != start + size - 1:
        raise Unavailable(
            "The service answered with another part of the object than was asked for.",
            hint=NO_PROXY,
        )
    return Span(start, start + size, etag)


class _Stream(io.RawIOBase):
    """A span of an object as it comes in. Where that breaks off, it is asked for the rest."""

    def __init__(self, bucket: Bucket, name: str, span: Span, reply: Reply) -> None:
        self._bucket, self._name, self._span = bucket, name, span
        self._at = span.start
        self._reply: Reply | None = reply

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {
            os.SEEK_SET: self._span.start,
            os.SEEK_CUR: self._at,
            os.SEEK_END: self._span.stop,
        }[whence]
        if origin + offset < self._span.start:
            raise ValueError(f"a place before the beginning: {offset}")
        if origin + offset != self._at:
            self._let_go()
            self._at = origin + offset
        return self._at - self._span.start

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer)[: max(0, self._span.stop - self._at)]
        if not room:
            return 0
        got = self._bucket.trying(lambda: self._some(room))
        self._at += got
        if self._at >= self._span.stop:
            self._let_go()
        return got

    def close(self) -> None:
        self._let_go()
        super().close()

    def _some(self, room: memoryview) -> int:
        call = _call(self._name, self._at, self._span.stop, self._span.etag)
        reply = self._reply or self._rest(call)
        try:
            got = reply.readinto(room)
            if not got:
                raise http.client.IncompleteRead(b"")
        except BROKEN as error:
            self._let_go()
            raise self._bucket.broken(error, call) from error
        return got

    def _rest(self, call: Call) -> Reply:
        if not self._span.etag:
            raise Unavailable("An object without an ETag broke off.", hint="Open it again.")
        span, reply = _begun(self._bucket, call, self._at)
        self._reply = reply
        if span != Span(self._at, self._span.stop, self._span.etag):
            self._let_go()
            raise Unavailable(
                f"The object {self._name} was replaced while it was read.", hint="Open it again."
            )
        return reply

    def _let_go(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.close()
