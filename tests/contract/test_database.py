"""Bytes in a database: SQLite and a real PostgreSQL, in the catalog's own and in another one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import create_engine
from tests import mounts, servers

from calotype import Digest, Store
from calotype.backends import Backend, Gathers, Stages, Sweeps, Vanishes, chunks, database
from calotype.backends.chunks import CHUNK, CLEARED
from calotype.backends.database import GROUP, DatabaseBackend
from calotype.catalog.places import database_of
from calotype.errors import (
    CalotypeError,
    Corrupt,
    Misconfigured,
    NotFound,
    Unavailable,
)
from calotype.occupying import clear
from calotype.quantities import SECOND, now
from calotype.testing.backends import BackendContract, machine
from calotype.testing.notes import NotesContract
from calotype.testing.objects import Broken, absent, key, names, noise, put, read, source, together

ROOT = Path(__file__).parents[2]
MODEL = settings(max_examples=10, stateful_step_count=20, deadline=None)
HOUR = 3600 * SECOND
LARGE = noise(2 * GROUP + CHUNK + 12345, 7)
"""Two groups that are committed before its end, then a whole chunk and a part of one."""


def url_of(kind: str, root: Path) -> str:
    return servers.schema() if kind == "postgresql" else f"sqlite:///{root}/bytes.db"


def rows(backend: Backend, sql: str) -> list[tuple[object, ...]]:
    """What its database answers."""
    with backend._tables.database.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def change(backend: Backend, sql: str) -> None:
    """Run a statement behind its back."""
    with (
        backend._tables.database._begun("SELECT 1")
        if is_postgres(backend)
        else writing(backend) as connection
    ):
        connection.exec_driver_sql(sql)


def writing(backend: Backend):
    return backend._tables.database._writing(backend._tables.database.engine)


def is_postgres(backend: Backend) -> bool:
    return backend._tables.database.engine.dialect.name == "postgresql"


def left(backend: Backend) -> tuple[int, int]:
    """How many rows there are without a name, and how many chunks of such."""
    [(unnamed,)] = rows(backend, "SELECT count(*) FROM calotype_object WHERE name IS NULL")
    [(chunks,)] = rows(
        backend,
        "SELECT count(*) FROM calotype_chunk WHERE version NOT IN "
        "(SELECT version FROM calotype_object WHERE name IS NOT NULL)",
    )
    return unnamed, chunks


class InDatabase(NotesContract, BackendContract):
    """What a database promises beyond the contract."""

    def test_it_sweeps_and_does_not_stage(self, backend):
        assert isinstance(backend, Sweeps)
        assert isinstance(backend, Vanishes)
        assert not isinstance(backend, Stages)
        put(backend, key("a"), b"bytes")
        assert not backend.vacant()

    def test_a_large_object_is_read_back(self, backend):
        backend.put(key("a"), source(LARGE), len(LARGE))
        assert read(backend, key("a")) == LARGE
        assert backend.size(key("a")) == len(LARGE)
        assert left(backend) == (0, 0)
        backend.delete(key("a"))
        assert rows(backend, "SELECT count(*) FROM calotype_chunk") == [(0,)]
        assert left(backend) == (0, 0)

    def test_many_are_put_together(self, backend, monkeypatch):
        assert isinstance(backend, Gathers)
        monkeypatch.setattr(database, "TOGETHER", 3)
        put(backend, key("b"), b"the one before")
        contents = {str(n): noise(n * 1000, n) for n in range(7)}
        contents |= {"b": b"the new one", "large": noise(CHUNK + 1, 9), "full": noise(CHUNK, 8)}
        given = [(key(n), partial(io.BytesIO, each), len(each)) for n, each in contents.items()]
        backend.put_all(given)
        assert {n: read(backend, key(n)) for n in contents} == contents
        assert left(backend) == (0, 0)

    def test_one_that_breaks_leaves_nothing_of_its_group(self, backend):
        items = [
            (key("a"), partial(io.BytesIO, b"bytes"), 5),
            (key("b"), partial(io.BytesIO, b"few"), 9),
        ]
        with pytest.raises(Unavailable):
            backend.put_all(items)
        assert absent(backend, key("a")) and absent(backend, key("b"))
        assert left(backend) == (0, 0)

    def test_groups_of_the_same_keys_at_once(self, backend):
        items = [
            (key(str(n)), partial(io.BytesIO, b"%d" % n * 99), len(b"%d" % n * 99))
            for n in range(9)
        ]
        put(backend, key("first"), b"so that the tables are there")
        together(*[partial(backend.put_all, items)] * 4)
        assert [read(backend, key(str(n))) for n in range(9)] == [b"%d" % n * 99 for n in range(9)]
        assert left(backend) == (0, 0)

    def test_ranges_meet_the_borders_of_chunks(self, backend):
        content = LARGE[: 2 * CHUNK + 5]
        put(backend, key("a"), content)
        edges = [n * CHUNK + more for n in (0, 1, 2) for more in (-1, 0, 1)]
        for start in [edge for edge in edges if edge >= 0]:
            for stop in [None, start, start + 1, *[edge for edge in edges if edge > start]]:
                assert read(backend, key("a"), start, stop) == content[start:stop], (start, stop)
        with backend.open(key("a"), CHUNK - 3, CHUNK + 9) as file:
            assert file.read(5) == content[CHUNK - 3 : CHUNK + 2]
            assert file.seek(1) == 1
            assert file.read() == content[CHUNK - 2 : CHUNK + 9]
            assert file.seek(-2, os.SEEK_END) == 10
            assert file.read() == content[CHUNK + 7 : CHUNK + 9]
            with pytest.raises(ValueError, match="before the beginning"):
                file.seek(-13, os.SEEK_END)

    def test_a_size_of_whole_chunks_has_no_empty_one(self, backend):
        for content in (b"", LARGE[:CHUNK], LARGE[: 2 * CHUNK]):
            put(backend, key("a"), content)
            assert read(backend, key("a")) == content
            assert rows(backend, "SELECT count(*) FROM calotype_chunk") == [
                (len(content) // CHUNK,)
            ]

    def test_nothing_of_a_large_put_is_seen_before_its_end(self, backend):
        put(backend, key("b"), b"other")

        def look() -> None:
            assert absent(backend, key("a"))
            assert names(backend) == [str(key("b"))]

        backend.put(key("a"), source(LARGE, before=look), len(LARGE))
        assert read(backend, key("a")) == LARGE

    def test_a_large_put_that_fails_leaves_no_chunk(self, backend):
        put(backend, key("a"), b"old")
        for offset in (GROUP - 1, GROUP + CHUNK, len(LARGE)):
            with pytest.raises(Broken):
                backend.put(key("a"), source(LARGE, breaks_at=offset), len(LARGE))
            assert left(backend) == (0, 0)
        with pytest.raises(Unavailable):
            put_short(backend)
        assert left(backend) == (0, 0)
        assert read(backend, key("a")) == b"old"

    def test_an_upload_that_goes_on_is_not_swept(self, backend):
        swept = []

        def sweep() -> None:
            swept.append(backend.sweep(now() - HOUR))

        backend.put(key("a"), source(LARGE, before=sweep), len(LARGE))
        assert len(swept) > 2 * GROUP // CHUNK
        assert set(swept) == {0}
        assert read(backend, key("a")) == LARGE

    def test_an_upload_that_was_taken_for_dead_is_refused(self, backend):
        """Its chunks were cleared away: what it wrote afterwards would be no whole object."""
        for at in (GROUP + 1, 2 * GROUP + 1):
            reads = count()
            swept = []

            def sweep(reads=reads, swept=swept, at=at) -> None:
                if next(reads) * CHUNK // 3 > at and not swept:
                    swept.append(backend.sweep(now() + HOUR))

            with pytest.raises(Unavailable, match="cleared away"):
                backend.put(key("a"), source(LARGE, before=sweep), len(LARGE))
            assert swept == [1]
            assert absent(backend, key("a"))
            assert left(backend) == (0, 0)

    def test_a_slow_upload_says_that_it_goes_on(self, backend, monkeypatch):
        monkeypatch.setattr("calotype.backends.database.PULSE", 0)
        seen: set[object] = set()

        def look() -> None:
            seen.update(rows(backend, "SELECT modified FROM calotype_object WHERE name IS NULL"))

        content = LARGE[: GROUP + 4 * CHUNK]
        backend.put(key("a"), source(content, before=look), len(content))
        assert len(seen) > 3

    def test_what_was_not_cleared_to_its_end_is_swept(self, backend):
        """As after a kill between the name and the chunks, of a deleted or replaced object."""
        for n in range(3):
            put(backend, key(f"{n}"), LARGE[: CHUNK * 2])
        change(
            backend,
            f"UPDATE calotype_object SET name = NULL, modified = 0 WHERE name <> '{key('1')}'",
        )
        assert left(backend) == (2, 4)
        assert backend.sweep(now() - HOUR) == 2
        assert left(backend) == (0, 0)
        assert backend.sweep(now() + HOUR) == 0
        assert read(backend, key("1")) == LARGE[: CHUNK * 2]

    def test_more_chunks_than_one_transaction_clears(self, backend):
        large = bytes(CHUNK) * (CLEARED + 3)
        for _ in range(2):
            put(backend, key("a"), large)
        assert rows(backend, "SELECT count(*) FROM calotype_chunk") == [(CLEARED + 3,)]
        backend.delete(key("a"))
        assert rows(backend, "SELECT count(*) FROM calotype_chunk") == [(0,)]

    def test_a_version_is_never_used_again(self, backend):
        """Or a reader of the last object would go on in the next one."""
        put(backend, key("a"), LARGE[: CHUNK * 2])
        with backend.open(key("a")) as file:
            file.read(1)
            backend.delete(key("a"))
            put(backend, key("a"), bytes(CHUNK * 2))
            with pytest.raises(NotFound, match="deleted or replaced"):
                file.read()

    def test_a_chunk_that_is_lost_is_told(self, backend):
        put(backend, key("a"), LARGE[: CHUNK * 3])
        change(backend, "DELETE FROM calotype_chunk WHERE number = 1")
        assert backend.open(key("a"), 0, CHUNK).read() == LARGE[:CHUNK]
        with pytest.raises(NotFound, match="chunk 1"):
            read(backend, key("a"))
        with pytest.raises(NotFound, match="chunk 1"):
            backend.open(key("a"), CHUNK)

    def test_a_scan_goes_over_its_pages(self, backend, monkeypatch):
        monkeypatch.setattr("calotype.backends.database.PAGE", 7)
        for n in range(21):
            put(backend, key(f"{n}"), b"x")
        every = sorted(str(key(f"{n}")) for n in range(21))
        assert names(backend) == every
        assert names(backend, every[7][:9]) == [each for each in every if each[:9] == every[7][:9]]

    def test_objects_of_other_names_are_listed(self, backend):
        put(backend, key("a"), b"x")
        change(backend, "INSERT INTO calotype_object (name, size, modified) VALUES ('ü', 0, 1)")
        assert names(backend) == [str(key("a")), "ü"]

    def test_keys_are_put_at_once(self, backend):
        """On SQLite they take turns, and none waits for another's source."""

        def work(worker: int) -> None:
            for n in range(3):
                content = noise(CHUNK + n, worker)
                backend.put(key(f"{worker} {n}"), source(content), len(content))

        together(*[lambda w=worker: work(w) for worker in range(6)])
        for worker in range(6):
            assert read(backend, key(f"{worker} 2")) == noise(CHUNK + 2, worker)


