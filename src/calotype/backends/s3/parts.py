"""Uploads in parts: several under way at a time, an object once all are there, or nothing."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from xml.etree import ElementTree

from calotype.backends.s3.answers import PASSING, Answer, plain, refused
from calotype.backends.s3.asking import Again, Body, Bucket, Call
from calotype.errors import CalotypeError, NotFound, Unavailable

PART = 8 << 20
"""Bytes of a part, and of the largest object that is sent in one request."""

AT_ONCE = 4
"""Parts under way; with the one that is gathered, 40 MiB are in memory."""

MOST_PARTS = 10_000
MARK = "x-amz-meta-calotype-upload"
"""Tells an object that this upload made from any other, should the answer be lost."""

RIGHT = "s3:PutObject"

Sent = tuple[int, str, str]


def part_size(size: int) -> int:
    """Bytes of each part, so that no object has more than the service allows."""
    return max(PART, -(-size // MOST_PARTS))


def upload(bucket: Bucket, name: str, chunks: Iterator[bytes], size: int) -> None:
    """Make the object of ``chunks``, ``size`` bytes in all; each part is checked by its SHA-256.

    Whatever fails, the parts are removed again, as far as the service can be reached; what a
    killed process leaves is swept.
    """
    mark = secrets.token_hex(16)
    ident = _begun(bucket, name, mark)
    try:
        sent = _sent(bucket, name, ident, _bodies(chunks, part_size(size)))
        _complete(bucket, name, ident, mark, sent)
    except BaseException:
        with suppress(CalotypeError):
            abort(bucket, name, ident)
        raise


def abort(bucket: Bucket, name: str, ident: str) -> bool:
    """Remove the parts of an upload; False where there was none."""
    query = (("uploadId", ident),)
    right = "s3:AbortMultipartUpload"
    try:
        bucket.ask(Call("DELETE", name, "abort an upload to", right, query, fine=(200, 204)))
    except NotFound:
        return False
    return True


def _bodies(chunks: Iterable[bytes], most: int) -> Iterator[Body]:
    """The chunks in bodies of ``most`` bytes; the last may have fewer."""
    gathered: list[bytes] = []
    room = most
    for chunk in chunks:
        rest = chunk
        while len(rest) >= room:
            gathered.append(rest[:room])
            rest = rest[room:]
            yield Body.of(gathered)
            gathered, room = [], most
        if rest:
            gathered.append(rest)
            room -= len(rest)
    if gathered:
        yield Body.of(gathered)


def _begun(bucket: Bucket, name: str, mark: str) -> str:
    headers = {MARK: mark, "x-amz-checksum-algorithm": "SHA256"}
    call = Call("POST", name, "begin an upload to", RIGHT, (("uploads", ""),), headers)
    return _ident(bucket.xml(call, lambda document: bool(_ident(document))))


def _ident(document: ElementTree.Element) -> str:
    found = [each.text for each in document if plain(each.tag) == "UploadId"]
    return found[0] or "" if found else ""


def _sent(bucket: Bucket, name: str, ident: str, bodies: Iterator[Body]) -> list[Sent]:
    """Every part, once all are there; none is under way any more when this raises."""
    sent: list[Sent] = []
    under_way: deque[Future[Sent]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for number, body in enumerate(bodies, 1):
                if len(under_way) == AT_ONCE:
                    sent.append(under_way.popleft().result())
                under_way.append(pool.submit(_send, bucket, name, ident, number, body))
                del body
            sent += [each.result() for each in under_way]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return sent


def _send(bucket: Bucket, name: str, ident: str, number: int, body: Body) -> Sent:
    query = (("partNumber", str(number)), ("uploadId", ident))
    headers = {"x-amz-checksum-sha256": body.checksum}
    try:
        answer = bucket.ask(Call("PUT", name, "upload to", RIGHT, query, headers, body))
    except NotFound as error:
        raise _removed(bucket) from error
    return number, answer.header("etag"), body.checksum


def _complete(bucket: Bucket, name: str, ident: str, mark: str, sent: list[Sent]) -> None:
    call = Call(
        "POST",
        name,
        "complete an upload to",
        RIGHT,
        (("uploadId", ident),),
        {"content-type": "application/xml"},
        Body.of([_list(sent)]),
        fine=(200, 404),
    )

    def attempt() -> Answer:
        answer = bucket.attempt(call)
        if answer.code in PASSING:  # after a 200 that was sent to keep the line
            raise Again(refused(answer, bucket.place, call.doing, call.right))
        return answer

    answer = bucket.trying(attempt)
    if answer.root == "CompleteMultipartUploadResult" or _is_made(bucket, name, mark):
        return
    if answer.code == "NoSuchUpload":
        raise _removed(bucket)
    raise refused(answer, bucket.place, call.doing, call.right)


def _removed(bucket: Bucket) -> Unavailable:
    return Unavailable(
        f"An upload to {bucket.place.url} was removed before its end; nothing was stored.",
        hint="Put it again; a rule of the bucket that removes uploads should wait for days.",
    )


def _is_made(bucket: Bucket, name: str, mark: str) -> bool:
    """True where the object is the one that the upload was to make: its answer was lost."""
    call = Call("HEAD", name, "look at an object of", "s3:GetObject", fine=(200, 404))
    return bucket.ask(call).header(MARK) == mark


def _list(sent: list[Sent]) -> bytes:
    document = ElementTree.Element("CompleteMultipartUpload")
    for number, etag, checksum in sent:
        part = ElementTree.SubElement(document, "Part")
        for name, text in (
            ("PartNumber", str(number)),
            ("ETag", etag),
            ("ChecksumSHA256", checksum),
        ):
            ElementTree.SubElement(part, name).text = text
    return ElementTree.tostring(document)
