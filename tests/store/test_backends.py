"""Several backends: mirror on write, fall back on read, copy, switch and drop while serving."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests import servers
from tests.store.pictures import noise, picture
from tests.store.surgery import backend_of, change, content, problems, rows

from calotype import Store, catalog
from calotype.backends.local import LocalBackend
from calotype.backends.markers import MARKER, Marker
from calotype.backends.staged import LocalStaged
from calotype.errors import Corrupt, Denied, EraseLocked, Misconfigured, NotFound, Unavailable
from calotype.opening import open_backend


@pytest.fixture
def second(store, tmp_path):
    """A store with a mirror in another folder, whose blobs are given back."""
    store.create()
    store.backends.add("two", f"file:{tmp_path}/two")
    return tmp_path / "two"


def files(folder) -> int:
    return len(list(folder.glob("sha256/*/*/*")))


def states(store: Store) -> dict[str, tuple[str, int, int]]:
    return {each.name: (each.role, each.copies, each.lacking) for each in store.backends.list()}


def damage(folder, data=b"rotten") -> None:
    """Every object there has other bytes of the same length."""
    for file in folder.glob("sha256/*/*/*"):
        file.chmod(0o600)
        file.write_bytes((data * (file.stat().st_size // len(data) + 1))[: file.stat().st_size])


def test_a_new_backend_lacks_what_was_there_and_gets_what_comes(store, tmp_path):
    store.put(picture())
    made = store.backends.add("two", f"file:{tmp_path}/two")
    assert (made.role, made.copies, made.lacking) == ("mirror", 0, 1)
    store.put(picture(1))
    assert files(tmp_path / "two") == 1
    done = store.backends.copy("two").result()
    assert (done.copied, done.failed) == (1, 0)
    assert states(store) == {"main": ("primary", 2, 0), "two": ("mirror", 2, 0)}
    assert problems(store) == []
    assert store.backends.copy("two").result().copied == 0


def test_what_is_let_go_goes_everywhere(store, second):
    store.put(picture(), owner="page/1")
    store.put_many([noise(50, number) for number in range(20)], "page/1").result()
    assert files(second) == 21
    store.release("page/1")
    assert store.gc(now=True).doomed == 21
    assert files(second) == 0
    assert problems(store) == []


@pytest.mark.parametrize("harm", ["missing", "rotten", "short"])
def test_a_damaged_copy_gives_way_to_a_sound_one_and_is_mended(store, second, harm, clock):
    small, large = store.put(picture()).digest, store.put(noise(9 << 20)).digest
    main = LocalBackend(store.backends.list()[0].url.removeprefix("file:"))
    for thing in list(main.scan("sha256/")):
        file = main.path(key_named(thing.name))
        if harm == "missing":
            remove(file)
        else:
            overwrite(file, b"x" * (thing.size if harm == "rotten" else thing.size - 1))
    assert content(store, small) == picture()
    if harm != "rotten":  # else it is known at the end, and the stream breaks
        assert content(store, large) == noise(9 << 20)
    clock.advance(hours=1)
    found = list(store.fsck(read_data=True, repair=True))
    assert all(each.action == "mended from backend two" for each in found if each.is_problem)
    assert problems(store) == []
    assert states(store)["main"][1:] == (2, 0)
    assert content(store, large) == noise(9 << 20)


def key_named(name):
    from calotype.backends import Key

    key = Key.parse(name)
    assert key is not None
    return key


def overwrite(file: str, data: bytes) -> None:
    from pathlib import Path

    Path(file).chmod(0o600)
    Path(file).write_bytes(data)


def remove(file: str) -> None:
    from pathlib import Path

    Path(file).unlink()


def test_damage_everywhere_is_told(durable, tmp_path):
    with durable.open() as store:
        digest = store.put(picture()).digest
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        damage(tmp_path / "two")
        damage(durable.blobs)
        with pytest.raises(Corrupt):
            content(store, digest)
        assert store.put(picture()).status == "healed"
        assert content(store, digest) == picture()
        store.backends.copy("two").result()
        assert problems(store) == []


def test_a_mirror_that_fails_fails_no_put(store, second, monkeypatch, caplog):
    def refuse(*_):
        raise Unavailable("the network is away")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "calotype.backends"):
        mirror = store._rooms.mounts.named("two").backend
        patched.setattr(mirror, "put", refuse)
        digest = store.put(picture()).digest
        store.put(picture(1))
    assert len([each for each in caplog.records if "the network is away" in each.message]) == 1
    assert content(store, digest) == picture()
    assert states(store)["two"] == ("mirror", 0, 2)
    assert store.backends.copy("two").result().copied == 2
    assert problems(store) == []


def test_a_mirror_that_is_away_costs_many_files_one_wait(store, second, monkeypatch):
    tried = []

    def refuse(*_):
        tried.append(1)
        raise Unavailable("the network is away")

    mount = store._rooms.mounts.named("two")
    with monkeypatch.context() as patched:
        patched.setattr(mount.backend, "put", refuse)
        store.put_many([noise(50, number) for number in range(20)]).result()
        assert len(tried) == 1
        monkeypatch.setattr(mount, "_rests_until", 0.0)  # a minute later

        def slow(*_):
            tried.append(1)
            store.put(picture(1))  # another put, which passes by
            raise Unavailable("the network is away")

        patched.setattr(mount.backend, "put", slow)
        store.put(picture())
        assert len(tried) == 2
    monkeypatch.setattr(mount, "_rests_until", 0.0)
    store.put(picture(2))
    store.put(picture(3))
    assert states(store)["two"][1:] == (2, 22)


def test_a_copy_ends_where_its_target_is_away(store, second, monkeypatch):
    store.backends.drop("two")
    store.put_many([noise(50, number) for number in range(40)]).result()
    store.backends.add("two", f"file:{second}")
    backend = store._rooms.mounts.named("two").backend
    tried = []

    def refuse(*_):
        tried.append(1)
        raise Unavailable("the network is away")

    monkeypatch.setattr(backend, "put", refuse)
    assert store.backends.copy("two").result().failed == 40  # of a folder each is told
    monkeypatch.setattr(LocalBackend, "reach", refuse, raising=False)
    tried.clear()
    with pytest.raises(Unavailable, match="the network is away"):
        store.backends.copy("two").result()
    assert len(tried) <= 2 * 8


def test_a_service_that_does_not_answer_does_not_become_the_primary(store, second, monkeypatch):
    def refuse(*_):
        raise Unavailable("the network is away")

    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, "reach", refuse, raising=False)
        with pytest.raises(Unavailable, match="the network is away"):
            store.backends.primary("two")
    assert [each.role for each in store.backends.list()] == ["primary", "mirror"]
    store.backends.primary("two")
    assert states(store)["two"][0] == "primary"


@pytest.mark.parametrize("error", [Unavailable, Denied, Misconfigured])
def test_reading_goes_on_while_the_primary_is_away(store, second, monkeypatch, error):
    def refuse(*_):
        raise error("the network is away")

    digest = store.put(picture()).digest
    primary = store._rooms.mounts.primary.backend
    with monkeypatch.context() as patched:
        patched.setattr(primary, "open", refuse)
        patched.setattr(primary, "size", refuse)
        assert content(store, digest) == picture()
    assert rows(store, "SELECT suspect_at FROM calotype_replica") == [(None,), (None,)]


def test_moving_to_another_backend_and_dropping_the_first(durable, tmp_path):
    with durable.open() as store:
        kept = [store.put(noise(100, number)).digest for number in range(30)]
        store.backends.add("two", f"file:{tmp_path}/two")
        with pytest.raises(Misconfigured, match="primary"):
            store.backends.drop("main")
        store.backends.primary("two")
        assert store.put(b"new").status == "created"
        early = store.backends.drop("main")
        assert (early.let_go, early.kept, early.removed) == (1, 30, False)
        assert [content(store, digest) for digest in kept] == [noise(100, n) for n in range(30)]
        store.backends.copy("two").result()
        done = store.backends.drop("main")
        assert (done.let_go, done.kept, done.removed) == (30, 0, True)
        assert files(durable.blobs) == 0
        assert states(store) == {"two": ("primary", 31, 0)}
        assert problems(store) == []
        assert store.put(b"newer").status == "created"
    with Store(**where(durable), backend=f"file:{tmp_path}/two", clock=durable.clock) as again:
        assert [content(again, digest) for digest in kept] == [noise(100, n) for n in range(30)]
        assert again.put(noise(100, 3)).status == "duplicate"


def test_what_would_be_dropped_is_told_and_nothing_changed(durable, tmp_path):
    with durable.open(erase_delay="2d") as store:
        for number in range(3):
            store.put(noise(100, number))
        store.backends.add("two", f"file:{tmp_path}/two")
        with pytest.raises(Misconfigured, match="primary"):
            store.backends.drop("main", dry_run=True)
        with pytest.raises(NotFound):
            store.backends.drop("three", dry_run=True)
        store.backends.primary("two")
        store.put(noise(1000))
        store.backends.copy("main").result()
        before = states(store)
        assert before == {"two": ("primary", 1, 3), "main": ("mirror", 4, 0)}
        would = store.backends.drop("main", dry_run=True)
        assert (would.let_go, would.let_go_bytes, would.kept, would.kept_bytes) == (1, 1000, 3, 300)
        assert (would.waiting, would.removed, states(store)) == (0, False, before)

        did = store.backends.drop("main")
        assert (did.let_go, did.let_go_bytes, did.kept, did.kept_bytes) == (1, 1000, 3, 300)
        would = store.backends.drop("main", dry_run=True)
        assert (would.let_go, would.kept, would.waiting) == (0, 3, 1)
        store.backends.copy("two").result()
        change(
            store,
            "UPDATE calotype_replica SET suspect_at = 1 WHERE digest = (SELECT min(digest) "
            "FROM calotype_replica WHERE backend = 'main' AND state = 'live') AND backend = 'two'",
        )
        would = store.backends.drop("main", dry_run=True)
        assert (would.let_go, would.kept) == (2, 1)  # one of the other's is damaged


def test_a_store_in_a_folder_finds_its_bytes_wherever_they_went(folder, tmp_path):
    with folder.open() as store:
        digest = store.put(picture()).digest
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        store.backends.primary("two")
        assert store.backends.drop("main").removed
    with folder.open() as again:
        large = again.put(noise(9 << 20)).digest  # the first that this one does
        assert content(again, digest) == picture()
        assert content(again, large) == noise(9 << 20)
        assert files(tmp_path / "two") == 2
        assert files(folder.blobs) == 0 and not list(folder.blobs.glob("tmp/*"))


def where(place):
    if place.kind == "postgres":
        return {"catalog": place.url}
    return {"catalog": f"sqlite:///{place.database}"}


def test_a_process_that_does_not_know_yet_puts_where_the_primary_is(durable, tmp_path):
    with durable.open() as one, durable.open() as other:
        one.put(b"first")
        assert other.put(b"second").status == "created"
        one.backends.add("two", f"file:{tmp_path}/two")
        one.backends.primary("two")
        one.backends.copy("two").result()
        assert one.backends.drop("main").removed
        digest = other.put(b"third").digest
        assert files(tmp_path / "two") == 3
        assert content(other, digest) == b"third"
        assert content(other, other.put(b"first").digest) == b"first"
        assert problems(one) == []


def test_only_what_was_read_elsewhere_is_let_go(store, second):
    digest = store.put(picture()).digest
    damage(second)  # the mirror's copy looks sound in the catalog
    store.backends.primary("two")
    done = store.backends.drop("main")
    assert (done.let_go, done.kept, done.removed) == (0, 1, False)
    assert content(store, digest) == picture()


@pytest.mark.parametrize("by_then", ["damaged", "let go of"])
def test_a_witness_that_is_none_any_more_lets_nothing_go(store, second, by_then, monkeypatch):
    digest = store.put(picture()).digest
    store.backends.add("three", f"file:{second}-too")
    store.backends.primary("three")  # which has no copy: main and two are each other's witness
    witness = store._rooms.mounts.named("two").backend
    opened = witness.open

    def meanwhile(key, *rest):
        file = opened(key, *rest)
        if by_then == "damaged":
            change(store, "UPDATE calotype_replica SET suspect_at = 1 WHERE backend = 'two'")
        else:
            assert store.backends.drop("two").removed
        return file

    with monkeypatch.context() as patched:
        patched.setattr(witness, "open", meanwhile)
        done = store.backends.drop("main")
    assert (done.let_go, done.kept, done.removed) == (0, 1, False)
    assert states(store)["main"][1] == 1
    assert content(store, digest) == picture()


def test_what_becomes_the_primary_while_it_is_dropped_keeps_its_bytes(store, second, monkeypatch):
    kept = [store.put(noise(100, number)).digest for number in range(3)]
    main = store._rooms.mounts.primary.backend
    opened = main.open

    def meanwhile(*given):
        store.backends.primary("two")
        return opened(*given)

    with monkeypatch.context() as patched:
        patched.setattr(main, "open", meanwhile)
        with pytest.raises(Misconfigured, match="is the primary"):
            store.backends.drop("two")
    assert states(store)["two"] == ("primary", 3, 0)
    assert files(second) == 3
    assert [content(store, digest) for digest in kept] == [noise(100, n) for n in range(3)]
    assert problems(store) == []


def test_what_gets_its_role_back_while_it_is_dropped_keeps_its_bytes(store, second, monkeypatch):
    kept = [store.put(noise(100, number)).digest for number in range(3)]
    main = store._rooms.mounts.primary.backend
    opened = main.open

    def meanwhile(*given):
        change(store, "UPDATE calotype_backend SET role = 'mirror' WHERE name = 'two'")
        return opened(*given)

    with monkeypatch.context() as patched:
        patched.setattr(main, "open", meanwhile)
        with pytest.raises(Misconfigured, match="another role while it was dropped"):
            store.backends.drop("two")
    assert states(store)["two"] == ("mirror", 3, 0)
    assert files(second) == 3
    assert [content(store, digest) for digest in kept] == [noise(100, n) for n in range(3)]


def test_a_url_is_one_of_sound_bytes(store, second):
    digest = store.put(picture()).digest
    change(store, "UPDATE calotype_replica SET suspect_at = 1 WHERE backend = 'main'")
    assert store.url(digest).startswith(f"file://{second}/")
    change(store, "UPDATE calotype_replica SET suspect_at = 1")
    assert store.url(digest).startswith("file://")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_is_refused_is_held_open_no_longer(store, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db"
    with Store(catalog=f"sqlite:///{tmp_path}/apart.db", backend=other) as apart:
        apart.put(picture())
    store.create()
    for _ in range(3):
        with pytest.raises(Misconfigured):
            store.backends.add("two", other)
    held = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.exists()]
    assert f"{tmp_path}/other.db" not in held


def test_a_backend_that_the_caller_opened_stays_open_where_it_is_refused(
    store, tmp_path, monkeypatch
):
    url = f"sqlite:///{tmp_path}/other.db"
    with Store(catalog=f"sqlite:///{tmp_path}/apart.db", backend=url) as apart:
        apart.put(picture())
    store.create()
    given, closed = open_backend(url), []
    close = type(given).close

    def noted(backend):
        closed.append(backend)
        close(backend)

    monkeypatch.setattr(type(given), "close", noted)
    with pytest.raises(Misconfigured):
        store.backends.add("two", given)
    assert closed == []
    with pytest.raises(Misconfigured):
        store.backends.add("two", url)
    assert len(closed) == 1
    given.close()


def test_a_copy_goes_on_where_it_was_left(store, tmp_path):
    store.put_many([noise(60, number) for number in range(500)]).result()
    store.backends.add("two", f"file:{tmp_path}/two")
    run = store.backends.copy("two")
    for progress in run:
        if progress.done >= 200:
            break
    run.close()
    assert 200 <= files(tmp_path / "two") < 500
    done = store.backends.copy("two").result()
    assert 0 < done.copied <= 300
    assert files(tmp_path / "two") == 500
    assert problems(store) == []


def test_copying_beside_puts_releases_and_gc_loses_and_leaves_nothing(place, tmp_path):
    errors: list[BaseException] = []
    kept: list[str] = []
    over = threading.Event()
    with place.open() as store:
        store.put_many([noise(80, number) for number in range(200)], "old/1").result()
        store.backends.add("two", f"file:{tmp_path}/two")

        def guarded(work) -> None:
            try:
                while not over.is_set():
                    work()
            except BaseException as error:
                errors.append(error)

        numbers = iter(range(10**6))

        def write() -> None:
            number = next(numbers)
            kept.append(store.put(noise(90, f"kept{number}"), owner="kept/1").digest)
            store.put(noise(90, f"gone{number}"), owner=f"gone/{number}")
            store.release(f"gone/{number}")

        works = [write, lambda: store.gc(now=True, force=True)]
        threads = [threading.Thread(target=guarded, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                done = store.backends.copy("two").result()
                assert done.failed == 0, done.failures
            store.backends.primary("two")
            store.backends.copy("two").result()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert errors == []
        store.backends.copy("two").result()
        dropped = store.backends.drop("main")
        assert (dropped.kept, dropped.removed) == (0, True)
        store.gc(now=True)
        assert problems(store) == []
        assert files(tmp_path / "two") == store.stats().blobs
        assert all(store.check(kept).values())
        assert [content(store, digest) for digest in kept[:20]]


def test_a_mirror_that_is_away_stops_neither_gc_nor_fsck(store, second, monkeypatch):
    def refuse(*_):
        raise Denied("the keys may not")

    digest = store.put(picture(), owner="page/1").digest
    store.release("page/1")
    mirror = store._rooms.mounts.named("two").backend
    with monkeypatch.context() as patched:
        for name in ("scan", "delete", "size", "sweep"):
            patched.setattr(mirror, name, refuse)
        assert store.gc(now=True).doomed == 1
        check = store.fsck().result()
        assert (check.complete, check.findings["unreachable"], check.problems) == (False, 1, 0)
    store._rooms.catalog.clock.advance(days=2)
    store.gc(now=True)
    assert files(second) == 0
    assert store.check([digest]) == {digest: None}
    assert problems(store) == []


def test_what_makes_no_sense_is_refused(store, tmp_path):
    store.put(picture())
    with pytest.raises(Misconfigured, match="already"):
        store.backends.add("main", f"file:{tmp_path}/two")
    with pytest.raises(Misconfigured, match="already"):
        store.backends.add("three", store.backends.list()[0].url)
    with pytest.raises(Misconfigured, match="mirror or read"):
        store.backends.add("two", f"file:{tmp_path}/two", role="primary")
    with pytest.raises(Misconfigured, match="name"):
        store.backends.add("Two!", f"file:{tmp_path}/two")
    with Store(tmp_path / "elsewhere") as other:
        other.put(picture())
    with pytest.raises(Misconfigured, match="objects"):
        store.backends.add("two", f"file:{tmp_path}/elsewhere/blobs")
    for verb in (store.backends.copy, store.backends.primary, store.backends.drop):
        with pytest.raises(NotFound, match="no backend"):
            verb("none")


@pytest.mark.parametrize("bears", ["its marker", "no marker yet"])
def test_one_place_is_no_two_backends_by_another_name_of_it(tmp_path, bears):
    main, other = f"sqlite:///{tmp_path}/bytes.db", f"sqlite:///{tmp_path}/link.db"
    (tmp_path / "link.db").symlink_to(tmp_path / "bytes.db")
    with Store(catalog=f"sqlite:///{tmp_path}/catalog.db", backend=main) as store:
        store.purge(store.put(b"not to come back").digest, block=True)
        store.gc(now=True)
        there = backend_of(store)
        if bears == "no marker yet":
            for note in list(there.scan("")):
                there.delete_note(note.name)
        before = {note.name: there.read_note(note.name) for note in there.scan("")}
        for url in (main, other):
            with pytest.raises(Misconfigured, match="the backend 'main' already"):
                store.backends.add("two", url)
            assert {note.name: there.read_note(note.name) for note in there.scan("")} == before
        assert [each.name for each in store.backends.list()] == ["main"]


def test_the_catalogs_own_database_by_its_url_is_no_second_place():
    own = servers.schema()
    with Store(catalog=own, backend="database:") as store:
        store.create()
        for url in (own, f"{own}&application_name=z"):
            with pytest.raises(Misconfigured, match="the backend 'main' already"):
                store.backends.add("two", url)
        assert store.backends.add("two", servers.schema()).name == "two"


def test_a_refused_place_is_left_as_it_was_found(store, tmp_path):
    store.create()
    store.backends.add("two", f"file:{tmp_path}/two")
    store.backends.drop("two", abandon=True)  # its marker stays behind
    marker = (tmp_path / "two" / MARKER).read_bytes()
    for place in ("two", "three"):
        with pytest.raises(Misconfigured, match="'main' already"):
            store.backends.add("main", f"file:{tmp_path}/{place}")
    assert (tmp_path / "two" / MARKER).read_bytes() == marker
    assert not (tmp_path / "three" / MARKER).exists()


@pytest.mark.parametrize("used", [True, False])
def test_one_that_cannot_be_asked_is_elsewhere_only_if_it_has_bytes(
    store, second, tmp_path, monkeypatch, used
):
    def refuse(*_):
        raise Unavailable("the network is away")

    if used:
        store.put(picture())
    monkeypatch.setattr(store._rooms.mounts.named("two").backend, "read_note", refuse)
    if used:
        assert store.backends.add("three", f"file:{tmp_path}/three").name == "three"
        return
    with pytest.raises(Unavailable, match="is not known"):
        store.backends.add("three", f"file:{tmp_path}/three")
    assert not (tmp_path / "three").exists() or not list((tmp_path / "three").rglob("*.json"))


@pytest.mark.parametrize("by", ["fsck and gc", "copy and drop"])
def test_what_is_one_place_already_erases_nothing_of_the_other(tmp_path, clock, by):
    two = tmp_path / "two"
    with Store(tmp_path / "store", clock=clock) as store:
        digest = store.put(picture()).digest
        store.backends.add("two", f"file:{two}")
        shutil.rmtree(two)  # as an earlier version, which took one place twice
        two.symlink_to(tmp_path / "store" / "blobs")
        there = LocalBackend(two)
        marker = there.read_note(MARKER)
        known = rows(store, "SELECT generation FROM calotype_backend WHERE name = 'two'")
        mine = replace(Marker.of(marker), generation=known[0][0])
        assert there.write_note(MARKER, mine.to_bytes(), instead_of=marker)
        if by == "copy and drop":
            store.backends.copy("two").result()
            assert store.backends.drop("two", dry_run=True).kept == 1
            assert store.backends.drop("two").kept == 1
        list(store.fsck(repair=True))
        clock.advance(days=40)
        with suppress(EraseLocked):
            store.gc(now=True)
        assert content(store, digest) == picture()


def test_a_backend_that_is_only_read_gets_nothing(store, tmp_path):
    store.put(picture())
    store.backends.add("two", f"file:{tmp_path}/two", role="read")
    store.put(picture(1))
    assert files(tmp_path / "two") == 0
    with pytest.raises(Misconfigured, match="only read"):
        store.backends.copy("two")


def test_purge_erases_every_copy(store, second):
    digest = store.put(picture()).digest
    assert store.purge(digest).erased == 2
    assert files(second) == 0


@pytest.mark.parametrize("rate", [0, "0", "0 MB", -1, 1.5, True, "fast", b"1"])
def test_a_rate_is_a_size_above_nothing(store, second, rate):
    with pytest.raises(Misconfigured):
        store.backends.copy("two", rate=rate)


def test_a_copy_can_be_held_to_a_rate(store, tmp_path):
    store.put_many([noise(10_000, number) for number in range(10)]).result()
    store.backends.add("two", f"file:{tmp_path}/two")
    started = time.monotonic()
    assert store.backends.copy("two", rate=100_000).result().copied == 10
    assert time.monotonic() - started > 0.8


def test_a_slow_copy_that_is_stopped_waits_for_no_more_files(store, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    store.put_many([noise(20_000, number) for number in range(10)]).result()
    store.backends.add("two", f"file:{tmp_path}/two")
    before = signal.signal(signal.SIGALRM, stop)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            store.backends.copy("two", rate=10_000).result()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 5
    assert problems(store) == []
    assert store.backends.copy("two").result().failed == 0
    assert states(store)["two"][1:] == (10, 0)


def test_a_blob_whose_only_copy_is_elsewhere_is_no_problem(store, second):
    digest = store.put(picture()).digest
    change(store, "DELETE FROM calotype_replica WHERE backend = 'main'")
    kinds = [each.kind for each in store.fsck()]
    assert "missing" not in kinds
    assert content(store, digest) == picture()
    assert store.put(picture()).status == "duplicate"


def test_closing_a_store_that_did_nothing_opens_no_catalog(folder):
    with folder.open() as store:
        store.put(picture())
    folder.database.write_bytes(b"not a database" * 100)
    with pytest.raises(ValueError, match="mine"), folder.open():
        raise ValueError("mine")
    with folder.open():
        pass


def test_the_last_sound_copy_stays_whatever_another_backend_claims(store, second, clock):
    digest = store.put(picture()).digest
    change(store, "DELETE FROM calotype_replica WHERE backend = 'main'")
    damage(second, picture()[:5])
    store.fsck(repair=True).result()
    clock.advance(days=31)
    assert store.gc().erased == 0
    assert store.put(picture()).status in ("healed", "duplicate")
    assert content(store, digest) == picture()


def test_what_another_process_made_the_primary_is_not_dropped(durable, tmp_path):
    with durable.open() as one, durable.open() as other:
        digest = one.put(picture()).digest
        one.backends.add("two", f"file:{tmp_path}/two")
        one.backends.copy("two").result()
        other.backends.list()
        one.backends.primary("two")
        with pytest.raises(Misconfigured, match="primary"):
            other.backends.drop("two")
        one.backends.drop("main")
        with pytest.raises(NotFound):
            other.backends.primary("main")
        assert states(one) == {"two": ("primary", 1, 0)}
        assert other.put(picture(1)).status == "created"
        assert content(other, digest) == picture()


def test_a_process_learns_of_a_backend_that_another_one_added(durable, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "LOOK_AGAIN", 0.0)
    with durable.open() as one, durable.open() as other:
        digest = other.put(picture(), owner="page/1").digest
        one.backends.add("two", f"file:{tmp_path}/two")
        one.backends.copy("two").result()
        other.put(picture(1))
        assert files(tmp_path / "two") == 2
        assert other.purge(digest).erased == 2


@pytest.mark.parametrize("soon", [False, True], ids=["heard late", "heard at once"])
def test_a_large_put_goes_on_where_the_primary_is_by_now(durable, tmp_path, monkeypatch, soon):
    large = noise(9 << 20)
    if soon:
        monkeypatch.setattr(catalog, "LOOK_AGAIN", 0.0)
    with durable.open() as one, durable.open() as other:
        other.put(picture())
        one.backends.add("two", f"file:{tmp_path}/two")

        def pieces():
            yield large[: 5 << 20]
            yield large[5 << 20 : -100]
            one.backends.primary("two")
            yield large[-100:]

        def elsewhere(*_):
            raise OSError(18, "Invalid cross-device link")

        with monkeypatch.context() as patched:
            patched.setattr(LocalStaged, "rename", refused_from(durable.blobs, elsewhere))
            digest = other.put(pieces()).digest
        assert content(one, digest) == large
        assert files(tmp_path / "two") >= 1


def refused_from(root, refuse):
    """As on two disks: what lies below ``root`` is renamed nowhere else."""
    rename = LocalStaged.rename

    def then(self, folder, name):
        if self._root == str(root):
            refuse()
        return rename(self, folder, name)

    return then


def test_a_mirror_that_is_away_stops_no_purge_and_no_put(store, second, monkeypatch):
    def refuse(*_):
        raise Unavailable("the network is away")

    digest = store.put(picture()).digest
    mirror = store._rooms.mounts.named("two").backend
    with monkeypatch.context() as patched:
        for name in ("open", "size", "delete", "put"):
            patched.setattr(mirror, name, refuse)
        change(store, "DELETE FROM calotype_replica WHERE backend = 'main'")
        assert store.put(picture()).status == "healed"
        assert content(store, digest) == picture()
        assert store.purge(digest).failed == 1
    store._rooms.catalog.clock.advance(days=2)
    store.gc(now=True)
    assert files(second) == 0


def test_a_place_that_never_answers_again_can_be_dropped(store, second, monkeypatch):
    def refuse(*_):
        raise Unavailable("the bucket is gone")

    store.put(picture())
    mirror = store._rooms.mounts.named("two").backend
    for name in ("open", "size", "scan", "delete", "read_note"):
        monkeypatch.setattr(mirror, name, refuse)
    assert store.backends.drop("two", dry_run=True).kept == 1  # it may be the other one's place
    would = store.backends.drop("two", abandon=True, dry_run=True)
    assert (would.let_go, would.kept) == (1, 0)
    with pytest.raises(Unavailable, match="cannot be erased"):
        store.backends.drop("two")
    assert store.backends.drop("two", abandon=True).removed


def test_a_place_that_is_gone_for_good_can_be_dropped(durable, tmp_path):
    with durable.open() as store:
        digest = store.put(picture()).digest
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        shutil.rmtree(tmp_path / "two")
        with pytest.raises(Unavailable, match="cannot be erased") as error:
            store.backends.drop("two")
        assert "--abandon" in error.value.hint
        assert store.backends.drop("two", abandon=True).removed
        assert states(store) == {"main": ("primary", 1, 0)}
        assert content(store, digest) == picture()
        assert problems(store) == []


def test_one_place_is_one_backend(durable, tmp_path):
    with durable.open() as store:
        store.put(picture(), owner="page/1")
        store.release("page/1")
        store.gc(now=True)
        (tmp_path / "link").symlink_to(durable.blobs)
        with pytest.raises(Misconfigured, match="is the place of the backend 'main'"):
            store.backends.add("two", f"file:{tmp_path}/link")
        for about in (durable.blobs / "more", durable.blobs.parent):
            with pytest.raises(Misconfigured, match="lies about it"):
                store.backends.add("two", f"file:{about}")
        with pytest.raises(Misconfigured, match="ends with this process"):
            store.backends.add("two", "memory:")


def test_bytes_in_another_file_are_found_from_any_folder(folder, tmp_path, monkeypatch):
    with folder.open() as store:
        digest = store.put(picture()).digest
        store.backends.add("two", f"sqlite:///{tmp_path}/bytes.db")
        store.backends.copy("two").result()
        store.backends.primary("two")
        assert store.backends.drop("main").removed
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with folder.open() as again:
        assert content(again, digest) == picture()
        again.put(picture(1))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_limit_lets_every_copy_of_a_blob_go(store, second):
    for day in range(3):
        for number in range(4):
            store.put(noise(40, 10 * day + number), owner="page/1", role=str(number))
        store.release("page/1")
        assert store.plan_gc(now=True, limit=3).doomed == 3
        assert store.gc(now=True, limit=3).erased == 6
    assert store.gc(now=True).erased == 6
    assert files(second) == 0


def test_in_a_short_time_the_backend_that_waited_longest_comes_first(store, second, monkeypatch):
    mirror = store._rooms.mounts.named("two").backend

    def away(*_):
        raise Unavailable("not now")

    store.put(picture(), owner="page/1")
    store.release("page/1")
    with monkeypatch.context() as patched:
        patched.setattr(mirror, "delete", away)
        patched.setattr(mirror, "scan", away)
        assert store.gc(now=True).erased == 1
    store._rooms.catalog.clock.advance(days=2)
    store.put(picture(1), owner="page/1")
    store.release("page/1")
    plans = store.plan_gc(now=True, budget="1h")
    assert [each.name for each in plans._gc.erasers(plans.terms)] == ["two", "main"]


def test_what_a_backend_out_of_reach_still_has_is_counted(durable, tmp_path):
    with durable.open() as store:
        store.put(picture(), owner="page/1")
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        (tmp_path / "two").rename(tmp_path / "away")
        store.release("page/1")
        report = store.gc(now=True)
        assert (report.doomed, report.erased, report.waiting) == (1, 1, 1)
        check = store.fsck(read_data=True).result()
        assert (check.findings["unreachable"], check.problems) == (1, 0)
        (tmp_path / "away").rename(tmp_path / "two")
        report = store.gc(now=True)
        assert (report.erased, report.waiting) == (1, 0)


def test_a_dropped_backend_keeps_its_bytes_for_the_delay(durable, tmp_path, clock):
    with durable.open(erase_delay="2d") as store:
        store.put(picture())
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        dropped = store.backends.drop("two")
        assert (dropped.let_go, dropped.waiting, dropped.removed) == (1, 1, False)
        assert files(tmp_path / "two") == 1
        clock.advance(days=3)
        assert store.backends.drop("two").removed
        assert files(tmp_path / "two") == 0


def test_what_gc_took_before_it_was_copied_is_gone_and_not_failed(store, tmp_path, monkeypatch):
    store.put(picture(), owner="page/1")
    store.backends.add("two", f"file:{tmp_path}/two")
    main = store._rooms.mounts.primary.backend
    real = main.open

    def late(key, *rest):
        store.release("page/1")
        store.gc(now=True)
        return real(key, *rest)

    monkeypatch.setattr(main, "open", late)
    done = store.backends.copy("two").result()
    assert (done.copied, done.gone, done.failed) == (0, 1, 0)


def test_a_copy_that_comes_back_otherwise_fails_and_is_none(store, tmp_path, monkeypatch):
    store.put(picture())
    store.backends.add("two", f"file:{tmp_path}/two")
    target = store._rooms.mounts.named("two").backend
    put = target.put

    def spoil_on_the_way(*given):
        put(*given)
        damage(tmp_path / "two")

    with monkeypatch.context() as patched:
        patched.setattr(target, "put", spoil_on_the_way)
        done = store.backends.copy("two").result()
    assert (done.copied, done.failed) == (0, 1)
    [failure] = done.failures
    assert (failure.code, "came back otherwise" in str(failure)) == ("corrupt", True)
    assert states(store)["two"] == ("mirror", 0, 1)
    assert store.backends.copy("two").result().copied == 1
    assert states(store)["two"] == ("mirror", 1, 0)
    store.gc(now=True)
    assert problems(store) == []


def test_a_copy_whose_writer_was_fenced_off_is_none(store, tmp_path, clock, monkeypatch):
    store.put(picture())
    store.backends.add("two", f"file:{tmp_path}/two")
    target = store._rooms.mounts.named("two").backend
    put = target.put

    def late(*given):
        put(*given)
        clock.advance(hours=1)
        assert store.gc(grace=0, erase_delay="1d").intents == 1

    with monkeypatch.context() as patched:
        patched.setattr(target, "put", late)
        done = store.backends.copy("two").result()
    assert (done.copied, done.failed) == (0, 0)
    assert states(store)["two"] == ("mirror", 0, 1)
    assert store.backends.copy("two").result().copied == 1
    store.gc(now=True)
    assert problems(store) == []
    assert files(tmp_path / "two") == 1


def test_a_stream_that_breaks_says_that_another_copy_is_there(durable, tmp_path):
    with durable.open() as store:
        digest = store.put(noise(9 << 20)).digest
        store.backends.add("two", f"file:{tmp_path}/two")
        store.backends.copy("two").result()
        damage(durable.blobs)
        with pytest.raises(Corrupt) as broken:
            content(store, digest)
        assert broken.value.hint.startswith("Read it again")
        assert content(store, digest) == noise(9 << 20)