def put_short(backend: Backend) -> None:
    backend.put(key("a"), source(LARGE[:-1]), len(LARGE))


class TestInSqlite(InDatabase):
    @pytest.fixture
    def backend(self, tmp_path) -> Iterator[Backend]:
        with Store(tmp_path / "store", backend="database:") as store:
            store.create()
            backend = store._rooms.mounts.primary.backend
            clear(backend)
            yield backend

    def test_its_url_says_no_more(self, backend):
        assert backend.url == "database:"

    def test_it_behaves_as_a_dictionary_does(self, tmp_path):
        stores = []

        def made() -> Backend:
            stores.append(Store(tmp_path / f"{len(stores)}", backend="database:"))
            stores[-1].create()
            clear(stores[-1]._rooms.mounts.primary.backend)
            return stores[-1]._rooms.mounts.primary.backend

        run_state_machine_as_test(machine(made), settings=MODEL)
        for store in stores:
            store.close()


class TestAloneInSqlite(InDatabase):
    @pytest.fixture
    def backend(self, tmp_path) -> Iterator[Backend]:
        made = DatabaseBackend.at(f"sqlite:///{tmp_path}/bytes.db")
        yield made
        made.close()

    def test_its_url_is_where_it_is(self, backend, tmp_path):
        assert backend.url == f"sqlite:///{tmp_path}/bytes.db"

    def test_looking_makes_no_file(self, backend, tmp_path):
        assert backend.vacant()
        assert absent(backend, key("a"))
        backend.delete(key("a"))
        assert backend.sweep(now()) == 0
        assert list(tmp_path.iterdir()) == []


