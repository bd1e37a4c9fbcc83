"""A ``put_many`` in a process of its own: ``python -m benchmarks.load STORE < paths``.

Two arguments are a catalog's URL and a backend's. Prints one line of JSON: seconds from the first
file to the last commit, and the process's peak of resident memory in bytes (of its own address
space; a child's ru_maxrss may be its parent's).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from time import perf_counter

from calotype import Store


def main(place: str, backend: str | None = None) -> None:
    """Put every file named on standard input into the store, in batches."""
    paths = sys.stdin.read().splitlines()
    before = peak()
    with Store(place) if backend is None else Store(catalog=place, backend=backend) as store:
        started = perf_counter()
        done = store.put_many(paths).result()
        seconds = perf_counter() - started
    if done.failures:
        raise SystemExit(f"{len(done.failures)} failed: {done.failures[0]}")
    print(json.dumps({"seconds": seconds, "peak": peak(), "before": before}))


def peak() -> int:
    """The most resident memory this process ever had, in bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("No VmHWM in /proc/self/status: memory is measured on Linux.")
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
