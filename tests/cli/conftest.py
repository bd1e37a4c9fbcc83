"""The desk of a test, with nothing on it."""

from __future__ import annotations

import pytest
from tests.cli.desk import Desk, clear_environment


@pytest.fixture
def desk(tmp_path, capsysbinary, monkeypatch) -> Desk:
    """An empty folder to work in; the store is ``store`` in it, and is not made yet."""
    clear_environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALOTYPE_STORE", "store")
    return Desk(tmp_path, capsysbinary, monkeypatch)
