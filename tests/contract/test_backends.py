"""Every backend against the one contract."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from calotype.backends import Backend, Key, Locates, Stages, folders
from calotype.backends.local import LocalBackend
from calotype.backends.memory import MemoryBackend
from calotype.digest import Digest
from calotype.testing.backends import BackendContract, machine
from calotype.testing.notes import NotesContract
from calotype.testing.objects import key, names, put
from calotype.testing.stages import StagesContract

LONG = settings(max_examples=25, stateful_step_count=25, deadline=None)


DIGEST = Digest.of(b"a")
SHARD = f"sha256/{DIGEST[:2]}/{DIGEST[2:4]}"


@pytest.mark.parametrize("token", ["", "0123456789abcdef"])
@pytest.mark.parametrize("extension", ["", "png", "jp2"])
def test_a_key_is_read_back_from_its_name(token, extension):
    assert Key.parse(str(Key(DIGEST, token, extension))) == Key(DIGEST, token, extension)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "calotype.json",
        f"{SHARD}/",
        f"{SHARD}/{DIGEST}/x",
        f"{SHARD}/{DIGEST}\n",
        f"{SHARD}/{DIGEST}.",
        f"{SHARD}/{DIGEST}.PNG",
        f"{SHARD}/{DIGEST}.tar.gz",
        f"{SHARD}/{DIGEST}~0123",
        f"{SHARD}/{DIGEST.upper()}",
        f"x/{SHARD}/{DIGEST}",
        f"sha256/{DIGEST[2:4]}/{DIGEST[:2]}/{DIGEST}",
        f"sha256/../{DIGEST[2:4]}/{DIGEST}",
    ],
)
def test_any_other_name_is_no_key(name):
    assert Key.parse(name) is None


class TestMemory(NotesContract, BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()

    def test_it_has_a_url_and_no_other_powers(self, backend):
        assert backend.url == "memory:"
        assert not isinstance(backend, Stages | Locates)

    def test_a_scan_passes_over_what_is_deleted_meanwhile(self, backend):
        for n in range(9):
            put(backend, key(f"{n}"), b"bytes")
        listing = backend.scan()
        first = next(listing)
        for name in names(backend):
            backend.delete(Key.parse(name))
        assert list(listing) == []
        assert first.size == 5

    def test_it_behaves_as_a_dictionary_does(self):
        run_state_machine_as_test(machine(MemoryBackend), settings=LONG)


class TestLocal(NotesContract, StagesContract):
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


class TestLocalWithoutDescriptors(NotesContract, StagesContract):
    """As on Windows, where directories cannot be held open: the same promises by plain paths."""

    @pytest.fixture
    def backend(self, tmp_path, monkeypatch) -> Backend:
        monkeypatch.setattr(folders, "DESCRIPTORS", False)
        return LocalBackend(tmp_path / "blobs")

    # Windows deletes no file that is open: there is nothing to come back to.
    test_it_can_be_published_again_when_its_object_was_deleted = None
    # Nobody can hold the folder there meanwhile.
    test_of_several_at_once_one_gives_way_to_one = None


class TestLocalWithoutSyncfs(NotesContract, StagesContract):
    """As on macOS and on file systems whose syncfs says less than fsync."""

    @pytest.fixture
    def backend(self, tmp_path, monkeypatch) -> Backend:
        monkeypatch.setattr(folders, "_libc", lambda: None)
        return LocalBackend(tmp_path / "blobs")
