"""Notes in a bucket: replaced where they are still what was read, as far as the service compares.

A service that knows neither ``If-Match`` nor ``If-None-Match`` replaces whatever is there; then
only the look before tells two writers apart.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from calotype.backends import Key
from calotype.backends.s3 import parts, reading
from calotype.backends.s3.asking import Body, Bucket, Call
from calotype.digest import Digest
from calotype.errors import CalotypeError, NotFound

PRECONDITION_FAILED = 412
NOT_IMPLEMENTED = 501
_REFUSED = (404, 409, PRECONDITION_FAILED)
"""Statuses by which the service says that the note is another one by now, or is gone."""

CREATED_OR_NOT = (200, *_REFUSED, NOT_IMPLEMENTED)
"""What is answered to a condition, by a service that knows them or not."""


def write(bucket: Bucket, name: str, content: bytes, instead_of: bytes | None) -> bool:
    """Write a note, if what is there is ``instead_of``, or it is this one already."""
    there, etag = _read(bucket, name)
    if there == content:
        return True
    if there != instead_of:
        return False
    condition = {"if-none-match": "*"} if there is None else {"if-match": etag}
    status = _put(bucket, name, content, condition if there is None or etag else {})
    if status == NOT_IMPLEMENTED:
        status = _put(bucket, name, content, {})
    return status == 200 or read(bucket, name) == content


def read(bucket: Bucket, name: str) -> bytes | None:
    """The note of that name, or None."""
    return _read(bucket, name)[0]


def creates_once(bucket: Bucket) -> bool:
    """True where the service creates nothing over what is there; tried on an object that goes.

    It is named as a key of no bytes: what a killed process leaves of it is a stray.
    """
    name = str(Key(Digest.of(b""), secrets.token_hex(8)))
    try:
        _put(bucket, name, b"", {})
        return _put(bucket, name, b"", {"if-none-match": "*"}) == PRECONDITION_FAILED
    finally:
        with suppress(CalotypeError):
            bucket.ask(Call("DELETE", name, "delete from", "s3:DeleteObject", fine=(200, 204)))


def _read(bucket: Bucket, name: str) -> tuple[bytes | None, str]:
    try:
        answer = bucket.ask(Call("GET", name, "read from", reading.RIGHT))
    except NotFound:
        return None, ""
    return answer.body, answer.header("etag")


def _put(bucket: Bucket, name: str, content: bytes, condition: Mapping[str, str]) -> int:
    """The status of the answer, once it was given for good."""
    body = Body.of([content])
    headers = {
        "content-type": "application/json",
        "x-amz-checksum-sha256": body.checksum,
        **condition,
    }
    call = Call("PUT", name, "put into", parts.RIGHT, headers=headers, body=body)
    fine = CREATED_OR_NOT if condition else (200,)
    answer = bucket.ask(replace(call, fine=fine))
    if answer.status == 404 and answer.code != "NoSuchKey":  # a bucket that is gone, a proxy
        answer = bucket.ask(call)
    return answer.status
