"""The crash points notice what is wrong: operations that break one promise each."""

from __future__ import annotations

import pytest
from tests.crash.mutants import MUTANTS
from tests.crash.sweeping import needs_tracing, swept

SIGNS = {
    "bytes-unsynced": ("order", "before its bytes are synced"),
    "rows-unsynced": ("order", "not on disk when it said acked"),
    "bytes-before-rows": ("kill", "I7"),
    "in-two-steps": ("kill", "half done"),
    "says-so-before": ("eio/9", "acknowledged and lost"),
    "foreign-error": ("eio/9", "RuntimeError: not one of ours"),
    "deletes-first": ("order", "deleted before the log"),
    "leaves-rubbish": ("kill", "left over: rubbish"),
    "forgets-the-trash": ("kill/7", "I17"),
}
"""Which sweep has to notice it, and in which words."""


@needs_tracing
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_promise_is_noticed(mutant, record_property) -> None:
    sweep, sign = SIGNS[mutant]
    found = swept(mutant, sweep, record=lambda *_: None)
    assert any(sign in promise for promise in found), found
