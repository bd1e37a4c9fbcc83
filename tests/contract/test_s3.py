"""The backend in S3, on a real service: the contract, its other powers, and what it refuses."""

from __future__ import annotations

import http.client
import io
import os
import subprocess
import sys
import threading
import tracemalloc
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests import proxy as network
from tests import seaweed
from tests.store.places import Clock

from calotype import Store
from calotype.backends import (
    Admits,
    Backend,
    Key,
    Locates,
    Remote,
    Signs,
    Stages,
    Sweeps,
    Vanishes,
)
from calotype.backends.s3 import S3Backend, listing, notes, parts
from calotype.backends.s3.asking import Body, Call, Patience
from calotype.digest import Digest
from calotype.doctoring import Remark, examine
from calotype.errors import CalotypeError, Corrupt, Denied, Misconfigured, NotFound, Unavailable
from calotype.opening import open_backend
from calotype.quantities import SECOND, now
from calotype.testing.backends import BackendContract, machine
from calotype.testing.notes import NotesContract
from calotype.testing.objects import Broken, absent, key, names, noise, put, read, source

HOUR = 3600 * SECOND
LARGE = noise(2 * parts.PART + 999_999)

SOME = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch) -> None:
    as_user(monkeypatch, seaweed.ENVIRONMENT)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)


@pytest.fixture
def backend() -> S3Backend:
    return S3Backend(seaweed.url(), patience=Patience(5, 20, 5))


def as_user(monkeypatch, key: dict[str, str]) -> None:
    for name, text in key.items():
        monkeypatch.setenv(name, text)


