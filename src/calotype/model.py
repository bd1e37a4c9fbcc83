"""What Calotype tells its callers: frozen values, nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from calotype.digest import Digest
from calotype.errors import CalotypeError
from calotype.names import Owner

Status = Literal["created", "duplicate", "restored", "healed"]
FindingKind = (
    Literal["orphan", "stray", "foreign", "missing", "corrupt", "leak", "drift", "broken"]
    | Literal["unreachable", "locked", "adopted"]
)
Verdict = Literal["kept", "trash", "garbage", "doomed", "erased", "unknown"]
Metadata = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bytes themselves say.

    ``width`` and ``height`` are pixels as stored in the header (before any EXIF rotation); both are
    None where there are none, the header is broken, or ``bomb`` says that they exceed the limit.
    """

    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None
    bomb: bool = False

    @property
    def is_image(self) -> bool:
        """True for an image whose dimensions could be read, and for SVG."""
        if self.media_type == "image/svg+xml":
            return True
        return self.media_type.startswith("image/") and self.width is not None


@dataclass(frozen=True, slots=True)
class Blob:
    """The immutable bytes that a digest names, and the facts read from them."""

    digest: Digest
    size: int
    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """A scope's record of a blob.

    ``kept`` says for how long it is kept without an owner: ``"library"`` for itself, an instant
    while a hold lasts, or None where only references keep it. ``trashed`` means that nothing
    keeps it any more: it can be restored until its grace ends.
    """

    scope: str
    blob: Blob
    filename: str | None
    metadata: Metadata
    kept: Literal["library"] | datetime | None
    trashed: bool
    references: int
    created_at: datetime
    last_accessed: datetime | None
    access_count: int

    @property
    def digest(self) -> Digest:
        """The digest of its bytes."""
        return self.blob.digest

    @property
    def size(self) -> int:
        """Bytes."""
        return self.blob.size

    @property
    def media_type(self) -> str:
        """The media type read from the bytes."""
        return self.blob.media_type

    @property
    def extension(self) -> str:
        """The extension that belongs to the media type, without a dot; may be empty."""
        return self.blob.extension

    @property
    def width(self) -> int | None:
        """Pixels, or None."""
        return self.blob.width

    @property
    def height(self) -> int | None:
        """Pixels, or None."""
        return self.blob.height


@dataclass(frozen=True, slots=True)
class Reference:
    """One use of an asset by an owner under a role (the digest itself where none was given)."""

    scope: str
    owner: Owner
    role: str
    digest: Digest
    created_at: datetime
    released_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnerSummary:
    """An owner and what its live references come to."""

    owner: Owner
    references: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Put:
    """What a put did.

    ``status`` speaks of this scope's asset alone: ``created``, ``duplicate``, ``restored`` (it
    was in the trash) or ``healed`` (its stored bytes were damaged and are mended).
    """

    digest: Digest
    status: Status
    asset: Asset

    @property
    def blob(self) -> Blob:
        """The blob that the bytes are."""
        return self.asset.blob


@dataclass(frozen=True, slots=True)
class PutFailure:
    """A source that could not be put, and why."""

    source: str
    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, source: str, error: CalotypeError) -> PutFailure:
        """What ``error`` says of that source."""
        return cls(source, error.code, str(error), error.hint)


