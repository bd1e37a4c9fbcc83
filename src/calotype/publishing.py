"""Publishing: received bytes laid down beside a backend, put in place, or sent to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, cast

from calotype.backends import Backend, Gathers, Key, Remote, Staged
from calotype.heart import beating
from calotype.held import InMemory
from calotype.staging import Content, staging_of

AT_ONCE = 16
"""Objects that are sent to another machine at a time."""


def rest(backend: Backend, contents: Sequence[Content]) -> None:
    """Let contents wait on the backend's disk, held open no longer; nothing where it has none.

    Those in memory are laid down together, which costs half; then all are, or none and an error.
    """
    staging = staging_of(backend)
    if staging is None:
        return
    small = [content for content in contents if isinstance(content.held, InMemory)]
    for content in small:
        _ = content.facts
    data = [content.held.data for content in small if isinstance(content.held, InMemory)]
    large = [cast(Staged, each.held) for each in contents if each not in small]
    for content, file in zip(small, staging.stage_all(data), strict=True):
        content.held, content.home = file, staging
    staging.rest(large)


def keep(backend: Backend, items: Sequence[tuple[Key, Content]], beat: Callable[[], None]) -> None:
    """Make the bytes of every item durable under its key; any part may be there if it raises.

    ``beat`` is called while bytes flow to a backend that stages none.
    """
    staging = staging_of(backend)
    if staging is None:
        _send(backend, items, beat)
        return
    staged: list[tuple[Key, Staged]] = []
    try:
        for key, content in items:
            staged.append((key, content.staged(staging)))
        staging.publish(staged)
    finally:
        for (_, fresh), (_, content) in zip(staged, items, strict=False):
            if fresh is not content.held:
                fresh.discard()


def _opened(content: Content, beat: Callable[[], None]) -> BinaryIO:
    return beating(content.held.open(), beat)


def _send(backend: Backend, items: Sequence[tuple[Key, Content]], beat: Callable[[], None]) -> None:
    """Put each: together where that costs less, to another machine several at once.

    Most of their time there is its answers'.
    """

    def send(item: tuple[Key, Content]) -> None:
        key, content = item
        with _opened(content, beat) as file:
            backend.put(key, file, content.size)

    if isinstance(backend, Gathers):
        backend.put_all([(key, partial(_opened, each, beat), each.size) for key, each in items])
        return
    if len(items) == 1 or not isinstance(backend, Remote):
        for item in items:
            send(item)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(send, item) for item in items]
        try:
            for each in sent:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
