"""Supabase's own S3 endpoint: SeaweedFS behind a front that answers as that one does.

It refuses ``~`` in names, takes no notice of checksums and conditions, and its errors bear no code.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import urlopen

import pytest
from tests import proxy, seaweed
from tests.store.pictures import noise, picture
from tests.store.places import Clock
from tests.store.surgery import content, problems, rows

from calotype import Digest, Store
from calotype.backends import Backend, Key
from calotype.backends.s3 import S3Backend, sigv4
from calotype.backends.s3.asking import Patience
from calotype.backends.s3.place import SUPABASE
from calotype.errors import Denied, Misconfigured, NotFound
from calotype.quantities import now
from calotype.testing.backends import BackendContract
from calotype.testing.notes import NotesContract

HEARD = ("content-type", "content-length", "range")
NAMELESS = b'<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code></Code></Error>'


def as_supabase(exchange: proxy.Exchange, forward) -> None:
    target = urlsplit(exchange.target)
    path = target.path.removeprefix(SUPABASE)
    if path == target.path or "~" in unquote(path):
        exchange.status, exchange.answer = 400, NAMELESS
        return
    query = tuple(
        (name, text)
        for name, text in parse_qsl(target.query, keep_blank_values=True)
        if not name.startswith("X-Amz-")
    )
    kept = {name: text for name, text in exchange.headers.items() if name in HEARD}
    host = urlsplit(seaweed.endpoint()).netloc
    request = sigv4.Request(exchange.method, host, path, query, kept)
    payload = exchange.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    key = sigv4.Credentials.around()
    exchange.headers = sigv4.signed(request, key, "us-east-1", payload, now())
    exchange.target = f"{path}?{sigv4.encoded(query)}" if query else path
    forward()
    if exchange.status >= 400:
        exchange.answer = b"" if exchange.method == "HEAD" else NAMELESS
        exchange.answer_headers = {"Content-Length": str(len(exchange.answer))}


@pytest.fixture(autouse=True)
def credentials(monkeypatch) -> None:
    for name, text in seaweed.ENVIRONMENT.items():
        monkeypatch.setenv(name, text)


@pytest.fixture
def url() -> Iterator[str]:
    with proxy.before(seaweed.endpoint()) as front:
        front.plan(as_supabase, times=-1)
        place = seaweed.url().partition("?")[0]
        yield f"{place}?endpoint={front.endpoint}{SUPABASE}"


@pytest.fixture
def backend(url) -> S3Backend:
    return S3Backend(url, patience=Patience(5, 20, 5))


class TestSupabasesS3(NotesContract, BackendContract):
    @pytest.fixture
    def backend(self, url) -> Backend:
        return S3Backend(url)

    test_of_several_at_once_one_gives_way_to_one = None  # it compares nothing


def test_a_store_lives_there(url, tmp_path):
    place = {"catalog": f"sqlite:///{tmp_path}/app.db", "backend": url}
    with Store(**place, clock=Clock(), erase_delay=0) as store:
        first = store.put(picture(), owner="page/1").digest
        store.release("page/1")
        assert store.gc(now=True).erased == 1
        assert store.put(picture(), owner="page/2").digest == first
        large = store.put(noise(9 << 20)).digest
        assert content(store, first) == picture()
        assert content(store, large) == noise(9 << 20)
        keys = [key for (key,) in rows(store, "SELECT key FROM calotype_replica ORDER BY key")]
        assert any("~" in key for key in keys)
        assert problems(store) == []
        with urlopen(store.url(large)) as answer:
            assert Digest.of(answer.read()) == large


def test_an_object_with_a_token_is_called_otherwise_there(backend):
    key = Key(Digest.of(b"a"), "0123456789abcdef", "txt")
    backend.put(key, io.BytesIO(b"a"), 1)
    assert [each.name for each in backend.scan()] == [str(key)]
    assert backend.size(key) == 1
    backend.delete(key)
    assert backend.size(key) is None


def test_what_is_not_listed_is_missing_and_nothing_else_is(backend, monkeypatch):
    key = Key(Digest.of(b"a"), "", "txt")
    with pytest.raises(NotFound):
        backend.open(key)
    assert backend.read_note("calotype.json") is None
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises((Denied, Misconfigured)):
        backend.open(key)
