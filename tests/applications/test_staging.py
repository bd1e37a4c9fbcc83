"""The staging service: originals are shared, bills stay, bytes go with the last image."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from examples.staging import jobs
from examples.staging.backfill import old_image
from examples.staging.deleting import release_images
from examples.staging.studio import Studio
from examples.staging.styles import LONGEST, STYLES, NoPicture, make
from examples.staging.tables import images, reading
from examples.staging.tour import CAT, COFFEE, ROCKET, fresh
from examples.staging.uploads import add_images
from PIL import Image, ImageOps, ImageStat
from sqlalchemy import event, select, update
from tests.store.places import Clock

from calotype import Digest, Scope, Store
from calotype.backends.local import LocalBackend
from calotype.errors import NotAnImage, Unavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def studio(tmp_path, clock):
    with Studio.open(tmp_path / "studio", clock) as opened:
        yield opened


@pytest.fixture
def flat(studio):
    return studio.new_project("flat")


def dot(number: int, side: int = 8) -> bytes:
    """A small picture like no other."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def row(studio, image: int):
    with reading(studio.engine).connect() as connection:
        return connection.execute(select(images).where(images.c.id == image)).one()


def rows(studio) -> int:
    with reading(studio.engine).connect() as connection:
        return len(connection.execute(select(images.c.id)).all())


def files(studio) -> dict[str, int]:
    """Every object on disk by its digest, and how often it is there."""
    found = (studio.folder / "originals" / "sha256").rglob("*")
    return Counter(path.name[:64] for path in found if path.is_file())


def references(studio) -> set[tuple[str, str, str]]:
    found = studio.store.references
    owners = [each.owner for each in studio.store.owners()]
    return {(str(r.owner), r.role, r.digest) for owner in owners for r in found(owner=owner)}


def content(studio, digest: str) -> bytes:
    with studio.store.open(digest) as file:
        return file.read()


def problems(studio) -> int:
    """Of a check that reads every byte: those that were written before this very instant."""
    studio.clock.advance(seconds=1)
    check = studio.store.fsck(read_data=True).result()
    assert check.read_bytes > 0 or not files(studio)
    return check.problems


# Styles and jobs


def test_the_styles_are_what_they_are_called():
    original = ROCKET.read_bytes()
    made = {style: Image.open(io.BytesIO(make(style, original))) for style in STYLES}
    plain = ImageStat.Stat(Image.open(ROCKET)).mean
    assert sum(ImageStat.Stat(made["bright"]).mean) > 1.1 * sum(plain)
    red, _, blue = ImageStat.Stat(made["warm"]).mean
    assert red / blue > 1.2 * plain[0] / plain[2]
    assert made["monochrome"].mode == "L"


@pytest.mark.parametrize("style", STYLES)
def test_the_same_picture_gives_the_same_bytes(style):
    original = CAT.read_bytes()
    assert make(style, original) == make(style, original)


