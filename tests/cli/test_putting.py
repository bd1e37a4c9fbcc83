"""put: what it prints, what it refuses, and what one file does to the others."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager, nullcontext
from types import SimpleNamespace

import pytest
from tests.cli.desk import said_in_one_line
from tests.mounts import fill_up, small_disk
from tests.store.pictures import picture, png_header

from calotype import Digest, Store, progress
from calotype.catalog import waiting
from calotype.cli import putting
from calotype.errors import Locked

HELLO = str(Digest.of(b"hello"))
NOBODY = "0" * 64


def test_a_file_is_put_and_named_in_a_line(desk):
    done = desk("put", desk.file("a.txt", b"hello"))
    words = done.out.split()
    assert words == ["created", HELLO[:12], "5", "B", "application/octet-stream", "a.txt"]
    assert done.err == ""


def test_json_names_what_became_of_it_and_ends_with_a_summary(desk):
    put, summary = desk("put", desk.file("a.png", picture()), "--json").objects
    digest = str(Digest.of(picture()))
    assert put == {
        "event": "put",
        "source": "a.png",
        "status": "created",
        "digest": digest,
        "size": len(picture()),
        "media_type": "image/png",
        "filename": "a.png",
    }
    counts = {"created": 1, "duplicate": 0, "restored": 0, "healed": 0, "failed": 0}
    assert summary == {"event": "summary", **counts, "bytes": len(picture())}


def test_several_files_are_summed_up_beside_the_answer(desk):
    done = desk("put", desk.file("a"), desk.file("b"), desk.file("c", b"a"))
    assert [line.split()[0] for line in done.lines] == ["created", "created", "duplicate"]
    assert done.err == "3 files, 3 B: 2 created, 1 duplicate\n"


def test_the_time_left_is_told_at_the_pace_of_all_files_so_far(desk, monkeypatch):
    shown, began = [], time.monotonic()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: began + 1e6))
    monkeypatch.setattr(putting, "meter", lambda *_, **__: nullcontext(shown.append))
    desk("put", desk.file("a"), "nothing", desk.file("b"), desk.file("c"), code=3)
    assert [(each.done, each.failed) for each in shown] == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert [each.eta for each in shown] == pytest.approx([3e6, 1e6, 1e6 / 3, 0], rel=1e-3)


def test_what_was_in_the_trash_is_restored(desk):
    digest = desk.put("a")
    desk("rm", digest)
    assert desk("put", "a", "--json").objects[0]["status"] == "restored"


def test_bytes_that_were_lost_are_healed(desk):
    digest = desk.put("a")
    (blob,) = (desk.folder / "store/blobs").rglob(str(digest))
    blob.unlink()
    assert desk("put", "a").out.startswith("healed ")
    assert desk("get", digest).output == b"a"


def test_standard_input_is_put(desk):
    done = desk("put", "-", "--filename", "a.txt", "--json", stdin=b"hello").objects[0]
    assert (done["source"], done["digest"], done["filename"]) == ("-", HELLO, "a.txt")


def test_a_file_whose_name_is_a_dash_is_a_file(desk):
    desk.file("-", b"hello")
    assert desk("put", "./-", "--json", stdin=b"not this").objects[0]["digest"] == HELLO


def test_an_owner_keeps_what_is_put_for_it_and_a_role_names_its_slot(desk):
    digest = desk.put("a", "--owner", "scan/9", "--role", "original")
    (use,) = desk("stat", digest, "--json").object["uses"]
    assert (use["owner"], use["role"]) == ("scan/9", "original")


def test_a_hold_keeps_it_for_a_while_and_not_for_good(desk):
    digest = desk.put("a", "--hold", "24h")
    assert desk("stat", digest, "--json").object["kept"].startswith("20")
    assert "kept     until " in desk("stat", digest).out


def test_metadata_is_remembered(desk):
    digest = desk.put("a", "--metadata", '{"camera": "X100", "\\u00fc": [1]}')
    assert desk("stat", digest, "--json").object["metadata"] == {"camera": "X100", "ü": [1]}


@pytest.mark.parametrize("text", ["{", "[1]", "1", ""])
def test_metadata_that_is_no_object_is_a_wrong_command(desk, text):
    done = desk("put", desk.file("a"), "--metadata", text, code=2)
    assert said_in_one_line(done).startswith("--metadata is no")
    assert not (desk.folder / "store").exists()


def test_the_expected_digest_is_stored(desk):
    desk("put", desk.file("a", b"hello"), "--expect", HELLO.upper())
    desk("put", desk.file("a", b"hello"), "--expect", f"sha256:{HELLO}")


def test_another_digest_than_expected_is_refused_and_nothing_is_stored(desk):
    done = desk("put", desk.file("a"), "--expect", NOBODY, code=1)
    assert "nothing was stored" in said_in_one_line(done)
    assert not (desk.folder / "store/blobs").exists()
    found = desk("put", "a", "--expect", NOBODY, "--json", code=1)
    failure, summary = found.objects
    assert (failure["event"], failure["source"]) == ("failure", "a")
    assert failure["error"]["code"] == "digest-mismatch" and failure["error"]["hint"]
    assert (summary["created"], summary["failed"]) == (0, 1)
    assert found.err == ""


def test_an_expected_digest_that_is_none_is_refused(desk):
    assert "Not a SHA-256" in said_in_one_line(
        desk("put", desk.file("a"), "--expect", "12", code=1)
    )


def test_only_images_are_taken_where_only_images_are_wanted(desk):
    desk.file("a.png", picture())
    desk.file("b.png")
    desk.file("c.png", png_header(100_000, 100_000))
    done = desk("put", "a.png", "b.png", "c.png", "--images-only", "--json", code=3)
    failed = {each["source"]: each["error"]["code"] for each in done.objects[1:3]}
    assert failed == {"b.png": "not-an-image", "c.png": "decompression-bomb"}
    assert desk.names() == ["a.png"]


def test_a_file_that_fails_stops_no_other(desk):
    done = desk("put", desk.file("a"), "nothing", desk.file("b"), code=3)
    assert [line.split()[-1] for line in done.lines] == ["a", "b"]
    said, summary = done.err.splitlines()
    assert said == "calotype: No such file: 'nothing'. Check the path."
    assert summary == "3 files, 2 B: 2 created, 1 failed"


def test_all_failed_is_an_error(desk):
    assert desk("put", "nothing", "nobody", code=1).out == ""


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "broken link", "device"])
def test_what_is_no_file_is_refused_in_words(desk, kind):
    path = desk.folder / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "device":
        path.symlink_to("/dev/null")
    assert "'thing'" in said_in_one_line(desk("put", "thing", code=1))
    assert not (desk.folder / "store").exists()


def test_a_link_to_a_file_is_that_file(desk):
    desk.file("a", b"hello")
    (desk.folder / "link").symlink_to("a")
    assert desk("put", "link", "--json").objects[0]["digest"] == HELLO


def listed(file):
    """The sources that a list of failures names."""
    return [json.loads(line)["source"] for line in file.read_text().splitlines()]


def test_what_failed_is_written_down_and_can_be_put_again(desk):
    desk("put", desk.file("a"), "later", "-", "--failures", "failed.jsonl", stdin=b"x", code=3)
    (line,) = (desk.folder / "failed.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == "later"
    assert json.loads(line)["error"]["code"] == "not-found"
    desk.file("later")
    desk("put", "--from", "failed.jsonl", "--failures", "failed.jsonl")
    assert (desk.folder / "failed.jsonl").read_text() == ""
    assert sorted(map(str, desk.names())) == ["None", "a", "later"]


def test_a_list_takes_the_place_of_an_old_one_once_it_is_whole(desk):
    desk("put", "later", "never", "--failures", "failed.jsonl", code=1)
    old, was = desk.folder / "failed.jsonl", desk.folder / "was"
    was.hardlink_to(old)
    before = was.read_bytes()
    desk.file("later")
    desk("put", "--from", "failed.jsonl", "--failures", "failed.jsonl", code=3)
    (line,) = old.read_text().splitlines()
    assert json.loads(line)["source"] == "never"
    assert was.read_bytes() == before
    assert [each.name for each in desk.folder.glob(".calotype*")] == []


def test_a_list_is_not_lost_when_the_store_itself_fails(desk):
    (desk.folder / "store").mkdir()
    desk.file("store/catalog.db", b"no database " * 1000)
    line = b'{"source": "%s"}' % desk.file("a").encode()
    desk("put", "--from", desk.file("list", line), "--failures", "list", code=4)
    assert listed(desk.folder / "list") == ["a"]


def test_a_list_keeps_its_mode(desk):
    list_ = desk.folder / desk.file("list", b"")
    list_.chmod(0o600)
    desk("put", "nothing", "--failures", "list", code=1)
    assert (listed(list_), list_.stat().st_mode & 0o777) == (["nothing"], 0o600)


@pytest.mark.mounts
def test_an_old_list_stays_where_there_is_no_room_for_another(desk):
    disk = desk.folder / "disk"
    with small_disk(disk, "64k"):
        list_ = disk / "list"
        line = '{"source": "nothing"}\n'
        list_.write_text(line)
        fill_up(disk / "zeros")
        done = desk("put", "--from", list_, "--failures", list_, "x" * 5000, code=1)
        assert "No space left" in done.err
        assert list_.read_text() == line
        assert {each.name for each in disk.iterdir()} == {"list", "zeros"}


@contextmanager
def mounted(source, target):
    """A file that is mounted by itself, as in a container."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


