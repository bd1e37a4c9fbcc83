"""Walk every interleaving of a small model, breadth first, and hand out the shortest way to a fault.

A state is any hashable value, best a NamedTuple of tuples. An action is a function that yields
``(label, next state)`` for everything that one process, or the world, may do next. An invariant is
a predicate that has to hold in every state that can be reached.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

Action = Callable[[S], Iterable[tuple[str, S]]]
Invariant = Callable[[S], bool]


@dataclass(frozen=True, slots=True)
class Model(Generic[S]):
    """Where a model starts, what may happen in it, and what must always be true."""

    name: str
    initial: S
    actions: tuple[Action[S], ...]
    invariants: Mapping[str, Invariant[S]]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[S]):
    """What an exploration found.

    ``complete`` is True when every reachable state was visited and every invariant held in it.
    Otherwise either ``broken`` names an invariant, ``trace`` holds the labels of a shortest way
    from the start to the state that breaks it and ``last`` is that state; or the budget ran out.
    """

    model: str
    states: int
    steps: int
    depth: int
    seconds: float
    complete: bool
    broken: str | None = None
    trace: tuple[str, ...] = ()
    last: S | None = None

    def __str__(self) -> str:
        """One line, and under it the trace of a fault."""
        verdict = "complete" if self.complete else f"breaks {self.broken}" if self.broken else "cut"
        head = f"{self.model}: {verdict}, {self.states:,} states, {self.steps:,} steps"
        lines = [f"{number:3}. {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([f"{head}, depth {self.depth}, {self.seconds:.1f} s", *lines])


def explore(model: Model[S], *, budget: int | None = None) -> Outcome[S]:
    """Visit the states of ``model`` until one breaks an invariant or ``budget`` states are known."""
    started = time.process_time()
    parents: dict[S, S | None] = {model.initial: None}
    frontier, steps, depth, fault = [model.initial], 0, 0, _broken(model, model.initial)
    with _without_cycle_collection():
        while frontier and fault is None and (budget is None or len(parents) < budget):
            reached: list[S] = []
            fault, walked = _level(model, frontier, parents, reached)
            steps, frontier, depth = steps + walked, reached, depth + bool(reached)
    return Outcome(
        model.name,
        len(parents),
        steps,
        depth,
        time.process_time() - started,
        complete=fault is None and not frontier,
        broken=fault[0] if fault else None,
        trace=_trace(model, parents, fault[1]) if fault else (),
        last=fault[1] if fault else None,
    )


def _level(
    model: Model[S], frontier: list[S], parents: dict[S, S | None], reached: list[S]
) -> tuple[tuple[str, S] | None, int]:
    """Take every step from ``frontier``; the first fault, and how many steps there were."""
    actions, invariants = model.actions, tuple(model.invariants.values())
    known, steps = len(parents), 0
    for state in frontier:
        for action in actions:
            for _, following in action(state):
                steps += 1
                parents.setdefault(following, state)
                if len(parents) == known:
                    continue
                known += 1
                reached.append(following)
                for holds in invariants:
                    if not holds(following):
                        return _broken(model, following), steps
    return None, steps


def _broken(model: Model[S], state: S) -> tuple[str, S] | None:
    for name, holds in model.invariants.items():
        if not holds(state):
            return name, state
    return None


def _trace(model: Model[S], parents: Mapping[S, S | None], state: S) -> tuple[str, ...]:
    """The labels on the way to ``state``; found again by taking each step once more."""
    labels: list[str] = []
    before = parents[state]
    while before is not None:
        labels.append(_label(model, before, state))
        state, before = before, parents[before]
    return tuple(reversed(labels))


def _label(model: Model[S], before: S, after: S) -> str:
    steps = (step for action in model.actions for step in action(before))
    return next(label for label, following in steps if following == after)


@contextmanager
def _without_cycle_collection() -> Iterator[None]:
    """States hold no cycles, and looking for some among millions takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
