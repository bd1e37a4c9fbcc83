"""Bytes that move from PostgreSQL to S3 while a reader and a writer are at work."""

from __future__ import annotations

import re
import subprocess
import sys


def test_nobody_notices_that_the_bytes_move():
    """What the program prints is what its commands and users said; it fails where one did."""
    done = subprocess.run(
        [sys.executable, "-m", "demo.moving", "40"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    commands = re.findall(r"^\$ calotype ([a-z]+(?: [a-z]+)?)", said, re.MULTILINE)
    order = ["stats", "backend add", "backend copy", "backend primary", "backend list"]
    assert commands[:5] == order
    assert commands[-2:] == ["backend list", "fsck"]
    assert "main is gone" in said
    assert "calotype_chunk: 0" in said
    put, let_go = map(int, re.findall(r"put (\d+) files meanwhile and let go of (\d+)", said)[0])
    kept = int(re.findall(r"(\d+) files are kept: 0 lost, 0 read wrong\.", said)[0])
    assert (kept, let_go) == (40 + put - let_go, put // 3)
    assert int(re.findall(r"The reader read (\d+) files", said)[0]) > 0
    assert said.endswith(f"{kept} blobs, {kept} objects: all is well\n")
