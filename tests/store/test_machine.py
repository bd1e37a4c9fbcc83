"""The whole store against plain dicts: any verbs in any order, stopped and failing anywhere.

Quick and always the same by default; ``CALOTYPE_HYPOTHESIS=full`` looks for hours.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from tests.invariants import broken_invariants, objects_of, temporary_of
from tests.store import surgery
from tests.store.ought import BYTES, Model, noted
from tests.store.trouble import troubled
from tests.store.verbs import SCOPE, TROUBLE, WHICH, MemoryMachine

FULL = os.environ.get("CALOTYPE_HYPOTHESIS") == "full"
SETTINGS = settings(
    max_examples=20_000 if FULL else 20,
    stateful_step_count=100 if FULL else 70,
    derandomize=not FULL,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class FolderMachine(MemoryMachine):
    """A store in a folder: closed, killed and damaged in between, and looked at from outside."""

    kind = "folder"

    @property
    def folder(self):
        return self.root / "store"

    def run(self, act, trouble):
        if trouble is None:
            return act(self.store)
        self.abandon()
        try:
            with troubled(trouble):
                self.store = self.place.open()
                return act(self.store)
        finally:
            self.abandon()
            self.store = self.place.open()

    @rule(kindly=st.booleans())
    def reopen(self, kindly):
        if kindly:
            self.store.close()
        self.abandon()
        self.store = self.place.open()

    @rule(
        which=WHICH,
        harm=st.sampled_from([surgery.lose, surgery.truncate]),
        noticed=st.sampled_from([None, None, {"repair": True}, {"read_data": True}]),
        again=st.none() | SCOPE,
        trouble=TROUBLE,
    )
    def damage(self, which, harm, noticed, again, trouble):
        _, digest = self.some(which)
        if digest in self.model.blobs - self.model.damaged and BYTES[digest]:
            harm(self.store, digest)
            self.model.damaged.add(digest)
        if noticed is not None:
            self.fsck(**noticed)
        if again is not None:
            self.put(again, digest, None, None, None, None, "bytes", None, trouble)

    def is_damaged(self, digest):
        """Whole bytes at a key that is not live heal nothing."""
        live = [str(key) for key in surgery.keys(self.store, digest)]
        return not [at for at in self.whole_files(digest) if str(at).endswith(tuple(live))]

    def whole_files(self, digest):
        found = [self.folder / "blobs" / name for name in objects_of(self.folder) if digest in name]
        return [at for at in found if hashlib.sha256(at.read_bytes()).hexdigest() == digest]

    def found(self):
        catalog = self.folder / "catalog.db"
        if not catalog.exists():
            return Model()
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as rows:
            return noted(rows)

    @invariant()
    def every_promise_holds(self):
        assert broken_invariants(self.folder, damaged=self.model.damaged) == []
        for digest in self.model.blobs - self.model.damaged:
            assert self.whole_files(digest), f"the bytes of {digest} are lost"

    def nothing_is_left_over(self):
        super().nothing_is_left_over()
        assert temporary_of(self.folder) == []


@pytest.mark.timeout(0)  # what fails is made small first, which takes minutes
@pytest.mark.parametrize("machine", [MemoryMachine, FolderMachine])
def test_a_store_does_what_plain_dicts_do(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
