"""Starting: what a command loads, and what every command says of itself."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from rich.console import Console
from tests.cli.desk import PROGRAM
from tests.store.pictures import picture

import calotype
from calotype.cli import main
from calotype.cli.app import COMMANDS, GROUPS, app

HEAVY = frozenset(
    {"alembic", "mako", "rich", "PIL", "pillow_heif", "pydicom", "numpy", "skimage", "pytest"}
)
OURS = frozenset({"calotype.catalog.migrations", "calotype.testing"})


LISTING = """
import sys
from calotype.cli import main
code = main()
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded(*words: str) -> set[str]:
    """The modules that a command imports, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", LISTING, *words], capture_output=True)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    return set(said.split())


def test_a_command_loads_nothing_that_it_does_not_need(desk):
    digest = desk.put("a.png", content=picture())
    desk.file("b.png", picture(1))
    for words in (("stat", digest), ("put", "b.png"), ("gc", "--now")):
        modules = loaded(*map(str, words))
        assert "sqlalchemy" in modules
        assert {each.partition(".")[0] for each in modules} & HEAVY == set(), words
        assert modules & OURS == set(), words


def test_the_version_is_told_without_loading_anything(desk):
    modules = loaded("--version")
    assert not {each.partition(".")[0] for each in modules} & {*HEAVY, "sqlalchemy", "cyclopts"}
    for words in (["--version"], ["-V"]):
        assert desk(*words).out == f"{calotype.__version__}\n"


def test_the_console_script_is_the_same_program(desk):
    script = os.path.join(os.path.dirname(sys.executable), "calotype")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{calotype.__version__}\n")
    assert desk.outside("--version").out == done.stdout


def test_the_shell_completes_commands_once_it_is_told_to(desk, monkeypatch):
    monkeypatch.setenv("HOME", str(desk.folder))
    desk("--install-completion", "--shell", "bash")
    script = desk.folder / ".local/share/bash-completion/completions/calotype"
    assert str(script) in (desk.folder / ".bashrc").read_text()
    asked = 'source "$0"; COMP_WORDS=(calotype gc --er); COMP_CWORD=2; _calotype; echo "$COMPREPLY"'
    done = subprocess.run(["bash", "-c", asked, script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("--erase-delay\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["backend"], ["catalog", "--help"]])
def test_every_command_is_listed_with_its_first_sentence(desk, words):
    listed = re.findall(r"^│ ([a-z]+) +(\S.*?) *│$", desk.outside(*words).out, flags=re.MULTILINE)
    names = [name.split() for name in COMMANDS]
    group = words[:1] if words[:1] in ([each] for each in GROUPS) else []
    wanted = {name[-1] if group else name[0] for name in names if name[: len(group)] == group}
    assert {name for name, sentence in listed if sentence} >= wanted


def test_a_command_imports_no_other(desk):
    modules = {f"calotype.cli.{command.partition(':')[0]}" for command in COMMANDS.values()}
    desk("put", desk.file("a", b"hello"))
    assert modules & loaded("stats") == {"calotype.cli.looking"}


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_help_fits_the_terminal(desk, width):
    desk.patch.setattr(app, "console", Console(width=width))
    for name in ("", *COMMANDS):
        lines = desk(*name.split(), "--help").lines
        assert width - 2 <= max(map(len, lines)) <= width, name
        assert "…" not in "".join(lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_an_example_that_can_be_understood(desk, name):
    desk.patch.setattr(app, "console", Console(width=100))
    (example,) = re.findall(
        r"^Example: (.*?)\s*$", desk(*name.split(), "--help").out, flags=re.MULTILINE
    )
    used = "release" if name == "rm" else name
    assert example.startswith(f"calotype {used}")
    (desk.folder / "photos").mkdir()
    (desk.folder / "screenshots").mkdir()
    desk.file("photos/*.jpg", b"the shell would have found its name")
    assert main(shlex.split(example)[1:]) in (0, 10)


def test_every_option_is_described(desk):
    desk.patch.setattr(app, "console", Console(width=100))
    for name in COMMANDS:
        said = desk(*name.split(), "--help").out
        for option in ("--store", "--scope", "--json", "--quiet -q", "--bytes"):
            assert re.search(rf"│ +{option}.*  \S", said), (name, option)
        assert not re.search(r"│ +\*? *--[a-z-]+( [A-Z]+)? +│", said), name


def test_a_file_may_be_put_in_a_process_of_its_own(desk):
    desk.file("a", b"hello")
    put = desk.outside("put", "a", "--json").objects[0]
    assert desk.outside("get", put["digest"]).output == b"hello"
    assert desk.outside("put", "-", stdin=b"hello").out.startswith("duplicate ")
    assert PROGRAM[1:] == ["-m", "calotype"]
