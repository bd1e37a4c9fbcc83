"""Forks: a store that was open in the parent is as good in the child, and neither harms the other."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
from tests.store.pictures import noise, picture
from tests.store.surgery import content, problems, rows

from calotype import Digest, Store
from calotype.errors import Misconfigured

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def in_a_child(work: Callable[[], object]) -> str:
    """What ``work`` answers in a forked child, or how it failed; the parent waits."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = repr(work())
        except BaseException:
            answer = traceback.format_exc()
        os.write(writing, answer.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def test_a_child_and_its_parent_use_the_store_that_was_open_before_the_fork(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        said = in_a_child(lambda: (content(store, digest) == picture(), store.put(b"child").status))
        assert said == "(True, 'created')"
        assert store.put(b"child").status == "duplicate"
        assert store.put(b"parent").status == "created"
        assert in_a_child(lambda: store.stats().blobs) == "3"
        if store._rooms.catalog.is_sqlite:
            assert rows(store, "PRAGMA integrity_check") == [("ok",)]
        assert problems(store) == []


def test_children_of_a_busy_parent_go_on_or_are_refused_and_never_hang(folder):
    with folder.open() as store:
        store.put(picture())
        over = threading.Event()

        def work() -> None:
            number = 0
            while not over.is_set():
                number += 1
                store.put(noise(50, number), owner="scan/1", role="r")

        def look() -> object:
            signal.alarm(20)
            try:
                return store.stats().blobs > 0
            except Misconfigured as error:
                return "forked" in str(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        answers = {in_a_child(look) for _ in range(60)}
        over.set()
        for thread in threads:
            thread.join()
        assert answers == {"True"}
        assert problems(store) == []


def test_a_child_forked_while_a_connection_was_being_lent_is_refused_and_does_not_wait(folder):
    with folder.open() as store:
        store.put(picture())
        lock = vars(store._rooms.catalog.engine.pool._pool)["mutex"]
        held, over = threading.Event(), threading.Event()

        def lend() -> None:
            with lock:
                held.set()
                over.wait(20)

        def look() -> object:
            signal.alarm(10)
            try:
                return store.stats().blobs
            except Misconfigured as error:
                return "forked" in str(error)

        thread = threading.Thread(target=lend)
        thread.start()
        held.wait(20)
        said = in_a_child(look)
        over.set()
        thread.join()
        assert said == "True"
        assert store.stats().blobs == 1


def test_many_children_write_at_once(folder):
    with folder.open() as store:
        store.put(picture())

        def work() -> object:
            return [
                store.put(noise(90, number), owner=f"scan/{os.getpid()}").status
                for number in range(5)
            ]

        threads = [threading.Thread(target=in_a_child, args=(work,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.stats().blobs == 6
        assert store.stats().references == 20
        assert problems(store) == []


def test_a_child_forked_in_the_middle_of_a_parents_transaction_is_refused_and_spoils_nothing(
    folder,
):
    """The connection cannot be closed in the child, and SQLite takes its locks for the child's."""
    with folder.open() as store:
        digest = store.put(picture()).digest
        with store._rooms.catalog.write() as connection:
            connection.exec_driver_sql("UPDATE calotype_asset SET filename = 'half'")
            said = in_a_child(lambda: store.stat(digest).filename)
            assert "Misconfigured" in said and "forked while a transaction" in said
            assert in_a_child(lambda: store.close()) == "None"
        assert store.stat(digest).filename == "half"
        assert in_a_child(lambda: store.stat(digest).filename) == "'half'"


def test_a_child_forked_beside_a_busy_thread_is_refused_at_once_and_waits_for_no_lock(folder):
    """The thread does not live on in the child, so a lock that it held there is held for ever."""
    with folder.open() as store:
        store.put(picture())
        begun, ended = threading.Event(), threading.Event()

        def hold() -> None:
            with store._rooms.catalog.write():
                begun.set()
                ended.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        begun.wait()
        assert "forked while a transaction" in in_a_child(lambda: store.put(b"child").status)
        ended.set()
        thread.join()
        assert in_a_child(lambda: store.put(b"child").status) == "'created'"
        assert store.put(b"child").status == "duplicate"


@contextmanager
def reading(store: Store) -> Iterator[None]:
    """A transaction that reads, open at the fork and ended after it."""
    with store._rooms.catalog.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM calotype_blob").scalar()
        yield


@pytest.mark.parametrize("parent", [lambda _: nullcontext(), reading], ids=["idle", "reading"])
def test_what_a_child_put_stays_although_its_parent_closed_meanwhile(durable, parent):
    """The last one out removes the WAL: a child whose locks do not count would write to no file.

    It may be refused, but what it was promised is there.
    """
    with durable.open() as store:
        store.put(picture())
        ready, go = os.pipe(), os.pipe()

        def work() -> str:
            try:
                store.put(b"before")
            finally:
                os.write(ready[1], b"x")
            os.read(go[0], 1)
            return store.put(b"after").status

        answers: list[str] = []
        with parent(store):
            thread = threading.Thread(target=lambda: answers.append(in_a_child(work)))
            thread.start()
            os.read(ready[0], 1)
        store.close()
        os.write(go[1], b"x")
        thread.join()
    for pipe in (*ready, *go):
        os.close(pipe)
    with durable.open() as store:
        kept = store.check([Digest.of(b"after")])[Digest.of(b"after")] is not None
        assert kept or answers != ["'created'"]
        assert problems(store) == []


def test_a_child_uses_no_connection_of_its_parent(in_file):
    """SQLite forbids to carry a connection across fork."""
    with in_file.open() as store:
        digest = store.put(picture()).digest
        engine = store._rooms.catalog.engine
        said = in_a_child(
            lambda: (store.stat(digest).digest, store._rooms.catalog.engine is engine)
        )
        assert said == f"({digest!r}, False)"
        assert store._rooms.catalog.engine is engine


def test_a_child_goes_on_while_its_parent_is_in_the_middle_of_a_list(folder):
    with folder.open() as store:
        store.put_many([noise(50, number) for number in range(600)], "set/1").result()
        listed = iter(store.assets())
        first = next(listed).digest
        assert in_a_child(
            lambda: (len(list(store.assets())), store.release("set/1").references)
        ) == ("(600, 600)")
        rest = [asset.digest for asset in listed]
        assert first not in rest
        assert len(set(rest)) == len(rest)
        assert list(store.assets()) == []
        assert problems(store) == []


def test_a_child_counts_only_its_own_accesses(folder):
    with folder.open() as store:
        digest = store.put(picture()).digest
        content(store, digest)
        assert in_a_child(lambda: (content(store, digest), store.close())[1]) == "None"
        store.close()
        assert store.stat(digest).access_count == 2


def test_a_child_has_a_copy_of_what_is_in_memory(memory):
    digest = memory.put(picture()).digest
    said = in_a_child(lambda: (content(memory, digest) == picture(), memory.put(b"child").status))
    assert said == "(True, 'created')"
    assert memory.stats().blobs == 1
