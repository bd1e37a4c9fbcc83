"""The screenshot archive: results keep their pictures, whatever fails, races or is killed."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes
from urllib.request import urlopen

import pytest
from examples.screenshots import pages, results
from examples.screenshots.__main__ import main
from examples.screenshots.image_storage import ImageStorage
from examples.screenshots.importer import DatasetGone, StateImporter
from examples.screenshots.tables import datasets, open_archive, search_results
from examples.screenshots.tour import fresh
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from tests import servers, supabase_server
from tests.store.pictures import picture
from tests.store.surgery import change
from tests.store.trouble import full_after

from calotype import Digest, Store
from calotype.errors import DigestMismatch, Misconfigured, NotAnImage, NotFound

ROOT = Path(__file__).parents[2]
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


def digest_of(source, result) -> str:
    """The digest of the screenshot that was taken of a result."""
    return pictures(source, result.tag)[result.state, result.search_name]


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
    assert sorted(each.error for each in done.failures) == ["not-an-image", "not-found"]
    without = count(engine, search_results.c.image_hash.is_(None))
    assert without == sum(len(each.results) for each in done.failures) >= 2
    broken.write_bytes(whole)
    later = StateImporter(engine, store).link_later(TAGS[0])
    assert len(later.failures) == 1
    (source / "away").rename(source / TAGS[0] / "TX" / "Wells.png")
    assert StateImporter(engine, store).link_later(TAGS[0]).failures == []
    assert count(engine, search_results.c.image_hash.is_(None)) == 0
    assert all(each.image_hash == digest_of(source, each) for each in results.results(engine))
    assert sound(store)


def test_an_import_again_still_lists_what_has_no_picture_and_links_it_when_it_is_there(
    archive, source
):
    broken = source / TAGS[0] / "CA" / "Belmar.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"<html>504 Gateway Time-out</html>")
    first = import_all(archive, source)
    again = import_all(archive, source)
    assert again.failures == first.failures != []
    broken.write_bytes(whole)
    (waiting,) = first.failures
    mended = import_all(archive, source)
    assert (mended.results, mended.linked, mended.failures) == (0, len(waiting.results), [])
    assert count(archive[0], search_results.c.image_hash.is_(None)) == 0


def test_pictures_that_moved_are_linked_by_an_import_from_their_new_place(archive, source):
    broken = source / TAGS[0] / "CA" / "Belmar.png"
    broken.rename(source / "away")
    assert len(import_all(archive, source).failures) == 1
    moved = source.rename(source.with_name("moved"))
    assert StateImporter(*archive).import_directory(moved / TAGS[0], TAGS[0]).failures != []
    (moved / "away").rename(moved / TAGS[0] / "CA" / "Belmar.png")
    assert StateImporter(*archive).link_later(TAGS[0]).failures == []
    assert count(archive[0], search_results.c.image_hash.is_(None)) == 0


def search_again(source, name: str, *numbers: str) -> Path:
    """One more file for CA/Belmar, which found ``numbers``; where its picture belongs."""
    place = source / TAGS[0] / "CA" / f"{name}.json"
    found = [{"number": each, "name": "Belmar Rx", "status": "Active"} for each in numbers]
    shot = f"{Digest.of(os.fsencode(name))[:8]}.png"
    place.write_text(json.dumps(FACTS | {"licences": found, "screenshot": shot}))
    return place.with_name(shot)


def shown(engine) -> dict[str, list[tuple[str | None, str]]]:
    """Hash and path of CA/Belmar's results by licence, in the order of their files."""
    c = search_results.c
    rows = select(c.license_number, c.image_hash, c.screenshot).where(c.search_name == "Belmar")
    found: dict[str, list[tuple[str | None, str]]] = {}
    with Session(engine) as session:
        for number, digest, path in session.execute(rows.order_by(c.file)):
            found.setdefault(number, []).append((digest, os.fsdecode(unquote_to_bytes(path))))
    return found


