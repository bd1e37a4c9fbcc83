"""A disk that fails or is full at any system call: an error of ours, nothing lost, and once more."""

from __future__ import annotations

import pytest
from tests.crash.scenario import SCENARIOS
from tests.crash.sweeping import every, needs_tracing, swept

STEPS = {
    "put-new": 1,
    "attach": 1,
    "release": 1,
    "gc": 4,
    "put-checkpoint": 60,
    "put-first": 12,
    "import": 12,
    "import-again": 12,
    "import-table": 20,
    "import-table-remove": 200,
    "import-bytes-remove": 200,
    "fsck": 60,
}
"""Every how many calls one fails with EIO, alone; elsewhere ``SPARSE``."""

SPARSE = 24


@needs_tracing
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_failing_disk_is_an_error_of_ours_and_the_same_again_succeeds(
    scenario, record_property
) -> None:
    step = STEPS.get(scenario, SPARSE)
    once = ["eio" + every(step), "enospc" + every((step + 1) // 2)]
    for_good = ["eio-on" + every(4 * step), "enospc-on" + every(2 * step)]
    assert swept(scenario, *once, *for_good, record=record_property) == []
