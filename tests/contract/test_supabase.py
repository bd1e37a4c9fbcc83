"""The Supabase backend against a server that has Supabase's quirks, and against one that fails."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from datetime import datetime
from random import Random
from urllib.parse import quote

import httpx
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.supabase_server import Fault, Stored, Supabase

from calotype.backends import (
    Admits,
    Backend,
    Deletes,
    Key,
    Locates,
    Remote,
    Signs,
    Stages,
    Vanishes,
)
from calotype.backends.supabase import REACH, SupabaseBackend
from calotype.backends.supabase.place import Place
from calotype.backends.supabase.refusals import Passing, Refusal
from calotype.backends.supabase.tus import PART
from calotype.backends.supabase.wire import Patience
from calotype.errors import (
    Corrupt,
    Denied,
    Misconfigured,
    NotFound,
    TooLarge,
    Unavailable,
    UrlExpired,
)
from calotype.opening import open_backend
from calotype.quantities import SECOND, now
from calotype.testing.backends import BackendContract, machine
from calotype.testing.notes import NotesContract
from calotype.testing.objects import (
    Broken,
    absent,
    key,
    names,
    noise,
    put,
    read,
    source,
    together,
)

PATIENT = Patience(total=60, pause=0.01, longest=0.1, silence=30)
SHORT = Patience(total=0.3, pause=0.01, longest=0.05, silence=0.5)
LONG = settings(max_examples=15, stateful_step_count=20, deadline=None)
TOKEN = "0123456789abcdef"
LARGE = noise(2 * PART + 12_345)
MORE = noise(PART + 1, 7)


@pytest.fixture(scope="module")
def running():
    with Supabase() as server:
        yield server


@pytest.fixture
def storage(running) -> Supabase:
    running.faults.clear()
    running.uploads.clear()
    running.asked.clear()
    running.page = 1000
    running.failing_completions = 0
    running.forgets_uploads = False
    running.before_writing = lambda: None
    running.chance = lambda: Fault("nothing")
    return running


def opened(storage: Supabase, url: str, *, key: str | None = None, patience=PATIENT, **more):
    environ = {"CALOTYPE_SUPABASE_KEY": storage.key if key is None else key}
    types = {"png": "image/png", "jpg": "image/jpeg"}
    return SupabaseBackend(url, types, environ=environ, patience=patience, **more)


@pytest.fixture
def backend(storage) -> SupabaseBackend:
    return opened(storage, f"{storage.bucket()}/pictures/2026")


@pytest.fixture
def hasty(storage, backend) -> SupabaseBackend:
    """The same place, for what stays broken."""
    return opened(storage, backend.url, patience=SHORT)


def bucket(storage: Supabase, backend: SupabaseBackend):
    return storage.buckets[backend.url.split("/")[3]]


def ask(storage: Supabase, method: str, path: str, **how) -> httpx.Response:
    """What the server says, without the backend between."""
    headers = {"authorization": f"Bearer {storage.key}", "apikey": storage.key} | how.pop(
        "headers", {}
    )
    return httpx.request(method, storage.endpoint + path, headers=headers, **how)


def begun(storage: Supabase, at: str, *, size: int, content: bytes = b"") -> httpx.Response:
    """The answer to the creation of a resumable upload to ``/bucket/name``."""
    _, bucket_name, name = at.split("/", 2)
    said = {"bucketName": bucket_name, "objectName": name, "contentType": "a/b"}
    said["cacheControl"] = "max-age=9"
    metadata = ",".join(f"{each} {b64(value)}" for each, value in said.items())
    headers = {"upload-length": str(size), "tus-resumable": "1.0.0", "upload-metadata": metadata}
    return ask(storage, "POST", "/upload/resumable", headers=headers, content=content)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def path(backend: SupabaseBackend, at: Key) -> str:
    """``/bucket/prefix/name`` of an object."""
    return f"/{backend.url.split('/', 3)[3]}/{str(at).replace('~', '_')}"


class TestSupabase(NotesContract, BackendContract):
    @pytest.fixture
    def backend(self, storage) -> Backend:
        return opened(storage, f"{storage.bucket()}/pictures/2026")

    # The service compares nothing when it replaces.
    test_of_several_at_once_one_gives_way_to_one = None

    def test_it_behaves_as_a_dictionary_does(self, storage):
        run_state_machine_as_test(machine(lambda: opened(storage, storage.bucket())), settings=LONG)

    def test_objects_of_many_parts_are_read_back(self, backend, storage):
        for size in (PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1):
            content = noise(size)
            backend.put(key("a"), source(content), size)
            assert read(backend, key("a")) == content
            assert read(backend, key("a"), size - 9, size + 9) == content[-9:]
            assert len(storage.uploads) == (size > PART)
            storage.uploads.clear()

    def test_a_broken_source_of_many_parts_leaves_no_trace(self, backend, storage):
        put(backend, key("b"), b"old")
        for at in (key("a"), key("b")):
            for offset in (0, PART, PART + 7, len(LARGE)):
                with pytest.raises(Broken):
                    backend.put(at, source(LARGE, breaks_at=offset), len(LARGE))
            for more in (-1, 1):
                with pytest.raises(Unavailable, match="The source"):
                    backend.put(at, source(LARGE), len(LARGE) + more)
        assert names(backend) == [str(key("b"))]
        assert read(backend, key("b")) == b"old"
        assert storage.uploads == {}

    def test_nothing_is_completed_of_a_source_that_refuses_at_its_end(self, backend):
        """Also where its last part is a full one."""
        for size in (PART, 2 * PART):
            with pytest.raises(Broken):
                backend.put(key("a"), source(LARGE[:size], breaks_at=size), size)
            assert absent(backend, key("a"))

    def test_racing_writers_of_many_parts_end_with_one_whole_object(self, backend):
        contents = [LARGE, MORE, LARGE[::-1]]
        together(*[lambda c=content: put(backend, key("a"), c) for content in contents])
        assert read(backend, key("a")) in contents

    def test_a_reader_seeks(self, backend):
        put(backend, key("a"), LARGE)
        with backend.open(key("a"), 10, len(LARGE) - 10) as file:
            kept = LARGE[10:-10]
            for offset, whence in ((7, 0), (100_000, 1), (-300_000, 1), (-9, 2), (9, 2), (0, 0)):
                at = file.seek(offset, whence)
                assert file.tell() == at
                assert file.read(20) == kept[at : at + 20]
                assert file.read(300_000) == kept[at + 20 : at + 300_020]
            with pytest.raises(ValueError, match="before the beginning"):
                file.raw.seek(-1)


class TestItsPowers:
    def test_it_has_these_and_no_others(self, backend):
        for power in (Backend, Signs, Admits, Deletes, Remote):
            assert isinstance(backend, power)
        for power in (Stages, Locates, Vanishes):
            assert not isinstance(backend, power)
        assert not hasattr(backend, "sweep")  # the service ends unfinished uploads by itself

    def test_a_signed_url_is_read_by_anybody_until_it_ends(self, backend, storage):
        at = key("a", TOKEN, "png")
        put(backend, at, b"bytes")
        put(backend, key("b", TOKEN, "png"), b"other")
        url = backend.sign(at, now() + 60 * SECOND, media_type="image/png", disposition="inline")
        answer = httpx.get(url)
        assert answer.content == b"bytes"
        assert answer.headers["content-type"] == "image/png"
        assert "content-disposition" not in answer.headers
        assert "cache-control" not in answer.headers
        stranger = path(backend, key("b", TOKEN, "png"))
        for wrong in (url + "x", url.replace(path(backend, at), stranger)):
            refused = httpx.get(wrong)
            assert refused.status_code == 400
            assert refused.json()["code"] in ("InvalidJWT", "InvalidSignature")
        late = backend.sign(at, now() + SECOND // 2, media_type="", disposition="inline")
        time.sleep(3)
        assert httpx.get(late).json()["code"] == "InvalidJWT"

    def test_a_signed_url_stays_the_same_in_one_process(self, backend, storage):
        put(backend, key("a"), b"bytes")
        end = now() + 60 * SECOND

        def sign(until=end, disposition="inline") -> str:
            return backend.sign(key("a"), until, media_type="image/png", disposition=disposition)

        first = sign()
        time.sleep(1.1)
        assert sign() == first
        assert len({sign(), sign(end + SECOND), sign(disposition="attachment")}) == 3
        assert sum("/sign/" in each for each in storage.asked) == 3

    def test_threads_that_sign_at_once_get_one_url(self, backend, storage):
        put(backend, key("a"), b"bytes")
        end, signed = now() + 60 * SECOND, set()

        def sign() -> None:
            signed.add(backend.sign(key("a"), end, media_type="", disposition="inline"))
            time.sleep(0.3)
            signed.add(backend.sign(key("a"), end, media_type="", disposition="inline"))

        together(*[sign] * 8)
        assert len(signed) == 1

    def test_what_is_remembered_of_signed_urls_is_bounded(self, backend, monkeypatch):
        monkeypatch.setattr("calotype.backends.supabase.SIGNED", 10)
        put(backend, key("a"), b"bytes")
        for n in range(60):
            backend.sign(key("a"), now() + (n + 2) * SECOND, media_type="", disposition="inline")
        assert 5 <= len(backend._signed) <= 10

    @pytest.mark.parametrize(
        ("disposition", "download"),
        [
            ("inline", None),
            ('inline; filename="cat.jpg"', None),
            ("attachment", ""),
            ('attachment; filename="my cat.jpg"', "my cat.jpg"),
            ("attachment; filename*=UTF-8''K%C3%A4se%26.png", "Käse&.png"),
        ],
    )
    def test_a_disposition_is_the_services_download(self, backend, disposition, download):
        put(backend, key("a"), b"bytes")
        url = backend.sign(key("a"), now() + 9 * SECOND, media_type="", disposition=disposition)
        assert httpx.URL(url).params.get("download") == download
        sent = httpx.get(url).headers.get("content-disposition", "")
        assert sent.startswith("attachment;") == (download is not None)

    def test_nothing_is_signed_that_is_not_there_or_is_over(self, backend):
        with pytest.raises(NotFound):
            backend.sign(key("a"), now() + 9 * SECOND, media_type="", disposition="inline")
        put(backend, key("a"), b"bytes")
        for end in (0, now() - SECOND):
            with pytest.raises(UrlExpired):
                backend.sign(key("a"), end, media_type="", disposition="inline")

    def test_an_admission_uploads_without_a_key(self, backend):
        at = key("a", TOKEN, "png")
        given = backend.admit(at, 5, "image/png", now() + 60 * SECOND)
        done = httpx.request(given.method, given.url, headers=given.headers, content=b"bytes")
        assert done.status_code == 200
        assert read(backend, at) == b"bytes"
        elsewhere = given.url.replace(path(backend, at), path(backend, key("b", TOKEN, "png")))
        assert httpx.put(elsewhere, content=b"bytes").status_code == 400
        assert names(backend) == [str(at)]

    def test_an_admission_ends_when_the_service_says(self, backend):
        """Two hours later, whatever was asked for: so long nobody may take its key for free."""
        before = now()
        given = backend.admit(key("a"), 5, "image/png", before + 60 * SECOND)
        assert 7190 * SECOND < given.until - before < 7260 * SECOND

    def test_many_are_deleted_at_once(self, backend, storage, monkeypatch):
        monkeypatch.setattr("calotype.backends.supabase.BATCH", 10)
        keys = [key(f"{n}") for n in range(25)]
        for at in keys:
            put(backend, at, b"x")
        put(backend, key("stays"), b"x")
        storage.asked.clear()
        backend.delete_all([*keys, *keys, key("never")])
        assert names(backend) == [str(key("stays"))]
        assert sum(each.startswith("DELETE") for each in storage.asked) == 3
        backend.delete_all([])

    def test_it_can_be_reached(self, backend, storage):
        backend.reach()
        put(backend, key("a"), b"x")
        backend.reach()


class TestQuirks:
    """One test for each oddity of the real server."""

    def test_a_refusal_is_400_and_says_in_its_json_what_it_means(self, backend, storage):
        said = ask(storage, "GET", f"/object/info{path(backend, key('a'))}")
        assert said.status_code == 400
        assert said.json()["statusCode"] == "404"
        assert said.json()["code"] == "NoSuchKey"
        assert backend.size(key("a")) is None
        put(backend, key("a"), b"bytes")
        storage.fail("other", "GET /", body=said.content)  # in an answer that is no refusal
        with pytest.raises(Unavailable, match="cannot be right"):
            backend.size(key("a"))

    def test_the_head_of_a_missing_object_is_400_and_empty(self, backend, storage):
        said = ask(storage, "HEAD", f"/object/authenticated{path(backend, key('a'))}")
        assert said.status_code == 400
        assert said.content == b""
        assert backend.size(key("a")) is None
        assert not any(each.startswith("HEAD") for each in storage.asked[1:])

    def test_true_statuses_come_too(self, backend, storage):
        put(backend, key("a"), b"bytes")
        slow = (
            b'{"statusCode":"429","code":"SlowDown","error":"x","message":"Too many connections"}'
        )
        storage.fail("refuse", "GET", status=429, body=slow)
        storage.fail("refuse", "GET", status=544)
        assert backend.size(key("a")) == 5

    def test_an_existing_object_is_a_duplicate_unless_it_is_replaced(self, backend, storage):
        put(backend, key("a"), b"old")
        at = f"/object{path(backend, key('a'))}"
        said = ask(storage, "POST", at, content=b"new")
        assert (said.status_code, said.json()["statusCode"]) == (400, "409")
        assert said.json()["code"] == "KeyAlreadyExists"
        assert ask(storage, "PUT", at, content=b"put").status_code == 200
        put(backend, key("a"), b"again")
        assert read(backend, key("a")) == b"again"

    def test_creating_is_not_atomic(self, backend, storage):
        storage.before_writing = threading.Barrier(8).wait
        told = []

        def create(n: int) -> None:
            at = f"/object{path(backend, key('a'))}"
            told.append(ask(storage, "POST", at, content=bytes([n])).status_code)

        together(*[lambda n=n: create(n) for n in range(8)])
        assert told == [200] * 8
        storage.before_writing = lambda: None
        put(backend, key("a"), b"so every put replaces")
        assert read(backend, key("a")) == b"so every put replaces"

    def test_the_etag_is_of_the_content(self, backend, storage):
        put(backend, key("a"), b"bytes")
        said = ask(storage, "GET", f"/object/authenticated{path(backend, key('a'))}")
        assert said.headers["etag"] == '"4b3a6218bb3e3a7303e8a171a60fcf92"'
        headers = {"if-none-match": said.headers["etag"]}
        again = ask(
            storage, "GET", f"/object/authenticated{path(backend, key('a'))}", headers=headers
        )
        assert again.status_code == 304
        storage.fail("cut", "GET /storage/v1/object/authenticated", after=2)
        assert read(backend, key("a")) == b"bytes"

    def test_a_range_past_the_end_is_an_internal_error(self, backend, storage):
        put(backend, key("a"), b"bytes")
        headers = {"range": "bytes=9-"}
        at = f"/object/authenticated{path(backend, key('a'))}"
        assert ask(storage, "GET", at, headers=headers).status_code == 500
        assert read(backend, key("a"), 9) == b""
        assert read(backend, key("a"), 3, 99) == b"es"

    def test_info_tells_size_type_and_our_mark(self, backend, storage):
        put(backend, key("a", TOKEN, "png"), b"bytes")
        at = f"/object/info{path(backend, key('a', TOKEN, 'png'))}"
        said = ask(storage, "GET", at).json()
        assert (said["size"], said["content_type"]) == (5, "image/png")
        assert len(said["metadata"]["calotype"]) == 16
        put(backend, key("a", TOKEN, "png"), b"bytes")  # the etag is of the content alone
        again = ask(storage, "GET", at).json()
        assert again["etag"] == said["etag"]
        assert again["version"] != said["version"]
        assert again["metadata"] != said["metadata"]

    def test_an_object_is_served_with_the_cache_control_that_it_was_sent_with(
        self, backend, storage
    ):
        put(backend, key("a"), b"ours")
        at = f"/object{path(backend, key('b'))}"
        ask(storage, "POST", at, content=b"theirs", headers={"cache-control": "max-age=60"})
        served = {
            name: ask(storage, "GET", f"/object/authenticated{path(backend, key(name))}").headers
            for name in "ab"
        }
        assert served["a"]["cache-control"] == "no-cache"
        assert served["b"]["cache-control"] == "max-age=60"

    def test_a_signed_answer_says_when_it_ends_and_nothing_of_caches(self, backend, storage):
        put(backend, key("a"), b"bytes")
        until = now() + 60 * SECOND
        url = backend.sign(key("a"), until, media_type="", disposition="inline")
        headers = httpx.get(url).headers
        assert "cache-control" not in headers
        ends = datetime.fromisoformat(headers["expires"]).timestamp()
        assert -1 < ends - until / SECOND < 3
        backend.delete(key("a"))
        gone = httpx.get(url)
        assert (gone.status_code, gone.json()["code"]) == (400, "NoSuchKey")

    def test_a_bucket_is_made_by_name_with_its_limits(self, storage):
        made = {"name": f"made-{TOKEN}", "public": False, "file_size_limit": 4}
        made["allowed_mime_types"] = ["image/png"]
        assert ask(storage, "POST", "/bucket", json=made).json() == {"name": made["name"]}
        limited = opened(storage, f"{storage.bucket().rsplit('/', 1)[0]}/{made['name']}")
        limited.reach()
        put(limited, key("a", extension="png"), b"four")
        with pytest.raises(TooLarge):
            put(limited, key("b", extension="png"), b"fives")
        with pytest.raises(Misconfigured):
            put(limited, key("b"), b"four")
        with pytest.raises(httpx.HTTPStatusError):
            anon = {"authorization": f"Bearer {storage.token({'role': 'anon'}, 60)}"}
            ask(storage, "POST", "/bucket", json=made, headers=anon).raise_for_status()

    def test_what_a_bucket_does_not_take_is_413_or_415_within_a_400(self, storage):
        url = storage.bucket(file_size_limit=4, allowed_mime_types=["image/png"])
        at = f"/object/{url.rsplit('/', 1)[1]}/x"
        kinds = ({"content-type": each} for each in ("image/png", "image/gif"))
        large, other = (ask(storage, "POST", at, content=b"fives", headers=each) for each in kinds)
        assert (large.status_code, other.status_code) == (400, 400)
        assert large.json()["statusCode"] == "413"
        assert large.json()["code"] == "EntityTooLarge"
        assert other.json()["statusCode"] == "415"
        assert other.json()["code"] == "InvalidMimeType"

    def test_the_same_second_signs_the_same_url_and_the_next_another(self, backend, storage):
        put(backend, key("a"), b"bytes")
        at = f"/object/sign{path(backend, key('a'))}"
        while time.time() % 1 > 0.5:
            time.sleep(0.05)
        first, second = (
            ask(storage, "POST", at, json={"expiresIn": 60}).json()["signedURL"] for _ in range(2)
        )
        assert first == second
        assert first.startswith("/object/sign/")
        time.sleep(1.1)
        assert ask(storage, "POST", at, json={"expiresIn": 60}).json()["signedURL"] != first
        many = ask(
            storage,
            "POST",
            at.rsplit("/", 6)[0],
            json={"expiresIn": 60, "paths": ["nope"]},
        )
        assert many.json()[0]["signedURL"] is None

    def test_a_second_upload_by_one_admission_is_a_duplicate(self, backend):
        given = backend.admit(key("a"), 5, "image/png", now() + 60 * SECOND)
        assert httpx.put(given.url, headers=given.headers, content=b"first").status_code == 200
        second = httpx.put(given.url, headers=given.headers, content=b"second")
        assert second.json()["error"] == "Duplicate"
        assert read(backend, key("a")) == b"first"

    def test_a_list_goes_on_at_its_cursor(self, backend, storage):
        storage.page = 7
        keys = sorted(str(key(f"{n}")) for n in range(40))
        for n in range(40):
            put(backend, key(f"{n}"), b"x")
        storage.asked.clear()
        assert names(backend) == keys
        assert sum("list-v2" in each for each in storage.asked) == 6
        assert names(backend, keys[9]) == [keys[9]]

    def test_a_list_is_of_the_folder_and_not_of_others_that_begin_alike(self, backend, storage):
        put(backend, key("a"), b"x")
        objects = bucket(storage, backend).objects
        for name in ("pictures/2026b/x", "pictures/202", "picturesX2026/x", "x", "pictures_2026/x"):
            objects[name] = Stored(b"x")
        assert names(backend) == [str(key("a"))]

    def test_in_a_list_an_underscore_is_any_character(self, storage):
        mine = opened(storage, f"{storage.bucket()}/my_files")
        put(mine, key("a"), b"x")
        for name in ("my_files/b", "my-files/c", "myXfiles/sha256/d"):
            bucket(storage, mine).objects[name] = Stored(b"x")
        at = f"/object/list-v2/{mine.url.split('/')[3]}"
        said = ask(storage, "POST", at, json={"prefix": "my_files/"}).json()
        assert len(said["objects"]) == 4
        assert names(mine) == ["b", str(key("a"))]
        assert names(mine, "sha256/") == [str(key("a"))]

    def test_other_objects_are_listed_too(self, backend, storage):
        put(backend, key("a"), b"x")
        for name in ("calotype.json", ".emptyFolderPlaceholder", "erased/7", "zoo (1).jpg"):
            bucket(storage, backend).objects[f"pictures/2026/{name}"] = Stored(b"")
        assert names(backend) == sorted(
            [".emptyFolderPlaceholder", "calotype.json", "erased/7", str(key("a")), "zoo (1).jpg"]
        )

    def test_a_bulk_delete_answers_with_what_it_deleted(self, backend, storage):
        put(backend, key("a"), b"x")
        bucket_path, name = path(backend, key("a")).split("/", 2)[1:]
        one = f"/object/{bucket_path}/{name}"
        said = ask(storage, "DELETE", f"/object/{bucket_path}", json={"prefixes": [name, "nope"]})
        assert [row["name"] for row in said.json()] == [name]
        assert ask(storage, "DELETE", one).json()["code"] == "NoSuchKey"
        backend.delete(key("a"))

    @pytest.mark.parametrize("large", [False, True])
    def test_a_bucket_has_a_limit_of_size(self, storage, large):
        content = LARGE if large else b"x" * 1001
        small = opened(storage, storage.bucket(file_size_limit=len(content) - 1))
        with pytest.raises(TooLarge, match="larger than the bucket") as refused:
            put(small, key("a"), content)
        assert "file_size_limit" in refused.value.hint
        assert absent(small, key("a"))

    @pytest.mark.parametrize("large", [False, True])
    def test_a_bucket_has_types_that_it_takes(self, storage, large):
        content = LARGE if large else b"bytes"
        only = opened(storage, storage.bucket(allowed_mime_types=["image/png"]))
        put(only, key("a", extension="png"), content)
        with pytest.raises(Misconfigured, match="image/jpeg is not supported") as refused:
            put(only, key("a", extension="jpg"), content)
        assert "allowed_mime_types" in refused.value.hint

    @pytest.mark.parametrize("size", [5, PART + 5])
    def test_names_with_other_characters_are_refused(self, backend, storage, size):
        """``#``, ``^``, non-ASCII, and ``~``: a token stands behind ``_`` in the bucket."""
        for name in ("a#", "a^", "ä", f"{key('a')}~{TOKEN}"):
            said = ask(storage, "POST", f"/object/x/{quote(name)}")
            assert said.json()["code"] == "InvalidKey"
        content = noise(size)
        keys = [key("a", t, e) for t in ("", TOKEN, "f" * 16) for e in ("", "jpg")]
        for at in keys:
            put(backend, at, content)
            assert read(backend, at) == content
        assert all("~" not in name for name in bucket(storage, backend).objects)
        assert names(backend) == sorted(map(str, keys))
        assert names(backend, f"{key('a')}~0") == sorted(map(str, keys[2:4]))
        assert names(backend, f"{key('a')}_") == []

    def test_a_token_is_in_order_also_among_others_of_its_digest(self, backend, storage):
        folder = f"pictures/2026/{key('a')}"
        for name in ("x", "_", "_0123456789abcdef", "_0123456789abcdef.gone", "-", "A", "z.z"):
            bucket(storage, backend).objects[folder + name] = Stored(b"")
        put(backend, key("a"), b"")
        assert len(names(backend)) == 8
        assert names(backend) == sorted(names(backend))
        assert names(backend)[-1] == f"{key('a')}~0123456789abcdef.gone"

    def test_the_location_of_an_upload_may_have_another_scheme_and_place(self, backend, storage):
        made = begun(storage, path(backend, key("a")), size=1)
        assert made.headers["location"].startswith("https://")
        put(backend, key("a"), LARGE)
        assert read(backend, key("a")) == LARGE

    def test_an_upload_may_be_created_with_its_first_bytes(self, backend, storage):
        """Ours sends none: where its answer is lost, nobody could tell how many arrived."""
        at = path(backend, key("a"))
        made = begun(storage, at, size=5, content=b"byt")
        assert made.headers["upload-offset"] == "3"
        assert absent(backend, key("a"))
        more = {"upload-offset": "3", "tus-resumable": "1.0.0"}
        ident = made.headers["location"].rpartition("/")[2]
        ask(storage, "PATCH", f"/upload/resumable/{ident}", headers=more, content=b"es")
        assert read(backend, key("a")) == b"bytes"
        assert begun(storage, path(backend, key("b")), size=3, content=b"all").status_code == 201
        assert read(backend, key("b")) == b"all"
        served = ask(storage, "GET", f"/object/authenticated{path(backend, key('b'))}").headers
        assert (served["content-type"], served["cache-control"]) == ("a/b", "max-age=9")

    def test_the_key_is_asked_for_twice(self, backend, storage):
        """Before the service it is ``apikey`` that lets a request in."""
        put(backend, key("a"), b"x")
        at = f"/object/authenticated{path(backend, key('a'))}"
        headers = {"authorization": f"Bearer {storage.key}"}
        refused = httpx.get(storage.endpoint + at, headers=headers)
        assert (refused.status_code, "API key" in refused.json()["message"]) == (401, True)
        assert ask(storage, "GET", at).content == b"x"

    def test_what_a_key_may_not_see_is_answered_as_missing(self, backend, storage):
        """So a key that row-level security binds is refused before it is used."""
        put(backend, key("a"), b"x")
        anon = storage.token({"role": "anon"}, 60)
        headers = {"authorization": f"Bearer {anon}"}
        at = f"/object/authenticated{path(backend, key('a'))}"
        assert ask(storage, "GET", at, headers=headers).json()["code"] == "NoSuchKey"
        with pytest.raises(Denied, match="role 'anon'") as refused:
            opened(storage, backend.url, key=anon)
        assert "service_role" in refused.value.hint
        with pytest.raises(Denied):
            opened(storage, backend.url, key="sb_publishable_abc")

    def test_a_wrong_key_is_no_missing_bucket(self, backend, storage):
        """Where a key is optional, one that does not fit is answered with NoSuchBucket."""
        wrong = storage.key[:-4] + "AAAA"
        headers = {"authorization": f"Bearer {wrong}"}
        at = f"/object/info{path(backend, key('a'))}"
        assert ask(storage, "GET", at, headers=headers).json()["code"] == "NoSuchBucket"
        other = opened(storage, backend.url, key=wrong)
        calls = (
            lambda: other.size(key("a")),
            lambda: other.open(key("a")),
            lambda: put(other, key("a"), b"x"),
            lambda: put(other, key("a"), LARGE),
            lambda: other.delete(key("a")),
            lambda: names(other),
            lambda: other.sign(key("a"), now() + SECOND, media_type="", disposition=""),
            lambda: other.admit(key("a"), 1, "", now() + SECOND),
            other.reach,
        )
        for call in calls:
            with pytest.raises(Denied, match="refused the key") as refused:
                call()
            assert "CALOTYPE_SUPABASE_KEY" in refused.value.hint
            assert wrong not in f"{refused.value!r}{refused.value.hint}"

    def test_a_missing_bucket_has_an_empty_list(self, storage):
        nowhere = opened(storage, storage.bucket() + "x")
        assert ask(storage, "POST", "/object/list-v2/nowhere", json={}).json()["objects"] == []
        calls = (
            lambda: nowhere.size(key("a")),
            lambda: nowhere.open(key("a")),
            lambda: put(nowhere, key("a"), b"x"),
            lambda: put(nowhere, key("a"), LARGE),
            lambda: names(nowhere),
            nowhere.reach,
        )
        for call in calls:
            with pytest.raises(Misconfigured, match="no bucket 'media-"):
                call()

    def test_an_object_may_have_a_row_and_no_bytes(self, backend, storage):
        put(backend, key("a"), b"bytes")
        bucket(storage, backend).objects[f"pictures/2026/{key('a')}"].bytes_lost = True
        assert backend.size(key("a")) == 5
        with pytest.raises(Corrupt, match="its bytes are gone"):
            backend.open(key("a"))
        with pytest.raises(Corrupt, match="its bytes are gone"):
            backend.open(key("a"), 1, 2)