@pytest.mark.parametrize(
    "names", [("Belmar.1", "Belmar.2"), ("caf\\xe9", "caf\udce9")], ids=["times", "bytes"]
)
def test_of_one_search_in_two_files_each_result_has_the_picture_of_its_own_file(
    archive, source, names
):
    (source / TAGS[0] / "CA" / "Belmar.json").unlink()
    taken = [source / TAGS[0] / state / "Wells.png" for state in ("TX", "FL")]
    first = search_again(source, names[0], "1", "both")
    second = search_again(source, names[1], "3", "both")
    first.write_bytes(b"<html>504 Gateway Time-out</html>")
    shutil.copy(taken[1], second)
    for _ in range(2):
        assert [each.source for each in import_all(archive, source).failures] == [str(first)]
        waits, done = (None, str(first)), (str(Digest.of(taken[1])), str(second))
        assert shown(archive[0]) == {"1": [waits], "3": [done], "both": [waits, done]}
    shutil.copy(taken[0], first)
    assert StateImporter(*archive).link_later(TAGS[0]).linked == 2
    linked = (str(Digest.of(taken[0])), str(first))
    assert shown(archive[0]) == {"1": [linked], "3": [done], "both": [linked, done]}
    assert linked[0] != done[0] and import_all(archive, source).results == 0


def test_results_that_wait_get_no_picture_of_a_later_page_that_does_not_name_them(archive, source):
    first = search_again(source, "Belmar.1", "1", "both")
    assert [each.error for each in import_all(archive, source).failures] == ["not-found"]
    later = source.with_name("later")
    shutil.copytree(source, later)
    second = search_again(later, "Belmar.1", "3", "both")
    shutil.copy(later / TAGS[0] / "TX" / "Wells.png", second)
    import_all(archive, later)
    waits, done = (None, str(first)), (str(Digest.of(second)), str(second))
    found = shown(archive[0])
    assert (found["1"], found["3"], found["both"]) == ([waits], [done], [done])


def test_a_folder_whose_name_is_not_utf_8_stops_nothing(archive, source):
    (source / TAGS[0] / "CA").rename(source / TAGS[0] / "Qu\udce9bec")
    broken = source / TAGS[0] / "Qu\udce9bec" / "Belmar.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"none")
    done = import_all(archive, source)
    [failure] = done.failures
    assert failure.source.endswith("Qu\\xe9bec/Belmar.png")
    broken.write_bytes(whole)
    assert StateImporter(*archive).link_later(TAGS[0]).linked > 0
    assert None not in {each.image_hash for each in results.results(archive[0])}


HALF = '{"state": "CA", "name": "Bel'
FACTS = {"state": "CA", "name": "Belmar", "licences": [], "screenshot": "Belmar.png"}


@pytest.mark.parametrize(
    "said",
    [
        HALF,
        "",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps(FACTS | {"state": ["CA"]}),
        json.dumps(FACTS | {"name": "\ud800"}),
        json.dumps(FACTS | {"screenshot": "a\0b"}),
        json.dumps(FACTS | {"licences": [{"number": 7}]}),
        b"\xff\xfe",
    ],
    ids=[
        "half",
        "nothing",
        "list",
        "empty",
        "deep",
        "no text",
        "surrogate",
        "nul",
        "number",
        "bytes",
    ],
)
def test_a_search_that_cannot_be_read_is_one_failure_and_is_imported_when_it_can(
    archive, source, said
):
    file = source / TAGS[0] / "CA" / "Belmar.json"
    whole = file.read_bytes()
    file.write_bytes(said if isinstance(said, bytes) else said.encode())
    done = import_all(archive, source)
    assert (done.searches, [each.source for each in done.failures]) == (4, [str(file)])
    file.write_bytes(whole)
    again = import_all(archive, source)
    assert (again.searches, again.failures) == (5, [])
    assert again.linked == again.results >= 1


