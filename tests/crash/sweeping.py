"""Sweeps of crash points as the tests ask for them: each in a process of its own, counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash import tracing

FULL = os.environ.get("CALOTYPE_CRASH") == "full"
"""Every point of every fault, and what each of them leaves used up: hours instead of minutes."""

SEED = int(os.environ.get("CALOTYPE_CRASH_SEED", "0"))
"""Where a sweep that takes every k-th point begins."""

ROOT = Path(__file__).parents[2]

needs_tracing = pytest.mark.skipif(bool(tracing.missing()), reason=tracing.missing())


def swept(scenario: str, *asked: str, record: Callable[[str, object], None]) -> list[str]:
    """The promises that the sweeps found broken; notes how many points there were."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.points", scenario, *asked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    record("crash points", sum(result["points"] for result in results))
    assert not any(result["missed"] > result["points"] // 10 for result in results), results
    return [promise for result in results for promise in result["broken"]]


def every(number: int) -> str:
    """``/EVERY@OFFSET`` of a sweep that is not a full one."""
    return "" if FULL else f"/{number}@{SEED % number}"