@pytest.mark.mounts
def test_a_list_that_is_mounted_by_itself_is_written_over(desk):
    list_, source = desk.folder / desk.file("list", b""), desk.folder / desk.file("source", b"")
    with mounted(source, list_):
        desk("put", "nothing", "--failures", "list", code=1)
        assert listed(list_) == ["nothing"]
    assert listed(source) == ["nothing"]
    assert [*desk.folder.glob(".calotype*")] == []


@pytest.mark.mounts
def test_a_list_that_is_mounted_by_itself_in_a_folder_for_reading_is_written_over(desk):
    disk, source = desk.folder / "disk", desk.folder / desk.file("source", b"")
    with small_disk(disk, "64k"):
        (disk / "list").touch()
        (disk / "old").touch()
        with mounted(source, disk / "list"):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            desk("put", "nothing", "--failures", disk / "list", code=1)
            assert listed(source) == ["nothing"]
            for name in ("old", "new"):
                said = desk("put", "nothing", "--failures", disk / name, code=2).err
                assert "Read-only file system" in said


@pytest.mark.mounts
def test_a_list_that_is_mounted_by_itself_stays_where_there_is_no_room_for_another(desk):
    disk, list_ = desk.folder / "disk", desk.folder / desk.file("list", b"")
    line = '{"source": "nothing"}\n'
    with small_disk(disk, "64k"):
        (disk / "list").write_text(line)
        fill_up(disk / "zeros")
        with mounted(disk / "list", list_):
            names = [f"{number}" * 100 for number in range(60)]
            done = desk("put", *names, "--from", list_, "--failures", list_, code=1)
            assert "No space left" in done.err
            assert list_.read_text() == line


