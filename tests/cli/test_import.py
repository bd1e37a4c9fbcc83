"""import: whole trees in, from the shell."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess

import pytest
from tests.cli.desk import PROGRAM, said_in_one_line

from calotype import Digest


@pytest.fixture
def tree(desk):
    """Three files, two of them the same, and an empty one."""
    root = desk.folder / "tree"
    (root / "sub").mkdir(parents=True)
    for name, data in {"a": b"a", "sub/b": b"b", "sub/c": b"a", "e": b""}.items():
        (root / name).write_bytes(data)
    return root


def test_a_tree_goes_in_and_again_nothing_is_read(desk, tree):
    assert desk("import", tree, "--owner", "d/1").out == (
        "3 files, 3 B taken in: 2 created, 1 duplicate; passed over: 1 empty\n"
    )
    assert desk("import", "tree", "--owner", "d/1").out == (
        "3 files: 3 unchanged; passed over: 1 empty\n"
    )
    found = desk("import", "tree", "--owner", "d/1", "--again", "--json").objects
    assert {each["event"] for each in found} == {"progress", "summary"}
    assert found[-1] == {
        "event": "summary",
        "unchanged": 0,
        "created": 0,
        "duplicate": 3,
        "restored": 0,
        "healed": 0,
        "bytes": 3,
        "empty": 1,
        "hidden": 0,
        "special": 0,
        "removed": 0,
        "failed": 0,
    }


def test_what_fails_is_listed_and_fed_back(desk, tree):
    (tree / "broken").symlink_to("nowhere")
    done = desk("import", tree, "--owner", "d/1", "--failures", "failed.jsonl", code=3)
    assert "A broken symlink" in done.err
    assert done.out.endswith("2 created, 1 duplicate, 1 failed; passed over: 1 empty\n")
    (listed,) = (desk.folder / "failed.jsonl").read_text().splitlines()
    assert json.loads(listed)["source"] == str(tree / "broken")
    (tree / "broken").unlink()
    (tree / "broken").write_bytes(b"mended")
    again = desk("import", tree, "--owner", "d/1", "--from", "failed.jsonl")
    assert again.out == "1 file, 6 B taken in: 1 created\n"
    with desk.store() as store:
        assert "broken" in [each.role for each in store.references(owner="d/1")]


def test_all_failed_is_an_error(desk):
    (desk.folder / "tree").mkdir()
    (desk.folder / "tree/broken").symlink_to("nowhere")
    desk("import", "tree", code=1)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["nowhere"], "No such folder", 5),
        (["a"], "is a file", 1),
        (["tree", "--owner", "nobody"], "--owner: Not an owner", 2),
        (["tree", "--again", "--resume"], "Give one of them", 2),
        (["tree", "--map", "nowhere.csv"], "Cannot read 'nowhere.csv'", 1),
        (["tree", "--from", "nowhere.jsonl"], "Cannot read 'nowhere.jsonl'", 2),
        ([], "import", 2),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(desk, tree, words, said, code):
    desk.file("a")
    assert said in said_in_one_line(desk("import", *words, code=code))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_the_same_command_goes_on(desk, how):
    root = desk.folder / "many"
    for number in range(3000):
        path = root / f"{number % 50}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % (number % 2000))
    command = [*PROGRAM, "import", "many", "--owner", "d/1"]
    rounds = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        rounds += 1
        try:
            process.wait(0.5 + 0.25 * rounds)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        said = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode in (-how, 130), said
        with desk.store() as store:
            assert store.fsck().result().problems == 0
    with desk.store() as store:
        assert len(list(store.references(owner="d/1"))) == 3000
        store.gc(now=True)
        assert store.stats().blobs == 2000
        assert store.fsck().result().problems == 0
    assert "3000 unchanged" in desk("import", "many", "--owner", "d/1").out


def test_two_processes_import_overlapping_trees_at_once(desk):
    """Half of what each has the other one has as well, and begins with or ends with."""
    files = {f"{number % 20:02}/{number}": b"%d" % (number % 350) for number in range(500)}
    for tree, mine in (("one", range(15)), ("two", range(5, 20))):
        for name, data in files.items():
            if int(name[:2]) in mine:
                path = desk.folder / tree / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    commands = [[*PROGRAM, "import", tree, "--owner", f"d/{tree}"] for tree in ("one", "two")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in processes:
        said = process.communicate(timeout=100)
        assert process.returncode == 0, said
    with desk.store() as store:
        for tree in ("one", "two"):
            given = {
                str(each.relative_to(desk.folder / tree)): each
                for each in (desk.folder / tree).rglob("*")
                if each.is_file()
            }
            found = {each.role: each.digest for each in store.references(owner=f"d/{tree}")}
            assert found == {role: Digest.of(path) for role, path in given.items()}
            assert len(found) == 375
        store.gc(now=True)
        assert store.stats().blobs == 350
        assert store.fsck(read_data=True).result().problems == 0


def test_a_map_of_owners(desk, tree):
    desk.file("links.csv", b"path,owner,role\na,scan/1,original\n")
    desk("import", "tree", "--map", "links.csv")
    with desk.store() as store:
        assert [each.role for each in store.references(owner="scan/1")] == ["original"]
        assert store.stats().references == 1


def test_the_rows_of_a_table(desk, tree):
    with sqlite3.connect(desk.folder / "app.db") as app:
        app.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, digest TEXT)")
        app.executemany("INSERT INTO images (path) VALUES (?)", [("a",), ("sub/b",), ("gone",)])
    app.close()
    command = ["import", "table:sqlite:///app.db", "--table", "images", "--path-column", "path"]
    more = ["--digest-column", "digest", "--owner", "image/{id}", "--root", "tree"]
    planned = desk(*command, *more, "--remove-sources", "--dry-run").lines
    assert planned[0].split() == ["once", "imported", "images[id=1]", "a"]
    assert planned[-1] == "3 sources would be removed"
    assert not (desk.folder / "store").exists()
    done = desk(*command, *more, "--remove-sources", code=3)
    assert "2 created, 1 failed; 2 sources removed" in done.out
    assert "images[id=3]" in done.err
    assert not (tree / "a").exists() and (tree / "sub/c").exists()
    assert "0 sources" not in desk(*command, *more, "--remove-sources", code=1).out
    (tree / "gone").write_bytes(b"found")
    assert "1 created" in desk(*command, *more).out
    assert "nothing to do" in desk(*command, *more).out


def test_the_bytes_of_a_table(desk):
    with sqlite3.connect(desk.folder / "app.db") as app:
        app.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, content BLOB)")
        app.executemany("INSERT INTO images (content) VALUES (?)", [(b"one",), (b"two",)])
    app.close()
    command = ["import", "table:sqlite:///app.db", "--table", "images", "--owner", "image/{id}"]
    assert "2 created" in desk(*command, "--bytes-column", "content").out
    with desk.store() as store:
        (kept,) = store.references(owner="image/2")
        assert kept.digest == Digest.of(b"two")


def test_sources_that_were_removed_beside_one_that_failed_are_a_part(desk, tree):
    with sqlite3.connect(desk.folder / "app.db") as app:
        app.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, digest TEXT)")
        app.executemany("INSERT INTO images (path) VALUES (?)", [("a",), ("gone",)])
    app.close()
    command = ["import", "table:sqlite:///app.db", "--table", "images", "--path-column", "path"]
    command += ["--digest-column", "digest", "--owner", "image/{id}", "--root", "tree"]
    assert "1 created, 1 failed" in desk(*command, code=3).out
    assert desk(*command, "--remove-sources", code=3).out == (
        "1 file: 1 failed; 1 source removed\n"
    )


def test_a_list_that_cannot_be_written_is_told_before_anything_is_imported(desk, tree):
    (tree / "broken").symlink_to("nowhere")
    told = said_in_one_line(desk("import", tree, "--failures", "nowhere/list", code=2))
    assert "--failures: Cannot write 'nowhere/list'" in told
    assert not (desk.folder / "store").exists()


def test_a_url_that_is_none_is_an_error_in_words(desk):
    command = ["import", "table:postgresql://u:secret@h:abc/db", "--table", "t"]
    said = said_in_one_line(desk(*command, "--path-column", "path", code=1))
    assert "Not a database" in said and "secret" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table:sqlite:///app.db"], "Which table?"),
        (["tree", "--table", "images"], "--table is for a table"),
        (["tree", "--dry-run"], "--dry-run is for a table"),
        (["table:sqlite:///app.db", "--table", "t", "--again"], "are for a folder"),
    ],
)
def test_options_of_the_other_kind_are_refused(desk, tree, words, said):
    assert said in said_in_one_line(desk("import", *words, code=2))


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("s3://bucket/x", "does not read s3:// yet", "Copy the files"),
        ("sqlite:///app.db", "only folders and tables", "table:sqlite:///app.db"),
        ("file:///photos", "only folders and tables", "the folder's path"),
    ],
)
def test_urls_are_no_folders(desk, source, said, hint):
    told = said_in_one_line(desk("import", source, code=2))
    assert said in told and hint in told
    (desk.folder / "s3:" / "bucket").mkdir(parents=True)
    desk("import", "s3://bucket")


def test_a_map_with_a_quote_left_open_is_refused(desk, tree):
    desk.file("links.csv", b'path,owner,role\na,x/1,o\n"sub/b,x/2,o\nsub/c,x/3,o\n')
    told = said_in_one_line(desk("import", "tree", "--map", "links.csv", code=1))
    assert "links.csv:3 is no CSV" in told and "quote left open" in told
    assert not desk.folder.joinpath("store").exists()


def test_a_map_may_spell_paths_by_any_way_to_the_folder(desk, tree):
    (desk.folder / "link").symlink_to("tree")
    (tree / "inner").symlink_to("sub")
    desk.file("links.csv", f"path,owner,role\n{tree}/a,x/1,o \ninner/b,x/2,\n".encode())
    done = desk("import", "link", "--map", "links.csv", "--owner", "d/1")
    assert done.out.startswith("3 files, 3 B taken in")
    with desk.store() as store:
        found = {owner: [r.role for r in store.references(owner=owner)] for owner in ("x/1", "x/2")}
        assert found == {"x/1": ["o"], "x/2": ["sub/b"]}
        assert [each.role for each in store.references(owner="d/1")] == ["sub/c"]


def test_a_list_of_another_folders_files_is_refused(desk, tree):
    desk.file("failed.jsonl", b'{"source": "/etc/hostname"}\n')
    command = ["import", "tree", "--owner", "d/1", "--from", "failed.jsonl"]
    assert "does not lie in" in said_in_one_line(desk(*command, code=2))
    desk.file("links.csv", f"path,owner,role\n{desk.file('outside')},x/1,o\n".encode())
    desk.file("failed.jsonl", json.dumps({"source": str(desk.folder / "outside")}).encode())
    assert "1 created" in desk(*command, "--map", "links.csv").out


def test_a_file_that_is_known_is_taken_in_for_another_owner_unread(desk, tree):
    desk("import", "tree", "--owner", "d/1")
    assert desk("import", "tree", "--owner", "d/2").out.startswith("3 files, 3 B taken in: 3 dupl")
    assert desk("import", "tree", "--owner", "d/2").out.startswith("3 files: 3 unchanged")
