"""Direct uploads: bytes past the store, to a real S3 and to Supabase Storage."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from io import BytesIO, RawIOBase
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from tests import seaweed, servers, supabase_server
from tests.invariants import broken_invariants
from tests.store.pictures import noise, picture
from tests.store.surgery import (
    backend_of,
    change,
    content,
    key_of,
    lose,
    objects,
    problems,
    rows,
    states,
)

from calotype import Store, heart
from calotype.catalog import Catalog
from calotype.catalog.intents import INTENT_AGE
from calotype.digest import Digest
from calotype.errors import (
    Blocked,
    DigestMismatch,
    Misconfigured,
    NotFound,
    QuotaExceeded,
    TooLarge,
    Unavailable,
    UrlExpired,
)
from calotype.staging import Limits
from calotype.uploading import Upload

PAIRS = [("sqlite", "s3"), ("postgres", "supabase")]
OTHERS = [("sqlite", "supabase"), ("postgres", "s3")]

everywhere = pytest.mark.parametrize("pair", PAIRS + OTHERS, ids="-".join, indirect=True)


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, monkeypatch, s3_keys):
    monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", supabase_server.running().key)
    return request.param


@pytest.fixture
def catalog(pair, tmp_path):
    return servers.schema() if pair[0] == "postgres" else f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture
def url(pair):
    return seaweed.url() if pair[1] == "s3" else supabase_server.running().bucket()


@pytest.fixture
def store(catalog, url, clock, tmp_path):
    """A store that is looked through when the test is over, by eyes of its own and others'."""
    with Store(catalog=catalog, backend=url, clock=clock) as opened:
        yield opened
        if opened._rooms.catalog.is_sqlite:
            assert problems(opened) == []
            assert len(opened.backends.list()) > 1 or broken(opened, tmp_path) == []


def broken(store: Store, tmp_path) -> list[str]:
    """The invariants, as they are known without the store's code."""
    at = tmp_path / "looked-at"
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    with (
        closing(sqlite3.connect(store._rooms.catalog.path)) as here,
        closing(sqlite3.connect(at / "catalog.db")) as there,
    ):
        here.backup(there)
    for name in objects(store):
        file = at / "blobs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(httpx.get(signed(store, name)).content)
    return broken_invariants(at, late_writes=True)


def signed(store: Store, name: str) -> str:
    from calotype.backends import Key
    from calotype.quantities import SECOND, now

    key = Key.parse(name)
    assert key is not None
    return backend_of(store).sign(key, now() + 60 * SECOND, media_type="", disposition="")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ask(scope, data: bytes, media_type: str = "image/png") -> Upload:
    return scope.direct_upload(sha(data), len(data), media_type)


def send(upload: Upload, data: bytes, more: Mapping[str, str] | None = None) -> int:
    """As a browser would, without a key of the service's."""
    assert upload.url is not None
    headers = {name: text for name, text in upload.headers.items() if name != "Content-Length"}
    return httpx.put(upload.url, content=data, headers={**headers, **(more or {})}).status_code


def sent(scope, data: bytes, media_type: str = "image/png") -> str:
    upload = ask(scope, data, media_type)
    assert send(upload, data) == 200
    return upload.id


def is_s3(store: Store) -> bool:
    return backend_of(store).url.startswith("s3:")


@everywhere
def test_a_file_goes_past_the_store_and_is_kept(store, clock):
    upload = ask(store, picture())
    assert upload.expires_at > clock.moment
    assert objects(store) == {}
    assert store.explain(sha(picture())).sentence.startswith("It is being put")
    assert send(upload, picture()) == 200
    with pytest.raises(NotFound):
        store.stat(sha(picture()))
    done = store.complete(upload.id, owner="page/1", role="cover", filename="a.png")
    assert (done.digest, done.status, done.asset.references) == (sha(picture()), "created", 1)
    assert (done.blob.media_type, done.blob.width) == ("image/png", store.stat(done.digest).width)
    assert done.asset.filename == "a.png"
    assert content(store, done.digest) == picture()
    assert store.complete(upload.id) == done
    assert store.put(picture()).status == "duplicate"


