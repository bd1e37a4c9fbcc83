"""Progress for people: a line now and then where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io
import os
import pty
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from calotype.cli import progressing
from calotype.cli.printing import Printer
from calotype.cli.progressing import meter
from calotype.progress import Progress

FAR = Progress(total=20, done=12, failed=1, bytes=3000, eta=65.2)


class Told(io.StringIO):
    """A stream that is no terminal, and notices when a line has come."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line
        self.has_come = threading.Event()

    def flush(self) -> None:
        if self.line in self.getvalue().splitlines():
            self.has_come.set()


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (FAR, "12 of 20 done, 1 failed, 3.0 kB, about 1:05 left"),
        (Progress(None, 7), "7 done"),
        (Progress(20, 3, eta=7325), "3 of 20 done, about 2:02:05 left"),
    ],
    ids=["some", "little", "hours"],
)
def test_without_a_terminal_there_is_a_line_now_and_then(progress, words):
    told = Told(f"put: {words}")
    with meter(Printer(err=told), "put", interval=0.001) as show:
        show(progress)
        assert told.has_come.wait(10), told.getvalue()[-200:]


class Hurried:
    """An event that nobody waits for: ten minutes are over at once, and then it has come."""

    def __init__(self) -> None:
        self.left = 600.0

    def wait(self, seconds: float) -> bool:
        self.left -= seconds
        return self.left < 0

    def set(self) -> None:
        """It comes by itself."""


def test_without_a_terminal_there_are_two_lines_a_minute(monkeypatch):
    hurried = SimpleNamespace(Event=Hurried, Thread=threading.Thread)
    monkeypatch.setattr(progressing, "threading", hurried)
    err = io.StringIO()
    with meter(Printer(err=err), "put"):
        pass
    assert len(err.getvalue().splitlines()) == 20


def read_to_its_end(terminal: int) -> str:
    said = b""
    with suppress(OSError):  # nobody has the other side open any more
        while more := os.read(terminal, 1 << 16):
            said += more
    os.close(terminal)
    return said.decode()


def test_on_a_terminal_there_is_a_bar_that_goes_away(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    ours, theirs = pty.openpty()
    with (
        os.fdopen(theirs, "w") as err,
        meter(Printer(out=io.StringIO(), err=err), "import") as show,
    ):
        show(FAR)
    seen = read_to_its_end(ours)
    assert "import" in seen
    assert "12 of 20 done, 1 failed, 3.0 kB, about 1:05 left" in seen
    assert seen.rstrip().endswith("\x1b[2K"), "the line is cleared"
