"""``python -m benchmarks [row...]``: run rows, show their tables, keep them in RESULTS.md."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks import backends, gc, hits, ingest, memory, put, report, start

ROWS: dict[str, Callable[[], report.Section]] = {
    "put": put.run,
    "hits": hits.run,
    "gc": gc.run,
    "ingest": ingest.run,
    "memory": memory.run,
    "start": start.run,
    "backends": backends.run,
}


def main(wanted: Sequence[str]) -> None:
    """Run the wanted rows, or all of them."""
    if unknown := set(wanted) - set(ROWS):
        raise SystemExit(f"No such row: {', '.join(sorted(unknown))}. Rows: {', '.join(ROWS)}.")
    for name in wanted or ROWS:
        section = ROWS[name]()
        report.write(section)
        print(section, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
