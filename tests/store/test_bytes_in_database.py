"""What the bytes go through, once more in the catalog's database: the promises are the same."""

from __future__ import annotations

import pytest
from tests.store.places import Place
from tests.store.test_gc_erasing import *  # noqa: F403
from tests.store.test_put_many import *  # noqa: F403
from tests.store.test_read import *  # noqa: F403


@pytest.fixture(params=["one-file", "in-postgres"])
def place(request: pytest.FixtureRequest, tmp_path, clock) -> Place:
    """In place of every other one."""
    return Place(request.param, tmp_path, clock)


@pytest.fixture
def durable(place: Place) -> Place:
    """Each of them can be opened again."""
    return place


# What only a folder has: files that wait in it, are published, are found by their paths, outlive
# their names. tests/contract/test_database.py has what a database has in their place.
test_a_plan_shows_abandoned_intents = None
test_a_put_that_fails_takes_its_intent_back_at_once = None
test_a_reader_outlives_the_file = None
test_a_temporary_file_that_is_held_open_for_hours_is_not_reclaimed = None
test_a_temporary_file_that_may_not_be_looked_at_ends_no_run = None
test_an_abandoned_intent_is_erased_after_a_quarter_of_an_hour = None
test_an_abandoned_intent_stands_in_nobodys_way = None
test_large_files_wait_on_disk_and_not_in_memory = None
test_old_temporary_files_are_reclaimed_and_young_ones_are_not = None
test_stopping_early_leaves_no_temporary_files = None
test_temporary_files_that_rest_may_be_reclaimed_and_are_read_again = None
test_urls_count_as_accesses = None
