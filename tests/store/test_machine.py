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
from tests.combinations import NAMES, combination
from tests.invariants import broken_invariants, objects_of, temporary_of
from tests.store import surgery
from tests.store.ought import BYTES, Model, noted
from tests.store.trouble import troubled, troubled_anywhere
from tests.store.verbs import SCOPE, TROUBLE, WHICH, MemoryMachine

FULL = os.environ.get("CALOTYPE_HYPOTHESIS") == "full"
SETTINGS = settings(
    max_examples=20_000 if FULL else 15,
    stateful_step_count=100 if FULL else 70,
    derandomize=not FULL,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


SOME = ("sqlite-s3", "postgres-local", "postgres-database", "postgres-supabase")
"""The combinations that are looked at in every run of the tests."""


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


class Somewhere:
    """A combination as a place of the machine's."""

    def __init__(self, where, clock):
        self.where = where
        self.clock = clock

    def open(self):
        return self.where.open(clock=self.clock)


class CombinedMachine(MemoryMachine):
    """A store of any catalog and backend: closed, killed and harmed in between."""

    pair = "postgres-s3"

    def a_place(self):
        return Somewhere(combination(*self.pair.split("-"), self.root), self.clock)

    def run(self, act, trouble):
        if trouble is None:
            return act(self.store)
        try:
            with troubled_anywhere(trouble, type(surgery.backend_of(self.store))):
                return act(self.store)
        finally:
            self.reopen(kindly=False)

    @rule(kindly=st.booleans())
    def reopen(self, kindly):
        if kindly:
            self.store.close()
        self.abandon()
        self.store = self.place.open()

    @rule(
        which=WHICH,
        harm=st.sampled_from([surgery.lose, surgery.truncate]),
        noticed=st.sampled_from([{"repair": True}, {"read_data": True}]),
        again=st.none() | SCOPE,
        trouble=TROUBLE,
    )
    def damage(self, which, harm, noticed, again, trouble):
        _, digest = self.some(which)
        if digest in self.model.blobs - self.model.damaged and BYTES[digest]:
            harm(self.store, digest)
            self.model.damaged.add(digest)
        self.fsck(**noticed)
        if again is not None:
            self.put(again, digest, None, None, None, None, "bytes", None, trouble)

    def is_damaged(self, digest):
        """Whole bytes at a key that is not live heal nothing."""
        there = self.place.where.objects()
        live = [str(key) for key in surgery.keys(self.store, digest)]
        return not [key for key in live if key in there.sizes and there.read(key) == BYTES[digest]]

    @invariant()
    def every_promise_holds(self):
        if self.store._rooms.catalog.exists():
            assert self.place.where.broken(damaged=self.model.damaged) == []

    def nothing_is_left_over(self):
        super().nothing_is_left_over()
        assert self.place.where.temporary() == []


FEW = settings(SETTINGS, max_examples=200 if FULL else 1, stateful_step_count=60 if FULL else 25)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("pair", [each for each in NAMES if FULL or each in SOME])
def test_a_store_does_so_on_any_catalog_with_any_backend(pair):
    machine = type("Machine", (CombinedMachine,), {"pair": pair})
    run_state_machine_as_test(machine, settings=FEW)


@pytest.mark.timeout(0)  # what fails is made small first, which takes minutes
@pytest.mark.parametrize("machine", [MemoryMachine, FolderMachine])
def test_a_store_does_what_plain_dicts_do(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