SENT = [b"small", LARGE]
ONE_REQUEST = "POST /storage/v1/object/[^/]+/pictures"
ANY = "(POST /storage/v1/object/[^/]+/pictures|PATCH|POST /storage/v1/upload)"


class TestFaults:
    """What a network and a service in trouble do, and what comes of it."""

    @pytest.mark.parametrize("content", SENT)
    @pytest.mark.parametrize("does", ["refuse", "early", "lose", "reset", "slow"])
    def test_a_put_outlasts_a_service_in_trouble(self, backend, storage, does, content):
        put(backend, key("a"), b"old")
        storage.fail(does, ANY, times=3, seconds=0.7, after=1000)
        fresh = opened(storage, backend.url, patience=Patience(total=60, pause=0.01, silence=0.4))
        put(fresh, key("a"), content)
        assert read(backend, key("a")) == content

    @pytest.mark.parametrize("status", [408, 409, 423, 429, 500, 502, 503, 504, 520, 544])
    def test_every_passing_status_is_asked_again(self, backend, storage, status):
        put(backend, key("a"), b"bytes")
        storage.fail("refuse", times=2, status=status)
        assert read(backend, key("a")) == b"bytes"
        storage.fail("refuse", times=2, status=status)
        assert names(backend) == [str(key("a"))]
        storage.fail("refuse", times=2, status=status)
        backend.delete(key("a"))
        assert backend.size(key("a")) is None

    @pytest.mark.parametrize("content", SENT)
    def test_a_service_that_stays_away_is_unavailable_and_nothing_is_missing(
        self, hasty, storage, content
    ):
        put(hasty, key("b"), b"bytes")
        storage.fail("refuse", times=10_000)
        for call in (
            lambda: put(hasty, key("a"), content),
            lambda: hasty.size(key("b")),
            lambda: hasty.size(key("a")),
            lambda: hasty.open(key("b")),
            lambda: names(hasty),
            lambda: hasty.delete(key("b")),
            hasty.reach,
        ):
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="could not answer"):
                call()
            assert time.monotonic() - begun < 60 * SHORT.total
        storage.faults.clear()
        assert absent(hasty, key("a"))
        assert read(hasty, key("b")) == b"bytes"

    def test_whether_it_can_be_reached_is_known_within_seconds(self, backend, storage):
        """A read waits for a minute."""
        storage.fail("refuse", times=1 << 30)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match="could not answer"):
            backend.reach()
        assert REACH / 2 < time.monotonic() - begun < PATIENT.total / 2

    def test_nobody_there_is_unavailable(self, backend, storage):
        nobody = opened(storage, "supabase+http://127.0.0.1:1/media", patience=SHORT)
        with pytest.raises(
            Unavailable, match=r"127\.0\.0\.1:1/storage/v1 did not answer"
        ) as refused:
            nobody.size(key("a"))
        assert "network" in refused.value.hint
        with pytest.raises(Unavailable):
            nobody.reach()

    @pytest.mark.parametrize("content", SENT)
    def test_a_lost_answer_is_asked_for_and_not_guessed(self, backend, storage, content):
        """The object is there, so it is not sent again."""
        storage.fail("lose", ONE_REQUEST)
        storage.fail("lose", "PATCH", times=3)
        put(backend, key("a"), content)
        assert read(backend, key("a")) == content
        sent = [each for each in storage.asked if each.startswith(("POST", "PATCH"))]
        assert len(sent) == (4 if content is LARGE else 1)

    def test_an_old_object_of_the_same_size_is_not_taken_for_the_new_one(
        self, backend, hasty, storage
    ):
        put(backend, key("a"), b"old bytes")
        storage.fail("reset", ONE_REQUEST, after=3)
        put(backend, key("a"), b"new bytes")
        assert read(backend, key("a")) == b"new bytes"
        storage.fail("reset", ONE_REQUEST, times=10_000, after=3)
        with pytest.raises(Unavailable):
            put(hasty, key("a"), b"bad bytes")
        assert read(backend, key("a")) == b"new bytes"

    def test_an_upload_goes_on_from_where_it_was_cut(self, backend, storage):
        storage.fail("reset", "PATCH", times=1, after=PART // 2)
        storage.fail("refuse", "HEAD", times=1)  # so the next is sent to the wrong place
        storage.fail("reset", "PATCH", times=3, after=70_000)
        storage.fail("lose", "PATCH", times=1)
        put(backend, key("a"), LARGE)
        assert read(backend, key("a")) == LARGE
        assert len(storage.uploads) == 1
        assert sum(each.startswith("PATCH") for each in storage.asked) == 7

    def test_what_was_acknowledged_is_not_asked_about(self, backend, storage):
        for content, requests in ((b"small", 1), (LARGE, 4)):
            storage.asked.clear()
            put(backend, key("a"), content)
            assert len(storage.asked) == requests

    def test_progress_renews_patience(self, backend, storage):
        """Thirty breaks in a row, each after some bytes, are more than it would bear without."""
        impatient = Patience(total=0.2, pause=0.01, longest=0.05, silence=5)
        storage.fail("reset", "PATCH", times=30, after=400_000)
        put(opened(storage, backend.url, patience=impatient), key("a"), LARGE)
        assert read(backend, key("a")) == LARGE

    def test_an_upload_that_was_completed_and_forgotten_is_found(self, backend, storage):
        storage.forgets_uploads = True
        storage.fail("nothing", "PATCH", times=2)
        storage.fail("lose", "PATCH", times=1)
        put(backend, key("a"), LARGE)
        assert read(backend, key("a")) == LARGE

    def test_a_completion_that_failed_is_asked_for_again(self, backend, storage):
        storage.failing_completions = 2
        put(backend, key("a"), LARGE)
        assert read(backend, key("a")) == LARGE

    def test_an_upload_that_is_never_completed_is_unavailable(self, hasty, storage):
        storage.failing_completions = 10_000
        with pytest.raises(Unavailable, match="made no object"):
            put(hasty, key("a"), LARGE)
        assert absent(hasty, key("a"))
        assert storage.uploads == {}

    def test_an_upload_that_ended_before_it_was_complete_is_unavailable(self, backend, storage):
        def end() -> None:
            storage.uploads.clear()

        with pytest.raises(Unavailable, match="ended the upload"):
            backend.put(key("a"), source(LARGE, before=end), len(LARGE))
        assert absent(backend, key("a"))

    @pytest.mark.parametrize("offset", ["0", str(PART * 9), "-1", "", "x", "9" * 5000])
    def test_an_offset_that_cannot_be_right_is_an_error(self, hasty, storage, offset):
        lie = {"upload-offset": offset}
        storage.fail("nothing", "PATCH")
        storage.fail("other", "PATCH", times=10_000, status=204, headers=lie)
        with pytest.raises(Unavailable):
            put(hasty, key("a"), LARGE)

    def test_a_service_that_says_it_did_and_did_not_is_found_out_by_those_who_look(
        self, backend, storage
    ):
        storage.fail("drop", ONE_REQUEST)
        put(backend, key("a"), b"bytes")
        assert backend.size(key("a")) is None

    @pytest.mark.parametrize("does", ["cut", "lose", "reset", "clip", "slow", "refuse"])
    @pytest.mark.parametrize("after", [0, 1, 100_000, PART])
    def test_a_read_goes_on_from_where_it_was_cut(self, backend, storage, does, after):
        put(backend, key("a"), LARGE)
        route = "GET /storage/v1/object/authenticated"
        patient = opened(storage, backend.url, patience=Patience(total=60, pause=0.01, silence=0.4))
        for start, stop in ((0, None), (10, len(LARGE) - 10)):
            storage.fail(does, route, times=3, after=after, seconds=0.7)
            assert read(patient, key("a"), start, stop) == LARGE[start:stop]

    def test_a_read_that_stays_broken_never_ends_cleanly(self, hasty, storage):
        put(hasty, key("a"), LARGE)
        route = "GET /storage/v1/object/authenticated"
        for does, after in (("cut", 99_999), ("clip", 99_999)):
            storage.fail(does, route, after=after)
            storage.fail("refuse", route, times=10_000)
            with hasty.open(key("a"), 0, len(LARGE) - 1) as file, pytest.raises(Unavailable):
                file.read()
            storage.faults.clear()

    def test_an_empty_answer_is_no_empty_object(self, hasty, storage):
        put(hasty, key("a"), b"bytes")
        storage.fail("clip", "GET /storage/v1/object/authenticated", times=10_000, after=0)
        with pytest.raises(Unavailable):
            read(hasty, key("a"))

    def test_an_answer_without_its_length_is_asked_for_as_a_part(self, backend, storage):
        put(backend, key("a"), LARGE)
        storage.fail("unsized", "GET /storage/v1/object/authenticated", times=2)
        assert read(backend, key("a")) == LARGE

    @pytest.mark.parametrize("change", ["put", "delete", "part"])
    def test_a_read_that_breaks_never_goes_on_in_another_object(self, backend, storage, change):
        put(backend, key("a"), LARGE)
        storage.fail("cut", "GET /storage/v1/object/authenticated", after=1 << 20)
        with backend.open(key("a"), int(change == "part")) as file:
            begun = file.read(10)
            if change == "delete":
                backend.delete(key("a"))
            else:
                put(backend, key("a"), LARGE[::-1])
            with pytest.raises((Unavailable, NotFound)):
                file.read()
        assert begun == LARGE[int(change == "part") :][:10]

    def test_an_object_replaced_between_looking_and_reading_is_not_read(self, backend, storage):
        put(backend, key("a"), LARGE)
        facts = json.dumps({"size": len(LARGE) - 5}).encode()
        storage.fail("other", "GET /storage/v1/object/info", body=facts)
        with pytest.raises(Unavailable, match="was replaced"):
            backend.open(key("a"), 5)

    def test_a_read_that_breaks_goes_on_at_its_place_or_not_at_all(self, backend, storage):
        put(backend, key("a"), LARGE)
        route = "GET /storage/v1/object/authenticated"
        storage.fail("cut", route, after=1 << 20)
        elsewhere = {"content-range": f"bytes 7-{len(LARGE) - 1}/{len(LARGE)}"}
        storage.fail("other", route, body=LARGE, headers=elsewhere)
        with backend.open(key("a")) as file, pytest.raises(Unavailable, match="bytes from 7"):
            file.read()

    @pytest.mark.parametrize(
        "headers",
        [
            {"content-encoding": "gzip"},
            {"content-range": "bytes 7-9/*"},
            {"content-range": "bytes 0-9/10"},
            {"content-range": f"bytes 5-8/{'9' * 5000}"},
        ],
    )
    def test_an_answer_that_is_not_the_object_is_not_read(self, hasty, storage, headers):
        put(hasty, key("a"), LARGE)
        route = "GET /storage/v1/object/authenticated"
        storage.fail("other", route, times=10_000, body=b"0123456789", headers=headers)
        with pytest.raises(Unavailable):
            read(hasty, key("a"), 5, 9)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Log in</html>",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'{"objects": 7, "size": -7, "signedURL": "https://elsewhere/", "url": 7}',
            b'{"size": %s}' % (b"9" * 5000),
            b'{"objects": [{"name": "pictures/2026/a", "updated_at": "0001-01-01"}]}',
            b'{"objects": [{"name": 7, "updated_at": ""}]}',
            b'{"objects": [{"name": "pictures/2026/a", "updated_at": "today"}]}',
            b'{"objects": [{"name": "pictures/2026/b", "updated_at": "2026-01-01T00:00:00Z"},'
            b'{"name": "pictures/2026/a", "updated_at": "2026-01-01T00:00:00Z"}]}',
            b'{"objects": [], "hasNext": true}',
            b'{"objects": [], "hasNext": true, "nextCursor": "eA=="}',
        ],
    )
    def test_a_page_that_is_no_answer_is_neither_missing_nor_empty(self, hasty, storage, body):
        put(hasty, key("a"), b"bytes")
        storage.fail("other", "(list-v2|info|sign)", times=10_000, body=body)
        for call in (
            lambda: names(hasty),
            lambda: hasty.size(key("a")),
            lambda: hasty.open(key("a"), 1),
            lambda: hasty.sign(key("a"), now() + SECOND, media_type="", disposition=""),
            lambda: hasty.admit(key("b"), 1, "", now() + SECOND),
            hasty.reach,
        ):
            with pytest.raises(Unavailable, match="cannot be right"):
                call()

    def test_an_answer_without_end_is_given_up(self, hasty, storage, monkeypatch):
        put(hasty, key("a"), b"bytes")
        storage.fail("drip", "info", times=100, seconds=0.02)
        with pytest.raises(Unavailable, match="too slowly"):
            hasty.size(key("a"))
        storage.faults.clear()
        monkeypatch.setattr("calotype.backends.supabase.wire.LONGEST", 1000)
        storage.fail("other", "info", body=b" " * 9999)
        with pytest.raises(Unavailable, match="more than 1000 bytes"):
            hasty.size(key("a"))

    def test_a_slow_object_is_read_to_its_end(self, backend, storage):
        """As long as something comes."""
        put(backend, key("a"), b"0123456789")
        storage.fail("drip", "authenticated", seconds=0.1)
        assert read(backend, key("a")) == b"0123456789"

    def test_a_login_page_is_no_object(self, backend, storage):
        put(backend, key("a"), b"bytes")
        storage.fail("refuse", "authenticated", status=200, body=b"<html>Log in</html>")
        with pytest.raises(Unavailable, match="without an etag"):
            backend.open(key("a"))

    def test_another_server_is_no_missing_object(self, storage):
        elsewhere = opened(storage, f"{storage.bucket()}?base=/other/v1")
        for call in (
            lambda: elsewhere.size(key("a")),
            lambda: put(elsewhere, key("a"), b"x"),
            lambda: elsewhere.open(key("a")),
            elsewhere.reach,
        ):
            with pytest.raises(Misconfigured, match="does not answer as Supabase Storage"):
                call()

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_the_key_does_not_follow_a_redirect(self, backend, storage, status):
        storage.fail("refuse", times=1, status=status, headers={"location": "http://127.0.0.1:9/"})
        with pytest.raises(Misconfigured, match=str(status)):
            backend.size(key("a"))

    def test_a_gateway_refuses_a_key_in_its_own_words(self, backend, storage):
        for status in (401, 403):
            said = b'{"message":"Invalid API key","hint":"Double check your key"}'
            storage.fail("refuse", status=status, body=said)
            with pytest.raises(Denied, match="Invalid API key"):
                backend.size(key("a"))

    def test_a_paused_project_is_no_missing_object(self, backend, storage):
        said = b'{"statusCode":"400","code":"TenantNotFound","message":"Missing tenant config"}'
        storage.fail("refuse", status=400, body=said)
        with pytest.raises(Misconfigured, match="no project"):
            backend.size(key("a"))

    def test_an_unknown_refusal_is_told_in_one_line(self, backend, storage):
        said = json.dumps({"code": "Odd", "message": "line\none \x1b[31m" + "x" * 999}).encode()
        storage.fail("refuse", status=400, body=said)
        with pytest.raises(Unavailable) as refused:
            backend.size(key("a"))
        told = str(refused.value)
        assert told.isprintable()
        assert len(told) < 500
        assert "Odd" in told

    def test_a_proxy_that_takes_less_is_too_large(self, backend, storage):
        storage.fail("early", "POST", status=413)
        with pytest.raises(TooLarge):
            put(backend, key("a"), MORE[:PART])

    @pytest.mark.parametrize("part", [b"", b"{", b'{"statusCode":"404"', b"<html>"])
    def test_a_refusal_that_was_cut_off_is_asked_again(self, part):
        with pytest.raises(Passing):
            raise Refusal.of(400, part, {}).error(Place.of("supabase://p/b"), "a")

    def test_nothing_is_lost_or_mixed_up_whatever_fails(self, storage):
        """Four requests of ten fail in one way or another; each writer has keys of its own."""
        url = f"{storage.bucket()}/a"
        random = Random(0)
        kinds = ["refuse", "early", "lose", "reset", "cut", "clip", "unsized", "slow"]

        def chance() -> Fault:
            if random.random() > 0.4:
                return Fault("nothing")
            after = random.choice([0, 1, 70_000, PART - 1])
            status = random.choice([429, 500, 502, 503])
            return Fault(random.choice(kinds), after=after, status=status, seconds=0.02)

        storage.chance = chance
        bold = opened(storage, url, patience=Patience(total=60, pause=0.001, longest=0.01))
        kept: dict[str, bytes] = {}

        def work(writer: int) -> None:
            mine = Random(writer)
            for n in range(7):
                at = key(f"{writer} {mine.randrange(3)}")
                content = noise(mine.choice([0, 5, 70_000, PART + 9]), n)
                put(bold, at, content)
                kept[str(at)] = content
                assert bold.size(at) == len(content)
                start = mine.randrange(len(content) + 2)
                assert read(bold, at, start) == content[start:]
                if mine.random() < 0.3:
                    bold.delete(at)
                    del kept[str(at)]
                    assert bold.size(at) is None
                assert {name for name in names(bold) if name in kept} <= kept.keys()

        together(*[lambda w=writer: work(w) for writer in range(4)])
        assert {found.name: found.size for found in bold.scan()} == {
            name: len(content) for name, content in kept.items()
        }


