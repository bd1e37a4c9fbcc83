"""Statements for PostgreSQL: none that only SQLite knows, and none that nobody looked at.

test_statements.py compiles what the verbs run; here is what they could run besides, and that the
tour of the verbs leaves no statement out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import ClauseElement
from tests.store.listening import collected
from tests.store.pictures import noise
from tests.store.surgery import backend_of, change, findings, key_of, keys, write
from tests.store.test_statements import HOSTS, tour
from tests.store.worlds import put_at

from calotype import Digest, Store, catalog
from calotype.backends import Admission, Key
from calotype.backends.markers import MARKER
from calotype.belonging import claim_all
from calotype.catalog import garbage, holdings, homes, settings, slots, tables
from calotype.catalog.intents import Intent
from calotype.catalog.prepared import Prepared, _compiled
from calotype.errors import GcLimit, Unavailable
from calotype.gc.safety import SAFE_COUNT
from calotype.heart import BEAT, Heart
from calotype.putting import Putter

DIALECT = psycopg.dialect()
HOME = Path(catalog.__file__).parent
MODULES: list[ModuleType] = [
    importlib.import_module(each.name)
    for each in pkgutil.iter_modules(catalog.__path__, "calotype.catalog.")
]
FUNCTIONS = {"coalesce", "count", "length", "lower", "ltrim", "max", "min", "substr", "sum"}
"""Functions that both databases have and that mean the same in both."""

ONLY_SQLITE = re.compile(
    r"\bPRAGMA\b|\bpragma_|\bsqlite_(?:master|schema|sequence)\b|\bjson_each\b|\bstrftime\b|\bGLOB\b"
    r"|\bRAISE\(|\bBEGIN IMMEDIATE\b|\bINSERT OR \b|\bREPLACE INTO\b|\bVACUUM INTO\b|\browid\b"
    r"|\bIFNULL\b|\bgroup_concat\b|\bhex\(|\btotal\(|\bunixepoch\b|\bjulianday\b|\bdatetime\("
)
FOR_SQLITE = {
    "bare.py": {"_require_sound"},
    "moving.py": {"_refusing"},
    "waiting.py": {"take_write_lock", "_its_time_out_kept"},
    "among.py": {"_compile"},
    "discovery.py": {"_of_sqlite"},
    "health.py": {"*"},
    "joining.py": {"_begun", "_checked", "_whole"},
    "log.py": {"*"},
    "schema.py": {"_copy"},
    "sqlite.py": {"*"},
    "triggers.py": {"*"},
    "wal_index.py": {"*"},
}
"""Where SQLite's own words may stand: functions that are not run on PostgreSQL, or ask first."""
ITS_FUNCTIONS = {
    "health.py": {"typeof"},
    "legible.py": {"iif", "json_type", "json_valid"},
}
"""Where functions are called that only SQLite has: what they are in is not run on PostgreSQL."""


def statements_of(module: ModuleType) -> Iterator[tuple[str, ClauseElement]]:
    """Every statement that a module has made by the time it is imported, and its name."""
    for name, value in vars(module).items():
        for each in value if isinstance(value, list | tuple) else [value]:
            statement = each._statement if isinstance(each, Prepared) else each
            if isinstance(statement, ClauseElement):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", statement


MADE = [
    pytest.param(statement, id=name)
    for module in MODULES
    if module is not tables
    for name, statement in statements_of(module)
]


def text(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True}))


def test_the_statements_are_found():
    assert len(MADE) > 25


@pytest.mark.parametrize("statement", MADE)
def test_a_statement_made_beforehand_compiles_for_postgresql(statement):
    said = text(statement)
    assert not ONLY_SQLITE.search(said)
    assert "?" not in re.sub(r"'[^']*'", "", said)


@pytest.mark.parametrize("statement", MADE)
def test_a_prepared_statement_asks_for_the_same_parameters_on_both(statement):
    here = _compiled(statement, sqlite_dialect.dialect())
    there = _compiled(statement, DIALECT)
    asked = set(re.findall(r"%\((\w+)\)s", there.sql))
    assert asked == set(there.constants)
    assert {*(here.order or ()), *here.constants} == asked
    assert (here.lists_as_json, there.lists_as_json) == (True, False)