def test_results_are_kept_without_pictures_while_the_disk_is_full(archive, source):
    engine, store = archive
    with full_after(2):
        done = import_all(archive, source)
    assert done.failures and count(engine) == done.results
    assert sound(store)
    later = StateImporter(engine, store).link_later(TAGS[0])
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
    assert all(", 0 failed" in each for each in said)
    engine, store = open_archive(tmp_path / "home")
    with store:
        assert {each.tag for each in results.results(engine)} == set(TAGS)
        everything = {*pictures(source, TAGS[0]).values(), *pictures(source, TAGS[1]).values()}
        assert store.stats().blobs == len(everything)
        assert results.health(engine, store) == []
    engine.dispose()


def test_an_importer_that_is_killed_goes_on_and_loses_nothing(tmp_path, source):
    command = [sys.executable, "-m", "examples.screenshots", "import", source, TAGS[0]]
    home = tmp_path / "home"
    engine, store = open_archive(home)
    store.close()
    engine.dispose()
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
    engine.dispose()
    assert kills >= 1


def test_a_picture_is_held_for_a_day_until_its_row_is_there(archive, source):
    import_all(archive, source)
    _, store = archive
    for asset in store.assets():
        assert isinstance(asset.kept, datetime)
        held = asset.kept - asset.created_at
        assert abs(held - timedelta(hours=24)) < timedelta(minutes=10)


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
        "file": "CA/Belmar.json",
        "state": "CA",
        "search_name": "Belmar",
        "license_number": "1",
        "license_name": "Belmar Rx",
        "license_status": "Active",
        "image_hash": digest,
        "screenshot": "Belmar.png",
    }


def before_the_third_insert(monkeypatch, act: Callable[[], object]) -> None:
    real, calls = StateImporter._insert, itertools.count(1)

    def late(self, *arguments):
        if next(calls) == 3:
            act()
        return real(self, *arguments)

    monkeypatch.setattr(StateImporter, "_insert", late)


def test_a_dataset_that_is_deleted_while_it_is_imported(archive, source, clock, monkeypatch):
    engine, store = archive
    before_the_third_insert(monkeypatch, lambda: results.delete_dataset(engine, TAGS[0]))
    with pytest.raises(DatasetGone):
        import_all(archive, source)
    assert count(engine) == 0
    clock.ahead = 2 * DAY
    ImageStorage(engine, store).cleanup_orphans()
    assert store.stats().blobs == 0
    assert sound(store)


def test_an_importer_whose_dataset_was_deleted_writes_into_no_other(archive, source, monkeypatch):
    engine, _ = archive

    def replaced() -> None:
        results.delete_dataset(engine, TAGS[0])
        import_all(archive, source, TAGS[1])

    before_the_third_insert(monkeypatch, replaced)
    with pytest.raises(DatasetGone):
        import_all(archive, source)
    shown = results.results(engine)
    assert {each.tag for each in shown} == {TAGS[1]}
    assert all(each.image_hash == digest_of(source, each) for each in shown)


def test_ids_of_deleted_results_never_come_back(archive, source):
    engine, _ = archive
    seen: set[int] = set()
    for tag in (*TAGS, *TAGS):
        import_all(archive, source, tag)
        ids = {each.id for each in results.results(engine)}
        assert not ids & seen
        seen |= ids
        results.delete_dataset(engine, tag)


def test_linking_later_leaves_pictures_alone_that_are_linked(archive, source):
    broken = source / TAGS[0] / "CA" / "Belmar.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"none")
    import_all(archive, source)
    importer, real = StateImporter(*archive), StateImporter._relink

    def late(*arguments):
        broken.write_bytes(whole)
        import_all(archive, source)
        return real(importer, *arguments)

    broken.write_bytes((source / TAGS[0] / "TX" / "Wells.png").read_bytes())
    importer._relink = late
    assert importer.link_later(TAGS[0]).linked == 0
    assert all(each.image_hash == digest_of(source, each) for each in results.results(archive[0]))


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
    engine.dispose()