def test_a_staged_picture_is_upright_and_not_too_large():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2 * LONGEST, LONGEST)).save(file, "JPEG", exif=exif)
    assert Image.open(io.BytesIO(make("warm", file.getvalue()))).size == (LONGEST // 2, LONGEST)


def test_a_job_keeps_its_picture_beside_the_original(studio, flat):
    done = studio.upload(flat, CAT)
    assert studio.work() == {"done": 3}
    assert studio.work() == {}
    for image in done.images:
        staged = row(studio, image).staged_digest
        assert content(studio, staged) == make(row(studio, image).style, CAT.read_bytes())
        assert {("original", done.digest), ("staged", staged)} == {
            (role, digest)
            for owner, role, digest in references(studio)
            if owner == f"image/{image}"
        }
    assert set(files(studio).values()) == {1}
    assert len(files(studio)) == 4


def test_a_picture_that_is_cut_off_fails_its_jobs_and_no_others(studio, flat):
    whole = ROCKET.read_bytes()
    broken = studio.upload(flat, whole[: len(whole) // 3])
    studio.upload(flat, CAT, ["warm"])
    assert studio.work() == {"failed": 3, "done": 1}
    assert row(studio, broken.images[0]).price_cents == 0
    with pytest.raises(NoPicture):
        make("warm", content(studio, broken.digest))


def test_a_job_stays_queued_while_the_store_is_out_of_reach(studio, flat):
    studio.upload(flat, CAT)
    originals = studio.folder / "originals"
    originals.rename(studio.folder / "unplugged")
    with pytest.raises(Unavailable):
        studio.work()
    assert studio.numbers()["QueuedJobs"] == 3
    (studio.folder / "unplugged").rename(originals)
    assert studio.work() == {"done": 3}
    assert studio.numbers()["QueuedJobs"] == 0


def with_exif(tag: int, kind: int, value: bytes) -> bytes:
    """A picture to be turned, whose EXIF has one more tag, of any kind."""
    tags = struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + struct.pack(">HHI", tag, kind, 1) + value
    file, exif = io.BytesIO(), b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + tags + bytes(4)
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "raises"), [(9, struct.error), (2, TypeError)], ids=["below zero", "text"]
)
def test_a_picture_that_the_decoder_stumbles_over_fails_its_job_alone(studio, flat, kind, raises):
    damaged = with_exif(0x11A, kind, b"\xff" * 4)
    with pytest.raises(raises), Image.open(io.BytesIO(damaged)) as opened:
        ImageOps.exif_transpose(opened)
    studio.upload(flat, damaged, ["warm"])
    studio.upload(flat, CAT, ["warm"])
    assert studio.work() == {"failed": 1, "done": 1}
    assert studio.work() == {}


def test_a_job_that_another_worker_has_ended_is_not_billed(studio, flat, monkeypatch):
    [image] = studio.upload(flat, CAT, ["warm"]).images

    def overtaken(style: str, original: bytes) -> bytes:
        with studio.engine.begin() as connection:
            connection.execute(update(jobs.jobs).values(state="failed"))
        return make(style, original)

    monkeypatch.setattr(jobs, "make", overtaken)
    assert studio.work() == {}
    assert (row(studio, image).price_cents, row(studio, image).staged_digest) == (0, None)
    assert studio.bill(flat) == 0


def test_a_job_of_a_deleted_image_is_cancelled(studio, flat):
    done = studio.upload(flat, CAT)
    studio.delete_image(done.images[0])
    assert studio.work() == {"cancelled": 1, "done": 2}
    assert studio.bill(flat) == 2 * jobs.PRICE_CENTS


@pytest.mark.parametrize("how", ["image", "project"])
def test_an_image_that_is_deleted_while_its_picture_is_made_refers_to_nothing(
    studio, flat, clock, monkeypatch, how
):
    [image] = studio.upload(flat, CAT, ["warm"]).images

    def interrupted(style: str, original: bytes) -> bytes:
        studio.delete_image(image) if how == "image" else studio.delete_project(flat)
        return make(style, original)

    monkeypatch.setattr(jobs, "make", interrupted)
    assert studio.work() == {"cancelled": 1}
    assert references(studio) == set()
    clock.advance(hours=25)
    studio.cleanup_orphans()
    assert files(studio) == {}
    assert studio.bill(flat) == 0


def test_two_workers_at_once_do_each_job_once(studio, flat):
    for number in range(5):
        studio.upload(flat, dot(number))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(studio.work), pool.submit(studio.work)
        assert first.result() + second.result() == {"done": 15}
    assert studio.bill(flat) == 15 * jobs.PRICE_CENTS
    assert len(references(studio)) == 30
    assert problems(studio) == 0


# Uploads


def test_an_original_is_kept_once_for_all_projects(studio, flat):
    house = studio.new_project("house")
    first, second = studio.upload(flat, CAT), studio.upload(house, CAT.read_bytes())
    assert (first.status, second.status) == ("created", "duplicate")
    assert first.digest == second.digest
    assert files(studio) == {first.digest: 1}
    assert [studio.delete_image(image) for image in first.images] == [False] * 3
    assert content(studio, first.digest) == CAT.read_bytes()
    assert [studio.delete_image(image) for image in second.images] == [False, False, True]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"project": 99}, LookupError),
        ({"styles": ["warm", "cubist"]}, LookupError),
        ({"picture": b"no picture"}, NotAnImage),
    ],
)
def test_an_upload_that_makes_no_sense_leaves_nothing(studio, flat, clock, wrong, error):
    with pytest.raises(error):
        studio.upload(**({"project": flat, "picture": CAT} | wrong))
    assert (rows(studio), references(studio)) == (0, set())
    clock.advance(hours=26)
    studio.cleanup_orphans()
    assert files(studio) == {}