class TestInPostgres(InDatabase):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with Store(catalog=servers.schema(), backend="database:") as store:
            store.create()
            backend = store._rooms.mounts.primary.backend
            clear(backend)
            yield backend

    def test_bytes_are_not_compressed_again(self, backend):
        [(found,)] = rows(
            backend,
            "SELECT attstorage FROM pg_attribute WHERE attname = 'bytes' "
            "AND attrelid = 'calotype_chunk'::regclass",
        )
        assert found in ("e", b"e")


class TestAloneInPostgres(InDatabase):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        made = DatabaseBackend.at(servers.schema())
        yield made
        made.close()

    def test_the_first_put_makes_its_tables_in_the_schema_of_the_url(self, backend):
        assert backend.vacant()
        assert absent(backend, key("a"))
        put(backend, key("a"), b"x")
        [(there,)] = rows(backend, "SELECT current_schema()")
        found = rows(
            backend, "SELECT schemaname, tablename FROM pg_tables WHERE tablename ~ '^calotype'"
        )
        assert {table for schema, table in found if schema == there} == {
            "calotype_chunk",
            "calotype_object",
        }

    def test_it_behaves_as_a_dictionary_does(self):
        made = []

        def fresh() -> Backend:
            made.append(DatabaseBackend.at(servers.schema()))
            return made[-1]

        run_state_machine_as_test(machine(fresh), settings=MODEL)
        for each in made:
            each.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path) -> str:
    """The URL of a database of its own, of each kind in turn."""
    return url_of(request.param, tmp_path)


