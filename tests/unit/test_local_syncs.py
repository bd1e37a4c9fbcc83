"""What the local backend syncs, and when: a power cut may come after any call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from calotype.backends import folders
from calotype.backends.local import LocalBackend
from calotype.backends.staged import FEW
from calotype.testing.objects import key, noise, put

A = key("a", extension="png")
BYTES = noise(50_000)


CALLS = "openat,write,fsync,fdatasync,syncfs,rename,renameat,renameat2,mkdir,mkdirat"
PUT = """
import io, sys
from calotype.backends.local import LocalBackend
from calotype.testing.objects import key
backend = LocalBackend(sys.argv[1])
for name in sys.argv[3:]:
    backend.put(key(name), io.BytesIO(b"bytes"), 5)
"""
PUBLISH = """
import sys
from calotype.backends.local import LocalBackend
from calotype.testing.objects import key
backend = LocalBackend(sys.argv[1])
items = [(key(str(n)), backend.stage()) for n in range(int(sys.argv[2]))]
for _, file in items:
    file.write(b"bytes")
backend.publish(items)
"""


def traced(script: str, root: Path, *arguments: str) -> list[tuple[str, str]]:
    """The calls of ``script`` below the root's parent: (name, line with its paths), in order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.fail("strace is missing: the order of syncs cannot be seen without it")
    log = root.parent / "trace"
    run = [sys.executable, "-c", script]
    subprocess.run(
        [strace, "-f", "-y", "-o", log, f"-etrace={CALLS}", *run, root, *arguments],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    calls = re.findall(r"^\d+ +(\w+)\((.*) = 0?[1-9]?\d*(?:<.*>)?$", log.read_text(), re.MULTILINE)
    return [(name, line) for name, line in calls if str(root.parent) in line]


def shard_of(name: str, root: Path) -> Path:
    return Path(LocalBackend(root).path(key(name))).parent


def at(calls: list[tuple[str, str]], name: str, *holding: object) -> list[int]:
    """The places of the calls of that name whose line has all the strings."""
    return [
        n
        for n, (call, line) in enumerate(calls)
        if re.fullmatch(name, call) and all(str(each) in line for each in holding)
    ]


def assert_every_new_folder_is_synced_into_its_parent(calls, by: str = "fsync") -> None:
    made = at(calls, "mkdir(at)?")
    assert made
    for n in made:
        line = calls[n][1]
        if '"tmp"' in line or '/tmp"' in line:
            continue
        inside = re.match(r"\d+<(.*?)>, \"", line)
        parent = inside[1] if inside else str(Path(re.match(r'"(.*?)"', line)[1]).parent)
        assert [m for m in at(calls, by, f"<{parent}>)" if by == "fsync" else "") if m > n], line


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(root):
    calls = traced(PUT, root, "-", "a")
    shard = shard_of("a", root)
    [written] = at(calls, "write", root / "tmp")
    [synced] = at(calls, "fsync", root / "tmp")
    [renamed] = at(calls, "rename.*", root / "tmp", shard, key("a").digest)
    [settled] = at(calls, "fsync", f"<{shard}>")
    assert written < synced < renamed < settled
    assert_every_new_folder_is_synced_into_its_parent(calls)


def test_folders_known_to_be_durable_are_synced_only_for_what_is_new_in_them(root):
    calls = traced(PUT, root, "-", "a", "a")
    shard = shard_of("a", root)
    [first, second] = at(calls, "rename.*", root / "tmp")
    later = [n for n in at(calls, "fsync") if n > second]
    assert first < second
    assert later == at(calls, "fsync", f"<{shard}>")[1:]
    assert len(later) == 1


def test_a_folder_that_another_process_made_is_synced_before_it_is_relied_on(root):
    put(LocalBackend(root), key("a"), BYTES)
    calls = traced(PUT, root, "-", "a")
    shard = shard_of("a", root)
    for folder in (shard, shard.parent, shard.parent.parent, root):
        assert at(calls, "fsync", f"<{folder}>"), folder


def test_many_are_synced_by_one_call_before_the_first_rename_and_one_after_the_last(root):
    calls = traced(PUBLISH, root, "12")
    first, second = at(calls, "syncfs")
    renames = at(calls, "rename.*", root / "tmp")
    assert len(renames) == len(at(calls, "write", root / "tmp")) == 12
    assert max(at(calls, "write", root / "tmp")) < first < min(renames)
    assert max(renames) < second
    assert at(calls, "fsync", root) == [], "no file or folder below the root by itself"
    assert_every_new_folder_is_synced_into_its_parent(
        [call for call in calls if '"sha256' in call[1] or call[0] == "syncfs"], by="syncfs"
    )


def test_few_are_each_synced_before_the_first_rename(root):
    calls = traced(PUBLISH, root, str(FEW))
    assert at(calls, "syncfs") == []
    renames = at(calls, "rename.*", root / "tmp")
    assert len(renames) == FEW
    assert max(at(calls, "fsync", root / "tmp")) < min(renames)
    for n in renames:
        shard = re.search(r"<([^>]*)>, \"\w+\"\)$", calls[n][1])[1]
        assert [m for m in at(calls, "fsync", f"<{shard}>") if m > n]
    assert_every_new_folder_is_synced_into_its_parent(calls)


@pytest.mark.parametrize("why", ["an old kernel", "a file system of another kind", "no statfs"])
def test_where_syncfs_says_too_little_every_file_is_synced(backend, root, monkeypatch, why):
    if why == "an old kernel":
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="5.7.19-generic"))
        monkeypatch.setattr(folders, "_libc", folders._libc.__wrapped__)
    elif why == "no statfs":
        libc = SimpleNamespace(fstatfs=lambda *_: -1)
        monkeypatch.setattr(folders, "_libc", lambda: libc)
    else:
        monkeypatch.setattr(folders, "_LOCAL_DISKS", frozenset())
    synced, real = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )
    items = [(key(f"{n}"), backend.stage()) for n in range(12)]
    backend.publish(items)
    assert sum(str(root / "tmp") in path for path in synced) == 12
    for published, file in items:
        assert str(Path(backend.path(published)).parent) in synced
        file.discard()


def test_macos_is_asked_to_empty_the_drives_cache(backend, monkeypatch):
    import fcntl

    asked = []
    monkeypatch.setattr(folders, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append(command))
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("fsync does not do there"))
    put(backend, A, BYTES)
    assert asked == [51] * len(asked)
    assert len(asked) >= 5


def test_macos_is_asked_about_the_file_at_hand(monkeypatch):
    import fcntl

    asked = []
    monkeypatch.setattr(folders, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda *said: asked.append(said))
    folders.sync(7)
    assert asked == [(7, 51)]
