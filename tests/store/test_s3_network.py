"""A store whose bytes are in S3 behind a network that delays, loses, changes and refuses."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
from tests import proxy as network
from tests import seaweed, servers
from tests.proxy import Proxy
from tests.store.pictures import noise, picture
from tests.store.surgery import content, key_of, keys, problems, rows, states

from calotype import Store
from calotype.backends.s3 import S3Backend
from calotype.backends.s3.asking import Patience
from calotype.errors import CalotypeError, Corrupt, Denied, NotFound, Unavailable

HASTY = Patience(connect=1, read=1, total=0.3)
PATIENT = Patience(connect=5, read=60, total=60)

pytestmark = pytest.mark.usefixtures("s3_keys")


@pytest.fixture
def prefix() -> str:
    return f"network/{time.time_ns()}"


@pytest.fixture
def direct(prefix) -> S3Backend:
    """The objects as they lie there, past the proxy."""
    return S3Backend(seaweed.url(prefix=prefix))


@pytest.fixture
def opened(proxy, prefix, tmp_path, clock) -> Iterator:
    """``opened(patience)``: the store through the proxy; every call leads to the same one."""
    stores = []

    def open_store(patience: Patience) -> Store:
        backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=patience)
        stores.append(Store(tmp_path / "store", backend=backend, clock=clock))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def lying(direct: S3Backend) -> list[str]:
    return [each.name for each in direct.scan("sha256/")]


def settled(store: Store, direct: S3Backend, proxy: Proxy) -> None:
    """The network is well again: gc has the last word, fsck finds nothing, nothing is left over."""
    proxy.clear()
    store.fsck(read_data=True, repair=True).result()
    for _ in range(3):
        store._rooms.catalog.clock.advance(days=2)
        report = store.gc(now=True, force=True)
        assert (report.failed, report.refused) == (0, 0)
    assert problems(store) == []
    assert store.fsck().result().problems == 0
    live = "SELECT key FROM calotype_replica WHERE state = 'live'"
    assert lying(direct) == sorted(key for (key,) in rows(store, live))
    assert (
        rows(store, "SELECT key FROM calotype_replica WHERE state IN ('writing', 'doomed')") == []
    )


def beside(work) -> tuple[threading.Thread, list]:
    """``work`` in a thread; what it answered or raised will be in the list."""
    done: list = []

    def run() -> None:
        try:
            done.append(work())
        except CalotypeError as error:
            done.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def until_seen(proxy: Proxy, method: str) -> None:
    end = time.monotonic() + 20
    while not proxy.count(method):
        assert time.monotonic() < end
        time.sleep(0.01)


# -- what arrives late ------------------------------------------------------------------------


@pytest.mark.parametrize("erased", [False, True], ids=["doomed", "erased"])
def test_bytes_that_arrive_after_their_writer_was_given_up_are_read_by_nobody(
    opened, proxy, direct, clock, erased
):
    """The intent aged, gc let go of its key; then the PUT arrives, and its writer lives on."""
    store = opened(PATIENT)
    store.put(b"first")
    gate = threading.Event()
    proxy.clear()
    proxy.plan(network.held(gate), method="PUT")
    thread, done = beside(lambda: store.put(picture(), owner="page/1"))
    until_seen(proxy, "PUT")
    clock.advance(hours=0.5)
    store.gc(grace=0, erase_delay=0 if erased else "24h")
    gate.set()
    thread.join(60)
    [put] = done
    assert put.status == "created"
    assert states(store, put.digest) == ["erased" if erased else "doomed", "live"]
    [late] = keys(store, put.digest, "erased" if erased else "doomed")
    assert key_of(store, put.digest) != late
    assert sorted(map(str, (late, key_of(store, put.digest)))) == sorted(
        name for name in lying(direct) if put.digest in name
    )
    assert content(store, put.digest) == picture()
    settled(store, direct, proxy)
    assert content(store, put.digest) == picture()
    assert str(late) not in lying(direct)


def test_bytes_that_arrive_after_their_writer_died_are_taken_by_the_second_delete(
    opened, proxy, direct, clock
):
    store = opened(HASTY)
    store.put(b"first")
    gate = threading.Event()
    proxy.plan(network.held(gate, lost=True), method="PUT")
    proxy.plan(network.error(503), times=99, method="PUT")
    with pytest.raises(Unavailable):
        store.put(picture(), owner="page/1")
    proxy.clear()
    clock.advance(hours=0.5)
    store.gc(now=True)
    assert len(lying(direct)) == 1
    gate.set()
    assert gate.late.wait(20)
    assert len(lying(direct)) == 2
    assert store.stats().blobs == 1
    put = store.put(picture(), owner="page/1")
    assert (put.status, content(store, put.digest)) == ("created", picture())
    settled(store, direct, proxy)
    assert len(lying(direct)) == 2


@pytest.mark.parametrize("lost", [False, True], ids=["late", "late and unheard"])
def test_a_delete_that_arrives_after_the_same_bytes_were_put_again_harms_nothing(
    opened, proxy, direct, clock, lost
):
    store = opened(HASTY if lost else PATIENT)
    first = store.put(picture(), owner="page/1").digest
    before = key_of(store, first)
    store.release("page/1")
    proxy.clear()
    gate = threading.Event()
    proxy.plan(network.held(gate, lost=lost), method="DELETE")
    thread, done = beside(lambda: store.gc(now=True))
    until_seen(proxy, "DELETE")
    again = store.put(picture(), owner="page/2")
    assert (again.status, key_of(store, first) == before) == ("created", False)
    gate.set()
    thread.join(60)
    assert not isinstance(done[0], Exception)
    if lost:
        assert gate.late.wait(20)
    assert content(store, first) == picture()
    settled(store, direct, proxy)
    assert content(store, first) == picture()
    assert lying(direct) == [str(key_of(store, first))]


# -- faults for a while, on each kind of request --------------------------------------------------

PUT, GET, HEAD, DELETE = ({"method": name} for name in ("PUT", "GET", "HEAD", "DELETE"))
LIST = {"method": "GET", "having": "list-type"}
REFUSED = network.error(403, "AccessDenied")
BUSY = network.error(503, "SlowDown")
FAULTS = [
    *[(network.lose_answer, where) for where in (PUT, GET, HEAD, DELETE, LIST)],
    *[(network.cut, where) for where in (GET, LIST)],
    (network.flip_up, PUT),
    *[(network.flip_down, where) for where in (GET, LIST)],
    *[(REFUSED, where) for where in (PUT, GET, HEAD, DELETE, LIST)],
    *[(BUSY, where) for where in (PUT, GET, HEAD, DELETE, LIST)],
]


class Work:
    """Puts, reads, releases and collects; what was acknowledged must be there to the end."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)
        self.seed = seed
        self.kept: dict[str, bytes] = {}
        self.errors: list[CalotypeError] = []
        self.number = 0

    def step(self) -> None:
        """One operation; it may fail in our words, and may never answer wrong bytes."""
        try:
            self.dice.choice([self.put, self.put, self.come_and_go, self.read, self.read])()
        except (Unavailable, Denied, Corrupt) as error:
            self.errors.append(error)

    def put(self) -> None:
        self.number += 1
        data = noise(900, f"{self.seed} {self.number}")
        self.kept[self.store.put(data, owner=f"kept/{self.seed}").digest] = data

    def come_and_go(self) -> None:
        """The same few bytes are put and let go of all the time."""
        data = noise(500, self.dice.randrange(3))
        owner = f"gone/{self.seed}"
        digest = self.store.put(data, owner=owner).digest
        try:
            assert content(self.store, digest) == data
        finally:
            self.store.release(owner)

    def read(self) -> None:
        if self.kept:
            digest = self.dice.choice(list(self.kept))
            assert content(self.store, digest) == self.kept[digest]

    def gc(self) -> None:
        with suppress(Unavailable, Denied):
            self.store.gc(now=True, force=True)

    def fsck(self) -> None:
        """What cannot be asked is not missing."""
        with suppress(Unavailable, Denied):
            found = [each.kind for each in self.store.fsck()]
            assert "missing" not in found

    def is_whole(self) -> None:
        assert self.kept
        for digest, data in self.kept.items():
            assert content(self.store, digest) == data


