"""gc of 10,000 garbage blobs: its cost follows the garbage, not the collection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

from benchmarks.catalogs import Synthetic
from benchmarks.places import fresh, require_room, settle
from benchmarks.report import Section, Table
from benchmarks.rounds import interleaved
from calotype import Store

GARBAGE = 10_000
ROUNDS = 4
FEW = Synthetic(100_000)
MANY = Synthetic(1_000_000)


def run() -> Section:
    """Time the same gc in a catalog of 100,000 and in one of a million."""
    require_room(ROUNDS * 2.2 + 2.5, "the gc row")
    works: dict[str, Callable[[], float]] = {}
    planned: dict[str, list[float]] = {"few": [], "many": []}
    for name, corpus in (("few", FEW), ("many", MANY)):
        works[name] = partial(_gc, corpus, planned[name])
    found = interleaved(works, ROUNDS)
    ratio = found["many"].over(found["few"])
    cells = [
        [f"{FEW.count:,} blobs", str(found["few"]), _mean(planned["few"]), "1", ""],
        [f"{MANY.count:,} blobs", str(found["many"]), _mean(planned["many"]), str(ratio), "<= 1.3"],
    ]
    note = (
        f"Synthetic catalogs (sorted rows, always the same) with {GARBAGE:,} assets whose hold "
        "ended, at digests spread over all, in random order; their files of 1 KiB are real and "
        f"erased with them. {ROUNDS} rounds, each on a new copy that was written out before."
    )
    columns = ["", "s", "of which planning, s", "ratio", "target"]
    return Section("gc", f"gc of {GARBAGE:,} garbage blobs", [Table(columns, cells, note)])


def _gc(corpus: Synthetic, planned: list[float]) -> float:
    folder = corpus.copy(fresh("gc"))
    corpus.let_go(folder, GARBAGE)
    settle()
    with Store(folder) as store:
        started = perf_counter()
        plan = store.plan_gc()
        planned.append(perf_counter() - started)
        report = plan.execute()
        taken = perf_counter() - started
    if (report.doomed, report.erased) != (GARBAGE, GARBAGE):
        raise SystemExit(f"gc did other work than it should: {report}")
    return taken


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2g}"