def test_a_clock_that_jumps_costs_no_picture_that_is_shown(archive, source, clock):
    engine, store = archive
    for jump in (40 * DAY, -40 * DAY, 0):
        clock.ahead = jump
        import_all(archive, source)
        store.gc(full=True)
    assert results.health(engine, store) == []
    assert store.stats().blobs == len(set(pictures(source, TAGS[0]).values()))


@pytest.mark.parametrize("how", ["a clock that jumps", "delete_image", "clear_cache"])
@pytest.mark.parametrize("what", ["import", "link"])
def test_a_picture_that_is_taken_before_its_rows_are_written_is_put_again(
    archive, source, clock, monkeypatch, how, what
):
    engine, store = archive
    storage, put, taken = ImageStorage(engine, store), Store.put, []

    def put_and_lose(self, *arguments, **options):
        done = put(self, *arguments, **options)
        if len(taken) < 3:
            if how == "delete_image":
                taken.append(storage.delete_image(done.digest))
            elif how == "clear_cache":
                taken.append(storage.clear_cache() > 0)
            else:
                clock.ahead += 3 * DAY
                taken.append(done.digest in storage.cleanup_orphans())
                clock.ahead -= 3 * DAY
        return done

    if what == "link":
        import_all(archive, source)
        storage.clear_cache()
    monkeypatch.setattr(Store, "put", put_and_lose)
    importer = StateImporter(engine, store)
    done = import_all(archive, source) if what == "import" else importer.link_later(TAGS[0])
    assert taken == [True] * 3
    assert (done.failures, done.linked) == ([], count(engine))
    assert all(each.image_hash == digest_of(source, each) for each in results.results(engine))
    assert results.health(engine, store) == []


def test_a_picture_that_is_taken_each_time_is_a_failure_and_no_end_of_the_batch(
    archive, source, monkeypatch
):
    engine, store = archive
    storage, put, dark = ImageStorage(engine, store), Store.put, source / TAGS[0] / "CA"

    def put_and_lose(self, picture, **options):
        done = put(self, picture, **options)
        if picture == dark / "Belmar.png":
            storage.delete_image(done.digest)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", put_and_lose)
        (failure,) = import_all(archive, source).failures
    assert (failure.source, failure.error) == (str(dark / "Belmar.png"), "taken")
    assert StateImporter(engine, store).link_later(TAGS[0]).linked == len(failure.results) >= 1


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
    with pytest.raises(NotAnImage):
        storage.store_image(b"no picture")
    with pytest.raises(DigestMismatch):
        storage.store_local(picture, Digest.of(b"something else"))
    with pytest.raises(Misconfigured, match="not in supabase"):
        storage.store_supabase(picture, digest)
    assert storage.delete_image(digest) is True
    assert storage.delete_image(digest) is False
    assert store.stats().blobs == 0


@pytest.mark.parametrize("by", ["bytes", "file"])
def test_an_image_that_is_stored_is_held_for_a_day(archive, source, by):
    engine, store = archive
    storage, picture = ImageStorage(engine, store), source / TAGS[0] / "CA" / "Belmar.png"
    digest = storage.compute_sha256(picture)
    if by == "bytes":
        storage.store_image(picture.read_bytes())
    else:
        storage.store_local(picture, digest)
    kept = store.stat(digest)
    assert isinstance(kept.kept, datetime)
    assert abs(kept.kept - kept.created_at - timedelta(hours=24)) < timedelta(minutes=10)


def test_an_image_that_is_nowhere_would_be_put_under_the_name_of_its_kind(archive):
    digest = Digest.of(b"nowhere")
    path = ImageStorage(*archive).get_storage_path(digest, ".jpg")
    assert path == f"sha256/{digest[:2]}/{digest[2:4]}/{digest}.jpg"


