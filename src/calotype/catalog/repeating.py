"""Repeating: what PostgreSQL rolled back in favour of another transaction is run again.

Two transactions that wait for each other, or that no order of one after the other explains, end
with SQLSTATE 40P01 or 40001 for one of them. Where the transaction was ours from its beginning,
nothing of it remains, and the verb that it was for can be repeated as a whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from calotype.catalog.failures import gave_up
from calotype.errors import Locked

TRIES = 10
"""How often a verb is run before it gives up with ``Locked``."""

FIRST_PAUSE = 0.005
"""Seconds before the second try at most; each next pause may be twice as long."""

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


@contextmanager
def repeatable() -> Iterator[None]:
    """Mark the error of a transaction that was ours from its beginning and had to give way."""
    try:
        yield
    except Locked as error:
        error.gave_way = gave_up(error)
        raise


def repeated(verb: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """Let a verb of one transaction run again after it had to give way."""

    @wraps(verb)
    def run(*given: Given.args, **named: Given.kwargs) -> Answer:
        for tries in range(TRIES - 1):
            try:
                return verb(*given, **named)
            except Locked as error:
                if not error.gave_way:
                    raise
                time.sleep(random.uniform(0, FIRST_PAUSE * 2**tries))
        return verb(*given, **named)

    return run
