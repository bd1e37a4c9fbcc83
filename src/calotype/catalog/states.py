"""The states of a replica: they only ever move forward, in this order."""

from __future__ import annotations

from enum import StrEnum

from calotype.quantities import SECOND


class ReplicaState(StrEnum):
    """``writing -> live -> doomed -> erasing -> erased``, and ``writing -> doomed``."""

    WRITING = "writing"
    LIVE = "live"
    DOOMED = "doomed"
    ERASING = "erasing"
    ERASED = "erased"


WRITING = ReplicaState.WRITING.value
LIVE = ReplicaState.LIVE.value
DOOMED = ReplicaState.DOOMED.value
ERASING = ReplicaState.ERASING.value
ERASED = ReplicaState.ERASED.value

AT_WORK = (15 * 60 + 1) * SECOND
"""Whoever writes is due no later than that from now; who was admitted for longer may be."""