def test_urls_live_as_long_as_was_asked(archive, source, tmp_path):
    import_all(archive, source)
    first, now = results.results(archive[0])[0], time.time_ns() // 1000
    engine, served = open_archive(tmp_path / "home", public_url="/media", clock=lambda: now)
    with served:
        storage = ImageStorage(engine, served)
        wanted = {expires: served.url(first.image_hash, expires=expires) for expires in (60, 7200)}
        assert len({*wanted.values()}) == 2
        for expires, url in wanted.items():
            assert storage.get_image_url(first.image_hash, expires) == url
            assert results.get_image_url_for_result(engine, served, first.id, expires) == url
    engine.dispose()


def test_an_image_that_the_store_lost_sight_of_is_cleaned_up(archive, source, clock):
    engine, store = archive
    storage, picture = ImageStorage(engine, store), source / TAGS[0] / "CA" / "Belmar.png"
    digest = storage.store_image(picture.read_bytes())
    store.put(source / TAGS[0] / "CA" / "Olympia.png")
    change(store, "DELETE FROM calotype_candidate")
    clock.ahead = 3 * DAY
    assert storage.cleanup_orphans(force=True) == [digest]


def test_bytes_of_another_content_and_the_same_size_are_no_health(archive, source, tmp_path):
    import_all(archive, source)
    engine, store = archive
    digest = results.results(engine)[0].image_hash
    copy = tmp_path / "home" / "imagecache" / ImageStorage(engine, store).get_storage_path(digest)
    copy.chmod(0o600)
    copy.write_bytes(bytes(copy.stat().st_size))
    assert [each.partition(":")[0] for each in results.health(engine, store)] == ["corrupt"]


def test_an_image_that_is_called_what_it_is_not_is_not_stored(archive, source):
    engine, store = archive
    data = (source / TAGS[0] / "CA" / "Belmar.png").read_bytes()
    with pytest.raises(Misconfigured, match="image/png, not image/jpeg"):
        ImageStorage(engine, store).store_image(data, "image/jpeg")
    assert store.check([Digest.of(data)]) == {Digest.of(data): None}
    assert store.stats().blobs == 0


def test_the_path_of_an_image_is_that_of_its_bytes_when_it_was_deleted_and_stored_again(
    archive, source, tmp_path
):
    storage = ImageStorage(*archive)
    picture = source / TAGS[0] / "CA" / "Belmar.png"
    digest, paths = storage.compute_sha256(picture), set()
    for _ in range(3):
        path = storage.store_local(picture, digest)
        assert (tmp_path / "home" / "imagecache" / path).read_bytes() == picture.read_bytes()
        assert storage.get_storage_path(digest) == path
        assert storage.get_image_url(digest).endswith(path)
        assert storage.delete_image(digest) is True
        paths.add(path)
    assert len(paths) > 1


def test_a_damaged_second_copy_that_is_erased_is_no_image_freed(archive, source, tmp_path, clock):
    import_all(archive, source)
    engine, store = archive
    storage = ImageStorage(engine, store)
    picture = source / TAGS[0] / "CA" / "Belmar.png"
    digest = storage.compute_sha256(picture)
    for free in (
        lambda: storage.delete_image(digest),
        lambda: digest in storage.cleanup_orphans(),
    ):
        copy = tmp_path / "home" / "imagecache" / storage.get_storage_path(digest)
        copy.chmod(0o600)
        copy.write_bytes(b"bad")
        assert results.health(engine, store) != []
        assert store.put(picture, hold="1h").status == "healed"
        clock.ahead += 2 * DAY
        assert free() is False
        assert not copy.exists()
        assert results.health(engine, store) == []


def test_pictures_that_are_not_there_are_told(archive, source, tmp_path):
    import_all(archive, source)
    engine, store = archive
    digest = results.results(engine)[0].image_hash
    change(store, "DELETE FROM calotype_asset WHERE digest = ?", digest)
    assert f"{digest} is not there" in results.health(engine, store)
    (tmp_path / "home" / "imagecache").rename(tmp_path / "unplugged")
    told = results.health(engine, store)
    assert told[0] == f"{digest} is not there"
    assert told[1].startswith("backend-unreachable: There is no object in file:")
    (tmp_path / "unplugged").rename(tmp_path / "home" / "imagecache")
    import_all(archive, source)
    assert results.health(engine, store) == []