@everywhere
def test_proven_bytes_stay_where_they_lie_and_others_are_moved(store):
    """S3 takes nothing but what was announced; the sender to Supabase could still change it."""
    upload = ask(store, picture())
    send(upload, picture())
    (name,) = objects(store)
    digest = store.complete(upload.id).digest
    assert (str(key_of(store, digest)) == name) == is_s3(store)
    assert "~" in name
    store.gc(now=True)
    assert list(objects(store)) == [str(key_of(store, digest))]


def test_what_it_is_taken_for_does_not_matter(store):
    ident = sent(store, picture(), "text/html")
    done = store.complete(ident, hold="24h")
    assert done.blob.media_type == "image/png"
    assert str(key_of(store, done.digest)).endswith(".png")
    assert done.asset.kept is not None
    for data in (b"", b"<script>", noise((8 << 20) + 1)):
        assert store.complete(sent(store, data, "application/octet-stream")).blob.size == len(data)
        assert content(store, sha(data)) == data


@everywhere
def test_wrong_bytes_are_not_kept(store):
    wrong = {"other bytes": picture(1), "too few": picture()[:-1], "too many": picture() + b"x"}
    for data in wrong.values():
        upload = ask(store, picture())
        status = send(upload, data)
        assert (status == 200) != is_s3(store), status
        error = NotFound if is_s3(store) else DigestMismatch
        for _ in range(2):
            with pytest.raises(error):
                store.complete(upload.id)
    assert store.stats().blobs == 0
    store.gc(now=True)
    assert objects(store) == {}


def test_a_service_that_checks_nothing_is_not_believed(store, monkeypatch):
    """As Supabase's own S3 route: what was sent is read."""
    upload = ask(store, picture())
    backend, key = backend_of(store), writing(store)
    backend.put(key, BytesIO(picture(1)), len(picture(1)))
    with pytest.raises(DigestMismatch):
        store.complete(upload.id)
    if is_s3(store):
        monkeypatch.setattr(type(backend), "vouch", lambda *_: False)
        again = sent(store, picture())
        assert store.complete(again).status == "created"
        assert str(key_of(store, sha(picture()))) != str(key)


@everywhere
def test_a_sender_decides_on_nobodys_headers(store):
    eve, bob = store.scope("eve"), store.scope("bob")
    spoilt = {"Content-Encoding": "gzip", "Cache-Control": "max-age=9"}
    for number in range(2):
        data = picture(number)
        upload = ask(eve, data)
        first, second = (spoilt, {}) if number else ({}, spoilt)
        assert send(upload, data, first) == 200
        digest = eve.complete(upload.id).digest
        bob.put(data)
        send(upload, data, second)
        assert httpx.get(bob.url(digest)).content == data
    store.gc(now=True)


def test_who_sends_slowly_changes_nothing_that_was_kept(store):
    """Others share the bytes by then."""
    upload, sending, go = ask(store, picture()), threading.Event(), threading.Event()

    def slowly():
        yield picture(1)[:10]
        sending.set()
        go.wait(30)
        yield picture(1)[10:]

    def send_others() -> int:
        headers = {**upload.headers, "Content-Length": str(len(picture(1)))}
        return httpx.put(upload.url, content=slowly(), headers=headers).status_code

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(send_others)
        assert sending.wait(30)
        assert send(upload, picture()) == 200
        digest = store.complete(upload.id).digest
        go.set()
        assert (late.result() == 200) != is_s3(store)
    assert content(store, digest) == picture()
    store.gc(now=True)
    assert content(store, digest) == picture()


def writing(store: Store):
    from calotype.backends import Key

    [(name,)] = rows(store, "SELECT key FROM calotype_replica WHERE state = 'writing'")
    key = Key.parse(name)
    assert key is not None
    return key


