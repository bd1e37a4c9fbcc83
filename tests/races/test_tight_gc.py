"""gc without grace in a tight loop beside put, attach, open and release of one digest."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.invariants import broken_invariants, objects_of
from tests.races import counted
from tests.races.acts import either
from tests.races.crowd import LEAD, PATIENCE, at_once, seconds

from calotype import Store


def test_what_one_holds_is_never_collected(record_property) -> None:
    with room() as folder:
        place = folder / "store"
        until = time.monotonic() + LEAD + seconds(6)
        kinds = ["collect", "use", "collect", "use", "use"]
        wanted = [(kind, str(place), number, until) for number, kind in enumerate(kinds)]
        limit = until - time.monotonic() + PATIENCE
        counts = sum(at_once(either, wanted, threads=2, limit=limit), Counter())
        done = {"operations": counts["use"] + counts["gc"], "gc": counts["gc"]}
        record_property(counted.PROPERTY, done)
        assert counts["erased"] > 0, counts
        assert counts["gone"] > 0, counts
        assert broken_invariants(place, late_writes=True) == []
        _is_empty(place)


def _is_empty(place: Path) -> None:
    clock = Clock(0)
    with Store(place, clock=clock) as store:
        store.gc(now=True)
        assert store.stats().blobs == 0
        for _ in range(2):
            clock.forward(DAY + DAY // 24)
            store.gc(now=True)
    assert objects_of(place) == []
    assert broken_invariants(place) == []