@pytest.mark.mounts
def test_a_list_that_cannot_be_written_does_not_hide_what_ended_the_work(desk, monkeypatch):
    desk.put("a")
    desk.file("b")
    monkeypatch.setattr(waiting, "OWN_PATIENCE", 0.2)
    disk = desk.folder / "disk"
    with small_disk(disk, "64k"):
        fill_up(disk / "zeros")
        with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            done = desk("put", "b", "--failures", disk / "list", code=6)
    assert "No space left" in done.err
    assert "locked" in done.err


def test_what_is_left_when_the_catalog_is_held_is_in_the_list(desk, monkeypatch):
    """By whatever name: the list may be the one that the sources came from."""
    desk.put("a")
    monkeypatch.setattr(waiting, "OWN_PATIENCE", 0.2)
    lines = b"".join(b'{"source": "%s"}\n' % desk.file(each).encode() for each in "bc")
    sources = desk.folder / desk.file("list", lines)
    (desk.folder / "link").symlink_to("list")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        desk("put", "--from", "list", "--failures", sources, code=6)
        assert listed(sources) == ["b", "c"]
        desk("put", "--from", "list", "--failures", "link", code=6)
        assert listed(sources) == ["b", "c"]
        assert (desk.folder / "link").is_symlink()
        desk("put", "nothing", "b", "--failures", "new", code=6)
        assert listed(desk.folder / "new") == ["nothing", "b"]
    desk("put", "--from", "link", "--failures", "list")
    assert listed(sources) == [] and sorted(desk.names()) == ["a", "b", "c"]


def test_sources_are_read_from_standard_input(desk):
    lines = b"".join(b'{"source": "%s"}\n\n' % desk.file(each).encode() for each in "ab")
    desk("put", "--from", "-", stdin=lines)
    assert sorted(desk.names()) == ["a", "b"]


@pytest.mark.parametrize("line", ["a", "[]", "{}", '{"source": 1}', "\udcff"])
def test_a_list_of_sources_that_is_none_is_a_wrong_command(desk, line):
    desk.file("list", line.encode(errors="surrogateescape"))
    assert said_in_one_line(desk("put", "--from", "list", code=2)).startswith("--from: ")


def test_a_list_that_is_not_there_is_a_wrong_command(desk):
    assert "'list'" in said_in_one_line(desk("put", "--from", "list", code=2))


