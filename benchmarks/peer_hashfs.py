"""hashfs's side of ingest, run by the Python of its own environment: FOLDER < paths."""

from __future__ import annotations

import json
import sys
from time import perf_counter

from hashfs import HashFS  # type: ignore[import-not-found]


def main() -> None:
    """Put every file named on standard input, one by one, as its manual does."""
    paths = sys.stdin.read().splitlines()
    started = perf_counter()
    files = HashFS(sys.argv[1], depth=2, width=2, algorithm="sha256")
    for path in paths:
        files.put(path)
    print(json.dumps({"seconds": perf_counter() - started}))


if __name__ == "__main__":
    main()
