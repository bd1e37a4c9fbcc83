"""Giving up: a caller that waits no longer has nothing kept for it behind its back."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Event


class GivenUp(BaseException):
    """Nobody waits for this any more: undo it."""


_told: ContextVar[Event | None] = ContextVar("calotype_given_up", default=None)


def listen(given_up: Event) -> None:
    """From now on, in this context, ``check`` goes by that event."""
    _told.set(given_up)


def check() -> None:
    """Raise ``GivenUp`` where the caller of this context has given up."""
    told = _told.get()
    if told is not None and told.is_set():
        raise GivenUp
