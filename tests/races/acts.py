"""What each member of a crowd does: functions that another process can find by their name."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

from tests.combinations import Combination

from calotype import Digest, Store
from calotype.errors import Blocked, NotFound, QuotaExceeded

FORK_LIMIT = 60
"""Seconds after which a forked child counts as hung."""


def noise(name: str, size: int = 5000) -> bytes:
    return random.Random(name).randbytes(size)


def put(place: str, scope: str, name: str, owner: str | None, size: int = 5000) -> str:
    """The status, or the code of the refusal."""
    with Store(place) as store:
        try:
            return store.scope(scope).put(noise(name, size), owner=owner).status
        except QuotaExceeded as refusal:
            return refusal.code


def attach_to_slot(place: str, name: str) -> None:
    with Store(place) as store:
        for _ in range(10):
            store.attach(store.put(noise(name)).digest, "scan/1", "original")


def release_and_restore(place: str, release: bool) -> None:
    with Store(place) as store:
        for _ in range(20):
            if release:
                store.release("scan/1")
            else:
                store.restore(owner="scan/1")


def put_in_a_fork(place: str, number: int) -> int:
    """The exit status of a child that inherits an open store and puts, while its parent does."""
    with Store(place) as store:
        store.put(noise(f"parent {number}"))
        child = os.fork()
        if child == 0:
            try:
                store.put(noise(f"child {number}"))
                store.close()
            except BaseException:
                os._exit(1)
            os._exit(0)
        status = _status_of(child)
        with store.open(store.put(noise(f"parent {number}")).digest) as file:
            assert file.read() == noise(f"parent {number}")
        return status


def _status_of(child: int) -> int:
    """How it ended; by a kill where it does not end by itself."""
    until = time.monotonic() + FORK_LIMIT
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


BYTES = noise("tight")
"""What the users of the tight loop put, and let go of."""


def either(kind: str, where: Combination, number: int, until: float) -> Counter[str]:
    """``collect`` or ``use``, until the monotonic clock says ``until``; what was done, counted."""
    return collect(where, until) if kind == "collect" else use(where, number, until)


def collect(where: Combination, until: float) -> Counter[str]:
    """gc in a loop; how often it ran, and what it erased."""
    counts: Counter[str] = Counter()
    with where.open() as store:
        while time.monotonic() < until:
            report = store.gc(now=True)
            assert not report.failed, report
            counts.update(gc=1, erased=report.erased)
    return counts


def use(where: Combination, number: int, until: float) -> Counter[str]:
    """Put, hand over to another owner, read, let go: the bytes must be there all the while.

    All rest in the last quarter of each second, so that then nobody has them.
    """
    dice = random.Random(number)
    counts: Counter[str] = Counter()
    with where.open() as store:
        scope = store.scope(f"scope {number % 2}")
        while time.monotonic() < until:
            digest = scope.put(BYTES, owner=f"first/{number}").digest
            scope.attach(digest, f"second/{number}")
            scope.release(f"first/{number}")
            with scope.open(digest) as file:
                assert file.read() == BYTES
            scope.release(f"second/{number}")
            counts.update(use=5)
            time.sleep(dice.random() / 50 + _until_all_may_go_on())
            try:
                scope.attach(digest, f"third/{number}")
            except NotFound:
                counts.update(gone=1)
            else:
                with scope.open(digest) as file:
                    assert file.read() == BYTES
                scope.release(f"third/{number}")
                counts.update(use=3)
            time.sleep(dice.random() / 30)
    return counts


def _until_all_may_go_on() -> float:
    """Seconds of the rest that everyone takes at the same time; 0 outside it."""
    part = time.monotonic() % 1.0
    return 1.0 - part if part > 0.75 else 0.0


def purge_or_defy(work: str, where: Combination, until: float) -> Counter[str]:
    """``purge`` and unblock, or go on putting and reading; what was done, counted."""
    counts: Counter[str] = Counter()
    with where.open() as store:
        while time.monotonic() < until:
            (_purge if work == "purge" else _defy)(store, counts)
    return counts


def _purge(store: Store, counts: Counter[str]) -> None:
    digest = str(Digest.of(BYTES))
    store.purge(digest)
    counts.update(purged=1)
    time.sleep(random.random() / 30)
    store.unblock(digest)
    time.sleep(random.random() / 30)


def _defy(store: Store, counts: Counter[str]) -> None:
    try:
        digest = store.put(BYTES, owner="defiant/1").digest
        counts.update(put=1)
        store.attach(digest, "defiant/2")
        with store.open(digest) as file:
            assert file.read() == BYTES
        counts.update(read=1)
    except Blocked:
        counts.update(blocked=1)
    except NotFound:
        counts.update(gone=1)
