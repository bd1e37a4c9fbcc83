"""Killed at a moment, a process leaves what a fresh one can go on with; on every combination."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from tests.combinations import NAMES, Combination, combination
from tests.crash import counted
from tests.crash.deeds import (
    ACTS,
    TREE,
    Sweep,
    copy,
    drop,
    let_go,
    put,
    put_many,
    take_in,
)
from tests.crash.moments import Watched
from tests.crash.points import room
from tests.store.pictures import noise

FULL = os.environ.get("CALOTYPE_CRASH") == "full"
QUICK_POINTS = 2


QUICK = {
    "sqlite-local": copy,
    "sqlite-database": put,
    "sqlite-s3": let_go,
    "sqlite-supabase": put_many,
    "postgres-local": drop,
    "postgres-database": let_go,
    "postgres-s3": put,
    "postgres-supabase": take_in,
}
"""What is killed on each combination, at a few of its moments; in full everything at all of them."""

SOME = [(pair, act) for pair in NAMES for act in ACTS if FULL or QUICK[pair] is act]


def with_tree(where: Combination, folder: Path) -> Combination:
    """Three files lie there, which import takes."""
    for name in "abc":
        (folder / "tree" / name).mkdir(parents=True)
        (folder / "tree" / name / "file").write_bytes(noise(600, f"in tree {name}"))
    return replace(where, keys=(*where.keys, (TREE, str(folder / "tree"))))


@pytest.mark.parametrize(("pair", "act"), SOME)
def test_what_a_kill_leaves_can_be_gone_on_with(pair, act, record_property) -> None:
    with room() as folder, ExitStack() as stack:
        where = combination(*pair.split("-"), folder)
        watched = Watched(with_tree(where, folder), stack)
        sweep = Sweep(watched, pair, folder)
        moments = sweep.strike(act, 0)
        assert moments > 1
        step = 1 if FULL else max(1, moments // QUICK_POINTS)
        for due in range(1 + NAMES.index(pair) % step, moments + 1, step):
            sweep.strike(act, due)
        sweep.end()
        assert sweep.points > 0
        record_property(counted.PROPERTY, {"kill at a wire": sweep.points, "operations": 1})
