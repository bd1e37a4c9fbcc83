"""Names that callers give: owners, scopes, roles, files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from calotype.errors import Misconfigured

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who refers to an asset: ``kind/id``, split at the first slash."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        """Refuse what could not be written as ``kind/id`` and read back."""
        if not (self.kind and self.id) or "/" in self.kind:
            raise Misconfigured(
                f"Not an owner: {f'{self.kind}/{self.id}'!r}.",
                hint="Write kind/id, for example scan/9 or dataset/7.",
            )
        plain(f"{self.kind}/{self.id}", "owner")

    @classmethod
    def parse(cls, text: str | Owner) -> Owner:
        """Read ``scan/9``; an id may hold further slashes."""
        if isinstance(text, Owner):
            return text
        kind, slash, ident = str(text).partition("/")
        if not (kind and slash and ident):
            raise Misconfigured(
                f"Not an owner: {text!r}.", hint="Write kind/id, for example scan/9 or dataset/7."
            )
        return cls(kind, ident)

    def __str__(self) -> str:
        """The owner as it is written."""
        return f"{self.kind}/{self.id}"


def plain(text: str, what: str) -> str:
    """Refuse names that no catalog could carry: empty, overlong, NUL, lone surrogates."""
    given: object = text
    if not isinstance(given, str):
        raise Misconfigured(f"Not a usable {what}: {given!r:.80}.", hint="Give it as a str.")
    if not text or len(text) > 1024 or "\x00" in text:
        raise Misconfigured(
            f"Not a usable {what}: {text[:80]!r}.", hint="Give 1 to 1024 characters without NUL."
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misconfigured(
            f"Not a usable {what}: {text[:80]!r} is not valid Unicode.",
            hint="Give it in UTF-8.",
        ) from None
    return text


def header(text: str, what: str) -> str:
    """Refuse what would end a line of an HTTP answer, or is no usable name."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise Misconfigured(
            f"Not a usable {what}: {text[:80]!r} has control characters.",
            hint="Leave out line breaks and the like.",
        )
    return plain(text, what)


def role_name(role: str | None, digest: str) -> str | None:
    """A role that can be written; one that is a digest is the set's own slot of that digest."""
    if role is None or role == digest:
        return role
    if len(plain(role, "role")) == 64 and _DIGEST.fullmatch(role):
        raise Misconfigured(
            f"A role that is another file's digest: {role[:12]}.",
            hint="Leave the role away: without one an owner has a set.",
        )
    return role


def file_name(filename: str | None) -> str | None:
    """Names are text, never paths; bytes that are not UTF-8 are written as escapes (``\\xff``)."""
    if filename is not None and not isinstance(filename, str):
        raise Misconfigured(
            f"Not a usable file name: a {type(filename).__qualname__}.",
            hint="Give text, such as the .name of a Path.",
        )
    return plain(escaped(filename), "file name") if filename else None


def escaped(text: str) -> str:
    """``text`` with what is no Unicode as escapes: bytes of a file name, lone surrogates."""
    try:
        raw = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raw = text.encode(errors="backslashreplace")
    return raw.decode(errors="backslashreplace")