def test_a_file_that_the_scope_has_is_not_sent_again(store, clock):
    digest = store.put(picture(), owner="page/1").digest
    upload = ask(store, picture())
    assert upload.url is None
    assert store.complete(upload.id, owner="page/2").status == "duplicate"
    assert store.complete(upload.id, owner="page/2").status == "duplicate"
    assert store.stat(digest).references == 2
    store.release("page/1"), store.release("page/2")
    upload = ask(store, picture())
    assert upload.url is None
    assert store.complete(upload.id).status == "restored"
    backend_of(store).delete(key_of(store, digest))
    change(store, "UPDATE calotype_replica SET verified_at = 0")  # else it is believed to be there
    assert store.complete(sent(store, picture())).status == "healed"


def test_a_file_that_the_scope_has_is_of_one_size(store):
    store.scope("bob").put(picture(1))
    digest = store.put(picture()).digest
    with pytest.raises(DigestMismatch, match=f"has {len(picture())} bytes, not 7"):
        store.direct_upload(digest, 7, "image/png")
    assert store.direct_upload(sha(picture(1)), 7, "image/png").url is not None


def test_what_is_no_upload_is_told(store):
    store.create()
    for ident in (None, 5, b"x", ""):
        with pytest.raises(Misconfigured, match="Not a usable upload"):
            store.complete(ident)


def test_what_the_scope_let_go_meanwhile_has_to_be_sent(store):
    ana, bob = store.scope("ana"), store.scope("bob")
    digest = ana.put(picture()).digest
    bob.put(picture())
    upload = ask(ana, picture())
    ana.discard(digest)
    store.gc(now=True)
    with pytest.raises(UrlExpired):
        ana.complete(upload.id)
    assert ana.check([digest]) == {digest: None}


def test_scopes_learn_nothing_of_each_other(store):
    ana, bob = store.scope("ana"), store.scope("bob")
    ana.put(picture())
    known, unknown = ask(bob, picture()), ask(bob, picture(1))
    assert known.url is not None and unknown.url is not None
    shown = [
        unquote(urlsplit(each.url).path).partition(sha(data))[2][17:]
        for each, data in ((known, picture()), (unknown, picture(1)))
    ]
    assert shown == [".png", ".png"]
    for each in (known, unknown):
        with pytest.raises(NotFound, match="have not arrived"):
            bob.complete(each.id)
        with pytest.raises(NotFound, match="No upload"):
            ana.complete(each.id)
    for each, data in ((known, picture()), (unknown, picture(1))):
        assert send(each, data) == 200
        assert bob.complete(each.id).status == "created"
    assert store.stats().blobs == 2
    store.gc(now=True)
    assert len(objects(store)) == 2


def test_an_upload_ends(store, clock):
    early, late = ask(store, picture()), ask(store, picture(1))
    assert send(early, picture()) == 200
    clock.advance(hours=2, seconds=60)
    with pytest.raises(UrlExpired, match="is over"):
        store.complete(late.id)
    assert store.complete(early.id).status == "created"  # sent in time, completed a little late
    clock.advance(seconds=INTENT_AGE / 1e6)
    for _ in range(2):
        with pytest.raises(UrlExpired, match="is over"):
            store.complete(late.id)
        clock.advance(seconds=INTENT_AGE / 1e6)
        store.gc()
    assert states(store, sha(picture(1))) == ["doomed"]
    clock.advance(days=2)
    store.gc()
    assert rows(store, "SELECT count(*) FROM calotype_upload") == [(0,)]
    with pytest.raises(NotFound, match="No upload"):
        store.complete(early.id)


@pytest.mark.parametrize(("late", "kept"), [(-2, True), (2, False)])
def test_what_was_sent_in_time_is_completed_until_gc_may_let_it_go(store, clock, late, kept):
    ident = sent(store, picture())
    clock.advance(hours=2, seconds=INTENT_AGE / 1e6 + late)
    if kept:
        assert store.complete(ident).status == "created"
        return
    with pytest.raises(UrlExpired, match="is over"):
        store.complete(ident)
    assert states(store, sha(picture())) == ["writing"]  # gc has not been here yet


