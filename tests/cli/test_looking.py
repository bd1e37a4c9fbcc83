"""ls, stat, explain, url, stats, usage, check, get: what there is, for people and for programs."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from tests.cli.desk import said_in_one_line
from tests.store.pictures import picture
from tests.store.places import DAY
from tests.store.surgery import change

from calotype import Digest
from calotype.quantities import now, when

ASSET = {
    *("digest", "size", "media_type", "extension", "width", "height", "scope", "filename"),
    *("metadata", "kept", "trashed", "references", "created_at", "last_accessed", "access_count"),
}


def digest_of(content: bytes) -> str:
    return str(Digest.of(content))


def test_ls_has_a_line_an_asset_aligned(desk):
    desk.put("a", content=bytes(1000))
    desk.put("b.png", content=picture(size=(8, 6)))
    newest, oldest = desk("ls").lines
    assert newest.split()[-2:] == ["image/png", "b.png"]
    assert oldest.split() == [digest_of(bytes(1000))[:12], "1.0", "kB", "application/octet-stream", "a"]  # fmt: skip
    assert oldest.index(" application") == newest.index(" image")


def test_ls_long_has_whole_digests_pixels_and_dates(desk):
    digest = desk.put("b.png", "--owner", "scan/9", content=picture(size=(8, 6)))
    words = desk("ls", "--long").out.split()
    assert words[0] == digest
    assert words[4] == "8x6" and words[5].startswith("20") and words[7:] == ["1", "refs", "b.png"]


def test_ls_json_has_an_object_an_asset(desk):
    digest = desk.put("b.png", content=picture(size=(8, 6)))
    found = desk("ls", "--json").object
    assert set(found) == ASSET
    assert (found["digest"], found["width"], found["scope"]) == (digest, 8, "default")
    assert found["created_at"].endswith("Z") and found["kept"] == "library"


def test_ls_tells_owners_types_names_and_the_trash_apart(desk):
    desk.put("a", "--owner", "scan/9")
    desk.put("b.png", content=picture())
    desk("rm", desk.put("c"))
    assert desk.names() == ["b.png", "a"]
    assert desk.names("--owner", "scan/9") == ["a"]
    assert desk.names("--owner", "scan/8") == []
    assert desk.names("--media-type", "image/*") == ["b.png"]
    assert desk.names("--q", "B.P") == ["b.png"]
    assert desk.names("--q", digest_of(b"a")[:8]) == ["a"]
    assert desk.names("--trashed") == ["c"]
    assert desk("ls", "--owner", "scan/8").out == ""


@pytest.mark.parametrize("order", ["recent", "size", "views", "digest"])
def test_ls_sorts(desk, order):
    desk.put("a", content=b"12")
    desk.put("b", content=b"1")
    desk("get", digest_of(b"12"), "-o", "x")
    found = desk("ls", "--json", "--sort", order).objects
    first = {"recent": "b", "size": "a", "views": "a", "digest": min(digest_of(b"1"), digest_of(b"12"))}  # fmt: skip
    assert first[order] in (found[0]["filename"], found[0]["digest"])


def test_ls_orphans_lists_blobs_that_nothing_keeps(desk):
    assert desk.put("a") != (digest := desk.put("b", "--owner", "scan/9"))
    desk("release", "--owner", "scan/9")
    assert desk("ls", "--orphans", "--json").object == {
        "digest": digest,
        "size": 1,
        "media_type": "application/octet-stream",
        "extension": "",
        "width": None,
        "height": None,
    }
    assert desk("ls", "--orphans", "--long").out.split()[0] == digest


def test_one_scope_sees_nothing_of_another(desk):
    digest = desk.put("a")
    assert desk.names("--scope", "ana") == []
    assert desk("stat", digest, "--scope", "ana", code=5).out == ""
    assert desk("check", digest, "--scope", "ana", code=5).out.startswith("missing ")


def test_stat_says_everything_about_one_asset(desk):
    digest = desk.put("b.png", "--owner", "scan/9", "--role", "x", content=picture(size=(8, 6)))
    said = {line[:8].strip(): line[8:].strip() for line in desk("stat", digest[:6]).lines}
    assert said["digest"] == digest
    assert (said["type"], said["pixels"], said["name"]) == ("image/png", "8x6", "b.png")
    assert said["used by"] == "scan/9 as x"
    assert "kept" not in said and said["created"].endswith("Z")


def test_stat_json_is_the_asset_with_its_uses(desk):
    digest = desk.put("a", "--owner", "scan/9")
    found = desk("stat", digest, "--json").object
    assert set(found) == {*ASSET, "uses"}
    (use,) = found["uses"]
    assert set(use) == {"owner", "role", "digest", "created_at"}
    assert (use["owner"], use["digest"], found["references"]) == ("scan/9", digest, 1)


def test_explain_says_what_keeps_the_bytes_in_every_scope(desk):
    digest = desk.put("a", "--owner", "scan/9")
    desk("put", "a", "--scope", "ana")
    verdict, *scopes, place = desk("explain", digest[:8]).lines
    assert verdict.startswith(f"{digest}: kept. ")
    assert sorted(scopes) == ["  scope ana: the library", "  scope default: scan/9"]
    assert place.startswith("  main: live, ")


def test_explain_json_has_the_verdict_the_scopes_and_the_copies(desk):
    digest = desk.put("a")
    desk("rm", digest)
    found = desk("explain", digest, "--json").object
    assert (found["digest"], found["verdict"]) == (digest, "trash")
    assert [each["scope"] for each in found["scopes"]] == ["default"]
    assert found["until"].endswith("Z") and found["sentence"]
    assert found["replicas"][0]["state"] == "live"


def test_url_is_the_files_own_where_nothing_is_public(desk):
    digest = desk.put("a")
    made = desk("url", digest).out.strip()
    assert made == desk("url", digest, "--json").object["url"]
    assert made.startswith("file:///") and made.endswith(digest)


def test_url_is_signed_where_there_is_a_public_address(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_PUBLIC_URL", "https://media.example.com")
    digest = desk.put("a")
    first = desk("url", digest, "--expires", "1h").out
    assert first.startswith("https://media.example.com/") and "file:" not in first
    assert desk("url", digest, "--expires", "1h").out == first
    assert desk("url", digest, "--rotate-key").out != first


@pytest.mark.parametrize("hours", [1, 500])
def test_a_url_lives_for_as_long_as_is_asked(desk, monkeypatch, hours):
    monkeypatch.setenv("CALOTYPE_PUBLIC_URL", "https://media.example.com")
    digest = desk.put("a")
    begun = now()
    made = desk("url", digest, "--expires", f"{hours}h").out.strip()
    with desk.store() as store:
        lives = store.verify_url(made).expires_at - when(begun)
    assert timedelta(hours=hours) <= lives <= timedelta(hours=2 * hours + 0.5)


def test_the_key_of_urls_is_rotated_alone_and_where_it_was_lost(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_PUBLIC_URL", "https://media.example.com")
    digest = desk.put("a")
    first = desk("url", digest).out
    assert desk("url", "--rotate-key", "--json").object == {"rotated": True}
    assert desk("url", digest).out != first
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as raw:
        raw.execute("DELETE FROM calotype_signing_key")
        raw.commit()
    said = said_in_one_line(desk("url", digest, code=4))
    [cure] = re.findall("'calotype ([^']*)'", said)
    assert "new key" in desk(*cure.split()).out
    assert desk("url", digest).out.startswith("https://media.example.com/")


def test_a_url_of_what_is_not_there_rotates_no_key(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_PUBLIC_URL", "https://media.example.com")
    digest = desk.put("a")
    first = desk("url", digest).out
    trashed = desk.put("b", "--owner", "scan/9")
    desk("release", "--owner", "scan/9")
    for other in ("feedbeef", "0" * 64, trashed):
        desk("url", other, "--rotate-key", code=5)
    assert desk("url", digest).out == first


def test_a_url_of_nothing_is_a_wrong_command(desk):
    desk.put("a")
    assert "DIGEST" in desk("url", "--help").out
    assert "--rotate-key" in said_in_one_line(desk("url", code=2))


def test_stats_counts_the_whole_store(desk):
    desk.put("a", "--owner", "scan/8")
    desk("put", "a", "--owner", "scan/9")
    said = dict(line.split(None, 1) for line in desk("stats").lines)
    assert (said["blobs"], said["assets"]) == ("1, 1 B", "1")
    assert said["saved"] == "1 B, 50.0 %"
    found = desk("stats", "--json").object
    assert (found["references"], found["logical_bytes"], found["saved_percent"]) == (2, 2, 50.0)


def test_stats_says_what_each_backend_has_and_lacks(desk):
    desk.put("abc")
    desk("backend", "add", "two", "file:two")
    assert desk("stats").lines[-2:] == [
        "in main     primary, 1 of 1 blob, 3 B",
        "in two      mirror, 0 of 1 blob, 0 B; 3 B missing",
    ]
    main, two = desk("stats", "--json").object["backends"]
    assert (main["name"], main["role"], main["copies"], main["bytes"]) == ("main", "primary", 1, 3)
    assert (two["copies"], two["lacking"], two["lacking_bytes"]) == (0, 1, 3)


def test_usage_counts_one_scope_now_and_on_the_days_before(desk):
    desk.put("a")
    desk("quota", "default", "1 kB")
    now, trash, *_ = desk("usage").lines
    assert (now, trash) == ("1 asset, 1 B of 1.0 kB", "0 in the trash, 0 B")
    *_, found = desk("usage", "--json").objects
    assert (found["assets"], found["bytes"], found["quota"]) == (1, 1, 1000)
    assert desk("usage", "--json", "--scope", "ana").objects[-1]["assets"] == 0
    assert "0" in said_in_one_line(desk("usage", "--days", "-1", code=2))


def test_usage_has_a_row_a_day(desk):
    desk.put("a")
    with desk.store() as store:
        days = ["2020-01-02", store.usage_days()[0].day]
        change(store, "INSERT INTO calotype_usage VALUES ('default', ?, 2, 10, 0, 0)", days[0])
    _, _, *told = desk("usage", "--days", "100000").lines
    assert [line.split("  ") for line in told] == [
        [days[0], "2 assets", "10 B"],
        [days[1], "1 asset", " 1 B"],
    ]
    *found, _ = desk("usage", "--days", "100000", "--json").objects
    assert [(each["day"], each["assets"], each["bytes"]) for each in found] == [
        (days[0], 2, 10),
        (days[1], 1, 1),
    ]


@pytest.mark.parametrize(("days", "told"), [(1, []), (20, [10]), (40, [10, 30])])
def test_usage_goes_so_many_days_back(desk, days, told):
    desk.put("a")
    with desk.store() as store:
        for ago in (10, 30):
            day = f"{when(now() - ago * DAY):%Y-%m-%d}"
            change(store, "INSERT INTO calotype_usage VALUES ('default', ?, ?, 1, 0, 0)", day, ago)
    *found, _, _ = desk("usage", "--days", f"{days}", "--json").objects
    assert [each["assets"] for each in reversed(found)] == told


def test_check_tells_present_trashed_and_missing_apart(desk):
    desk.put("a")
    desk("rm", desk.put("b"))
    done = desk("check", "a", "b", desk.file("c"), digest_of(b"a"), code=3)
    found = [line.split() for line in done.lines]
    assert [each[0] for each in found] == ["present", "trashed", "missing", "present"]
    assert [each[2] for each in found] == ["a", "b", "c", digest_of(b"a")]


def test_check_ends_with_what_it_found(desk):
    desk.put("a")
    assert desk("check", "a", "--json").objects == [
        {"event": "check", "source": "a", "digest": digest_of(b"a"), "state": "present"},
        {"event": "summary", "present": 1, "missing": 0, "trashed": 0, "failed": 0},
    ]
    assert desk("check", desk.file("b"), "--json", code=5).objects[0]["state"] == "missing"
    assert desk("check", digest_of(b"a")[:6].upper()).lines[0].startswith("present")
    desk("check", "0" * 6, code=1)
    desk("rm", digest_of(b"a"))
    desk("check", "a", code=5)


def test_a_file_that_is_called_like_a_digest_is_read(desk):
    """Whoever names files by their hashes wants to know whether the bytes are there."""
    digest = desk.put("a")
    desk.file(digest, b"something else")
    assert desk("check", digest, code=5).out.startswith("missing ")
    (desk.folder / digest).write_bytes(b"a")
    assert desk("check", digest).out.startswith("present ")


def test_check_changes_nothing_and_is_no_access(desk):
    digest = desk.put("a")
    before = desk("stat", digest, "--json").object
    desk("check", "a", desk.file("b"), code=3)
    assert desk("stat", digest, "--json").object == before
    assert not (desk.folder / "store/blobs/b").exists() and len(desk.names()) == 1


def test_check_reads_names_and_digests_from_standard_input(desk):
    desk.put("a")
    desk.file("b c")
    lines = f"a\n\nb c\r\n{digest_of(b'a')}\n".encode()
    found = desk("check", "-", "--json", stdin=lines, code=3).objects
    assert [each["state"] for each in found[:-1]] == ["present", "missing", "present"]
    assert found[1]["source"] == "b c"


def test_a_file_that_cannot_be_read_stops_no_other_check(desk):
    desk.put("a")
    os.mkfifo(desk.folder / "fifo")
    (desk.folder / "link").symlink_to("nowhere")
    done = desk("check", "nothing", ".", "fifo", "link", "a", code=3)
    assert done.lines == [f"present  {digest_of(b'a')[:12]}  a"]
    assert [line.split("'")[1] for line in done.err.splitlines()] == [
        "nothing",
        ".",
        "fifo",
        "link",
    ]
    failed = desk("check", "nothing", "--json", code=1)
    assert failed.objects[0]["event"] == "failure"
    assert failed.objects[0]["error"]["code"] == "not-found"
    assert failed.objects[1]["failed"] == 1


def test_stat_shows_all_that_is_remembered(desk):
    digest = desk.put("a", "--metadata", '{"tag": "x"}', "--scope", "ana")
    desk("get", digest, "--scope", "ana", "-o", "out")
    shown = desk("stat", digest, "--scope", "ana").out
    for words in ("ana", '{"tag": "x"}', "accesses", "library"):
        assert words in shown


def test_orphans_are_those_of_the_whole_store(desk):
    desk.put("a")
    for more in (["--trashed"], ["--owner", "a/1"], ["--q", "a"], ["--media-type", "x/y"]):
        desk("ls", "--orphans", *more, code=2)


def test_a_url_of_no_time_is_a_wrong_command(desk):
    digest = desk.put("a")
    assert "--expires" in said_in_one_line(desk("url", digest, "--expires", "0", code=2))


def test_check_of_nothing_is_a_wrong_command(desk):
    desk.put("a")
    assert said_in_one_line(desk("check", code=2)).startswith("Nothing to check.")
    assert said_in_one_line(desk("check", "-", code=2)).startswith("Nothing to check.")


def test_get_writes_the_bytes_to_standard_output_or_a_file(desk):
    digest = desk.put("a", content=b"\x00\xff\n")
    assert desk("get", digest[:6]).output == b"\x00\xff\n"
    assert desk("get", digest, "-o", "-", "-q").output == b"\x00\xff\n"
    assert desk("get", digest, "-o", "out").out == f"{digest[:12]}  out\n"
    assert desk("get", digest, "--output", "x", "--json").object == {
        "digest": digest,
        "output": "x",
    }
    for name in ("out", "x"):
        assert (desk.folder / name).read_bytes() == b"\x00\xff\n"


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_get_replaces_a_file_only_when_it_is_told_to(desk, kind):
    digest = desk.put("a")
    output = desk.folder / "out"
    desk.file("old")
    output.write_bytes(b"old") if kind == "file" else output.symlink_to(
        "old" if kind == "link" else "nowhere"
    )
    said = said_in_one_line(desk("get", digest, "-o", "out", code=1))
    assert said == "'out' is there already. Give --force to replace it."
    assert output.is_symlink() or output.read_bytes() == b"old"
    desk("get", digest, "-o", "out", "--force")
    assert output.read_bytes() == b"a"
    assert (desk.folder / "old").read_bytes() == b"old"


@pytest.mark.parametrize("place", ["", ".", "/", "folder", "nowhere/out", "a/out", "x" * 300])
def test_get_says_where_it_cannot_write_and_leaves_nothing(desk, place):
    digest = desk.put("a")
    (desk.folder / "folder").mkdir()
    before = sorted(each.name for each in desk.folder.iterdir())
    said_in_one_line(desk("get", digest, "-o", place, "--force", code=1))
    assert sorted(each.name for each in desk.folder.iterdir()) == before
    assert [*(desk.folder / "folder").iterdir()] == []


def test_get_writes_to_a_pipe_and_does_not_replace_it(desk):
    digest = desk.put("a")
    os.mkfifo(desk.folder / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((desk.folder / "pipe").read_bytes()))
    reader.start()
    desk("get", digest, "-o", "pipe", "--force")
    reader.join(10)
    assert read == [b"a"] and (desk.folder / "pipe").is_fifo()


def test_get_of_damaged_bytes_ends_with_4_and_leaves_no_file(desk):
    digest = desk.put("a", content=bytes(5_000_000))
    (blob,) = (desk.folder / "store/blobs").rglob(str(digest))
    blob.chmod(0o600)
    blob.write_bytes(bytes(4_999_999) + b"1")
    before = sorted(each.name for each in desk.folder.iterdir())
    assert digest in said_in_one_line(desk("get", digest, "-o", "out", code=4))
    assert sorted(each.name for each in desk.folder.iterdir()) == before
    assert desk("get", digest, "--json", code=4).error["code"] == "corrupt"


def test_get_that_ends_in_the_middle_leaves_no_file(desk):
    digest = desk.put("a", content=bytes(5_000_000))
    before = sorted(each.name for each in desk.folder.iterdir())
    done = desk.outside("get", digest, "-o", "out", code=1, preexec_fn=small_files_only)
    assert said_in_one_line(done) == "Cannot write 'out': File too large. Check the folder."
    assert sorted(each.name for each in desk.folder.iterdir()) == before


def small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
