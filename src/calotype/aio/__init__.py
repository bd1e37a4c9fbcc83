"""Calotype for asyncio: ``AsyncStore``, whose verbs are those of ``Store``, awaited."""

from __future__ import annotations

from calotype.aio.files import AsyncFile
from calotype.aio.plans import AsyncPlan
from calotype.aio.scope import AsyncScope
from calotype.aio.store import AsyncBackends, AsyncStore
from calotype.aio.verbs import AsyncListing, AsyncRun

__all__ = [
    "AsyncBackends",
    "AsyncFile",
    "AsyncListing",
    "AsyncPlan",
    "AsyncRun",
    "AsyncScope",
    "AsyncStore",
]
