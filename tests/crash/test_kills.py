"""Killed before any system call that changes a file, a store keeps every promise.

And before it says that it is done, everything has reached the disk, in the right order.
"""

from __future__ import annotations

import pytest
from tests.crash.scenario import SCENARIOS
from tests.crash.sweeping import FULL, every, needs_tracing, swept

LONG = {"put-checkpoint": 4}
"""Scenarios of several hundred points that differ little, and every how many of them is tried."""


@needs_tracing
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_neither_a_kill_nor_a_power_cut_breaks_a_promise(scenario, record_property) -> None:
    kill = "kill-any" if FULL else "kill" + every(LONG.get(scenario, 1))
    assert swept(scenario, "order", kill, record=record_property) == []
