"""Fixtures: the store that tests of belonging and of recovering begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.places import Clock
from tests.store.test_markers import filled

from calotype import Store


@pytest.fixture
def shop(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store in a folder, with four files."""
    with Store(tmp_path / "shop", clock=clock) as store:
        filled(store)
        yield store