class TestS3(NotesContract, BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return S3Backend(seaweed.url())

    def test_it_behaves_as_a_dictionary_does(self):
        run_state_machine_as_test(machine(lambda: S3Backend(seaweed.url())), settings=SOME)


def test_its_powers_are_found_by_asking():
    backend = open_backend("s3://some-bucket/part")
    assert isinstance(backend, Signs | Admits)
    assert all(isinstance(backend, power) for power in (Backend, Sweeps, Remote, Signs, Admits))
    assert not isinstance(backend, Stages | Locates | Vanishes)
    assert backend.url == "s3://some-bucket/part"


def test_a_store_keeps_its_bytes_there(backend, tmp_path):
    with Store(catalog=f"sqlite:///{tmp_path}/app.db", backend=backend.url) as store:
        digest = store.put(LARGE, owner="scan/1").digest
        (tmp_path / "page.txt").write_bytes(b"the second page")
        done = store.put_many([tmp_path / "page.txt"], owner="scan/1").result()
        assert done.created == 1
        assert store.put(LARGE).status == "duplicate"
        with store.open(digest) as file:
            assert file.read() == LARGE
        with store.open(digest, 9, 99) as file:
            assert file.read() == LARGE[9:99]
        backend.delete(Key(digest))
        with pytest.raises(Corrupt), store.open(digest) as file:
            file.read()
        assert [each.kind for each in store.fsck()] == ["missing"]
        assert store.put(LARGE).status == "healed"
        assert store.fsck(read_data=True).result().problems == 0
        store.discard(digest)
        store.release(owner="scan/1")
        assert store.gc(now=True).failed == 0
        assert names(backend, "sha256/") == []


def test_gc_aborts_what_a_killed_writer_sent_in_parts(backend, tmp_path):
    clock = Clock()
    catalog = f"sqlite:///{tmp_path}/app.db"
    with Store(catalog=catalog, backend=backend.url, clock=clock) as store:
        store.put(b"first")
        name = str(key("killed"))
        ident = parts._begun(backend._bucket, name, "mark")
        parts._send(backend._bucket, name, ident, 1, Body.of([LARGE[: parts.PART]]))
        assert list(listing.uploads(backend._bucket, now() + HOUR)) == [(name, ident)]
        assert store.gc(now=True).temporary == 0  # its writer may live
        clock.advance(hours=1)
        assert store.gc().temporary == 1
        assert list(listing.uploads(backend._bucket, now() + HOUR)) == []
        with pytest.raises(Unavailable, match="removed before its end"):
            parts._send(backend._bucket, name, ident, 2, Body.of([b"rest"]))
        assert store.fsck(read_data=True).result().problems == 0


def test_doctor_asks_the_service(backend, tmp_path, monkeypatch):
    with Store(catalog=f"sqlite:///{tmp_path}/app.db", backend=backend.url) as store:
        store.put(b"bytes")
        assert remarks(store)["bytes"] == Remark("ok", "bytes", f"in {backend.url}")
        as_user(monkeypatch, seaweed.WRITER)
        told = remarks(store)["bytes"]
        assert told.level == "fail"
        assert "s3:ListBucket" in told.cure


def remarks(store: Store) -> dict[str, Remark]:
    return {each.subject: each for each in examine(store)}


# -- creating, where the service knows conditions ---------------------------------------------


@pytest.fixture
def watched(proxy) -> S3Backend:
    """Behind a proxy that sees each request."""
    return S3Backend(seaweed.url(proxy.endpoint), patience=Patience(5, 20, 5))


def puts(proxy) -> list[tuple[bool, int]]:
    """Whether each PUT was a condition's to decide, and its answer."""
    sent = [each for each in proxy.seen if each.method == "PUT"]
    return [("*" in each.headers.values(), each.status) for each in sent]


def test_what_a_put_with_a_lost_answer_made_is_not_written_again(watched, proxy):
    proxy.plan(network.lose_answer, method="PUT")
    put(watched, key("a"), b"bytes")
    assert puts(proxy) == [(True, 200), (True, 412)]
    assert read(watched, key("a")) == b"bytes"


def test_what_is_there_and_is_wrong_is_replaced(watched, proxy):
    put(watched, key("a"), b"wrong")
    put(watched, key("a"), b"right")
    assert puts(proxy) == [(True, 200), (True, 412), (False, 200)]
    assert read(watched, key("a")) == b"right"
    put(watched, key("a"), b"shorter"[:2])
    assert read(watched, key("a")) == b"sh"


@pytest.mark.parametrize("status", [409, 501])
def test_a_service_that_will_not_have_a_condition_gets_none(watched, proxy, status):
    proxy.plan(network.error(status, "Conditional"), method="PUT")
    put(watched, key("a"), b"bytes")
    assert puts(proxy) == [(True, status), (False, 200)]
    assert read(watched, key("a")) == b"bytes"


# -- large objects ---------------------------------------------------------------------------


def test_a_large_object_goes_in_parts_and_comes_in_one_piece(backend):
    backend.put(key("a"), source(LARGE), len(LARGE))
    assert backend.size(key("a")) == len(LARGE)
    assert read(backend, key("a")) == LARGE
    assert read(backend, key("a"), 5, len(LARGE) - 5) == LARGE[5:-5]
    assert backend.sweep(now() + HOUR) == 0


@pytest.mark.parametrize("size", [parts.PART, parts.PART + 1, 2 * parts.PART])
def test_sizes_about_a_part_are_whole(backend, size):
    put(backend, key("a"), LARGE[:size])
    assert read(backend, key("a")) == LARGE[:size]


def test_a_large_object_that_fails_leaves_nothing(backend):
    put(backend, key("a"), b"old")
    for offset in (0, parts.PART, len(LARGE) - 1, len(LARGE)):
        with pytest.raises(Broken):
            backend.put(key("a"), source(LARGE, breaks_at=offset), len(LARGE))
    for size in (len(LARGE) - 1, len(LARGE) + 1):
        with pytest.raises(Unavailable):
            backend.put(key("a"), source(LARGE), size)
    assert read(backend, key("a")) == b"old"
    assert backend.sweep(now() + HOUR) == 0


def test_a_source_that_is_not_found_is_not_taken_for_the_upload(backend):
    """As one that is read from another backend may be."""

    def vanish() -> None:
        raise NotFound("gone from elsewhere")

    for size in (9, len(LARGE)):
        with pytest.raises(NotFound, match="gone from elsewhere"):
            backend.put(key("a"), source(LARGE[:size], before=vanish), size)
    assert absent(backend, key("a"))
    assert backend.sweep(now() + HOUR) == 0


def test_parts_are_as_large_as_their_number_asks_for():
    assert parts.part_size(1) == parts.PART
    assert parts.part_size(10_000 * parts.PART) == parts.PART
    for size in (10_000 * parts.PART + 1, 5 << 40):
        assert size <= 10_000 * parts.part_size(size)
        assert parts.part_size(size) < 1 << 30


def test_memory_is_bounded_both_ways(backend):
    size = 12 * parts.PART

    class Zeros(io.RawIOBase):
        left = size

        def read(self, most: int = -1) -> bytes:
            some = min(most, self.left)
            self.left -= some
            return bytes(some)

    tracemalloc.start()
    try:
        backend.put(key("a"), Zeros(), size)
        _, most = tracemalloc.get_traced_memory()
        assert most < 7 * parts.PART
        tracemalloc.reset_peak()
        with backend.open(key("a")) as file:
            assert sum(len(chunk) for chunk in iter(lambda: file.read(1 << 20), b"")) == size
        _, most = tracemalloc.get_traced_memory()
        assert most < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_reader_seeks_in_its_own_part(backend):
    put(backend, key("a"), LARGE)
    with backend.open(key("a"), 1000, len(LARGE) - 1000) as file:
        part = LARGE[1000:-1000]
        assert file.read(10) == part[:10]
        assert file.seek(-7, io.SEEK_END) == len(part) - 7
        assert file.read() == part[-7:]
        assert file.read() == b""
        assert file.seek(parts.PART) == parts.PART == file.tell()
        assert file.read(100) == part[parts.PART :][:100]
        assert file.seek(len(part) + 9) == len(part) + 9
        assert file.read() == b""
        with pytest.raises(ValueError, match="before the beginning"):
            file.seek(-1)
        file.seek(0)
        assert file.read() == part


def test_a_large_reader_never_mixes_two_objects(backend):
    for change in (
        lambda: backend.delete(key("a")),
        lambda: put(backend, key("a"), LARGE[::-1]),
        lambda: put(backend, key("a"), b"short"),
    ):
        put(backend, key("a"), LARGE)
        with backend.open(key("a")) as file:
            begun = file.read(10)
            change()
            with suppress(CalotypeError):
                assert begun + file.read() == LARGE
        put(backend, key("a"), LARGE)
        with backend.open(key("a")) as file:
            change()
            file.seek(-5, io.SEEK_END)  # a new request
            with pytest.raises((Unavailable, NotFound)):
                file.read()


# -- scans and sweeps ------------------------------------------------------------------------


@pytest.fixture
def small_pages(monkeypatch) -> None:
    pages = listing._pages

    def small(bucket, doing, right, query, marks, **more):
        limit = {"continuation-token": "max-keys", "key-marker": "max-uploads"}
        most = limit.get(next(iter(marks)), "max-parts")
        return pages(bucket, doing, right, [*query, (most, "2")], marks, **more)

    monkeypatch.setattr(listing, "_pages", small)


def test_a_scan_goes_on_over_pages(backend, small_pages):
    keys = sorted(str(key(f"{n}")) for n in range(25))
    for n in range(25):
        put(backend, key(f"{n}"), b"x")
    assert names(backend) == keys


def test_a_scan_over_pages_leaves_out_nothing_of_others(backend, small_pages):
    others = ["sha256-x", "sha256.y", "sha256/a", "sha256/a-b", "x/1", "x/2/3", "x/2.0", "x.y"]
    for name in others:
        backend._bucket.ask(Call("PUT", name, "put into", ""))
    for n in range(5):
        put(backend, key(f"{n}"), b"x")
    found = names(backend)
    assert sorted(found) == sorted([*others, *(str(key(f"{n}")) for n in range(5))])


def test_a_sweep_goes_on_over_pages(backend, small_pages):
    bucket = backend._bucket
    for n in range(5):
        ident = parts._begun(bucket, str(key(f"{n}")), "mark")
        for number in range(1, n + 1):
            parts._send(bucket, str(key(f"{n}")), ident, number, Body.of([b"x"]))
    assert backend.sweep(now() + HOUR) == 5
    assert backend.sweep(now() + HOUR) == 0


def test_objects_of_other_names_are_listed_as_they_are_called(backend):
    others = ["a b+c%41&<é>.txt", "calotype.json", "sha256/x", "sha2567", "zz/\x01"]
    for name in others:
        backend._bucket.ask(Call("PUT", name, "put into", ""))
    put(backend, key("a"), b"x")
    assert sorted(names(backend)) == sorted([*others, str(key("a"))])
    assert "sha256/x" in names(backend, "sha256/")
    assert "sha2567" not in names(backend, "sha256/")


def test_neighbouring_prefixes_are_apart():
    prefix = f"test/{Digest.of(os.urandom(9))[:12]}"
    images, images2 = (S3Backend(seaweed.url(prefix=each)) for each in (prefix, prefix + "2"))
    put(images2, key("a"), LARGE)
    assert names(images) == []
    parts._begun(images2._bucket, str(key("b")), "mark")
    assert images.sweep(now() + HOUR) == 0
    assert images2.sweep(now() + HOUR) == 1


def test_sweep_takes_only_what_is_old_and_ours(backend):
    bucket = backend._bucket
    put(backend, key("a"), LARGE)
    for name in (str(key("b")), "sha256/of-others", "others"):
        parts._begun(bucket, name, "mark")
    ident = parts._begun(bucket, str(key("c")), "mark")
    parts._send(bucket, str(key("c")), ident, 1, Body.of([LARGE[: parts.PART]]))
    assert backend.sweep(now() - HOUR) == 0
    assert backend.sweep(now() + HOUR) == 2
    assert backend.sweep(now() + HOUR) == 0
    assert read(backend, key("a")) == LARGE
    with pytest.raises(Unavailable, match="removed before its end"):
        parts._send(bucket, str(key("c")), ident, 2, Body.of([b"late"]))


def test_sweep_leaves_an_upload_alone_that_goes_on(backend, monkeypatch):
    bucket = backend._bucket
    ident = parts._begun(bucket, str(key("c")), "mark")
    instant = listing._instant
    begun_long_ago = iter([now() - HOUR])
    monkeypatch.setattr(
        listing, "_instant", lambda text: next(begun_long_ago, None) or instant(text)
    )
    parts._send(bucket, str(key("c")), ident, 1, Body.of([b"x"]))
    assert backend.sweep(now() - HOUR // 2) == 0
    monkeypatch.setattr(listing, "_instant", instant)
    assert backend.sweep(now() + HOUR) == 1


def test_an_upload_that_is_swept_under_its_writer_is_unavailable(backend):
    def sweep() -> None:
        if backend.sweep(now() + HOUR):
            swept.append(True)

    swept: list[bool] = []
    with pytest.raises(Unavailable, match="removed before its end"):
        backend.put(key("a"), source(LARGE, before=sweep), len(LARGE))
    assert swept
    assert absent(backend, key("a"))


# -- signed URLs -----------------------------------------------------------------------------


def fetch(method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.putrequest(method, f"{parts.path}?{parts.query}", skip_accept_encoding=True)
    for name, text in (headers or {}).items():
        connection.putheader(name, text)
    connection.endheaders(body or None)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_anybody_reads_by_a_signed_url(backend):
    put(backend, key("a"), b"bytes")
    url = backend.sign(
        key("a"), now() + HOUR, media_type="image/png", disposition='attachment; filename="x y.png"'
    )
    status, headers, body = fetch("GET", url)
    assert (status, body) == (200, b"bytes")
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"] == 'attachment; filename="x y.png"'
    assert seaweed.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in url


def test_a_signed_url_is_the_same_whenever_it_is_asked_for(backend, monkeypatch):
    import calotype.backends.s3 as room

    until = now() + HOUR
    made = backend.sign(key("a"), until, media_type="image/png", disposition="")
    monkeypatch.setattr(room, "now", lambda: until - SECOND)
    assert backend.sign(key("a"), until, media_type="image/png", disposition="") == made
    assert backend.sign(key("a"), until + SECOND, media_type="image/png", disposition="") != made
    assert "response-content-disposition" not in made


def test_a_signed_url_ends(backend):
    put(backend, key("a"), b"bytes")
    status, _, body = fetch(
        "GET", backend.sign(key("a"), now() - SECOND, media_type="", disposition="")
    )
    assert status == 403
    assert b"bytes" not in body
    with pytest.raises(Misconfigured, match="7 days"):
        backend.sign(key("a"), now() + 169 * HOUR, media_type="", disposition="")
    put(backend, key("a"), b"bytes")
    url = backend.sign(key("a"), now() + 168 * HOUR, media_type="", disposition="")
    assert fetch("GET", url)[0] == 200


def test_a_signed_url_that_was_changed_is_refused(backend):
    put(backend, key("a"), b"bytes")
    put(backend, key("b"), b"others")
    url = backend.sign(key("a"), now() + HOUR, media_type="image/png", disposition="inline")
    changed = [
        url.replace(str(key("a")), str(key("b"))),
        url.replace("image%2Fpng", "text%2Fhtml"),
        url.replace("X-Amz-Expires=604800", "X-Amz-Expires=604801"),
        url.replace("=inline", "=attachment"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ]
    for each in changed:
        assert each != url
        assert fetch("GET", each)[0] in (400, 403), each
    assert fetch("PUT", url, body=b"x")[0] == 403
    assert fetch("DELETE", url)[0] == 403
    assert read(backend, key("a")) == b"bytes"


CONTENT = b"sent past the store"
DIRECT = Key(Digest.of(CONTENT), "0123456789abcdef", "png")


def test_whoever_is_admitted_puts_these_very_bytes(backend):
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() + HOUR)
    assert admission.method == "PUT"
    assert fetch("PUT", admission.url, dict(admission.headers), CONTENT)[0] == 200
    assert read(backend, DIRECT) == CONTENT
    signed = backend.sign(DIRECT, now() + HOUR, media_type="", disposition="")
    assert fetch("GET", signed)[1]["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, CONTENT[::-1]),
        ({"Content-Length": str(len(CONTENT) + 1)}, CONTENT + b"x"),
        ({"Content-Length": str(len(CONTENT) - 1)}, CONTENT[:-1]),
        ({"Content-Type": "text/html"}, CONTENT),
        ({"x-amz-checksum-sha256": Body.of([CONTENT[::-1]]).checksum}, CONTENT[::-1]),
        ({"x-amz-checksum-sha256": ""}, CONTENT[::-1]),
    ],
)
def test_whoever_is_admitted_puts_nothing_else(backend, changed, body):
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() + HOUR)
    headers = {**admission.headers, **changed}
    headers = {name: text for name, text in headers.items() if text}
    assert fetch("PUT", admission.url, headers, body)[0] in (400, 403)
    assert absent(backend, DIRECT)


SPOILING = {
    "Cache-Control": "max-age=31536000",
    "Content-Disposition": "attachment; filename=evil.exe",
    "Content-Encoding": "gzip",
    "Content-Language": "xx",
    "Expires": "Thu, 01 Jan 2099 00:00:00 GMT",
}


def test_what_was_put_is_not_put_again(backend):
    """Nobody spoils what others read by then."""
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() + HOUR)
    assert fetch("PUT", admission.url, dict(admission.headers), CONTENT)[0] == 200
    assert backend.vouch(DIRECT, len(CONTENT))
    assert fetch("PUT", admission.url, {**admission.headers, **SPOILING}, CONTENT)[0] == 412
    bare = {name: text for name, text in admission.headers.items() if name != "If-None-Match"}
    assert fetch("PUT", admission.url, bare, CONTENT)[0] == 403
    assert backend.vouch(DIRECT, len(CONTENT))
    assert names(backend) == [str(DIRECT)]


