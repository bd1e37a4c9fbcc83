"""Putting many files: read and hashed on threads, kept in durable batches."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from calotype.errors import CalotypeError, Locked, Unavailable
from calotype.model import Put, PutFailure, PutMany
from calotype.progress import Progress
from calotype.putting import Arrival, Putter
from calotype.staging import Content, Limits, Source, receive
from calotype.wishes import Wish

THREADS = 2
TOGETHER = 4
"""How many sources a thread reads in one go: handing them over one by one costs as much again."""

AHEAD = 4
"""How many such goes are read ahead of the batch being kept."""

IN_MEMORY = 1 << 20
"""Larger files wait on disk; so AHEAD, TOGETHER and BATCH_MEMORY bound the memory."""

BATCH_COUNT = 256
BATCH_MEMORY = 24 << 20
BATCH_DISK = 256 << 20


@dataclass(slots=True)
class _Batch:
    arrivals: list[tuple[str, Arrival]] = field(default_factory=list)
    memory: int = 0
    disk: int = 0

    def add(self, name: str, arrival: Arrival) -> None:
        self.arrivals.append((name, arrival))
        if arrival.content.in_memory:
            self.memory += arrival.content.size
        else:
            self.disk += arrival.content.size

    @property
    def full(self) -> bool:
        return (
            len(self.arrivals) >= BATCH_COUNT
            or self.memory >= BATCH_MEMORY
            or self.disk >= BATCH_DISK
        )


class Bulk:
    """One run of putting many; ``to_wish`` says what is wanted of each received source."""

    def __init__(
        self, putter: Putter, limits: Limits, to_wish: Callable[[Source, Content], Wish]
    ) -> None:
        self._putter = putter
        self._limits = limits
        self._to_wish = to_wish
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._failures: list[PutFailure] = []
        self._broken: Exception | None = None
        self._started = time.monotonic()

    def steps(
        self, sources: Iterable[Source], total: int | None
    ) -> Generator[Progress, None, PutMany]:
        """Put every source; one that fails is noted and never stops the others.

        Each batch is durable when its Progress appears. Stopping early leaves whole batches. An
        error of ``sources`` itself passes once what it gave before is kept; a catalog that cannot
        be used raises before any source is read.
        """
        self._putter.catalog.ensure()
        batch = _Batch()
        with ThreadPoolExecutor(THREADS) as pool:
            received = self._received(pool, sources)
            try:
                for name, arrival in received:
                    batch.add(name, arrival)
                    if batch.full:
                        full, batch = batch, _Batch()
                        self._keep(full)
                        yield self._progress(total)
            except GeneratorExit:
                for _, arrival in batch.arrivals:
                    arrival.content.discard()
                raise
            except BaseException:  # of the list of sources itself: what was read is kept
                self._keep(batch)
                raise
            finally:
                received.close()
            self._keep(batch)
        yield self._progress(total)
        return self._outcome()

    def _received(
        self, pool: ThreadPoolExecutor, sources: Iterable[Source]
    ) -> Generator[tuple[str, Arrival], None, None]:
        waiting: deque[tuple[list[Source], Future[list[Content | Exception]]]] = deque()
        remaining = iter(sources)
        unseen: list[Content | Exception] = []
        try:
            while self._fill(pool, waiting, remaining):
                some, future = waiting.popleft()
                unseen = future.result()[::-1]
                for source in some:
                    if (arrival := self._arrival(source, unseen.pop())) is not None:
                        yield _name(source), arrival
            if self._broken is not None:
                raise self._broken
        finally:
            for _, future in waiting:
                if not future.cancel():
                    unseen += future.result()
            for content in unseen:
                if isinstance(content, Content):
                    content.discard()

    def _arrival(self, source: Source, content: Content | Exception) -> Arrival | None:
        """None for what could not be read or named, which is noted."""
        if isinstance(content, Exception):
            self._fail(_name(source), _unreadable(content))
            return None
        try:
            return Arrival(content, self._to_wish(source, content))
        except CalotypeError as error:
            content.discard()
            self._fail(_name(source), error)
            return None

    def _fill(
        self,
        pool: ThreadPoolExecutor,
        waiting: deque[tuple[list[Source], Future[list[Content | Exception]]]],
        remaining: Iterator[Source],
    ) -> bool:
        while len(waiting) < AHEAD and self._broken is None:
            if not (some := self._taken(remaining)):
                break
            waiting.append((some, pool.submit(self._receive, some)))
        return bool(waiting)

    def _taken(self, remaining: Iterator[Source]) -> list[Source]:
        """Some sources for one thread; those that are in memory already are not heaped up."""
        some: list[Source] = []
        held = 0
        try:
            for source in islice(remaining, TOGETHER):
                some.append(source)
                held += len(source) if isinstance(source, bytes | bytearray | memoryview) else 0
                if held >= IN_MEMORY:
                    break
        except Exception as error:
            self._broken = error
        return some

    def _receive(self, sources: list[Source]) -> list[Content | Exception]:
        return [self._receive_one(source) for source in sources]

    def _receive_one(self, source: Source) -> Content | Exception:
        try:
            return receive(source, self._putter.backend, self._limits, in_memory=IN_MEMORY)
        except Exception as error:
            return error

    def _keep(self, batch: _Batch) -> None:
        done: dict[int, Put] = {}
        try:
            self._putter.put([arrival for _, arrival in batch.arrivals], done)
        except CalotypeError as error:
            rest = [each for number, each in enumerate(batch.arrivals) if number not in done]
            if len(rest) == 1 or isinstance(error, Locked):
                for name, _ in rest:
                    self._fail(name, error)
            else:
                self._one_by_one(rest)
        finally:
            self._note(done.values())
            for _, arrival in batch.arrivals:
                arrival.content.discard()

    def _one_by_one(self, arrivals: Iterable[tuple[str, Arrival]]) -> None:
        for name, arrival in arrivals:
            try:
                self._note(self._putter.put([arrival]))
            except CalotypeError as error:
                self._fail(name, error)

    def _note(self, puts: Iterable[Put]) -> None:
        for put in puts:
            self._counts[put.status] += 1
            self._bytes += put.blob.size

    def _fail(self, name: str, error: CalotypeError) -> None:
        self._failures.append(PutFailure(name, error.code, str(error), error.hint))

    def _progress(self, total: int | None) -> Progress:
        done = self._counts.total()
        computed = done - self._counts["duplicate"]
        failed = len(self._failures)
        each = (time.monotonic() - self._started) / computed if computed else None
        left = total - done - failed if total is not None else None
        return Progress(
            total,
            done + failed,
            skipped=self._counts["duplicate"],
            computed=computed,
            failed=failed,
            bytes=self._bytes,
            seconds_per_item=each,
            eta=each * left if each is not None and left is not None else None,
        )

    def _outcome(self) -> PutMany:
        return PutMany(**self._counts, bytes=self._bytes, failures=tuple(self._failures))


def _unreadable(error: Exception) -> CalotypeError:
    """Whatever a source's own reading raises."""
    if isinstance(error, CalotypeError):
        return error
    why = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return Unavailable(f"Cannot read: {why}.", hint="Look at the file and put it again.")


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return f"<{type(source).__qualname__}>"
