"""How a command ends: its exit code, its one line, and nothing lost."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ctypes import c_uint32
from pathlib import Path

import pytest
from tests.cli.desk import PROGRAM, as_in_a_terminal, said_in_one_line

from calotype.cli import progressing
from calotype.cli.exits import Exit

STORE = [
    *(["ls"], ["stat", "abcdef"], ["get", "abcdef"], ["explain", "abcdef"], ["check", "a"]),
    *(["url", "abcdef"], ["attach", "abcdef", "--owner", "a/b"], ["release", "--owner", "a/b"]),
    *(["rm", "abcdef"], ["restore", "abcdef"], ["discard", "abcdef"], ["keep", "abcdef"]),
    *(
        ["renew", "abcdef"],
        ["update", "abcdef", "--filename", "x"],
        ["gc"],
        ["fsck"],
        ["purge", "abcdef"],
        ["stats"],
    ),
    *(["usage"], ["quota", "default"], ["doctor"], ["upgrade"], ["upgrade", "--dry-run"]),
]


def test_these_are_the_exit_codes():
    named = {"OK": 0, "ERROR": 1, "USAGE": 2, "PARTLY": 3, "INTEGRITY": 4, "NOT_FOUND": 5}
    rare = {"LOCKED": 6, "NO_STORE": 10, "INTERRUPTED": 130, "BROKEN_PIPE": 141}
    assert {each.name: each.value for each in Exit} == named | rare


@pytest.mark.parametrize("words", STORE, ids=lambda words: words[0])
def test_where_no_store_is_every_command_ends_with_10_and_makes_none(desk, words):
    desk.file("a")
    said = said_in_one_line(desk(*words, code=10))
    assert said.startswith("No store here (") and "'calotype init'" in said and "--store" in said
    error = desk(*words, "--json", code=10).error
    assert set(error) == {"code", "message", "hint"} and error["code"] == "no-store"
    assert not (desk.folder / "store").exists()


def test_no_store_says_where_it_looked(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    said = said_in_one_line(desk("ls", code=10))
    assert said == (
        "No store here (looked for calotype.toml up to /). Run 'calotype init' or pass --store."
    )
    assert desk("put", desk.file("a"), code=10).out == ""


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["ls", "--nonsense"], ["ls", "extra"], ["stat"], ["attach", "abcdef"],
     ["get", "abcdef", "-o"], ["gc", "--limit", "x"], ["--store"], ["--nonsense", "ls"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_that_cannot_be_understood_ends_with_2(desk, words):
    of = f"{words[0]} " if (len(words) > 1 and words[0].isalpha()) or words == ["stat"] else ""
    assert f"'calotype {of}--help'" in said_in_one_line(desk(*words, code=2))
    assert desk("--json", *words, code=2).error["code"] == "usage"


@pytest.mark.parametrize(
    "words",
    [["--store", "x"], ["--json"], ["-q"], ["--scope", "a", "--bytes"], ["--store=x"]],
    ids=" ".join,
)
def test_options_without_a_command_are_told_so(desk, words):
    assert desk(*words, code=2).err.count("No command given.") == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("ls --lnog", "--long"), ("gc --limt 1", "--limit"), ("puut x", "put")],
)
def test_what_was_nearly_right_is_offered(desk, typed, meant):
    assert meant in said_in_one_line(desk(*typed.split(), code=2))


@pytest.mark.parametrize("typed", ["ls --sql", "fsck --forever"])
def test_what_is_only_a_little_alike_is_not_offered(desk, typed):
    assert "mean" not in said_in_one_line(desk(*typed.split(), code=2))


def test_an_error_is_a_line_with_a_cure_and_an_object_for_programs(desk):
    desk.put("a")
    said = said_in_one_line(desk("stat", "000000", code=5))
    error = desk("stat", "000000", "--json", code=5).error
    assert said == f"{error['message']} {error['hint']}"
    assert error["code"] == "not-found" and error["hint"]
    assert desk("stat", "000000", "-q", code=5).err == f"calotype: {said}\n"


@pytest.mark.parametrize("words", STORE, ids=lambda words: words[0])
def test_a_damaged_catalog_ends_with_4(desk, words):
    desk.put("a")
    for path in (desk.folder / "store").glob("catalog.db*"):
        path.unlink()
    desk.file("store/catalog.db", b"no database " * 1000)
    said_in_one_line(desk(*words, code=4))
    assert (desk.folder / "store/catalog.db").read_bytes() == b"no database " * 1000


@pytest.mark.parametrize("words", [*STORE, ["put", "a"]], ids=lambda words: words[0])
def test_a_newer_schema_is_left_alone(desk, words):
    desk.put("a")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as catalog:
        catalog.execute("UPDATE calotype_meta SET value = '99' WHERE key = 'schema'")
        catalog.commit()
    said = said_in_one_line(desk(*words, code=1))
    assert "nothing was changed" in said and "pip install -U calotype" in said
    assert desk(*words, "--json", code=1).error["code"] == "schema-ahead"


def test_a_catalog_that_another_holds_ends_with_6(desk):
    digest = desk.put("a")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        done = desk("put", desk.file("b"), "c", "--json", code=6)
        assert done.error["code"] == "locked" and "locked" in done.error["message"]
        assert desk.names() == ["a"]
    desk("attach", digest, "--owner", "a/b")


def test_an_import_ends_with_6_where_another_holds_the_catalog(desk):
    desk.put("a")
    (desk.folder / "tree").mkdir()
    for number in range(100):
        (desk.folder / f"tree/{number}").write_bytes(b"%d" % number)
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        asked = ["import", "tree", "--failures", "failed.jsonl", "--json"]
        assert desk(*asked, code=6).error["code"] == "locked"
        assert not (desk.folder / "failed.jsonl").exists()  # an empty one: nothing failed
        assert [*desk.folder.glob(".calotype*")] == []
    assert desk("import", "tree").out.startswith("100 files")


@contextmanager
def asked_like_anybody(folder: Path) -> Iterator[None]:
    """Root is asked for permissions too, inside the block."""
    libc, header, abilities = ctypes.CDLL(None), (c_uint32 * 2)(0x20080522, 0), (c_uint32 * 6)()
    libc.capget(header, abilities)
    held = abilities[0]
    abilities[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(header, abilities)
    try:
        (folder / "unreadable").touch(mode=0o000)
        assert not os.access(folder / "unreadable", os.R_OK, effective_ids=True)
        yield
    finally:
        abilities[0] = held
        libc.capset(header, abilities)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["put", "unreadable"], 1),
        (["put", "locked/a"], 1),
        (["put", "--from", "unreadable"], 2),
        (["put", "a", "--failures", "view/list"], 2),
        (["check", "locked/a"], 1),
        (["check", "unreadable"], 1),
        (["get", "ca9781", "-o", "view/a"], 1),
        (["get", "ca9781", "-o", "locked/a"], 1),
        (["--store", "locked/store", "ls"], 1),
        (["--store", "unreadable", "ls"], 1),
        (["--store", "view/store", "put", "a"], 1),
        (["init", "view/store"], 1),
        (["init", "locked/store"], 1),
    ],
    ids=lambda words: str(words),
)
def test_what_may_not_be_read_or_written_is_an_error_in_words(desk, words, code):
    desk.put("a")
    (desk.folder / "locked").mkdir(mode=0o000)
    (desk.folder / "view").mkdir(mode=0o500)
    with asked_like_anybody(desk.folder):
        said_in_one_line(desk(*words, code=code))
    assert [*(desk.folder / "view").iterdir()] == []
    assert desk.names() == ["a"]


def test_a_file_that_may_not_be_read_is_a_failure_with_a_code(desk):
    with asked_like_anybody(desk.folder):
        failed, *_ = desk("put", "unreadable", "--json", code=1).objects
    assert (failed["event"], failed["error"]["code"]) == ("failure", "denied")


def lesser() -> None:
    """The process to come is asked for permissions like anybody, even if it is root's."""
    for ability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, ability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_store_that_may_only_be_read_can_be_read(desk):
    with asked_like_anybody(desk.folder):
        digest = desk.put("a")
    desk.file("b")
    places = [desk.folder / "store", *(desk.folder / "store").rglob("*")]
    for path in places:
        path.chmod(0o500 if path.is_dir() else 0o400)
    assert desk.outside("get", digest, preexec_fn=lesser).output == b"a"
    assert desk.outside("ls", preexec_fn=lesser).out.endswith("  a\n")
    said_in_one_line(desk.outside("put", "b", code=1, preexec_fn=lesser))
    for path in places:
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert desk.names() == ["a"]


