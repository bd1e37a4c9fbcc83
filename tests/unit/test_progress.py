"""Runs: work that goes on while it is looked at, has one result, and says when it was forgotten."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Generator
from dataclasses import FrozenInstanceError, fields

import pytest

from calotype.progress import Progress, Run, time_left


class Work:
    """Three steps and a result, and a note of what was done."""

    def __init__(self, steps: int = 3, failing: int | None = None) -> None:
        self.steps, self.failing = steps, failing
        self.done: list[int] = []
        self.closed = False

    def __call__(self) -> Generator[Progress, None, str]:
        try:
            for number in range(self.steps):
                if number == self.failing:
                    raise ValueError("step broke")
                self.done.append(number)
                yield Progress(self.steps, number + 1)
        finally:
            self.closed = True
        return "the result"


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def run(work) -> Run:
    return Run(work, name="count")


def forgotten(work: Work, use: Callable[[Run], object]) -> list[str]:
    """What is said when a run that was used so is let go."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        use(Run(work, name="import"))
        gc.collect()
    return [f"{each.category.__name__}: {each.message}" for each in said]


def test_nothing_is_done_before_it_is_looked_at(work, run):
    assert work.done == []
    run.close()


def test_iterating_does_the_work_step_by_step(work, run):
    seen = []
    for progress in run:
        seen.append(progress.done)
        assert len(work.done) == len(seen)
    assert seen == [1, 2, 3]


def test_the_result_is_that_of_the_work(work, run):
    assert run.result() == "the result"
    assert work.done == [0, 1, 2]


def test_iterating_first_and_asking_then_does_the_work_once(work, run):
    assert len(list(run)) == 3
    assert run.result() == run.result() == "the result"
    assert work.done == [0, 1, 2]


def test_events_come_once(run):
    assert len(list(run)) == 3
    assert list(run) == []
    assert run.result() == "the result"


def test_an_iterator_that_was_begun_is_gone_on_with_by_the_result(work, run):
    begun = iter(run)
    assert next(begun).done == 1
    assert run.result() == "the result"
    assert work.done == [0, 1, 2]
    assert list(begun) == []
    assert run.result() == "the result"


def test_a_result_may_be_nothing():
    def steps() -> Generator[int, None, None]:
        yield 1

    made = Run(steps)
    assert made.result() is None
    assert made.result() is None


def test_work_without_steps_has_a_result_too():
    made = Run(Work(steps=0))
    assert list(made) == []
    assert made.result() == "the result"


def test_leaving_the_loop_stops_the_work_where_it_stands(work, run):
    for progress in run:
        if progress.done == 2:
            break
    gc.collect()
    assert work.done == [0, 1]
    assert work.closed


def test_what_was_left_early_has_no_result_and_never_passes_nothing_off_as_one(run):
    for _ in run:
        break
    gc.collect()
    with pytest.raises(Exception, match=r"\w"):
        run.result()


def test_what_was_closed_has_no_result_and_never_passes_nothing_off_as_one(run):
    run.close()
    with pytest.raises(Exception, match=r"\w"):
        run.result()


def test_closing_stops_the_work_and_is_harmless_to_repeat(work, run):
    assert next(iter(run)).done == 1
    run.close()
    run.close()
    assert work.done == [0]
    assert work.closed


def test_an_error_of_the_work_comes_out(work):
    made = Run(Work(failing=1))
    with pytest.raises(ValueError, match="step broke"):
        list(made)


def test_work_that_failed_has_no_result_and_never_passes_nothing_off_as_one():
    made = Run(Work(failing=1))
    with pytest.raises(ValueError, match="step broke"):
        made.result()
    with pytest.raises(Exception, match=r"\w"):
        made.result()


def leave(made: Run) -> None:
    for _ in made:
        break


@pytest.mark.parametrize("use", [id, iter], ids=["nothing", "an iterator"])
def test_a_run_that_was_never_begun_warns_by_its_name(work, use):
    said = "ResourceWarning: This import was never run: iterate it or call .result()."
    assert forgotten(work, use) == [said]
    assert work.done == []


@pytest.mark.parametrize("use", [Run.result, leave, Run.close])
def test_a_run_that_was_used_or_closed_says_nothing(work, use):
    assert forgotten(work, use) == []


def test_work_that_cannot_even_begin_warns_of_nothing_else():
    def refuse() -> Generator[int, None, None]:
        raise ValueError("no such place")

    with warnings.catch_warnings(record=True) as said, pytest.raises(ValueError, match="place"):
        warnings.simplefilter("always")
        Run(refuse)
    gc.collect()
    assert said == []


# Progress


def test_progress_begins_with_nothing_known():
    progress = Progress(None, 0)
    assert (progress.total, progress.seconds_per_item, progress.eta) == (None, None, None)
    assert (progress.skipped, progress.computed, progress.failed, progress.bytes) == (0, 0, 0, 0)
    assert progress.note == ""


def test_the_time_left_is_that_of_the_rest_at_the_pace_so_far(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 110.0)
    assert time_left(100.0, 5, 20) == 30.0
    assert time_left(100.0, 20, 20) == time_left(100.0, 21, 20) == 0.0
    assert time_left(100.0, 0, 20) is time_left(100.0, 5, None) is None


def test_progress_is_a_value():
    assert Progress(3, 1) == Progress(3, 1)
    assert len({Progress(3, 1), Progress(3, 1), Progress(3, 2)}) == 2
    with pytest.raises(FrozenInstanceError):
        Progress(3, 1).done = 2


def test_progress_has_the_fields_that_bars_and_streams_show():
    assert [each.name for each in fields(Progress)] == [
        "total",
        "done",
        "skipped",
        "computed",
        "failed",
        "bytes",
        "seconds_per_item",
        "eta",
        "note",
    ]