FULL = os.environ.get("CALOTYPE_NETWORK") == "full"
"""All of the faults; otherwise one of each sort, and no request without one."""

SOME = [
    (network.lose_answer, PUT),
    (network.flip_up, PUT),
    (network.flip_down, GET),
    (network.cut, LIST),
    (REFUSED, DELETE),
    (BUSY, HEAD),
]


@pytest.mark.parametrize(("fault", "where"), FAULTS if FULL else SOME)
def test_nothing_acknowledged_is_lost_and_nothing_wrong_is_read(
    opened, proxy, direct, fault, where
):
    store = opened(HASTY)
    work = Work(store, 1)
    work.put()
    for _ in range(2):
        proxy.plan(fault, times=4, **where)
        for _ in range(4):
            work.step()
        work.gc()
        proxy.plan(fault, times=4, **where)
        work.fsck()
        proxy.clear()
        work.come_and_go()
    work.is_whole()
    settled(store, direct, proxy)
    work.is_whole()


def any_fault(dice: random.Random):
    """What a bad network does to a request, now and then."""
    faults = [network.lose_answer, network.lose_request, network.cut, REFUSED, BUSY]
    bent = [network.flip_up, network.flip_down, late]

    def fault(exchange, forward):
        drawn = dice.random()
        if drawn < 0.8:
            forward()
        else:
            dice.choice(faults if drawn < 0.95 else bent)(exchange, forward)

    return fault