def test_nothing_is_uploaded_to_a_deleted_project(studio, flat):
    studio.delete_project(flat)
    with pytest.raises(LookupError):
        studio.upload(flat, CAT)
    assert rows(studio) == 0


def test_an_upload_that_is_rolled_back_leaves_no_row_and_nothing_that_stays(studio, flat, clock):
    put = studio.store.put(CAT, hold="1h")
    with pytest.raises(ZeroDivisionError), studio.engine.begin() as connection:
        assert len(add_images(studio.store, connection, clock(), flat, put.digest)) == 3
        raise ZeroDivisionError
    assert (rows(studio), references(studio), studio.work()) == (0, set(), {})
    assert studio.store.gc(now=True).doomed == 0  # the hold is not over
    clock.advance(hours=1, seconds=1)
    assert studio.store.gc().doomed == 0  # nor the grace
    clock.advance(hours=24)
    assert studio.store.gc().erased == 1
    assert files(studio) == {}


def test_a_savepoint_that_is_rolled_back_takes_its_upload_along(studio, flat, clock):
    kept, dropped = (studio.store.put(photo, hold="1h") for photo in (CAT, COFFEE))
    with studio.engine.begin() as connection:
        ids = add_images(studio.store, connection, clock(), flat, kept.digest)
        savepoint = connection.begin_nested()
        add_images(studio.store, connection, clock(), flat, dropped.digest)
        savepoint.rollback()
    assert rows(studio) == 3
    assert references(studio) == {(f"image/{i}", "original", kept.digest) for i in ids}
    clock.advance(hours=26)
    studio.store.gc()
    assert files(studio) == {kept.digest: 1}
    assert studio.work() == {"done": 3}


def test_an_upload_whose_bytes_are_taken_before_its_commit_puts_them_again(
    studio, flat, monkeypatch
):
    """Another upload of the picture ended the hold, and its image was deleted, in between."""
    put, robbed = Store.put, []

    def put_and_lose(store, *args, **options):
        done = put(store, *args, **options)
        if len(robbed) < 2:
            store.discard(done.digest)
            robbed.append(store.gc(digests=[done.digest], now=True).erased)
        return done

    monkeypatch.setattr(Store, "put", put_and_lose)
    done = studio.upload(flat, CAT)
    assert robbed == [1, 1]
    assert content(studio, done.digest) == CAT.read_bytes()
    assert rows(studio) == 3


@pytest.mark.parametrize("hold", ["30m", "1h", "90m", "3h"])
def test_a_hold_that_somebody_asked_for_is_as_long_after_an_upload(studio, flat, hold):
    before = studio.store.put(CAT, hold=hold).asset.kept
    done = studio.upload(flat, CAT, ["warm"])
    assert studio.store.stat(done.digest).kept == before


@pytest.mark.parametrize("how", [{}, {"hold": "52w"}], ids=["for itself", "for a year"])
def test_what_somebody_keeps_in_the_store_outlives_uploads_jobs_and_deletions(
    studio, flat, clock, how
):
    kept = [studio.store.put(each, **how).digest for each in (CAT, make("warm", CAT.read_bytes()))]
    [image] = studio.upload(flat, CAT, ["warm"]).images
    assert studio.work() == {"done": 1}
    assert [row(studio, image).original_digest, row(studio, image).staged_digest] == kept
    assert studio.delete_image(image) is False
    clock.advance(hours=49)
    assert studio.cleanup_orphans() == 0
    assert files(studio) == dict.fromkeys(kept, 1)
    assert content(studio, kept[0]) == CAT.read_bytes()


# Deleting


def test_the_original_goes_with_the_last_of_three_styles(studio, flat):
    done = studio.upload(flat, CAT)
    studio.work()
    first, second, last = done.images
    assert [studio.delete_image(first), studio.delete_image(second)] == [False, False]
    assert content(studio, done.digest) == CAT.read_bytes()
    assert set(files(studio)) == {done.digest, row(studio, last).staged_digest}
    assert studio.delete_image(last) is True
    assert files(studio) == {}
    assert problems(studio) == 0


