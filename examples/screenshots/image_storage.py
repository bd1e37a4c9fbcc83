"""ImageStorage: the names that the application's plan uses, each a line or two of Calotype."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from calotype import Digest, Store
from calotype.errors import Misconfigured, NotFound
from examples.screenshots.tables import search_results


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
        """Where an image lies below the folder or bucket of images."""
        digest = Digest.parse(content_hash)
        return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}{extension}"

    def store_image(self, image_data: bytes, content_type: str | None = None) -> str:
        """Keep an image for a day, for a row to name it; its hash.

        The bytes say what it is: ``Misconfigured`` where ``content_type`` says something else.
        """
        kept = self._store.put(image_data, hold="24h", images_only=True)
        if content_type is not None and kept.blob.media_type != content_type:
            raise Misconfigured(
                f"These bytes are {kept.blob.media_type}, not {content_type}.",
                hint="Say what they are, or leave it to the bytes.",
            )
        return kept.digest

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
        return str(self._store.explain(kept.digest).replicas[0].key)

    def get_image_url(self, content_hash: str, expires_in: int = 3600) -> str:
        """A URL of the image: ``file://`` for a folder, signed where the store is served."""
        return self._store.url(content_hash, expires=expires_in)

    def delete_image(self, content_hash: str) -> bool:
        """Let go of an image; True only when its bytes were freed: no row names it any more."""
        self._let_go(content_hash)
        return self._store.gc(digests=[content_hash], now=True).erased > 0

    def find_orphaned_images(self) -> list[str]:
        """Images that no row names and no hold keeps."""
        return [str(blob.digest) for blob in self._store.orphans()]

    def cleanup_orphans(self) -> list[str]:
        """Free the images that were orphaned a while ago; which."""
        report = self._store.gc(full=True)
        return [str(item.digest) for item in report.items if item.action == "erase"]

    def clear_cache(self) -> int:
        """Free every image, whatever names it; how many there were."""
        with Session(self._engine) as session, session.begin():
            session.execute(update(search_results).values(image_hash=None))
        for asset in [*self._store.assets(), *self._store.assets(trashed=True)]:
            self._let_go(asset.digest)
        return self._store.gc(now=True, full=True, force=True).erased

    def rows_of(self, content_hash: str) -> int:
        """How many results show an image."""
        with Session(self._engine) as session:
            mine = search_results.c.image_hash == content_hash
            return session.scalar(select(func.count()).where(mine)) or 0

    def _let_go(self, content_hash: str) -> None:
        try:
            self._store.discard(content_hash)
        except NotFound:
            return
