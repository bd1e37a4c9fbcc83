"""The command line: ``calotype``."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence

_OUTPUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})
"""What printing ends with where the disk behind standard output is full, or nothing is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never a traceback for what can go wrong.

    ``OSError`` where standard output takes nothing more.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        from calotype import __version__

        print(__version__)
        return 0
    gc.disable()  # a sixth of the start goes into looking for garbage in what is being imported
    try:
        from calotype.cli.app import run

        gc.freeze()
    finally:
        gc.enable()
    return run(given)


def entry() -> None:
    """The console script."""
    _ready()
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        code = 141
        _abandon()
    except OSError as error:
        if error.errno not in _OUTPUT:
            raise
        code = 1
        print(f"calotype: Cannot write the answer: {error.strerror}.", file=sys.stderr)
        _abandon()
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)  # every store is closed; taking the interpreter down takes a tenth of a second


_YOUNG = 50_000
"""New objects until Python looks for cycles: a batch has many objects and no cycles."""


_TURN = 0.0005
"""Seconds that one thread waits for another before it asks for its turn; 5 ms starve readers."""


def _ready() -> None:
    """Let a terminal's encoding fail no command, nor a stream that was closed by the caller."""
    gc.set_threshold(_YOUNG)
    sys.setswitchinterval(_TURN)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _abandon() -> None:
    """What is still buffered for a reader that went away goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