@pytest.fixture
def backend(place) -> Iterator[DatabaseBackend]:
    made = DatabaseBackend.at(place)
    yield made
    made.close()


def python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A program of its own that has ``backend`` at the URL of its first argument."""
    begin = (
        "import sys, os, io, time, resource\n"
        "from calotype.backends.database import DatabaseBackend\n"
        "from calotype.testing.objects import key\n"
        "backend = DatabaseBackend.at(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", begin + code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def test_who_looked_before_the_tables_were_there_hides_them_from_nobody(monkeypatch):
    """A look from before the first put ends in the middle of one that finds them."""
    backend = DatabaseBackend.at(servers.schema())
    looked, go_on = threading.Event(), threading.Event()
    look = chunks.are_there

    def slow(connection):
        found = look(connection)
        looked.set()
        assert go_on.wait(30)
        return found

    class Here(tuple):
        """The same database; whoever finds so is overtaken by the early look."""

        def __eq__(self, other):
            same = isinstance(other, Here) and tuple.__eq__(self, other)
            if same and not go_on.is_set():
                go_on.set()
                early.join()
            return same

        def __ne__(self, other):
            return not self == other

        __hash__ = tuple.__hash__

    here = Here([backend._tables.database.identity()])
    monkeypatch.setattr(backend._tables.database, "identity", lambda: Here(here))
    monkeypatch.setattr(chunks, "are_there", slow)
    early = threading.Thread(target=lambda: backend.size(key("a")))
    early.start()
    assert looked.wait(30)
    monkeypatch.setattr(chunks, "are_there", look)
    put(backend, key("a"), b"x")
    assert [backend.size(key("a")) for _ in range(2)] == [1, 1]
    assert go_on.is_set()
    backend.close()


def test_an_upload_that_was_killed_is_invisible_and_swept(backend, place):
    put(backend, key("b"), b"other")
    code = """
class Endless(io.RawIOBase):
    given = 0
    def read(self, size):
        Endless.given += size
        if Endless.given > 30 << 20:
            print("now", flush=True)
            time.sleep(60)
        return bytes(size)
backend.put(key("a"), Endless(), 1 << 40)
"""
    child = python(code, place)
    assert child.stdout.readline() == b"now\n"
    assert left(backend)[1] >= 3 * GROUP // CHUNK
    assert backend.sweep(now() - HOUR) == 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert absent(backend, key("a"))
    assert backend.sweep(now() - HOUR) == 0
    assert backend.sweep(now() + HOUR) == 1
    assert left(backend) == (0, 0)
    assert names(backend) == [str(key("b"))]


def test_two_hundred_megabytes_take_little_memory(place):
    code = """