def test_a_deleted_image_stays_for_the_bill(studio, flat, clock):
    done = studio.upload(flat, CAT)
    studio.work()
    for image in done.images:
        studio.delete_image(image)
    assert row(studio, done.images[0]).deleted_at == clock()
    assert row(studio, done.images[0]).original_digest == done.digest
    assert studio.bill(flat) == 3 * jobs.PRICE_CENTS


def test_deleting_again_changes_nothing(studio, flat, clock):
    [image] = studio.upload(flat, CAT, ["warm"]).images
    assert studio.delete_image(image) is True
    deleted_at = row(studio, image).deleted_at
    clock.advance(hours=1)
    assert [studio.delete_image(image) for _ in range(2)] == [False, False]
    assert row(studio, image).deleted_at == deleted_at
    with pytest.raises(LookupError):
        studio.delete_image(image + 1)


def test_of_two_that_delete_the_last_two_images_at_once_one_frees_the_original(studio, flat):
    for number in range(5):
        pair = studio.upload(flat, dot(number), ["warm", "bright"]).images
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(studio.delete_image, pair)) == [False, True]
    assert files(studio) == {}


def test_a_damaged_copy_that_is_erased_is_not_the_original_freed(studio, flat):
    done = studio.upload(flat, CAT, ["warm", "bright"])
    [damaged] = (studio.folder / "originals").rglob(f"{done.digest}*")
    damaged.chmod(0o600)
    damaged.write_bytes(bytes(CAT.stat().st_size))
    assert problems(studio) == 1
    assert studio.upload(flat, CAT, ["warm"]).status == "healed"
    assert files(studio) == {done.digest: 2}
    assert studio.delete_image(done.images[0]) is False
    assert files(studio) == {done.digest: 1}
    assert content(studio, done.digest) == CAT.read_bytes()


def test_a_deletion_that_is_rolled_back_keeps_row_and_reference(studio, flat, clock):
    done = studio.upload(flat, CAT, ["warm"])
    [image] = done.images
    before = references(studio)
    with pytest.raises(ZeroDivisionError), studio.engine.begin() as connection:
        connection.execute(update(images).values(deleted_at=clock()))
        assert studio.store.release(f"image/{image}", connection=connection).references == 1
        raise ZeroDivisionError
    assert references(studio) == before
    assert studio.store.gc(now=True).doomed == 0
    assert row(studio, image).deleted_at is None
    assert content(studio, done.digest) == CAT.read_bytes()


def test_an_image_whose_reference_cannot_be_released_is_not_deleted(studio, flat, monkeypatch):
    def refused(*_, **__):
        raise Unavailable("The catalog failed.", hint="Try again.")

    [image] = studio.upload(flat, CAT, ["warm"]).images
    with monkeypatch.context() as patched:
        patched.setattr(Scope, "release", refused)
        with pytest.raises(Unavailable):
            studio.delete_image(image)
    assert row(studio, image).deleted_at is None
    assert studio.delete_image(image) is True


def test_an_original_that_somebody_is_just_uploading_is_not_freed(studio, flat, clock):
    done = studio.upload(flat, CAT, ["warm"])
    studio.store.put(CAT, hold="1h")
    assert studio.delete_image(done.images[0]) is False
    assert content(studio, done.digest) == CAT.read_bytes()
    clock.advance(hours=26)
    assert studio.cleanup_orphans() == 1


def test_a_project_is_deleted_in_as_many_statements_whatever_its_size(studio, clock):
    counts = []
    for size in (1, 5):
        project = studio.new_project(f"of {size}")
        for number in range(size):
            studio.upload(project, dot(100 * size + number))
        written: list[str] = []

        def note(_connection, _cursor, statement, *_, seen=written):
            seen.extend(w for w in [statement.split()[0]] if w in ("UPDATE", "DELETE", "INSERT"))

        event.listen(studio.engine, "before_cursor_execute", note)
        assert studio.delete_project(project) == 3 * size
        event.remove(studio.engine, "before_cursor_execute", note)
        counts.append(written)
    assert counts == [["UPDATE"] * 3] * 2
    assert references(studio) == set()


