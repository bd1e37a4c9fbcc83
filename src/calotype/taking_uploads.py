"""Taking uploads: what a scope offers to clients that send bytes past this process."""

from __future__ import annotations

from collections.abc import Mapping

from calotype.digest import Digest
from calotype.model import Put
from calotype.moving_in import MovesIn
from calotype.names import Owner
from calotype.quantities import Duration
from calotype.uploading import Upload
from calotype.wishes import Wish, wish


class TakesUploads(MovesIn):
    """The direct uploads of a scope; a part of ``Scope``."""

    def direct_upload(self, sha256: str, size: int, media_type: str) -> Upload:
        """Admit a client to send a file to S3 or Supabase Storage itself.

        He PUTs its ``size`` bytes to the ``url`` with the ``headers``, for which there are two
        hours; then ``complete(id)`` keeps it. A file that the scope has already is not sent at
        all: ``url`` is None, and ``complete`` answers at once. ``media_type`` is what the client
        takes it for; what it is kept as is read from its bytes. ``Misconfigured`` where the
        backend takes no uploads, ``QuotaExceeded``, ``TooLarge`` and ``Blocked`` as in a put.
        """
        return self._rooms.uploader(self._name).ask(Digest.parse(sha256), size, media_type)

    def complete(
        self,
        id: str,
        owner: str | Owner | None = None,
        role: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, object] | None = None,
        hold: Duration | None = None,
    ) -> Put:
        """Keep the file of a direct upload, once its bytes are verified; as ``put`` does.

        ``DigestMismatch`` for other bytes, and ``UrlExpired`` for an upload that is over: nothing
        is stored, and a new one has to be asked for. ``NotFound`` where the bytes have not arrived
        yet, or there is no such upload. Harmless to repeat for a day: the first one counts, and
        the others answer as it did.
        """

        def asked(digest: Digest) -> Wish:
            return wish(
                digest,
                self._rooms.catalog.clock(),
                owner=owner,
                role=role,
                filename=filename,
                metadata=metadata,
                hold=hold,
            )

        done = self._rooms.uploader(self._name).complete(id, asked)
        self._rooms.trend.note(self._name)
        return done
