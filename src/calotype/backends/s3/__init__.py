"""Bytes as objects of an S3 bucket: Amazon's, or any service that speaks S3.

Safe to use from any number of threads and processes, and after a fork. Every upload carries the
SHA-256 of its bytes, which the service checks, so that bytes that are changed on the way are never
stored. Only an answer that S3 gives for it says that an object is not there; a service that fails
or does not answer is ``Unavailable``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from calotype.backends import Admission, Key, Listed
from calotype.backends.memory import exactly
from calotype.backends.s3 import listing, notes, parts, reading, sigv4
from calotype.backends.s3.asking import Body, Bucket, Call, Patience
from calotype.backends.s3.place import Place
from calotype.errors import Misconfigured, NotFound, TooLarge
from calotype.quantities import SECOND, Instant, human_size, now

LONGEST_URL = 7 * 86_400
"""Seconds that a signed URL may live: Signature Version 4 allows no more."""

LARGEST_PUT = 5 << 30
"""Bytes that S3 takes in one request."""

UNSIGNED = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
"""Headers that a sender may add to what was signed, and the service keeps and serves."""

REACH = 5.0
"""Seconds that ``reach`` tries for."""


class S3Backend:
    """Objects of the bucket at ``url``, ``s3://BUCKET/PREFIX?endpoint=&region=``.

    The credentials are those of the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    AWS_SESSION_TOKEN, looked up for each request. Making one asks nothing of the service.
    """

    def __init__(self, url: str, *, patience: Patience | None = None) -> None:
        self._place = Place.read(url)
        self._patience = patience or Patience()
        self._bucket = Bucket(self._place, self._patience)
        self._creates_once: bool | None = None

    @property
    def url(self) -> str:
        """The URL in its one spelling; there are no credentials in it."""
        return self._place.url

    @property
    def longest_url(self) -> int:
        """Microseconds that a signed URL may live: 7 days."""
        return LONGEST_URL * SECOND

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store exactly ``size`` bytes, durably; the service refuses bytes that changed on the way.

        Up to 8 MiB go in one request, more in parts of 8 MiB, four at a time. What is there already
        with the same size and SHA-256, as after a lost answer, is not written again.
        """
        chunks = exactly(source, size)
        if size > parts.PART:
            parts.upload(self._bucket, str(key), chunks, size)
            return
        body = Body.of(list(chunks))
        headers = {"x-amz-checksum-sha256": body.checksum}
        call = Call("PUT", str(key), "put into", parts.RIGHT, headers=headers, body=body)
        headers = {**headers, "if-none-match": "*"}
        status = self._bucket.ask(replace(call, headers=headers, fine=notes.CREATED_OR_NOT)).status
        if status != 200 and not self._holds(key, body.checksum, size):
            self._bucket.ask(call)

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The bytes from ``start`` to before ``stop``, seekable; up to 1 MiB are read at once.

        A line that breaks is taken up again where it broke, on the same object: ``Unavailable``
        where there is another one at the key by then.
        """
        return reading.opened(self._bucket, str(key), start, stop)

    def size(self, key: Key) -> int | None:
        """The object's size in bytes, or None. As HEAD gives no reasons, another request asks."""
        fine = (200, 301, 400, 401, 403, 404)
        answer = self._bucket.ask(Call("HEAD", str(key), "look into", reading.RIGHT, fine=fine))
        length = answer.header("content-length")
        if answer.status == 200 and length.isdecimal():
            return int(length)
        try:
            with reading.opened(self._bucket, str(key), 0, None) as file:
                return file.seek(0, 2)
        except NotFound:
            return None

    def delete(self, key: Key) -> None:
        """Remove the object; nothing happens where there is none."""
        self.delete_note(str(key))

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """Objects whose names begin with ``prefix``, as the service lists them, a page at a time.

        That is by the bytes of their names. SeaweedFS lists a folder before its neighbours
        (``a/b`` before ``a.b``), which moves names of others, but none of ours.
        """
        return listing.objects(self._bucket, prefix)

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write a note, if what is there is ``instead_of``; False, and nothing, else."""
        return notes.write(self._bucket, name, content, instead_of)

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        return notes.read(self._bucket, name)

    def delete_note(self, name: str) -> None:
        """Remove a note; nothing happens where there is none."""
        call = Call("DELETE", name, "delete from", "s3:DeleteObject", fine=(200, 204))
        with suppress(NotFound):
            self._bucket.ask(call)

    def sign(self, key: Key, until: Instant, *, media_type: str, disposition: str) -> str:
        """A URL by which anybody reads the object until then, served as type and disposition say.

        It is the same whenever it is asked for, as long as the credentials are; ``Misconfigured``
        for more than 7 days.
        """
        query = (
            ("response-content-disposition", disposition),
            ("response-content-type", media_type),
        )
        given = tuple((name, text) for name, text in query if text)
        return self._signed(self._request("GET", key, query=given), until)

    def admit(self, key: Key, size: int, media_type: str, until: Instant) -> Admission:
        """A request by which anybody puts the key's own bytes, and no others, until then.

        Size, type and SHA-256 are signed, so the service refuses anything else; and that it is
        put once, where the service knows how. ``TooLarge`` for more than it takes in one request.
        """
        if size > LARGEST_PUT:
            raise TooLarge(
                f"S3 takes {human_size(LARGEST_PUT)} at most in one request; nothing was stored.",
                hint="Put the file instead: that sends it in parts.",
            )
        headers = {
            "Content-Length": str(size),
            "Content-Type": media_type,
            "x-amz-checksum-sha256": _checksum(key),
        }
        if self._once():
            headers["If-None-Match"] = "*"
        url = self._signed(self._request("PUT", key, headers=headers), until)
        return Admission("PUT", url, headers, until)

    def vouch(self, key: Key, size: int) -> bool:
        """True where the service took the object in one piece, by the SHA-256 that it has noted.

        Not where a sender may still replace it, nor with headers that nobody asked for: every
        reader would be served them.
        """
        return self._once() and self._holds(key, _checksum(key), size)

    def sweep(self, older_than: Instant) -> int:
        """Abort uploads to which nobody has sent a part since ``older_than``; how many."""
        return sum(
            parts.abort(self._bucket, name, ident)
            for name, ident in listing.uploads(self._bucket, older_than)
        )

    def reach(self) -> None:
        """Raise unless the bucket answers within seconds, and may be listed and read."""
        total = min(REACH, self._patience.total)
        bucket = Bucket(self._place, replace(self._patience, total=total))
        query = (("list-type", "2"), ("max-keys", "1"), ("prefix", self._place.prefix))
        bucket.xml(Call("GET", None, "list", "s3:ListBucket", query), listing.is_list)
        with suppress(NotFound):
            bucket.ask(Call("GET", "calotype.json", "read from", "s3:GetObject"))

    def _holds(self, key: Key, checksum: str, size: int) -> bool:
        """True where the service noted that SHA-256, and nothing that readers should not get."""
        fine = (200, 301, 400, 401, 403, 404)
        headers = {"x-amz-checksum-mode": "ENABLED"}
        call = Call("HEAD", str(key), "look into", reading.RIGHT, headers=headers, fine=fine)
        answer = self._bucket.ask(call)
        noted = answer.header("x-amz-checksum-sha256") == checksum
        whole = answer.status == 200 and answer.header("content-length") == str(size)
        return whole and noted and not any(answer.header(name) for name in UNSIGNED)

    def _once(self) -> bool:
        """Whether the service puts nothing where something is; asked once."""
        if self._creates_once is None:
            self._creates_once = notes.creates_once(self._bucket)
        return self._creates_once

    def _request(
        self,
        method: str,
        key: Key,
        *,
        query: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> sigv4.Request:
        path = self._place.path(str(key))
        return sigv4.Request(method, self._place.host, path, query, headers or {})

    def _signed(self, request: sigv4.Request, until: Instant) -> str:
        """Signed for 7 days that end at ``until``: whoever asks, and when, gets the same URL."""
        if until > now() + self.longest_url + SECOND:  # to begin a second ahead is no clock's fault
            raise Misconfigured(
                "A signed URL of S3 lives 7 days at most.", hint="Give a shorter time."
            )
        start = until - LONGEST_URL * SECOND
        query = sigv4.presigned(
            request, sigv4.Credentials.around(), self._place.region, start, LONGEST_URL
        )
        return f"{self._place.scheme}://{request.host}{request.path}?{query}"


def _checksum(key: Key) -> str:
    """The key's digest as S3's headers have it."""
    return base64.b64encode(bytes.fromhex(key.digest)).decode()