def test_what_a_deleted_project_shares_stays_and_the_rest_is_freed_after_the_grace(
    studio, flat, clock
):
    house = studio.new_project("house")
    cat, coffee = studio.upload(flat, CAT), studio.upload(flat, COFFEE)
    other = studio.upload(house, CAT, ["warm"])
    studio.work()
    assert studio.delete_project(flat) == 6
    assert studio.delete_project(flat) == 0
    assert {owner for owner, _, _ in references(studio)} == {f"image/{other.images[0]}"}
    assert studio.cleanup_orphans() == 0
    assert content(studio, cat.digest) == CAT.read_bytes()
    clock.advance(hours=24, seconds=1)
    assert studio.cleanup_orphans() == 1
    staged = row(studio, other.images[0]).staged_digest
    assert files(studio) == {cat.digest: 1, staged: 1}
    assert studio.store.explain(coffee.digest).verdict == "erased"
    assert studio.bill(flat) == 6 * jobs.PRICE_CENTS
    assert problems(studio) == 0


def test_a_project_that_is_deleted_while_the_clock_is_ahead_is_freed_late(studio, flat, clock):
    cat = studio.upload(flat, CAT).digest
    studio.upload(studio.new_project("house"), CAT, ["warm"])
    rocket = studio.upload(flat, ROCKET).digest
    clock.advance(days=30)
    assert studio.delete_project(flat) == 6
    clock.advance(days=-28)
    assert studio.cleanup_orphans() == 0
    assert files(studio).keys() == {cat, rocket}
    clock.advance(days=30)
    assert studio.cleanup_orphans() == 1
    assert files(studio) == {cat: 1}
    assert problems(studio) == 0


def test_a_project_takes_no_references_of_others_along(studio, flat):
    """Of the same ids, but of another kind or in another scope."""
    image = studio.upload(flat, CAT).images[0]
    studio.store.put(COFFEE, owner=f"invoice/{image}")
    studio.store.scope("other").put(COFFEE, owner=f"image/{image}")
    studio.delete_project(flat)
    assert {owner for owner, _, _ in references(studio)} == {f"invoice/{image}"}
    assert len([*studio.store.scope("other").references(owner=f"image/{image}")]) == 1


def test_releasing_a_project_by_its_rows_can_be_rolled_back(studio, flat, clock):
    studio.upload(flat, CAT)
    before = references(studio)
    with pytest.raises(ZeroDivisionError), studio.engine.begin() as connection:
        assert release_images(connection, clock(), images.c.project_id == flat) == 3
        raise ZeroDivisionError
    assert references(studio) == before


# The clean-up


def test_the_clean_up_frees_a_hundred_at_a_time_after_24_hours(studio, flat, clock):
    pictures = [dot(number) for number in range(205)]
    assert studio.store.put_many(map(io.BytesIO, pictures), hold="1h").result().created == 205
    with studio.engine.begin() as connection:
        for picture in pictures:
            digest = Digest.of(picture)
            add_images(studio.store, connection, clock(), flat, digest, ["warm"])
    clock.advance(hours=2)
    assert studio.delete_project(flat) == 205
    clock.advance(hours=23, seconds=3590)
    assert studio.cleanup_orphans() == 0
    clock.advance(seconds=20)
    assert [studio.cleanup_orphans() for _ in range(4)] == [100, 100, 5, 0]
    assert files(studio) == {}


class Stuck(LocalBackend):
    """A folder from which nothing can be removed for a while."""

    stuck = True

    def delete(self, key):
        if self.stuck:
            raise Unavailable("The disk is busy.", hint="Try again.")
        super().delete(key)


