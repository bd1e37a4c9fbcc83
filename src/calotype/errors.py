"""Every error Calotype raises: one class a code, the same in Python, command line and HTTP.

CalotypeError
├── NotFound            nothing of that name in this scope
├── AmbiguousPrefix     several digests begin so
├── InvalidDigest       not 64 hexadecimal characters
├── DigestMismatch      the bytes are not those that were announced; nothing was stored
├── Corrupt             bytes or catalog are damaged
├── StillReferenced     something points at it; nothing was changed
├── Blocked             the digest was purged and may not come back
├── TooLarge            over a limit of size
├── QuotaExceeded       over the scope's quota
├── NotAnImage          an image was asked for
├── DecompressionBomb   more pixels than the limit
├── Locked              the catalog is held by another writer
├── EraseLocked         catalog and backend do not belong together; nothing was erased there
├── GcLimit             a run would remove too much; ask again with force
├── Denied              a token or key that does not fit
├── UrlExpired          a signed URL past its end
├── Unavailable         a backend or disk did not do what was asked; try again
├── NoStore             no store at this place
├── SchemaBehind        the catalog is older than this program; nothing was changed
├── SchemaAhead         the catalog is newer than this program; nothing was changed
├── MissingExtra        an optional package is not installed
├── RoleCascades        an application's foreign key would let gc change its rows
├── OpenToWorld         serving without authentication to the world
└── Misconfigured       a setting or argument that cannot be right
"""

from __future__ import annotations

from typing import ClassVar, Self


class CalotypeError(Exception):
    """What went wrong in one sentence, with ``code`` for programs and ``hint`` for people."""

    code: ClassVar[str] = "error"

    of_no_store: bool = False
    """True where no store could be made: whatever else is put meets the same."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotFound(CalotypeError):
    """Nothing of that name is visible in the scope that was looked in."""

    code = "not-found"


class AmbiguousPrefix(CalotypeError):
    """Several digests begin with the prefix."""

    code = "ambiguous-prefix"


class InvalidDigest(CalotypeError, ValueError):
    """The text is not a SHA-256 digest."""

    code = "bad-digest"


class DigestMismatch(CalotypeError):
    """The bytes do not hash to the digest that was announced; nothing was stored."""

    code = "digest-mismatch"


class Corrupt(CalotypeError):
    """Stored bytes are missing or do not hash to their name, or the catalog itself is damaged."""

    code = "corrupt"


class StillReferenced(CalotypeError):
    """A row that Calotype may not touch still points there; nothing was changed."""

    code = "still-referenced"


class Blocked(CalotypeError):
    """The digest was purged and is refused from now on."""

    code = "blocked"


class TooLarge(CalotypeError):
    """More bytes than the limit allows; nothing was stored."""

    code = "too-large"


class QuotaExceeded(CalotypeError):
    """The scope's quota has no room for it; nothing was stored."""

    code = "quota-exceeded"


class NotAnImage(CalotypeError):
    """An image was required and these bytes are none; nothing was stored."""

    code = "not-an-image"


class DecompressionBomb(CalotypeError):
    """The image announces more pixels than the limit; it was not decoded."""

    code = "decompression-bomb"


class Locked(CalotypeError):
    """Another writer holds the catalog; nothing was changed.

    ``gave_way`` is True where a transaction of Calotype's own was rolled back for another one, so
    that the same may succeed at once. ``whole`` is True where nothing else can be written either.
    """

    code = "locked"
    gave_way = False
    whole = False

    @classmethod
    def out(cls, message: str, *, hint: str) -> Self:
        """One that is ``whole``: an SQLite file has one writer at a time, a pool so many."""
        error = cls(message, hint=hint)
        error.whole = True
        return error


class EraseLocked(CalotypeError):
    """A backend's marker, or the catalog's own place, forbids to erase; puts and reads go on."""

    code = "erase-locked"


class GcLimit(CalotypeError):
    """The run would remove more than the safety limit; what it says was removed until then."""

    code = "gc-limit"


class Denied(CalotypeError):
    """A token, key or role that does not allow this."""

    code = "denied"


class UrlExpired(CalotypeError):
    """A signed URL whose time is over."""

    code = "url-expired"


class Unavailable(CalotypeError):
    """A backend, disk or source failed for now; nothing was stored or lost."""

    code = "backend-unreachable"


class NoStore(CalotypeError):
    """There is no store at this place."""

    code = "no-store"


class SchemaBehind(CalotypeError):
    """The catalog's schema is older than this program's; nothing was changed."""

    code = "schema-behind"


class SchemaAhead(CalotypeError):
    """The catalog's schema is newer than this program's; nothing was changed."""

    code = "schema-ahead"


class MissingExtra(CalotypeError):
    """An optional package is needed for this."""

    code = "missing-extra"


class RoleCascades(CalotypeError):
    """A foreign key of the application would let gc change or delete the application's rows."""

    code = "role-cascades"


class OpenToWorld(CalotypeError):
    """Serving beyond this machine without authentication."""

    code = "open-to-world"


class Misconfigured(CalotypeError, ValueError):
    """A setting, argument or combination of them that cannot be right."""

    code = "misconfigured"


def by_code(code: str, message: str, hint: str) -> CalotypeError:
    """The error of that code, as it was told."""
    kinds = {kind.code: kind for kind in CalotypeError.__subclasses__()}
    return kinds.get(code, CalotypeError)(message, hint=hint)
