"""PostgreSQL crashes, or ends its backends, at the commits of put and gc: nothing is lost by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests import servers
from tests.combinations import Combination, another
from tests.crash import counted
from tests.crash.deeds import Sweep, hit, let_go, purge, put
from tests.crash.moments import Act, Moments
from tests.crash.points import room
from tests.wire import Wire

from calotype.errors import Unavailable

FULL = os.environ.get("CALOTYPE_CRASH") == "full"
SELDOM = 1 if FULL else 13
OFTEN: dict[Act, int] = {} if FULL else {put: 5, hit: 1}
"""Of the moments of a deed one in so many is struck, ``SELDOM`` where nothing is said of it.

There are two for each commit: before it, and after it, when nobody hears of it.
"""


class Struck:
    """A store in this process; at a moment of its wire ``strike`` is done to the server."""

    def __init__(self, where: Combination, wire: Wire, strike: Callable[[], object]) -> None:
        self.where = where.with_catalog(wire.url)
        self._wire = wire
        self._strike = strike

    def through(self, url: str) -> str:
        return url

    def run(self, act: Act, number: int, due: int) -> tuple[str, Moments]:
        moments = Moments(0)

        def watch(when: str) -> bool:
            moments.go_on(f"{when} COMMIT")
            if len(moments.seen) != due:
                return True
            moments.killed = True
            self._strike()
            return False

        with self.where.open() as store:
            store.stats()
            self._wire.watch = watch
            try:
                act(store, number)
            except Unavailable as error:
                assert error.hint
                return "killed", moments
            finally:
                self._wire.watch = lambda _: True
        return "acknowledged", moments


@pytest.fixture
def folder() -> Iterator:
    with room() as found:
        yield found


def swept(struck: Struck, pair: str, folder, acts: list[Act], record_property) -> None:
    sweep = Sweep(struck, pair, folder, cut=True)
    for act in acts:
        moments = sweep.strike(act, 0)
        step = OFTEN.get(act, SELDOM)
        for due in range(1 + acts.index(act) % step, moments + 1, step):
            sweep.strike(act, due)
    sweep.end()
    assert sweep.points >= len(acts)
    record_property(counted.PROPERTY, {"crash of a server": sweep.points, "operations": len(acts)})


@pytest.mark.parametrize("place", ["database", "s3"] if FULL else ["database"])
def test_a_crash_of_the_server_at_a_commit_loses_nothing(place, folder, record_property) -> None:
    server = servers.OwnServer(folder)
    try:
        wire = Wire(server.url)
        where = Combination(server.url, *another(place, folder, "blobs"))
        with closing(wire):
            struck = Struck(where, wire, lambda: server.restart("immediate"))
            swept(struck, f"postgres-{place}", folder, [put, hit, let_go], record_property)
    finally:
        server.stop()


def test_backends_that_are_terminated_at_a_commit_lose_nothing(folder, record_property) -> None:
    url = servers.schema()

    def terminate() -> None:
        with psycopg.connect(url, autocommit=True) as raw:
            raw.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    where = Combination(url, *another("database", folder, "blobs"))
    with closing(Wire(url)) as wire:
        struck = Struck(replace(where), wire, terminate)
        swept(struck, "postgres-database", folder, [put, hit, let_go, purge], record_property)
