"""Notes beside the objects of a folder: beside forks and kills, and on full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from pathlib import Path

import pytest

from calotype.backends.beside import keep_spare
from calotype.backends.folders import Folder


def spare(root: Path) -> dict[str, int]:
    return {each.name: each.stat().st_size for each in (root / "spare").iterdir()}


def test_spare_files_that_a_kill_left_too_short_are_made_whole_again(backend, root):
    assert backend.write_note("erased/1", b"one")
    whole = spare(root)
    assert whole == {"4096": 4096, "65536": 65536}
    (root / "spare/4096").write_bytes(b"")
    (root / "spare/65536").write_bytes(b"a note")
    assert backend.write_note("erased/2", b"two")
    assert spare(root) == whole
    assert list((root / "tmp").iterdir()) == []
    assert all(each.stat().st_mode & 0o200 for each in (root / "spare").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders here")
def test_no_spare_file_is_made_while_another_writes_over_one(backend, root):
    import fcntl

    assert backend.write_note("erased/1", b"one")
    (root / "spare/4096").unlink()
    with ThreadPoolExecutor() as pool, Folder.opened(str(root)) as held:
        assert held.descriptor is not None
        fcntl.flock(held.descriptor, fcntl.LOCK_EX)
        kept = pool.submit(keep_spare, str(root), backend.stage)
        try:
            with pytest.raises(TimedOut):
                kept.result(0.3)
            assert "4096" not in spare(root)
        finally:
            fcntl.flock(held.descriptor, fcntl.LOCK_UN)
        assert kept.result(10)
    assert spare(root)["4096"] == 4096


FORK = """
import os, signal, sys
from calotype.backends.local import LocalBackend
backend = LocalBackend(sys.argv[1])
real, children = backend.stage, []
def stage():
    children.append(os.fork())
    if not children[-1]:
        signal.alarm(20)
        signal.pause()
    return real()
backend.stage = stage
try:
    assert backend.write_note("erased/1", b"one")
    backend.stage = real
    signal.alarm(5)
    assert backend.write_note("erased/2", b"two")
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_child_that_was_forked_while_a_note_was_written_holds_up_nobody(backend, root):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", FORK, root], check=True, env=environment, timeout=60)
    assert backend.read_note("erased/2") == b"two"
