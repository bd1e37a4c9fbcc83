"""Rounds: the sides of a comparison take turns, A B A B, and only their ratios mean anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of each round."""

    values: tuple[float, ...]

    def __str__(self) -> str:
        """``median (min-max)``, to three significant digits."""
        return (
            f"{_short(median(self.values))} ({_short(min(self.values))}-{_short(max(self.values))})"
        )

    def times(self, factor: float) -> Series:
        """The same in another unit."""
        return Series(tuple(value * factor for value in self.values))

    def plus(self, constant: float) -> Series:
        """A constant more in every round."""
        return Series(tuple(value + constant for value in self.values))

    def over(self, other: Series) -> Series:
        """The ratio within each round."""
        return Series(
            tuple(ours / theirs for ours, theirs in zip(self.values, other.values, strict=True))
        )


def interleaved(
    sides: Mapping[str, Callable[[], float]], rounds: int = ROUNDS
) -> dict[str, Series]:
    """Let every side take its turn in every round; each returns what it measured."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in _turned(list(sides), number):
            found[name].append(sides[name]())
    return {name: Series(tuple(values)) for name, values in found.items()}


def each(items: Iterable[T], work: Callable[[T], object]) -> list[float]:
    """Seconds that ``work`` took for each item."""
    taken = []
    for item in items:
        started = perf_counter()
        work(item)
        taken.append(perf_counter() - started)
    return taken


def _turned(names: Sequence[str], number: int) -> Sequence[str]:
    """Another side begins in every round, so that none always follows the same one."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