def test_an_image_that_is_shown_is_not_deleted(archive, source):
    import_all(archive, source)
    engine, store = archive
    digest = results.results(engine)[0].image_hash
    assert ImageStorage(engine, store).delete_image(digest) is False
    assert results.health(engine, store) == []
    with Session(engine) as session, session.begin():
        session.execute(text("DELETE FROM search_results WHERE image_hash = :d"), {"d": digest})
    assert ImageStorage(engine, store).delete_image(digest) is True


def test_clearing_the_cache_leaves_no_row_and_no_file_whatever_kept_them(archive, source, tmp_path):
    for tag in TAGS:
        import_all(archive, source, tag)
    engine, store = archive
    before = count(engine)
    shots = sorted((source / TAGS[0]).rglob("*.png"))
    store.put(shots[0], owner="result/1", role="page")
    store.put(b"nothing that was imported", owner="result/2")
    store.put(b"nor this", hold="52w")
    store.put(b"or this")
    store.scope("other").put(shots[1], owner="result/1")
    store.scope("other").put(b"elsewhere", owner="result/3")
    store.put(b"let go of before", owner="result/4")
    store.release("result/4")
    assert store.gc(grace="0s", erase_delay="1d").doomed == 1  # its bytes are there for a day yet
    images = store.stats().blobs
    assert ImageStorage(engine, store).clear_cache() == images > 8
    assert (store.stats().blobs, store.stats().references) == (0, 0)
    kept = (tmp_path / "home" / "imagecache" / "sha256").rglob("*")
    assert [each for each in kept if each.is_file()] == []
    assert sound(store)
    assert count(engine) == before
    assert count(engine, search_results.c.image_hash.is_not(None)) == 0
    again = import_all(archive, source)
    assert (again.results, again.failures) == (0, [])
    assert again.linked == len(results.results(engine, TAGS[0]))


def test_views_and_usage_are_told(archive, source):
    import_all(archive, source)
    engine, store = archive
    first = results.results(engine)[0]
    for _ in range(3):
        results.get_image_url_for_result(engine, store, first.id)
    store.close()
    assert results.most_viewed(store, 1) == [(first.image_hash, 3)]
    assert store.usage_days()[-1].assets == len({*pictures(source, TAGS[0]).values()})


def test_the_page_shows_each_result_with_its_picture(archive, source, tmp_path):
    done = import_all(archive, source)
    file = tmp_path / "results.html"
    assert results.write_page(*archive, TAGS[0], file) == done.results
    with pages.browser() as page:
        page.goto(file.as_uri())
        widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert widths == [900] * done.results
    assert file.read_text().count(" 900 x ") == done.results


def test_results_without_a_picture_are_shown_as_well(archive, source, tmp_path):
    (source / TAGS[0] / "CA" / "Belmar.png").write_bytes(b"no picture")
    done = import_all(archive, source)
    found = results.results(archive[0], TAGS[0])
    assert len(found) == done.results
    bare = [each for each in found if each.image_hash is None]
    assert bare and {each.width for each in bare} == {None}
    file = tmp_path / "results.html"
    assert results.write_page(*archive, TAGS[0], file) == done.results
    assert file.read_text().count("no picture") == len(bare)


def test_a_folder_that_cannot_be_read_is_told(archive, source):
    done = StateImporter(*archive).import_directory(source / "none", TAGS[0])
    (failure,) = done.failures
    assert (failure.source, failure.error) == (str(source / "none"), "unreadable")
    assert "No such file" in failure.why


def test_why_a_picture_failed_is_told(archive, source):
    (source / TAGS[0] / "CA" / "Belmar.png").write_bytes(b"<html>504 Gateway Time-out</html>")
    (failure,) = import_all(archive, source).failures
    assert failure.error == "not-an-image"
    assert "not a readable image" in failure.why and "Check the file" in failure.why


