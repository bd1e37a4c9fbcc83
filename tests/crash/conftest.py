"""What every test here has: a time limit, and a part in the line at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash import counted
from tests.crash.limits import at_most
from tests.crash.sweeping import LIMIT


@pytest.fixture(autouse=True)
def in_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test waits for ever."""
    with at_most(LIMIT + 60, request.node.name):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried, and what it came to."""
    if sums := counted.added(terminalreporter, counted.PROPERTY):
        terminalreporter.write_line(counted.sentence(sums))