class TestProcesses:
    def test_a_forked_child_has_connections_of_its_own(self, backend, storage):
        put(backend, key("a"), LARGE)
        with backend.open(key("a")) as file:
            begun = file.read(10)
            assert backend.size(key("a")) == len(LARGE)  # and another connection waits
            before = storage.connections
            child = os.fork()
            if not child:
                whole = read(backend, key("a")) == LARGE
                os._exit(0 if whole and len(names(backend)) == 1 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert storage.connections > before
            assert begun + file.read() == LARGE
        assert read(backend, key("a")) == LARGE

    def test_many_readers_are_open_at_once(self, backend):
        """More than the connections that are kept."""
        content = MORE[: 1 << 20]
        put(backend, key("a"), content)
        files = [backend.open(key("a")) for _ in range(120)]
        try:
            assert {file.read(9) for file in files} == {content[:9]}
            assert backend.size(key("a")) == len(content)
        finally:
            for file in files:
                file.close()

    def test_connections_are_used_again(self, backend, storage):
        put(backend, key("a"), b"bytes")
        before = storage.connections
        for _ in range(9):
            assert read(backend, key("a")) == b"bytes"
            assert read(backend, key("a"), 1, 3) == b"yt"
            assert names(backend) == [str(key("a"))]
            assert backend.size(key("b")) is None
        assert storage.connections == before


class TestOpening:
    """URLs and keys."""

    @pytest.fixture(autouse=True)
    def environ(self, monkeypatch):
        for name in ("CALOTYPE_SUPABASE_KEY", "CALOTYPE_SUPABASE_KEY_FILE"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.parametrize(
        ("url", "endpoint", "said"),
        [
            ("supabase://abc/media", "https://abc.supabase.co/storage/v1", None),
            (
                "supabase://abc/media/a/b.c_d-e/",
                "https://abc.supabase.co/storage/v1",
                "supabase://abc/media/a/b.c_d-e",
            ),
            ("supabase+http://h:8000/m/p", "http://h:8000/storage/v1", None),
            ("supabase+http://H.lan/M", "http://h.lan/storage/v1", "supabase+http://h.lan/M"),
            (
                "supabase+https://h/m?base=/storage/v1/",
                "https://h/storage/v1",
                "supabase+https://h/m",
            ),
            (
                "supabase+http://[::1]:9/m?base=x",
                "http://[::1]:9/x",
                "supabase+http://[::1]:9/m?base=/x",
            ),
            ("supabase+http://h/m?base=", "http://h", "supabase+http://h/m?base="),
        ],
    )
    def test_a_url_names_endpoint_bucket_and_folder(self, monkeypatch, url, endpoint, said):
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", "sb_secret_abc")
        made = open_backend(url)
        assert made.url == (said or url)
        assert made._place.endpoint == endpoint
        assert open_backend(made.url).url == made.url

    @pytest.mark.parametrize(
        "url",
        [
            "supabase:",
            "supabase://",
            "supabase:///media",
            "supabase://abc",
            "supabase://abc/",
            "supabase://abc/me dia",
            "supabase://abc/media//x",
            "supabase://abc/media/../x",
            "supabase://abc/media/%2e%2e/x",
            "supabase://abc/media/a%2f../x",
            "supabase://abc/media/a~b",
            "supabase://abc/m\u00e4",
            "supabase://abc.supabase.co/media",
            "supabase://abc:80/media",
            "supabase://abc/media?base=/storage/v1",
            "supabase://abc/media?key=SECRET",
            "supabase://abc/media#SECRET",
            "supabase://SECRET@abc/media",
            "supabase://user:SECRET@abc/media",
            "supabase+http://h:99999/media",
            "supabase+http://a..b/media",
            "supabase+http://a b/media",
            "supabase+http://h\u00e4/media",
            f"supabase+http://{'a' * 64}/media",
            f"supabase+http://{'a.' * 130}a/media",
            f"supabase://{'a' * 64}/media",
            "supabase+http://h:x/media",
            "supabase+http://[h/media",
            "supabase+http://h/media?base=/../x",
        ],
    )
    def test_a_url_that_names_no_place_is_refused_and_not_repeated(self, monkeypatch, url):
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", "sb_secret_abc")
        with pytest.raises(Misconfigured) as refused:
            open_backend(url)
        assert refused.value.hint
        assert "SECRET" not in str(refused.value) + refused.value.hint

    def test_a_key_is_needed(self):
        with pytest.raises(Misconfigured, match="no key") as refused:
            open_backend("supabase://abc/media")
        assert "CALOTYPE_SUPABASE_KEY" in refused.value.hint

    def test_a_key_may_be_in_a_file(self, monkeypatch, tmp_path, storage):
        url = storage.bucket()
        file = tmp_path / "key"
        file.write_text(f"{storage.key}\n")
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY_FILE", str(file))
        open_backend(url).reach()
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", "sb_secret_wrong")
        with pytest.raises(Denied):
            open_backend(url).reach()
        monkeypatch.delenv("CALOTYPE_SUPABASE_KEY")
        for place in (tmp_path / "nowhere", tmp_path):
            monkeypatch.setenv("CALOTYPE_SUPABASE_KEY_FILE", str(place))
            with pytest.raises(Misconfigured, match="cannot be read"):
                open_backend(url)

    @pytest.mark.parametrize("key", ["two words", "line\nbreak", "k\u00e9y"])
    def test_a_key_that_is_none_is_refused_and_not_repeated(self, monkeypatch, key):
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", key)
        with pytest.raises(Misconfigured, match="is not a key") as refused:
            open_backend("supabase://abc/media")
        assert key not in str(refused.value)

    @pytest.mark.parametrize("key", ["a.b.c", "a.e30.c", "a.W10.c", "sb_secret_x", "x"])
    def test_a_key_that_tells_no_role_is_left_to_the_service(self, monkeypatch, key):
        monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", key)
        assert open_backend("supabase://abc/media").url == "supabase://abc/media"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ALL_PROXY", "gopher://user:SECRET@127.0.0.1:1"),
            ("HTTP_PROXY", "socks5://user:SECRET@127.0.0.1:1"),
            ("SSL_CERT_FILE", "/nowhere/SECRET.pem"),
        ],
    )
    def test_an_environment_that_allows_no_client_is_told(self, monkeypatch, storage, name, value):
        monkeypatch.setenv(name, value)
        with pytest.raises(Misconfigured, match="No HTTP client") as refused:
            opened(storage, storage.bucket()).reach()
        assert name in refused.value.hint
        assert "SECRET" not in str(refused.value)

    def test_no_secret_is_shown(self, backend, storage, caplog):
        caplog.set_level("DEBUG")
        put(backend, key("a"), b"x")
        for each in (backend, backend._place, backend._wire, backend._wire._client()):
            assert storage.key not in f"{each!r}{each!s}"
        assert storage.key not in backend.url
        assert storage.key not in caplog.text
