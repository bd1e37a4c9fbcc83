"""Putting many files: taken in ahead, kept in durable batches."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from calotype.catalog.reserve import Freeing
from calotype.errors import CalotypeError, Locked, Unavailable
from calotype.intake import Intake, Pause, Taken, open_files
from calotype.ledger import Line
from calotype.model import PutFailure, PutMany
from calotype.presence import require_there
from calotype.progress import Progress, time_left
from calotype.putting import Arrival, Putter
from calotype.staging import Content
from calotype.wishes import Wish

BATCH_COUNT = 4096
BATCH_OPEN = 256
"""Files held open at most, the sources' own too: of what cannot be read again."""

BATCH_MEMORY = 24 << 20
BATCH_DISK = 512 << 20
BATCH_SECONDS = 2.0
"""After so long a batch is kept, full or not; what is being taken ahead comes on top of that."""

SHORTLY = 0.5
"""Seconds that a part of a batch waits for a lock, where the whole has waited before."""

HARDLY = 0.1
"""The same once ``MANY`` of the batch were held one by one: thousands would take an hour.

Longer than another put's transaction, which holds for a moment what it only shares a lock with.
"""

MANY = 32


S = TypeVar("S")


class Done(NamedTuple, Generic[S]):
    """A source that is durably kept."""

    source: S
    content: Content


Refused = Sequence[tuple[S, CalotypeError]]
"""Sources that failed after all, and why."""