def test_a_folder_that_is_gone_is_an_error_in_words(desk):
    (desk.folder / "gone").mkdir()
    words = f"cd gone && rmdir ../gone && {sys.executable} -m calotype --store x ls"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(
        "calotype: The folder you are in"
    )


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "--json"], ["stats"], ["put", "a"], ["get", "{digest}"]], ids=" ".join
)  # fmt: skip
def test_a_reader_that_goes_away_is_no_traceback(desk, words):
    digest = desk.put("a", content=bytes(1_000_000))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, *(word.format(digest=digest) for word in words)],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_head_ends_a_long_answer(desk):
    with desk.store() as store:
        for number in range(30):
            store.put(b"%d" % number, filename="ä" * 1000)
    line = f"set -o pipefail; {sys.executable} -m calotype ls --json | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert json.loads(done.stdout)["digest"] and done.stderr == ""
    assert done.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_answer_that_cannot_be_written_is_an_error_in_words(desk):
    desk.put("a")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "ls"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "calotype: Cannot write the answer: No space left on device.\n"


def test_no_standard_output_at_all_is_no_traceback(desk):
    desk.put("a")
    line = f"{sys.executable} -m calotype ls >&-; echo $?"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("mode", ["--json", "--bytes"])
def test_ctrl_c_in_a_long_put_loses_nothing(desk, mode):
    desk.file("a"), desk.file("b")
    running = subprocess.Popen(
        [*PROGRAM, "put", mode, "--owner", "scan/9", "a", "-", "b"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_in_a_terminal,
    )
    first = running.stdout.readline() if mode == "--json" else b""
    running.stdin.write(bytes(5_000_000))
    running.stdin.flush()
    running.send_signal(signal.SIGINT)
    rest, err = running.communicate(timeout=30)
    assert running.returncode == 130
    said = "What was printed is kept; the same command goes on."
    if mode == "--json":
        assert json.loads(err)["error"] == {
            "code": "interrupted",
            "message": "Interrupted.",
            "hint": said,
        }
    else:
        assert err.decode() == f"calotype: Interrupted. {said}\n"
    assert b"a" in first + rest and b"summary" not in rest
    assert desk.names() == ["a"]
    desk("fsck", "--read-data")
    again = desk("put", "--json", "--owner", "scan/9", "a", "-", "b", stdin=b"end").objects
    assert [each.get("status") for each in again] == ["duplicate", "created", "created", None]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["import", "files"], "What was imported is kept; the same command goes on."),
        (["gc", "--now"], "Nothing is lost; the same command goes on."),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_ctrl_c_in_long_work_says_that_the_same_command_goes_on(desk, monkeypatch, words, hint):
    (desk.folder / "files").mkdir()
    desk.file("files/a"), desk.put("b", "--owner", "scan/9")
    desk("release", "--owner", "scan/9")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(progressing, "record", lambda _: signal.raise_signal(signal.SIGINT))
        error = desk(*words, "--json", code=130).error
    signal.signal(signal.SIGINT, before)
    assert error == {"code": "interrupted", "message": "Interrupted.", "hint": hint}
    desk(*words)


