"""The screenshot archive: results keep their pictures, whatever fails, races or is killed."""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from examples.screenshots import pages, results
from examples.screenshots.image_storage import ImageStorage
from examples.screenshots.importer import DatasetGone, StateImporter
from examples.screenshots.tables import datasets, open_archive, search_results
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from calotype import Digest
from calotype.backends.local import LocalBackend
from calotype.errors import DigestMismatch, Misconfigured, NotAnImage, NotFound, Unavailable

TAGS = ("2026-09", "2026-10")
DAY = 24 * 3600 * 1_000_000
WANTED = {("CA", "Belmar"), ("CA", "Olympia"), ("CA", "Empower"), ("TX", "Wells"), ("FL", "Wells")}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """Two months of five searches, rendered by a real browser."""
    root = tmp_path_factory.mktemp("source")
    for tag in TAGS:
        chosen = [each for each in pages.searches(tag) if (each.state, each.name) in WANTED]
        assert pages.render(root, tag, chosen) == 5
    return root


class Clock:
    """The present, and later when told so."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1000 + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(rendered, tmp_path) -> Path:
    """The pages, to spoil as one likes."""
    shutil.copytree(rendered, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def archive(tmp_path, clock):
    engine, store = open_archive(tmp_path / "home", clock=clock)
    with store:
        yield engine, store
    engine.dispose()


def import_all(archive, source, tag=TAGS[0]):
    return StateImporter(*archive).import_directory(source / tag, tag)


def count(engine, *where) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(search_results).where(*where)) or 0


def sound(store) -> bool:
    return not any(finding.is_problem for finding in store.fsck(read_data=True))


def pictures(source, tag) -> dict[tuple[str, str], str]:
    """(state, name) -> digest of the screenshot."""
    return {
        (file.parent.name, file.stem): Digest.of(file) for file in (source / tag).rglob("*.png")
    }


def test_every_result_is_linked_to_its_pages_picture_and_the_log_says_so(archive, source, caplog):
    caplog.set_level(logging.INFO, "screenshots")
    done = import_all(archive, source)
    engine, store = archive
    shown = results.results(engine, TAGS[0])
    assert done.searches == 5
    assert done.linked == done.results == len(shown) >= 5
    taken = pictures(source, TAGS[0])
    assert all(each.image_hash == taken[each.state, each.search_name] for each in shown)
    assert all((each.width, each.height) == (900, 480) for each in shown)
    first = shown[0]
    assert f"Image linked: {first.image_hash[:8]}... -> result_id {first.id}" in caplog.messages
    url = results.get_image_url_for_result(engine, store, first.id)
    assert Digest.of(Path(url.removeprefix("file://"))) == first.image_hash
    assert results.get_image_url_for_result(engine, store, 10_000) is None
    assert results.health(engine, store) == []


def test_the_same_page_is_kept_once_whichever_search_showed_it(archive, source):
    for tag in TAGS:
        import_all(archive, source, tag)
    everything = {*pictures(source, TAGS[0]).values(), *pictures(source, TAGS[1]).values()}
    assert archive[1].stats().blobs == len(everything) < 10


def test_importing_again_adds_nothing(archive, source):
    first = import_all(archive, source)
    again = import_all(archive, source)
    assert (again.results, again.linked) == (0, 0)
    assert count(archive[0]) == first.results


def test_a_picture_that_is_none_does_not_stop_the_batch_and_is_linked_later(archive, source):
    engine, store = archive
    broken = source / TAGS[0] / "CA" / "Belmar.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"<html>504 Gateway Time-out</html>")
    (source / TAGS[0] / "TX" / "Wells.png").rename(source / "away")
    done = import_all(archive, source)
    assert sorted(each["error"] for each in done.failures) == ["not-an-image", "not-found"]
    without = count(engine, search_results.c.image_hash.is_(None))
    assert without == sum(len(each["results"]) for each in done.failures) >= 2
    broken.write_bytes(whole)
    later = StateImporter(engine, store).link_later(done.failures)
    assert len(later.failures) == 1
    (source / "away").rename(source / TAGS[0] / "TX" / "Wells.png")
    assert StateImporter(engine, store).link_later(later.failures).failures == []
    assert count(engine, search_results.c.image_hash.is_(None)) == 0
    assert sound(store)


def test_results_are_kept_without_pictures_while_the_disk_is_full(archive, source, monkeypatch):
    engine, store = archive
    real, calls = LocalBackend.publish, []

    def full(self, items):
        calls.append(1)
        if len(calls) > 2:
            raise Unavailable("No space left on device.")
        real(self, items)

    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, "publish", full)
        done = import_all(archive, source)
    assert done.failures and count(engine) == done.results
    assert sound(store)
    later = StateImporter(engine, store).link_later(done.failures)
    assert later.failures == []
    assert count(engine, search_results.c.image_hash.is_(None)) == 0
    assert results.health(engine, store) == []


def test_two_importers_at_once_share_what_is_the_same(tmp_path, source):
    command = [sys.executable, "-m", "examples.screenshots", "import", source]
    both = [
        subprocess.Popen([*command, tag, tmp_path / "home"], stdout=subprocess.PIPE)
        for tag in (*TAGS, *TAGS)
    ]
    said = [each.communicate()[0].decode() for each in both]
    assert [each.returncode for each in both] == [0] * 4, said
    assert all("0 pictures failed" in each for each in said)
    engine, store = open_archive(tmp_path / "home")
    with store:
        assert {each.tag for each in results.results(engine)} == set(TAGS)
        everything = {*pictures(source, TAGS[0]).values(), *pictures(source, TAGS[1]).values()}
        assert store.stats().blobs == len(everything)
        assert results.health(engine, store) == []


def test_an_importer_that_is_killed_goes_on_and_loses_nothing(tmp_path, source):
    command = [sys.executable, "-m", "examples.screenshots", "import", source, TAGS[0]]
    home = tmp_path / "home"
    open_archive(home)[1].close()
    dice, kills = random.Random(7), 0
    for number in range(6):
        importer = subprocess.Popen([*command, home], stdout=subprocess.PIPE)
        for _ in range(number + 1):  # later and later, by what it says
            importer.stdout.readline()
        time.sleep(dice.random() * 0.02)
        importer.send_signal(signal.SIGKILL)
        importer.communicate()
        kills += importer.returncode == -signal.SIGKILL
        engine, store = open_archive(home)
        with store:
            assert results.health(engine, store) == []
        engine.dispose()
    subprocess.run([*command, home], check=True, stdout=subprocess.DEVNULL)
    engine, store = open_archive(home)
    with store:
        shown = results.results(engine, TAGS[0])
        taken = pictures(source, TAGS[0])
        assert {(each.state, each.search_name) for each in shown} == set(taken)
        assert all(each.image_hash == taken[each.state, each.search_name] for each in shown)
        assert sound(store)
    assert kills >= 1


def test_a_transaction_that_is_rolled_back_leaves_only_a_held_picture(archive, source, clock):
    engine, store = archive
    picture = source / TAGS[0] / "CA" / "Belmar.png"
    digest = store.put(picture, hold="24h").digest
    with Session(engine) as session:
        session.execute(datasets.insert().values(id=1, tag="x"))
        with session.begin_nested() as savepoint:
            session.execute(search_results.insert().values(**_row(digest)))
            savepoint.rollback()
        session.rollback()
    assert count(engine) == 0
    assert store.gc(now=True, full=True).doomed == 0, "the hold is not over"
    clock.ahead = 2 * DAY
    assert store.gc(full=True).doomed == 1
    with pytest.raises(NotFound):
        store.stat(digest)


def _row(digest):
    return {
        "dataset_id": 1,
        "state": "CA",
        "search_name": "Belmar",
        "license_number": "1",
        "license_name": "Belmar Rx",
        "license_status": "Active",
        "image_hash": digest,
    }


def test_a_dataset_that_is_deleted_while_it_is_imported(archive, source, clock, monkeypatch):
    engine, store = archive
    real, calls = StateImporter._insert, []

    def late(self, dataset, facts, digest):
        calls.append(1)
        if len(calls) == 3:
            results.delete_dataset(engine, TAGS[0])
        return real(self, dataset, facts, digest)

    monkeypatch.setattr(StateImporter, "_insert", late)
    with pytest.raises(DatasetGone):
        import_all(archive, source)
    assert count(engine) == 0
    clock.ahead = 2 * DAY
    ImageStorage(engine, store).cleanup_orphans()
    assert store.stats().blobs == 0
    assert sound(store)


def test_deleting_a_dataset_frees_its_own_pictures_and_no_others(archive, source, clock):
    engine, store = archive
    for tag in TAGS:
        import_all(archive, source, tag)
    clock.ahead = 2 * DAY
    own = set(pictures(source, TAGS[1]).values()) - set(pictures(source, TAGS[0]).values())
    assert results.delete_dataset(engine, TAGS[1]) == 1
    storage = ImageStorage(engine, store)
    assert set(storage.find_orphaned_images()) == own
    assert set(storage.cleanup_orphans()) == own
    assert storage.cleanup_orphans() == []
    assert results.health(engine, store) == []
    for digest in pictures(source, TAGS[0]).values():
        assert store.stat(digest)


def test_gc_in_a_loop_beside_importers_and_deletions_takes_nothing_that_is_shown(tmp_path, source):
    engine, store = open_archive(tmp_path / "home")
    over = threading.Event()
    failed: list[BaseException] = []

    def collect() -> None:
        while not over.is_set():
            store.gc(now=True, full=True, force=True)

    def work(tag: str) -> None:
        try:
            for _ in range(4):
                StateImporter(engine, store).import_directory(source / tag, tag)
                assert results.health(engine, store) == []
                results.delete_dataset(engine, tag)
            StateImporter(engine, store).import_directory(source / tag, tag)
        except BaseException as error:
            failed.append(error)

    with store:
        threads = [threading.Thread(target=work, args=(tag,)) for tag in TAGS]
        collector = threading.Thread(target=collect)
        for thread in (*threads, collector):
            thread.start()
        for thread in threads:
            thread.join()
        over.set()
        collector.join()
        assert failed == []
        assert results.health(engine, store) == []
        assert count(engine, search_results.c.image_hash.is_(None)) == 0


def test_a_clock_that_jumps_costs_no_picture_that_is_shown(archive, source, clock):
    engine, store = archive
    for jump in (40 * DAY, -40 * DAY, 0):
        clock.ahead = jump
        import_all(archive, source)
        store.gc(full=True)
    assert results.health(engine, store) == []
    assert store.stats().blobs == len(set(pictures(source, TAGS[0]).values()))


def test_the_names_of_the_plan(archive, source):
    engine, store = archive
    storage = ImageStorage(engine, store)
    picture = source / TAGS[0] / "CA" / "Belmar.png"
    digest = storage.compute_sha256(picture)
    path = storage.get_storage_path(digest)
    assert path == f"sha256/{digest[:2]}/{digest[2:4]}/{digest}.png"
    assert storage.store_local(picture, digest) == path
    assert storage.store_image(picture.read_bytes(), "image/png") == digest
    assert storage.get_image_url(digest).endswith(path)
    with pytest.raises(Misconfigured, match="image/png, not image/jpeg"):
        storage.store_image(picture.read_bytes(), "image/jpeg")
    with pytest.raises(NotAnImage):
        storage.store_image(b"no picture")
    with pytest.raises(DigestMismatch):
        storage.store_local(picture, Digest.of(b"something else"))
    with pytest.raises(Misconfigured, match="not in supabase"):
        storage.store_supabase(picture, digest)
    assert storage.delete_image(digest) is True
    assert storage.delete_image(digest) is False
    assert store.stats().blobs == 0


def test_an_image_that_is_shown_is_not_deleted(archive, source):
    import_all(archive, source)
    engine, store = archive
    digest = results.results(engine)[0].image_hash
    assert ImageStorage(engine, store).delete_image(digest) is False
    assert results.health(engine, store) == []
    with Session(engine) as session, session.begin():
        session.execute(text("DELETE FROM search_results WHERE image_hash = :d"), {"d": digest})
    assert ImageStorage(engine, store).delete_image(digest) is True


def test_clearing_the_cache_leaves_no_row_and_no_file(archive, source, tmp_path):
    for tag in TAGS:
        import_all(archive, source, tag)
    engine, store = archive
    before = count(engine)
    assert ImageStorage(engine, store).clear_cache() > 3
    assert store.stats().blobs == 0
    assert list((tmp_path / "home" / "imagecache").rglob("*.png")) == []
    assert count(engine) == before
    assert count(engine, search_results.c.image_hash.is_not(None)) == 0
    assert import_all(archive, source).results == 0


def test_views_and_usage_are_told(archive, source):
    import_all(archive, source)
    engine, store = archive
    first = results.results(engine)[0]
    for _ in range(3):
        results.get_image_url_for_result(engine, store, first.id)
    store.close()
    assert results.most_viewed(store, 1) == [(first.image_hash, 3)]
    assert store.usage_days()[-1].assets >= 1


def test_the_page_shows_each_result_with_its_picture(archive, source, tmp_path):
    done = import_all(archive, source)
    file = tmp_path / "results.html"
    assert results.write_page(*archive, TAGS[0], file) == done.results
    with pages.browser() as page:
        page.goto(file.as_uri())
        widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert widths == [900] * done.results


def test_the_tour_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "examples.screenshots", "tour", tmp_path / "demo"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "health: all is well" in done.stdout
    assert done.stdout.endswith("left: 0 rows, 0 files\n")
    (failure,) = map(json.loads, [line for line in done.stdout.splitlines() if line[:1] == "{"])
    assert failure["error"] == "not-an-image"
