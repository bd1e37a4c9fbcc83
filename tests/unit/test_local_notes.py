"""Notes beside the objects of a folder: beside forks and kills, and on full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from calotype.backends.local import LocalBackend


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def backend(root) -> LocalBackend:
    return LocalBackend(root)


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