@pytest.mark.parametrize("how", ["image", "clean-up"])
def test_bytes_that_cannot_be_erased_fail_no_deletion_and_are_freed_later(
    tmp_path, clock, caplog, how
):
    backend = Stuck(tmp_path / "studio" / "originals")
    with Studio.open(tmp_path / "studio", clock, backend) as studio:
        flat = studio.new_project("flat")
        [image] = studio.upload(flat, CAT, ["warm"]).images
        with caplog.at_level(logging.WARNING, "staging"):
            if how == "image":
                assert studio.delete_image(image) is False
            else:
                studio.delete_project(flat)
                clock.advance(hours=25)
                assert studio.cleanup_orphans() == 0
        assert "could not be erased" in caplog.text
        assert row(studio, image).deleted_at is not None
        assert len(files(studio)) == 1
        backend.stuck = False
        clock.advance(hours=1)
        assert studio.cleanup_orphans() == 1
        assert files(studio) == {}


def test_a_store_out_of_reach_fails_no_deletion_and_no_clean_up(studio, flat, clock, caplog):
    [image] = studio.upload(flat, CAT, ["warm"]).images
    originals = studio.folder / "originals"
    originals.rename(studio.folder / "unplugged")
    with caplog.at_level(logging.WARNING, "staging"):
        assert studio.delete_image(image) is False
        assert studio.cleanup_orphans() == 0
    assert "left for the clean-up" in caplog.text
    assert "put off" in caplog.text
    assert row(studio, image).deleted_at is not None
    (studio.folder / "unplugged").rename(originals)
    clock.advance(hours=25)
    assert studio.cleanup_orphans() == 1


# Old images


def test_an_old_image_with_only_a_url_is_deleted_and_frees_nothing(studio, flat, clock):
    kept = studio.upload(flat, CAT)
    old = old_image(studio.engine, clock(), flat, "warm", url="https://cdn.example/1.jpg")
    assert studio.delete_image(old) is False
    assert row(studio, old).deleted_at == clock()
    assert row(studio, old).original_url == "https://cdn.example/1.jpg"
    assert files(studio) == {kept.digest: 1}


def test_old_images_can_be_deleted_in_a_studio_that_never_had_an_upload(studio, flat, clock):
    old = old_image(studio.engine, clock(), flat, "warm", url="https://cdn.example/1.jpg")
    other = old_image(studio.engine, clock(), flat, "warm", url="https://cdn.example/2.jpg")
    assert studio.delete_image(old) is False
    assert studio.delete_project(flat) == 1
    assert row(studio, other).deleted_at == clock()
    assert (studio.cleanup_orphans(), studio.statistics().total_count) == (0, 0)


