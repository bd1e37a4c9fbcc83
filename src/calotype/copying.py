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
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from calotype.belonging import marked
from calotype.catalog import Catalog, copies, replicas, settings
from calotype.catalog.backends import MIRROR, PRIMARY
from calotype.catalog.copies import Copy, Situation
from calotype.catalog.intents import Intent, NotWritten, intend, withdraw
from calotype.catalog.repeating import repeated
from calotype.digest import CHUNK, Digest
from calotype.errors import CalotypeError, Corrupt, Misconfigured, NotFound, Unavailable
from calotype.giving_up import GivenUp
from calotype.heart import Heart, beating
from calotype.model import Blob
from calotype.mounting import Mount, Mounts
from calotype.presence import require_there
from calotype.quantities import Size, size

logger = logging.getLogger("calotype.backends")

TOGETHER = 24
"""Files whose rows share their transactions: each by itself takes ten times as long."""

BYTES = 8 << 20
"""The same in bytes: a copy that is killed sends them again."""


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
class _Wanted:
    """A blob to be copied, and sound copies of it elsewhere, the best first."""

    blob: Blob
    sources: Sequence[Copy]


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
        found: dict[str, list[Copy]] = {digest: [] for digest in digests}
        with self.catalog.read() as connection:
            for copy in copies.live_anywhere(connection, digests):
                found[copy.blob.digest].append(copy)
        wanted = []
        for digest, live in found.items():
            sound = [copy for copy in live if not copy.suspect]
            if any(copy.backend == self.to.name for copy in sound):
                yield Outcome(Digest.known(digest), "there")
            elif not sound:
                yield self._failed(Digest.known(digest), _nowhere(digest))
            else:
                wanted.append(_Wanted(sound[0].blob, self.mounts.best_first(sound)))
        for part in _parts(wanted, pace):
            yield from self._together(part, verify, pace)

    def _together(self, wanted: Sequence[_Wanted], verify: bool, pace: Pace) -> Iterator[Outcome]:
        """Copy each from its first source, with one transaction before all and one after.

        What fails on its way takes none of the others along: it is tried from its next source.
        """
        try:
            open_ = self._intend([each.blob for each in wanted])
        except NotWritten:
            raise _not_written(self.to) from None
        except CalotypeError as error:
            yield from self._apart(wanted, error, verify, pace)
            return
        heart = Heart(self.catalog, list(open_.values()))
        sent: list[tuple[Blob, Intent]] = []
        try:
            for each in wanted:
                intent = open_.get(each.blob.digest)
                if intent is None:
                    yield Outcome(each.blob.digest, "there")
                    continue
                try:
                    self._send(each.sources[0], intent, heart, pace)
                    if verify:
                        self._read_back(intent)
                    sent.append((each.blob, intent))
                except CalotypeError as error:
                    yield from self._settled(sent, open_)
                    sent = []
                    self._withdraw([open_.pop(each.blob.digest)])
                    yield from self._elsewhere(each, error, verify, pace)
            yield from self._settled(sent, open_)
        finally:
            self._withdraw(list(open_.values()))

    def _apart(
        self, wanted: Sequence[_Wanted], error: CalotypeError, verify: bool, pace: Pace
    ) -> Iterator[Outcome]:
        """Each by itself, where together they failed; one that was by itself has failed."""
        if len(wanted) == 1:
            yield self._failed(wanted[0].blob.digest, error)
            return
        for each in wanted:
            yield from self._together([each], verify, pace)

    def _elsewhere(
        self, wanted: _Wanted, error: CalotypeError, verify: bool, pace: Pace
    ) -> Iterator[Outcome]:
        """From its next source, where it has one."""
        others = wanted.sources[1:]
        if not others:
            yield self._failed(wanted.blob.digest, error)
            return
        yield from self._together([replace(wanted, sources=others)], verify, pace)

    def _failed(self, digest: Digest, error: CalotypeError) -> Outcome:
        """What ``error`` came to: nothing, where gc took the blob meanwhile."""
        with self.catalog.read() as connection:
            if copies.blobs(connection, [digest]):
                return Outcome(digest, "failed", error=error)
        return Outcome(digest, "gone")

    @repeated
    def _intend(self, blobs: Sequence[Blob]) -> dict[str, Intent]:
        """Rows for the bytes to come, by digest; none for those where somebody was faster."""
        upto = marked(self.catalog, self.to)
        digests = [blob.digest for blob in blobs]
        with self.catalog.write(durable=False, rows=len(blobs)) as connection:
            settings.lock_digests(connection, digests)
            live = copies.live(connection, digests, self.to.name)
            here = {copy.blob.digest for copy in live if not copy.suspect}
            wanted = [
                (blob.digest, blob.extension, blob.size)
                for blob in blobs
                if blob.digest not in here
            ]
            roles = (PRIMARY, MIRROR)
            now = self.catalog.clock()
            made = intend(connection, self.to.name, wanted, now, roles, marked=upto)
        return {intent.digest: intent for intent in made}

    def _send(self, source: Copy, intent: Intent, heart: Heart, pace: Pace) -> None:
        """The bytes from one to the other; a source that is damaged is marked."""
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

    def _settled(
        self, sent: Sequence[tuple[Blob, Intent]], open_: dict[str, Intent]
    ) -> list[Outcome]:
        """What became of bytes that were sent; where they fail together, of each by itself."""
        intents = [intent for _, intent in sent]
        try:
            became = self._settle(intents) if sent else {}
        except CalotypeError as error:
            if len(sent) > 1:
                return [each for one in sent for each in self._settled([one], open_)]
            (intent,) = intents
            self._withdraw([open_.pop(intent.digest)])
            return [self._failed(intent.digest, error)]
        for intent in intents:
            del open_[intent.digest]
        return [Outcome(blob.digest, became[blob.digest], blob.size) for blob, _ in sent]

    @repeated
    def _settle(self, intents: Sequence[Intent]) -> dict[str, str]:
        """``writing -> live``, unless a blob went or its writer was fenced off; what each became.

        Where somebody was faster it is ``there``.
        """
        now = self.catalog.clock()
        digests, tokens = [each.digest for each in intents], [each.token for each in intents]
        with self.catalog.write(rows=len(intents)) as connection:
            settings.lock_digests(connection, digests)
            copies.lock_blobs(connection, digests)
            there = copies.situation(connection, digests, self.to.name, tokens)
            became = {each.digest: _became(each, there) for each in intents}
            kept = [each.token for each in intents if became[each.digest] == "copied"]
            late = [each.token for each in intents if became[each.digest] != "copied"]
            bad = [
                old.token for old in there.copies.values() if became[old.blob.digest] == "copied"
            ]
            replicas.doom(connection, [*late, *bad], now)
            replicas.set_live(connection, kept, now)
        return {str(digest): state for digest, state in became.items()}

    def _withdraw(self, intents: Sequence[Intent]) -> None:
        if intents:
            with suppress(CalotypeError), self.catalog.write() as connection:
                withdraw(connection, [each.token for each in intents], self.catalog.clock())


def _parts(wanted: Sequence[_Wanted], pace: Pace) -> Iterator[Sequence[_Wanted]]:
    """First one alone, for the place may be away; then as many as may be lost together."""
    most = BYTES if pace.rate is None else min(BYTES, pace.rate)
    part: list[_Wanted] = []
    count, size = 1, 0
    for each in wanted:
        if part and (len(part) == count or size + each.blob.size > most):
            yield part
            part, count, size = [], TOGETHER, 0
        part.append(each)
        size += each.blob.size
    if part:
        yield part


def _became(intent: Intent, there: Situation) -> str:
    old = there.copies.get(intent.digest)
    if intent.digest in there.blobs and old is not None and not old.suspect:
        return "there"
    sound = intent.digest in there.blobs and intent.token in there.writing
    return "copied" if sound else "gone"


def _nowhere(digest: str) -> CalotypeError:
    return NotFound(
        f"No backend has a sound copy of {digest}.", hint="Put the file again: that mends it."
    )


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