def test_a_list_is_an_array_to_postgresql():
    from calotype.catalog.among import among_given

    statement = select(tables.asset.c.digest).where(among_given(tables.asset.c.digest, "digests"))
    made = _compiled(statement, DIALECT)
    assert "= ANY" in made.sql
    assert made.fill({"digests": ("a", "b")}) == {"digests": ["a", "b"]}


def test_the_pattern_knows_sqlites_words():
    assert ONLY_SQLITE.search(text(select(func.hex(bindparam("x")))))
    assert not ONLY_SQLITE.search("SELECT coalesce(max(size), 0) FROM calotype_blob -- rows")


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_only_functions_that_both_databases_have_are_called(path):
    called = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "func"
    }
    assert called - FUNCTIONS == ITS_FUNCTIONS.get(str(path.relative_to(HOME)), set())


@pytest.mark.parametrize("path", sorted(HOME.rglob("*.py")), ids=lambda p: str(p.relative_to(HOME)))
def test_words_that_only_sqlite_knows_stand_where_only_sqlite_comes(path):
    name = str(path.relative_to(HOME))
    allowed = FOR_SQLITE.get(name, set())
    found = {where for where, _ in only_sqlite(ast.parse(path.read_text()))}
    assert "*" in allowed or found <= allowed


def test_the_places_that_are_allowed_still_need_it():
    for name, places in FOR_SQLITE.items():
        path = HOME / name
        found = {where for where, _ in only_sqlite(ast.parse(path.read_text()))}
        assert found
        assert "*" in places or found == places, name


def only_sqlite(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(outermost function or "", text) of each string with SQLite's words that is not for people."""
    people = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            people.add(id(node.value))
        if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "hint"):
            people |= {id(each) for each in ast.walk(node)}
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_SIGNS":
            people |= {id(each) for each in ast.walk(node)}
    for top in (each for node in tree.body for each in _outermost(node)):
        for node in ast.walk(top):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if id(node) not in people and ONLY_SQLITE.search(node.value):
                    yield getattr(top, "name", ""), node.value


def _outermost(node: ast.stmt) -> list[ast.stmt]:
    return node.body if isinstance(node, ast.ClassDef) else [node]


# Nothing is left out


COPYING = {
    "calotype.catalog.bare",
    "calotype.catalog.left_behind",
    "calotype.catalog.merging",
    "calotype.catalog.moving",
}
"""What a copy of the catalog asks; test_catalog_copy.py runs all of it on a real server."""

NOT_FOR_POSTGRESQL = {
    "calotype.catalog.sqlite",
    "calotype.catalog.triggers",
    "calotype.catalog.health",
    "calotype.catalog.schema",
    "calotype.catalog.joining",
    "calotype.catalog.log",
    "calotype.catalog.discovery",
    "calotype.catalog.prepared",
    "calotype.catalog.migrations",
    "calotype.catalog.borrowing",
    "calotype.catalog.postgres_triggers",
    "calotype.catalog.savepoints",
    "calotype.catalog.wal_index",
    "calotype.catalog.database",
    "calotype.catalog.embedded",
    *COPYING,
}
"""Modules without statements of Core, and what runs on a connection given by an application."""


ONLY_POSTGRESQL = {
    "calotype.catalog.postgres._lead_back",
    "calotype.catalog.garbage._locked",
    "calotype.catalog.database.Database.joining",
    "calotype.catalog.embedded.Embedded.joining",
}
"""What SQLite never asks; tests/store runs it on a real server."""


def askers() -> dict[CodeType, str]:
    """Every function and method of the catalog's rooms that runs statements on a connection."""
    found = {}
    for module in MODULES:
        for owner in (module, *_classes(module)):
            for value in vars(owner).values():
                if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                    if "connection" in inspect.signature(value).parameters:
                        found[value.__code__] = f"{module.__name__}.{value.__qualname__}"
    elsewhere = (*NOT_FOR_POSTGRESQL, *ONLY_POSTGRESQL)
    return {code: name for code, name in found.items() if not name.startswith(elsewhere)}


