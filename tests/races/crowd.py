"""Many processes at the same moment: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.thread import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Generic, TypeVar

from tests.combinations import NAMES

T = TypeVar("T")

LEAD = 0.8
"""Seconds in which every process has to be there, so that all begin at once."""

PATIENCE = 120.0
"""Seconds after which a process that should be done counts as hung; a store itself gives up
waiting for a lock after 30."""


def server() -> BaseContext:
    """Where processes come from; a forked pytest would carry its threads' locks along."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["calotype.store", "tests.races.worker"])
    return context


def at_once(
    work: Callable[..., T],
    arguments: Sequence[tuple[object, ...]],
    *,
    threads: int = 1,
    limit: float = PATIENCE,
) -> list[T]:
    """``work(*each)`` for all of ``arguments`` at one moment; ``threads`` of them a process.

    Answers in their order; what any of them raised is told here, and so is one that is not done
    ``limit`` seconds later. No process outlives the call.
    """
    groups = [arguments[first : first + threads] for first in range(0, len(arguments), threads)]
    members: list[_Member[T]] = []
    try:
        members += [_Member(work, group) for group in groups]
        start = time.monotonic() + LEAD
        for member in members:
            member.begin(start)
        return [answer for member in members for answer in member.answers(start + limit)]
    finally:
        for member in members:
            member.end()


class _Member(Generic[T]):
    """One process of the crowd, and the pipe to it."""

    def __init__(self, work: Callable[..., T], group: Sequence[tuple[object, ...]]) -> None:
        context = server()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_together, args=(theirs, work, group))  # type: ignore[attr-defined]
        self._process.start()
        theirs.close()

    def begin(self, start: float) -> None:
        """Tell it when."""
        self._pipe.send(start)

    def answers(self, until: float) -> list[T]:
        """What its threads returned."""
        if not self._pipe.poll(max(until - time.monotonic(), 0)):
            raise AssertionError("a process of the crowd hung")
        try:
            raised, answers = self._pipe.recv()
        except EOFError:
            self._process.join(PATIENCE)
            raise AssertionError(f"a process died: {self._process.exitcode}") from None
        if raised:
            raise AssertionError(raised)
        return list(answers)

    def end(self) -> None:
        """It is gone afterwards, whatever it did."""
        self._process.join(1)
        self._process.kill()
        self._process.join(PATIENCE)
        self._pipe.close()


def _together(
    pipe: Connection, work: Callable[..., T], group: Sequence[tuple[object, ...]]
) -> None:
    start = pipe.recv()
    try:
        with ThreadPoolExecutor(len(group)) as pool:
            waiting = [pool.submit(_on_time, work, each, start) for each in group]
            pipe.send(("", [future.result() for future in waiting]))
    except BaseException:
        pipe.send((traceback.format_exc(), []))


def _on_time(work: Callable[..., T], arguments: tuple[object, ...], start: float) -> T:
    time.sleep(max(start - time.monotonic(), 0))
    return work(*arguments)


LENGTH = os.environ.get("CALOTYPE_RACE_SECONDS")


LONG = "sqlite-local"
"""The combination that is raced on at length, also where others are not."""


def pairs(*quick: str) -> list[str]:
    """The combinations to race on: these, or all of them where CALOTYPE_RACE_SECONDS is set."""
    return list(quick) if LENGTH is None else NAMES


def seconds(quick: float) -> float:
    """How long a race lasts: ``quick``, or what CALOTYPE_RACE_SECONDS says."""
    return float(LENGTH or quick)