@pytest.mark.parametrize("header", SPOILING)
def test_headers_that_nobody_asked_for_are_not_vouched_for(backend, header):
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() + HOUR)
    headers = {**admission.headers, header: SPOILING[header]}
    assert fetch("PUT", admission.url, headers, CONTENT)[0] == 200
    assert not backend.vouch(DIRECT, len(CONTENT))


def test_a_service_that_puts_over_what_is_there_is_not_believed(backend, monkeypatch):
    put_note = notes._put
    monkeypatch.setattr(notes, "_put", lambda *asked: put_note(*asked[:3], {}))
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() + HOUR)
    assert "If-None-Match" not in admission.headers
    assert fetch("PUT", admission.url, dict(admission.headers), CONTENT)[0] == 200
    assert not backend.vouch(DIRECT, len(CONTENT))


def test_an_admission_ends(backend):
    admission = backend.admit(DIRECT, len(CONTENT), "image/png", now() - SECOND)
    assert fetch("PUT", admission.url, dict(admission.headers), CONTENT)[0] == 403
    assert absent(backend, DIRECT)
    with pytest.raises(Misconfigured, match="7 days"):
        backend.admit(DIRECT, len(CONTENT), "image/png", now() + 169 * HOUR)


# -- what cannot work is told, with what mends it ---------------------------------------------


