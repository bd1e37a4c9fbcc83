"""The line at the end of a test run that says what the races came to."""

from __future__ import annotations

from collections import Counter

PROPERTY = "races"
"""Under this name a test records its counts, by what they count."""


def sentence(sums: Counter[str]) -> str:
    """``races: 1,204 operations, 31 kills, 0 losses, 0 leaks, 0 errors``."""
    return (
        f"races: {sums['operations']:,} operations, {sums['gc']:,} of them gc without grace, "
        f"{sums['kills']} kills; {sums['losses']} losses, {sums['leaks']} leaks, "
        f"{sums['errors']} errors"
    )
