"""Resumable uploads (tus 1.0): an object in parts, gone on with where a connection broke.

https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from calotype.backends.memory import exactly
from calotype.backends.supabase.refusals import Passing
from calotype.backends.supabase.wire import Wire, strange
from calotype.errors import CalotypeError, Unavailable

PART = 6 << 20
"""Bytes of a part. Supabase wants just this many in each but the last."""

GIVING_UP = 5.0
"""Seconds of silence after which an upload that failed is left to the server's own clean-up."""

_ROUTE = "/upload/resumable"
_CREATING = {404: "NoSuchBucket", 415: "InvalidMimeType"}
_SENDING = {404: "NoSuchUpload", 410: "NoSuchUpload"}
_VERSION = {"tus-resumable": "1.0.0", "x-upsert": "true"}


@dataclass(frozen=True, slots=True)
class Upload:
    """An object on its way: its name, ``size`` in bytes, type, and the mark that it will bear.

    The mark is random. The object at that name is this upload's if it bears it, whatever became of
    the answer.
    """

    name: str
    size: int
    media_type: str
    mark: str

    @property
    def metadata(self) -> Mapping[str, str]:
        """What is kept beside the object."""
        return {"calotype": self.mark}


def parts(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes of ``source`` in parts; the last comes once the source has ended well.

    So nothing is completed of a source that refuses at its end.
    """
    part = bytearray()
    for chunk in exactly(source, size):
        part += chunk
        if len(part) > PART:
            with memoryview(part) as whole:
                piece = bytes(whole[:PART])
            del part[:PART]
            yield piece
    yield bytes(part)


class Resumable:
    """Sends one upload in parts, and holds no more than one of them."""

    def __init__(self, wire: Wire, upload: Upload, landed: Callable[[], bool]) -> None:
        self._wire = wire
        self._upload = upload
        self._landed = landed
        self._path = ""
        self._complete = False

    def send(self, pieces: Iterator[bytes]) -> None:
        """Make the object of ``pieces``; where one cannot be had or sent, there is none of them."""
        self._path = self._create()
        try:
            offset = 0
            for piece in pieces:
                offset = self._append(offset, piece)
            self._finish()
        except BaseException:
            self._give_up()
            raise

    def _create(self) -> str:
        """The path of a new upload. Its ``Location`` may have another scheme, host or folder."""
        metadata = {
            "bucketName": self._wire.place.bucket,
            "objectName": self._upload.name,
            "contentType": self._upload.media_type,
            "metadata": json.dumps(self._upload.metadata),
        }
        encoded = ",".join(f"{key} {_base64(value)}" for key, value in metadata.items())
        headers = {
            **_VERSION,
            "upload-length": str(self._upload.size),
            "upload-metadata": encoded,
        }
        name = self._upload.name
        answer = self._wire.patience.bear(
            lambda: self._wire.once("POST", _ROUTE, name, headers=headers, codes=_CREATING)
        )
        ident = answer.headers.get("location", "").rstrip("/").rpartition("/")[2]
        if not ident:
            raise strange(self._wire.place, "an upload without its Location")
        return f"{_ROUTE}/{ident}"

    def _append(self, offset: int, piece: bytes) -> int:
        """Send a piece that begins at ``offset``; where it ends."""
        end, reached = offset + len(piece), offset
        while reached < end:
            before, reached = reached, self._advance(reached, piece[reached - offset :])
            if not before < reached <= end:
                raise strange(self._wire.place, f"{before} to {end} were sent, {reached} are there")
        return end

    def _advance(self, offset: int, rest: bytes) -> int:
        """Send once, or more often where nothing of it arrived; the offset that is reached."""
        for _ in self._wire.patience.attempts():
            try:
                reached = self._patch(offset, rest)
            except Passing as error:
                failure = error
                reached = self._arrived(offset, len(rest))
            else:
                failure = Passing(f"{self._wire.place.endpoint} took none of {len(rest)} bytes.")
            if reached != offset:
                return reached
        raise failure

    def _arrived(self, offset: int, length: int) -> int:
        """How far the server has come, as far as it can tell now; ``offset`` where it cannot."""
        with suppress(Passing):
            if offset + length == self._upload.size and self._landed():
                self._complete = True
                return self._upload.size
            return self._offset()
        return offset

    def _patch(self, offset: int, rest: bytes) -> int:
        headers = {
            **_VERSION,
            "upload-offset": str(offset),
            "content-type": "application/offset+octet-stream",
        }
        answer = self._wire.once(
            "PATCH", self._path, self._upload.name, content=rest, headers=headers, codes=_SENDING
        )
        reached = self._said(answer.headers.get("upload-offset", ""))
        self._complete = reached == self._upload.size
        return reached

    def _offset(self) -> int:
        answer = self._wire.once(
            "HEAD", self._path, self._upload.name, headers=_VERSION, codes=_SENDING
        )
        return self._said(answer.headers.get("upload-offset", ""))

    def _said(self, offset: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", offset):
            raise strange(self._wire.place, "an upload without its offset")
        return int(offset)

    def _finish(self) -> None:
        """See to it that the object is there: all was sent, but perhaps no answer came back."""
        if self._complete:
            return
        for _ in self._wire.patience.attempts():
            with suppress(Passing):
                if self._landed():
                    return
                # Nothing more to send, but the server completes it once more.
                if self._patch(self._upload.size, b"") == self._upload.size:
                    return
        raise Unavailable(
            f"{self._wire.place.url} has all bytes of {self._upload.name}, but made no object.",
            hint="Put it again; nothing was stored.",
        )

    def _give_up(self) -> None:
        """Remove the unfinished upload; one that stays ends by itself after a day or less."""
        with suppress(CalotypeError):
            self._wire.once(
                "DELETE",
                self._path,
                self._upload.name,
                headers=_VERSION,
                codes=_SENDING,
                silence=GIVING_UP,
            )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
