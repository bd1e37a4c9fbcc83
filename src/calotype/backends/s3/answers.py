"""Answers, and what a refusal means in our words: for now, for good, or for want of a right."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

from calotype.backends.s3.place import Place
from calotype.errors import CalotypeError, Denied, Misconfigured, NotFound, TooLarge, Unavailable

FOR_NOW = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say nothing of the object, only of the moment."""

PASSING = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
"""Codes for a bad moment, and for bytes that were changed, lost or late on their way."""

_LATER = "Nothing is lost; try again later."
SERVICE = "Does the endpoint in its URL lead to an S3 service?"
_KEYS = "Correct the credentials in the environment."

_KNOWN: dict[str, tuple[type[CalotypeError], str, str]] = {
    "PreconditionFailed": (Unavailable, "the object was replaced meanwhile", "Open it again."),
    "InvalidAccessKeyId": (Denied, "AWS_ACCESS_KEY_ID is not known there", _KEYS),
    "SignatureDoesNotMatch": (Denied, "AWS_SECRET_ACCESS_KEY does not fit its key id", _KEYS),
    "ExpiredToken": (Denied, "AWS_SESSION_TOKEN has expired", _KEYS),
    "TokenRefreshRequired": (Denied, "AWS_SESSION_TOKEN has expired", _KEYS),
    "InvalidToken": (Denied, "AWS_SESSION_TOKEN is not valid", _KEYS),
    "RequestTimeTooSkewed": (
        Unavailable,
        "its clock and this one differ",
        "Set this machine's clock right: it is off by more than 15 minutes.",
    ),
    "InvalidObjectState": (
        Unavailable,
        "the object lies in an archive",
        "Restore it from there, and keep the store's objects out of archive tiers.",
    ),
    "EntityTooLarge": (TooLarge, "it is too large for the service", "Put a smaller file."),
    "NoSuchBucket": (
        Misconfigured,
        "there is no such bucket",
        "Make it, or correct its name, endpoint or region in the URL.",
    ),
}
"""Codes with one meaning."""

_GONE = {"NoSuchKey": "object", "NoSuchUpload": "upload"}
"""With the status 404 they say that something is not there; nothing else does."""

_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "AuthorizationQueryParametersError",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)

_NO_TLS = "WRONG_VERSION_NUMBER"
"""What OpenSSL calls an answer in plain text."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands in an error's body: all empty where there is none that S3 would write."""

    code: str = ""
    message: str = ""
    region: str = ""

    @classmethod
    def read(cls, body: bytes) -> Refusal:
        """From ``<Error><Code>...``; control characters and long texts are not passed on."""
        try:
            found = ElementTree.fromstring(body)
        except ElementTree.ParseError:
            return cls()
        if plain(found.tag) != "Error":
            return cls()
        texts = {plain(each.tag): each.text or "" for each in found}
        code, message, region = (
            "".join(letter for letter in texts.get(name, "")[:200] if letter.isprintable())
            for name in ("Code", "Message", "Region")
        )
        return cls(code, message, region)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    header: Callable[[str], str]

    @property
    def code(self) -> str:
        """S3's code of an error, or an empty string."""
        return Refusal.read(self.body).code

    @property
    def root(self) -> str:
        """The name of its document, or an empty string where it has none."""
        try:
            return plain(ElementTree.fromstring(self.body).tag)
        except ElementTree.ParseError:
            return ""


def plain(tag: str) -> str:
    """An element's name without its namespace: services differ in that."""
    return tag.rpartition("}")[2]


def refused(answer: Answer, place: Place, doing: str, right: str) -> CalotypeError:
    """The error for an answer that does not do what was asked; ``right`` is what it takes."""
    refusal = Refusal.read(answer.body)
    code = refusal.code
    said = f"Could not {doing} {place.url}: "
    if answer.status in FOR_NOW or code in PASSING:
        return Unavailable(f"{said}{_shown(answer, refusal)}.", hint=_LATER)
    if answer.status == 404 and code in _GONE:
        return NotFound(f"{said}there is no such {_GONE[code]}.", hint="It was removed before.")
    if code in _KNOWN:
        kind, why, hint = _KNOWN[code]
        return kind(f"{said}{why}.", hint=hint)
    region = refusal.region or answer.header("x-amz-bucket-region")
    if code in _REGION or (region and region != place.region):
        hint = f"Write region={region} in its URL." if region else "Correct region= in its URL."
        return Misconfigured(f"{said}the bucket is not in {place.region}.", hint=hint)
    if answer.status in (401, 403):
        hint = f"Give the credentials the right {right} on {place.bucket}/{place.prefix}*."
        return Denied(f"{said}{_shown(answer, refusal)}.", hint=hint)
    return Misconfigured(f"{said}{_shown(answer, refusal)}.", hint=SERVICE)


def broken(error: Exception, place: Place, doing: str) -> CalotypeError:
    """The error for a connection that failed."""
    said = f"Could not {doing} {place.url}: "
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "Name the authority's certificate in SSL_CERT_FILE, or correct the endpoint."
        return Misconfigured(f"{said}the certificate of {place.host} is not trusted.", hint=hint)
    if isinstance(error, ssl.SSLError) and error.reason == _NO_TLS:
        hint = "Write http:// in the endpoint, or correct its port."
        return Misconfigured(f"{said}{place.host} does not speak TLS.", hint=hint)
    if isinstance(error, socket.gaierror):
        hint = "Correct the endpoint or the region in its URL, or mend the network."
        return Unavailable(f"{said}no address is known for {place.host}.", hint=hint)
    if isinstance(error, TimeoutError):
        return Unavailable(f"{said}{place.host} did not answer in time.", hint=_LATER)
    if isinstance(error, ConnectionRefusedError):
        hint = "Is the service running, and are host and port of the endpoint right?"
        return Unavailable(f"{said}{place.host} takes no connections.", hint=hint)
    if isinstance(error, http.client.IncompleteRead):
        return Unavailable(f"{said}the answer was cut off.", hint=_LATER)
    return Unavailable(f"{said}the connection to {place.host} broke ({error!r}).", hint=_LATER)


def helps_to_wait(error: Exception) -> bool:
    """False for what the next attempt will meet again."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return not isinstance(error, ssl.SSLError) or (
        error.reason not in (_NO_TLS, "CERTIFICATE_VERIFY_FAILED")
    )


def _shown(answer: Answer, refusal: Refusal) -> str:
    if refusal.code:
        return f"{answer.status} {refusal.code} ({refusal.message.rstrip('.')})"
    return f"it answered {answer.status}"
