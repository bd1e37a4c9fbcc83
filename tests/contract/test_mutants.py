"""The contract bites: each of these backends is wrong in one way, and a test of it says so."""

from __future__ import annotations

import io
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest

from calotype.backends import Key, Listed, Stages
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend, exactly
from calotype.errors import NotFound, Unavailable
from calotype.quantities import now
from calotype.testing.backends import BackendContract
from calotype.testing.stages import StagesContract


class InMemory(MemoryBackend):
    """Honest, and easy to break: what a mutant overrides is all that it does differently."""

    def store(self, key: Key, content: bytes) -> None:
        super().put(key, io.BytesIO(content), len(content))


class SkipsWhatExists(InMemory):
    def put(self, key, source, size):
        if self.size(key) is None:
            super().put(key, source, size)


class SwallowsErrors(InMemory):
    def put(self, key, source, size):
        with suppress(OSError):
            super().put(key, source, size)


class KeepsWhatArrived(InMemory):
    def put(self, key, source, size):
        content = b""
        try:
            for chunk in exactly(source, size):
                content += chunk
        finally:
            self.store(key, content)


class RenamesErrors(InMemory):
    def put(self, key, source, size):
        try:
            super().put(key, source, size)
        except OSError as error:
            raise Unavailable("the disk failed") from error


class TakesShortSources(InMemory):
    def put(self, key, source, size):
        content = b"".join(iter(lambda: source.read(size), b""))
        if len(content) > size:
            raise Unavailable("too long")
        self.store(key, content)


class NeverReadsPastTheSize(InMemory):
    def put(self, key, source, size):
        content = b""
        while len(content) < size:
            chunk = source.read(size - len(content))
            if not chunk:
                raise Unavailable("too short")
            content += chunk
        self.store(key, content)


class ReadsOnce(InMemory):
    def put(self, key, source, size):
        content = source.read(size)
        if len(content) != size or source.read(1):
            raise Unavailable("not the size")
        self.store(key, content)


class RewindsItsSource(InMemory):
    def put(self, key, source, size):
        with suppress(AttributeError):
            source.seek(0)
        super().put(key, source, size)


class CutsAtOneMebibyte(InMemory):
    def put(self, key, source, size):
        self.store(key, b"".join(exactly(source, size))[: 1 << 20])


class DeletesBeforeItPuts(InMemory):
    def put(self, key, source, size):
        self.delete(key)
        super().put(key, source, size)


class LosesWhatIsPutAtOnce(InMemory):
    def put(self, key, source, size):
        content = b"".join(exactly(source, size))
        objects = dict(self._objects)
        time.sleep(0.001)
        self._objects = objects | {str(key): (content, now())}


class IgnoresStop(InMemory):
    def open(self, key, start=0, stop=None):
        return super().open(key, start)


class IgnoresStart(InMemory):
    def open(self, key, start=0, stop=None):
        return super().open(key, 0, stop)


class RefusesToClip(InMemory):
    def open(self, key, start=0, stop=None):
        if start > (self.size(key) or 0):
            raise Unavailable("416")
        return super().open(key, start, stop)


class OpensWhatIsMissing(InMemory):
    def open(self, key, start=0, stop=None):
        return io.BytesIO() if self.size(key) is None else super().open(key, start, stop)


class SharesOneReader(InMemory):
    def __init__(self):
        super().__init__()
        self.reader = None

    def open(self, key, start=0, stop=None):
        content = super().open(key).read()
        if self.reader is None or self.reader.closed or self.reader.getvalue() != content:
            self.reader = io.BytesIO(content)
        self.reader.seek(start)
        return self.reader


class ReadsWhatIsThereByThen(InMemory):
    def open(self, key, start=0, stop=None):
        backend, honest = self, super().open

        class Lazy(io.BytesIO):
            def read(self, size=-1):
                with suppress(NotFound):
                    at = self.tell()
                    self.seek(0)
                    self.truncate()
                    self.write(MemoryBackend.open(backend, key, start, stop).getvalue())
                    self.seek(at)
                return super().read(size)

        return Lazy(honest(key, start, stop).read())


class HasSizeZeroForMissing(InMemory):
    def size(self, key):
        return super().size(key) or 0


class HasNoSizeForEmpty(InMemory):
    def size(self, key):
        return super().size(key) or None


class DeletesOnlyWhatIsThere(InMemory):
    def delete(self, key):
        del self._objects[str(key)]


class DeletesAllOfADigest(InMemory):
    def delete(self, key):
        for found in list(self.scan(str(Key(key.digest)))):
            super().delete(Key.parse(found.name))


class RemembersDeletions(InMemory):
    def __init__(self):
        super().__init__()
        self.gone = set()

    def delete(self, key):
        super().delete(key)
        self.gone.add(key)

    def size(self, key):
        return None if key in self.gone else super().size(key)

    def open(self, key, start=0, stop=None):
        if key in self.gone:
            raise NotFound("deleted")
        return super().open(key, start, stop)


class ForgetsTokens(InMemory):
    def put(self, key, source, size):
        super().put(Key(key.digest, "", key.extension), source, size)

    def open(self, key, start=0, stop=None):
        return super().open(Key(key.digest, "", key.extension), start, stop)


