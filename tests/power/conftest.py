"""What every test here has: a time limit, and a part in the line at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash.counted import added
from tests.crash.limits import at_most
from tests.power import disk

PROPERTY = "power"
"""Under this name a test records its counts, by what they count."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "power: needs a disk in a file, to cut its power")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Collect what needs a disk of its own only where one can be made."""
    if disk.MISSING:
        items[:] = [item for item in items if item.get_closest_marker("power") is None]


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test waits for ever."""
    with at_most(3600, request.node.name):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often the power was cut, and what it came to."""
    if sums := added(terminalreporter, PROPERTY):
        terminalreporter.write_line(
            f"power: {sums['cuts']:,} cuts on ext4 and XFS, {sums['acknowledged']:,} operations "
            f"acknowledged before; {sums['broken']} promises broken; {sums['noticed']} mutants "
            "noticed"
        )
    if disk.MISSING:
        terminalreporter.write_line(f"power: not collected, {disk.MISSING}")
