"""The contract of a backend that stages files and publishes many at a time."""

from __future__ import annotations

import pytest

from calotype.backends import Backend, Staged, Stages, Sweeps
from calotype.quantities import SECOND, now
from calotype.testing.backends import CUT, NEW, OLD, BackendContract
from calotype.testing.objects import Broken, absent, key, names, noise, put, read, source

HOUR = 3600 * SECOND


def stages(backend: Backend) -> Stages:
    """The same backend, known to stage."""
    assert isinstance(backend, Stages)
    return backend


def sweeps(backend: Backend) -> Sweeps:
    """The same backend, known to sweep."""
    assert isinstance(backend, Sweeps)
    return backend


def staged(backend: Backend, content: bytes) -> Staged:
    """A staged file that holds ``content``, written in two parts."""
    file = stages(backend).stage()
    file.write(content[: len(content) // 2])
    file.write(content[len(content) // 2 :])
    return file


def leftovers(backend: Backend) -> int:
    """How many temporary files there were; none are left."""
    return sweeps(backend).sweep(now() + HOUR)


class StagesContract(BackendContract):
    """All of ``BackendContract``, and what ``Stages`` promises beyond it."""

    def test_published_bytes_are_as_if_they_were_put(self, backend: Backend) -> None:
        """Read, measured and listed alike, at new keys and in place of an old object."""
        put(backend, key("b"), OLD)
        for at in (key("a"), key("b")):
            file = staged(backend, NEW)
            stages(backend).publish([(at, file)])
            file.discard()
            assert read(backend, at) == NEW
            assert read(backend, at, 5, 50) == NEW[5:50]
            assert backend.size(at) == len(NEW)
        assert names(backend) == sorted([str(key("a")), str(key("b"))])
        assert leftovers(backend) == 0

    def test_many_are_published_at_once(self, backend: Backend) -> None:
        """Some new, some in place of old objects, and an empty one; publishing none is nothing."""
        stages(backend).publish([])
        contents = {key(f"{n}"): noise(700 * n, n) for n in range(30)}
        for n in range(0, 30, 3):
            put(backend, key(f"{n}"), OLD)
        items = [(at, staged(backend, content)) for at, content in contents.items()]
        stages(backend).publish(items)
        for _, file in items:
            file.discard()
        assert {at: read(backend, at) for at in contents} == contents
        assert names(backend) == sorted(map(str, contents))
        assert leftovers(backend) == 0

    def test_nothing_staged_is_seen_before_it_is_published(self, backend: Backend) -> None:
        """Not by a scan, and not at any key."""
        file = staged(backend, NEW)
        assert names(backend) == []
        assert absent(backend, key("a"))
        file.discard()

    def test_files_that_rest_hold_nothing_open_and_are_as_good(self, backend: Backend) -> None:
        """More than a process may open: read before and after publishing, published, discarded."""
        resource = pytest.importorskip("resource", reason="no limit of open files on Windows")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = {key(f"{n}"): stages(backend).stage() for n in range(2)}
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 100), hard))
        try:
            for n in range(2, 200):
                files[key(f"{n}")] = staged(backend, noise(n, n))
                stages(backend).rest(list(files.values()))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with files[key("150")].open() as found:
            assert found.read() == noise(150, 150)
        files.pop(key("199")).discard()
        stages(backend).publish(list(files.items()))
        with files[key("151")].open() as found:
            assert found.read() == noise(151, 151)
        for file in files.values():
            file.discard()
        assert {at: len(read(backend, at)) for at in files} == {
            at: 0 if n < 2 else n for n, at in enumerate(files)
        }
        assert leftovers(backend) == 0

    def test_contents_staged_together_are_as_if_staged_one_by_one(self, backend: Backend) -> None:
        """Empty ones too; published, or discarded."""
        contents = [noise(n * 100, n) for n in range(9)]
        assert stages(backend).stage_all([]) == []
        files = stages(backend).stage_all(contents)
        for content, file in zip(contents, files, strict=True):
            with file.open() as found:
                assert found.read() == content
        files.pop().discard()
        stages(backend).publish([(key(f"{n}"), file) for n, file in enumerate(files)])
        assert [read(backend, key(f"{n}")) for n in range(8)] == contents[:8]
        for file in files:
            file.discard()
        assert leftovers(backend) == 0

    def test_staged_bytes_are_read_from_the_beginning(self, backend: Backend) -> None:
        """By readers that share no position: before and after publishing, and again."""
        file = staged(backend, NEW)
        with file.open() as first, file.open() as second:
            assert first.read(9) == NEW[:9]
            assert second.read() == NEW
            stages(backend).publish([(key("a"), file)])
            assert first.read() == NEW[9:]
        with file.open() as third:
            third.seek(CUT)
            assert third.read() == NEW[CUT:]
        file.discard()

    def test_a_reader_outlives_its_staged_file(self, backend: Backend) -> None:
        """Discarded, or published and then deleted: what was opened is read to its end."""
        for publish in (False, True):
            file = staged(backend, NEW)
            with file.open() as reader:
                assert reader.read(9) == NEW[:9]
                if publish:
                    stages(backend).publish([(key("a"), file)])
                    backend.delete(key("a"))
                file.discard()
                assert reader.read() == NEW[9:]

    def test_discarding_leaves_nothing(self, backend: Backend) -> None:
        """And is harmless to repeat."""
        file = staged(backend, NEW)
        for _ in range(2):
            file.discard()
            assert names(backend) == []
            assert leftovers(backend) == 0

    def test_discarding_a_published_file_keeps_the_object(self, backend: Backend) -> None:
        """What is at a key is no temporary file any more."""
        file = staged(backend, NEW)
        stages(backend).publish([(key("a"), file)])
        file.discard()
        file.discard()
        assert read(backend, key("a")) == NEW

    def test_published_again_it_is_another_object(self, backend: Backend) -> None:
        """Under another key, at once or later; nothing done to one harms another."""
        file = staged(backend, NEW)
        stages(backend).publish([(key("a"), file), (key("b"), file)])
        stages(backend).publish([(key("c"), file)])
        put(backend, key("b"), OLD)
        file.discard()
        backend.delete(key("a"))
        assert absent(backend, key("a"))
        assert read(backend, key("b")) == OLD
        assert read(backend, key("c")) == NEW
        assert leftovers(backend) == 0

    def test_it_can_be_published_again_when_its_object_was_deleted(self, backend: Backend) -> None:
        """As one whose first key was lost to another writer has to be."""
        file = staged(backend, NEW)
        stages(backend).publish([(key("a"), file)])
        backend.delete(key("a"))
        stages(backend).publish([(key("b"), file)])
        file.discard()
        assert absent(backend, key("a"))
        assert read(backend, key("b")) == NEW

    def test_sweep_takes_only_what_is_old(self, backend: Backend) -> None:
        """A writer at work is left alone, however long it takes; objects are never swept."""
        put(backend, key("a"), OLD)
        file = staged(backend, NEW)
        young = staged(backend, NEW)
        stages(backend).rest([young])
        assert sweeps(backend).sweep(now() - HOUR) == 0
        assert leftovers(backend) == 1
        young.discard()
        stages(backend).publish([(key("b"), file)])
        abandoned = staged(backend, NEW)
        stages(backend).rest([abandoned])
        assert leftovers(backend) == 1
        assert leftovers(backend) == 0
        assert names(backend) == sorted([str(key("a")), str(key("b"))])
        file.discard()
        abandoned.discard()

    def test_failed_puts_leave_no_temporary_file(self, backend: Backend) -> None:
        """However the source fails."""
        for offset in (0, CUT, len(NEW)):
            with pytest.raises(Broken):
                backend.put(key("a"), source(NEW, breaks_at=offset), len(NEW))
        assert leftovers(backend) == 0
