"""The states of a replica: they only ever move forward, in this order."""

from __future__ import annotations

from enum import StrEnum


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