def command(*words, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "examples.screenshots", *map(str, words)]
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program, capture_output=True, text=True, cwd=folder, env=paths)


def test_the_command_links_what_an_import_could_not_even_one_that_was_killed(tmp_path, source):
    home, broken = tmp_path / "home", source / TAGS[0] / "CA" / "Belmar.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"<html>504 Gateway Time-out</html>")
    importer = subprocess.Popen(
        [sys.executable, "-m", "examples.screenshots", "import", source, TAGS[0], home],
        stdout=subprocess.PIPE,
        text=True,
    )
    while "Image linked" not in importer.stdout.readline():
        pass
    importer.kill()
    importer.communicate()
    again = command("link", TAGS[0], home)
    assert (again.stdout.splitlines()[-1][-14:], again.returncode) == ("1 failed again", 3)
    (failure,) = map(json.loads, (home / f"{TAGS[0]}.failures.jsonl").read_text().splitlines())
    assert (failure["source"], failure["error"]) == (str(broken), "not-an-image")
    broken.write_bytes(whole)
    (home / f"{TAGS[0]}.failures.jsonl").unlink()  # it is for people
    linked = f"{len(failure['results'])} results linked later, 0 failed again"
    assert linked in command("link", TAGS[0], home).stdout
    assert (home / f"{TAGS[0]}.failures.jsonl").read_text() == ""
    assert "0 failed" in command("import", source, TAGS[0], home).stdout
    engine, store = open_archive(home)
    with store:
        assert count(engine, search_results.c.image_hash.is_(None)) == 0
    engine.dispose()


def test_what_cannot_be_done_is_said_in_a_line(tmp_path, source):
    home, file = tmp_path / "home", tmp_path / "file"
    file.write_text("no folder")
    for words, said in (
        (("import", source, "1999-01", home), "No folder"),
        (("link", TAGS[0], home), "No archive"),
        (("clean", home), "No archive"),
        (("import", source, TAGS[0], file), "File exists"),
        (("import", source, TAGS[0], home, "more"), "python -m examples.screenshots import"),
    ):
        done = command(*words)
        assert said in done.stderr and "Traceback" not in done.stderr, words
        assert done.returncode == 1
    assert not home.exists()
    (source / TAGS[0] / "CA" / "Belmar.json").write_text(HALF)
    done = command("import", source, TAGS[0], home)
    assert (done.returncode, done.stderr) == (3, "")
    assert "1 failed" in done.stdout
    assert command("link", "1999-01", home).stderr == "No dataset '1999-01'.\n"
    (home / "archive.db").write_bytes(b"no database" * 1000)
    done = command("clean", home)
    assert done.returncode == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("theirs", ["thesis.txt", "archive.db", ".hidden", "source/page.json"])
def test_the_tour_leaves_folders_alone_that_it_did_not_make(tmp_path, theirs):
    file = tmp_path / "demo" / theirs
    file.parent.mkdir(parents=True)
    file.write_text("all of it")
    done = command("tour", file.parents[theirs.count("/")])
    assert "choose another" in done.stderr
    assert file.read_text() == "all of it"
    assert "choose another" in command("tour", file).stderr


def test_the_tour_makes_anew_what_it_made(tmp_path):
    fresh(tmp_path / "demo")
    (tmp_path / "demo" / "source").mkdir()
    fresh(tmp_path / "demo")
    assert not (tmp_path / "demo" / "source").exists()
    fresh(tmp_path / "demo")


def test_an_import_that_names_no_archive_goes_where_no_tour_deletes_it(tmp_path, source):
    fresh(tmp_path / "screenshots-demo")
    assert "0 failed" in command("import", source, TAGS[0], folder=tmp_path).stdout
    fresh(tmp_path / "screenshots-demo")
    assert command("link", TAGS[0], folder=tmp_path).stdout.startswith(f"{TAGS[0]}: 0 results")


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_the_tour_runs(place, request, tmp_path):
    if place == "elsewhere":
        bucket = request.getfixturevalue("elsewhere")
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
    if place == "elsewhere":
        assert "http://127.0.0.1:" in done.stdout  # a URL that the service signed
        assert not (tmp_path / "demo/archive.db").exists()
        assert not (tmp_path / "demo/imagecache").exists()
        assert lying(bucket) == []


