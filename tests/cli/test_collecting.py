"""gc, fsck, purge: letting go, and seeing that all is well."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import sys
from contextlib import closing, redirect_stdout
from pathlib import Path

import pytest
from tests.cli.desk import said_in_one_line
from tests.crash.powers import unwritable, without_powers
from tests.races.crowd import at_once
from tests.store.surgery import change

from calotype.backends.local import LocalBackend
from calotype.backends.markers import MARKER
from calotype.cli import main
from calotype.errors import Unavailable
from calotype.gc import safety

REPORT = {
    *("plan", "assets", "references", "doomed", "doomed_bytes", "erased", "erased_bytes"),
    *("intents", "temporary", "failed", "waiting", "refused", "stopped"),
}


@pytest.fixture
def released(desk) -> str:
    """The digest of a blob that nothing keeps, beside one that the library keeps."""
    desk.put("kept")
    digest = desk.put("gone", "--owner", "scan/9")
    desk("release", "--owner", "scan/9")
    return digest


def blobs(desk) -> list[str]:
    return [path.name for path in (desk.folder / "store/blobs").rglob("*") if len(path.name) >= 64]


def refuse(*_: object) -> None:
    raise Unavailable("This one cannot be deleted.")


def test_gc_erases_what_nothing_keeps_after_the_grace(desk, released):
    assert desk("gc").out == "0 blobs let go of, 0 B; 0 erased, 0 B\n"
    assert desk("gc", "--grace", "0s").out == "1 blob let go of, 4 B; 1 erased, 4 B\n"
    assert released not in blobs(desk)
    assert desk.names() == ["kept"]


def test_gc_json_ends_with_its_report(desk, released):
    *progress, report = desk("gc", "--now", "--json").objects
    assert set(report) == REPORT
    assert (report["doomed"], report["erased_bytes"], report["stopped"]) == (1, 4, "")
    assert all(each["event"] == "progress" for each in progress)


def test_gc_ends_with_3_for_as_long_as_something_cannot_be_erased(desk, released, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(LocalBackend, "delete", refuse)
        assert "1 could not be erased for now, 0 from" in desk("gc", "--now", code=3).out
    assert "0 could not be erased for now, 1 from" in desk("gc", "--now", code=3).out
    report = desk("gc", "--now", "--json", code=3).objects[-1]
    assert (report["failed"], report["waiting"], report["erased"]) == (0, 1, 0)
    assert released in blobs(desk)


def look_without_writing(store: Path, digest: str) -> None:
    """In a process of its own, to which the store is read-only."""

    def said(*words: str, code: int) -> str:
        with redirect_stdout(io.StringIO()) as out:
            assert main(["--store", str(store), "gc", "--now", *words]) == code
        return out.getvalue()

    row, summary, how = said("--dry-run", code=0).splitlines()
    assert row.split()[1] == digest[:12] and "1 blob to let go of" in summary
    assert "not kept" in how and "calotype gc" not in how
    assert json.loads(said("--dry-run", "--json", code=0).splitlines()[-1])["plan"] == "none"
    assert said(code=1) == ""


def test_a_dry_run_needs_no_disk_that_can_be_written(desk, released):
    with unwritable(desk.folder / "store"):
        at_once(without_powers, [(look_without_writing, desk.folder / "store", released)])
    assert released in blobs(desk)


def test_a_dry_run_shows_what_would_go_and_its_plan_does_it(desk, released):
    row, summary, how = desk("gc", "--dry-run", "--now").lines
    assert row.split()[1] == released[:12]
    assert "1 blob to let go of, 4 B" in summary
    words = how.removesuffix(" does it.").split()
    assert released in blobs(desk)
    assert desk(*words[1:]).out.startswith("1 blob let go of")
    assert released not in blobs(desk)


def test_a_dry_run_for_programs_has_a_row_a_blob_and_a_summary(desk, released):
    row, summary = desk("gc", "--dry-run", "--now", "--json").objects
    assert (row["digest"], row["size"]) == (released, 4)
    assert (summary["doomed"], summary["erased"]) == (1, 0) and summary["plan"].startswith("gc-")
    assert desk("gc", "--plan", summary["plan"], "--json").objects[-1]["plan"] == summary["plan"]


def test_gc_takes_only_what_it_is_told_to(desk, released):
    other = desk.put("other", "--owner", "scan/8")
    desk("release", "--owner", "scan/8")
    assert desk("gc", "--now", "--limit", "0", "--json").objects[-1]["doomed"] == 0
    desk("gc", "--now", "--digest", other[:8])
    assert other not in blobs(desk) and released in blobs(desk)
    assert desk("gc", "--now", "--max-bytes", "0", "--json").objects[-1]["doomed"] == 0
    desk("gc", "--grace", "0s", "--full", "--budget", "1m", "--erase-delay", "0s", "--limit", "5")
    assert released not in blobs(desk)


def test_gc_says_when_a_limit_left_something(desk, released):
    other = desk.put("other", "--owner", "scan/8")
    desk("release", "--owner", "scan/8")
    assert "stopped by --limit" in desk("gc", "--now", "--limit", "1").out
    done = desk("gc", "--now", "--max-bytes", "0", "--json")
    assert done.objects[-1]["stopped"] == "max-bytes"
    assert desk("gc", "--now", "--limit", "1", "--json").objects[-1]["stopped"] == ""
    assert not {released, other}.intersection(blobs(desk))


def test_gc_ends_with_3_where_its_budget_stopped_it(desk, released):
    assert "stopped by --budget" in desk("gc", "--now", "--budget", "0s", code=3).out
    assert desk("gc", "--now", "--budget", "0s", "--json", code=3).objects[-1]["doomed"] == 0
    assert released in blobs(desk)


def test_gc_finds_what_is_no_candidate_when_it_looks_at_every_blob(desk, released):
    with desk.store() as store:
        change(store, "DELETE FROM calotype_candidate")
    assert desk("gc", "--now", "--json").objects[-1]["doomed"] == 0
    assert desk("gc", "--now", "--full", "--json").objects[-1]["doomed"] == 1


@pytest.mark.parametrize(
    "more",
    [["--limit", "1"], ["--grace", "1h"], ["--now"], ["--full"], ["--digest", "abcdef"],
     ["--budget", "1m"], ["--max-bytes", "1"], ["--erase-delay", "0s"]],
    ids=lambda more: more[0],
)  # fmt: skip
def test_a_plan_has_its_own_terms(desk, released, more):
    plan = desk("gc", "--dry-run", "--grace", "0s", "--json").objects[-1]["plan"]
    assert "terms" in said_in_one_line(desk("gc", "--plan", plan, *more, code=2))
    assert released in blobs(desk)
    desk("gc", "--plan", plan)
    assert released not in blobs(desk)


@pytest.mark.parametrize("more", ["--grace", "--erase-delay"])
def test_now_and_a_time_to_wait_contradict_each_other(desk, released, more):
    assert "--now" in said_in_one_line(desk("gc", "--now", more, "24h", code=2))
    assert released in blobs(desk)


def test_unblocking_lets_a_purged_file_come_back(desk):
    digest = desk.put("a")
    desk("purge", digest, "--block", "--yes")
    assert "'calotype unblock'" in said_in_one_line(desk("put", "a", code=1))
    assert desk("unblock", digest).out == f"{digest[:12]}  may be put again\n"
    assert desk.put("a") == digest
    desk("unblock", digest, code=5)
    desk("unblock", digest[:8], code=1)


def test_bytes_stay_for_the_erase_delay(desk, released):
    report = desk("gc", "--grace", "0s", "--erase-delay", "1h", "--json").objects[-1]
    assert (report["doomed"], report["erased"]) == (1, 0)
    assert released in blobs(desk)


def test_gc_of_very_much_stops_and_asks(desk, released, monkeypatch):
    monkeypatch.setattr(safety, "SAFE_COUNT", 0)
    said = said_in_one_line(desk("gc", "--now", code=3))
    assert "nothing was removed" in said
    assert released in blobs(desk)
    assert desk("gc", "--now", "--json", code=3).error["code"] == "gc-limit"
    shown = desk("gc", "--now", "--dry-run").out.splitlines()[-1]
    assert shown.startswith("That is very much. calotype gc --plan gc-")
    assert shown.endswith(" --force does it.")
    words = said.rpartition("'calotype ")[2].rstrip("'.").split()
    assert desk(*words).out.startswith("1 blob let go of")


def test_an_unknown_plan_is_not_found(desk, released):
    assert "--dry-run" in said_in_one_line(desk("gc", "--plan", "gc-00000000", code=5))


def test_fsck_of_a_good_store(desk):
    desk.put("a")
    assert desk("fsck").out == "1 blob, 1 object: all is well\n"
    assert desk("fsck", "--read-data", "--json").object == {
        "blobs": 1,
        "objects": 1,
        "read_bytes": 1,
        "findings": {},
        "problems": 0,
        "complete": True,
        "stopped": False,
    }


def test_fsck_ends_with_4_for_a_problem_and_names_it(desk):
    digest = desk.put("a")
    (path,) = (desk.folder / "store/blobs").rglob(str(digest))
    path.unlink()
    finding, summary = desk("fsck", code=4).lines
    assert finding.split()[:2] == ["missing", digest]
    assert summary == "1 blob, 0 objects: 1 problem found"
    told = desk("fsck", "--json", code=4).objects
    found, done = (each for each in told if each.get("event") != "progress")
    assert (found["kind"], found["digest"]) == ("missing", digest)
    assert (done["problems"], done["findings"]) == (1, {"missing": 1})
    assert desk("fsck", "-q", code=4).out == ""


def test_an_older_catalog_is_recovered(desk):
    desk.put("a", "--owner", "page/1")
    catalog = desk.folder / "store/catalog.db"
    before = catalog.read_bytes()
    digest = desk.put("b")
    desk("release", "--owner", "page/1")
    assert desk("gc", "--now", "--json").objects[-1]["erased"] == 1
    catalog.write_bytes(before)
    for beside in ("-wal", "-shm"):
        Path(f"{catalog}{beside}").unlink(missing_ok=True)
    assert "fsck --recover" in desk("gc", "--now", code=3).err
    shown = [each["kind"] for each in desk("fsck", "--recover", "--dry-run", "--json", code=4).objects if "kind" in each]  # fmt: skip
    assert "adopted" in shown and desk.names() == ["a"]
    told = desk("fsck", "--recover", code=4).out  # a is missing, as gc had erased it
    assert f"adopted   {digest}" in told
    assert desk("get", digest[:12]).output == b"b"
    desk("gc", "--now")


def test_a_copy_of_the_catalog_is_given_the_bytes_by_adopt_alone(desk):
    digest = desk.put("a")
    (desk.folder / "clone").mkdir()
    shutil.copy(desk.folder / "store/catalog.db", desk.folder / "clone/catalog.db")
    (desk.folder / "clone/blobs").symlink_to(desk.folder / "store/blobs")
    at = ("--store", "clone")
    assert "fsck --recover --adopt" in desk("gc", "--now", *at, code=3).err
    assert desk("fsck", "--recover", *at, code=4).out.startswith("locked ")
    desk("gc", "--now", *at, code=3)
    desk("fsck", "--recover", "--adopt", *at)
    desk("gc", "--now", *at)
    assert desk("get", digest[:12], *at).output == b"a"
    assert "erasing is locked" in desk("gc", "--now", code=3).err.lower()
    assert "--recover" in said_in_one_line(desk("fsck", "--adopt", code=2))


def test_a_lost_catalog_is_rebuilt_from_the_bytes(desk):
    digest = desk.put("a")
    for path in (desk.folder / "store").glob("catalog.db*"):
        path.unlink()
    assert "--rebuild" in said_in_one_line(desk("ls", code=4))
    told = desk("fsck", "--rebuild", "--dry-run").out
    assert "adopted" in told and not (desk.folder / "store/catalog.db").exists()
    desk("fsck", "--rebuild")
    assert desk("get", digest[:12]).output == b"a"
    assert [each["digest"] for each in desk("ls", "--json").objects] == [digest]


def test_fsck_finds_wrong_bytes_when_it_reads_them(desk):
    digest = desk.put("a")
    (path,) = (desk.folder / "store/blobs").rglob(str(digest))
    path.chmod(0o600)
    path.write_bytes(b"b")
    desk("fsck")
    done = desk("fsck", "--read-data", "--json", code=4).objects
    assert (done[0]["kind"], done[0]["digest"]) == ("corrupt", digest)
    desk("fsck", "--repair", "--budget", "1m", code=4)


def test_fsck_reads_no_longer_than_its_budget(desk):
    desk.put("a")
    assert "the next run goes on" in desk("fsck", "--read-data", "--budget", "0s").out
    found = desk("fsck", "--read-data", "--budget", "0s", "--json").objects[-1]
    assert (found["read_bytes"], found["complete"], found["stopped"]) == (0, False, True)


def test_fsck_says_that_the_next_run_goes_on_where_a_budget_ended_this_one(desk):
    digest = desk.put("a")
    with desk.store() as store:
        change(store, f"UPDATE calotype_replica SET key = 'sha256/aa/bb/{'0' * 64}'")
    for budget in ([], ["--budget", "1m"]):
        (line,) = desk("fsck", "--read-data", *budget, code=4).lines[-1:]
        assert line.endswith("; not all of it was looked at"), line
    told = desk("fsck", "--json", code=4).objects
    assert (told[-1]["complete"], told[-1]["stopped"], told[0]["digest"]) == (False, False, digest)


def test_fsck_mends_when_it_is_told_to(desk, released):
    with desk.store() as store:
        change(store, "DELETE FROM calotype_candidate")
    assert desk("fsck", code=4).lines[0].startswith("leak")
    assert desk("fsck", "--repair").lines[0].endswith("; mended")
    assert desk("fsck").lines[-1].endswith("all is well")


def test_purge_removes_a_file_from_every_scope(desk):
    digest = desk.put("a")
    desk("put", "a", "--scope", "ana")
    done = desk("purge", digest[:8], "--yes")
    assert done.out == f"{digest[:12]}  gone from 2 scopes, 1 B erased\n"
    assert blobs(desk) == [] and desk.names("--scope", "ana") == []
    desk("put", "a")


def test_purge_ends_with_3_where_a_copy_is_left(desk, monkeypatch):
    digest = desk.put("a")
    monkeypatch.setattr(LocalBackend, "delete", refuse)
    done = desk("purge", digest, "--yes", code=3)
    assert done.out.endswith("0 B erased; copies left for a later gc: 1\n")
    assert blobs(desk) == [digest] and desk.names() == []


def test_a_blocked_file_may_not_come_back(desk):
    digest = desk.put("a")
    found = desk("purge", digest, "--block", "--reason", "a request", "--yes", "--json").object
    assert found["erased_bytes"] == 1
    assert "a request" in said_in_one_line(desk("put", "a", code=1))
    assert desk("put", "a", "--json", code=1).objects[0]["error"]["code"] == "blocked"


def test_a_dry_run_says_that_erasing_is_locked(desk, released):
    desk("gc", "--now", "--force")
    desk.put("next", "--owner", "scan/10")
    desk("release", "--owner", "scan/10")
    (desk.folder / "store" / "blobs" / MARKER).unlink()
    told = desk("gc", "--now", "--dry-run").out.splitlines()[-1]
    assert told in said_in_one_line(desk("gc", "--now", "--force", code=3))
    assert "fsck --recover" in told
    locked = desk("gc", "--now", "--dry-run", "--json").objects[-1]["locked"]
    assert locked.startswith("Erasing is locked") and locked in told


def test_purge_shows_first_and_asks(desk):
    digest = desk.put("a", "--owner", "scan/9")
    assert "scan/9" in desk("purge", digest, "--dry-run").out
    assert desk("purge", digest, "--dry-run", "--json").object["verdict"] == "kept"
    assert "--yes" in said_in_one_line(desk("purge", digest, code=3))
    assert desk("purge", digest, "--json", code=3).error["code"] == "unconfirmed"
    assert desk.names() == ["a"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("n", 3), ("", 3), ("y", 0), ("YES", 0)])
def test_purge_takes_yes_for_an_answer(desk, monkeypatch, capsysbinary, answer, code):
    from calotype.cli import main

    digest = desk.put("a")
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    assert main(["purge", str(digest)]) == code
    assert b"Remove it from every scope? [y/N]" in capsysbinary.readouterr().err
    assert (blobs(desk) == []) is (code == 0)


def test_purge_asks_on_stderr_and_takes_an_end_for_a_no(desk, monkeypatch, capsysbinary):
    from calotype.cli import main

    digest = desk.put("a")
    for answer in ("", "n\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert main(["purge", str(digest)]) == 3
        said = capsysbinary.readouterr()
        assert said.out == b"" and b"[y/N]" in said.err
    assert main(["purge", str(digest), "--json"]) == 3
    assert desk.names() == ["a"]


def test_purge_shows_beforehand_what_it_would_refuse(desk):
    digest = desk.put("a")
    file = desk.folder / "store/catalog.db"
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("CREATE TABLE page (d TEXT REFERENCES calotype_blob (digest))")
        raw.execute("INSERT INTO page VALUES (?)", (digest,))
        raw.commit()
    for more in (["--dry-run"], ["--yes"]):
        assert "page" in said_in_one_line(desk("purge", digest, *more, code=1))
