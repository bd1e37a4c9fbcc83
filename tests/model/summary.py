"""What a run explored, a line for each model: how many states, how many mistakes caught."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

PROPERTY = "model"
"""Under this name a test tells of its exploration: the family, the states, and whether a mistake
was caught."""


@dataclass
class Summary:
    """Adds up explorations by family, in the order in which ``order`` names them."""

    order: tuple[str, ...]
    states: Counter[str] = field(default_factory=Counter)
    caught: Counter[str] = field(default_factory=Counter)

    def add(self, family: str, states: int, caught: bool) -> None:
        """Count one exploration; a mutant's states are no part of the model's."""
        if caught:
            self.caught[family] += 1
        else:
            self.states[family] += states

    def lines(self) -> list[str]:
        """``model put_gc: 48,211 states, 7 mutants caught``, for what was explored at all."""
        explored = [name for name in self.order if self.states[name] or self.caught[name]]
        return [
            f"model {name}: {self.states[name]:,} states, {self.caught[name]} mutants caught"
            for name in explored
        ]