@dataclass(frozen=True, slots=True)
class PutMany:
    """What a batch put did: how many sources by status, their bytes, and what failed."""

    created: int = 0
    duplicate: int = 0
    restored: int = 0
    healed: int = 0
    bytes: int = 0
    failures: tuple[PutFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """A source that an import would remove: ``now``, or once it is imported (``later``)."""

    when: Literal["now", "later"]
    row: str
    source: str


@dataclass(frozen=True, slots=True)
class Imported(PutMany):
    """What an import did: files by what became of them, files passed over, and what failed.

    ``unchanged`` files were as an earlier import has seen them and were not read; ``bytes`` are
    those of the others. ``special`` is neither file nor folder, or a link to a folder. ``removed``
    are sources of a table that were removed once what was kept of them was verified; a dry run
    removes none, and ``planned`` are the first thousand that it would.
    """

    unchanged: int = 0
    empty: int = 0
    hidden: int = 0
    special: int = 0
    removed: int = 0
    planned: tuple[Removal, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that keeps an asset or blob: ``kind`` is library, hold, reference, column, ..."""

    kind: Literal["library", "hold", "reference", "column", "derivation", "provider", "trash"]
    what: str
    until: datetime | None = None

    def __str__(self) -> str:
        """For people."""
        return f"{self.what} until {self.until:%Y-%m-%d %H:%M:%S}Z" if self.until else self.what


@dataclass(frozen=True, slots=True)
class Discarded:
    """The library entry or hold is over; ``kept_by`` is what still keeps the asset."""

    digest: Digest
    kept_by: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """How many references were let go, and the digests they pointed at."""

    references: int
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """How many references (or the library entry) came back."""

    references: int
    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Replica:
    """One physical copy as ``explain`` shows it."""

    backend: str
    key: str
    state: str
    suspect: bool
    verified_at: datetime | None


@dataclass(frozen=True, slots=True)
class ScopeKeeping:
    """What keeps a digest in one scope; empty ``kept_by`` means the trash until ``until``."""

    scope: str
    kept_by: tuple[Kept, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a digest's bytes are kept, and until when.

    ``verdict`` is one of ``kept``, ``trash`` (with ``until``), ``garbage`` (the next gc takes
    it), ``doomed`` (let go, bytes not yet erased), ``erased`` and ``unknown``.
    """

    digest: Digest
    verdict: Verdict
    blob: Blob | None
    scopes: tuple[ScopeKeeping, ...]
    kept_by: tuple[Kept, ...]
    replicas: tuple[Replica, ...]
    until: datetime | None
    blocked: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What one scope has: visible assets, trash apart, and its quota where there is one."""

    scope: str
    assets: int
    bytes: int
    trashed: int
    trashed_bytes: int
    references: int
    quota: int | None


@dataclass(frozen=True, slots=True)
class UsageDay:
    """A scope's usage on one day (UTC), as gc and puts recorded it."""

    scope: str
    day: str
    assets: int
    bytes: int
    references: int


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing that gc would do: ``doom`` a blob or ``erase`` a key, and why."""

    action: Literal["doom", "erase"]
    digest: Digest
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a gc run did. Doomed and erased bytes are apart: dooming frees nothing yet.

    ``erased`` counts keys, also those of writers that failed before their first byte.
    ``intents`` are writers that vanished, ``temporary`` their files; ``failed`` keys could not
    be erased for now, ``waiting`` ones could not in earlier runs and are tried again within a
    day; ``refused`` digests the database would not let go of.
    """

    plan: str
    assets: int = 0
    references: int = 0
    doomed: int = 0
    doomed_bytes: int = 0
    erased: int = 0
    erased_bytes: int = 0
    intents: int = 0
    temporary: int = 0
    failed: int = 0
    waiting: int = 0
    refused: int = 0
    items: tuple[PlanItem, ...] = ()
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing fsck noticed, and ``action``, what was done about it: empty for nothing."""

    kind: FindingKind
    digest: Digest | None
    backend: str
    key: str
    action: str
    note: str = ""

    @property
    def is_problem(self) -> bool:
        """True where bytes, rows or promises are not as they should be, and were not mended."""
        told = self.kind in ("orphan", "stray", "foreign", "unreachable", "adopted")
        return not told and not self.action.startswith("mended")


@dataclass(frozen=True, slots=True)
class Check:
    """The summary of an fsck: what was looked at, and the findings by kind.

    ``complete`` is False where not all was looked at; ``stopped`` where the budget ended it.
    """

    blobs: int
    objects: int
    read_bytes: int
    findings: Mapping[str, int]
    problems: int
    complete: bool = True
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed URL allows: these bytes of this scope until then."""

    scope: str
    digest: Digest
    expires_at: datetime
    disposition: str | None = None
