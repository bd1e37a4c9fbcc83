"""The project as a whole: what it exports, what importing it costs, what its files say of it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from tests.docs.pages import ROOT

import calotype

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
MODULES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("sqlalchemy", "alembic", "PIL", "numpy", "cyclopts", "rich", "sqlite3", "httpx")


def test_the_package_exports_these_names_and_no_others():
    names = ["CalotypeError", "Digest", "Scope", "Store", "__version__"]
    assert sorted(calotype.__all__) == names
    assert dir(calotype) == names
    for each in names:
        assert getattr(calotype, each) is not None
    with pytest.raises(AttributeError, match="no attribute 'Strore'"):
        _ = calotype.Strore


def test_importing_the_package_loads_nothing_heavy():
    code = f"import calotype, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_same_everywhere():
    assert calotype.__version__ == PROJECT["version"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_module_begins_with_what_it_is(path):
    said = ast.get_docstring(ast.parse(path.read_text()))
    if path.stat().st_size:
        assert said and said.partition("\n\n")[0].rstrip().endswith((".", ":"))
    assert not re.search(r"(^|_)(util|helper|manager|service|base|core|misc)s?(_|$)", path.stem)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_module_can_be_read_at_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400


def test_what_is_imported_is_declared():
    standard = sys.stdlib_module_names | {"calotype", "pytest", "hypothesis"}  # testing's own
    extras = [each for some in PROJECT["optional-dependencies"].values() for each in some]
    wanted = (*PROJECT["dependencies"], *extras)
    declared = {re.split(r"[<>=~\[ ]", each)[0] for each in wanted}
    imported = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                imported.add(node.module.partition(".")[0])
    assert imported - standard - {"_typeshed"} <= declared


def test_every_part_has_its_layer():
    """import-linter says nothing of modules that the layers do not name."""
    layers = SETTINGS["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {each for layer in layers for each in layer.split(" | ")}
    parts = [path.stem for path in (ROOT / "src/calotype").iterdir()]
    assert {f"calotype.{part}" for part in parts if part[0] != "_" and part != "py"} <= named