def test_a_backfill_shares_the_originals_of_old_images(studio, flat, clock, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(CAT.read_bytes())
    (tmp_path / "c.jpg").write_bytes(ROCKET.read_bytes())
    a, b, c, lost = (
        old_image(studio.engine, clock(), flat, "warm", path=name)
        for name in ("a.png", "b.png", "c.jpg", "lost.png")
    )
    linked = old_image(studio.engine, clock(), flat, "warm", url="https://cdn.example/1.jpg")
    done = studio.backfill(tmp_path)
    assert (done.created + done.duplicate, len(done.failures)) == (3, 1)
    cat, rocket = Digest.of(CAT), Digest.of(ROCKET)
    digests = [row(studio, image).original_digest for image in (a, b, c, lost, linked)]
    assert digests == [cat, cat, rocket, None, None]
    assert references(studio) == {
        (f"image/{a}", "original", cat),
        (f"image/{b}", "original", cat),
        (f"image/{c}", "original", rocket),
    }
    assert [studio.delete_image(image) for image in (a, b, c, lost)] == [False, True, True, False]
    assert files(studio) == {}
    assert (tmp_path / "a.png").exists()


def test_a_backfill_again_takes_up_only_what_failed(studio, flat, clock, tmp_path):
    (tmp_path / "a.png").write_bytes(CAT.read_bytes())
    for name in ("a.png", "b.png"):
        old_image(studio.engine, clock(), flat, "warm", path=name)
    assert len(studio.backfill(tmp_path).failures) == 1
    (tmp_path / "b.png").write_bytes(ROCKET.read_bytes())
    (tmp_path / "a.png").unlink()
    again = studio.backfill(tmp_path)
    assert (again.created, again.duplicate, again.failures) == (1, 0, ())
    assert len(references(studio)) == 2


def test_a_backfill_keeps_nothing_for_deleted_images(studio, flat, clock, tmp_path):
    (tmp_path / "a.png").write_bytes(CAT.read_bytes())
    old = old_image(studio.engine, clock(), flat, "warm", path="a.png")
    assert studio.delete_image(old) is False
    studio.backfill(tmp_path)
    assert references(studio) == set()
    clock.advance(hours=25)
    assert studio.cleanup_orphans() == 1
    assert files(studio) == {}


# Numbers


def test_the_statistics_equal_counts_by_hand(studio, flat, clock):
    house = studio.new_project("house")
    cat, rocket, coffee = (p.stat().st_size for p in (CAT, ROCKET, COFFEE))
    studio.upload(flat, CAT)
    studio.upload(house, CAT, ["warm"])
    gone = studio.upload(flat, ROCKET, ["warm", "bright"])
    studio.upload(house, COFFEE, ["warm"])
    studio.work()
    with studio.engine.begin() as connection:
        release_images(connection, clock(), images.c.id.in_(gone.images))
    found = studio.statistics()
    assert found.by_name() == {
        "TotalCount": 3,
        "TotalSize": cat + rocket + coffee,
        "OrphanedCount": 1,
        "OrphanedSize": rocket,
        "AvgReferences": round(5 / 3, 2),
        "SavedSize": 3 * cat,
        "SavedPercent": round(100 * 3 * cat / (4 * cat + coffee), 1),
    }
    clock.advance(hours=25)
    studio.cleanup_orphans()
    after = studio.statistics()
    assert (after.total_count, after.total_size, after.orphaned_count) == (2, cat + coffee, 0)
    assert (after.avg_references, after.saved_size) == (2.5, found.saved_size)


def test_a_staged_picture_that_is_uploaded_is_an_original_of_its_own_images_alone(studio, flat):
    [image] = studio.upload(flat, CAT, ["warm"]).images
    studio.work()
    staged = content(studio, row(studio, image).staged_digest)
    again = studio.upload(flat, staged, ["warm", "bright"])
    assert (again.status, again.digest) == ("duplicate", row(studio, image).staged_digest)
    found = studio.statistics()
    assert (found.total_count, found.references, found.saved_size) == (2, 3, len(staged))
    assert [studio.delete_image(each) for each in again.images] == [False, False]
    assert (studio.statistics().references, studio.statistics().orphaned_count) == (1, 0)
    assert content(studio, again.digest) == staged


def test_a_held_original_is_no_orphan(studio, flat, clock):
    done = studio.upload(flat, CAT, ["warm"])
    studio.store.put(CAT, hold="1h")
    studio.delete_image(done.images[0])
    assert (studio.statistics().total_count, studio.statistics().orphaned_count) == (1, 0)
    clock.advance(hours=2)
    assert studio.statistics().orphaned_count == 1


def test_an_empty_studio_has_numbers_too(studio):
    assert set(studio.statistics().by_name().values()) == {0}


# Together, and killed


def test_deleting_while_others_upload_the_same_picture_loses_nothing(studio, flat, clock):
    picture, threads, rounds = dot(1, side=300), 3, 8

    def coming_and_going(_: int) -> int:
        freed = 0
        for _ in range(rounds):
            done = studio.upload(flat, picture, ["warm"])
            assert content(studio, done.digest) == picture
            freed += studio.delete_image(done.images[0])
        return freed

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(coming_and_going, range(threads))) <= threads * rounds
    assert rows(studio) == threads * rounds
    assert references(studio) == set()
    assert problems(studio) == 0
    clock.advance(hours=2)  # of two holds at once the shorter one may be left
    last = studio.upload(flat, picture, ["warm"])
    assert content(studio, last.digest) == picture
    assert studio.delete_image(last.images[0]) is True
    clock.advance(hours=26)
    studio.cleanup_orphans()
    assert files(studio) == {}


def stop_at(folder: str, moment: str) -> None:
    """In a process of its own: work, and stand still before or after a call of the store."""
    when, name = moment.split()
    call = getattr(Store, name)

    def standing(*args, **options):
        if when == "after":
            call(*args, **options)
        print("here", flush=True)
        time.sleep(600)

    setattr(Store, name, standing)
    with Studio.open(Path(folder)) as studio:
        studio.work()