def everything(backend: S3Backend):
    return [
        lambda: put(backend, key("a"), b"x"),
        lambda: put(backend, key("a"), LARGE),
        lambda: backend.open(key("a")),
        lambda: backend.open(key("a"), 3, 3),
        lambda: backend.size(key("a")),
        lambda: backend.delete(key("a")),
        lambda: names(backend),
        lambda: backend.sweep(now()),
        backend.reach,
    ]


def test_a_missing_bucket_is_told(monkeypatch):
    as_user(monkeypatch, seaweed.USER)
    backend = S3Backend(seaweed.url(bucket="never-made"))
    for call in (
        lambda: backend.open(key("a")),
        lambda: backend.size(key("a")),
        lambda: names(backend),
        backend.reach,
    ):
        with pytest.raises(Misconfigured, match="never-made.* there is no such bucket"):
            call()
    with pytest.raises(CalotypeError, match="never-made"):  # SeaweedFS answers that it is denied
        put(backend, key("a"), b"x")


def test_unknown_keys_and_wrong_secrets_are_told(backend, monkeypatch):
    for name, said in (
        ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID is not known"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY does not fit"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, "hunter2")
            for call in everything(backend):
                with pytest.raises(Denied) as told:
                    call()
                assert "hunter2" not in str(told.value) + told.value.hint
            with pytest.raises(Denied, match=said):
                backend.reach()