class ForgetsExtensions(InMemory):
    def put(self, key, source, size):
        super().put(Key(key.digest, key.token), source, size)

    def open(self, key, start=0, stop=None):
        return super().open(Key(key.digest, key.token), start, stop)


class ScansInAnyOrder(InMemory):
    def scan(self, prefix=""):
        return reversed(list(super().scan(prefix)))


class ScansByContainment(InMemory):
    def scan(self, prefix=""):
        return (found for found in super().scan() if prefix in found.name)


class ScansWholeFolders(InMemory):
    def scan(self, prefix=""):
        folder = prefix.rstrip("/") + "/" if prefix else ""
        return super().scan(folder)


class ScansNoMoreThanAPage(InMemory):
    def scan(self, prefix=""):
        return iter(list(super().scan(prefix))[:30])


class ScansInSeconds(InMemory):
    def scan(self, prefix=""):
        for found in super().scan(prefix):
            yield Listed(found.name, found.size, found.modified // 1_000_000)


class ScanTrips(InMemory):
    def scan(self, prefix=""):
        for name in sorted(name for name in list(self._objects) if name.startswith(prefix)):
            time.sleep(0.0002)
            content, modified = self._objects[name]
            yield Listed(name, len(content), modified)


class OnDisk(LocalBackend):
    """Honest, with a way to write a file as a mutant likes."""

    def at(self, key: Key) -> Path:
        path = Path(self.path(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class WritesInPlace(OnDisk):
    def put(self, key, source, size):
        with self.at(key).open("wb", buffering=0) as file:
            for chunk in exactly(source, size):
                file.write(chunk)


class WritesInPlaceAndTidiesUp(OnDisk):
    def put(self, key, source, size):
        try:
            with self.at(key).open("wb", buffering=0) as file:
                for chunk in exactly(source, size):
                    file.write(chunk)
        except BaseException:
            self.delete(key)
            raise


class HasOneTemporaryName(OnDisk):
    def put(self, key, source, size):
        path = self.at(key)
        part = Path(self.path(key)).parents[3] / "tmp" / path.name
        part.parent.mkdir(exist_ok=True)
        try:
            with part.open("wb", buffering=0) as file:
                for chunk in exactly(source, size):
                    file.write(chunk)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)


class RenamesBeforeTheEnd(OnDisk):
    def put(self, key, source, size):
        file = self.stage()
        chunks = exactly(source, size)
        file.write(next(chunks, b""))
        self.publish([(key, file)])
        with open(os.dup(file._file.fileno()), "ab", buffering=0) as rest:
            rest.writelines(chunks)
        file.discard()


class ListsTemporaryFiles(OnDisk):
    def scan(self, prefix=""):
        yield from super().scan(prefix)
        root = Path(self.url.removeprefix("file:"))
        for path in sorted((root / "tmp").glob("*")):
            if str(path.relative_to(root)).startswith(prefix):
                yield Listed(str(path.relative_to(root)), path.stat().st_size, now())


class LeavesItsTemporaryFiles(OnDisk):
    def put(self, key, source, size):
        file = self.stage()
        for chunk in exactly(source, size):
            file.write(chunk)
        self.publish([(key, file)])
        file.discard()


class PublishesAllButOne(OnDisk):
    def publish(self, items):
        super().publish(items[: max(1, len(items) - 1)])


class PublishesNothingOverOldObjects(OnDisk):
    def publish(self, items):
        super().publish([(key, file) for key, file in items if self.size(key) is None])


class PublishesOnce(OnDisk):
    def publish(self, items):
        super().publish([(key, file) for key, file in items if not file.published])


class PublishesByCopyingAndKeeps(OnDisk):
    def publish(self, items):
        for key, file in items:
            with file.open() as source:
                shutil.copyfileobj(source, self.at(key).open("wb"))


class DiscardsTheObject(OnDisk):
    def publish(self, items):
        super().publish(items)
        for key, file in items:
            self.published = getattr(self, "published", {}) | {file: key}

    def stage(self):
        file, backend = super().stage(), self

        class Discarding(type(file)):
            def discard(self):
                super().discard()
                if self.published:
                    backend.delete(Key.parse(self._name))

        file.__class__ = Discarding
        return file


class SweepsTheYoung(OnDisk):
    def sweep(self, older_than):
        return super().sweep(2**62)


class SweepsNothing(OnDisk):
    def sweep(self, older_than):
        return 0


class StagesInSight(OnDisk):
    def stage(self):
        file = super().stage()
        (Path(self.url.removeprefix("file:")) / "staging").write_bytes(b"")
        return file


MUTANTS = [
    (SkipsWhatExists, "test_putting_again_replaces"),
    (SwallowsErrors, "test_a_broken_source_leaves_no_trace"),
    (KeepsWhatArrived, "test_a_broken_source_leaves_no_trace"),
    (RenamesErrors, "test_a_broken_source_leaves_no_trace"),
    (TakesShortSources, "test_a_source_that_ends_early_leaves_no_trace"),
    (NeverReadsPastTheSize, "test_a_source_that_goes_on_too_long_leaves_no_trace"),
    (NeverReadsPastTheSize, "test_a_source_that_refuses_at_its_end_leaves_no_trace"),
    (ReadsOnce, "test_what_was_put_is_read_back"),
    (RewindsItsSource, "test_a_source_is_read_from_where_it_stands"),
    (CutsAtOneMebibyte, "test_five_mebibytes_are_read_back"),
    (DeletesBeforeItPuts, "test_a_failed_put_harms_nothing_that_was_stored"),
    (DeletesBeforeItPuts, "test_an_object_is_there_whole_or_not_at_all"),
    (LosesWhatIsPutAtOnce, "test_many_threads_work_at_once"),
    (IgnoresStop, "test_a_range_is_clipped_to_the_object"),
    (IgnoresStart, "test_a_range_is_clipped_to_the_object"),
    (RefusesToClip, "test_a_range_is_clipped_to_the_object"),
    (OpensWhatIsMissing, "test_what_is_not_there_is_not_found"),
    (SharesOneReader, "test_readers_share_no_position"),
    (ReadsWhatIsThereByThen, "test_a_reader_never_mixes_two_objects"),
    (HasSizeZeroForMissing, "test_what_is_not_there_is_not_found"),
    (HasNoSizeForEmpty, "test_an_empty_object_is_an_object"),
    (DeletesOnlyWhatIsThere, "test_deleting_is_harmless_to_repeat"),
    (DeletesAllOfADigest, "test_token_and_extension_make_other_objects"),
    (RemembersDeletions, "test_a_deleted_object_can_be_put_again"),
    (ForgetsTokens, "test_token_and_extension_make_other_objects"),
    (ForgetsExtensions, "test_token_and_extension_make_other_objects"),
    (ScansInAnyOrder, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (ScansByContainment, "test_a_scan_keeps_to_its_prefix"),
    (ScansWholeFolders, "test_a_scan_keeps_to_its_prefix"),
    (ScansNoMoreThanAPage, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (ScansInSeconds, "test_a_scan_is_sorted_and_tells_size_and_time"),
    (ScanTrips, "test_a_scan_goes_on_beside_writers"),
    (WritesInPlace, "test_a_broken_source_leaves_no_trace"),
    (WritesInPlaceAndTidiesUp, "test_a_failed_put_harms_nothing_that_was_stored"),
    (WritesInPlaceAndTidiesUp, "test_an_object_is_there_whole_or_not_at_all"),
    (WritesInPlaceAndTidiesUp, "test_a_reader_never_mixes_two_objects"),
    (WritesInPlaceAndTidiesUp, "test_racing_writers_end_with_one_whole_object"),
    (HasOneTemporaryName, "test_racing_writers_end_with_one_whole_object"),
    (RenamesBeforeTheEnd, "test_a_broken_source_leaves_no_trace"),
    (RenamesBeforeTheEnd, "test_an_object_is_there_whole_or_not_at_all"),
    (ListsTemporaryFiles, "test_an_object_is_there_whole_or_not_at_all"),
    (ListsTemporaryFiles, "test_nothing_staged_is_seen_before_it_is_published"),
    (LeavesItsTemporaryFiles, "test_failed_puts_leave_no_temporary_file"),
    (PublishesAllButOne, "test_many_are_published_at_once"),
    (PublishesNothingOverOldObjects, "test_published_bytes_are_as_if_they_were_put"),
    (PublishesOnce, "test_published_again_it_is_another_object"),
    (DiscardsTheObject, "test_discarding_a_published_file_keeps_the_object"),
    (SweepsTheYoung, "test_sweep_takes_only_what_is_old"),
    (SweepsNothing, "test_sweep_takes_only_what_is_old"),
    (StagesInSight, "test_nothing_staged_is_seen_before_it_is_published"),
]


def make(kind, tmp_path):
    return kind(tmp_path / "blobs") if issubclass(kind, LocalBackend) else kind()


def passes(kind, test: str, tmp_path) -> bool:
    """Run one test of the contract on a new backend of that kind."""
    backend = make(kind, tmp_path)
    contract = StagesContract() if isinstance(backend, Stages) else BackendContract()
    try:
        getattr(contract, test)(backend)
    except (Exception, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize(("mutant", "test"), MUTANTS, ids=[f"{m.__name__}-{t}" for m, t in MUTANTS])
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_wrong_backend_fails_the_test_that_is_named(mutant, test, tmp_path):
    assert not passes(mutant, test, tmp_path)


@pytest.mark.parametrize("kind", [InMemory, OnDisk])
def test_the_honest_backends_they_are_made_of_pass_every_test(kind, tmp_path):
    contract = StagesContract if issubclass(kind, Stages) else BackendContract
    tests = [name for name in dir(contract) if name.startswith("test_")]
    assert len(tests) >= 23
    assert [name for name in tests if not passes(kind, name, tmp_path / name)] == []


def test_each_test_of_the_contract_catches_some_mutant():
    every = {name for name in dir(StagesContract) if name.startswith("test_")}
    assert every - {test for _, test in MUTANTS} == set()
