"""Names: what can be imported from where, what importing it costs, and how it is called."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from dataclasses import is_dataclass

import pytest

import calotype
from calotype import Store
from calotype.scope import Scope

LOADED_ALONE = "migrations.env"
"""Alembic runs this one itself, and gives it what it needs."""

MODULES = [
    each.name
    for each in pkgutil.walk_packages(calotype.__path__, "calotype.")
    if not each.name.endswith(("__main__", LOADED_ALONE))
]
HEAVY = (
    "PIL",
    "alembic",
    "asyncio",
    "cyclopts",
    "numpy",
    "pytest",
    "rich",
    "sqlalchemy",
    "sqlite3",
)

SIGNATURES = {
    Store.__init__: "path catalog backend engine scope column_scope public_url grace erase_delay",
    Store.memory: "",
    Store.from_config: "",
    Store.scope: "name",
    Store.plan_gc: "grace erase_delay digests limit max_bytes budget full now",
    Store.gc: "grace erase_delay digests limit max_bytes budget full now force",
    Store.plan: "ident",
    Store.explain: "digest",
    Store.fsck: "read_data budget repair",
    Store.set_quota: "scope quota",
    Store.purge: "digest block",
    Store.stats: "",
    Scope.put: "source owner role filename metadata hold expect images_only",
    Scope.put_many: "sources owner hold",
    Scope.open: "digest start stop",
    Scope.stat: "digest",
    Scope.check: "digests",
    Scope.assets: "owner media_type q trashed after sort",
    Scope.owners: "kind",
    Scope.references: "owner digest",
    Scope.update: "digest filename metadata",
    Scope.renew: "digest hold",
    Scope.keep: "digest",
    Scope.url: "digest expires disposition",
    Scope.attach: "digest owner role connection",
    Scope.release: "owner role connection",
    Scope.restore: "digest owner role connection",
    Scope.discard: "digest",
    Scope.usage: "",
}
"""What applications are written against: these parameters by these names, in this order."""


def python(code: str) -> str:
    """What a fresh interpreter prints; it fails where the code does."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    """Which heavy packages are loaded once ``code`` has run."""
    return set(
        python(f"{code}\nimport sys\nfor m in {HEAVY}: m in sys.modules and print(m)").split()
    )


# Names


def test_the_package_exports_what_applications_import():
    assert {"CalotypeError", "Digest", "Scope", "Store"} == set(calotype.__all__) - {"__version__"}
    assert calotype.Store is Store
    assert calotype.Scope is Scope
    assert calotype.Digest is importlib.import_module("calotype.digest").Digest
    assert calotype.CalotypeError is importlib.import_module("calotype.errors").CalotypeError


def test_a_star_brings_these_names_and_no_others():
    space: dict[str, object] = {}
    exec("from calotype import *", space)
    assert set(space) - {"__builtins__"} == set(calotype.__all__)


def test_what_is_not_there_is_an_attribute_error_and_an_import_error():
    with pytest.raises(AttributeError, match="no attribute 'Bucket'"):
        _ = calotype.Bucket
    with pytest.raises(ImportError, match="Bucket"):
        exec("from calotype import Bucket")


@pytest.mark.parametrize("name", ["calotype", *MODULES])
def test_what_a_module_says_it_exports_is_there_once_and_in_order(name):
    module = importlib.import_module(name)
    said = list(getattr(module, "__all__", []))
    assert [each for each in said if not hasattr(module, each)] == []
    assert said == sorted(set(said))


def test_every_module_can_be_the_first_that_is_imported():
    """No module works only because another was imported before it."""
    code = f"""
import importlib, sys
failed = []
for name in {MODULES}:
    for old in [each for each in sys.modules if each.partition(".")[0] == "calotype"]:
        del sys.modules[old]
    try:
        importlib.import_module(name)
    except ImportError as error:
        if "pytest" not in str(error):
            failed.append((name, error))