NO_UTF8 = "\udcff"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ls", "--q", NO_UTF8], 0),
        (["ls", "--media-type", NO_UTF8], 0),
        (["gc", "--plan", NO_UTF8], 1),
        (["release", "--owner", "a/b", "--role", NO_UTF8], 1),
        (["restore", "--owner", "a/b", "--role", NO_UTF8], 1),
        (["purge", "0" * 64, "--reason", NO_UTF8, "--yes", "--block"], 1),
        (["usage", "--days", "99999999999"], 0),
        (["put", "a", "--metadata", '{"a":' + "[" * 200_000 + "]" * 200_000 + "}"], 2),
    ],
    ids=lambda words: " ".join(words)[:20] if isinstance(words, list) else "",
)
def test_odd_values_are_errors_in_words(desk, words, code):
    desk.put("a")
    desk(*words, code=code)


def test_odd_names_on_standard_input_are_failures(desk):
    desk.put("a")
    done = desk("check", "-", stdin=b"a\0b\na\n", code=3)
    assert done.lines[0].startswith("present")


@pytest.mark.parametrize(
    ("words", "code"), [(["put", "-"], 1), (["check", "-"], 2), (["put", "--from", "-"], 2)]
)
def test_standard_input_that_is_closed_is_told(desk, words, code):
    desk.put("a")
    command = [sys.executable, "-m", "calotype", *words]
    shell = ["sh", "-c", '"$@" <&-', "sh", *command]
    done = subprocess.run(shell, cwd=desk.folder, capture_output=True, text=True, check=False)
    assert (done.returncode, "closed" in done.stderr) == (code, True)
