"""The local backend beyond the contract: what it does to the disk, and what a disk does to it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calotype.backends.local import LocalBackend
from calotype.errors import Corrupt, NotFound, Unavailable
from calotype.quantities import SECOND, now
from calotype.testing.objects import absent, key, names, noise, put, read

A = key("a", extension="png")
BYTES = noise(50_000)
NOBODY = 65534


def file_of(backend: LocalBackend, at=A) -> Path:
    return Path(backend.path(at))


def temporary(root: Path) -> list[Path]:
    return list((root / "tmp").iterdir())


def staged(backend: LocalBackend, content: bytes = BYTES):
    file = backend.stage()
    file.write(content)
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# Places


def test_nothing_is_made_before_the_first_write(backend, root):
    assert absent(backend, A)
    assert backend.sweep(now()) == 0
    backend.delete(A)
    assert not root.exists()


def test_files_lie_sharded_by_digest_and_only_their_user_may_enter(backend, root):
    put(backend, A, BYTES)
    path = root / "sha256" / A.digest[:2] / A.digest[2:4] / f"{A.digest}.png"
    assert backend.path(A) == str(path)
    assert path.read_bytes() == BYTES
    assert mode(path) == 0o444
    folders_made = [root, root / "tmp", *list(path.parents)[:3]]
    assert [mode(folder) for folder in folders_made] == [0o700] * 5
    assert temporary(root) == []


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives to other groups"
)
@pytest.mark.parametrize(("user", "group"), [(0, NOBODY), (NOBODY, 0), (NOBODY, NOBODY)])
def test_folders_that_root_makes_are_of_the_user_and_the_group_of_the_root(
    backend, root, user, group
):
    root.mkdir()
    os.chown(root, user, group)
    put(backend, A, BYTES)
    made = [each.stat() for each in root.rglob("*") if each.is_dir()]
    assert {(each.st_uid, each.st_gid) for each in made} == {(user, group)}
    assert len(made) >= 4


def test_missing_parents_of_the_root_are_made(tmp_path):
    put(LocalBackend(tmp_path / "x" / "y" / "z"), A, BYTES)
    assert read(LocalBackend(tmp_path / "x" / "y" / "z"), A) == BYTES
    assert mode(tmp_path / "x") == 0o700


def test_a_relative_root_is_fixed_when_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = LocalBackend("blobs")
    monkeypatch.chdir("/")
    put(backend, A, BYTES)
    assert backend.url == f"file:{tmp_path}/blobs"
    assert read(LocalBackend(tmp_path / "blobs"), A) == BYTES


def test_a_temporary_file_is_its_users_alone_while_it_is_written(backend, root):
    file = staged(backend)
    [path] = temporary(root)
    assert mode(path) == 0o600
    file.discard()


def test_a_folder_removed_behind_our_back_is_made_again(backend, root):
    put(backend, A, BYTES)
    shutil.rmtree(root / "sha256")
    put(backend, A, BYTES)
    assert read(backend, A) == BYTES
    shutil.rmtree(root)
    put(backend, A, BYTES)
    assert read(backend, A) == BYTES


def test_a_temporary_file_removed_behind_our_back_is_unavailable(backend, root):
    file = staged(backend)
    temporary(root)[0].unlink()
    with pytest.raises(Unavailable, match="No such file"):
        backend.publish([(A, file)])
    assert absent(backend, A)
    file.discard()


# Links and other things that are no files


def test_a_link_at_a_key_is_no_object_and_what_it_points_at_is_never_touched(backend, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    path = file_of(backend)
    path.parent.mkdir(parents=True)
    path.symlink_to(outside)
    with pytest.raises(Corrupt):
        backend.open(A)
    assert backend.size(A) is None
    assert names(backend) == []
    put(backend, A, BYTES)
    assert read(backend, A) == BYTES
    path.unlink()
    path.symlink_to(outside)
    backend.delete(A)
    assert not path.is_symlink()
    assert outside.read_bytes() == b"not ours"


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket"])
def test_what_is_no_file_is_corrupt_and_never_waited_for(backend, kind, monkeypatch):
    path = file_of(backend)
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    with pytest.raises(Corrupt, match="Not a file"):
        backend.open(A)
    assert backend.size(A) is None
    assert names(backend) == []


def test_a_link_in_place_of_a_folder_is_never_entered(backend, root, tmp_path):
    put(backend, A, BYTES)
    shard = file_of(backend).parent
    shutil.move(shard, tmp_path / "moved")
    shard.symlink_to(tmp_path / "moved")
    for ask in (backend.open, backend.size, backend.delete, lambda at: put(backend, at, BYTES)):
        with pytest.raises(Unavailable, match="Not a directory") as raised:
            ask(A)
        assert "no symbolic links" in raised.value.hint
    assert names(backend) == []
    assert len(list((tmp_path / "moved").iterdir())) == 1
    assert temporary(root) == []


def test_a_link_in_place_of_the_temporary_folder_is_never_entered(backend, root, tmp_path):
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        put(backend, A, BYTES)
    with pytest.raises(Unavailable):
        backend.sweep(now())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_root_itself_may_be_reached_through_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "blobs").symlink_to(tmp_path / "disk")
    put(LocalBackend(tmp_path / "blobs"), A, BYTES)
    assert read(LocalBackend(tmp_path / "disk"), A) == BYTES


# Scans


def test_foreign_files_are_listed_in_the_order_of_their_whole_names(backend, root):
    raw = [b"a.txt", b"a/x", b"a/b/tmp/y", b"a-", b"a0", b"zoe\xff/1", b"zoe\xc3\xab", b"zoe\xff-"]
    raw += [b"ab/lost+found/z", "\N{GRINNING FACE}".encode(), "\ue000".encode()]
    for name in raw:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert [os.fsencode(name) for name in names(backend)] == sorted(raw)
    assert [os.fsencode(name) for name in names(backend, "a/")] == [b"a/b/tmp/y", b"a/x"]
    assert [os.fsencode(name) for name in names(backend, "zoe\udcff")] == [
        b"zoe\xff-",
        b"zoe\xff/1",
    ]


def test_temporary_files_and_what_a_disk_loses_are_not_listed(backend, root):
    put(backend, A, BYTES)
    file = staged(backend)
    (root / "lost+found").mkdir()
    (root / "lost+found" / "#12").write_bytes(b"x")
    assert names(backend) == [str(A)]
    assert names(backend, "tmp/") == names(backend, "lost") == []
    file.discard()


def test_a_scan_passes_over_what_vanishes_while_it_looks(backend, root, monkeypatch):
    for n in range(40):
        put(backend, key(f"{n}"), b"x")
    listing = backend.scan()
    first = next(listing)
    keep = root / Path(first.name)
    for folder in (root / "sha256").iterdir():
        if folder not in keep.parents:
            shutil.rmtree(folder)
    assert list(listing) == []

    real = os.scandir

    @contextmanager
    def vanishing(folder) -> Iterator[list]:
        with real(folder) as entries:
            found = list(entries)
        keep.unlink(missing_ok=True)
        yield found

    monkeypatch.setattr(os, "scandir", vanishing)
    assert names(backend) == []


def test_a_scan_beside_the_writer_that_makes_the_root_finds_nothing(backend, root, monkeypatch):
    real = os.open

    def late(path, flags, *rest, **options) -> int:
        try:
            return real(path, flags, *rest, **options)
        except FileNotFoundError:
            root.mkdir()
            raise

    monkeypatch.setattr(os, "open", late)
    assert names(backend) == []
    assert root.is_dir()


@pytest.mark.parametrize("what", ["file", "link to nothing", "below a file"])
def test_a_scan_of_what_cannot_be_a_root_is_unavailable(tmp_path, what):
    at = tmp_path / "at"
    if what == "link to nothing":
        at.symlink_to(tmp_path / "nothing")
    else:
        at.write_bytes(b"x")
    with pytest.raises(Unavailable, match="Cannot list"):
        names(LocalBackend(at / "root" if what == "below a file" else at))


def test_a_scan_of_the_root_alone_reads_only_folders_that_fit(backend, monkeypatch):
    keys = [key(f"{n}") for n in range(20)]
    for at in keys:
        put(backend, at, b"x")
    visited = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: visited.append(folder) or real(folder))
    assert names(backend, str(keys[0])) == [str(keys[0])]
    assert len(visited) == 4


# Reading


def test_a_reader_can_be_sought_inside_its_range(backend):
    put(backend, A, BYTES)
    with backend.open(A, 100, 200) as file:
        assert file.seekable()
        assert file.readable()
        assert file.seek(-10, os.SEEK_END) == 90
        assert file.read() == BYTES[190:200]
        assert file.read() == b""
        assert file.seek(0) == 0
        assert file.read(5) == BYTES[100:105]
        assert file.seek(5, os.SEEK_CUR) == 10
        assert file.tell() == 10
        assert file.read(1) == BYTES[110:111]
        assert file.seek(500) == 500
        assert file.read() == b""
        with pytest.raises(ValueError, match="before the beginning"):
            file.seek(-101, os.SEEK_END)
    raw = backend.open(A).detach()
    raw.close()
    raw.close()
    assert raw.closed


def test_no_descriptor_leaks(backend):
    put(backend, A, BYTES)
    before = len(os.listdir("/proc/self/fd"))
    read(backend, A)
    names(backend)
    with pytest.raises(NotFound):
        backend.open(key("b"))
    put(backend, key("b"), BYTES)
    file = staged(backend)
    backend.publish([(key("c"), file)])
    backend.publish([(key("d"), file)])
    with file.open() as reader:
        reader.read(1)
    file.discard()
    assert len(os.listdir("/proc/self/fd")) == before


# Staged files


def test_what_was_published_or_discarded_is_not_written_any_more(backend):
    file = staged(backend)
    backend.publish([(A, file)])
    with pytest.raises(ValueError, match="published"):
        file.write(b"more")
    file.discard()
    other = staged(backend)
    other.discard()
    for use in (lambda: other.write(b"more"), lambda: backend.publish([(A, other)])):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(Unavailable, match="was discarded"):
        other.open()
    assert read(backend, A) == BYTES


def test_only_files_that_were_staged_here_are_published(backend):
    with pytest.raises(TypeError, match="Staged elsewhere"):
        backend.publish([(A, io.BytesIO())])


def test_sweep_goes_by_the_last_write_and_leaves_folders_alone(backend, root, monkeypatch):
    old, young, real = staged(backend), staged(backend), os.unlink
    for each in (old, young):
        backend.rest([each])
    (root / "tmp" / "folder").mkdir()
    ages = sorted(path for path in temporary(root) if path.is_file())
    os.utime(ages[0], (time.time() - 7200,) * 2)
    assert backend.sweep(now() - 3600 * SECOND) == 1
    assert sorted(temporary(root)) == sorted([ages[1], root / "tmp" / "folder"])
    with monkeypatch.context() as raced:
        raced.setattr(os, "unlink", lambda *a, **k: real(*a, **k) or real(*a, **k))
        assert backend.sweep(now() + SECOND) == 0
    old.discard()
    young.discard()


# Processes

RACE = """
import io, os, sys
from calotype.backends.local import LocalBackend
from calotype.testing.objects import key, noise
backend = LocalBackend(sys.argv[1])
backend.put(key("before"), io.BytesIO(b"bytes"), 5)
children = []
for seed in range(4):
    child = os.fork()
    if not child:
        for n in range(15):
            content = noise(20_000 + 1000 * seed, seed)
            backend.put(key("raced"), io.BytesIO(content), len(content))
            backend.put(key(f"{seed} {n}"), io.BytesIO(content), len(content))
            with backend.open(key("raced")) as file:
                found = file.read()
            assert found == noise(len(found), (len(found) - 20_000) // 1000)
            list(backend.scan())
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


def test_forked_processes_may_write_one_key_at_once(backend, root):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", RACE, root], check=True, env=environment)
    found = read(backend, key("raced"))
    assert found in [noise(20_000 + 1000 * seed, seed) for seed in range(4)]
    assert len(names(backend)) == 2 + 4 * 15
    assert temporary(root) == []


def test_a_killed_writer_leaves_only_a_temporary_file(backend, root):
    script = (
        "import sys; from calotype.backends.local import LocalBackend;"
        "file = LocalBackend(sys.argv[1]).stage(); file.write(b'bytes');"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, root], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert names(backend) == []
    assert backend.sweep(now() - 3600 * SECOND) == 0
    assert backend.sweep(now() + SECOND) == 1
