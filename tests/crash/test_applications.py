"""The flows of both examples, killed before any system call: whole, kept, gone on with, no leak."""

from __future__ import annotations

import pytest
from tests.crash import screenshot_flows, staging_flows
from tests.crash.sweeping import FULL, every, needs_tracing, noticed, swept

STEPS = {
    "screenshots-first": 59,
    "screenshots-import": 29,
    "screenshots-link": 47,
    "screenshots-delete": 37,
    "screenshots-clear": 47,
    "staging-first": 37,
    "staging-upload": 17,
    "staging-work": 71,
    "staging-delete": 61,
    "staging-project": 23,
    "staging-backfill": 23,
}
"""Every how many calls that change a file the process is killed, outside of ``make prove``."""

SIGNS = (
    ("screenshots-rows-first", "kill/31", "neither"),
    ("screenshots-holds-for-ever", "kill/60", "left over"),
    ("screenshots-says-so-before", "kill/60", "lost: Image linked"),
    ("staging-in-two-steps", "kill/7", "half done"),
)
"""Which sweep has to notice which mutant, and in which words."""


@needs_tracing
@pytest.mark.parametrize("flow", [*screenshot_flows.FLOWS, *staging_flows.FLOWS])
def test_a_kill_breaks_no_promise_of_an_application(flow, record_property) -> None:
    kill = "kill-any" if FULL else "kill" + every(STEPS[flow])
    assert swept(flow, kill, record=record_property, program="applications") == []


@needs_tracing
@pytest.mark.parametrize(("mutant", "sweep", "sign"), SIGNS)
def test_a_broken_promise_of_an_application_is_noticed(
    mutant, sweep, sign, record_property
) -> None:
    done = noticed(mutant, sweep, sign, record=record_property, program="applications")
    assert done == []


def test_every_mutant_of_an_application_is_tried() -> None:
    mutants = {*screenshot_flows.MUTANTS, *staging_flows.MUTANTS}
    assert {mutant for mutant, _, _ in SIGNS} == mutants