def _classes(module: ModuleType) -> list[type]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__
    ]


@contextmanager
def called() -> Iterator[set[CodeType]]:
    """The code of every function that is entered meanwhile, on this thread."""
    entered: set[CodeType] = set()
    before: Callable[..., object] | None = sys.getprofile()
    sys.setprofile(lambda frame, *_: entered.add(frame.f_code))
    try:
        yield entered
    finally:
        sys.setprofile(before)


def fails_first(error: Exception, real):
    """The first call raises."""
    errors = [error]

    def call(*arguments):
        if errors:
            raise errors.pop()
        return real(*arguments)

    return call


def moves_on(store: Store, folder: Path) -> None:
    """To another backend, and away from it again."""
    store.backends.add("two", f"file:{folder}/two")
    store.put(noise(30, 77))
    store.backends.copy("two").result()
    store.backends.primary("two")
    store.backends.drop("main")
    store.backends.add("three", f"file:{folder}/three")
    assert store.backends.drop("three", abandon=True).removed
    rooms = store._rooms
    intent = [Intent(Digest.of(b"late"), Key(Digest.of(b"late")), "0" * 16)]
    heart = Heart(rooms.catalog, intent)
    heart._last -= 2 * BEAT
    heart.beat()


def detours(store: Store) -> None:
    """What happens only when something else went wrong before."""
    kind = type(backend_of(store))
    for withdraws in (True, False):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(kind, "put", fails)
            if not withdraws:
                patched.setattr(Putter, "withdraw", lambda *_: None)
            with pytest.raises(Unavailable):
                store.put(b"never kept")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kind, "vacant", lambda _: True, raising=False)
        with pytest.raises(Unavailable, match="no object"):
            store.fsck().result()
    full = Unavailable("The disk is full.")
    full.__cause__ = sqlite3.OperationalError("database or disk is full")
    parts = store.put(b"let go in parts", owner="scan/2").digest
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slots, "release", fails_first(full, slots.release))
        assert store.release("scan/2").references == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(garbage, "collect_assets", fails_first(full, garbage.collect_assets))
        assert store.gc(now=True, digests=[parts]).doomed == 1
    change(store, "DROP INDEX calotype_replica_digest")
    store.fsck(repair=True).result()
    with store._rooms.catalog.write() as connection:
        holdings.hold_what_nobody_has(connection, 0)
    store._rooms.catalog.clock.advance(seconds=16 * 60)
    assert store.gc().intents >= 1
    digest = store.put(b"written late", owner="scan/1").digest
    key = key_of(store, digest)
    store.release("scan/1")
    store.gc(now=True)
    store._rooms.catalog.clock.advance(days=2)
    store.gc(now=True)
    write(store, key, b"written late")
    write(store, Key(Digest.of(b"a stray")), b"a stray")
    store.set_quota("ana", 100)
    change(store, "UPDATE calotype_scope SET used = used + 1")
    change(store, "UPDATE calotype_replica SET suspect_at = 1 WHERE state = 'live'")
    forgotten = store.put(b"let go of, and no date", hold="0").digest
    store.gc(grace="0", erase_delay="1d", digests=[forgotten])
    change(store, "UPDATE calotype_replica SET due_at = NULL WHERE digest = ?", forgotten)
    assert {"stray", "drift", "leak"} <= {each.kind for each in findings(store, repair=True)}
    store.put_many([noise(9, number) for number in range(SAFE_COUNT + 1)], "set/1").result()
    store.release("set/1")
    with pytest.raises(GcLimit):
        store.gc(now=True)


def fails(*_: object) -> None:
    raise Unavailable("The disk is gone.")


def moves_in(store: Store, folder: Path) -> None:
    """A tree of two files, again, and again without one of them."""
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    for owner in (None, "tree/1"):
        for _ in range(2):
            store.import_tree(folder, owner).result()
    (folder / "a").unlink()
    assert store.import_tree(folder, "tree/1").result().unchanged == 1