def test_gc_waits_for_what_is_being_read_to_complete_an_upload(store, clock, monkeypatch):
    ident = sent(store, noise(50_000, 1), "application/octet-stream")
    clock.advance(hours=2)
    opened = type(backend_of(store)).open

    class Slow(RawIOBase):
        """Ten minutes for each 16 kB, and gc after each."""

        def __init__(self, file):
            self._file = file

        def readable(self):
            return True

        def readinto(self, room):
            clock.advance(seconds=600)
            store.gc(now=True)
            assert states(store, sha(noise(50_000, 1))) == ["writing"]
            part = self._file.read(min(len(room), 16_000))
            room[: len(part)] = part
            return len(part)

    monkeypatch.setattr(heart, "BEAT", 0)
    monkeypatch.setattr(type(backend_of(store)), "vouch", lambda *_: False, raising=False)
    with monkeypatch.context() as patched:
        patched.setattr(type(backend_of(store)), "open", lambda *given: Slow(opened(*given)))
        assert store.complete(ident).status == "created"
    assert content(store, sha(noise(50_000, 1))) == noise(50_000, 1)


@everywhere
def test_bytes_that_arrive_after_the_end_go(store, clock):
    upload = ask(store, picture())
    clock.advance(hours=3)
    store.gc(now=True)
    assert states(store, sha(picture())) == ["erased"]
    assert send(upload, picture()) == 200  # the service's clock is late
    assert len(objects(store)) == 1
    with pytest.raises(UrlExpired):
        store.complete(upload.id)
    assert [each.kind for each in store.fsck()] == ["stray"]
    clock.advance(hours=25)
    store.gc()
    assert objects(store) == {}


@everywhere
def test_gc_waits_for_an_upload_as_long_as_it_may_take(store, clock):
    """And longer than for a writer, also while another's bytes of the same digest are let go."""
    other = store.scope("other")
    other.put(picture(), owner="page/1")
    upload = ask(store, picture())
    clock.advance(hours=1.9)
    other.release("page/1")
    assert store.gc(now=True).doomed == 1
    assert states(store, sha(picture())) == ["erased", "writing"]
    assert send(upload, picture()) == 200
    clock.advance(seconds=300)
    store.gc(now=True)
    assert store.complete(upload.id).status == "created"


@pytest.mark.parametrize("by", ["sql", "purge"])
def test_what_is_taken_away_by_hand(store, by):
    store.scope("other").put(picture(), owner="page/1")
    ident = sent(store, picture())
    if by == "purge":
        store.purge(sha(picture()), block=False)
        with pytest.raises(UrlExpired):
            store.complete(ident)
        return
    with store._rooms.catalog.write() as connection:
        for table in ("reference", "asset", "blob"):
            connection.exec_driver_sql(f"DELETE FROM calotype_{table}")
    assert store.complete(ident).status == "created"


def test_what_is_blocked_is_refused(store):
    upload = ask(store, picture())
    send(upload, picture())
    known = store.put(picture(1)).digest
    idle = ask(store, picture(1))
    for data in (picture(), picture(1)):
        store.purge(sha(data), block=True)
        with pytest.raises(Blocked):
            ask(store, data)
    for each in (upload, idle):
        with pytest.raises(Blocked):
            store.complete(each.id)
    assert objects(store) == {}
    assert store.check([known])[known] is None


def test_a_quota_is_kept_to(store):
    store.set_quota("default", len(picture()) + 1)
    with pytest.raises(QuotaExceeded):
        ask(store, noise(len(picture()) + 2))
    first, second = sent(store, picture()), sent(store, noise(len(picture())))
    store.complete(first)
    with pytest.raises(QuotaExceeded):
        store.complete(second)
    assert store.usage().bytes == len(picture())
    store.set_quota("default", 10 * len(picture()))
    assert store.complete(second).status == "created"


