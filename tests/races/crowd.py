"""Many processes at the same moment: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.thread import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import TypeVar

T = TypeVar("T")

LEAD = 0.8
"""Seconds in which every process has to be there, so that all begin at once."""


def server() -> BaseContext:
    """Where processes come from; a forked pytest would carry its threads' locks along."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["calotype.store", "tests.races.worker"])
    return context


def at_once(
    work: Callable[..., T], arguments: Sequence[tuple[object, ...]], *, threads: int = 1
) -> list[T]:
    """``work(*each)`` for all of ``arguments`` at one moment; ``threads`` of them a process.

    Answers in their order; an exception of any of them is raised here.
    """
    groups = [arguments[first : first + threads] for first in range(0, len(arguments), threads)]
    with ProcessPoolExecutor(len(groups), mp_context=server()) as pool:
        start = time.monotonic() + LEAD
        waiting = [pool.submit(_together, work, group, start) for group in groups]
        return [answer for future in waiting for answer in future.result()]


def _together(work: Callable[..., T], group: Sequence[tuple[object, ...]], start: float) -> list[T]:
    with ThreadPoolExecutor(len(group)) as pool:
        return [
            future.result()
            for future in [pool.submit(_on_time, work, each, start) for each in group]
        ]


def _on_time(work: Callable[..., T], arguments: tuple[object, ...], start: float) -> T:
    time.sleep(max(start - time.monotonic(), 0))
    return work(*arguments)


def seconds(quick: float) -> float:
    """How long a race lasts: ``quick``, or what CALOTYPE_RACE_SECONDS says."""
    return float(os.environ.get("CALOTYPE_RACE_SECONDS", quick))
