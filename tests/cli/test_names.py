"""Names that people and programs give: of files, of owners and scopes, and of digests."""

from __future__ import annotations

import io
import os
import sys

import pytest
from tests.cli.desk import said_in_one_line

from calotype import Digest

ODD = {
    "line end": ("a\nb", r"a\nb"),
    "escape": ("a\x1b[31mb", r"a\x1b[31mb"),
    "carriage return": ("a\rb", r"a\rb"),
    "written backwards": ("a\u202egpj.b", r"a\u202egpj.b"),
    "no break": ("a\u00a0b", "a\u00a0b"),
    "accents": ("äöü-写真-🙂", "äöü-写真-🙂"),
    "dash": ("--help", "--help"),
    "spaces": (" a  b ", " a  b "),
    "markup": ("[red]a[b]", "[red]a[b]"),
    "a list": ('["a"]', '["a"]'),
    "an object": ("{a}", "{a}"),
    "at": ("@a", "@a"),
    "equals": ("--json=a", "--json=a"),
}


@pytest.mark.parametrize(("name", "shown"), ODD.values(), ids=ODD)
def test_no_name_of_a_file_breaks_a_line(desk, name, shown):
    desk.file(name, b"a")
    (line,) = desk("put", "--", name).lines
    assert line.endswith(f"  {shown}")
    (line,) = desk("ls").lines
    assert line.endswith(f"  {shown}".rstrip())
    assert desk("ls", "--json").object["filename"] == name
    assert f"name     {shown}".rstrip() in map(str.rstrip, desk("stat", Digest.of(b"a")).lines)
    assert desk("check", "--", name).lines[0].endswith(f"  {shown}")
    assert desk("get", Digest.of(b"a"), f"--output={name}.x").lines[0].endswith(f"{shown}.x")


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u202eb", "'", "\\"])
def test_no_name_breaks_the_line_of_an_error(desk, name):
    said = said_in_one_line(desk("put", name, code=1))
    assert said.isprintable() and said.startswith("No such file: ")
    assert desk("put", name, "--json", code=1).objects[0]["source"] == name


def test_a_name_that_is_no_utf_8_is_put_listed_and_checked(desk):
    name = os.fsdecode(b"b\xff")
    desk.file(name, b"a")
    assert desk.outside("put", b"b\xff").out.endswith("  b\\xff\n")
    put = desk("put", name, "--json").objects[0]
    assert (put["source"], put["status"]) == (name, "duplicate")
    assert desk("ls").out.isascii()
    assert desk("check", name).out.endswith("  b\\xff\n")
    assert desk("check", "-", stdin=b"b\xff\n").out.endswith("  b\\xff\n")
    said = said_in_one_line(desk.outside("put", b"c\xff", code=1))
    assert "c" in said and said.isascii()


def test_the_sources_that_failed_come_back_whatever_their_names(desk):
    names = ["b\udcff", "c\nd", "-", "[e]"]
    desk("put", *(f"./{name}" for name in names), "--failures", "list", code=1)
    for name in names:
        desk.file(name, name.encode(errors="replace"))
    *put, _ = desk("put", "--from", "list", "--json").objects
    assert [(each["source"], each["status"]) for each in put] == [(x, "created") for x in names]


