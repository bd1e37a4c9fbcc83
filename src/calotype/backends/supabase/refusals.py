"""What the refusals of Supabase Storage mean in Calotype's words.

Almost every refusal has the HTTP status 400; what is meant stands in the JSON body:
``{"statusCode": "404", "error": "not_found", "message": "Object not found", "code": "NoSuchKey"}``.
So the code decides, and a status only where there is no code: resumable uploads answer with the
true status and a text, and so do proxies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from calotype.backends.supabase.place import GIVE_KEY, Place
from calotype.errors import (
    CalotypeError,
    Corrupt,
    Denied,
    Misconfigured,
    NotFound,
    TooLarge,
    Unavailable,
)

BYTES_LOST = "BytesLost"
"""Ours: the service has the object's row, but not its bytes; it says so without a code."""

_LOST = "The resource was not found"
_DENIED = frozenset(
    ["AccessDenied", "InvalidJWT", "InvalidSignature", "SignatureDoesNotMatch", "ExpiredToken"]
)
_BY_STATUS = {401: "AccessDenied", 403: "AccessDenied", 413: "EntityTooLarge"}
_PASSING = frozenset({408, 409, 423, 425, 429})


class Passing(Unavailable):
    """The service could not answer this time; it is worth asking again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the service said in place of doing it: its code, if it has one, and the status meant."""

    code: str
    status: int
    message: str

    @classmethod
    def of(cls, status: int, body: bytes, codes: Mapping[int, str]) -> Self:
        """Read an answer; ``codes`` are those of statuses that come without one on this route."""
        said = _said(body)
        code, message = said.get("code"), said.get("message", said.get("error", ""))
        if not isinstance(code, str) or not code:
            lost = status == 400 and message == _LOST
            code = BYTES_LOST if lost else codes.get(status, _BY_STATUS.get(status, ""))
        meant = str(said.get("statusCode", ""))
        status = int(meant) if re.fullmatch(r"[1-9][0-9]{2}", meant) else status
        return cls(code, status, _line(str(message)))

    def error(self, place: Place, name: str) -> CalotypeError:
        """The error to raise; ``name`` is what the request was about, for people."""
        kind, message, hint = self._meaning()
        words = ", ".join(each for each in (str(self.status), self.code, self.message) if each)
        return kind(message.format(place=place, name=name, words=words), hint=hint)

    def _meaning(self) -> Meaning:
        if self.code in _DENIED:
            return _NO_KEY
        if self.code in _MEANINGS:
            return _MEANINGS[self.code]
        silent = not self.code and not self.message
        if self.status >= 500 or self.status in _PASSING or (silent and self.status == 400):
            return _FOR_NOW
        if 300 <= self.status < 400 or self.status == 404:
            return _ANOTHER_SERVER
        return _REFUSED


Meaning = tuple[type[CalotypeError], str, str]
"""What to raise, what happened, and what to do next."""

_NO_KEY: Meaning = (Denied, "{place.url} refused the key ({words}).", GIVE_KEY)
_FOR_NOW: Meaning = (
    Passing,
    "{place.url} could not answer for {name} ({words}).",
    "Try again; the project's logs, and status.supabase.com, say what is wrong.",
)
_ANOTHER_SERVER: Meaning = (
    Misconfigured,
    "{place.endpoint} does not answer as Supabase Storage does ({words}).",
    "Correct the project, host or base in the backend's URL; a server of one's own must be "
    "storage 1.19 or later.",
)
_REFUSED: Meaning = (
    Unavailable,
    "{place.url} refused {name} ({words}).",
    "The project's logs say why; nothing was stored.",
)
_WRONG_NAME: Meaning = (
    Misconfigured,
    "{place.url} refuses the name {name} ({words}).",
    "Correct bucket and folder in the backend's URL.",
)
_MEANINGS: Mapping[str, Meaning] = {
    "NoSuchKey": (NotFound, "No object {name} in {place.url}.", ""),
    BYTES_LOST: (
        Corrupt,
        "{place.url} has a row for {name}, but its bytes are gone.",
        "Put the same file again: that mends it.",
    ),
    "NoSuchUpload": (
        Unavailable,
        "{place.url} ended the upload of {name} before it was complete; nothing was stored.",
        "Put it again.",
    ),
    "NoSuchBucket": (
        Misconfigured,
        "There is no bucket {place.bucket!r} at {place.endpoint}.",
        "Make it in the dashboard (private), or correct the backend's URL.",
    ),
    "TenantNotFound": (
        Misconfigured,
        "There is no project at {place.endpoint} ({words}).",
        "Correct the backend's URL, or wake the project if it is paused.",
    ),
    "EntityTooLarge": (
        TooLarge,
        "{name} is larger than the bucket {place.bucket!r} takes; nothing was stored.",
        "Raise the bucket's file_size_limit, and the project's upload limit above it.",
    ),
    "InvalidMimeType": (
        Misconfigured,
        "The bucket {place.bucket!r} does not take {name} ({words}).",
        "Empty the bucket's allowed_mime_types: the store takes any kind of file.",
    ),
    "InvalidKey": _WRONG_NAME,
    "InvalidBucketName": _WRONG_NAME,
}


def _said(body: bytes) -> Mapping[str, object]:
    """The JSON object of an answer; a text is its message, HTML or a part of JSON says nothing."""
    text = body[:4096].decode("utf-8", "replace").strip()
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {} if text.startswith(("<", "{")) else {"message": text}
    return found if isinstance(found, dict) else {}


def _line(text: str) -> str:
    """One line of at most 200 characters that a terminal can show."""
    return "".join(each if each.isprintable() else " " for each in text)[:200].strip()
