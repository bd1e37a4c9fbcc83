"""The tour of the commands with real pictures."""

from __future__ import annotations

import re
import subprocess
import sys

from calotype import Store


def test_the_tour_shows_every_step_and_leaves_a_good_store(tmp_path):
    command = [sys.executable, "-m", "demo.tour", str(tmp_path / "tour")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    stations = re.findall(r"^(\d)\. .+\n-+$", done.stdout, re.MULTILINE)
    assert stations == ["1", "2", "3", "4", "5", "6"]
    commands = re.findall(r"^\$ calotype (?:--scope \S+ )?(\w+)", done.stdout, re.MULTILINE)
    assert commands == [
        *("init", "put", "put", "stats", "attach", "ls", "explain"),
        *("release", "ls", "restore", "release", "put"),
        *("gc", "gc", "gc", "explain", "get"),
        *("fsck", "put", "fsck", "stat", "put", "url"),
    ]
    assert re.findall(r"exit code (\d)", done.stdout) == ["5", "4", "5"]
    assert "Your turn" in done.stdout
    with Store(tmp_path / "tour") as store:
        assert store.fsck(read_data=True).result().problems == 0
        assert store.stats().blobs > 0