class Zeros(io.RawIOBase):
    def read(self, size):
        return bytes(size)
class Counted(Zeros):
    def __init__(self, size):
        self.left = size
    def read(self, size):
        some = bytes(min(size, self.left))
        self.left -= len(some)
        return some
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
backend.put(key("a"), Counted(9 << 20), 9 << 20)
backend.open(key("a")).read(1 << 20)
backend.delete(key("a"))
before = peak()
backend.put(key("a"), Counted(200 << 20), 200 << 20)
with backend.open(key("a")) as file:
    while file.read(1 << 20):
        pass
backend.delete(key("a"))
print(peak() - before)
"""
    child = python(code, place)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    assert int(said) < 32


def test_a_reader_that_stalls_holds_no_transaction(backend):
    put(backend, key("a"), LARGE)
    with backend.open(key("a")) as file:
        file.read(CHUNK + 1)
        assert backend._tables.database.engine.pool.checkedout() == 0
        if is_postgres(backend):
            busy = rows(
                backend,
                "SELECT count(*) FROM pg_stat_activity WHERE state ~ '^idle in' "
                "AND query ~ 'FROM calotype_chunk'",
            )
            assert busy == [(0,)]
        assert file.read() == LARGE[CHUNK + 1 :]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_pool_of_one_connection_is_enough(kind, tmp_path):
    where = url_of(kind, tmp_path).replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(where, pool_size=1, max_overflow=0, pool_timeout=5)
    database = database_of(None, None, engine, memory=False)
    database.catalogued = False
    backend = DatabaseBackend(database)
    with backend.open(put_large(backend)) as file:
        assert file.read(9) == LARGE[:9]
        put(backend, key("b"), b"x")
        assert file.read() == LARGE[9:]
        for at in (key("a"), key("b")):  # objects without a catalog would be those of a lost one
            backend.delete(at)
    with Store(engine=engine, backend="database:") as store:
        digest = store.put(LARGE, owner="scan/1").digest
        assert store.open(digest).read() == LARGE
        store.put_many([noise(2000, n) for n in range(9)], "scan/2").result()
        store.release("scan/1")
        assert store.gc(now=True, force=True).erased == 1
        assert [found for found in store.fsck(read_data=True) if found.kind != "stray"] == []
    engine.dispose()


def put_large(backend: Backend):
    put(backend, key("a"), LARGE)
    return key("a")


def test_a_put_waits_for_no_source_with_a_transaction(backend):
    """While one source stands still others put, read and delete."""
    put(backend, key("c"), b"there")
    stalls, goes_on = threading.Event(), threading.Event()
    reads = count()

    def stall() -> None:
        if next(reads) == 3 * GROUP // CHUNK + 5:
            stalls.set()
            assert goes_on.wait(30)

    slow = threading.Thread(
        target=backend.put, args=(key("a"), source(LARGE, before=stall), len(LARGE))
    )
    slow.start()
    try:
        assert stalls.wait(30)
        put(backend, key("b"), b"others")
        backend.delete(key("c"))
        assert names(backend) == [str(key("b"))]
    finally:
        goes_on.set()
        slow.join(30)
    assert read(backend, key("a")) == LARGE


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("database:elsewhere", Misconfigured),
        ("postgresql:", Misconfigured),
        ("sqlite://", Misconfigured),
        ("sqlite:///x.db?mode=ro", Misconfigured),
        ("mysql://host/db", Misconfigured),
    ],
)
def test_what_names_no_place_is_refused(tmp_path, monkeypatch, url, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refusal, Store("store", backend=url) as store:
        store.put(b"x")
    assert refusal.value.hint.endswith(".")
    assert not (tmp_path / "store").exists()


def broken_places(root: Path) -> dict[str, tuple[str, type[CalotypeError], str]]:
    """By what is wrong: a URL, the error, and what it says."""
    server = servers.postgres()
    host = server.partition("host=")[2]
    role = f"weak_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
    here = servers.schema()
    return {
        "role": (f"postgresql://nobody:sesame@/postgres?host={host}", Misconfigured, "role"),
        "database": (f"postgresql://postgres@/none?host={host}", Misconfigured, "no such database"),
        "schema": (
            f"postgresql://postgres@/postgres?host={host}&options=-csearch_path%3Dnone",
            Misconfigured,
            "no schema that it may use",
        ),
        "rights": (
            here.replace("postgres@", f"{role}:sesame@"),
            Misconfigured,
            "no schema that it may use",
        ),
        "server": ("postgresql://ana:sesame@127.0.0.1:1/db", Unavailable, "cannot be reached"),
        "host": ("postgresql://ana:sesame@no.invalid/db", Unavailable, "cannot be reached"),
        "folder": (f"sqlite:///{root}/none/bytes.db", Unavailable, "No such file"),
    }


@pytest.mark.parametrize(
    "wrong", ["role", "database", "schema", "rights", "server", "host", "folder"]
)
def test_a_wrong_place_is_one_line_that_names_it(tmp_path, wrong):
    url, error, says = broken_places(tmp_path)[wrong]
    place = DatabaseBackend.at(url).url
    with Store(tmp_path / "store", backend=url) as store:
        with pytest.raises(error, match=says) as refusal:
            store.put(b"x")
        said = f"{refusal.value} {refusal.value.hint}"
        assert str(refusal.value).startswith(f"{place}: ")
        assert refusal.value.hint.endswith(".")
        assert "sesame" not in said
        assert "catalog" not in said


def test_no_url_shows_a_password():
    for url in ("postgresql://ana:sesame@host/db", "postgresql://ana@host/db?password=sesame"):
        assert "sesame" not in DatabaseBackend.at(url).url


def test_the_catalogs_own_file_is_no_place_of_its_own(tmp_path):
    for options in ({"path": tmp_path}, {"catalog": f"sqlite:///{tmp_path}/catalog.db"}):
        with pytest.raises(Misconfigured) as refusal:
            Store(**options, backend=f"sqlite:///{tmp_path}/catalog.db")
        assert "database:" in refusal.value.hint


def test_a_store_is_one_file(tmp_path):
    with Store(catalog=f"sqlite:///{tmp_path}/one.db", backend="database:") as store:
        digest = store.put(LARGE, owner="scan/1").digest
        assert {each.name for each in tmp_path.iterdir()} == {"one.db", "one.db-reserve"}
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "one.db").rename(tmp_path / "elsewhere" / "two.db")
    with Store(catalog=f"sqlite:///{moved}", backend="database:") as store:
        assert store.open(digest).read() == LARGE


def test_bytes_and_catalog_in_two_files_are_moved_together(tmp_path):
    (tmp_path / "a").mkdir()
    with Store(tmp_path / "a", backend=f"sqlite:///{tmp_path}/a/bytes.db") as store:
        digest = store.put(b"bytes", owner="scan/1").digest
    moved = (tmp_path / "a").rename(tmp_path / "b")
    with Store(moved, backend=f"sqlite:///{moved}/bytes.db") as store:
        assert store.open(digest).read() == b"bytes"


def test_a_database_that_lost_its_tables_is_not_taken_for_an_empty_one(tmp_path, place):
    with Store(tmp_path / "store", backend=place) as store:
        digest = store.put(b"bytes", owner="scan/1").digest
        backend = store._rooms.mounts.primary.backend
        change(backend, "DROP TABLE calotype_chunk")
        change(backend, "DROP TABLE calotype_object")
    with Store(tmp_path / "store", backend=place) as store:
        for attempt in (lambda: store.put(b"more"), lambda: store.open(digest), store.gc):
            with pytest.raises(Unavailable, match="no object") as refusal:
                attempt()
            assert "restore" in refusal.value.hint


def test_a_catalog_that_lost_its_objects_says_so(tmp_path):
    with Store(tmp_path / "store", backend="database:") as store:
        digest = store.put(b"bytes", owner="scan/1").digest
        change(store._rooms.mounts.primary.backend, "DROP TABLE calotype_chunk")
        change(store._rooms.mounts.primary.backend, "DROP TABLE calotype_object")
    with Store(tmp_path / "store", backend="database:") as store:
        for attempt in (lambda: store.put(b"more"), lambda: store.open(digest)):
            with pytest.raises(Corrupt, match="calotype_object"):
                attempt()


def test_connections_that_end_between_groups_end_no_upload():
    """A put holds none while it reads its source."""
    backend = DatabaseBackend.at(servers.schema())
    put(backend, key("b"), b"x")
    ended = []

    def end_all() -> None:
        with psycopg.connect(servers.postgres(), autocommit=True) as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            ended.extend(found.fetchall())

    backend.put(key("a"), source(LARGE, before=end_all), len(LARGE))
    assert len(ended) > 2
    assert read(backend, key("a")) == LARGE
    backend.close()


def test_a_file_that_is_made_for_bytes_is_for_this_user_alone(tmp_path):
    backend = DatabaseBackend.at(f"sqlite:///{tmp_path}/bytes.db")
    put(backend, key("a"), b"x")
    backend.close()
    assert (tmp_path / "bytes.db").stat().st_mode & 0o777 == 0o600


@mounts.needs_mounts
@pytest.mark.parametrize("own", [True, False], ids=["own", "shared"])
@pytest.mark.parametrize("size", [40_000, 3 << 20])
def test_on_a_full_disk_what_gc_frees_takes_other_bytes(tmp_path, own, size):
    disk = tmp_path / "disk"
    with mounts.small_disk(disk, "48m"):
        where = {"path": disk / "store"} if own else {"catalog": f"sqlite:///{disk}/one.db"}
        with Store(**where, backend="database:") as store:
            first = until_full(store, "first", size)
            assert left(store._rooms.mounts.primary.backend) == (0, 0)
            assert [found for found in store.fsck(read_data=True) if found.is_problem] == []
            half = len(first) // 2
            for number in range(half):
                store.release(f"first/{number}")
            assert store.gc(now=True, force=True).doomed == half
            second = until_full(store, "second", size)
            assert len(second) >= half * 9 // 10
            for digest in first[half:] + second:
                assert Digest.of(store.open(digest)) == digest


def until_full(store: Store, owner: str, size: int) -> list[Digest]:
    """Put other bytes under ``owner`` until the disk is full; their digests."""
    kept: list[Digest] = []
    with pytest.raises(Unavailable, match="full"):
        for number in count():
            content = noise(size, number) + owner.encode()
            kept.append(store.put(content, owner=f"{owner}/{number}").digest)
    return kept


def test_a_number_that_is_given_twice_is_told_in_our_words():
    """As by a sequence that a restore forgot: nothing is written over."""
    backend = DatabaseBackend.at(servers.schema())
    put(backend, key("a"), LARGE[:CHUNK])
    change(backend, "SELECT setval('calotype_object_version_seq', 1, false)")
    with pytest.raises(Corrupt, match="refused") as refusal:
        backend.put(key("b"), source(LARGE), len(LARGE))
    assert "sequence" in refusal.value.hint
    assert read(backend, key("a")) == LARGE[:CHUNK]
    assert names(backend) == [str(key("a"))]
    backend.close()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM calotype_chunk WHERE number = 1",
        "UPDATE calotype_chunk SET bytes = substr(bytes, 2) WHERE number = 1",
        "DELETE FROM calotype_chunk WHERE version IN"
        " (SELECT version FROM calotype_object WHERE name LIKE 'sha256/%')",
    ],
)
def test_lost_chunks_are_mended_by_the_next_put(tmp_path, damage):
    content = LARGE[: 2 * CHUNK]
    with Store(tmp_path / "store", backend="database:") as store:
        digest = store.put(content, owner="scan/1").digest
        change(store._rooms.mounts.primary.backend, damage)
        with pytest.raises(Corrupt, match="missing"):
            store.open(digest)
        assert store.put(content, owner="scan/1").status == "healed"
        assert store.open(digest).read() == content
        store.gc(now=True)
        assert list(store.fsck(read_data=True)) == []


def test_gc_clears_away_what_a_killed_put_left(tmp_path):
    with Store(tmp_path / "store", backend="database:") as store:
        store.put(b"bytes")
        backend = store._rooms.mounts.primary.backend
        change(backend, "INSERT INTO calotype_object (name, size, modified) VALUES (NULL, 0, 1)")
        change(
            backend,
            "INSERT INTO calotype_chunk SELECT version, 0, X'6c656674' FROM calotype_object "
            "WHERE name IS NULL",
        )
        assert left(backend) == (1, 1)
        assert store.gc().temporary == 1
        assert left(backend) == (0, 0)