@pytest.mark.parametrize("where", ["../a", "folder/../../a", "./../a"])
def test_only_the_last_part_of_a_path_is_remembered(desk, monkeypatch, where):
    desk.file("a")
    (desk.folder / "x/folder").mkdir(parents=True)
    monkeypatch.chdir(desk.folder / "x")
    desk("put", where)
    assert desk.names() == ["a"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", "..", "\n"])
def test_a_name_leads_nowhere_on_the_way_in_or_out(desk, name):
    digest = desk.put("a", "--filename", name)
    assert not [*(desk.folder / "store").rglob("*passwd*")]
    assert "\n" not in desk("ls").out.rstrip("\n")
    assert desk("get", digest).output == b"a"


@pytest.mark.parametrize("name", ["", "a" * 1025])
def test_a_name_that_cannot_be_kept_is_refused(desk, name):
    desk("put", desk.file("a"), f"--filename={name}", code=1 if name else 0)


def test_a_dash_is_a_name_where_no_file_is_meant(desk):
    desk("put", desk.file("a"), "--filename", "-", "--owner", "scan/-", "--role", "-")
    assert desk.names() == ["-"]
    (use,) = desk("stat", Digest.of(b"a"), "--json").object["uses"]
    assert (use["owner"], use["role"]) == ("scan/-", "-")
    assert "'-'" in said_in_one_line(desk("put", "a", "--expect", "-", code=1))
    said_in_one_line(desk("stat", "-", code=2))
    said_in_one_line(desk("init", "-", code=2))


@pytest.mark.parametrize(
    "owner", ["scan", "scan/", "/9", "", "a/\x00", "a/" + "b" * 2000], ids=lambda name: name[:6]
)
def test_an_owner_that_is_none_is_refused(desk, owner):
    digest = desk.put("a")
    for command in (("attach", digest), ("release",), ("restore",), ("ls",), ("put", "a")):
        said_in_one_line(desk(*command, f"--owner={owner}", code=2))
    assert desk("stats", "--json").object["references"] == 0


def test_owners_roles_and_scopes_break_no_line(desk):
    digest = desk.put("a", "--owner", "sc\nan/9\x1b", "--role", "r\n", "--scope", "s\n")
    scope = ("--scope", "s\n")
    assert len(desk("attach", digest, "--owner", "b\n/9", *scope).lines) == 1
    assert len(desk("release", "--owner", "b\n/9", *scope).lines) == 1
    assert len(desk("restore", "--owner", "b\n/9", *scope).lines) == 1
    assert len(desk("discard", digest, *scope).lines) == 1
    assert len(desk("quota", "s\n", "1 kB").lines) == 1
    assert desk("stat", digest, *scope).out.isascii() and "\x1b" not in desk("explain", digest).out
    assert len(desk("explain", digest).lines) == 3
    assert desk("stat", digest, "--scope", "t\n", code=5).err.count("\n") == 1


@pytest.mark.parametrize("scope", ["", "a" * 1025])
def test_a_scope_that_cannot_be_is_refused(desk, scope):
    said_in_one_line(desk("put", desk.file("a"), f"--scope={scope}", code=1))


def test_a_digest_is_found_by_6_characters_in_either_case_with_or_without_its_kind(desk):
    digest = desk.put("a")
    for name in (digest[:6], digest[:6].upper(), digest.upper(), f"sha256:{digest}", digest[:63]):
        assert desk("stat", name, "--json").object["digest"] == digest


@pytest.mark.parametrize("name", ["", "abc", "abcde", "xyzxyz", "a" * 65, "../../a", "abcdef\n1"])
@pytest.mark.parametrize("command", ["stat", "get", "explain", "discard", "keep", "purge"])
def test_what_is_no_digest_is_refused(desk, command, name):
    desk.put("a")
    said = said_in_one_line(desk(command, name, code=1))
    assert said.startswith("Not a digest or a prefix of one: ")
    assert "6 to 64" in said


@pytest.mark.parametrize("command", ["stat", "get", "explain", "discard", "keep", "purge", "url"])
def test_a_digest_that_is_not_there_is_not_found(desk, command):
    desk.put("a")
    said_in_one_line(desk(command, "000000", code=5))
    done = desk(command, "0" * 64, code=5)
    assert command == "explain" or said_in_one_line(done)


def test_not_found_names_the_scope_that_was_looked_in(desk):
    digest = desk.put("a")
    assert "scope 'ana'" in said_in_one_line(desk("stat", digest[:6], "--scope", "ana", code=5))
    assert "scope 'ana'" in said_in_one_line(desk("stat", digest, "--scope", "ana", code=5))


def test_an_ambiguous_digest_lists_what_it_could_be(desk):
    found: dict[str, bytes] = {}
    for number in range(100_000):
        content = b"%d" % number
        if (other := found.setdefault(Digest.of(content)[:6], content)) != content:
            break
    first, second = (Digest.of(each) for each in (other, content))
    desk.put("a", content=other)
    desk.put("b", content=content)
    said = said_in_one_line(desk("stat", first[:6], code=1))
    assert said.startswith(f"2 digests begin with {first[:6]}: ")
    assert first[:10] in said and second[:10] in said
    assert desk("rm", first[:6], "--json", code=1).error["code"] == "ambiguous-prefix"
    assert sorted(desk.names()) == ["a", "b"]


def test_letters_that_the_terminal_lacks_are_escaped(desk):
    desk("put", desk.file("写真"))
    done = desk.outside("ls", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.out.endswith("\\u5199\\u771f\n")


def test_a_terminal_shows_colours_unless_it_is_told_not_to(desk, monkeypatch, capsysbinary):
    from calotype.cli.printing import Printer

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert Printer(out=Terminal()).styled("a", "good") == "\x1b[32ma\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Printer(out=Terminal()).styled("a", "good") == "a"
    assert Printer(out=sys.stdout).styled("a", "good") == "a"
