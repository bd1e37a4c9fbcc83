"""Asking a bucket: signed requests, tried again while that can help, refusals in our words."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from calotype.backends.s3 import sigv4
from calotype.backends.s3.answers import (
    FOR_NOW,
    PASSING,
    SERVICE,
    Answer,
    broken,
    helps_to_wait,
    plain,
    refused,
)
from calotype.backends.s3.place import Place
from calotype.backends.s3.wire import BROKEN, Reply, Wire
from calotype.errors import CalotypeError, NotFound, Unavailable
from calotype.quantities import now

T = TypeVar("T")

LARGEST_ANSWER = 32 << 20
"""Bytes of a list or an error that are believed; a page of 1000 long names has less than 2 MiB."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, for each piece sent or received, and until a request is given up.

    No attempt begins once ``total`` is over, so a call may last ``total`` and one attempt more.
    """

    connect: float = 5.0
    read: float = 20.0
    total: float = 60.0


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes to send, in pieces, with their SHA-256."""

    chunks: Sequence[bytes]
    size: int
    sha256: bytes

    @classmethod
    def of(cls, chunks: Sequence[bytes]) -> Body:
        """These pieces, one after the other."""
        sha = hashlib.sha256()
        for chunk in chunks:
            sha.update(chunk)
        return cls(chunks, sum(map(len, chunks)), sha.digest())

    @property
    def checksum(self) -> str:
        """Its SHA-256 as S3's headers have it."""
        return base64.b64encode(self.sha256).decode()


EMPTY = Body.of(())


@dataclass(frozen=True, slots=True)
class Call:
    """One request: what is asked of the object ``name`` (None: of the bucket), and in our words.

    ``doing`` goes on in "Could not ... s3://bucket"; ``right`` is the permission that it takes.
    """

    method: str
    name: str | None
    doing: str
    right: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = EMPTY
    fine: tuple[int, ...] = (200,)


class Again(Exception):
    """What may go better next time, and the error to raise if there is none."""

    def __init__(self, error: CalotypeError) -> None:
        super().__init__(str(error))
        self.error = error


class Bucket:
    """A bucket that is asked. Safe across threads, processes and forks."""

    def __init__(self, place: Place, patience: Patience) -> None:
        self.place = place
        self.patience = patience
        self._wire = Wire(place.scheme, place.host, connect=patience.connect, read=patience.read)

    def ask(self, call: Call) -> Answer:
        """The whole answer, of one of the statuses that are ``fine``; any other one is an error."""
        return self.trying(lambda: self.attempt(call))

    def xml(self, call: Call, is_whole: Callable[[Element], bool]) -> Element:
        """The answer's document; one that is not what was asked for is asked for again."""
        return self.trying(lambda: self._read(call, self.attempt(call), is_whole))

    def once(self, call: Call) -> Reply:
        """One attempt, to the headers of an answer that is ``fine``; ``Again`` if it failed."""
        request = sigv4.Request(
            call.method,
            self.place.host,
            self.place.path(call.name),
            call.query,
            call.headers,
        )
        headers = sigv4.signed(
            request, sigv4.Credentials.around(), self.place.region, call.body.sha256.hex(), now()
        )
        if call.method in ("PUT", "POST"):
            headers["content-length"] = str(call.body.size)
        query = sigv4.encoded(call.query)
        target = f"{request.path}?{query}" if query else request.path
        try:
            reply = self._wire.send(call.method, target, headers, call.body.chunks)
        except BROKEN as error:
            raise self.broken(error, call) from error
        if reply.status in call.fine:
            return reply
        answer = self.whole(reply, call)
        if answer.status == 404 and self.place.is_supabase and self._is_missing(call.name):
            said = f"Could not {call.doing} {self.place.url}: there is no such object."
            raise NotFound(said, hint="It was removed before.")
        told = refused(answer, self.place, call.doing, call.right)
        raise Again(told) if _may_pass(answer) else told

    def broken(self, error: Exception, call: Call) -> Exception:
        """What to raise for a connection that failed in the midst of a call."""
        told = broken(error, self.place, call.doing)
        return Again(told) if helps_to_wait(error) else told

    def trying(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns; again after each ``Again``, at random intervals that grow."""
        end, longest = time.monotonic() + self.patience.total, FIRST_PAUSE
        while True:
            try:
                return attempt()
            except Again as again:
                pause = random.uniform(0, longest)
                if time.monotonic() + pause >= end:
                    raise again.error from again
            time.sleep(pause)
            longest = min(2 * longest, LONGEST_PAUSE)

    def attempt(self, call: Call) -> Answer:
        """One attempt, to the end of an answer that is ``fine``; ``Again`` if it failed."""
        return self.whole(self.once(call), call)

    def whole(self, reply: Reply, call: Call) -> Answer:
        """The answer with its body; ``Again`` where that breaks off. Closes the reply."""
        try:
            return Answer(reply.status, reply.read(LARGEST_ANSWER), reply.header)
        except BROKEN as error:
            raise self.broken(error, call) from error
        finally:
            reply.close()

    def _is_missing(self, name: str | None) -> bool:
        """True where the bucket lists no object of that name: an error without a code may be so."""
        if name is None:
            return False
        named = self.place.named(name)
        query = (("list-type", "2"), ("max-keys", "1"), ("prefix", named))
        page = self.xml(Call("GET", None, "list", "s3:ListBucket", query), _lists)
        return named not in [each.text for each in page.iter() if plain(each.tag) == "Key"]

    def _read(self, call: Call, answer: Answer, is_whole: Callable[[Element], bool]) -> Element:
        try:
            document = ElementTree.fromstring(answer.body)
        except ElementTree.ParseError:
            document = None
        if document is None or not is_whole(document):
            said = f"Could not {call.doing} {self.place.url}: the answer is no document of S3's."
            raise Again(Unavailable(said, hint=SERVICE))
        return document


def _lists(page: Element) -> bool:
    return plain(page.tag) == "ListBucketResult"


def _may_pass(answer: Answer) -> bool:
    return answer.status in FOR_NOW or answer.code in PASSING