@pytest.mark.parametrize(
    "moment", ["before put", "after put", "before attach", "after attach", "before close"]
)
def test_a_job_that_is_killed_leaves_the_store_whole_and_can_be_run_again(
    studio, flat, clock, moment
):
    done = studio.upload(flat, CAT, ["warm"])
    code = f"from {__name__} import stop_at; stop_at({str(studio.folder)!r}, {moment!r})"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        worker.send_signal(signal.SIGKILL)
    assert problems(studio) == 0
    committed = moment.endswith("close")
    assert len(references(studio)) == (2 if committed else 1)
    assert studio.work() == ({} if committed else {"done": 1})
    staged = row(studio, done.images[0]).staged_digest
    assert content(studio, staged) == make("warm", CAT.read_bytes())
    assert studio.bill(flat) == jobs.PRICE_CENTS
    clock.advance(hours=26)
    studio.cleanup_orphans()
    assert files(studio) == {done.digest: 1, staged: 1}
    assert studio.delete_image(done.images[0]) is True
    assert files(studio) == {}
    assert problems(studio) == 0


# The commands


def command(*arguments: object, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Modules in ``before`` are found before all others."""
    words = [sys.executable, "-m", "examples.staging", *map(str, arguments)]
    paths = os.environ | ({"PYTHONPATH": str(before)} if before else {})
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, env=paths)


def test_the_tour_tells_what_it_does(tmp_path):
    told = command(tmp_path / "demo")
    assert told.returncode == 0, told.stderr
    for line in (
        "house: chelsea.png is duplicate; ordered as image 4",
        "delete_image(6) -> False",
        "delete_image(7) -> True",
        "delete_project('flat') -> 6 images",
        "cleanup_orphans(limit=100) -> 0 originals freed",
        "cleanup_orphans(limit=100) -> 1 originals freed",
        "only a URL: delete_image(11) -> False",
        "AvgReferences           3.0",
        "fsck: 2 files read, 0 problems",
    ):
        assert line in told.stdout.splitlines()
    assert json.loads(command(tmp_path / "demo", "--json").stdout)["TotalCount"] == 1


def test_the_commands_do_the_days_work(studio, flat):
    studio.upload(flat, CAT)
    assert json.loads(command(studio.folder, "--work").stdout) == {"done": 3}
    assert command(studio.folder, "--cleanup").stdout == "0 originals freed\n"
    shown = command(studio.folder, "--monitor", "--json").stdout
    assert json.loads(shown) == studio.statistics().by_name() | {"QueuedJobs": 0}
    lines = command(studio.folder, "--monitor").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(json.loads(shown))


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    assert "choose another" in command(tmp_path).stderr
    assert "choose another" in command(tmp_path / "thesis.txt").stderr
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    assert "No studio" in command(tmp_path, "--cleanup").stderr


def test_the_tour_leaves_a_studio_alone_that_it_did_not_make(studio, flat):
    done = studio.upload(flat, CAT)
    assert "choose another" in command(studio.folder).stderr
    assert content(studio, done.digest) == CAT.read_bytes()


def test_the_tour_makes_anew_what_it_made(tmp_path):
    fresh(tmp_path / "demo")
    (tmp_path / "demo" / "old").mkdir()
    fresh(tmp_path / "demo")
    assert not (tmp_path / "demo" / "old").exists()
    fresh(tmp_path / "demo")


def test_what_goes_wrong_is_said_in_a_line(studio, flat, tmp_path):
    studio.upload(flat, CAT)
    (studio.folder / "originals").rename(studio.folder / "unplugged")
    for folder in (studio.folder, tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        if folder != studio.folder:
            (folder / "staging.db").write_bytes(b"no database" * 1000)
        done = command(folder, "--work")
        assert done.returncode == 1
        assert done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["PIL", "skimage"])
def test_what_is_not_installed_is_named(tmp_path, missing):
    """A module that cannot be imported stands where Python looks first."""
    (tmp_path / f"{missing}.py").write_text("raise ModuleNotFoundError(name=__name__)")
    done = command(tmp_path / "demo", before=tmp_path)
    assert done.returncode == 1
    assert f"{'scikit-image' if missing == 'skimage' else missing} is missing" in done.stderr
    assert "pip install" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "demo").exists()
