"""Where a bucket is: its URL read, and the host and the paths at which it is asked."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from typing import NoReturn, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from calotype.backends import tildes
from calotype.errors import Misconfigured
from calotype.masking import masked

FORM = "s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION"

LONGEST_PREFIX = 800
"""Bytes of a prefix: names of objects have 1024 at most."""

SUPABASE = "/storage/v1/s3"
"""Where a Supabase project speaks S3."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,40}")
_QUERY = ("endpoint", "region")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket, and the part of it whose names begin with ``prefix`` (empty, or with a slash).

    ``host`` is as requests name it, with the port where it is not the scheme's own; ``root`` is
    the path of the bucket there, already percent-encoded.
    """

    url: str
    bucket: str
    prefix: str
    region: str
    scheme: str
    host: str
    root: str

    @classmethod
    def read(cls, url: str) -> Self:
        """The place that ``s3://BUCKET/PREFIX?endpoint=&region=`` names; touches nothing.

        Without an endpoint it is Amazon's own in the region, which is AWS_REGION or us-east-1
        unless it is given. Any other endpoint is asked by path: ``http://HOST/BUCKET/...``.
        """
        parts = _split(url)
        if "@" in parts.netloc:
            _refuse(
                "A backend's URL holds no credentials.",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
            )
        bucket = parts.netloc
        if not _BUCKET.fullmatch(bucket):
            _refuse(f"Not the name of a bucket: {masked(bucket)!r}.", f"Write {FORM}.")
        if parts.fragment:
            _refuse("A backend's URL has no '#'.", "Write %23 for one in the prefix.")
        query = _query(parts.query)
        prefix = _prefix(unquote(parts.path))
        region = query.get("region") or _region_around()
        if not _REGION.fullmatch(region):
            _refuse(f"Not the name of a region: {region!r}.", "Write region=us-east-1.")
        given = query.get("endpoint", "")
        scheme, host, root = _at(given, bucket) if given else _at_amazon(bucket, region)
        return cls(_written(bucket, prefix, query), bucket, prefix, region, scheme, host, root)

    @property
    def is_supabase(self) -> bool:
        """True at Supabase's own S3 endpoint, which is one only in part.

        It refuses ``~``, takes no notice of checksums and conditions, and its errors may bear no
        code.
        """
        return f"{SUPABASE}/" in f"{self.root}/"

    def named(self, name: str) -> str:
        """What the object ``name`` is called in the bucket."""
        return self.prefix + (tildes.without(name) if self.is_supabase else name)

    def known(self, name: str) -> str:
        """The name of an object of the bucket as the store knows it: the reverse of ``named``."""
        name = name[len(self.prefix) :]
        return tildes.put_back(name) if self.is_supabase else name

    def path(self, name: str | None) -> str:
        """The encoded path of the object ``name``, or of the bucket itself for None."""
        if name is None:
            return self.root or "/"
        return f"{self.root}/{quote(self.named(name), safe='/')}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        _refuse("Not a backend URL that can be read.", f"Write {FORM}.")


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _QUERY:
            near = difflib.get_close_matches(name, _QUERY, n=1)
            meant = f"Did you mean {near[0]!r}?" if near else "There are 'endpoint' and 'region'."
            _refuse(f"An s3: URL takes no {name[:40]!r}.", meant)
        if name in found:
            _refuse(f"An s3: URL has {name!r} twice.", "Keep one of them.")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if not prefix.isprintable() or len(prefix.encode(errors="replace")) > LONGEST_PREFIX:
        _refuse(
            f"Not a prefix that a name can begin with: {masked(prefix[:80])!r}.",
            f"Write visible characters, {LONGEST_PREFIX} bytes of them at most.",
        )
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        _refuse(
            f"Not a prefix that every service keeps as it is: {prefix!r}.",
            "Leave out empty parts, '.' and '..'.",
        )
    return f"{prefix}/" if prefix else ""


def _region_around() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _at(endpoint: str, bucket: str) -> tuple[str, str, str]:
    parts = _split(endpoint)
    if "@" in parts.netloc:
        _refuse(
            "An endpoint holds no credentials.",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
        )
    try:
        port = parts.port
        name = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        port, name = None, ""
    whole = parts.scheme in _PORTS and _HOST.fullmatch(name) and _PATH.fullmatch(parts.path)
    if not whole or parts.query or parts.fragment:
        _refuse(
            f"Not an endpoint: {masked(endpoint[:200])!r}.",
            "Write endpoint=https://HOST or http://HOST:PORT.",
        )
    host = f"[{name}]" if ":" in name else name
    if port is not None and port != _PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return parts.scheme, host, f"{parts.path.rstrip('/')}/{bucket}"


def _at_amazon(bucket: str, region: str) -> tuple[str, str, str]:
    """By host name where the certificate covers it: it covers no second dot."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket or "_" in bucket or bucket != bucket.lower():
        return "https", f"s3.{region}.{domain}", f"/{bucket}"
    return "https", f"{bucket}.s3.{region}.{domain}", ""


def _written(bucket: str, prefix: str, query: dict[str, str]) -> str:
    """One spelling for each place, so that it is known again."""
    path = f"/{quote(prefix.rstrip('/'))}" if prefix else ""
    asked = "&".join(
        f"{name}={quote(query[name].rstrip('/'), safe=':/[]')}" for name in _QUERY if name in query
    )
    return f"s3://{bucket}{path}{'?' if asked else ''}{asked}"


def _refuse(message: str, hint: str) -> NoReturn:
    raise Misconfigured(message, hint=hint)
