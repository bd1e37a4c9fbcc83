"""The protocol's models hold in every state, and every mistake in them is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.model.cases import FAMILIES, Case, case_row, chosen
from tests.model.explorer import Model, explore
from tests.model.mutants import MUTANTS, Mutant, mutant_row
from tests.model.put_gc import put_gc
from tests.model.store import State, Terms
from tests.model.summary import PROPERTY, Summary

from calotype.catalog.states import ReplicaState

README = (Path(__file__).parent / "README.md").read_text()

Record = Callable[[str, object], None]


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_a_model_is_explored_to_its_end_and_everything_holds(
    case: Case, record_property: Record
) -> None:
    outcome = case.run()
    assert outcome.complete, outcome
    assert case_row(case, outcome) in README
    record_property(PROPERTY, (case.family, outcome.states, False))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mistake_is_caught(mutant: Mutant, record_property: Record) -> None:
    outcome = mutant.run()
    assert outcome.broken == mutant.breaks, outcome
    assert mutant_row(mutant, outcome) in README
    record_property(PROPERTY, (mutant.family, outcome.states, True))


def test_every_model_has_mistakes_that_it_catches() -> None:
    assert {mutant.family for mutant in MUTANTS} == {*FAMILIES}
    assert {case.family for case in chosen()} == {*FAMILIES}


def test_the_summary_counts_states_and_mistakes_by_model() -> None:
    summary = Summary(("put_gc", "slots", "fsck"))
    for family, states, caught in (
        ("slots", 1000, False),
        ("slots", 234, False),
        ("slots", 7, True),
    ):
        summary.add(family, states, caught)
    summary.add("put_gc", 5, caught=False)
    assert summary.lines() == [
        "model put_gc: 5 states, 0 mutants caught",
        "model slots: 1,234 states, 1 mutants caught",
    ]


def test_replicas_go_through_all_of_the_codes_own_states_and_no_others() -> None:
    seen: set[str] = set()

    def noted(state: State) -> bool:
        seen.update(state.versions[-1].states)
        return True

    model = put_gc(Terms(putters=((0, 4),), cuts=0))
    explore(replace(model, invariants={"noted": noted}))
    assert seen == {*ReplicaState, "none"}


def test_replicas_only_move_forward() -> None:
    order = ["none", *ReplicaState]
    model = put_gc(Terms(cuts=0, rot=1))

    def watched(state: State) -> Iterator[tuple[str, State]]:
        before = state.versions[-1].states
        for action in model.actions:
            for label, following in action(state):
                after = following.versions[-1].states
                for was, is_now in zip(before, after, strict=True):
                    assert order.index(was) <= order.index(is_now), label
                yield label, following

    assert explore(replace(model, actions=(watched,))).complete


def count_to(limit: int) -> Model[int]:
    """Numbers from 0 on, by one or by two, up to and with ``limit``."""

    def add(number: int) -> Iterator[tuple[str, int]]:
        for step in (1, 2):
            if number + step <= limit:
                yield f"add {step}", number + step

    return Model("count", 0, (add,), {"below seven": lambda number: number < 7})


def test_the_shortest_way_to_a_fault_is_told() -> None:
    outcome = explore(count_to(9))
    assert not outcome.complete
    assert (outcome.broken, outcome.last) == ("below seven", 7)
    assert len(outcome.trace) == 4
    assert sum(int(label.removeprefix("add ")) for label in outcome.trace) == 7
    assert "  4. add" in str(outcome)


def test_every_state_and_step_is_counted_once() -> None:
    outcome = explore(count_to(6))
    assert outcome.complete
    assert (outcome.states, outcome.steps, outcome.depth) == (7, 11, 3)


def test_a_budget_that_runs_out_is_not_taken_for_the_end() -> None:
    outcome = explore(count_to(6), budget=3)
    assert not outcome.complete
    assert outcome.broken is None
    assert 3 <= outcome.states < 7


def test_a_fault_at_the_start_has_no_way_to_it() -> None:
    model = replace(count_to(6), invariants={"positive": lambda number: number > 0})
    outcome = explore(model)
    assert (outcome.broken, outcome.trace, outcome.states) == ("positive", (), 1)