@everywhere
def test_two_at_once_answer_the_same(store):
    for number in range(3):
        ident = sent(store, noise(20_000, number))
        start = threading.Barrier(4)

        def completed(ident=ident, start=start):
            start.wait()
            return store.complete(ident, owner="page/1")

        with ThreadPoolExecutor(4) as pool:
            done = [each.result() for each in [pool.submit(completed) for _ in range(4)]]
        assert [each.status for each in done] == ["created"] * 4
        assert len({each.digest for each in done}) == 1


def test_the_first_completion_counts(store):
    ident = sent(store, picture())
    done = store.complete(ident, owner="page/1", metadata={"n": 1})
    store.release("page/1")
    again = store.complete(ident, owner="page/2")
    assert (again.status, again.asset.trashed, again.asset.references) == ("created", True, 0)
    assert again.asset.metadata == done.asset.metadata == {"n": 1}
    store.gc(now=True)
    with pytest.raises(NotFound):
        store.complete(ident)


def test_uploads_of_the_same_file_are_one_blob(store):
    first, second = sent(store, picture()), sent(store, picture())
    assert store.complete(first).status == "created"
    assert store.complete(second).status == "duplicate"
    other = store.scope("other")
    assert other.complete(sent(other, picture())).status == "created"
    store.gc(now=True)
    assert len(objects(store)) == 1


@everywhere
def test_bytes_that_another_scope_has_and_that_were_lost_are_here_again(store):
    """Who sends them has them, and so has the other scope from then on."""
    digest = store.put(picture(), owner="page/1").digest
    lose(store, digest)
    # what was read or written in the last 24 hours is believed to be there
    change(store, "UPDATE calotype_replica SET verified_at = verified_at - 90000000000")
    other = store.scope("other")
    assert other.complete(sent(other, picture()), owner="page/2").status == "created"
    assert content(other, digest) == content(store, digest) == picture()
    store.gc(now=True)


def test_beside_gc_in_a_tight_loop(store):
    over = threading.Event()

    def collect() -> int:
        runs = 0
        while not over.is_set():
            store.gc(now=True)
            runs += 1
        return runs

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(collect)
        try:
            for number in range(6):
                data = noise(5000, number % 2)
                upload = ask(store, data)
                while upload.url is None:  # it was let go of just now, and is not collected yet
                    store.gc(now=True)
                    upload = ask(store, data)
                assert send(upload, data) == 200
                assert store.complete(upload.id, owner="page/1").status == "created"
                assert content(store, sha(data)) == data
                store.release("page/1")
        finally:
            over.set()
        assert running.result() > 0
    assert store.gc(now=True).failed == 0


def test_mirrors_get_it_as_with_a_put(store, tmp_path):
    store.create()
    store.backends.add("two", f"file:{tmp_path}/two")
    digest = store.complete(sent(store, picture())).digest
    assert {each.name: each.lacking for each in store.backends.list()} == {"main": 0, "two": 0}
    pending = sent(store, picture(1))
    store.backends.primary("two")
    with pytest.raises(Misconfigured, match="takes no direct uploads"):
        ask(store, picture(2))
    assert store.complete(pending).status == "created"  # kept where puts are kept by now
    assert content(store, digest) == picture()
    listed = {each.name: each.lacking for each in store.backends.list()}
    assert listed == {"main": 0, "two": 0}
    store.gc(now=True)


def test_a_size_or_type_that_cannot_be(store, monkeypatch):
    digest = sha(b"x")
    for size in (-1, 2**63, True, "7", 1.5, None):
        with pytest.raises(Misconfigured, match="size"):
            store.direct_upload(digest, size, "image/png")  # type: ignore[arg-type]
    for kind in ("", "image", "image/png\r\nx: y", "image/png; q=1", "é/é", "a/" + 99 * "b", None):
        with pytest.raises(Misconfigured, match="media type"):
            store.direct_upload(digest, 1, kind)  # type: ignore[arg-type]
    if is_s3(store):
        with pytest.raises(TooLarge, match=r"5\.4 GB at most"):
            store.direct_upload(digest, (5 << 30) + 1, "image/png")
    for ident in ("", "\x00"):
        with pytest.raises(Misconfigured):
            store.complete(ident)
    with pytest.raises(Misconfigured, match="role belongs"):
        store.complete(sent(store, picture()), role="cover")
    assert repr(ask(store, picture(1))).count("http") == 0


