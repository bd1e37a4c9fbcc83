"""init, upgrade, doctor: the store itself."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests import servers
from tests.cli.desk import said_in_one_line
from tests.mounts import fill_up, small_disk
from tests.store.surgery import harm_page

from calotype.catalog import schema


def test_init_makes_a_store(desk):
    done = desk("init", "media")
    assert done.out == f"A store in {desk.folder}/media\n"
    made = {path.name for path in (desk.folder / "media").iterdir()}
    assert {"calotype.toml", "catalog.db"} <= made
    assert (desk.folder / "media").stat().st_mode & 0o777 == 0o700
    desk("--store", "media", "fsck")


@pytest.mark.mounts
def test_init_on_a_full_disk_leaves_no_half_of_a_file_that_shuts_the_store(desk):
    disk = desk.folder / "disk"
    with small_disk(disk, "16m"):
        desk("--store", "disk/store", "put", desk.file("a"))
        fill_up(disk / "zeros")
        said = said_in_one_line(desk("init", "disk/store", code=1))
        assert "calotype.toml" in said and "No space left" in said
        assert not list((disk / "store").glob("*calotype.toml*")) + list(disk.glob("store/*.part"))
        desk("--store", "disk/store", "ls")
        (disk / "zeros").unlink()
        desk("init", "disk/store")
        assert "[gc]" in (disk / "store/calotype.toml").read_text()


def test_init_here_is_found_from_below(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    assert desk("init", "--json").object == {"store": str(desk.folder)}
    (desk.folder / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(desk.folder / "deep/er")
    (desk.folder / "deep/er/a").write_bytes(b"a")
    desk("put", "a")
    assert desk.names() == ["a"]


def test_init_again_changes_nothing(desk):
    desk("init", "store")
    desk.put("a")
    text = (desk.folder / "store/calotype.toml").read_text() + "scope = 'default'\n"
    (desk.folder / "store/calotype.toml").write_text(
        text.replace("[gc]", "").replace("grace", "# ")
    )
    kept = (desk.folder / "store/calotype.toml").read_text()
    desk("init", "store")
    assert (desk.folder / "store/calotype.toml").read_text() == kept
    assert desk.names() == ["a"]


def test_init_where_no_folder_can_be(desk):
    desk.file("a")
    assert "a/b" in said_in_one_line(desk("init", "a/b", code=1))


def test_upgrade_of_a_current_store_does_nothing(desk):
    desk.put("a")
    before = sorted((desk.folder / "store").iterdir())
    assert desk("upgrade").out == f"schema {schema.CURRENT}\n"
    assert desk("upgrade", "--json").object == {"schema": f"{schema.CURRENT}", "copy": None}
    assert sorted((desk.folder / "store").iterdir()) == before


def test_upgrade_makes_no_store(desk):
    assert "No store here" in said_in_one_line(desk("upgrade", code=10))
    desk("upgrade", "--downgrade", "base", "--yes", code=10)
    assert not (desk.folder / "store").exists()


def test_a_downgrade_copies_first_and_the_copy_goes_back(desk):
    desk.put("a")
    found = desk("upgrade", "--downgrade", "base", "--json", "--yes").object
    assert found["schema"] == "base"
    with sqlite3.connect(found["copy"]) as copy:
        assert copy.execute("SELECT count(*) FROM calotype_blob").fetchone() == (1,)
    copy.close()
    assert "use a copy" in desk("ls", code=4).err
    desk("upgrade", "--downgrade", "base", "--yes", code=4)
    assert "use a copy" in desk("upgrade", code=4).err
    Path(found["copy"]).replace(desk.folder / "store/catalog.db")
    assert desk("upgrade").out == f"schema {schema.CURRENT}\n"
    assert desk.names() == ["a"]


def test_a_dry_run_tells_the_schemas_and_changes_nothing(desk):
    assert "No store here" in said_in_one_line(desk("upgrade", "--dry-run", code=10))
    desk.put("a")
    now = schema.CURRENT
    assert desk("upgrade", "--downgrade", "base", "--dry-run").out == f"schema {now} -> base\n"
    assert desk.names() == ["a"]
    desk("upgrade", "--downgrade", f"{now - 1}")
    found = desk("upgrade", "--dry-run", "--json").object
    assert found == {"schema": str(now - 1), "wanted": str(now)}
    assert desk("upgrade", "--dry-run").out == f"schema {now - 1} -> {now}\n"


def test_a_dry_run_refuses_what_would_be_refused(desk, tmp_path, monkeypatch):
    desk.put("a")
    catalog = desk.folder / "store/catalog.db"
    with closing(sqlite3.connect(catalog)) as raw:
        for number in ("0099", "0002", "0"):
            raw.execute("UPDATE calotype_version SET version_num = ?", [number])
            raw.commit()
            for words in (["--downgrade", "3"], ["--downgrade", "3", "--dry-run"]):
                said = said_in_one_line(desk("upgrade", *words, code=4))
                assert f"it says {number}, where calotype_meta says {schema.CURRENT}" in said
        raw.execute("DELETE FROM calotype_version")
        raw.commit()
    for words in (["--downgrade", "3"], ["--downgrade", "3", "--dry-run"]):
        assert "it is empty" in said_in_one_line(desk("upgrade", *words, code=4))
    with closing(sqlite3.connect(tmp_path / "app.db")) as raw:
        raw.execute("CREATE TABLE t (a)")
        raw.commit()
    monkeypatch.delenv("CALOTYPE_STORE")
    settings = f'catalog = "sqlite:///{tmp_path}/app.db"\n[backends.main]\nurl = "file:media"\n'
    desk.file("calotype.toml", settings.encode())
    for words in (["--downgrade", "3"], ["--downgrade", "3", "--dry-run"]):
        desk("upgrade", *words, code=10)


def test_a_dry_run_sees_that_no_tables_may_be_made(desk):
    url, clerk = servers.schema(), f"clerk_{os.urandom(4).hex()}"
    with psycopg.connect(url) as raw:
        raw.execute(f"CREATE ROLE {clerk} LOGIN")
        raw.execute(f"GRANT USAGE ON SCHEMA {url.rpartition('%3D')[2]} TO {clerk}")
    desk.patch.delenv("CALOTYPE_STORE")
    desk.patch.setenv("CALOTYPE_CATALOG", url.replace("postgres@", f"{clerk}@"))
    desk.patch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:bytes")
    for words in ([], ["--dry-run"]):
        said = said_in_one_line(desk("upgrade", *words, code=1))
        assert "permission denied for schema" in said
    assert list(desk.folder.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_bytes_that_the_catalog_does_not_speak_of_are_refused_by_an_upgrade(desk, words):
    desk.put("a")
    desk.patch.delenv("CALOTYPE_STORE")
    desk.patch.setenv("CALOTYPE_CATALOG", f"sqlite:///{desk.folder}/store/catalog.db")
    desk.patch.setenv("CALOTYPE_BACKENDS__MAIN__URL", f"file:{desk.folder}/elsewhere")
    assert "keeps its bytes in" in said_in_one_line(desk("upgrade", *words, code=1))


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--downgrade", "3", "--dry-run"]])
def test_a_newer_catalog_is_neither_upgraded_nor_planned_for(desk, words):
    desk.put("a")
    newer = schema.CURRENT + 1
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as raw:
        raw.execute("UPDATE calotype_meta SET value = ? WHERE key = 'schema'", [str(newer)])
        raw.commit()
    said = said_in_one_line(desk("upgrade", *words, code=1))
    assert f"has schema {newer}" in said and "pip install -U calotype" in said


def test_a_dry_run_sees_that_the_catalog_is_lost(desk):
    desk.put("a")
    desk("upgrade", "--downgrade", "base", "--yes")
    assert "use a copy" in said_in_one_line(desk("upgrade", "--dry-run", code=4))


@pytest.mark.parametrize("revision", [f"{schema.CURRENT}", f"{schema.CURRENT:04}"])
def test_a_revision_is_named_with_or_without_its_zeros(desk, revision):
    desk.put("a")
    found = desk("upgrade", "--downgrade", revision, "--json").object
    assert found["schema"] == f"{schema.CURRENT}"
    assert desk.names() == ["a"]


def test_what_was_downgraded_stays_so_until_somebody_uses_it(desk):
    desk.put("a")
    desk("upgrade", "--downgrade", f"{schema.CURRENT - 1}")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as raw:
        found = raw.execute("SELECT value FROM calotype_meta WHERE key = 'schema'").fetchone()
    assert found == (str(schema.CURRENT - 1),)
    assert desk.names() == ["a"]


@pytest.mark.parametrize("revision", [f"{schema.CURRENT + 1}", "-1", "0", "head", ""])
def test_a_revision_that_does_not_exist_is_a_wrong_command(desk, revision):
    desk.put("a")
    assert "No such revision" in said_in_one_line(
        desk("upgrade", f"--downgrade={revision}", code=2)
    )
    assert desk.names() == ["a"]


def test_doctor_looks_around(desk):
    desk.put("a")
    assert {line.split()[0] for line in desk("doctor").lines} <= {"ok", "warn"}
    remarks = desk("doctor", "--json").objects
    assert {"sqlite", "disk", "triggers", "columns"} <= {each["subject"] for each in remarks}
    assert all(set(each) == {"level", "subject", "note", "cure"} for each in remarks)


@pytest.mark.parametrize("lost", ["TABLE calotype_replica", "INDEX calotype_asset_recent"])
def test_a_lost_table_or_index_is_told_by_doctor_and_never_no_store(desk, lost):
    desk.put("a")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as raw:
        raw.execute(f"DROP {lost}")
    assert f"{lost.partition(' ')[2]} is lost" in desk("doctor", code=4).out
    if lost.startswith("TABLE"):
        assert "A table of the catalog" in desk("put", desk.file("b"), code=4).err


@pytest.mark.parametrize("where", ["circle", "circle/store", "a/store", "x" * 300])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["doctor", "--store", "{}"], 4),
        (["upgrade", "--dry-run", "--store", "{}"], 1),
        (["upgrade", "--store", "{}"], 1),
        (["catalog", "copy", "{}", "--store", "good"], 1),
    ],
)
def test_where_no_store_can_be_is_told_in_a_line(desk, words, code, where):
    desk("init", "good")
    desk.file("a")
    (desk.folder / "circle").symlink_to("circle")
    done = desk(*[word.format(where) for word in words], code=code)
    assert where in done.err + done.out
    assert "Traceback" not in done.err


def test_doctor_tells_that_the_folder_of_the_bytes_is_away(desk):
    desk.put("a")
    (desk.folder / "store/blobs").rename(desk.folder / "away")
    assert "no object in" in desk("doctor", code=4).out


def test_doctor_makes_lost_triggers_again(desk):
    desk.put("a")
    catalog = sqlite3.connect(desk.folder / "store/catalog.db")
    (name,) = catalog.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()
    catalog.execute(f"DROP TRIGGER {name}")
    catalog.close()
    warned = {each["subject"]: each["level"] for each in desk("doctor", "--json").objects}
    assert warned["triggers"] == "warn"
    again = {each["subject"]: each["level"] for each in desk("doctor", "--json").objects}
    assert again["triggers"] == "ok"


def test_doctor_tells_that_the_catalog_is_damaged(desk):
    desk.put("a")
    harm_page(desk.folder / "store/catalog.db")
    (failed,) = [
        each for each in desk("doctor", "--json", code=4).objects if each["level"] == "fail"
    ]
    assert failed["subject"] == "catalog" and "the catalog is damaged" in failed["note"]
    assert failed["cure"]


def test_doctor_tells_how_a_column_of_the_application_gets_its_index(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    desk.file(
        "calotype.toml", b'catalog = "sqlite:///app.db"\n[backends.main]\nurl = "file:blobs"\n'
    )
    desk.put("a")
    with closing(sqlite3.connect(desk.folder / "app.db")) as app:
        app.execute("CREATE TABLE photo (sha TEXT REFERENCES calotype_blob(digest))")
        (warned,) = settings(desk)
        assert "photo.sha" in warned["note"]
        assert warned["cure"].startswith("CREATE INDEX")
        app.execute(warned["cure"])
    assert settings(desk) == []


def settings(desk):
    """What the doctor has to say of settings."""
    return [each for each in desk("doctor", "--json").objects if each["subject"] == "settings"]


def test_doctor_fails_where_a_column_of_the_application_cascades(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    desk.file(
        "calotype.toml", b'catalog = "sqlite:///app.db"\n[backends.main]\nurl = "file:blobs"\n'
    )
    desk.put("a")
    with sqlite3.connect(desk.folder / "app.db") as app:
        app.execute(
            "CREATE TABLE photo (id INTEGER PRIMARY KEY, sha TEXT REFERENCES "
            "calotype_blob(digest) ON DELETE CASCADE)"
        )
    app.close()
    found = desk("doctor", "--json", code=4).objects
    (failed,) = [each for each in found if each["level"] == "fail"]
    assert failed["subject"] == "columns" and "photo" in failed["note"] and failed["cure"]


def test_going_back_to_base_asks_first(desk):
    desk.put("a")
    said = desk("upgrade", "--downgrade", "base", code=3).err
    assert "--yes" in said and "every row goes" in said
    assert desk.names() == ["a"]


@pytest.mark.parametrize("how", ["before", "after", "variable"])
def test_init_makes_the_store_that_is_named(desk, how, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    words = {"before": ["--store", "x", "init"], "after": ["init", "--store", "x"]}
    if how == "variable":
        monkeypatch.setenv("CALOTYPE_STORE", "x")
    desk(*words.get(how, ["init"]))
    assert (desk.folder / "x/calotype.toml").is_file()
    assert not (desk.folder / "calotype.toml").exists()
    desk("init", "y", "--store", "x", code=2)


@pytest.mark.parametrize("number", ["0000", "9999x"])
def test_a_catalog_of_no_known_revision_is_left_alone(desk, number):
    desk.put("a")
    file = desk.folder / "store/catalog.db"
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE calotype_version SET version_num = ?", (number,))
        raw.execute("UPDATE calotype_meta SET value = '0' WHERE key = 'schema'")
    raw.close()
    for words in (["ls"], ["upgrade"], ["put", "a"]):
        assert "nothing was changed" in said_in_one_line(desk(*words, code=4))


@pytest.mark.parametrize("command", ["ls", "fsck", "doctor", "stats"])
def test_a_catalog_that_was_lost_is_not_taken_for_none(desk, command):
    desk.put("a")
    (desk.folder / "store/catalog.db").unlink()
    assert "move it back" in said_in_one_line(desk(command, code=4))


def test_the_catalog_is_for_this_user_alone(desk):
    (desk.folder / "shared").mkdir(mode=0o755)
    desk("init", "shared")
    assert (desk.folder / "shared/catalog.db").stat().st_mode & 0o777 == 0o600


def test_fsck_notices_a_lost_revision(desk):
    desk.put("a")
    with sqlite3.connect(desk.folder / "store/catalog.db") as raw:
        raw.execute("DELETE FROM calotype_version")
    raw.close()
    assert "revision" in desk("fsck", code=4).out
    assert "nothing was changed" in desk("upgrade", "--downgrade", "base", "--yes", code=4).err