def sends(store: Store) -> None:
    """A direct upload, to a backend that takes it on our word."""

    def admit(key: Key, size: int, media_type: str, until: int) -> Admission:
        return Admission("PUT", "", {}, until)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backend_of(store), "admit", admit, raising=False)
        upload = store.direct_upload(Digest.of(b"sent"), 4, "text/plain")
        [key] = keys(store, Digest.of(b"sent"), "writing")
        write(store, key, b"sent")
        assert store.complete(upload.id).status == "created"


def recovers(store: Store) -> None:
    """A marker that is gone, a home that nobody noted, bytes without a row."""
    backend = backend_of(store)
    gone = store.put(b"to be erased", owner="scan/9").digest
    store.release("scan/9")
    store.gc(now=True, digests=[gone])
    backend.delete_note(MARKER)
    put_at(store, Digest.of(b"stray"), b"stray")
    with store._rooms.catalog.write() as connection:
        homes.leave(connection, "elsewhere")
        settings.forget_meta(connection, homes.HOME)
    assert "adopted" in [each.kind for each in store.fsck(recover=True)]
    claim_all(store._rooms.catalog, store._rooms.mounts)
    with store._rooms.catalog.read() as connection:
        assert homes.is_settled(connection)


def test_every_function_that_asks_the_catalog_is_run_and_what_it_says_compiles(clock, tmp_path):
    with Store.memory(clock=clock, public_url="https://p.example") as store:
        store.put(b"first")
        for statement in HOSTS:
            change(store, statement)
        with collected(store) as statements, called() as entered:
            tour(store)
            detours(store)
            sends(store)
            moves_in(store, tmp_path)
            recovers(store)
            moves_on(store, tmp_path)
    known = askers()
    left = sorted(name for code, name in known.items() if code not in entered)
    assert len(known) > 60
    assert not left, left
    assert [said for said in map(text, statements) if ONLY_SQLITE.search(said)] == []


# Tables


def test_every_table_says_the_same_to_both_databases():
    """The same columns, nullable or not, with the same defaults and constraints."""
    for table in tables.metadata.sorted_tables:
        here = str(CreateTable(table).compile(dialect=sqlite_dialect.dialect()))
        there = str(CreateTable(table).compile(dialect=DIALECT))
        for column in table.columns:
            assert (f"{column.name} " in there) or (f'"{column.name}" ' in there)
        for said in ("NOT NULL", "DEFAULT", "CONSTRAINT", "FOREIGN KEY", "ON DELETE", "CHECK"):
            assert here.count(said) == there.count(said), (table.name, said)


def test_no_number_is_too_small_for_what_sqlite_lets_in():
    """SQLite's INTEGER has 64 bits whatever it is called; PostgreSQL's has 32."""
    small = {
        f"{table.name}.{column.name}"
        for table in tables.metadata.sorted_tables
        for column in table.columns
        if re.fullmatch("INTEGER", column.type.compile(DIALECT))
    }
    assert small == {
        "calotype_backend.epoch",
        "calotype_blob.height",
        "calotype_blob.width",
        "calotype_derivation.attempts",
        "calotype_provider_upload.attempt",
        "calotype_replica.attempts",
    }


def test_no_name_is_longer_than_postgresql_keeps():
    """It cuts names at 63 bytes, and two may then be the same."""
    for table in tables.metadata.sorted_tables:
        names = [table.name, *(c.name for c in table.columns), *(i.name for i in table.indexes)]
        names += [str(each.name) for each in table.constraints if each.name]
        assert [name for name in names if len(name.encode()) > 63] == []


def test_what_is_compared_or_sorted_as_text_is_compared_bytewise_on_both():
    """A collation of a language sorts pages otherwise than SQLite, and digests slower."""
    for table in tables.metadata.sorted_tables:
        for column in (*table.primary_key.columns, *(c for i in table.indexes for c in i.columns)):
            if column.type.python_type is str:
                assert 'COLLATE "C"' in column.type.compile(DIALECT), f"{table.name}.{column.name}"
