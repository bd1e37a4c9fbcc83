"""The line at the end of a test run that says what the crash points came to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

PROPERTY = "crash"
"""Under this name a test records its counts, by what they count."""

_LOSS = re.compile(r"\bI[12]\b|lost|damaged|cannot be read|neither")
_LEAK = re.compile(r"\bI(7|17)\b|left over|leak|stray")


def verdicts(broken: Iterable[str]) -> dict[str, int]:
    """Promises that were found broken, by their sort: ``losses``, ``leaks`` and ``others``."""
    return {"losses": 0, "leaks": 0, "others": 0} | Counter(map(_sort, broken))


def _sort(promise: str) -> str:
    if _LOSS.search(promise):
        return "losses"
    return "leaks" if _LEAK.search(promise) else "others"


def added(terminalreporter: pytest.TerminalReporter, name: str) -> Counter[str]:
    """The sums of all that tests recorded under ``name``, from whichever process."""
    sums: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for key, counts in report.user_properties:
                    sums.update(counts if key == name else {})
    return sums


def sentence(sums: Counter[str]) -> str:
    """``crash: 1,204 points (600 kill, ...), 0 losses, 0 leaks, 0 other broken promises; ...``."""
    apart = ("losses", "leaks", "others", "operations", "mutants")
    sorts = {name: count for name, count in sums.items() if name not in apart}
    points = ", ".join(f"{count:,} {name}" for name, count in sorts.items())
    return (
        f"crash: {sum(sorts.values()):,} points ({points}) in {sums['operations']} operations, "
        f"{sums['losses']} losses, {sums['leaks']} leaks, {sums['others']} other broken promises; "
        f"{sums['mutants']} mutants noticed"
    )