print(len({MODULES}), failed)
"""
    assert python(code) == f"{len(MODULES)} []"
    assert len(MODULES) > 50


def test_the_package_is_typed():
    assert pkgutil.get_data("calotype", "py.typed") is not None


# What importing costs


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import calotype", set()),
        ("import calotype; dir(calotype), calotype.__version__", set()),
        ("from calotype import CalotypeError, Digest; Digest.of(b'')", set()),
        ("import calotype.backends.local, calotype.media", set()),
        ("import calotype.cli", set()),
        ("from calotype import Store", {"asyncio", "sqlalchemy", "sqlite3"}),
    ],
)
def test_importing_loads_no_more_than_is_needed(code, loaded):
    assert loaded_by(code) == loaded


def test_using_a_store_loads_neither_migrations_nor_images_nor_screens(tmp_path):
    code = f"""
from calotype import Store
with Store({str(tmp_path / "media")!r}) as store:
    digest = store.put(b"GIF89a" + bytes(20), owner="scan/1").digest
    store.open(digest).read(), store.release("scan/1"), store.gc(now=True), store.stats()
    list(store.fsck(read_data=True))
"""
    assert loaded_by(code) == {"asyncio", "sqlalchemy", "sqlite3"}


def test_the_listener_notices_what_is_loaded():
    assert loaded_by("import alembic.command") >= {"alembic", "sqlalchemy"}


def test_importing_is_a_few_modules():
    """About thirty of Python's own; a bound that only something new and large can pass."""
    count = int(
        python("import sys; a = len(sys.modules); import calotype; print(len(sys.modules) - a)")
    )
    assert count < 60


def test_importing_touches_no_file_but_code_and_starts_no_thread(tmp_path):
    code = f"""
import os, sys, threading
os.chdir({str(tmp_path)!r})
opened = []
def heard(event, arguments):
    if event in ("open", "socket.connect", "subprocess.Popen", "sqlite3.connect", "os.mkdir"):
        opened.append((event, str(arguments[0])))
import sqlalchemy, sqlalchemy.dialects.sqlite, sqlalchemy.dialects.postgresql  # not ours to judge
sys.addaudithook(heard)
import calotype, calotype.store, calotype.config, calotype.cli
print([each for each in opened if not each[1].endswith((".py", ".pyc", ".so"))
       and ".dist-info" not in each[1] and "pyc." not in each[1]])
print(threading.active_count())
"""
    assert python(code).splitlines() == ["[]", "1"]
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_loaded_once_by_any_number_of_threads():
    code = """
import calotype, threading
found = []
threads = [threading.Thread(target=lambda: found.append(calotype.Store)) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""
    assert python(code) == "16 1"


@pytest.mark.parametrize("name", ["model", "figures", "names", "progress", "wishes"])
def test_words_are_values_that_nobody_changes(name):
    module = importlib.import_module(f"calotype.{name}")
    words = [each for _, each in inspect.getmembers(module, is_dataclass)]
    assert words
    assert [each for each in words if not each.__dataclass_params__.frozen] == []


# How it is called


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda each: each.__qualname__)
def test_a_call_takes_these_names_in_this_order(function):
    wanted = SIGNATURES[function].split()
    taken = [
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.name != "self" and each.kind is not each.VAR_KEYWORD
    ]
    assert [name for name in taken if name in wanted] == wanted


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda each: each.__qualname__)
def test_what_else_a_call_takes_may_be_left_out(function):
    wanted = SIGNATURES[function].split()
    for each in inspect.signature(function).parameters.values():
        if each.name not in (*wanted, "self") and each.kind is not each.VAR_KEYWORD:
            assert each.default is not inspect.Parameter.empty


def test_a_scope_has_nothing_that_concerns_the_whole_store():
    parts = (each for each in Store.mro() if not issubclass(Scope, each))
    whole = {name for part in parts for name in vars(part) if not name.startswith("_")}
    assert whole >= {"gc", "plan_gc", "fsck", "explain", "purge", "set_quota", "stats"}
    assert not [name for name in whole if hasattr(Scope, name)]
