"""Signatures beside those that botocore makes, and beside Amazon's own example."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs
from hypothesis import example, given
from hypothesis import strategies as st

from calotype.backends.s3 import sigv4
from calotype.backends.s3.sigv4 import Credentials, Request
from calotype.errors import Misconfigured
from calotype.quantities import SECOND, at

MOMENT = datetime(2013, 5, 24, 0, 0, 0, tzinfo=UTC)
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TEMPORARY = Credentials("AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+x=", "token/with+odd=chars==")

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
HEADER = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
PATH = st.lists(TEXT.filter(lambda part: part not in ("", ".", "..")), min_size=1, max_size=4)


class Clock(datetime):
    """botocore's, standing still."""

    @classmethod
    def utcnow(cls):
        return MOMENT.replace(tzinfo=None)

    @classmethod
    def now(cls, tz=None):
        return MOMENT if tz else MOMENT.replace(tzinfo=None)


def at_the_moment():
    """botocore asks for the time in its own function since 1.40, and of datetime before."""
    if hasattr(botocore.auth, "get_current_datetime"):
        return patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: Clock.utcnow())
    return patch.object(botocore.auth.datetime, "datetime", Clock)


def theirs(request: Request, body: bytes) -> AWSRequest:
    query = sigv4.encoded(request.query)
    url = f"https://{request.host}{request.path}{'?' if query else ''}{query}"
    return AWSRequest(request.method, url, headers=dict(request.headers), data=body)


def their_credentials(ours: Credentials) -> Theirs:
    return Theirs(ours.access_key, ours.secret_key, ours.session_token or None)


def test_amazons_example_of_a_presigned_url():
    """From "Authenticating Requests: Using Query Parameters" of the S3 reference."""
    request = Request("GET", "examplebucket.s3.amazonaws.com", "/test.txt")
    query = sigv4.presigned(request, EXAMPLE, "us-east-1", at(MOMENT), 86400)
    assert parse_qs(query)["X-Amz-Signature"] == [
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    ]


def test_amazons_example_of_a_header():
    """From "Authenticating Requests: Using the Authorization Header"."""
    request = Request(
        "GET", "examplebucket.s3.amazonaws.com", "/test.txt", (), {"Range": "bytes=0-9"}
    )
    headers = sigv4.signed(request, EXAMPLE, "us-east-1", sigv4.NO_BYTES, at(MOMENT))
    assert headers["authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@given(
    parts=PATH,
    query=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    headers=st.dictionaries(st.sampled_from(["Range", "x-amz-meta-a", "content-type"]), HEADER),
    body=st.binary(max_size=50),
    ours=st.sampled_from([EXAMPLE, TEMPORARY]),
)
@example(parts=["a"], query={"0": "", "00": ""}, headers={}, body=b"", ours=EXAMPLE)
def test_a_signed_header_is_botocores(parts, query, headers, body, ours):
    from urllib.parse import quote

    path = "/" + quote("/".join(parts), safe="/~")
    method = "PUT" if body else "GET"
    request = Request(method, "bucket.example:8333", path, tuple(query.items()), headers)
    payload = hashlib.sha256(body).hexdigest()
    made = sigv4.signed(request, ours, "eu-west-1", payload, at(MOMENT))
    other = theirs(request, body)
    other.headers["X-Amz-Content-SHA256"] = payload
    with at_the_moment():
        S3SigV4Auth(their_credentials(ours), "s3", "eu-west-1").add_auth(other)
    assert made["authorization"] == other.headers["Authorization"]
    assert made["x-amz-date"] == other.headers["X-Amz-Date"]
    assert made.get("x-amz-security-token") == other.headers.get("X-Amz-Security-Token")


@given(
    parts=PATH,
    type_=HEADER,
    disposition=TEXT,
    seconds=st.integers(1, 604_800),
    ours=st.sampled_from([EXAMPLE, TEMPORARY]),
)
def test_a_presigned_url_is_botocores(parts, type_, disposition, seconds, ours):
    from urllib.parse import quote

    path = "/" + quote("/".join(parts), safe="/~")
    query = (("response-content-type", type_), ("response-content-disposition", disposition))
    request = Request("GET", "bucket.example", path, query)
    made = sigv4.presigned(request, ours, "eu-west-1", at(MOMENT), seconds)
    other = theirs(request, b"")
    with at_the_moment():
        S3SigV4QueryAuth(their_credentials(ours), "s3", "eu-west-1", seconds).add_auth(other)
    assert pairs(made) == pairs(urlsplit(other.url).query)


@pytest.mark.parametrize("ours", [EXAMPLE, TEMPORARY])
def test_a_presigned_put_is_botocores(ours):
    headers = {"Content-Length": "12", "Content-Type": "image/png", "x-amz-checksum-sha256": "abc="}
    request = Request("PUT", "bucket.example", "/a/b~c.png", (), headers)
    made = sigv4.presigned(request, ours, "eu-west-1", at(MOMENT), 60)
    other = theirs(request, b"")
    with at_the_moment():
        S3SigV4QueryAuth(their_credentials(ours), "s3", "eu-west-1", 60).add_auth(other)
    assert pairs(made) == pairs(urlsplit(other.url).query)
    signed = parse_qs(made)["X-Amz-SignedHeaders"]
    assert signed == ["content-length;content-type;host;x-amz-checksum-sha256"]


def pairs(query: str) -> dict[str, list[str]]:
    return parse_qs(query, keep_blank_values=True, strict_parsing=True)


def test_what_is_under_a_second_changes_nothing():
    request = Request("GET", "bucket.example", "/a")
    made = sigv4.presigned(request, EXAMPLE, "eu-west-1", at(MOMENT), 60)
    assert made == sigv4.presigned(request, EXAMPLE, "eu-west-1", at(MOMENT) + SECOND - 1, 60)
    assert made != sigv4.presigned(request, EXAMPLE, "eu-west-1", at(MOMENT) + SECOND, 60)


def test_no_secret_is_in_what_represents_it():
    assert "wJalr" not in repr(TEMPORARY)
    assert "token" not in repr(TEMPORARY).replace("session_token", "")


def test_credentials_are_those_of_the_environment(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Misconfigured, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY not set"):
        Credentials.around()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", " id\n")
    with pytest.raises(Misconfigured, match="AWS_SECRET_ACCESS_KEY not set"):
        Credentials.around()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret\n")
    assert Credentials.around() == Credentials("id", "secret", "")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert Credentials.around() == Credentials("id", "secret", "token")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "to\nken")
    with pytest.raises(Misconfigured, match="AWS_SESSION_TOKEN holds") as told:
        Credentials.around()
    assert "ken" not in str(told.value).replace("AWS_SESSION_TOKEN", "")
