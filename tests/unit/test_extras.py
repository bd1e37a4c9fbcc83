"""What an optional package is missing for, and the pip line that brings it."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from calotype import Store
from calotype.errors import MissingExtra

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def put(**places: str) -> None:
    with Store(**places) as store:
        store.put(b"a file")


NEEDED = {
    "postgres": ("psycopg", lambda: put(catalog="postgresql://h/db", backend="memory:")),
    "supabase": ("httpx", lambda: put(catalog="sqlite:///x.db", backend="supabase://p/b")),
    "testing": ("pytest", lambda: importlib.import_module("calotype.testing")),
}


@pytest.mark.parametrize("extra", NEEDED)
def test_the_pip_line_of_a_missing_package_is_given(extra, tmp_path, monkeypatch):
    package, needs = NEEDED[extra]
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("CALOTYPE_SUPABASE_KEY", "key")
        for name in [*sys.modules]:
            if name.startswith((f"{package}.", "calotype.backends.supabase", "calotype.testing")):
                patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra) as caught:
            needs()
    assert caught.value.code == "missing-extra"
    assert f"pip install 'calotype[{extra}]'" in caught.value.hint


def test_every_extra_is_tried():
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    assert extras.keys() == NEEDED.keys()
