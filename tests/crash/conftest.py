"""What every test here has: a time limit, and a part in the line at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash import counted, mounts
from tests.crash.limits import at_most
from tests.crash.sweeping import LIMIT


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "mounts: needs small or read-only disks of its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Collect what needs disks of its own only where they can be made."""
    if mounts.MISSING:
        items[:] = [item for item in items if item.get_closest_marker("mounts") is None]


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test waits for ever."""
    with at_most(LIMIT + 60, request.node.name):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried, and what it came to."""
    if sums := counted.added(terminalreporter, counted.PROPERTY):
        terminalreporter.write_line(counted.sentence(sums))
    if mounts.MISSING:
        terminalreporter.write_line(f"crash: not collected, {mounts.MISSING}")