@dataclass(slots=True)
class _Batch(Generic[S]):
    arrivals: list[tuple[S, Arrival]] = field(default_factory=list)
    memory: int = 0
    disk: int = 0
    open: int = 0
    begun: float = 0.0
    may_open: int = field(default_factory=lambda: min(BATCH_OPEN, open_files() // 8))

    def add(self, source: S, arrival: Arrival) -> None:
        if not self.arrivals:
            self.begun = time.monotonic()
        self.arrivals.append((source, arrival))
        self.memory += arrival.content.in_memory
        self.memory += len(source) if isinstance(source, bytes | bytearray | memoryview) else 0
        self.disk += arrival.content.on_disk
        self.open += arrival.content.again is None and arrival.content.on_disk > 0
        self.open += hasattr(source, "fileno")

    @property
    def full(self) -> bool:
        return (
            len(self.arrivals) >= BATCH_COUNT
            or self.open >= self.may_open
            or self.memory >= BATCH_MEMORY
            or self.disk >= BATCH_DISK
            or (bool(self.arrivals) and time.monotonic() - self.begun >= BATCH_SECONDS)
        )

    def discard(self) -> None:
        for _, arrival in self.arrivals:
            arrival.content.discard()


class Bulk(Generic[S]):
    """One run of putting many sources.

    ``receive`` reads one, on a thread; ``wish`` says what is wanted of it; ``kept`` is told what
    each durable batch kept, and answers which of them failed after all; ``name`` is how one that
    fails is listed.
    """

    def __init__(
        self,
        putter: Putter,
        receive: Callable[[S], Content],
        wish: Callable[[S, Content], Wish],
        kept: Callable[[Sequence[Done[S]]], Refused[S]] = lambda _: (),
        name: Callable[[S], str] = lambda source: _name(source),
    ) -> None:
        self._putter = putter
        self._name = name
        self._intake = Intake(putter, receive)
        self._wish = wish
        self._kept = kept
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._failures: list[PutFailure] = []
        self._held = 0
        self._started = time.monotonic()

    def steps(
        self, sources: Iterable[S | Pause], total: int | None
    ) -> Generator[Progress, None, PutMany]:
        """Put every source; one that fails is noted and never stops the others.

        Each batch is durable when its Progress appears; a ``Pause`` among ``sources`` asks for
        one more. Stopping early leaves whole batches. An error of ``sources`` itself passes
        once what it gave before is kept; a catalog that cannot be used, or a folder that is away,
        raises before any source is read. ``Locked``, and no source more, where the catalog as a
        whole is held for too long: by another writer of SQLite, or a pool's connections in use.
        """
        putter = self._putter
        putter.catalog.ensure()
        require_there(putter.catalog, putter.mounts.primary)
        try:
            yield from self._batches(sources, total)
        finally:
            putter.withdraw(freeing=Freeing.REFERENCES)
        yield self._progress(total)
        return self._outcome()

    def _batches(self, sources: Iterable[S | Pause], total: int | None) -> Iterator[Progress]:
        batch = _Batch[S]()
        incoming = self._intake.taken(sources)
        try:
            for taken in incoming:
                if isinstance(taken.source, Pause):
                    yield self._progress(total)
                elif (arrival := self._arrival(taken.source, taken)) is not None:
                    batch.add(taken.source, arrival)
                if batch.full:
                    full, batch = batch, _Batch[S]()
                    self._keep(full)
                    yield self._progress(total)
        except GeneratorExit:
            batch.discard()
            raise
        except BaseException:  # of the list of sources itself: what was read is kept
            self._keep(batch)
            raise
        finally:
            incoming.close()
        self._keep(batch)

    def _arrival(self, source: S, taken: Taken[S]) -> Arrival | None:
        """None for what could not be read or named, which is noted."""
        content = taken.content
        if not isinstance(content, Content):
            self._fail(source, _unreadable(content))
            return None
        try:
            wish = self._wish(source, content)
        except CalotypeError as error:
            content.discard()
            self._intake.forget([content.digest])
            self._fail(source, error)
            return None
        return Arrival(content, wish, taken.copy, taken.probed)

    def _keep(self, batch: _Batch[S]) -> None:
        self._held = 0
        try:
            self._keep_all(batch.arrivals)
        finally:
            self._intake.forget([arrival.content.digest for _, arrival in batch.arrivals])
            batch.discard()

    def _keep_all(
        self,
        arrivals: Sequence[tuple[S, Arrival]],
        *,
        first: bool = True,
        patience: float | None = None,
    ) -> None:
        """Keep them together; where that fails part of them, down to the one that is to blame."""
        done: dict[int, Line] = {}
        try:
            putter = replace(self._putter, patience=patience)
            putter.put([arrival for _, arrival in arrivals], done)
        except CalotypeError as error:
            rest = [each for number, each in enumerate(arrivals) if number not in done]
            self._keep_rest(rest, error, first=first)
        finally:
            if done:
                self._note([(Done(arrivals[n][0], arrivals[n][1].content), done[n]) for n in done])

    def _keep_rest(
        self, rest: Sequence[tuple[S, Arrival]], error: CalotypeError, *, first: bool
    ) -> None:
        """Keep what ``error`` left, in parts; where its disk failed, what waits there goes first.

        Then each part is read again when its turn comes, and finds the room of those before it. Of
        what somebody holds the parts are waited for but shortly, for that was waited for already;
        a catalog that is held as a whole has no turn for any of them: it ends the run.
        """
        held, ailing = isinstance(error, Locked), isinstance(error, Unavailable)
        if isinstance(error, Locked) and error.whole:
            raise error
        if len(rest) == 1 and not (first and ailing):
            self._held += held
            for source, arrival in rest:
                arrival.content.discard()
                self._fail(source, error)
            return
        if ailing:
            for _, arrival in rest:
                arrival.content.let_go()
        for part in _parts(rest):
            short = SHORTLY if self._held < MANY else HARDLY
            self._keep_all(part, first=False, patience=short if held else None)

    def _note(self, done: Sequence[tuple[Done[S], Line]]) -> None:
        """Count what is kept, but for what failed after all."""
        refused = self._kept([each for each, _ in done])
        failed = {id(source) for source, _ in refused}
        for source, error in refused:
            self._fail(source, error)
        lines = [line for each, line in done if id(each.source) not in failed]
        self._counts.update(line.status for line in lines)
        self._bytes += sum(line.size for line in lines)
        for each, _ in done:
            each.content.discard()

    def _fail(self, source: S, error: CalotypeError) -> None:
        self._failures.append(PutFailure.of(self._name(source), error))

    def _progress(self, total: int | None) -> Progress:
        done = self._counts.total()
        computed = done - self._counts["duplicate"]
        failed = len(self._failures)
        each = (time.monotonic() - self._started) / computed if computed else None
        return Progress(
            total,
            done + failed,
            skipped=self._counts["duplicate"],
            computed=computed,
            failed=failed,
            bytes=self._bytes,
            seconds_per_item=each,
            eta=time_left(self._started, done + failed, total),
        )

    def _outcome(self) -> PutMany:
        return PutMany(**self._counts, bytes=self._bytes, failures=tuple(self._failures))


def _parts(arrivals: Sequence[tuple[S, Arrival]]) -> Iterator[Sequence[tuple[S, Arrival]]]:
    """Halves at most, and none with more bytes than may wait in memory; one alone is a part."""
    most = (len(arrivals) + 1) // 2
    part: list[tuple[S, Arrival]] = []
    held = 0
    for each in arrivals:
        size = each[1].content.size
        if part and (len(part) == most or held + size > BATCH_MEMORY):
            yield part
            part, held = [], 0
        part.append(each)
        held += size
    yield part


def _unreadable(error: Exception | None) -> CalotypeError:
    """Whatever a source's own reading raises."""
    if isinstance(error, CalotypeError):
        return error
    why = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    hint = "Look at the file and put it again."
    if isinstance(error, ValueError) and "closed file" in str(error):
        hint = "Sources are taken ahead of their reading: give paths, or files that stay open."
    return Unavailable(f"Cannot read: {why}.", hint=hint)


def _name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return f"<{type(source).__qualname__}>"
