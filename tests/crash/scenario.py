"""One operation on a prepared store: what the crash points interrupt.

``python -m tests.crash.scenario NAME STORE`` prepares STORE unless it is there, performs the
operation, prints an acknowledgement once it has returned, and closes: for a look under strace.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from calotype import Digest, Store
from calotype.errors import Corrupt
from calotype.quantities import SECOND, Instant, now

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360"
    "60606000000005000186a029d70000000049454e44ae426082"
)
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE

Prepare = Callable[[Path], None]
Act = Callable[[Store], object]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``whole`` says that nobody may ever see a part of it; ``ahead`` sets the store's clock on.

    ``damaged`` are digests whose bytes ``prepare`` spoiled and the operation mends.
    """

    name: str
    prepare: Prepare
    act: Act
    whole: bool = True
    ahead: int = 0
    damaged: tuple[str, ...] = ()

    def store(self, path: Path) -> Store:
        """The store as the operation sees it."""
        return Store(path, clock=ahead(self.ahead))


def ahead(by: int) -> Callable[[], Instant]:
    """A clock that runs ``by`` microseconds ahead of this machine's."""
    return lambda: now() + by


def noise(name: str, size: int = 3000) -> bytes:
    """Bytes that only this name has."""
    return random.Random(name).randbytes(size)


def pieces(name: str, size: int) -> Iterator[bytes]:
    """The same bytes as ``noise`` for each megabyte, one by one, so that put cannot know the end."""
    for number in range(size >> 20):
        yield noise(f"{name} {number}", 1 << 20)


def digest(data: bytes) -> str:
    """Its name."""
    return str(Digest.of(data))


LIBRARY, SHARED, TRASHED, HELD, DOUBLE = (
    noise(each) for each in ("library", "shared", "trashed", "held", "double")
)
NEW = PNG + noise("new")
"""A real extension: sniffed as image/png."""

MANY = [noise(f"many {number}") for number in range(5)]


def _furnished(path: Path) -> None:
    """A store in which there is something of each sort that no operation may harm."""
    with Store(path) as store:
        other = store.scope("other")
        store.set_quota("other", "1 GB")
        store.put(LIBRARY, filename="library.bin")
        store.put(SHARED, owner="scan/1", role="original")
        other.put(SHARED, owner="scan/1", role="original")
        store.put(TRASHED, owner="scan/2")
        store.release("scan/2")
        store.put(HELD, hold="52w")
        other.put(DOUBLE)
        store.put(noise("two of one owner"), owner="scan/3", role="original")
        store.put(noise("the other one"), owner="scan/3", role="annotated")


def _then(*steps: Act) -> Prepare:
    def prepare(path: Path) -> None:
        _furnished(path)
        for step in steps:
            with Store(path) as store:
                step(store)

    return prepare


def _path_of(store: Store, data: bytes) -> Path:
    found = [each for each in store.explain(digest(data)).replicas if each.state == "live"]
    return Path(store.fsck.__self__._rooms.backend.url.removeprefix("file:")) / found[0].key


def _spoil(data: bytes, how: Callable[[Path], None]) -> Act:
    def step(store: Store) -> None:
        path = _path_of(store, data)
        path.chmod(0o600)
        how(path)

    return step


def _flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def _noticed(data: bytes) -> Act:
    def step(store: Store) -> None:
        try:
            store.open(digest(data))
        except Corrupt:
            return
        raise AssertionError("damage was not noticed")

    return step


def _put_new(store: Store) -> object:
    return store.put(NEW, owner="scan/9", role="original", filename="new.png").status


def _put_nine_megabytes(store: Store) -> object:
    return store.put(pieces("nine", 9 << 20), owner="scan/9").status


def _put_many(store: Store) -> object:
    sources: list[bytes | Iterator[bytes]] = [*MANY, MANY[0], LIBRARY, pieces("three", 3 << 20)]
    done = store.put_many(sources, owner="batch/1").result()
    assert not done.failures, done.failures
    return done.created


def _put_in_doubt(store: Store) -> object:
    return store.scope("other").put(LIBRARY, owner="scan/8").status


def _let_go(store: Store) -> None:
    store.release("scan/1")
    store.release("scan/3")
    store.discard(digest(LIBRARY))


def _gc(store: Store) -> object:
    report = store.gc(now=True)
    assert not report.failed, report
    return report.erased


def _dooms_only(store: Store) -> None:
    store.gc(grace=0, erase_delay="1h")


def _gone_and_back(store: Store) -> None:
    store.release("scan/3")
    store.gc(now=True)
    store.put(noise("the other one"), owner="scan/3", role="annotated")
    store.release("scan/3")


def _unfinished(path: Path) -> None:
    """An intent whose writer is gone with its bytes in place, another with a temporary file."""
    from tests.crash import tracing

    _let_go_all = _then(_let_go, _gc, _let_go)
    _let_go_all(path)
    for data, last in ((NEW, "renameat"), (noise("lost"), "fchmod")):
        work = partial(_put_and_close, path, data)
        seen = tracing.trace(partial(_put_and_close, path.with_name("other"), data), path)
        del seen
        _kill_after(path, work, last)


def _put_and_close(path: Path, data: bytes) -> None:
    with Store(path) as store:
        store.put(data, owner="lost/1")


def _kill_after(path: Path, work: Callable[[], None], name: str) -> None:
    from tests.crash import tracing

    raise NotImplementedError
