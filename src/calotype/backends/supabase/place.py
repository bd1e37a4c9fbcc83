"""Places: the bucket and folder that a URL names, what objects are called there, and the key."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from calotype.backends import Key, tildes
from calotype.errors import Denied, Misconfigured

BASE = "/storage/v1"
VARIABLE = "CALOTYPE_SUPABASE_KEY"
ROLE = "service_role"
GIVE_KEY = (
    f"Set {VARIABLE} (or {VARIABLE}_FILE) to the project's service_role key or a secret key, "
    "sb_secret_...; the dashboard has it under Settings, API keys."
)
_SCHEMES = {"supabase": "https", "supabase+http": "http", "supabase+https": "https"}
_FORM = "Write supabase://PROJECT/BUCKET/PREFIX, or supabase+https://HOST/BUCKET/PREFIX?base="
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]+")
_PROJECT = re.compile(r"[a-z0-9-]{1,63}")
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|[0-9a-f:.]*:[0-9a-f:.]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of a bucket.

    ``url`` is what configuration says, in one spelling; ``endpoint`` is where the service answers,
    without a slash at its end; ``prefix`` is empty or ends with one.
    """

    url: str
    endpoint: str
    bucket: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> Self:
        """The place that ``url`` names; ``Misconfigured`` where it is none, without repeating it.

        ``supabase://PROJECT/BUCKET[/PREFIX]`` is a project of supabase.com, and
        ``supabase+http(s)://HOST[:PORT]/BUCKET[/PREFIX][?base=/storage/v1]`` any other server.
        """
        parts = _split(url)
        bucket, *folders = _segments(parts.path)
        base = _base(parts)
        scheme = _SCHEMES[parts.scheme]
        hosted = parts.scheme == "supabase"
        if hosted and not _PROJECT.fullmatch(parts.netloc):
            raise Misconfigured(
                "A Supabase project is named by its reference: lower-case letters and digits.",
                hint=f"{_FORM}{BASE}.",
            )
        host = f"{parts.netloc}.supabase.co" if hosted else parts.netloc
        path = "/".join([parts.netloc, bucket, *folders])
        query = "" if base == BASE else f"?base={base}"
        prefix = "".join(f"{each}/" for each in folders)
        return cls(f"{parts.scheme}://{path}{query}", f"{scheme}://{host}{base}", bucket, prefix)

    def name(self, key: Key) -> str:
        """What the object is called in the bucket."""
        return self.prefix + tildes.without(str(key))

    def known(self, name: str) -> str:
        """The name of an object of the bucket as the store knows it: the reverse of ``name``."""
        return tildes.put_back(name.removeprefix(self.prefix))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts = parts._replace(netloc=parts.netloc.lower())
        _ = parts.port
    except ValueError:
        raise Misconfigured("The backend's URL is malformed.", hint=f"{_FORM}{BASE}.") from None
    if "@" in parts.netloc:
        raise Misconfigured("A key does not belong in the backend's URL.", hint=GIVE_KEY)
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or len(host) > 250 or parts.fragment:
        raise Misconfigured(
            "The backend's URL does not say which project, bucket and folder.",
            hint=f"{_FORM}{BASE}.",
        )
    return parts


def _segments(path: str) -> list[str]:
    segments = unquote(path).strip("/").split("/")
    for each in segments:
        if not _SEGMENT.fullmatch(each):
            raise Misconfigured(
                f"Not a bucket or folder that can be used: {each!r}."
                if each
                else "The backend's URL names no bucket, or an empty folder.",
                hint="Name them with letters, digits, '.', '_' and '-'.",
            )
    return segments


def _base(parts: SplitResult) -> str:
    options = parse_qsl(parts.query, keep_blank_values=True)
    for name, _ in options:
        if name != "base" or parts.scheme == "supabase":
            raise Misconfigured(
                f"A {parts.scheme} URL has no option {name!r}.", hint=f"{_FORM}{BASE}."
            )
    base = dict(options).get("base", BASE).strip("/")
    if not all(_SEGMENT.fullmatch(each) for each in base.split("/") if base):
        raise Misconfigured(f"Not a path: base={base!r}.", hint=f"Write base={BASE}.")
    return f"/{base}" if base else ""


def service_key(environ: Mapping[str, str] = os.environ) -> str:
    """The key that ``CALOTYPE_SUPABASE_KEY`` holds, or the file in ``..._KEY_FILE``.

    ``Misconfigured`` where there is none; ``Denied`` for a key that row-level security binds, for
    what such a key may not see is answered as missing.
    """
    key = (environ.get(VARIABLE) or _read(environ.get(f"{VARIABLE}_FILE", ""))).strip()
    if not key:
        raise Misconfigured("There is no key for Supabase Storage.", hint=GIVE_KEY)
    if not re.fullmatch(r"[!-~]+", key):
        raise Misconfigured(f"{VARIABLE} is not a key: it has spaces in it.", hint=GIVE_KEY)
    role = _role(key)
    if role != ROLE:
        raise Denied(
            f"{VARIABLE} is a key of the role {role!r}, which does not see every object.",
            hint=GIVE_KEY,
        )
    return key


def _read(path: str) -> str:
    try:
        return Path(path).read_text() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"{VARIABLE}_FILE names a file that cannot be read: {error}.",
            hint="Correct its path, or its permissions.",
        ) from None


def _role(key: str) -> str:
    """The role that the key says it has; a JWT says so, or a publishable key by its prefix."""
    if key.startswith("sb_publishable_"):
        return "anon"
    try:
        payload = key.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims.get("role", ROLE))
    except (IndexError, ValueError, AttributeError):
        return ROLE
