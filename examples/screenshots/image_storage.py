"""ImageStorage: the names that the application's plan uses, each a line or two of Calotype."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from calotype import Digest, Store, media
from calotype.catalog.tables import blob
from calotype.errors import Misconfigured, NotFound, StillReferenced
from calotype.model import Report
from examples.screenshots.tables import search_results

GONE = ("erased", "unknown")


class ImageStorage:
    """Images by their SHA-256, kept once; rows of ``search_results`` keep those that they name.

    ``backend_type`` says what the store was opened on: ``local`` or ``supabase``.
    """

    def __init__(self, engine: Engine, store: Store, backend_type: str = "local") -> None:
        self._engine = engine
        self._store = store
        self._backend_type = backend_type

    def compute_sha256(self, file_path: Path) -> str:
        """The SHA-256 of a file's content."""
        return Digest.of(file_path)

    def get_storage_path(self, content_hash: str, extension: str = ".png") -> str:
        """Where an image lies below the folder or bucket, or where it would be put at first.

        Freed and stored again it has another name, which no late delete of the old one can harm.
        """
        digest = Digest.parse(content_hash)
        for copy in self._store.explain(digest).replicas:
            if copy.state == "live":
                return copy.key
        return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}{extension}"

    def store_image(self, image_data: bytes, content_type: str | None = None) -> str:
        """Keep an image for a day, for a row to name it; its hash.

        The bytes say what it is: ``Misconfigured``, and nothing is stored, where ``content_type``
        says something else.
        """
        found = media.read(image_data, len(image_data)).media_type
        if content_type not in (None, found):
            raise Misconfigured(
                f"These bytes are {found}, not {content_type}.",
                hint="Say what they are, or leave it to the bytes.",
            )
        return self._store.put(image_data, hold="24h", images_only=True).digest

    def store_local(self, source_path: Path, content_hash: str) -> str:
        """Keep a file in the folder; where it lies there."""
        return self._stored("local", source_path, content_hash)

    def store_supabase(self, source_path: Path, content_hash: str) -> str:
        """Keep a file in the Supabase bucket; where it lies there."""
        return self._stored("supabase", source_path, content_hash)

    def _stored(self, kind: str, source_path: Path, content_hash: str) -> str:
        """The store was opened on one backend or another; that is all there is to choose."""
        if self._backend_type != kind:
            raise Misconfigured(
                f"The images are kept in {self._backend_type}, not in {kind}.",
                hint="Open the store there, or call the other method.",
            )
        kept = self._store.put(source_path, hold="24h", expect=content_hash, images_only=True)
        return self.get_storage_path(kept.digest, source_path.suffix)

    def get_image_url(self, content_hash: str, expires_in: int = 3600) -> str:
        """A URL of the image: ``file://`` for a folder, signed where the store is served."""
        return self._store.url(content_hash, expires=expires_in)

    def delete_image(self, content_hash: str) -> bool:
        """Let go of an image; True only when its bytes were freed: no row names it any more."""
        with suppress(NotFound):
            self._store.discard(content_hash)
        return bool(self._freed(self._store.gc(digests=[content_hash], now=True)))

    def find_orphaned_images(self) -> list[str]:
        """Images that no row names and no hold keeps."""
        return [str(each.digest) for each in self._store.orphans()]

    def cleanup_orphans(self, *, force: bool = False) -> list[str]:
        """Free the images that were orphaned a while ago; which.

        ``GcLimit`` where that is a suspicious share of all, unless ``force`` says it was meant.
        """
        return self._freed(self._store.gc(full=True, force=force))

    def clear_cache(self) -> int:
        """Free every image, whatever row, owner or hold keeps it; how many.

        An importer that runs beside it puts its pictures again.
        """
        with Session(self._engine) as session, session.begin():
            session.execute(update(search_results).values(image_hash=None))
            digests = session.scalars(select(blob.c.digest)).all()
        freed = sum(map(self._purged, digests))
        self._store.gc(now=True, full=True, force=True)  # what was let go of before
        return freed

    def _freed(self, report: Report) -> list[str]:
        """Images that are gone, not those of which a second, damaged copy was erased."""
        erased = {str(item.digest): None for item in report.items if item.action == "erase"}
        return [each for each in erased if self._store.explain(each).verdict in GONE]

    def _purged(self, digest: str) -> bool:
        try:
            return self._store.purge(digest, block=False).erased > 0
        except (NotFound, StillReferenced):  # somebody was faster, or links it just now
            return False

    def rows_of(self, content_hash: str) -> int:
        """How many results show an image."""
        with Session(self._engine) as session:
            mine = search_results.c.image_hash == content_hash
            return session.scalar(select(func.count()).where(mine)) or 0
