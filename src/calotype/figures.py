"""Figures: a store, and each of its backends, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackendState:
    """A backend of the store: what for, and how much of the store lies in it.

    ``lacking`` blobs (of ``lacking_bytes``) have no live and trusted copy there; ``suspect`` are
    copies that were found damaged; ``coverage`` is the share of all blobs that it has, in percent.
    """

    name: str
    url: str
    role: str
    copies: int
    bytes: int
    suspect: int
    lacking: int
    lacking_bytes: int
    coverage: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole store in numbers.

    ``blobs`` and ``bytes`` leave derived outputs out and include orphans; ``logical_bytes`` is
    the blob size for every live reference, library entry and unexpired hold, and once where only
    an application's columns keep it; ``saved_bytes`` is ``logical_bytes - (bytes -
    orphaned_bytes)``. ``backends`` says what of all blobs lies in each of them, the primary first.
    """

    blobs: int
    bytes: int
    assets: int
    references: int
    orphaned: int
    orphaned_bytes: int
    average_references: float
    logical_bytes: int
    saved_bytes: int
    saved_percent: float
    derived_blobs: int
    derived_bytes: int
    backends: tuple[BackendState, ...] = ()
