"""Copying: bytes that one backend has sound, kept in another one as well.

The same steps as a put's: rows first, then bytes, then live in one durable commit under the
digest's lock, if the blob is still there and gc did not fence the writer off. The source is hashed
as it flows, and a copy counts as verified when it was read back.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from calotype.belonging import marked
from calotype.catalog import Catalog, copies, replicas, settings
from calotype.catalog.backends import MIRROR, PRIMARY
from calotype.catalog.copies import Copy
from calotype.catalog.intents import Intent, NotWritten, intend, withdraw
from calotype.catalog.repeating import repeated
from calotype.digest import CHUNK, Digest
from calotype.errors import CalotypeError, Corrupt, Misconfigured, NotFound, Unavailable
from calotype.giving_up import GivenUp
from calotype.heart import Heart, beating
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.quantities import Size, size

logger = logging.getLogger("calotype.backends")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one digest: ``copied``, ``there``, ``gone``, or why it could not be."""

    digest: Digest
    state: str
    size: int = 0
    error: CalotypeError | None = None


@dataclass(slots=True)
class Pace:
    """At most so many bytes a second, in the long run; None for as many as go. Until it ends."""

    rate: int | None = None
    _started: float = field(default_factory=time.monotonic)
    _sent: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, rate: Size | None) -> Pace:
        """As somebody asked for it; ``Misconfigured`` where nothing would ever be sent."""
        asked = size(rate) if rate is not None else None
        if asked == 0:
            raise Misconfigured(
                "Nothing can be copied at a rate of 0.",
                hint="Give bytes a second, such as 20MB, or leave it out.",
            )
        return cls(asked)

    def sent(self, count: int) -> None:
        """Wait until ``count`` more bytes are due; ``GivenUp`` once none are."""
        self._sent += count
        if self.rate is not None:
            ahead = self._sent / self.rate - (time.monotonic() - self._started)
            self._over.wait(max(0.0, ahead))
        if self._over.is_set():
            raise GivenUp

    def close(self) -> None:
        """Have whoever waits, or sends any more, give up."""
        self._over.set()


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies into one backend, ``to``."""

    catalog: Catalog
    mounts: Mounts
    to: Mount

    def at_once(self, digests: Sequence[Digest]) -> None:
        """Copy what was just put; what fails is left to ``backend copy``, and said in the log."""
        if not self.to.may_try():
            return
        failed: Exception | None
        try:
            failed = self._first_failure(digests)
        except Exception as error:  # the put is acknowledged, whatever became of its copy
            failed = error
        except BaseException:
            self.to.rest()
            raise
        if failed is None:
            self.to.works()
        else:
            self.to.rest()
            logger.warning("no copy in backend %s: %s", self.to.name, failed)

    def _first_failure(self, digests: Sequence[Digest]) -> CalotypeError | None:
        """Copy each, up to the first for which a backend cannot be reached; what failed first."""
        first = None
        for outcome in self.copy(digests):
            first = first or outcome.error
            if isinstance(outcome.error, Unavailable):
                break
        return first

    def copy(
        self, digests: Sequence[Digest], *, verify: bool = False, pace: Pace | None = None
    ) -> Iterator[Outcome]:
        """Copy each digest that has no live and trusted copy there yet.

        ``verify`` reads each one back and compares its hash. Raises what concerns all of them, as
        a backend that cannot be reached; what concerns one digest is in its outcome. Harmless to
        repeat, and beside any number of others.
        """
        pace = pace or Pace()
        require_there(self.catalog, self.to)
        with self.catalog.read() as connection:
            found = copies.live_anywhere(connection, digests)
        for digest in digests:
            mine = [copy for copy in found if copy.blob.digest == digest]
            yield self._one(digest, mine, verify, pace)

    def _one(self, digest: Digest, found: Sequence[Copy], verify: bool, pace: Pace) -> Outcome:
        if any(copy.backend == self.to.name and not copy.suspect for copy in found):
            return Outcome(digest, "there")
        sources = [copy for copy in found if copy.backend != self.to.name and not copy.suspect]
        if not sources:
            error: CalotypeError = NotFound(
                f"No backend has a sound copy of {digest}.",
                hint="Put the file again: that mends it.",
            )
            return self._failed(digest, error)
        for source in self.mounts.best_first(sources):
            try:
                state = self._from(source, verify, pace)
                return Outcome(digest, state, source.blob.size)
            except NotWritten:
                raise _not_written(self.to) from None
            except CalotypeError as failure:
                error = failure
        return self._failed(digest, error)

    def _failed(self, digest: Digest, error: CalotypeError) -> Outcome:
        """What ``error`` came to: nothing, where gc took the blob meanwhile."""
        with self.catalog.read() as connection:
            if copies.blobs(connection, [digest]):
                return Outcome(digest, "failed", error=error)
        return Outcome(digest, "gone")

    def _from(self, source: Copy, verify: bool, pace: Pace) -> str:
        intent = self._intend(source)
        if intent is None:
            return "there"
        try:
            self._send(source, intent, pace)
            if verify:
                self._read_back(intent)
            return "copied" if self._settle(intent) else "gone"
        except BaseException:
            with suppress(CalotypeError), self.catalog.write() as connection:
                withdraw(connection, [intent.token], self.catalog.clock())
            raise

    @repeated
    def _intend(self, source: Copy) -> Intent | None:
        """A row for the bytes to come; None where somebody was faster."""
        blob = source.blob
        upto = marked(self.catalog, self.to)
        with self.catalog.write(durable=False) as connection:
            settings.lock_digests(connection, [blob.digest])
            here = copies.live(connection, [blob.digest], self.to.name)
            if any(not copy.suspect for copy in here):
                return None
            wanted = [(blob.digest, blob.extension, blob.size)]
            roles = (PRIMARY, MIRROR)
            now = self.catalog.clock()
            return intend(connection, self.to.name, wanted, now, roles, marked=upto)[0]

    def _send(self, source: Copy, intent: Intent, pace: Pace) -> None:
        """The bytes from one to the other; a source that is damaged is marked."""
        heart = Heart(self.catalog, [intent])
        mount = self.mounts.named(source.backend)
        try:
            with mount.backend.open(source.key) as file:
                whole = checked(file, source.blob.digest, pace.sent)
                self.to.backend.put(intent.key, beating(whole, heart.beat), source.blob.size)
        except (Corrupt, NotFound):
            require_there(self.catalog, mount)
            with self.catalog.write() as connection:
                replicas.suspect(connection, source.token, self.catalog.clock())
            raise

    def _read_back(self, intent: Intent) -> None:
        with self.to.backend.open(intent.key) as file:
            if Digest.of(file) != intent.digest:
                raise Corrupt(
                    f"{intent.digest} came back otherwise than it was sent to {self.to.url}.",
                    hint="Nothing was changed; copy again, and look at that disk or network.",
                )

    @repeated
    def _settle(self, intent: Intent) -> bool:
        """``writing -> live``, unless the blob went or the writer was fenced off meanwhile."""
        now = self.catalog.clock()
        with self.catalog.write() as connection:
            settings.lock_digests(connection, [intent.digest])
            copies.lock_blobs(connection, [intent.digest])
            there = copies.situation(connection, [intent.digest], self.to.name, [intent.token])
            here = there.copies.get(intent.digest)
            wanted = intent.digest in there.blobs and (here is None or here.suspect)
            if not wanted or intent.token not in there.writing:
                replicas.doom(connection, [intent.token], now)
                return False
            replicas.doom(connection, [here.token] if here is not None else [], now)
            replicas.set_live(connection, [intent.token], now)
            return True


def checked(file: BinaryIO, digest: Digest, sent: Callable[[int], None]) -> BinaryIO:
    """``file``, which ends with ``Corrupt`` unless it hashes to ``digest``; ``sent`` hears of all.

    What it hears are numbers of bytes, as they are read.
    """
    return _Checked(file, digest, sent).file


class _Checked(io.RawIOBase):
    """A file that is hashed as it flows, and whose end comes only if it hashes to its name."""

    def __init__(self, file: BinaryIO, digest: Digest, sent: Callable[[int], None]) -> None:
        self._file = file
        self._digest = digest
        self._sent = sent
        self._sha = hashlib.sha256()

    @property
    def file(self) -> BinaryIO:
        """As a backend reads it."""
        return cast(BinaryIO, io.BufferedReader(self, CHUNK))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        if not data and self._sha.hexdigest() != self._digest:
            raise Corrupt(
                f"{self._digest} is damaged: its bytes do not hash to its name.",
                hint="Put the same file again: that mends it.",
            )
        self._sha.update(data)
        buffer[: len(data)] = data
        self._sent(len(data))
        return len(data)


def _not_written(mount: Mount) -> CalotypeError:
    return NotFound(
        f"Nothing is copied to the backend {mount.name!r} any more.",
        hint="'calotype backend list' shows which there are and what for.",
    )