def late(exchange, forward):
    """Heard of by nobody, and done a little later."""
    threading.Timer(0.2, forward).start()
    raise network.Hangup


def weather(store: Store, works: list[Work], seconds: float) -> list[BaseException]:
    """All of it at once for so long: writers, two collectors, copies, and primaries that change."""
    over, raised = threading.Event(), []

    def guarded(step) -> None:
        try:
            while not over.is_set():
                with suppress(Unavailable, Denied):
                    step()
        except BaseException as error:
            raised.append(error)

    def move() -> None:
        for name in ("two", "main"):
            store.backends.primary(name)
            time.sleep(0.1)

    def copy() -> None:
        store.backends.copy("two").result()

    steps = [*[work.step for work in works], *[work.gc for work in works], copy, move]
    threads = [threading.Thread(target=partial(guarded, step)) for step in steps]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    time.sleep(0.5)  # what is late has arrived
    return raised


def test_writers_two_collectors_and_a_copier_in_a_storm(proxy, prefix, direct, clock):
    """Two backends, one behind the storm; in the end both have all of it, and nothing else."""
    near = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=HASTY)
    other = S3Backend(seaweed.url())
    with Store(catalog=servers.schema(), backend=near, clock=clock) as store:
        works = [Work(store, seed) for seed in range(2)]
        for work in works:
            work.put()
        store.backends.add("two", other)
        proxy.plan(any_fault(random.Random(7)), times=10**6)
        assert weather(store, works, 60 if FULL else 1.5) == []
        proxy.clear()
        store.backends.primary("main")
        store.fsck(read_data=True, repair=True).result()
        for name in ("main", "two"):
            assert store.backends.copy(name).result().failed == 0
        assert [each.lacking for each in store.stats().backends] == [0, 0]
        settled_in_both(store, direct, other)
        for work in works:
            work.is_whole()


def settled_in_both(store: Store, *backends: S3Backend) -> None:
    for _ in range(3):
        store._rooms.catalog.clock.advance(days=2)
        assert store.gc(now=True, force=True).failed == 0
    assert problems(store) == []
    for name, backend in zip(("main", "two"), backends, strict=True):
        live = f"SELECT key FROM calotype_replica WHERE state = 'live' AND backend = '{name}'"
        assert lying(backend) == sorted(key for (key,) in rows(store, live))


def test_a_dead_digest_is_not_copied_back_to_life(opened, proxy, direct, clock):
    """The copy was on its way when gc let go of the blob: its late bytes are nobody's."""
    store = opened(PATIENT)
    digest = store.put(picture(), owner="page/1").digest
    other = S3Backend(seaweed.url())
    store.backends.add("two", other)
    gate = threading.Event()
    proxy.clear()
    proxy.plan(network.held(gate), method="GET", having=digest)
    thread, done = beside(lambda: store.backends.copy("two").result())
    until_seen(proxy, "GET")
    store.release("page/1")
    clock.advance(hours=0.5)
    store.gc(now=True)
    gate.set()
    thread.join(60)
    assert not isinstance(done[0], Exception)
    with pytest.raises(NotFound):
        store.open(digest)
    assert store.explain(digest).verdict in ("doomed", "erased")
    settled_in_both(store, direct, other)
    assert lying(other) == []
