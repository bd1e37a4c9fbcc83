"""What every test here has: a time limit, and a part in the line at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash.counted import added
from tests.crash.limits import at_most
from tests.races import counted
from tests.races.crowd import PATIENCE, seconds


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test waits for ever."""
    with at_most(seconds(20) + 2 * PATIENCE, request.node.name):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was done, and what it came to."""
    if sums := added(terminalreporter, counted.PROPERTY):
        terminalreporter.write_line(counted.sentence(sums))
