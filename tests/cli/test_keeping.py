"""attach, release, rm, restore, discard, keep, renew, update, quota: who keeps what."""

from __future__ import annotations

import pytest
from tests.cli.desk import said_in_one_line


def test_attach_lets_an_owner_refer_to_an_asset(desk):
    digest = desk.put("a")
    done = desk("attach", digest[:6], "--owner", "scan/9", "--role", "original")
    assert done.out == f"{digest[:12]}  kept by scan/9\n"
    assert desk("attach", digest, "--owner", "scan/9", "--json").object == {
        "digest": digest,
        "owner": "scan/9",
        "role": digest,
    }
    assert desk("stat", digest, "--json").object["references"] == 2


def test_attach_finds_what_is_still_in_the_trash(desk):
    digest = desk.put("a")
    desk("rm", digest)
    desk("attach", digest[:6], "--owner", "scan/9")
    assert desk.names() == ["a"]


def test_release_lets_go_of_an_owners_references(desk):
    digest = desk.put("a", "--owner", "scan/9", "--role", "original")
    desk("attach", digest, "--owner", "scan/9", "--role", "copy")
    done = desk("release", "--owner", "scan/9", "--role", "copy")
    assert done.out == "1 reference of scan/9 released\n"
    found = desk("release", "--owner", "scan/9", "--json").object
    assert found == {"references": 1, "digests": [digest], "owner": "scan/9"}
    assert desk("release", "--owner", "scan/9").out == "0 references of scan/9 released\n"
    assert desk.names() == [] and desk.names("--trashed") == ["a"]


@pytest.mark.parametrize("command", ["rm", "release", "discard"])
def test_a_digest_is_let_go_of_by_any_of_three_names(desk, command):
    digest = desk.put("a")
    desk("attach", digest, "--owner", "scan/9")
    assert desk(command, digest).out == f"{digest[:12]}  still kept by scan/9\n"
    found = desk(command, digest, "--json").object
    assert found["digest"] == digest and found["kept_by"][0]["what"] == "scan/9"
    desk("release", "--owner", "scan/9")
    assert desk(command, digest).out == f"{digest[:12]}  in the trash\n"


def test_restore_brings_back_what_was_released(desk):
    digest = desk.put("a", "--owner", "scan/9")
    desk("release", "--owner", "scan/9")
    assert desk("restore", "--owner", "scan/9").out == "1 reference of scan/9 restored\n"
    desk("release", "--owner", "scan/9")
    found = desk("restore", "--owner", "scan/9", "--json").object
    assert found == {"references": 1, "digests": [digest], "owner": "scan/9"}
    assert desk("stat", digest, "--json").object["references"] == 1


def test_restore_takes_an_asset_out_of_the_trash(desk):
    digest = desk.put("a")
    desk("rm", digest)
    assert desk("restore", digest[:6]).out == f"{digest[:12]}  kept for itself again\n"
    desk("rm", digest)
    found = desk("restore", digest, "--json").object
    assert (found["digests"], found["owner"]) == ([digest], None)
    assert desk("stat", digest, "--json").object["kept"] == "library"


@pytest.mark.parametrize("command", ["release", "rm", "restore"])
@pytest.mark.parametrize(
    "words",
    [[], ["abcdef", "--owner", "scan/9"], ["abcdef", "--role", "x"], ["--owner", "scan"], ["--role", "x"]],
)  # fmt: skip
def test_a_digest_or_an_owner_is_needed_and_not_both(desk, command, words):
    desk.put("a")
    said_in_one_line(desk(command, *words, code=2))


def test_keep_keeps_for_good_and_renew_for_longer(desk):
    digest = desk.put("a", "--hold", "1h")
    first = desk("stat", digest, "--json").object["kept"]
    assert desk("renew", digest, "--hold", "2h", "--json").object["kept"] > first
    assert desk("renew", digest).out.startswith(f"{digest[:12]}  20")
    assert desk("keep", digest).out == f"{digest[:12]}  library\n"
    assert desk("keep", digest, "--json").object["kept"] == "library"


def test_update_changes_name_and_metadata(desk):
    digest = desk.put("a", "--metadata", '{"a": 1}')
    assert desk("update", digest, "--filename", "b").out.startswith(digest[:12])
    found = desk("update", digest, "--metadata", '{"b": 2}', "--json").object
    assert (found["filename"], found["metadata"]) == ("b", {"b": 2})
    said_in_one_line(desk("update", digest, "--metadata", "[]", code=2))


def test_a_quota_is_set_shown_and_lifted(desk):
    desk.put("a")
    assert desk("quota", "default").out == "default: 1 B used, no quota\n"
    assert desk("quota", "default", "2 B").out == "default: 1 B used, of 2 B\n"
    assert "quota" in said_in_one_line(desk("put", desk.file("b", b"22"), code=1))
    assert desk("put", "b", "--json", code=1).objects[0]["error"]["code"] == "quota-exceeded"
    assert desk("quota", "default", "none", "--json").object["quota"] is None
    desk("put", "b")


def test_a_value_that_cannot_be_right_is_a_wrong_command(desk):
    digest = desk.put("a")
    wrong = {
        "--owner": desk("attach", digest, "--owner", "scan", code=2),
        "--hold": desk("renew", digest, "--hold", "soon", code=2),
        "--metadata": desk("update", digest, "--metadata", "{", code=2),
        "SIZE": desk("quota", "default", "much", code=2),
        "--expires": desk("url", digest, "--expires", "soon", code=2),
        "--sort": desk("ls", "--sort", "wrong", code=2),
        "--grace": desk("gc", "--grace", "soon", code=2),
        "--erase-delay": desk("gc", "--erase-delay", "soon", code=2),
        "--budget": desk("gc", "--budget", "-1", code=2),
        "--max-bytes": desk("gc", "--max-bytes", "much", code=2),
        "--limit": desk("gc", "--limit", "-1", code=2),
        "--downgrade": desk("upgrade", "--downgrade", "9999", code=2),
    }
    for name, done in wrong.items():
        assert name in said_in_one_line(done)
    assert "--budget" in said_in_one_line(desk("fsck", "--budget", "x", code=2))
