"""Reading an object: streamed, and gone on with where a connection breaks; never parts of two."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import httpx

from calotype.backends.seeking import Seeking
from calotype.backends.supabase.place import Place
from calotype.backends.supabase.refusals import Passing
from calotype.backends.supabase.wire import Patience, silent, strange
from calotype.errors import Unavailable

BUFFER = 1 << 18
"""Bytes that a reader of little pieces takes at a time."""

_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")


class Body:
    """What one answer gives of an object: from ``start`` on, of an object of ``total`` bytes.

    ``total`` is None where the answer does not say. An answer without an etag is none of the
    service: a login page has none.
    """

    def __init__(self, response: httpx.Response, place: Place) -> None:
        self._response = response
        self._place = place
        self._chunks = response.iter_raw()
        self._rest = memoryview(b"")
        self.etag = response.headers.get("etag", "").removeprefix("W/").strip('"')
        self.start, self.total = self._extent()

    def _extent(self) -> tuple[int, int | None]:
        packed = self._response.headers.get("content-encoding", "identity")
        if packed != "identity" or not self.etag:
            self.close()
            what = f"an object packed with {packed}" if self.etag else "an object without an etag"
            raise strange(self._place, what)
        if self._response.status_code == httpx.codes.PARTIAL_CONTENT:
            said = self._response.headers.get("content-range", "")
            found = _RANGE.fullmatch(said)
            if not found:
                self.close()
                raise strange(self._place, f"a part of an object without its place ({said!r})")
            return int(found[1]), int(found[2])
        length = self._response.headers.get("content-length", "")
        return 0, int(length) if length.isdecimal() else None

    def read(self, most: int) -> memoryview:
        """Up to ``most`` bytes, none at the end; ``Passing`` where the connection breaks."""
        try:
            while not self._rest:
                self._rest = memoryview(next(self._chunks))
        except StopIteration:
            return self._rest
        except httpx.RequestError as error:
            raise silent(self._place, error) from error
        chunk, self._rest = self._rest[:most], self._rest[most:]
        return chunk

    def finish(self) -> None:
        """Read the end of the message, so that the connection can be used again; and close."""
        if not self._rest:
            with suppress(httpx.RequestError):
                next(self._chunks, b"")
        self.close()

    def close(self) -> None:
        """Give the connection back, or end it where bytes are still to come."""
        self._response.close()


def stream(
    body: Body,
    ask: Callable[[int], Body],
    start: int,
    stop: int,
    *,
    place: Place,
    patience: Patience,
) -> BinaryIO:
    """Bytes ``start`` to ``stop`` of the object that ``body`` is the beginning of; seekable.

    ``ask`` gives the body from an offset on. One that is broken off is asked for again from where
    it ended, and must have the same etag: else the object was replaced, and reading fails.
    """
    return io.BufferedReader(_Stream(body, ask, start, stop, place, patience), BUFFER)


class _Stream(Seeking):
    """Bytes ``start`` to ``stop`` of one object, over as many answers as it takes."""

    def __init__(
        self,
        body: Body,
        ask: Callable[[int], Body],
        start: int,
        stop: int,
        place: Place,
        patience: Patience,
    ) -> None:
        super().__init__(start, stop)
        self._body: Body | None = body
        self._etag = body.etag
        self._ask = ask
        self._place = place
        self._patience = patience
        self._reached = start

    def close(self) -> None:
        self._drop()
        super().close()

    def _next(self, most: int) -> memoryview:
        """Some bytes; none only at the end."""
        left = min(most, self._stop - self._at)
        if left <= 0:
            return memoryview(b"")
        for _ in self._patience.attempts():
            try:
                chunk = self._there().read(left)
            except Passing as error:
                failure = error
            else:
                if chunk:
                    self._gone_on(len(chunk))
                    return chunk
                failure = Passing(
                    f"{self._place.endpoint} ended an object after {self._at} of "
                    f"{self._stop} bytes.",
                    hint="Try again.",
                )
            self._drop()
        raise failure

    def _gone_on(self, length: int) -> None:
        self._at += length
        self._reached = self._at
        if self._at == self._stop and self._body is not None:
            self._body.finish()
            self._body = None

    def _there(self) -> Body:
        """The body whose next byte is the one to read."""
        if self._body is not None and self._reached == self._at:
            return self._body
        self._drop()
        self._body, self._reached = self._ask(self._at), self._at
        if self._body.start != self._at:
            raise strange(self._place, f"bytes from {self._body.start}, not from {self._at}")
        if self._body.etag != self._etag:
            raise Unavailable(
                f"An object of {self._place.url} was replaced while it was read.",
                hint="Open it again.",
            )
        return self._body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