@pytest.mark.parametrize(
    "where", ["nowhere/list", ".", "-", "circle", "circle/list", "a/list", "x" * 300]
)
def test_failures_that_cannot_be_written_are_noticed_before_anything_is_put(desk, where):
    (desk.folder / "circle").symlink_to("circle")
    done = desk("put", desk.file("a"), "--failures", where, code=2)
    assert said_in_one_line(done).startswith("--failures: ")
    assert not (desk.folder / "store").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Nothing to put."),
        (["a", "b", "--filename", "x"], "--role, --filename and --expect are for one file."),
        (["a", "b", "--expect", NOBODY], "--role, --filename and --expect are for one file."),
        (["-", "-"], "Standard input can be read once."),
        (["a", "--role", "x"], "A role belongs to an owner."),
        (["a", "--owner", "scan"], "--owner: Not an owner: 'scan'."),
        (["a", "--hold", "soon"], "--hold: Not a duration: 'soon'."),
        (["a", "--hold", "-1"], "--hold: Not a duration: '-1'."),
    ],
)
def test_a_wish_that_cannot_be_right_is_refused_before_anything_is_put(desk, words, said):
    desk.file("a"), desk.file("b")
    assert said_in_one_line(desk("put", *words, code=2)).startswith(said)
    assert not (desk.folder / "store").exists()


def test_quiet_prints_nothing_but_errors(desk):
    done = desk("put", desk.file("a"), desk.file("b"), "-q")
    assert (done.out, done.err) == ("", "")
    done = desk("put", "a", "nothing", "--quiet", code=3)
    assert (done.out, done.err) == ("", "calotype: No such file: 'nothing'. Check the path.\n")


def test_sizes_are_for_people_or_exact(desk):
    desk.file("a", bytes(2_000_000))
    assert "2.0 MB" in desk("put", "a").out
    assert "2000000 B" in desk("put", "a", "--bytes").out


def test_options_of_every_command_may_stand_before_it(desk):
    desk("--store", "other", "--json", "put", desk.file("a"))
    assert desk("-q", "--store=other", "ls").out == ""
    assert desk("--store=other", "--bytes", "ls").out.split()[1:3] == ["1", "B"]


def test_a_list_of_failures_never_replaces_a_file_that_is_none(desk):
    desk.file("a", b"bytes"), desk.file("b", b"a picture")
    desk("put", "a", "--failures", "b", code=2)
    assert (desk.folder / "b").read_bytes() == b"a picture"
    desk("put", "a", "--role", "cover", "--owner", "scan/1")
    assert "one file" in desk("put", "a", "b", "--role", "cover", "--owner", "scan/1", code=2).err


def test_quiet_still_says_what_failed(desk):
    desk.file("a")
    assert "nothing" in desk("put", "a", "nothing", "-q", code=3).err
    done = desk("put", "a", "nothing", "-q", "--json", code=3)
    assert done.out == "" and json.loads(done.err)["error"]["code"] == "not-found"


def test_a_list_may_have_the_longest_name_and_is_no_pipe(desk):
    name = "a" * 255
    desk("put", "nothing", "--failures", name, code=1)
    assert json.loads((desk.folder / name).read_text())["source"] == "nothing"
    assert [each.name for each in desk.folder.iterdir() if each.name[0] == "."] == []
    os.mkfifo(desk.folder / "pipe")
    assert "A list needs a file" in said_in_one_line(desk("put", "a", "--failures", "pipe", code=2))


def test_a_file_that_somebody_holds_fails_alone(desk, monkeypatch):
    put = Store.put

    def held(store, source, **more):
        if str(source) == "b":
            raise Locked("Another transaction holds what this one needs.", hint="Wait.")
        return put(store, source, **more)

    monkeypatch.setattr(Store, "put", held)
    done = desk("put", *(desk.file(name) for name in "abc"), "--json", code=3)
    assert [each["event"] for each in done.objects] == ["put", "failure", "put", "summary"]


def test_what_failed_is_written_down_although_the_work_was_interrupted(desk, monkeypatch):
    names = [desk.file(name) for name in "ab"]
    put = Store.put

    def interrupted(store, source, **more):
        if str(source) == "b":
            raise KeyboardInterrupt
        return put(store, source, **more)

    monkeypatch.setattr(Store, "put", interrupted)
    desk("put", "nothing", *names, "--failures", "failed.jsonl", code=130)
    assert listed(desk.folder / "failed.jsonl") == ["nothing", "b"]
