"""Signature Version 4 of S3 requests: in a header, or in a URL that anybody may use.

After "Authenticating Requests (AWS Signature Version 4)" of Amazon's S3 reference. S3's variant:
the path is encoded once, and the payload's SHA-256 is a header of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from calotype.errors import Misconfigured
from calotype.quantities import SECOND, Instant

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
NO_BYTES = hashlib.sha256().hexdigest()

Query = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; the secret parts are in no representation of it."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)

    @classmethod
    def around(cls) -> Credentials:
        """Those of the environment; ``Misconfigured`` names the variable that is missing."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise Misconfigured(
                f"No credentials for S3: {' and '.join(missing)} not set.",
                hint="Set both, and AWS_SESSION_TOKEN for temporary ones.",
            )
        return cls(*(_plain(name) for name in (*names, "AWS_SESSION_TOKEN")))


def _plain(name: str) -> str:
    """A variable's text; no header could carry anything but visible characters."""
    text = os.environ.get(name, "").strip()
    if not all("!" <= letter <= "~" for letter in text):
        raise Misconfigured(
            f"{name} holds characters that no key has.", hint="Set it again, on one line."
        )
    return text


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed: ``host`` and ``path`` as they are sent, the path percent-encoded."""

    method: str
    host: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def signed(
    request: Request, credentials: Credentials, region: str, payload: str, moment: Instant
) -> dict[str, str]:
    """All headers to send, Authorization among them; ``payload`` is the body's SHA-256 in hex."""
    stamp = stamped(moment)
    headers = {
        **request.headers,
        "host": request.host,
        "x-amz-date": stamp,
        "x-amz-content-sha256": payload,
    }
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    names, lines = _canonical(headers)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    asked = (request.method, request.path, encoded(request.query), lines, names, payload)
    proof = _signature(credentials, region, stamp, scope, asked)
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={proof}"
    )
    return headers


def presigned(
    request: Request, credentials: Credentials, region: str, start: Instant, seconds: int
) -> str:
    """The query under which anybody may send the request, from ``start`` for ``seconds``.

    Whoever sends it has to send its headers, too, as they are here. The body is not signed.
    """
    stamp = stamped(start)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    names, lines = _canonical({**request.headers, "host": request.host})
    query = [
        *request.query,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key}/{scope}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(seconds)),
        ("X-Amz-SignedHeaders", names),
    ]
    if credentials.session_token:
        query.append(("X-Amz-Security-Token", credentials.session_token))
    text = encoded(query)
    asked = (request.method, request.path, text, lines, names, UNSIGNED)
    return f"{text}&X-Amz-Signature={_signature(credentials, region, stamp, scope, asked)}"


def stamped(moment: Instant) -> str:
    """The instant as ``20130524T000000Z``; what is under a second is left out."""
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y%m%dT%H%M%SZ")


def encoded(query: Query) -> str:
    """A query in the one spelling that is signed: every byte but the unreserved ones encoded."""
    return "&".join(
        f"{name}={text}"
        for name, text in sorted(
            (quote(name, safe=""), quote(text, safe="")) for name, text in query
        )
    )


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """The names that are signed, and a line for each."""
    found = sorted((name.lower(), " ".join(text.split())) for name, text in headers.items())
    names = ";".join(name for name, _ in found)
    return names, "".join(f"{name}:{text}\n" for name, text in found)


def _signature(
    credentials: Credentials, region: str, stamp: str, scope: str, asked: tuple[str, ...]
) -> str:
    digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    return _mac(_key(credentials.secret_key, stamp[:8], region), text).hex()


@lru_cache(maxsize=16)
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _mac(key, part)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
