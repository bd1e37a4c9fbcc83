"""Prints at the end of a run what the models explored; under xdist too."""

from __future__ import annotations

import pytest
from tests.model.cases import FAMILIES
from tests.model.summary import PROPERTY, Summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summary = Summary(FAMILIES)
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == PROPERTY:
                family, states, caught = value
                summary.add(family, states, caught)
    for line in summary.lines():
        terminalreporter.write_line(line)
