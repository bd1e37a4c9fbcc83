"""A digest that is purged and unblocked all the time, while others put and read it."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from tests.combinations import Combination, combination
from tests.crash.points import room
from tests.crash.scenario import DAY, Clock
from tests.races import counted
from tests.races.acts import BYTES, purge_or_defy
from tests.races.crowd import LEAD, LONG, PATIENCE, at_once, pairs, seconds

from calotype.errors import Blocked


@pytest.mark.parametrize("pair", pairs(LONG))
def test_a_purge_wins_against_everybody_and_leaves_nothing(pair, record_property) -> None:
    with room() as folder:
        where = combination(*pair.split("-"), folder)
        until = time.monotonic() + LEAD + seconds(4)
        wanted = [(work, where, until) for work in ("purge", "defy", "defy", "defy")]
        limit = until - time.monotonic() + PATIENCE
        counts = sum(at_once(purge_or_defy, wanted, threads=2, limit=limit), Counter())
        record_property(counted.PROPERTY, {"operations": counts.total()})
        assert min(counts["purged"], counts["put"]) >= 2, counts
        assert where.broken(late_writes=True) == []
        _stays_away(where)


def _stays_away(where: Combination) -> None:
    clock = Clock(0)
    with where.open(clock=clock) as store:
        digest = store.put(BYTES).digest
        store.purge(digest)
        with pytest.raises(Blocked):
            store.put(BYTES)
        assert store.stats().blobs == 0
        for _ in range(3):
            clock.forward(DAY + DAY // 24)
            store.gc(now=True)
    assert where.objects().sizes == {}
    assert where.broken() == []
