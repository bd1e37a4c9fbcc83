"""The crash points notice what is wrong: operations that break one promise each."""

from __future__ import annotations

import pytest
from tests.crash.mutants import MUTANTS
from tests.crash.sweeping import needs_tracing, noticed

SIGNS = (
    ("bytes-unsynced", "order", "before its bytes are synced"),
    ("bytes-unsynced", "cut", "is live and not there"),
    ("rows-unsynced", "order", "not on disk when it said acked"),
    ("rows-unsynced", "cut", "acknowledged and lost"),
    ("bytes-before-rows", "kill", "I7"),
    ("in-two-steps", "kill", "half done"),
    ("says-so-before", "eio/9", "acknowledged and lost"),
    ("foreign-error", "eio/9", "RuntimeError: not one of ours"),
    ("deletes-first", "order", "deleted before the log"),
    ("deletes-first", "cut", "older than the bytes"),
    ("leaves-rubbish", "kill", "left over: rubbish"),
    ("forgets-the-trash", "kill/7", "I17"),
)
"""Which sweep has to notice which mutant, and in which words."""


@needs_tracing
@pytest.mark.parametrize(("mutant", "sweep", "sign"), SIGNS)
def test_a_broken_promise_is_noticed(mutant, sweep, sign, record_property) -> None:
    assert noticed(mutant, sweep, sign, record=record_property) == []


def test_every_mutant_is_tried() -> None:
    assert {mutant for mutant, _, _ in SIGNS} == set(MUTANTS)