def test_a_variable_that_is_not_set_is_named(backend, monkeypatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for call in everything(backend):
        with pytest.raises(Misconfigured, match="AWS_SECRET_ACCESS_KEY not set"):
            call()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hun\nter2")
    with pytest.raises(Misconfigured, match="AWS_SECRET_ACCESS_KEY holds") as told:
        backend.reach()
    assert "ter2" not in str(told.value)


def test_a_missing_right_is_named(backend, monkeypatch):
    put(backend, key("a"), b"x")
    as_user(monkeypatch, seaweed.READER)
    assert read(backend, key("a")) == b"x"
    backend.reach()
    for call, right in (
        (lambda: put(backend, key("b"), b"x"), "s3:PutObject"),
        (lambda: put(backend, key("b"), LARGE), "s3:PutObject"),
        (lambda: backend.delete(key("a")), "s3:DeleteObject"),
    ):
        with pytest.raises(Denied) as told:
            call()
        assert right in told.value.hint
    as_user(monkeypatch, seaweed.WRITER)
    for call, right in (
        (lambda: backend.open(key("a")), "s3:GetObject"),
        (lambda: names(backend), "s3:ListBucket"),
        (backend.reach, "s3:ListBucket"),
    ):
        with pytest.raises(Denied) as told:
            call()
        assert right in told.value.hint


def test_nobody_at_the_endpoint_is_unavailable_and_not_missing(monkeypatch):
    brief = Patience(1, 1, 0.3)
    for endpoint, said in (
        ("http://127.0.0.1:9", "takes no connections"),
        ("http://nobody.invalid", "no address is known"),
    ):
        backend = S3Backend(f"s3://some-bucket?endpoint={endpoint}", patience=brief)
        for call in everything(backend):
            with pytest.raises(Unavailable, match=said):
                call()


def test_any_threads_share_its_connections(backend):
    put(backend, key("a"), b"bytes")
    wrong: list[bytes] = []

    def look() -> None:
        for _ in range(20):
            found = read(backend, key("a"))
            if found != b"bytes":
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    assert 1 <= len(backend._bucket._wire._idle) <= 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_goes_on_with_connections_of_its_own(backend):
    put(backend, key("a"), b"parent")
    large = backend.open(key("a"))
    child = os.fork()
    if not child:
        try:
            for n in range(20):
                put(backend, key(f"child {n}"), b"child")
                assert read(backend, key("a")) == b"parent"
            put(backend, key("large"), LARGE)
        except BaseException:
            os._exit(1)
        os._exit(0)
    for n in range(20):
        put(backend, key(f"parent {n}"), b"more")
        assert read(backend, key(f"parent {n}")) == b"more"
    assert os.waitpid(child, 0)[1] == 0
    assert large.read() == b"parent"
    assert read(backend, key("large")) == LARGE
    assert all(read(backend, key(f"child {n}")) == b"child" for n in range(20))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_are_forked_while_threads_are_at_work(backend):
    put(backend, key("a"), b"bytes")
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            assert read(backend, key("a")) == b"bytes"

    threads = [threading.Thread(target=look) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        for n in range(10):
            child = os.fork()
            if not child:
                try:
                    put(backend, key(f"{n}"), b"child")
                    os._exit(int(read(backend, key(f"{n}")) != b"child"))
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        for each in threads:
            each.join()
    assert len(names(backend)) == 11


UPLOADING = """
import sys
from calotype.backends.s3 import S3Backend, parts
from calotype.testing.objects import key, noise, source

def look():
    print(flush=True)

S3Backend(sys.argv[1]).put(key("a"), source(noise(9 * parts.PART), before=look), 9 * parts.PART)
"""


@pytest.mark.parametrize("reads", [1, 30, 60, 70])
def test_what_a_killed_upload_leaves_is_swept(backend, reads):
    child = subprocess.Popen([sys.executable, "-c", UPLOADING, backend.url], stdout=subprocess.PIPE)
    for _ in range(reads):
        assert child.stdout.readline() == b"\n"
    child.kill()
    child.communicate()
    assert absent(backend, key("a"))
    assert backend.sweep(now() - HOUR) == 0
    assert backend.sweep(now() + HOUR) == 1
    assert backend.sweep(now() + HOUR) == 0
    assert absent(backend, key("a"))
