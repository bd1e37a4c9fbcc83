"""catalog copy and upgrade --sql at the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import psycopg
import pytest
from tests import servers
from tests.cli.desk import PROGRAM, Desk, as_in_a_terminal, said_in_one_line

from calotype import Store
from calotype.catalog import schema


@pytest.fixture
def there() -> str:
    """The URL of an empty schema."""
    return servers.schema()


def moved_to(desk: Desk, url: str) -> None:
    """Point the command line at the copy."""
    desk.patch.delenv("CALOTYPE_STORE")
    desk.patch.setenv("CALOTYPE_CATALOG", url)
    desk.patch.setenv("CALOTYPE_BACKENDS__MAIN__URL", f"file:{desk.folder}/store/blobs")


def test_a_catalog_is_moved_and_the_old_one_says_where(desk, there):
    digest = desk.put("a")
    planned = desk("catalog", "copy", there, "--dry-run").lines
    assert planned[0].endswith("to write, 0 to remove")
    done = desk("catalog", "copy", there).lines
    assert done[0].endswith("written, 0 removed")
    assert done[1].startswith("The catalog is in postgresql://") and done[1].endswith("at it.")
    assert "was moved to postgresql://" in said_in_one_line(desk("stats", code=1))
    assert "was moved to postgresql://" in said_in_one_line(desk("put", "a", code=1))
    assert desk("catalog", "copy", there).lines[0].startswith("0 rows")
    moved_to(desk, there)
    assert desk("get", digest).output == b"a"
    assert desk("fsck").lines[-1].endswith("all is well")


def test_for_programs_each_step_and_the_summary_is_a_line(desk, there):
    desk.put("a")
    found = desk("--json", "catalog", "copy", there).objects
    assert found[0]["event"] == "progress" and found[0]["note"].startswith("calotype_")
    assert found[-1]["event"] == "summary" and found[-1]["moved"] is True
    assert found[-1]["rows"] == found[-1]["written"] > 5
    assert "password" not in json.dumps(found)


def test_into_a_folder_and_quietly(desk):
    desk.put("a")
    assert desk("catalog", "copy", "elsewhere", "--quiet").out == ""
    with Store(desk.folder / "elsewhere", backend=f"file:{desk.folder}/store/blobs") as store:
        assert store.stats().blobs == 1


def test_what_cannot_be_is_one_line_with_its_exit_code(desk, there):
    assert "No store here" in said_in_one_line(desk("catalog", "copy", there, code=10))
    desk.put("a")
    assert "in use" in said_in_one_line(desk("catalog", "copy", "store", code=1))
    assert "Where to?" in said_in_one_line(desk("catalog", "copy", " ", code=2))
    assert "catalog copy --help" in said_in_one_line(desk("catalog", "copy", "--odd", code=2))
    said = said_in_one_line(desk("catalog", "copy", "postgresql://nobody@127.0.0.1:9/x", code=1))
    assert "cannot be reached" in said
    assert desk("stats").code == 0


def test_ctrl_c_leaves_the_old_one_in_use_and_the_same_command_goes_on(desk, there):
    with desk.store() as store:
        store.put_many([b"%d" % number for number in range(2_500)]).result()
        begun = store.copy_catalog(there)
        assert next(each.done for each in begun if each.done) < 2_500
        begun.close()
    words = [*PROGRAM, "catalog", "copy", there]
    with psycopg.connect(there) as held:
        held.execute("LOCK TABLE calotype_replica IN ACCESS EXCLUSIVE MODE")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(words, **pipes, preexec_fn=as_in_a_terminal)
        while not held.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert b"the same command goes on" in said
    assert desk("stats").code == 0
    done = desk("catalog", "copy", there, "--json").objects[-1]
    assert 0 < done["written"] < done["rows"]


def test_upgrade_sql_prints_and_changes_nothing(desk, there):
    moved_to(desk, there)
    said = desk("upgrade", "--sql").out
    assert said.startswith("BEGIN;\n") and said.endswith("COMMIT;\n")
    assert desk("upgrade", "--sql", "--json").object["sql"].startswith("BEGIN;")
    assert desk("upgrade").lines == [f"schema {schema.CURRENT}"]
    assert "nothing to do" in desk("upgrade", "--sql").out
    assert "upgrade" in said_in_one_line(desk("upgrade", "--sql", "--downgrade", "1", code=2))
    desk("upgrade", "--downgrade", "1")
    assert "calotype_import_seen" in desk("upgrade", "--sql").out


def test_upgrade_sql_of_an_sqlite_store_is_refused(desk):
    desk.put("a")
    assert "upgrades itself" in said_in_one_line(desk("upgrade", "--sql", code=1))
