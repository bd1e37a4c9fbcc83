"""Sweeps of crash points as the tests ask for them: each in a process of its own, counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.crash import counted, tracing

EVERY = os.environ.get("CALOTYPE_CRASH") in ("every", "full")
"""Every point of every fault: a quarter of an hour for put, attach, release and gc."""

FULL = os.environ.get("CALOTYPE_CRASH") == "full"
"""And what each of them leaves is used up, not one of each sort: hours."""

SEED = int(os.environ.get("CALOTYPE_CRASH_SEED", "0"))
"""Where a sweep that takes every k-th point begins."""

LIMIT = 6 * 3600 if EVERY else 240
"""Seconds after which the sweeps of one test count as hung; on two slow cores most take ten."""

ROOT = Path(__file__).parents[2]

needs_tracing = pytest.mark.skipif(bool(tracing.missing()), reason=tracing.missing())

Record = Callable[[str, object], None]


def swept(scenario: str, *asked: str, record: Record, program: str = "points") -> list[str]:
    """The promises that the sweeps found broken; notes how many points there were of each sort."""
    results = _results(program, scenario, *asked)
    broken = [promise for result in results for promise in result["broken"]]
    points = Counter({result["fault"]: result["points"] for result in results})
    record(counted.PROPERTY, {**+points, "operations": 1, **counted.verdicts(broken)})
    assert not any(result["missed"] > result["points"] // 10 for result in results), results
    return broken


def noticed(
    mutant: str, sweep: str, sign: str, *, record: Record, program: str = "points"
) -> list[str]:
    """What the sweep says of a mutant, unless it says ``sign``: then it is noticed, and counted."""
    broken = [
        promise for result in _results(program, mutant, sweep) for promise in result["broken"]
    ]
    if not any(sign in promise for promise in broken):
        return [f"nothing with {sign!r}", *broken]
    record(counted.PROPERTY, {"mutants": 1})
    return []


def _results(program: str, scenario: str, *asked: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.crash.{program}", scenario, *asked],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{scenario}: {asked} took more than {LIMIT} s", pytrace=False)
    if done.returncode:
        pytest.fail(f"{scenario}: {done.stderr[-4000:]}", pytrace=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def every(number: int) -> str:
    """``/EVERY@OFFSET`` of a sweep that is not a full one."""
    return "" if EVERY else f"/{number}@{SEED % number}"
