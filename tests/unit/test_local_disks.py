"""The local backend on disks that fail: full, read-only, gone, or sick."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import re
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.mounts import needs_mounts, read_only, small_disk

from calotype.backends import folders, local
from calotype.backends.local import LocalBackend
from calotype.backends.staged import FEW
from calotype.errors import Unavailable
from calotype.quantities import SECOND, now
from calotype.testing.objects import absent, key, names, noise, put, read, source

A = key("a", extension="png")
BYTES = noise(50_000)


def temporary(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def staged(backend: LocalBackend, content: bytes = BYTES):
    file = backend.stage()
    file.write(content)
    return file


def failing(monkeypatch, module, name: str, code: int, when=lambda *_: True) -> None:
    real = getattr(module, name)

    def fail(*arguments, **keywords):
        if when(*arguments):
            raise OSError(code, os.strerror(code))
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, fail)


@needs_mounts
def test_a_full_disk_is_unavailable_and_keeps_what_it_had(tmp_path):
    with small_disk(tmp_path / "disk", "256k"):
        root = tmp_path / "disk/blobs"
        backend = LocalBackend(root)
        put(backend, A, BYTES)
        with pytest.raises(Unavailable, match="No space left on device") as raised:
            backend.put(key("b"), source(noise(400_000)), 400_000)
        assert "Free some space" in raised.value.hint
        assert absent(backend, key("b"))
        assert temporary(root) == []
        put(backend, key("b"), BYTES)
        assert read(backend, A) == read(backend, key("b")) == BYTES


@needs_mounts
def test_a_read_only_disk_is_read_and_refuses_the_rest(root, backend, tmp_path):
    put(backend, A, BYTES)
    with read_only(root, tmp_path / "view"):
        seen = LocalBackend(tmp_path / "view")
        assert read(seen, A) == BYTES
        for change in (lambda: put(seen, key("b"), BYTES), lambda: seen.delete(A)):
            with pytest.raises(Unavailable, match="Read-only file system") as raised:
                change()
            assert "remount" in raised.value.hint


def test_a_root_that_cannot_be_is_unavailable_to_all(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for root, said in ((tmp_path / ("x" * 300), "too long"), (tmp_path / "file", "Not a dir")):
        backend = LocalBackend(root)
        for ask in (
            lambda b: put(b, A, BYTES),
            lambda b: b.open(A),
            lambda b: b.size(A),
            lambda b: b.delete(A),
            lambda b: list(b.scan()),
            lambda b: b.sweep(now()),
        ):
            with pytest.raises(Unavailable, match=said) as raised:
                ask(backend)
            assert raised.value.hint
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("open", errno.EACCES),
        ("open", errno.EDQUOT),
        ("open", errno.EMFILE),
        ("fchmod", errno.EPERM),
        ("fsync", errno.EIO),
        ("replace", errno.ENOSPC),
        ("mkdir", errno.EROFS),
        ("mkdir", errno.EBUSY),
    ],
)
def test_whatever_the_disk_refuses_a_put_is_unavailable_and_leaves_no_trace(
    backend, root, monkeypatch, call, code
):
    put(backend, key("b"), BYTES)
    with monkeypatch.context() as broken:
        failing(broken, os, call, code)
        with pytest.raises(Unavailable, match=re.escape(os.strerror(code))) as raised:
            put(backend, A, BYTES)
    assert raised.value.hint
    assert raised.value.__cause__.errno == code
    assert absent(backend, A)
    assert temporary(root) == []
    put(backend, A, BYTES)
    assert read(backend, A) == BYTES


def test_an_error_of_the_source_is_not_taken_for_one_of_the_disk(backend, root):
    class Sick(io.BytesIO):
        def read(self, size=-1):
            raise FileNotFoundError(errno.ENOENT, "mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        backend.put(A, Sick(), 5)
    assert temporary(root) == []


@pytest.mark.parametrize("count", [2, FEW + 8])
def test_files_that_fail_to_sync_are_discarded_and_never_trusted_again(
    backend, root, monkeypatch, count
):
    put(backend, key("0"), b"old")
    items = [(key(f"{n}"), staged(backend)) for n in range(count)]
    with monkeypatch.context() as broken:
        failing(broken, os, "fsync", errno.EIO)
        broken.setattr(folders, "_libc", lambda: sick_libc())
        with pytest.raises(Unavailable, match=r"Cannot sync .*Input/output error"):
            backend.publish(items)
    assert temporary(root) == []
    assert names(backend) == [str(key("0"))]
    assert read(backend, key("0")) == b"old"
    with pytest.raises(ValueError, match="closed"):
        backend.publish(items[:1])


def sick_libc(healthy: int = 0):
    """A C library whose syncfs works so many times, and fails from then on."""
    libc = ctypes.CDLL(None)
    outcomes = iter([0] * healthy)

    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return next(outcomes, -1)

    return SimpleNamespace(fstatfs=libc.fstatfs, syncfs=syncfs)


def recorded(monkeypatch) -> list[str]:
    """The paths of what is synced from now on."""
    synced, real = [], os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


def test_a_folder_that_fails_to_sync_is_not_taken_for_durable(backend, monkeypatch):
    put(backend, key("b"), BYTES)
    with monkeypatch.context() as broken:
        failing(broken, os, "fsync", errno.EIO, lambda fd: stat.S_ISDIR(os.fstat(fd).st_mode))
        with pytest.raises(Unavailable):
            put(backend, A, BYTES)
    synced = recorded(monkeypatch)
    put(backend, A, BYTES)
    shard = Path(backend.path(A)).parent
    assert {str(shard), str(shard.parent), str(shard.parents[1])} <= set(synced)


def test_folders_of_a_batch_that_fail_to_sync_are_not_taken_for_durable(backend, monkeypatch):
    items = [(key(f"{n}"), staged(backend)) for n in range(FEW + 8)]
    libc = sick_libc(healthy=1)
    with monkeypatch.context() as broken:
        broken.setattr(folders, "_libc", lambda: libc)
        with pytest.raises(Unavailable, match=r"Cannot sync the disk of .*: Input/output error"):
            backend.publish(items)
    synced = recorded(monkeypatch)
    put(backend, key("3"), BYTES)
    shard = Path(backend.path(key("3"))).parent
    assert {str(shard), str(shard.parent), str(shard.parents[1])} <= set(synced)
    for _, file in items:
        file.discard()


def test_a_parent_of_the_root_that_may_not_be_read_is_no_obstacle(backend, root, monkeypatch):
    root.mkdir()
    failing(monkeypatch, local, "sync_folder", errno.EACCES)
    put(backend, A, BYTES)
    assert read(backend, A) == BYTES


def test_a_copy_for_another_key_that_fails_leaves_no_temporary_file(backend, root, monkeypatch):
    file = staged(backend)
    backend.publish([(A, file)])
    with monkeypatch.context() as broken:
        failing(broken, os, "pread", errno.EIO)
        with pytest.raises(Unavailable):
            backend.publish([(key("b"), file)])
    assert temporary(root) == []
    assert names(backend) == [str(A)]
    file.discard()


def test_a_disk_that_fails_while_it_is_read_is_unavailable(backend, monkeypatch):
    put(backend, A, BYTES)
    with backend.open(A) as file:
        failing(monkeypatch, os, "pread", errno.EIO)
        with pytest.raises(Unavailable, match=r"Cannot read .*Input/output error") as raised:
            file.read()
    assert "dmesg" in raised.value.hint


def test_discard_never_fails_and_leaves_the_rest_to_sweep(backend, root, monkeypatch):
    file = staged(backend)
    with monkeypatch.context() as broken:
        failing(broken, os, "unlink", errno.EROFS)
        file.discard()
    assert len(temporary(root)) == 1
    assert backend.sweep(now() + SECOND) == 1
    assert temporary(root) == []


@pytest.mark.parametrize(
    ("call", "ask"),
    [
        ("open", lambda backend, _: backend.open(A)),
        ("open", lambda backend, _: backend.delete(A)),
        ("open", lambda backend, _: list(backend.scan())),
        ("open", lambda backend, _: backend.sweep(now())),
        ("open", lambda backend, _: backend.stage()),
        ("lstat", lambda backend, _: backend.size(A)),
        ("fstat", lambda backend, _: backend.open(A)),
        ("unlink", lambda backend, _: backend.delete(A)),
        ("unlink", lambda backend, file: backend.rest([file]) or backend.sweep(now() + SECOND)),
        ("scandir", lambda backend, _: list(backend.scan())),
        ("scandir", lambda backend, _: backend.sweep(now())),
        ("dup", lambda _, file: file.open()),
        ("fchmod", lambda backend, file: backend.publish([(key("b"), file)])),
    ],
)
def test_whatever_fails_it_is_unavailable_in_one_line_with_a_way_out(
    backend, monkeypatch, call, ask
):
    put(backend, A, BYTES)
    file = staged(backend)
    with monkeypatch.context() as broken:
        failing(broken, os, call, errno.EIO)
        with pytest.raises(Unavailable, match=r"^Cannot .*: Input/output error\.$") as raised:
            ask(backend, file)
    assert raised.value.hint
    assert read(backend, A) == BYTES
    file.discard()
