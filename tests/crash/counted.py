"""A line at the end of a test run for each count: how many points, how many operations."""

from __future__ import annotations

from collections import Counter

import pytest

COUNTED = ("crash points", "race operations")
"""Properties that tests record, added up."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums; a conftest only has to import this function."""
    sums: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                sums.update({k: v for k, v in report.user_properties if k in COUNTED})
    for name, total in sums.items():
        terminalreporter.write_line(f"{name}: {total}")