def test_a_limit_of_size_holds(catalog, url, clock):
    with Store(catalog=catalog, backend=url, clock=clock, limits=Limits(file_size=10)) as store:
        with pytest.raises(TooLarge):
            store.direct_upload(sha(b"x"), 11, "image/png")
        assert store.complete(sent(store, b"1234567890")).blob.size == 10


def test_a_service_that_fails_leaves_the_upload_to_be_completed(store, monkeypatch):
    ident = sent(store, picture())
    broken = Unavailable("It is away.", hint="Try again.")

    def away(*_, **__):
        raise broken

    for name in ("vouch", "size", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(type(backend_of(store)), name, away, raising=False)
            if is_s3(store) and name == "size":
                continue
            if name == "vouch" and not is_s3(store):
                continue
            with pytest.raises(Unavailable):
                store.complete(ident)
    assert store.complete(ident).status == "created"


@pytest.mark.parametrize("backend", ["file:{}/media", "memory:", "database:"])
def test_other_backends_take_puts_alone(tmp_path, backend):
    catalog = "sqlite://" if backend == "memory:" else f"sqlite:///{tmp_path}/catalog.db"
    with Store(catalog=catalog, backend=backend.format(tmp_path)) as store:
        with pytest.raises(Misconfigured, match="takes no direct uploads") as raised:
            ask(store, picture())
        assert "Put the file" in raised.value.hint
        assert not (tmp_path / "catalog.db").exists()
        with pytest.raises(NotFound, match="No upload"):
            store.complete("0" * 32)


def test_a_lost_table_is_made_anew(store):
    upload = ask(store, picture())
    with store._rooms.catalog.write() as connection:
        connection.exec_driver_sql("DROP TABLE calotype_upload")
    assert "mended" in [each.action for each in store.fsck(repair=True)]
    with pytest.raises(NotFound, match="No upload"):
        store.complete(upload.id)


# A process that is killed between any two steps


STEPS = ("admit", "vouch", "size", "open", "put")


@contextmanager
def killed_at(store: Store, step: int):
    """Kill this process before or after its n-th request or commit."""
    count = 0

    def passed() -> None:
        nonlocal count
        count += 1
        if count > step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(call):
        def run(*given, **named):
            passed()
            answer = call(*given, **named)
            passed()
            return answer

        return run

    kind = type(backend_of(store))
    for name in STEPS:
        if hasattr(kind, name):
            setattr(kind, name, watched(getattr(kind, name)))
    write = Catalog.write

    @contextmanager
    def writing(self, **options):
        with write(self, **options) as connection:
            yield connection
            passed()
        passed()

    Catalog.write = writing  # type: ignore[method-assign]
    yield


def in_a_child(act) -> bool:
    """True where it came to its end, False where it was killed."""
    child = os.fork()
    if not child:
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return status == 0


def test_a_kill_between_any_two_steps(catalog, url, store, clock):
    store.create()
    store.close()

    def through(work, step):
        def act() -> None:
            with Store(catalog=catalog, backend=url, clock=clock) as mine, killed_at(mine, step):
                work(mine)

        return in_a_child(act)

    step = 0
    while not through(lambda mine: ask(mine, picture()), step):
        step += 1
    assert step >= 4

    def completed(ident, mine):
        mine.complete(ident, owner="page/1")

    step = 0
    while True:
        ident = sent(store, noise(3000, step))
        store.close()
        ended = through(partial(completed, ident), step)
        assert store.complete(ident, owner="page/1").status == "created"
        assert store.stat(Digest.of(noise(3000, step))).references == 1
        store.close()
        if ended:
            break
        step += 1
    assert step >= 6
    store.release("page/1")
    clock.advance(days=3)
    store.gc(now=True)
    clock.advance(days=2)
    store.gc(now=True)
    assert objects(store) == {}
