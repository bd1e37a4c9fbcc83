"""put_many: many files in durable batches; one that fails stops no other."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, event
from tests.store.pictures import noise, picture
from tests.store.surgery import content, keys, objects, problems, rows, truncate

from calotype import Digest, Store, bulk, intake, wishes
from calotype.backends.local import LocalBackend
from calotype.errors import Misconfigured, Unavailable
from calotype.model import PutMany
from calotype.progress import Progress
from calotype.staging import Limits


@pytest.fixture
def files(tmp_path):
    """Twelve files, four of them copies of others."""
    at = tmp_path / "in"
    at.mkdir()
    for number in range(12):
        (at / f"{number:02}.png").write_bytes(picture(number % 8))
    return sorted(at.iterdir())


def test_every_file_is_kept_and_copies_are_counted(store, files):
    done = store.put_many(files).result()
    assert done == PutMany(created=8, duplicate=4, bytes=sum(f.stat().st_size for f in files))
    assert {asset.digest for asset in store.assets()} == {Digest.of(file) for file in files}
    assert len(objects(store)) == 8
    for file in files:
        assert content(store, Digest.of(file)) == file.read_bytes()
    assert problems(store) == []


def test_again_they_are_all_duplicates(store, files):
    store.put_many(files).result()
    assert store.put_many(files).result().duplicate == 12
    assert len(objects(store)) == 8


def test_a_copy_that_cannot_be_looked_at_fails_its_file_alone(folder, tmp_path):
    sources = [noise(100, number) for number in range(6)]
    with folder.open() as store:
        store.put_many(sources, owner="o/1").result()
        digest = Digest.of(sources[2])
        shard = folder.blobs / "sha256" / digest[:2] / digest[2:4]
        shard.rename(tmp_path / "moved")
        shard.symlink_to(tmp_path / "moved")
        done = store.put_many(sources, owner="o/2").result()
        assert (done.duplicate, [each.code for each in done.failures]) == (
            5,
            ["backend-unreachable"],
        )
        assert len(list(store.references(owner="o/2"))) == 5
        shard.unlink()
        (tmp_path / "moved").rename(shard)
        assert store.put_many(sources, owner="o/2").result().duplicate == 6
        assert problems(store) == []


@pytest.mark.parametrize("number", [99, 100, 101, 250])
def test_hundreds_at_once_have_each_their_own_rows(store, tmp_path, number):
    files = [tmp_path / f"{size}.bin" for size in range(1, number + 1)]
    for size, file in enumerate(files, start=1):
        file.write_bytes(bytes([size % 256]) * size)
    assert store.put_many(files, owner="dataset/7").result().created == number
    kept = {asset.filename: (asset.blob.size, asset.digest) for asset in store.assets()}
    assert kept == {f.name: (f.stat().st_size, Digest.of(f)) for f in files}
    assert {each.digest for each in store.references(owner="dataset/7")} == {
        digest for _, digest in kept.values()
    }
    again = store.put_many(files, owner="dataset/8").result()
    assert again.duplicate == len(list(store.references(owner="dataset/8"))) == number
    elsewhere = store.scope("elsewhere")
    assert elsewhere.put_many(files, owner="dataset/7").result().created == number
    assert len(list(elsewhere.assets())) == number
    assert problems(store) == []


def test_names_are_those_of_the_files(store, files):
    store.put_many(files).result()
    assert sorted(asset.filename for asset in store.assets()) == [f.name for f in files[:8]]


def test_an_owner_holds_them_as_a_set(store, files):
    store.put_many(files, owner="dataset/7").result()
    assert len(list(store.references(owner="dataset/7"))) == 8
    store.release("dataset/7")
    assert store.gc(now=True).doomed == 8


def test_a_hold_ends(store, files, clock):
    store.put_many(files, hold="1h").result()
    clock.advance(hours=2)
    assert list(store.assets()) == []


def test_statuses_are_those_of_single_puts(store, clock):
    truncated = store.put(picture(0)).digest
    store.put(picture(1), owner="scan/9")
    store.release("scan/9")
    store.put(picture(2))
    truncate(store, truncated)
    done = store.put_many([picture(number) for number in range(4)]).result()
    assert (done.healed, done.restored, done.duplicate, done.created) == (1, 1, 1, 1)


def test_sources_of_all_kinds_may_be_mixed(store, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(0))
    sources = [path, str(path), picture(1), io.BytesIO(picture(2)), iter([picture(3)])]
    done = store.put_many(sources).result()
    assert (done.created, done.duplicate, done.failures) == (4, 1, ())


def test_a_source_that_fails_is_listed_and_stops_no_other(store, files, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    sources = [files[0], tmp_path / "absent", files[1], tmp_path, tmp_path / "pipe", files[2]]
    done = store.put_many(sources).result()
    assert done.created == 3
    assert [(f.source, f.code) for f in done.failures] == [
        (str(tmp_path / "absent"), "not-found"),
        (str(tmp_path), "misconfigured"),
        (str(tmp_path / "pipe"), "misconfigured"),
    ]
    assert all(failure.message and failure.hint for failure in done.failures)


def test_a_source_whose_own_reading_breaks_is_listed(store):
    def broken():
        yield b"half"
        raise OSError(5, "Input/output error")

    done = store.put_many([picture(0), broken(), picture(1)]).result()
    assert (done.created, [f.code for f in done.failures]) == (2, ["backend-unreachable"])


def test_a_blocked_file_is_listed_and_the_rest_of_its_batch_is_kept(store, files):
    store.purge(Digest.of(files[3]))
    done = store.put_many(files[:8]).result()
    assert done.created == 7
    assert [(f.source, f.code) for f in done.failures] == [(str(files[3]), "blocked")]


def test_a_quota_stops_what_is_over_it_and_keeps_what_fits(store):
    store.set_quota("default", 250)
    done = store.put_many([noise(100, seed) for seed in range(4)]).result()
    assert done.created == 2
    assert [f.code for f in done.failures] == ["quota-exceeded"] * 2
    assert store.usage().bytes == 200


def test_a_file_over_the_limit_is_listed(place):
    with place.open(limits=Limits(file_size=50)) as store:
        done = store.put_many([noise(50), noise(51)]).result()
        assert (done.created, [f.code for f in done.failures]) == (1, ["too-large"])


def test_two_sources_are_received_at_once(store, monkeypatch):
    monkeypatch.setattr(intake, "TOGETHER", 1)
    together = threading.Barrier(2)

    def received(data):
        together.wait(10)
        yield data

    done = store.put_many([received(b"one"), received(b"two")]).result()
    assert (done.created, done.failures) == (2, ())


def test_nothing_to_put_is_put(store):
    assert store.put_many([]).result() == PutMany()


@pytest.mark.parametrize("one", ["a/path", b"bytes"])
def test_one_source_is_no_list(store, one):
    with pytest.raises(Misconfigured):
        store.put_many(one)


def test_progress_goes_up_to_the_total(store, files, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 3)
    steps = list(store.put_many(files))
    assert all(isinstance(step, Progress) and step.total == 12 for step in steps)
    assert [step.done for step in steps] == [3, 6, 9, 12, 12]
    assert (steps[-1].computed, steps[-1].skipped, steps[-1].failed) == (8, 4, 0)
    assert steps[-1].bytes == sum(file.stat().st_size for file in files)
    assert steps[-1].eta == 0


def test_progress_says_how_long_one_takes_that_is_no_duplicate(store, files, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(bulk, "time", clock)
    run = store.put_many(files)
    clock.now = 16.0
    assert list(run)[-1].seconds_per_item == 2


def test_the_total_of_a_generator_is_unknown(store, files):
    steps = list(store.put_many(iter(files)))
    assert steps[-1].total is None and steps[-1].done == 12 and steps[-1].eta is None


def test_each_batch_is_kept_when_its_progress_appears(store, files, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 3)
    run = store.put_many(files)
    for step in run:
        assert len(list(store.assets())) == min(step.done, 8)
        if step.done == 6:
            break
    run.close()
    assert len(list(store.assets())) == 6
    assert problems(store) == []


def test_stopping_early_leaves_no_temporary_files(durable, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 2)
    monkeypatch.setattr(intake, "IN_MEMORY", 10)
    with durable.open() as store:
        run = store.put_many([noise(500, seed) for seed in range(20)])
        next(iter(run))
        run.close()
        assert list((durable.blobs / "tmp").iterdir()) == []
        assert problems(store) == []


def test_large_files_wait_on_disk_and_not_in_memory(durable, monkeypatch):
    monkeypatch.setattr(intake, "IN_MEMORY", 1000)
    with durable.open() as store:
        sources = [noise(5000, seed) for seed in range(3)]
        done = store.put_many([io.BytesIO(data) for data in sources]).result()
        assert done.created == 3
        assert all(content(store, Digest.of(data)) == data for data in sources)
        assert list((durable.blobs / "tmp").iterdir()) == []


def test_a_run_that_is_never_begun_warns_and_does_nothing(store):
    with pytest.warns(ResourceWarning, match="put_many was never run"):
        store.put_many([picture()])
    assert list(store.assets()) == []


def test_a_disk_that_fails_one_batch_keeps_the_others(folder, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_COUNT", 4)
    real, calls = LocalBackend.publish, []

    def flaky(self, items):
        calls.append(len(items))
        if len(calls) == 2:
            raise Unavailable("No space left on device.")
        real(self, items)

    monkeypatch.setattr(LocalBackend, "publish", flaky)
    with folder.open() as store:
        done = store.put_many([picture(number) for number in range(12)]).result()
        assert (done.created, done.failures) == (12, ())
        assert calls == [4, 4, 2, 2, 4]
        assert store.gc(now=True).failed == 0
        assert problems(store) == []


def test_a_batch_of_one_digest_is_one_object_and_one_created(store):
    done = store.put_many([picture()] * 16).result()
    assert (done.created, done.duplicate) == (1, 15)
    assert len(objects(store)) == len(keys(store, Digest.of(picture()))) == 1


def test_a_batch_makes_one_transaction_of_its_rows(store):
    store.put_many([picture(number) for number in range(5)], owner="d/1").result()
    counts = [
        rows(store, f"SELECT COUNT(*) FROM calotype_{table}")[0][0]
        for table in ("blob", "asset", "reference", "replica")
    ]
    assert counts == [5, 5, 5, 5]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process writes")
def test_a_batch_writes_its_rows_and_not_what_would_undo_each(folder):
    """SQLite wrote 29 KB more for every file: pages to go back to, should its statement fail."""
    with folder.open() as store:
        store.put(b"first", owner="d/1")
        before = _written()
        store.put_many([noise(100, seed=n) for n in range(300)], owner="d/1").result()
        assert _written() - before < 300 * 10_000
        engine = store._rooms.catalog.engine
        with ExitStack() as stack:
            pooled = [stack.enter_context(engine.connect()) for _ in range(engine.pool.checkedin())]
            usual = {each.exec_driver_sql("PRAGMA temp_store").scalar() for each in pooled}
        assert usual == {0}


def test_an_engine_of_the_application_keeps_its_own_temporary_tables(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")

    @event.listens_for(engine, "connect")
    def settle(raw, _):
        raw.execute("PRAGMA temp_store=FILE")
        raw.execute("CREATE TEMP TABLE mine (id)")

    with Store(engine=engine, backend=f"file:{tmp_path / 'media'}") as store:
        store.put_many([noise(100, seed=n) for n in range(20)], owner="d/1").result()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA temp_store").scalar() == 1
            assert connection.exec_driver_sql("SELECT COUNT(*) FROM mine").scalar() == 0
    engine.dispose()


def test_what_waits_for_long_is_kept_before_a_batch_is_full(store, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH_SECONDS", 0)
    steps = [step.done for step in store.put_many([noise(50, number) for number in range(4)])]
    assert steps[:4] == [1, 2, 3, 4]


def test_a_batch_waits_from_its_first_file_on_and_not_for_it(store, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(bulk, "time", clock)
    monkeypatch.setattr(intake, "TOGETHER", 1)
    monkeypatch.setattr(intake, "AHEAD", 1)

    def come():
        for number, late in enumerate([10, 1, 1, 100, 1, 1, 100]):
            clock.now += late
            yield noise(50, number)

    assert [step.done for step in store.put_many(come())] == [3, 6, 7]


def _written() -> int:
    """Bytes that this process gave to the system so far."""
    facts = Path("/proc/self/io").read_text(encoding="ascii")
    return int(facts.partition("wchar: ")[2].partition("\n")[0])


def test_what_a_batch_kept_before_a_file_failed_is_counted_once(store):
    store.put(b"here", owner="a/1")
    store.purge(Digest.of(b"bad"), block=True)
    done = store.scope("ana").put_many([b"here", b"bad"]).result()
    assert (done.created, done.duplicate) == (1, 0)
    assert [failure.code for failure in done.failures] == ["blocked"]


def test_files_that_are_closed_before_they_are_read_say_what_to_give(store, files):
    def closed():
        for path in files:
            with path.open("rb") as file:
                yield file

    done = store.put_many(closed()).result()
    assert done.failures
    assert all("stay open" in failure.hint for failure in done.failures)


def test_any_error_of_a_source_is_its_own_failure(store):
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise ZeroDivisionError("a bug of the application's")

    done = store.put_many([b"1", Broken(), b"2"]).result()
    assert done.created == 2
    assert [(f.code, "ZeroDivisionError" in f.message) for f in done.failures] == [
        ("backend-unreachable", True)
    ]


def test_an_error_of_the_list_itself_passes_and_keeps_what_was_read(store):
    def sources():
        yield b"1"
        yield b"2"
        raise ZeroDivisionError("no third one")

    with pytest.raises(ZeroDivisionError):
        store.put_many(sources()).result()
    assert {asset.digest for asset in store.assets()} == {Digest.of(b"1"), Digest.of(b"2")}
    assert problems(store) == []


def test_a_name_that_nobody_could_keep_is_its_files_own_failure(store, tmp_path, monkeypatch):
    names = [tmp_path / name for name in ("a", "b")]
    for name in names:
        name.write_bytes(name.name.encode())
    monkeypatch.setattr(wishes, "file_name", refuses_a)
    done = store.put_many(names).result()
    assert (done.created, [failure.source for failure in done.failures]) == (1, [str(names[0])])


def refuses_a(name):
    if name == "a":
        raise Misconfigured("Not a usable file name.", hint="Another one.")
    return name


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_few_open_files_are_enough_for_any_sources(folder, tmp_path):
    """Bytes, streams and open files; what is known already is no exception."""
    resource = pytest.importorskip("resource")
    for number in range(700):
        (tmp_path / f"{number}").write_bytes(noise(30, number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    intake.open_files.cache_clear()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with folder.open() as store:
            assert store.put_many([noise(20, n) for n in range(600)]).result().created == 600
            for status in ("created", "duplicate"):
                files = ((tmp_path / f"{n}").open("rb") for n in range(700))
                assert getattr(store.put_many(files).result(), status) == 700
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        intake.open_files.cache_clear()


def test_bytes_that_one_scope_mends_are_nobody_elses_news(store):
    digest = store.put(picture()).digest
    truncate(store, digest)
    other = store.scope("other").put_many([picture(), picture()]).result()
    assert (other.created, other.duplicate, other.healed) == (1, 1, 0)
    truncate(store, digest)
    again = store.put_many([picture(), picture()]).result()
    assert (again.healed, again.duplicate) == (1, 1)


def test_all_that_is_kept_together_may_only_be_read(folder, files):
    with folder.open() as store:
        store.put_many(files, "set/1").result()
    kept = list(folder.blobs.glob("sha256/*/*/*"))
    assert len(kept) > 4  # more are synced together
    assert {each.stat().st_mode & 0o777 for each in kept} == {0o444}