@pytest.fixture
def elsewhere(monkeypatch) -> supabase_server.Bucket:
    """The bucket of an archive that is configured to be in PostgreSQL and Supabase."""
    storage = supabase_server.running()
    images = storage.bucket()
    monkeypatch.setenv("SCREENSHOTS_DATABASE", servers.schema())
    monkeypatch.setenv("SCREENSHOTS_IMAGES", images)
    monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", storage.key)
    return storage.buckets[images.rpartition("/")[2]]


def lying(bucket) -> list[str]:
    return [name for name in bucket.objects if name.startswith("sha256/")]


def test_an_archive_is_the_same_with_postgresql_and_supabase(elsewhere, tmp_path, source, clock):
    """Its configuration says where, and nothing else is another."""
    engine, store = open_archive(tmp_path / "home", clock=clock)
    with store:
        both = [import_all((engine, store), source, tag) for tag in TAGS]
        assert [(done.searches, len(done.failures)) for done in both] == [(5, 0), (5, 0)]
        assert len(lying(elsewhere)) == store.stats().blobs > 0
        shown = results.results(engine, TAGS[0])[0]
        url = results.get_image_url_for_result(engine, store, shown.id)
        with urlopen(url) as answer:
            assert Digest.of(answer.read()) == shown.image_hash
        assert results.health(engine, store) == []
        results.delete_dataset(engine, TAGS[0])
        storage = ImageStorage(engine, store, "supabase")
        assert not storage.delete_image(results.results(engine)[0].image_hash)
        for _ in range(2):  # Supabase keeps a day longer what was let go of
            clock.ahead += 2 * DAY
            store.gc()
        assert len(lying(elsewhere)) == store.stats().blobs
        linked = {each.image_hash for each in results.results(engine)}
        assert linked == {str(each.digest) for each in store.assets()}
        assert storage.clear_cache() == len(linked)
        assert lying(elsewhere) == []
    engine.dispose()
    assert not list((tmp_path / "home").iterdir())


def test_a_picture_is_stored_shown_and_deleted_in_supabase(elsewhere, tmp_path, clock):
    (tmp_path / "page.png").write_bytes(picture())
    digest = Digest.of(picture())
    engine, store = open_archive(tmp_path / "home", clock=clock)
    with store:
        storage = ImageStorage(engine, store, "supabase")
        where = storage.store_supabase(tmp_path / "page.png", digest)
        assert lying(elsewhere) == [where]
        assert where.endswith(f"{digest}.png")
        began = int(time.time())
        url = storage.get_image_url(digest, expires_in=600)
        with urlopen(url) as answer:
            assert answer.read() == picture()
            until = datetime.fromisoformat(answer.headers["expires"]).timestamp()
        assert began + 600 <= until <= time.time() + 2 * 600  # the same one for ten minutes
        assert storage.delete_image(digest)
        assert lying(elsewhere) == []
        assert not storage.delete_image(digest)
    engine.dispose()


def test_the_clean_up_asks_before_it_frees_a_suspicious_share(tmp_path, capsys):
    long_ago = time.time_ns() // 1000 - 2 * DAY
    engine, store = open_archive(tmp_path, clock=lambda: long_ago)
    with store:
        store.put_many([b"%d" % number for number in range(1100)], hold="1h").result()
    engine.dispose()
    with pytest.raises(SystemExit, match=r"Was that meant\? .* clean --force"):
        main(["clean", str(tmp_path)])
    main(["clean", "--force", str(tmp_path)])
    main(["clean", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == ["1100 images freed", "0 images freed"]
