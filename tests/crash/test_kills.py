"""Killed before any system call that changes a file, or without power, a store keeps its promises.

Before it says that it is done, everything has reached the disk, in the right order; and a power cut
takes what was not synced, or some of it.
"""

from __future__ import annotations

import pytest
from tests.crash.scenario import SCENARIOS
from tests.crash.sweeping import FULL, every, needs_tracing, swept

KILLS = {
    "put-new": 1,
    "attach": 1,
    "release": 1,
    "gc": 1,
    "put-checkpoint": 8,
    "put-many": 8,
    "put-first": 4,
    "import": 10,
    "import-again": 10,
    "import-table": 16,
    "import-table-remove": 48,
    "import-bytes-remove": 96,
}
"""Every how many points one is tried: fewer where several hundred differ little, else ``OTHERS``."""

OTHERS = 2

CUTS = {
    "put-checkpoint": 16,
    "put-many": 16,
    "put-first": 6,
    "put-staged": 4,
    "import": 20,
    "import-again": 20,
    "import-table": 32,
    "import-table-remove": 240,
    "import-bytes-remove": 200,
}
"""The same for power cuts."""


@needs_tracing
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_neither_a_kill_nor_a_power_cut_breaks_a_promise(scenario, record_property) -> None:
    kill = "kill-any" if FULL else "kill" + every(KILLS.get(scenario, OTHERS))
    cut = "cut" + every(CUTS.get(scenario, 2 * OTHERS))
    assert swept(scenario, "order", kill, cut, record=record_property) == []
