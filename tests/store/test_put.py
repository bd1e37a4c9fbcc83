"""Put: bytes in, kept once, with the status and the facts that are true."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from pathlib import Path

import pytest
from tests.store.pictures import noise, picture, png_header
from tests.store.surgery import (
    content,
    findings,
    keys,
    lose,
    objects,
    problems,
    rows,
    spoil,
    states,
    truncate,
)

from calotype import Digest, Store
from calotype.backends.memory import MemoryBackend
from calotype.errors import (
    Corrupt,
    DecompressionBomb,
    Denied,
    DigestMismatch,
    InvalidDigest,
    Misconfigured,
    NotAnImage,
    NotFound,
    TooLarge,
)
from calotype.names import Owner
from calotype.staging import SMALL, Limits

BIG = SMALL + 3


def test_what_was_put_comes_back(store):
    put = store.put(picture())
    assert (put.status, put.digest) == ("created", Digest.of(picture()))
    assert content(store, put.digest) == picture()
    assert problems(store) == []


def test_the_facts_are_read_from_the_bytes_and_never_from_the_name(store, tmp_path):
    path = tmp_path / "holiday.gif"
    path.write_bytes(picture(size=(8, 6)))
    asset = store.put(path).asset
    assert (asset.media_type, asset.extension) == ("image/png", "png")
    assert (asset.width, asset.height, asset.size) == (8, 6, len(picture()))
    assert asset.filename == "holiday.gif"


def test_bytes_of_no_known_kind_are_a_file(store):
    put = store.put(b"just text\x00\xff")
    assert (put.blob.media_type, put.blob.extension) == ("application/octet-stream", "")
    assert (put.blob.width, put.blob.height) == (None, None)


def test_an_empty_file_is_kept(store):
    put = store.put(b"")
    assert (put.status, put.blob.size, content(store, put.digest)) == ("created", 0, b"")


def test_the_same_bytes_again_are_a_duplicate_and_lie_there_once(store):
    first, again = store.put(picture()), store.put(picture())
    assert (first.status, again.status) == ("created", "duplicate")
    assert len(objects(store)) == 1
    assert again.asset == first.asset


@pytest.mark.parametrize("size", [0, 5, SMALL, BIG])
@pytest.mark.parametrize("kind", ["path", "text", "bytes", "bytearray", "view", "file", "pieces"])
def test_every_kind_of_source_is_the_same_bytes(folder, tmp_path, size, kind):
    data = noise(size)
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    sources = {
        "path": path,
        "text": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "view": memoryview(data),
        "file": io.BytesIO(data),
        "pieces": (data[at : at + 70_001] for at in range(0, len(data), 70_001)),
    }
    with folder.open() as store:
        put = store.put(sources[kind])
        assert put.digest == Digest.of(data)
        assert content(store, put.digest) == data
        assert list((folder.blobs / "tmp").iterdir()) == []


def test_an_open_file_is_read_from_where_it_stands(store):
    file = io.BytesIO(b"head and tail")
    file.seek(5)
    assert content(store, store.put(file).digest) == b"and tail"


@pytest.mark.parametrize("size", [0, 10, BIG])
def test_a_source_that_breaks_leaves_nothing(store, size):
    def broken():
        yield noise(size)
        raise RuntimeError("the line went dead")

    with pytest.raises(RuntimeError, match="the line went dead"):
        store.put(broken(), owner="scan/1")
    assert list(store.assets()) == []
    assert objects(store) == {}
    assert findings(store) == []


def test_a_source_that_breaks_leaves_no_temporary_file(durable):
    def broken():
        yield noise(BIG)
        raise RuntimeError

    with durable.open() as store:
        store.put(b"so that there is a store")
        with pytest.raises(RuntimeError):
            store.put(broken())
        assert list((durable.blobs / "tmp").iterdir()) == []


@pytest.mark.parametrize("source", [None, 7, ["text"], (b"bytes", "text"), "StringIO"])
def test_what_is_no_source_of_bytes_is_refused(store, source):
    with pytest.raises(Misconfigured):
        store.put(io.StringIO("text") if source == "StringIO" else source)
    assert list(store.assets()) == []


def test_what_comes_waits_in_memory_and_only_what_is_too_large_for_it_on_disk(durable):
    drafts, seen = durable.blobs / "tmp", []

    def pieces():
        yield bytes(SMALL)
        seen.append(len(list(drafts.iterdir())))
        yield b"more"
        seen.append(len(list(drafts.iterdir())))

    with durable.open() as store:
        store.put(b"so that there is a store")
        put = store.put(pieces())
        assert seen == [0, 1]
        assert list(drafts.iterdir()) == []
        assert put.digest == Digest.of(bytes(SMALL) + b"more")


def test_a_file_that_may_not_be_read_is_denied(store, tmp_path, monkeypatch):
    path, opened = tmp_path / "theirs", os.open

    def refusing(name, *how, **more):
        if name == path:
            raise PermissionError(13, "Permission denied", name)
        return opened(name, *how, **more)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(Denied, match="may not be read") as caught:
        store.put(path)
    assert caught.value.code == "denied"
    assert [each.code for each in store.put_many([path]).result().failures] == ["denied"]


def test_a_broken_symlink_is_not_found(store, tmp_path):
    path = tmp_path / "link"
    path.symlink_to("nowhere")
    with pytest.raises(NotFound, match="A broken symlink") as caught:
        store.put(path)
    assert caught.value.code == "not-found"
    assert [each.code for each in store.put_many([path]).result().failures] == ["not-found"]


def test_without_an_owner_it_is_kept_for_itself(store, clock):
    put = store.put(picture())
    assert put.asset.kept == "library"
    clock.advance(days=10_000)
    assert store.gc().doomed == 0
    assert content(store, put.digest) == picture()


def test_with_an_owner_only_the_owner_keeps_it(store, clock):
    put = store.put(picture(), owner="scan/9")
    assert (put.asset.kept, put.asset.references, put.asset.trashed) == (None, 1, False)
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1


def test_a_hold_keeps_it_until_then(store, clock):
    put = store.put(picture(), hold="2h")
    assert put.asset.kept == clock.moment + timedelta(hours=2)
    clock.advance(hours=1.99)
    assert store.gc(now=True).doomed == 0
    clock.advance(hours=0.02)
    assert store.gc(now=True).doomed == 1


def test_owner_and_hold_together_are_both(store, clock):
    put = store.put(picture(), owner="scan/9", hold="2h")
    assert put.asset.references == 1
    assert put.asset.kept == clock.moment + timedelta(hours=2)
    store.release("scan/9")
    assert not store.stat(put.digest).trashed
    clock.advance(hours=3)
    assert store.gc(now=True).doomed == 1


@pytest.mark.parametrize(("first", "second"), [("1h", "3h"), ("3h", "1h")])
def test_of_two_holds_the_later_one_counts(store, clock, first, second):
    store.put(picture(), hold=first)
    put = store.put(picture(), hold=second)
    assert put.asset.kept == clock.moment + timedelta(hours=3)
    assert store.stat(put.digest) == put.asset


def test_the_library_outlives_every_hold(store, clock):
    store.put(picture())
    assert store.put(picture(), hold="1h").asset.kept == "library"
    store.put(picture(1), hold="1h")
    assert store.put(picture(1)).asset.kept == "library"


def test_an_owner_alone_leaves_a_hold_as_it_is(store, clock):
    held = store.put(picture(), hold="1h").asset.kept
    assert store.put(picture(), owner="scan/9").asset.kept == held


@pytest.mark.parametrize("duration", [3600, 3600.0, "3600", "60m", "1h", timedelta(hours=1)])
def test_durations_are_written_in_many_ways(store, clock, duration):
    assert store.put(picture(), hold=duration).asset.kept == clock.moment + timedelta(hours=1)


def test_an_owner_without_roles_is_a_set(store):
    for number in (1, 2, 3, 1):
        store.put(picture(number), owner="dataset/7")
    assert {asset.digest for asset in store.assets(owner="dataset/7")} == {
        Digest.of(picture(number)) for number in (1, 2, 3)
    }


def test_a_role_is_a_slot_that_holds_one(store):
    store.put(picture(1), owner="scan/9", role="original")
    put = store.put(picture(2), owner="scan/9", role="original")
    [reference] = store.references(owner="scan/9")
    assert (reference.digest, reference.role) == (put.digest, "original")
    with pytest.raises(Exception, match="No asset"):
        store.stat(Digest.of(picture(1)))


def test_what_a_slot_held_before_can_be_restored_once_it_is_free(store):
    first = store.put(picture(1), owner="scan/9", role="original").digest
    second = store.put(picture(2), owner="scan/9", role="original").digest
    assert store.restore(owner="scan/9").references == 0
    store.release("scan/9")
    assert store.restore(owner="scan/9").digests == (second,)
    assert store.check([first])[first].trashed


def test_ids_of_owners_hold_slashes(store):
    store.put(picture(), owner="scan/2026/11/21")
    assert [str(each.owner) for each in store.owners()] == ["scan/2026/11/21"]
    assert [each.owner for each in store.owners(kind="scan")] == [Owner("scan", "2026/11/21")]


@pytest.mark.parametrize(
    "owner", ["scan", "/9", "scan/", "", "s/\ud800", "s/\0", "s/" + "9" * 1025]
)
def test_what_is_no_owner_is_refused_and_nothing_is_stored(store, owner):
    with pytest.raises(Misconfigured):
        store.put(picture(), owner=owner)
    assert list(store.assets()) == []


@pytest.mark.parametrize("role", ["", "a\0", "x" * 1025])
def test_what_is_no_role_is_refused(store, role):
    with pytest.raises(Misconfigured):
        store.put(picture(), owner="scan/9", role=role)
    assert objects(store) == {}


def test_a_role_without_an_owner_is_refused(store):
    with pytest.raises(Misconfigured):
        store.put(picture(), role="original")
    assert objects(store) == {}


@pytest.mark.parametrize("spell", [str, str.upper, "sha256:{}".format, " {} ".format])
def test_the_expected_digest_may_be_written_as_people_write_it(store, spell):
    wanted = Digest.of(picture())
    assert store.put(picture(), expect=spell(wanted)).digest == wanted


def test_other_bytes_than_expected_are_not_stored(store):
    with pytest.raises(DigestMismatch, match="nothing was stored"):
        store.put(picture(), expect=Digest.of(b"other"))
    assert (list(store.assets()), objects(store)) == ([], {})


def test_an_expected_digest_that_is_none_is_refused(store):
    with pytest.raises(InvalidDigest):
        store.put(picture(), expect="abc")
    assert objects(store) == {}


def test_images_only_takes_images(store):
    assert store.put(picture(), images_only=True).status == "created"


@pytest.mark.parametrize("data", [b"", b"text", picture()[:20], b"%PDF-1.7\n"])
def test_images_only_refuses_what_is_no_readable_image(store, data):
    with pytest.raises(NotAnImage):
        store.put(data, images_only=True)
    assert objects(store) == {}


def test_a_bomb_is_kept_as_bytes_without_dimensions(store):
    bomb = png_header(30_000, 30_000)
    blob = store.put(bomb).blob
    assert (blob.media_type, blob.width, blob.height) == ("image/png", None, None)
    assert content(store, blob.digest) == bomb


def test_images_only_refuses_a_bomb_by_its_name(store):
    with pytest.raises(DecompressionBomb):
        store.put(png_header(30_000, 30_000), images_only=True)
    assert objects(store) == {}


def test_what_is_a_bomb_is_said_by_the_limit_of_pixels(place, tmp_path):
    sources = [png_header(4, 4), tmp_path / "a.png", iter([png_header(4, 4)])]
    (tmp_path / "a.png").write_bytes(png_header(4, 4))
    with place.open(limits=Limits(pixels=15)) as store:
        for source in sources:
            with pytest.raises(DecompressionBomb, match="more than 15 pixels"):
                store.put(source, images_only=True)
        assert store.put(png_header(5, 3), images_only=True).blob.width == 5


def test_a_file_over_the_limit_is_not_stored(place):
    with place.open(limits=Limits(file_size=100)) as store:
        assert store.put(noise(100)).status == "created"
        for source in (noise(101), io.BytesIO(noise(101)), iter([noise(60), noise(60)])):
            with pytest.raises(TooLarge, match="100"):
                store.put(source)
        assert len(objects(store)) == 1


def test_a_stream_is_left_at_the_limit_however_long_it_is(place):
    def endless():
        yield from (noise(60), noise(60))
        pytest.fail("the stream is read beyond the limit")

    with place.open(limits=Limits(file_size=100)) as store:
        with pytest.raises(TooLarge):
            store.put(endless())
        done = store.put_many([endless()]).result()
        assert [each.code for each in done.failures] == ["too-large"]


def test_the_file_name_is_that_of_the_path_unless_one_is_given(store, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(1))
    assert store.put(path).asset.filename == "a.png"
    path.write_bytes(picture(2))
    assert store.put(path, filename="b.png").asset.filename == "b.png"
    assert store.put(picture(3)).asset.filename is None


def test_a_name_that_is_there_stays_and_a_missing_one_is_filled_in(store):
    assert store.put(picture()).asset.filename is None
    assert store.put(picture(), filename="first.png").asset.filename == "first.png"
    assert store.put(picture(), filename="second.png").asset.filename == "first.png"
    assert store.stat(Digest.of(picture())).filename == "first.png"


def test_metadata_is_merged_key_by_key(store):
    store.put(picture(), metadata={"a": 1, "b": {"c": [1, None]}})
    put = store.put(picture(), metadata={"a": 2, "d": "é"})
    assert put.asset.metadata == {"a": 2, "b": {"c": [1, None]}, "d": "é"}
    assert store.stat(put.digest).metadata == put.asset.metadata


@pytest.mark.parametrize("metadata", [{"a": b"x"}, {"a": float("nan")}, {"a": {1, 2}}])
def test_metadata_that_is_no_json_is_refused(store, metadata):
    with pytest.raises(Misconfigured, match="JSON"):
        store.put(picture(), metadata=metadata)
    assert objects(store) == {}


def test_a_file_in_the_trash_is_restored_by_putting_it_again(store):
    put = store.put(picture(), owner="scan/9", filename="old.png", metadata={"a": 1})
    store.release("scan/9")
    again = store.put(picture(), owner="scan/10", filename="new.png", metadata={"b": 2})
    assert again.status == "restored"
    assert (again.asset.filename, again.asset.metadata) == ("new.png", {"a": 1, "b": 2})
    assert not store.stat(put.digest).trashed
    assert [str(ref.owner) for ref in store.references(digest=put.digest)] == ["scan/10"]


def test_a_passed_hold_is_restored_by_putting_it_again(store, clock):
    store.put(picture(), hold="1h")
    clock.advance(hours=2)
    assert store.put(picture(), hold="1h").status == "restored"


def test_what_gc_has_taken_is_created_again_at_another_key(store):
    store.put(picture(), owner="scan/9")
    [before] = keys(store, Digest.of(picture()))
    store.release("scan/9")
    assert store.gc(now=True).erased == 1
    put = store.put(picture())
    assert put.status == "created"
    [after] = keys(store, put.digest)
    assert before.token == "" and after.token != ""
    assert content(store, put.digest) == picture()
    assert states(store, put.digest) == ["erased", "live"]


@pytest.mark.parametrize("harm", [truncate, lose])
def test_a_truncated_or_lost_file_is_healed_by_putting_it_again(store, harm):
    put = store.put(picture())
    harm(store, put.digest)
    again = store.put(picture())
    assert again.status == "healed"
    assert content(store, put.digest) == picture()
    assert store.put(picture()).status == "duplicate"
    store.gc(now=True)
    assert problems(store) == []
    assert len(objects(store)) == 1


def test_damage_of_the_same_size_is_healed_once_reading_found_it(store):
    put = store.put(picture())
    spoil(store, put.digest)
    with pytest.raises(Corrupt, match="Put the same file again|damaged"):
        content(store, put.digest)
    assert store.put(picture()).status == "healed"
    assert content(store, put.digest) == picture()


def test_damage_of_the_same_size_is_healed_once_fsck_found_it(store):
    put = store.put(picture())
    spoil(store, put.digest)
    assert [finding.kind for finding in findings(store, read_data=True)] == ["corrupt"]
    assert store.put(picture()).status == "healed"
    assert content(store, put.digest) == picture()
    store.gc(now=True)
    assert problems(store) == []


def test_healing_goes_before_creating_in_no_scope_but_its_own(store):
    put = store.put(picture())
    truncate(store, put.digest)
    other = store.scope("user:ana").put(picture())
    assert other.status == "created"
    assert content(store, put.digest) == picture()
    assert store.put(picture()).status == "duplicate"


def test_a_trashed_damaged_file_is_restored_and_sound(store):
    put = store.put(picture(), owner="scan/9")
    store.release("scan/9")
    truncate(store, put.digest)
    assert store.put(picture()).status == "restored"
    assert content(store, put.digest) == picture()


def test_the_first_put_makes_the_store_and_reading_before_finds_nothing(durable):
    with durable.open() as store:
        assert list(store.assets()) == []
        assert not durable.blobs.exists()
        assert not (durable.kind == "folder" and durable.database.exists())
        store.put(picture())
    with durable.open() as again:
        assert content(again, Digest.of(picture())) == picture()


def test_files_are_read_only_and_lie_under_their_digest(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
    path = durable.blobs / "sha256" / digest[:2] / digest[2:4] / f"{digest}.png"
    assert path.read_bytes() == picture()
    assert path.stat().st_mode & 0o777 == 0o444


def test_one_put_writes_one_row_of_each_kind(store):
    store.put(picture(), owner="scan/9")
    counts = {
        table: rows(store, f"SELECT COUNT(*) FROM calotype_{table}")[0][0]
        for table in ("blob", "replica", "asset", "reference")
    }
    assert counts == {"blob": 1, "replica": 1, "asset": 1, "reference": 1}


def test_a_path_may_be_of_any_kind(store, tmp_path):
    path = Path(tmp_path) / "ünï côdé.png"
    path.write_bytes(picture())
    assert store.put(path).asset.filename == "ünï côdé.png"


def test_a_backend_of_ones_own_is_used_as_it_is(tmp_path):
    backend = MemoryBackend()
    with Store(catalog=f"sqlite:///{tmp_path / 'app.db'}", backend=backend) as store:
        assert store.put(picture()).status == "created"
        assert len(list(backend.scan("sha256/"))) == 1
    with pytest.raises(Misconfigured, match="Not a backend: int"):
        Store(tmp_path / "store", backend=5)


def test_a_database_of_bytes_is_not_read(tmp_path):
    there = tmp_path / "bytes.db"
    with Store(tmp_path / "media", backend=f"sqlite:///{there}") as store:
        store.put(picture())
        with pytest.raises(Misconfigured, match="belongs to a database that is in use"):
            store.put(there)
        (failed,) = store.put_many([there]).result().failures
        assert (failed.code, len([*store.assets()])) == ("misconfigured", 1)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("many", [False, True])
def test_the_catalogs_own_file_is_not_read(in_file, tmp_path, end, linked, many):
    """To close it would let go of the locks that this process has on it."""
    with in_file.open() as store:
        store.put(picture())
        path = Path(f"{store._rooms.catalog.path}{end}")
        path.touch()
        if linked:
            (tmp_path / "picture.png").symlink_to(path)
            path = tmp_path / "picture.png"
        if many:
            done = store.put_many([path, picture(1)]).result()
            assert ([each.code for each in done.failures], done.created) == (["misconfigured"], 1)
        else:
            with pytest.raises(Misconfigured, match="belongs to a database that is in use"):
                store.put(path)
        assert len([*store.assets()]) == 1 + many


def test_the_folder_that_the_first_put_makes_is_its_users_alone(tmp_path):
    with Store(tmp_path / "deep/media") as store:
        store.put(b"first")
    for place in ("deep/media", "deep/media/blobs", "deep/media/blobs/sha256"):
        assert (tmp_path / place).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep/media/catalog.db").stat().st_mode & 0o777 == 0o600
