"""The documentation does what it says: every block runs, every name and link is there."""

from __future__ import annotations

import ast
import configparser
import doctest
import inspect
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import skimage
from sqlalchemy import Engine
from tests import seaweed, servers, supabase_server
from tests.docs.pages import ROOT, Block, blocks, commands, name, pages

from calotype import Scope, Store, config, errors
from calotype.catalog.tables import metadata
from calotype.cli import main
from calotype.errors import CalotypeError

ALIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PICTURES = {"cat.jpg": "rocket.jpg", "photos/cat.png": "chelsea.png", "photos/cup.png": "color.png"}


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """Where a reader sits: a folder with a few pictures, and ``calotype`` on the PATH."""
    source = Path(skimage.__file__).parent / "data"
    for here, there in PICTURES.items():
        (tmp_path / here).parent.mkdir(exist_ok=True)
        shutil.copy(source / there, tmp_path / here)
    for variable in [each for each in os.environ if each.startswith("CALOTYPE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", servers.schema())
    monkeypatch.setenv("MEDIA_URL", seaweed.url())
    for variable, text in seaweed.ENVIRONMENT.items():
        monkeypatch.setenv(variable, text)
    monkeypatch.setenv("BACKEND_URL", f"{supabase_server.running().bucket()}/files")
    monkeypatch.setenv("CALOTYPE_SUPABASE_KEY", supabase_server.running().key)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def run_python(block: Block, page: Path, names: dict[str, object]) -> None:
    """Run a program; lines before it keep the page's line numbers in a traceback."""
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
    exec(code, names)


def run_session(block: Block, page: Path, names: dict[str, object]) -> None:
    """Run an interactive session and compare what it shows."""
    test = doctest.DocTestParser().get_doctest(
        block.text, names, name(page), str(page), block.line - 1
    )
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=ALIKE, verbose=False)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not runner.failures, "".join(said)


def run_console(block: Block, page: Path) -> None:
    """Run shell commands and compare what they print; ``...`` stands for anything."""
    for command in commands(block):
        done = subprocess.run(
            ["bash", "-c", command.line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        where = f"{name(page)}:{block.line}: $ {command.line}\nprinted:\n{done.stdout}"
        assert done.returncode == 0, f"{where}\nexit {done.returncode}"
        same = doctest.OutputChecker().check_output(command.printed, done.stdout, ALIKE)
        assert same, f"{where}\nbut the page says:\n{command.printed}"


def look_at(block: Block) -> None:
    """Check a block that is not run: it is at least well formed, and names real commands."""
    if block.language == "toml":
        Path("read.toml").write_text(block.text)
        assert config.load("read.toml").shown()
    elif block.language == "ini":
        configparser.ConfigParser(strict=False, delimiters="=").read_string(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "pyi":
        ast.parse(block.text)
    elif block.language == "sh":
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
    else:
        assert block.language == "text", f"line {block.line}: a block of unknown kind"


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_block_of_the_page_runs(page, desk):
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            run_python(block, page, names)
        elif block.language == "pycon":
            run_session(block, page, names)
        elif block.language == "console":
            run_console(block, page)
        else:
            look_at(block)
    close(names.values())


def close(made: Iterable[object]) -> None:
    """Close the databases that a page opened; the programs that do as it does end."""
    for each in made:
        if isinstance(each, sqlite3.Connection):
            each.close()
        elif isinstance(each, Engine):
            each.dispose()


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_link_of_the_page_leads_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(found), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


def test_every_make_target_that_a_page_names_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in pages():
        named = set(re.findall(r"(?:`|^|\$ )make (\w+)", page.read_text(), flags=re.MULTILINE))
        assert named <= targets, name(page)


def written_by_hand() -> str:
    """What the documentation says, the generated page left out."""
    return "".join(page.read_text() for page in pages() if page.name != "python.md")


@pytest.mark.parametrize("owner", [Store, Scope])
def test_the_reference_has_every_public_name(owner):
    reference = (ROOT / "docs/reference/python.md").read_text()
    public = {each for each in vars(owner) if not each.startswith("_")}
    missing = {each for each in public if f"### {each}\n" not in reference}
    assert public and not missing


@pytest.mark.parametrize("owner", [Store, Scope])
def test_a_page_written_by_hand_shows_every_method(owner):
    text = written_by_hand()
    public = {each for each, what in vars(owner).items() if inspect.isroutine(what)}
    shown = {each for each in public if re.search(rf"\b{each}\(", text)}
    assert {each for each in public - shown if not each.startswith("_")} == set()


def test_the_files_page_has_every_file_and_table_of_a_store(tmp_path):
    page = (ROOT / "docs/reference/files.md").read_text()
    with Store(tmp_path / "media") as store:
        store.put(b"anything")
        files = {path.name for path in (tmp_path / "media").iterdir()}
    made = {re.sub(r"^catalog\.db(?=-)", "", each) for each in files}
    assert {each for each in made if each not in page} == set()
    tables = {each.removeprefix("calotype_") for each in metadata.tables}
    assert {each for each in tables if f"`{each}`" not in page} == set()


def test_the_configuration_page_has_every_key_with_its_default():
    page = (ROOT / "docs/reference/configuration.md").read_text()
    rows = re.findall(r"^\| `([a-z._]+)` \| (?:`([^`]+)`)? ?\|", page, flags=re.MULTILINE)
    assert dict(rows) == config.DEFAULTS


def families() -> list[type[CalotypeError]]:
    """Every class of error."""
    found = [each for each in vars(errors).values() if inspect.isclass(each)]
    return [each for each in found if issubclass(each, CalotypeError) and each is not CalotypeError]


def test_the_errors_page_has_every_code_with_its_class_and_exit_code():
    from calotype.cli.exits import exit_of

    page = (ROOT / "docs/reference/errors.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (\d+) \|", page, flags=re.MULTILINE)
    expected = [(each.code, each.__name__, str(int(exit_of(each(""))))) for each in families()]
    assert sorted(rows) == sorted(expected)


def test_the_python_reference_is_as_the_code_has_it():
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_backend_that_contributing_shows_keeps_the_contract(tmp_path):
    code = "".join(
        block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python"
    )
    (tmp_path / "test_table.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_what_cron_and_systemd_are_to_run_is_understood(tmp_path):
    """Each line that names the program by its whole path, in any page."""
    found = {
        line.partition("/bin/calotype ")[2]
        for page in pages()
        for block in blocks(page)
        if block.language in ("text", "ini")
        for line in block.text.splitlines()
        if "/bin/calotype " in line
    }
    assert {words.split()[2] for words in found} >= {"gc", "fsck"}
    with Store(tmp_path / "media") as store:
        store.put(b"kept", owner="page/1")
    for words in sorted(found):
        given = [each.replace("/srv/app", str(tmp_path)) for each in shlex.split(words)]
        assert main(given) == 0, words
