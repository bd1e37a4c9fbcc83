"""A desk with a shell: files to put, and the command line run inside this process or outside."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from calotype import Digest, Store
from calotype.cli import main

PROGRAM = [sys.executable, "-m", "calotype"]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said and how it ended."""

    code: int
    output: bytes
    err: str

    @property
    def out(self) -> str:
        return self.output.decode()

    @property
    def lines(self) -> list[str]:
        """The lines for people."""
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines for programs: every one of them is a JSON object."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(each, dict) for each in found)
        return found

    @property
    def object(self) -> dict[str, Any]:
        """The only line for programs."""
        (found,) = self.objects
        return found

    @property
    def error(self) -> dict[str, str]:
        """The error for programs: one line of stderr."""
        return json.loads(self.err)["error"]


@dataclass(slots=True)
class Desk:
    """Runs commands in ``folder``; the store is ``folder/store`` unless a command says otherwise."""

    folder: Path
    captured: pytest.CaptureFixture[bytes]
    patch: pytest.MonkeyPatch

    def __call__(self, *words: str | Path, stdin: bytes = b"", code: int = 0) -> Done:
        """Run a command in this process; it must end with ``code``."""
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        self.captured.readouterr()
        ended = main([str(word) for word in words])
        said = self.captured.readouterr()
        done = Done(ended, said.out, said.err.decode())
        assert ended == code, f"ended with {ended}:\n{done}"
        return done

    def outside(
        self, *words: str | bytes | Path, stdin: bytes = b"", code: int = 0, **more: Any
    ) -> Done:
        """Run ``python -m calotype`` as a process of its own."""
        ended = subprocess.run([*PROGRAM, *words], input=stdin, capture_output=True, timeout=60, **more)  # fmt: skip
        done = Done(ended.returncode, ended.stdout, ended.stderr.decode())
        assert ended.returncode == code, f"ended with {ended.returncode}:\n{done}"
        return done

    def file(self, name: str, content: bytes | None = None) -> str:
        """A file's name; its bytes are its name's unless given."""
        (self.folder / name).write_bytes(name.encode() if content is None else content)
        return name

    def put(self, name: str, *options: str, content: bytes | None = None) -> str:
        """A file's digest, once it is in the store."""
        self("put", self.file(name, content), *options)
        return Digest.of(self.folder / name)

    def store(self) -> Store:
        """The store, for what the command line does not show."""
        return Store(self.folder / "store")

    def names(self, *options: str) -> list[str]:
        """The names that ``ls`` lists."""
        return [each["filename"] for each in self("ls", "--json", *options).objects]


def said_in_one_line(done: Done) -> str:
    """The sentence of an error: one line, with the program's name first."""
    (line,) = done.err.splitlines()
    assert line.startswith("calotype: ")
    assert done.out == ""
    return line.removeprefix("calotype: ")


def as_in_a_terminal() -> None:
    """A shell's background job, as a CI's may be, ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def clear_environment(patch: pytest.MonkeyPatch, names: Sequence[str] = ()) -> None:
    """Take away every variable that the command line reads."""
    for name in [*os.environ]:
        if name.startswith("CALOTYPE_") or name in ("NO_COLOR", "COLUMNS", *names):
            patch.delenv(name)
