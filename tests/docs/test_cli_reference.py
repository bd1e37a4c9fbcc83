"""The page of the command line says what the commands say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from tests.docs.pages import ROOT, blocks

from calotype.cli.app import COMMANDS

PAGE = ROOT / "docs/reference/cli.md"


def sections() -> dict[str, str]:
    """The text of each command's block by the command's name."""
    names = re.findall(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(names, (block.text for block in blocks(PAGE)), strict=True))


def without_ends(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def test_every_command_has_its_section_and_no_other_is_there():
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", ["put", "gc", "attach"])
def test_a_section_is_what_the_program_prints(name):
    done = subprocess.run(
        [sys.executable, "-m", "calotype", name, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
    )
    assert without_ends(done.stdout) == without_ends(sections()[name])


def test_the_generator_notices_a_page_that_is_not_current(tmp_path):
    copy = tmp_path / "project"
    for path in ("docs/generate.py", "docs/reference/python.md", "CONTRIBUTING.md"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text((ROOT / path).read_text())
    (copy / "src").symlink_to(ROOT / "src")
    (copy / "docs/reference/cli.md").write_text(PAGE.read_text().replace("--owner", "--odd", 1))
    done = subprocess.run(
        [sys.executable, copy / "docs/generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode > 0 and "cli.md is not current" in done.stderr
    subprocess.run([sys.executable, copy / "docs/generate.py"], check=True)
    assert (copy / "docs/reference/cli.md").read_text() == PAGE.read_text()
