"""The terms of a gc run: what is old enough, which digests, how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

from calotype.quantities import Instant


@dataclass(frozen=True, slots=True)
class Terms:
    """``cutoff``: what ended by then is garbage. Delays and budget in microseconds.

    ``erase_delay`` None leaves it to each backend: 0 for what lies here, a day for a service.

    ``limit`` and ``max_bytes`` bound what is doomed, and apart from that what is erased in each
    backend: every copy of a blob is let go of with it.
    """

    cutoff: Instant
    erase_delay: int | None
    digests: tuple[str, ...] | None = None
    limit: int | None = None
    max_bytes: int | None = None
    budget: int | None = None
    full: bool = False

    @property
    def everything(self) -> bool:
        """True for a look at every blob of the store."""
        return self.full and self.digests is None

    def to_json(self) -> dict[str, object]:
        """For the catalog."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> Terms:
        """As ``to_json`` wrote it."""
        digests = cast(list[str] | None, found["digests"])
        return cls(
            cutoff=cast(int, found["cutoff"]),
            erase_delay=cast(int | None, found["erase_delay"]),
            digests=tuple(digests) if digests is not None else None,
            limit=cast(int | None, found["limit"]),
            max_bytes=cast(int | None, found["max_bytes"]),
            budget=cast(int | None, found["budget"]),
            full=bool(found["full"]),
        )


class Allowance:
    """What is left of the limits by count and bytes."""

    def __init__(self, terms: Terms) -> None:
        self._count = terms.limit
        self._bytes = terms.max_bytes
        self.spent = False
        self.stopped = ""
        self._taken = False

    @contextmanager
    def given_back_if_refused(self) -> Iterator[None]:
        """Return what was taken in the block if the block raises."""
        before = (self._count, self._bytes, self.spent, self._taken)
        try:
            yield
        except BaseException:
            self._count, self._bytes, self.spent, self._taken = before
            raise

    def take(self, size: int) -> bool:
        """Take one thing of ``size`` bytes; False once that would pass a limit.

        The first is taken whatever its size, or a large one would stand in the way for ever.
        """
        short = self._count is not None and self._count < 1
        short |= self._bytes is not None and self._bytes < (size if self._taken else 1)
        self.spent |= short
        if short and not self.stopped:
            self.stopped = "limit" if self._count is not None and self._count < 1 else "max-bytes"
        if self.spent:
            return False
        self._taken = True
        if self._count is not None:
            self._count -= 1
        if self._bytes is not None:
            self._bytes -= size
        return True
