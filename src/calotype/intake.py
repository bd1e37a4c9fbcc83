"""Intake: sources read and hashed on threads, and those that are new laid down; in their order."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Generic, TypeVar

from calotype import publishing
from calotype.catalog.copies import Copy
from calotype.digest import Digest
from calotype.errors import CalotypeError
from calotype.putting import Putter
from calotype.staging import Content

S = TypeVar("S")

THREADS = 2
TOGETHER = 32
"""How many sources a thread takes in one go: handing them over one by one costs as much again."""

AHEAD = 4
"""How many such goes are taken ahead of the batch being kept."""

IN_MEMORY = 1 << 20
"""Larger files wait on disk, whether they are new or not."""

GROUP = 4 << 20
"""So many bytes a thread holds in memory before it asks which of them are new."""


class Pause:
    """Among sources: nothing to take for a moment, and who waits is told so."""


@dataclass(slots=True, eq=False)
class Taken(Generic[S]):
    """A source that was received, or why it was not; None for a pause.

    ``copy`` is the sound copy of it that is here; ``probed`` is False for what an earlier source
    of the same bytes is bringing in.
    """

    source: S | Pause
    content: Content | Exception | None
    copy: Copy | None = None
    probed: bool = False


class Intake(Generic[S]):
    """What is taken in ahead of the batches of one run.

    ``receive`` is called on threads. Bytes that are here already are let go at once; new ones wait
    on the backend's disk.
    """

    def __init__(self, putter: Putter, receive: Callable[[S], Content]) -> None:
        self._putter = putter
        self._receive_one = receive
        self._claimed: set[Digest] = set()
        self._gate = threading.Lock()
        self._broken: Exception | None = None

    def taken(self, sources: Iterable[S | Pause]) -> Generator[Taken[S], None, None]:
        """Every source, in order; an error of ``sources`` itself passes after what it gave."""
        waiting: deque[Future[list[Taken[S]]]] = deque()
        remaining = iter(sources)
        unseen: list[Taken[S]] = []
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                while self._fill(pool, waiting, remaining):
                    unseen = waiting.popleft().result()[::-1]
                    while unseen:
                        yield unseen.pop()
                if self._broken is not None:
                    raise self._broken
            finally:
                for future in waiting:
                    if not future.cancel():
                        unseen += future.result()
                for each in unseen:
                    if isinstance(each.content, Content):
                        each.content.discard()

    def forget(self, digests: Collection[Digest]) -> None:
        """These are kept, or not to be kept: who brings them from now on finds out himself."""
        with self._gate:
            self._claimed.difference_update(digests)

    def _fill(
        self,
        pool: ThreadPoolExecutor,
        waiting: deque[Future[list[Taken[S]]]],
        remaining: Iterator[S | Pause],
    ) -> bool:
        ahead = AHEAD if open_files() > 4 * AHEAD * TOGETHER else 1
        while len(waiting) < ahead and self._broken is None:
            if not (some := self._next(remaining)):
                break
            waiting.append(pool.submit(self._take, some))
        return bool(waiting)

    def _next(self, remaining: Iterator[S | Pause]) -> list[S | Pause]:
        """Some sources for one thread; those that are in memory already are not heaped up."""
        some: list[S | Pause] = []
        held = 0
        try:
            for source in islice(remaining, TOGETHER):
                some.append(source)
                held += len(source) if isinstance(source, bytes | bytearray | memoryview) else 0
                if held >= IN_MEMORY or isinstance(source, Pause):
                    break
        except Exception as error:
            self._broken = error
        return some

    def _take(self, sources: list[S | Pause]) -> list[Taken[S]]:
        """On a thread: receive some sources, group by group."""
        taken: list[Taken[S]] = []
        begin = held = 0
        for source in sources:
            content = None if isinstance(source, Pause) else self._receive(source)
            taken.append(Taken(source, content))
            held += content.in_memory if isinstance(content, Content) else 0
            if held >= GROUP:
                self._sort_out(taken[begin:])
                begin, held = len(taken), 0
        self._sort_out(taken[begin:])
        return taken

    def _receive(self, source: S) -> Content | Exception:
        try:
            return self._receive_one(source)
        except Exception as error:
            return error

    def _sort_out(self, group: list[Taken[S]]) -> None:
        """Let go of what is here or on its way, and lay the rest down."""
        contents = [each.content for each in group if isinstance(each.content, Content)]
        new, here, probed = self._claim(contents)
        laying: list[Taken[S]] = []
        for each in group:
            if not isinstance(each.content, Content):
                continue
            each.copy = here.get(each.content.digest)
            each.probed = each.copy is not None or (probed and each.content in new)
            if each.content in new:
                laying.append(each)
            else:
                each.content.let_go()
        self._lay_down(laying)

    def _lay_down(self, new: list[Taken[S]]) -> None:
        """What can be read again rests, the others are held open; together, or else one by one."""
        resting = [each for each in new if self._is_had(each)]
        try:
            publishing.rest(self._putter.backend, [_content(each) for each in resting])
        except Exception:
            resting = []
        for each in new:
            if each not in resting and isinstance(each.content, Content):
                try:
                    each.content.lay_down(self._putter.backend)
                except Exception as error:
                    self._spoil(each, error)

    def _is_had(self, each: Taken[S]) -> bool:
        """True for bytes that are at hand and can be read again; those let go are had first."""
        content = _content(each)
        try:
            content.recall()
        except Exception as error:
            self._spoil(each, error)
            return False
        return content.again is not None

    def _spoil(self, each: Taken[S], error: Exception) -> None:
        content = _content(each)
        content.discard()
        self.forget([content.digest])
        each.content = error

    def _claim(self, contents: Sequence[Content]) -> tuple[set[Content], dict[str, Copy], bool]:
        """Those that are ours to bring in, the copies of those that are here, and if that is known.

        Bytes that an earlier source brings in are neither. Where they could not be looked for, the
        put looks again, and says why not.
        """
        wanted = {content.digest for content in contents}
        with self._gate:
            ours = wanted - self._claimed
            self._claimed |= ours
        here, probed = dict[str, Copy](), True
        try:
            here = self._putter.probe(ours)
        except CalotypeError:
            probed = False
        self.forget(ours.intersection(here))
        ours.difference_update(here)
        first = {content.digest: content for content in reversed(contents)}
        return {first[digest] for digest in ours}, here, probed


@cache
def open_files() -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return 8192
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _content(each: Taken[S]) -> Content:
    assert isinstance(each.content, Content)
    return each.content
