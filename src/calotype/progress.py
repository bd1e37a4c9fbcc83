"""Long work: an iterator of Progress behind a Run."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come.

    ``total`` is None while it is unknown. ``done`` counts every finished item; ``skipped``,
    ``computed`` and ``failed`` say how it went. ``seconds_per_item`` is the mean over *computed*
    items, None before the first one; ``eta`` the seconds that the rest takes at the pace of all
    that was done, None before that can be told.
    """

    total: int | None
    done: int
    skipped: int = 0
    computed: int = 0
    failed: int = 0
    bytes: int = 0
    seconds_per_item: float | None = None
    eta: float | None = None
    note: str = ""


def time_left(began: float, done: int, total: int | None) -> float | None:
    """Seconds to the end at the pace since ``began``, by time.monotonic(); None if not known."""
    if total is None or not done:
        return None
    return max(0, total - done) * (time.monotonic() - began) / done


class Run(Generic[E, R]):
    """Work that goes on while it is iterated, and has a result when it is through.

    Iterate it for its events (``Progress`` or ``Finding``), or call ``result()`` to run it to its
    end. Leaving the loop early stops the work where it stands; what was done stays done, and there
    is no result. A Run that nobody iterated has done nothing, and warns.
    """

    def __init__(self, work: Callable[[], Generator[E, None, R]], *, name: str = "run") -> None:
        self._steps = work()
        self._name = name
        self._started = False
        self._outcome: list[R] = []

    def __iter__(self) -> Iterator[E]:
        """The events of the work, each once."""
        self._started = True
        if inspect.getgeneratorstate(self._steps) != inspect.GEN_CLOSED:
            self._outcome.append((yield from self._steps))

    def result(self) -> R:
        """Run to the end and return the outcome; harmless to repeat.

        ``RuntimeError`` when the work was left early or failed before.
        """
        for _ in self if not self._outcome else ():
            pass
        if not self._outcome:
            raise RuntimeError(f"This {self._name} was left before its end: it has no result.")
        return self._outcome[0]

    def close(self) -> None:
        """Stop the work where it stands."""
        self._started = True
        self._steps.close()

    def __del__(self) -> None:
        """Warn when the work was never begun."""
        if not getattr(self, "_started", True):
            warnings.warn(
                f"This {self._name} was never run: iterate it or call .result().",
                ResourceWarning,
                stacklevel=2,
            )
