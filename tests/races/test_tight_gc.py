"""gc without grace in a tight loop beside put, attach, open and release of one digest."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from tests.combinations import Combination, combination
from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.races import counted
from tests.races.acts import either
from tests.races.crowd import LEAD, LONG, PATIENCE, at_once, pairs, seconds


@pytest.mark.parametrize("pair", pairs(LONG, "postgres-s3"))
def test_what_one_holds_is_never_collected(pair, record_property) -> None:
    with room() as folder:
        where = combination(*pair.split("-"), folder)
        until = time.monotonic() + LEAD + seconds(6 if pair == LONG else 4)
        kinds = ["collect", "use", "collect", "use", "use"]
        wanted = [(kind, where, number, until) for number, kind in enumerate(kinds)]
        limit = until - time.monotonic() + PATIENCE
        counts = sum(at_once(either, wanted, threads=2, limit=limit), Counter())
        done = {"operations": counts["use"] + counts["gc"], "gc": counts["gc"]}
        record_property(counted.PROPERTY, done)
        assert counts["use"] > 0 and counts["gc"] > 0, counts
        if pair == LONG:
            assert counts["erased"] + counts["gone"] > 0, counts
        assert where.broken(late_writes=True) == []
        _is_empty(where)


def _is_empty(where: Combination) -> None:
    clock = Clock(0)
    with where.open(clock=clock) as store:
        store.gc(now=True)
        assert store.stats().blobs == 0
        for _ in range(2):
            clock.forward(DAY + DAY // 24)
            store.gc(now=True)
    assert where.objects().sizes == {}
    assert where.broken() == []
