"""Bytes in a bucket of Supabase Storage, through its REST API and resumable uploads.

The service keeps a row and a version for each object, so an object is replaced as a whole. It
promises less elsewhere, and this is what is made of it:

* Creating is not atomic: of several at once most are told that they did it. So every put replaces,
  and the catalog alone decides who owns a key.
* No answer says what was stored. A put that got none asks whether the object bears its mark.
* A read cannot be bound to a version (``If-Match`` is ignored). Bytes of one answer are of one
  object; a read that goes on in another answer compares etags, which are of the content. That two
  contents never share a name is left to the tokens in keys.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import threading
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.message import Message
from functools import partial
from typing import BinaryIO
from urllib.parse import parse_qs, quote, urlsplit

from calotype.backends import Admission, Key, Listed
from calotype.backends.supabase.listing import listed
from calotype.backends.supabase.place import Place, service_key
from calotype.backends.supabase.refusals import Passing
from calotype.backends.supabase.streaming import Body, stream
from calotype.backends.supabase.tus import PART, Resumable, Upload, parts
from calotype.backends.supabase.wire import Patience, Wire, strange
from calotype.errors import NotFound, Unavailable, UrlExpired
from calotype.quantities import SECOND, Instant, now

OCTET_STREAM = "application/octet-stream"
JSON = "application/json"

BATCH = 500
"""Objects that are deleted by one request; the service takes up to 1000."""

REACH = 5.0
"""Seconds that ``reach`` tries for."""

SIGNED = 10_000
"""Signed URLs that are remembered, so that they stay the same while they last."""

_OBJECT = "object"
_READ = "object/authenticated"
_INFO = "object/info/authenticated"
_SIGN = "object/sign"
_ADMIT = "object/upload/sign"


class SupabaseBackend:
    """Objects in a bucket, below a folder of it. Making one touches nothing.

    ``media_types`` gives the type that an object of an extension is stored and later served with.
    Safe to use from any number of threads and processes, and after a fork. Beyond the five
    methods it ``Signs``, ``Admits``, ``Deletes`` and is ``Remote``; unfinished uploads are swept
    by the service.
    """

    def __init__(
        self,
        url: str,
        media_types: Mapping[str, str] | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
        patience: Patience | None = None,
        clock: Callable[[], Instant] = now,
    ) -> None:
        """``Place.of`` reads the URL and ``service_key`` the key; they raise what is wrong."""
        self._place = Place.of(url)
        self._wire = Wire(self._place, service_key(environ), patience or Patience())
        self._media_types = media_types or {}
        self._clock = clock
        self._signed: dict[tuple[Key, Instant, str], str] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """``supabase://PROJECT/BUCKET/PREFIX`` or ``supabase+http(s)://HOST/BUCKET/PREFIX``."""
        return self._place.url

    def put(self, key: Key, source: BinaryIO, size: int) -> None:
        """Store exactly ``size`` bytes; ``Unavailable`` where source or service falls short.

        Up to 6 MiB are held in memory and sent as one request, more as a resumable upload of which
        one part is held. ``TooLarge`` over the bucket's limit.
        """
        media_type = self._media_types.get(key.extension, OCTET_STREAM)
        upload = Upload(self._place.name(key), size, media_type, secrets.token_hex(8))
        pieces = parts(source, size)
        if size > PART:
            Resumable(self._wire, upload, lambda: self._landed(upload)).send(pieces)
        else:
            self._post(upload, next(pieces))

    def open(self, key: Key, start: int = 0, stop: int | None = None) -> BinaryIO:
        """The bytes from ``start`` to before ``stop``, streamed, seekable.

        The reader gives the object that was opened, also over several connections, or fails.
        ``Corrupt`` where the service has lost the bytes of an object that it lists.
        """
        name = self._place.name(key)
        if start == 0 and stop is None:
            body = self._body(name)
            if body.total is not None:
                return self._reader(name, body, 0, body.total)
            body.close()
        size = self._size(name)
        first, last = min(start, size), size if stop is None else min(stop, size)
        if first >= last:
            return io.BytesIO()
        return self._reader(name, self._part(name, first, last, size), first, last)

    def size(self, key: Key) -> int | None:
        """The object's size in bytes, or None where the service says that there is none."""
        try:
            return self._size(self._place.name(key))
        except NotFound:
            return None

    def delete(self, key: Key) -> None:
        """Remove the object; nothing happens where there is none."""
        self.delete_all([key])

    def delete_all(self, keys: Sequence[Key]) -> None:
        """Remove the objects, 500 a request; nothing happens where there is none.

        When it raises, any part of them may be gone.
        """
        names = sorted({self._place.name(key) for key in keys})
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            what = batch[0] if len(batch) == 1 else f"{len(batch)} objects"
            self._wire.patience.bear(partial(self._delete, what, batch))

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """Objects below the folder whose names begin with ``prefix``, sorted; a page in memory.

        What comes or goes meanwhile may be listed or not.
        """
        self._wire.ask("GET", *self._bucket())  # the list of a bucket that is gone is only empty
        yield from listed(self._wire, prefix)

    def sign(
        self,
        key: Key,
        until: Instant,
        *,
        media_type: str,  # noqa: ARG002 - the service knows the type that was stored, and no other
        disposition: str,
    ) -> str:
        """A URL by which anybody reads the object until then, and up to two seconds longer.

        In this process the same arguments give the same URL. It is served as the type that it was
        stored with, whatever ``media_type`` says; ``attachment`` takes effect, with its file name,
        and everything else is ``inline``.
        """
        wanted = (key, until, disposition)
        with self._lock:
            known = self._signed.get(wanted)
        if known is not None:
            return known
        seconds = (until - self._clock()) // SECOND + 2
        if seconds < 2:
            raise UrlExpired("A URL cannot end before it begins.", hint="Let it end later.")
        name = self._place.name(key)
        path = self._wire.path(_SIGN, name)
        answer = self._wire.ask("POST", path, name, {"expiresIn": seconds})
        url = self._absolute(answer.get("signedURL")) + _download(disposition)
        return self._remembered(wanted, url)

    def admit(
        self,
        key: Key,
        size: int,  # noqa: ARG002 - the service binds what it admits to neither size nor time
        media_type: str,
        until: Instant,
    ) -> Admission:
        """The request by which anybody uploads the object, once.

        The service binds it to the name alone: not to size, type or content, which are to be
        verified when it is complete; and it ends when the service says (two hours on
        supabase.com), not at ``until``. Where there is an object already it is refused.
        """
        name = self._place.name(key)
        answer = self._wire.ask("POST", self._wire.path(_ADMIT, name), name, {})
        url = self._absolute(answer.get("url"))
        return Admission("PUT", url, {"content-type": media_type}, _end(url) or until)

    def write_note(self, name: str, content: bytes, *, instead_of: bytes | None = None) -> bool:
        """Write a note, if what is there is ``instead_of``; False, and nothing, else.

        The service compares nothing: of two at the same moment both may be told that they did it.
        """
        there = self.read_note(name)
        if there in (instead_of, content):
            upload = Upload(self._place.prefix + name, len(content), JSON, secrets.token_hex(8))
            if there != content:
                self._post(upload, content)
            return True
        return False

    def read_note(self, name: str) -> bytes | None:
        """The note of that name, or None."""
        whole = self._place.prefix + name
        try:
            return self._wire.patience.bear(
                lambda: self._wire.once("GET", self._wire.path(_READ, whole), whole).body
            )
        except NotFound:
            return None

    def delete_note(self, name: str) -> None:
        """Remove a note; nothing happens where there is none."""
        whole = self._place.prefix + name
        self._wire.patience.bear(lambda: self._delete(whole, [whole]))

    def reach(self) -> None:
        """Raise unless the service answers within seconds, and the key may list the bucket."""
        wire = self._wire.hasty(REACH)
        wire.ask("GET", *self._bucket())
        next(listed(wire, ""), None)

    def _delete(self, what: str, names: list[str]) -> None:
        self._wire.once("DELETE", self._wire.path(_OBJECT), what, json={"prefixes": names})

    def _bucket(self) -> tuple[str, str]:
        return self._wire.path("bucket"), f"the bucket {self._place.bucket!r}"

    def _info(self, name: str) -> Mapping[str, object]:
        # The route without "authenticated" answers a key that does not fit with NoSuchBucket.
        return self._wire.said(self._wire.once("GET", self._wire.path(_INFO, name), name))

    def _size(self, name: str) -> int:
        answer = self._wire.ask("GET", self._wire.path(_INFO, name), name)
        size = answer.get("size")
        if not isinstance(size, int) or size < 0:
            raise strange(self._place, f"{name} without a size")
        return size

    def _post(self, upload: Upload, content: bytes) -> None:
        """Send an object as one request; again while it is not there and may still be taken."""
        headers = {
            "content-type": upload.media_type,
            "x-upsert": "true",
            "x-metadata": b64encode(json.dumps(upload.metadata).encode()).decode(),
        }
        path = self._wire.path(_OBJECT, upload.name)
        for _ in self._wire.patience.attempts():
            try:
                self._wire.once("POST", path, upload.name, content=content, headers=headers)
            except Passing as error:
                failure = error
                if self._landed(upload):
                    return
            else:
                return
        raise failure

    def _landed(self, upload: Upload) -> bool:
        """True where the object at that name is this upload's; False also where nobody can say."""
        try:
            said = self._info(upload.name)
        except (NotFound, Passing):
            return False
        return bool(said.get("metadata") == upload.metadata)

    def _reader(self, name: str, body: Body, first: int, last: int) -> BinaryIO:
        def again(at: int) -> Body:
            return self._answer(name, (at, last))

        return stream(body, again, first, last, place=self._place, patience=self._wire.patience)

    def _part(self, name: str, first: int, last: int, size: int) -> Body:
        """The body of a part of the object, which was found to have ``size`` bytes."""
        body = self._body(name, (first, last))
        if body.start == first and body.total == size:
            return body
        body.close()
        if body.start != first:
            raise strange(self._place, f"bytes from {body.start}, not from {first}")
        raise Unavailable(
            f"{name} in {self.url} was replaced while it was opened.", hint="Open it again."
        )

    def _body(self, name: str, part: tuple[int, int] | None = None) -> Body:
        """The object, or a part of it; asked for again while that may help."""
        return self._wire.patience.bear(lambda: self._answer(name, part))

    def _answer(self, name: str, part: tuple[int, int] | None) -> Body:
        headers = {"range": f"bytes={part[0]}-{part[1] - 1}"} if part else {}
        path = self._wire.path(_READ, name)
        return Body(self._wire.stream(path, name, headers), self._place)

    def _absolute(self, path: object) -> str:
        if not isinstance(path, str) or not path.startswith("/"):
            raise strange(self._place, "no signed URL")
        return f"{self._place.endpoint}{path}"

    def _remembered(self, wanted: tuple[Key, Instant, str], url: str) -> str:
        """``url``, or the one that another thread was faster with."""
        with self._lock:
            url = self._signed.setdefault(wanted, url)
            if len(self._signed) > SIGNED:
                moment = self._clock()
                lasting = [each for each in self._signed.items() if each[0][1] > moment]
                self._signed = dict(lasting[-SIGNED // 2 :])
        return url


def _download(disposition: str) -> str:
    """The end of a signed URL that has the service send ``disposition``."""
    header = Message()
    header["content-disposition"] = disposition
    if header.get_content_disposition() != "attachment":
        return ""
    return f"&download={quote(header.get_filename() or '', safe='')}"


def _end(url: str) -> Instant | None:
    """When the token of a URL ends (RFC 7519, ``exp``); None where it does not say so."""
    (token,) = parse_qs(urlsplit(url).query).get("token", [""])[:1]
    body = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return int(claims["exp"]) * SECOND
    except (ValueError, TypeError, KeyError):
        return None
