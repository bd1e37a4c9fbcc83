"""Every backend against the one contract."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from calotype.backends import Backend, Locates, Stages, folders
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.testing.backends import BackendContract, machine
from calotype.testing.objects import key, put
from calotype.testing.stages import StagesContract

LONG = settings(max_examples=25, stateful_step_count=25, deadline=None)


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()

    def test_it_has_a_url_and_no_other_powers(self, backend):
        assert backend.url == "memory:"
        assert not isinstance(backend, Stages | Locates)

    def test_it_behaves_as_a_dictionary_does(self):
        run_state_machine_as_test(machine(MemoryBackend), settings=LONG)


class TestLocal(StagesContract):
    @pytest.fixture
    def backend(self, tmp_path) -> Backend:
        return LocalBackend(tmp_path / "blobs")

    def test_it_has_a_url_and_paths(self, backend, tmp_path):
        assert backend.url == f"file:{tmp_path}/blobs"
        assert isinstance(backend, Stages)
        assert isinstance(backend, Locates)
        put(backend, key("a", extension="png"), b"bytes")
        with open(backend.path(key("a", extension="png")), "rb") as file:
            assert file.read() == b"bytes"

    def test_it_behaves_as_a_dictionary_does(self, tmp_path):
        roots = count()
        run_state_machine_as_test(
            machine(lambda: LocalBackend(tmp_path / f"{next(roots)}")), settings=LONG
        )


class TestLocalWithoutDescriptors(StagesContract):
    """As on Windows, where directories cannot be held open: the same promises by plain paths."""

    @pytest.fixture
    def backend(self, tmp_path, monkeypatch) -> Backend:
        monkeypatch.setattr(folders, "DESCRIPTORS", False)
        return LocalBackend(tmp_path / "blobs")

    # Windows deletes no file that is open: there is nothing to come back to.
    test_it_can_be_published_again_when_its_object_was_deleted = None


class TestLocalWithoutSyncfs(StagesContract):
    """As on macOS and on file systems whose syncfs says less than fsync."""

    @pytest.fixture
    def backend(self, tmp_path, monkeypatch) -> Backend:
        monkeypatch.setattr(folders, "_libc", lambda: None)
        return LocalBackend(tmp_path / "blobs")
