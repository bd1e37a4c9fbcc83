"""Fixtures: a folder for objects, which nobody has made yet, and the backend in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from calotype.backends.local import LocalBackend


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def backend(root) -> LocalBackend:
    return LocalBackend(root)
