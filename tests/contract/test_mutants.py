"""The contract bites: each of these backends is wrong in one way, and a test of it says so."""

from __future__ import annotations

import gc

import pytest
from tests.contract import mutants_in_memory as memory
from tests.contract import mutants_on_disk as disk

from calotype.backends import Stages
from calotype.backends.local import LocalBackend
from calotype.testing.backends import BackendContract
from calotype.testing.notes import NotesContract
from calotype.testing.stages import StagesContract

MUTANTS = [
    (memory.SkipsWhatExists, "test_putting_again_replaces"),
    (memory.SwallowsErrors, "test_a_broken_source_leaves_no_trace"),
    (memory.KeepsWhatArrived, "test_a_broken_source_leaves_no_trace"),
    (memory.RenamesErrors, "test_a_broken_source_leaves_no_trace"),
    (memory.TakesShortSources, "test_a_source_that_ends_early_leaves_no_trace"),
    (memory.NeverReadsPastTheSize, "test_a_source_that_goes_on_too_long_leaves_no_trace"),
    (memory.NeverReadsPastTheSize, "test_a_source_that_refuses_at_its_end_leaves_no_trace"),
    (memory.ReadsOnce, "test_what_was_put_is_read_back"),
    (memory.RewindsItsSource, "test_a_source_is_read_from_where_it_stands"),
    (memory.CutsAtOneMebibyte, "test_five_mebibytes_are_read_back"),
    (memory.DeletesBeforeItPuts, "test_a_failed_put_harms_nothing_that_was_stored"),
    (memory.DeletesBeforeItPuts, "test_an_object_is_there_whole_or_not_at_all"),
    (memory.LosesWhatIsPutAtOnce, "test_many_threads_work_at_once"),
    (memory.IgnoresStop, "test_a_range_is_clipped_to_the_object"),
    (memory.IgnoresStart, "test_a_range_is_clipped_to_the_object"),
    (memory.RefusesToClip, "test_a_range_is_clipped_to_the_object"),
    (memory.OpensWhatIsMissing, "test_what_is_not_there_is_not_found"),
    (memory.SharesOneReader, "test_readers_share_no_position"),
    (memory.ReadsWhatIsThereByThen, "test_a_reader_never_mixes_two_objects"),
    (memory.HasSizeZeroForMissing, "test_what_is_not_there_is_not_found"),
    (memory.HasNoSizeForEmpty, "test_an_empty_object_is_an_object"),
    (memory.DeletesOnlyWhatIsThere, "test_deleting_is_harmless_to_repeat"),
    (memory.DeletesAllOfADigest, "test_token_and_extension_make_other_objects"),
    (memory.RemembersDeletions, "test_a_deleted_object_can_be_put_again"),
    (memory.ForgetsTokens, "test_token_and_extension_make_other_objects"),
    (memory.ForgetsExtensions, "test_token_and_extension_make_other_objects"),
    (memory.ScansInAnyOrder, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (memory.ScansByContainment, "test_a_scan_keeps_to_its_prefix"),
    (memory.ScansWholeFolders, "test_a_scan_keeps_to_its_prefix"),
    (memory.ScansNoMoreThanAPage, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (memory.ScansInSeconds, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (memory.ScanTrips, "test_a_scan_goes_on_beside_writers"),
    (memory.KeepsHalfOfANote, "test_a_note_is_read_back"),
    (memory.WritesOverNotes, "test_a_note_is_written_where_there_is_none"),
    (memory.RefusesTheSameNote, "test_a_note_is_written_where_there_is_none"),
    (memory.NeverWritesOverNotes, "test_a_note_gives_way_to_who_has_read_it"),
    (memory.WritesOverNotes, "test_a_note_gives_way_to_who_has_read_it"),
    (memory.LooksAndThenWrites, "test_of_several_at_once_one_gives_way_to_one"),
    (memory.DeletesAllNotes, "test_deleting_a_note_is_harmless_to_repeat"),
    (memory.DeletesOnlyNotesThatAreThere, "test_deleting_a_note_is_harmless_to_repeat"),
    (memory.HidesItsNotes, "test_notes_are_listed_beside_objects"),
    (memory.ForgetsNotesWithObjects, "test_notes_and_objects_do_not_disturb_each_other"),
    (disk.WritesInPlace, "test_a_broken_source_leaves_no_trace"),
    (disk.WritesInPlaceAndTidiesUp, "test_a_failed_put_harms_nothing_that_was_stored"),
    (disk.WritesInPlaceAndTidiesUp, "test_an_object_is_there_whole_or_not_at_all"),
    (disk.WritesInPlaceAndTidiesUp, "test_a_reader_never_mixes_two_objects"),
    (disk.WritesInPlaceAndTidiesUp, "test_racing_writers_end_with_one_whole_object"),
    (disk.HasOneTemporaryName, "test_racing_writers_end_with_one_whole_object"),
    (disk.RenamesBeforeTheEnd, "test_a_broken_source_leaves_no_trace"),
    (disk.RenamesBeforeTheEnd, "test_an_object_is_there_whole_or_not_at_all"),
    (disk.ListsTemporaryFiles, "test_an_object_is_there_whole_or_not_at_all"),
    (disk.ListsTemporaryFiles, "test_nothing_staged_is_seen_before_it_is_published"),
    (disk.LeavesItsTemporaryFiles, "test_failed_puts_leave_no_temporary_file"),
    (disk.PublishesAllButOne, "test_many_are_published_at_once"),
    (disk.PublishesNothingOverOldObjects, "test_published_bytes_are_as_if_they_were_put"),
    (disk.PublishesOnce, "test_published_again_it_is_another_object"),
    (disk.DiscardsTheObject, "test_discarding_a_published_file_keeps_the_object"),
    (disk.DiscardsOnlyItsDescriptor, "test_discarding_leaves_nothing"),
    (disk.ReadsOnFromWhereItWrote, "test_staged_bytes_are_read_from_the_beginning"),
    (disk.StagesOneForAll, "test_contents_staged_together_are_as_if_staged_one_by_one"),
    (disk.RestsOpen, "test_files_that_rest_hold_nothing_open_and_are_as_good"),
    (disk.ForgetsWhatRests, "test_files_that_rest_hold_nothing_open_and_are_as_good"),
    (disk.ReadsByName, "test_a_reader_outlives_its_staged_file"),
    (disk.ReadsByName, "test_it_can_be_published_again_when_its_object_was_deleted"),
    (disk.SweepsTheYoung, "test_sweep_takes_only_what_is_old"),
    (disk.SweepsWhatIsHeld, "test_sweep_takes_only_what_is_old"),
    (disk.SweepsNothing, "test_sweep_takes_only_what_is_old"),
    (disk.StagesInSight, "test_nothing_staged_is_seen_before_it_is_published"),
]


def make(kind, tmp_path):
    return kind(tmp_path / "blobs") if issubclass(kind, LocalBackend) else kind()


class InMemoryContract(NotesContract, BackendContract):
    """All of it."""


class OnDiskContract(NotesContract, StagesContract):
    """All of it, and staging."""


def passes(kind, test: str, tmp_path) -> bool:
    """Run one test of the contract on a new backend of that kind."""
    backend = make(kind, tmp_path)
    contract = OnDiskContract() if isinstance(backend, Stages) else InMemoryContract()
    try:
        getattr(contract, test)(backend)
    except (Exception, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize(("mutant", "test"), MUTANTS, ids=[f"{m.__name__}-{t}" for m, t in MUTANTS])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_wrong_backend_fails_the_test_that_is_named(mutant, test, tmp_path):
    assert not passes(mutant, test, tmp_path)
    gc.collect()  # what it left open, while that is ignored


@pytest.mark.parametrize("kind", [memory.InMemory, disk.OnDisk])
def test_the_honest_backends_they_are_made_of_pass_every_test(kind, tmp_path):
    contract = OnDiskContract if issubclass(kind, Stages) else InMemoryContract
    tests = [name for name in dir(contract) if name.startswith("test_")]
    assert len(tests) >= 23
    assert [name for name in tests if not passes(kind, name, tmp_path / name)] == []


def test_each_test_of_the_contract_catches_some_mutant():
    every = {name for name in dir(OnDiskContract) if name.startswith("test_")}
    assert every - {test for _, test in MUTANTS} == set()
