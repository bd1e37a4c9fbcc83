"""Time limits: whatever waits for another process gives up in the end, and says what it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Hung(BaseException):
    """Raised in the midst of whatever waits; no ``except Exception`` may take it for its own."""


@contextmanager
def at_most(seconds: float, what: str) -> Iterator[None]:
    """Raise ``Hung`` in the block once it has taken ``seconds``; the main thread's alarm.

    Blocks may lie in one another: the outer one's limit goes on afterwards. Elsewhere than in the
    main thread there is no alarm, and no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_: int, __: FrameType | None) -> None:
        raise Hung(f"{what} took more than {seconds:g} s")

    former = signal.signal(signal.SIGALRM, give_up)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, former)
