"""The whole store against plain dicts: any verbs in any order, stopped and failing anywhere.

Quick and always the same by default; ``CALOTYPE_HYPOTHESIS=full`` looks for hours.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import sys
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.invariants import broken_invariants, objects_of, temporary_of
from tests.store import surgery
from tests.store.machine import SCOPES, Machine
from tests.store.ought import BYTES, DIGESTS, PICTURES, Model, Refused, noted
from tests.store.trouble import Trouble, troubled

from calotype.quantities import FOREVER, duration

FULL = os.environ.get("CALOTYPE_HYPOTHESIS") == "full"
SETTINGS = settings(
    max_examples=20_000 if FULL else 60,
    stateful_step_count=80 if FULL else 30,
    derandomize=not FULL,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

SCOPE = st.sampled_from(SCOPES)
DIGEST = st.sampled_from(DIGESTS)
WHICH = st.integers(0, 15)
OWNER = st.sampled_from(["scan/1", "set/a/b"])
ROLE = st.sampled_from([None, "front"])
HOLD = st.sampled_from(["30s", "2h", "3d"])
NAME = st.sampled_from([None, "a.png", "B.txt"])
METADATA = st.sampled_from([None, {}, {"n": 1}, {"tag": "x", "n": 2}])
FORM = st.sampled_from(["bytes", "file", "pieces", "path"])
DEMAND = st.sampled_from([None, None, None, "an image", *DIGESTS[1:3]])
SPAN = st.sampled_from([1, 60, 20 * 60, 2 * 3600, 25 * 3600, 8 * 86400])
GRACE = st.sampled_from(["0s", "24h", "1h", "7d"])
SOME = st.none() | st.sets(DIGEST, max_size=4)
LIMIT = st.none() | st.integers(0, 2)
TROUBLE = st.integers(0, 59).map(
    lambda n: None if n < 40 else Trouble("kill", n - 40) if n < 56 else Trouble("fault", n - 56)
)
LATE_TROUBLE = st.none() | st.builds(Trouble, st.just("kill"), st.integers(0, 150))


class MemoryMachine(Machine):
    """All that a store in memory can do."""

    def __init__(self) -> None:
        super().__init__()
        self.plans = {}

    # -- bytes in ---------------------------------------------------------------------------

    @initialize(
        digests=st.lists(DIGEST, max_size=6),
        owner=st.none() | OWNER,
        late=LATE_TROUBLE,
    )
    def begin(self, digests, owner, late):
        self.put_many("default", digests, owner, None, late)

    @rule(
        scope=SCOPE,
        digest=DIGEST,
        use=st.none() | st.tuples(OWNER, ROLE),
        filename=NAME,
        metadata=METADATA,
        hold=st.none() | HOLD,
        form=FORM,
        demand=DEMAND,
        trouble=TROUBLE,
    )
    def put(self, scope, digest, use, filename, metadata, hold, form, demand, trouble):
        owner, role = use or (None, None)
        wish = {"owner": owner, "role": role, "metadata": metadata, "hold": hold}
        wish["filename"] = filename or ("from disk.bin" if form == "path" else None)
        options = wish | {"filename": filename, "images_only": demand == "an image"}
        options["expect"] = demand if demand in DIGESTS else None

        def ought(model):
            if demand in DIGESTS and demand != digest:
                raise Refused("digest-mismatch")
            if demand == "an image" and BYTES[digest] not in PICTURES:
                raise Refused("not-an-image")
            return model.put(scope, digest, self.now, **wish)

        source = self.source(digest, form)
        done, status = self.do(
            lambda store: self.inside(scope, store).put(source, **options), ought, trouble
        )
        if done is not None:
            assert (done.status, done.digest) == (status, digest)
            self.is_as_noted(scope, done.asset)

    def source(self, digest, form):
        content = BYTES[digest]
        if form == "file":
            return io.BytesIO(content)
        if form == "pieces":
            return (content[at : at + 1000] for at in range(0, len(content), 1000))
        if form == "path":
            (self.root / "from disk.bin").write_bytes(content)
            return self.root / "from disk.bin"
        return content

    @rule(
        scope=SCOPE,
        digests=st.lists(DIGEST, max_size=5),
        owner=st.none() | OWNER,
        hold=st.none() | HOLD,
        trouble=TROUBLE,
    )
    def put_many(self, scope, digests, owner, hold, trouble):
        def ought(model):
            counts = Counter()
            for digest in digests:
                try:
                    counts[model.put(scope, digest, self.now, owner=owner, hold=hold)] += 1
                except Refused as error:
                    counts[error.code] += 1
            return counts

        sources, before = [BYTES[digest] for digest in digests], self.model
        done, counts = self.do(
            lambda store: self.inside(scope, store).put_many(sources, owner, hold).result(),
            ought,
            trouble,
            whole=False,
        )
        if done is not None and trouble is not None and trouble.struck:
            after, self.model = self.model, before
            self.survive(after, whole=False)
        elif done is not None:
            answered = Counter(failure.code for failure in done.failures)
            for name in ("created", "restored", "duplicate", "healed"):
                answered[name] = getattr(done, name)
            assert answered == counts

    @rule(scope=SCOPE, digest=DIGEST)
    def put_from_a_source_that_breaks(self, scope, digest):
        def breaking():
            yield BYTES[digest]
            raise OSError("the source broke")

        with pytest.raises(OSError, match="the source broke"):
            self.inside(scope).put(breaking())

    # -- looking ----------------------------------------------------------------------------

    @rule(which=WHICH, start=st.integers(0, 3001), more=st.integers(0, 3001))
    def read(self, which, start, more):
        self.reads(*self.some(which), None, None)
        self.reads(*self.some(which), start, start + more)

    @rule()
    def compare(self):
        self.compare_everything()

    @rule(repair=st.booleans(), read_data=st.booleans())
    def fsck(self, repair, read_data):
        found = list(self.store.fsck(repair=repair, read_data=read_data))
        problems = [finding for finding in found if finding.is_problem]
        assert {finding.kind for finding in problems} <= {"missing", "corrupt"}
        assert {finding.digest for finding in problems} == self.model.damaged
        orphans = {finding.digest for finding in found if finding.kind == "orphan"}
        assert orphans == self.model.blobs - self.model.kept(self.now)
        assert not [finding for finding in found if finding.kind in ("stray", "foreign")]

    # -- keeping ----------------------------------------------------------------------------

    @rule(which=WHICH, filename=NAME, metadata=METADATA, trouble=TROUBLE)
    def update(self, which, filename, metadata, trouble):
        scope, digest = self.some(which)

        def ought(model):
            asset = model.seen(scope, digest, self.now)
            asset.filename = filename or asset.filename
            asset.metadata = asset.metadata if metadata is None else metadata

        asset, _ = self.do(
            lambda store: self.inside(scope, store).update(digest, filename, metadata),
            ought,
            trouble,
        )
        if asset is not None:
            self.is_as_noted(scope, asset)

    @rule(which=WHICH, how=st.sampled_from(["keep", "restore"]) | HOLD, trouble=TROUBLE)
    def keep(self, which, how, trouble):
        scope, digest = self.some(which)

        def act(store):
            inside = self.inside(scope, store)
            if how in ("keep", "restore"):
                return getattr(inside, how)(digest)
            return inside.renew(digest, how)

        def ought(model):
            asset = (
                model.asset(scope, digest)
                if how == "restore"
                else model.seen(scope, digest, self.now)
            )
            end = FOREVER if how in ("keep", "restore") else self.now + duration(how)
            asset.kept_until = max(asset.kept_until, end)

        self.do(act, ought, trouble)

    @rule(which=WHICH, trouble=TROUBLE)
    def discard(self, which, trouble):
        scope, digest = self.some(which)

        def ought(model):
            asset = model.asset(scope, digest)
            asset.kept_until = min(asset.kept_until, self.now)
            return len(model.live(scope, digest))

        done, keepers = self.do(
            lambda store: self.inside(scope, store).discard(digest), ought, trouble
        )
        if done is not None:
            assert (done.digest, len(done.kept_by)) == (digest, keepers)

    @rule(which=WHICH, owner=OWNER, role=ROLE, trouble=TROUBLE)
    def attach(self, which, owner, role, trouble):
        scope, digest = self.some(which)
        self.do(
            lambda store: self.inside(scope, store).attach(digest, owner, role),
            lambda model: model.attach(scope, digest, owner, role, self.now),
            trouble,
        )

    @rule(
        scope=SCOPE,
        owner=OWNER,
        role=ROLE,
        verb=st.sampled_from(["release", "restore"]),
        trouble=TROUBLE,
    )
    def release_or_restore(self, scope, owner, role, verb, trouble):
        done, digests = self.do(
            lambda store: getattr(self.inside(scope, store), verb)(owner=owner, role=role),
            lambda model: getattr(model, verb)(scope, owner, role, self.now),
            trouble,
        )
        if done is not None:
            assert (done.references, list(done.digests)) == (len(digests), sorted(set(digests)))

    @rule(scope=SCOPE, quota=st.none() | st.sampled_from([100, 3_050, 10_000, 0]))
    def set_quota(self, scope, quota):
        def ought(model):
            model.quotas.pop(scope, None)
            if quota is not None:
                model.quotas[scope] = quota

        self.do(lambda store: store.set_quota(scope, quota), ought)

    # -- letting go -------------------------------------------------------------------------

    @rule(seconds=SPAN)
    def pass_time(self, seconds):
        self.clock.advance(seconds=seconds)

    @rule(scope=SCOPE)
    def let_go_of_everything(self, scope):
        for asset in list(self.inside(scope).assets()):
            self.inside(scope).discard(asset.digest)
            self.model.assets[scope, asset.digest].kept_until = min(
                self.model.assets[scope, asset.digest].kept_until, self.now
            )
        for summary in list(self.inside(scope).owners()):
            self.inside(scope).release(summary.owner)
            self.model.release(scope, str(summary.owner), None, self.now)

    @rule(grace=GRACE, only=SOME, limit=LIMIT, full=st.booleans(), trouble=TROUBLE)
    def gc(self, grace, only, limit, full, trouble):
        options = {"digests": only, "limit": limit, "full": full}
        options |= {"now": True} if grace == "0s" else {"grace": grace}
        cutoff = self.now - duration(grace)
        self.collects(lambda store: store.gc(**options), cutoff, only, limit, trouble)

    @rule(grace=GRACE, only=SOME, limit=LIMIT)
    def plan_gc(self, grace, only, limit):
        plan = self.store.plan_gc(grace=grace, digests=only, limit=limit)
        cutoff = self.now - duration(grace)
        garbage = self.model.garbage(cutoff, DIGESTS if only is None else only)
        assert plan.doomed == min(len(garbage), len(garbage) if limit is None else limit)
        if plan.id != "none":
            self.plans[plan.id] = (self.now, cutoff, only, limit)

    @precondition(lambda self: self.plans)
    @rule(trouble=TROUBLE)
    def execute_a_plan(self, trouble):
        ident, (made, *terms) = self.plans.popitem()
        if self.now - made <= duration("30d"):
            self.collects(lambda store: store.plan(ident).execute(), *terms, trouble)

    def collects(self, act, cutoff, only, limit, trouble):
        """What gc lets go of within a limit is known only when it has said so."""
        before, chosen = self.model.copy(), set(DIGESTS if only is None else only)
        done, _ = self.do(act, lambda model: model.collect(cutoff, chosen), trouble, whole=False)
        if done is None:
            return
        garbage = before.garbage(cutoff, chosen)
        doomed = {item.digest for item in done.items if item.action == "doom"}
        assert doomed <= garbage
        assert len(doomed) == min(len(garbage), len(garbage) if limit is None else limit)
        counts = before.collect(cutoff, chosen - (garbage - doomed))
        self.model = before
        assert (done.references, done.assets) == counts
        assert (done.doomed, done.refused) == (len(doomed), 0)
        assert done.doomed_bytes == sum(len(BYTES[digest]) for digest in doomed)
        assert done.failed == (trouble is not None and trouble.struck)

    @rule(grace=GRACE, steps=st.integers(0, 4))
    def leave_gc_early(self, grace, steps):
        run = self.store.plan_gc(grace=grace).run()
        for step, _ in enumerate(run):
            if step == steps:
                break
        run.close()
        after = self.model.copy()
        after.collect(self.now - duration(grace), DIGESTS)
        self.survive(after, whole=False)

    @rule(which=WHICH, block=st.booleans(), trouble=TROUBLE)
    def purge(self, which, block, trouble):
        _, digest = self.some(which)
        block = block or digest not in self.model.blobs
        report, assets = self.do(
            lambda store: store.purge(digest, block=block),
            lambda model: model.purge(digest, block=block),
            trouble,
        )
        if report is not None:
            assert report.assets == assets

    @precondition(lambda self: self.model.blocked)
    @rule(digest=DIGEST)
    def unblock(self, digest):
        assert self.store.unblock(digest) == (digest in self.model.blocked)
        self.model.blocked.discard(digest)

    # -- the end ----------------------------------------------------------------------------

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:
                self.compare_everything()
                for scope, digest in self.model.assets:
                    self.reads(scope, digest, None, None)
                self.nothing_is_left()
        finally:
            self.abandon()
            shutil.rmtree(self.root)

    def nothing_is_left(self):
        """Once all is let go of, and gc has come by."""
        for scope in SCOPES:
            self.let_go_of_everything(scope)
        for _ in range(4):
            self.clock.advance(days=31)
            self.store.gc()
        assert surgery.objects(self.store) == {}
        if self.store._rooms.catalog.exists():
            for table in ("asset", "reference", "blob", "candidate"):
                assert surgery.rows(self.store, f"SELECT * FROM calotype_{table}") == []
            unsettled = "SELECT key FROM calotype_replica WHERE state <> 'erased' OR due_at > 0"
            assert surgery.rows(self.store, unsettled) == []
            assert surgery.rows(self.store, "SELECT * FROM calotype_scope WHERE used <> 0") == []

    def abandon(self):
        """Drop the store without a last word, as a killed process would."""
        self.store._closing.detach()
        self.store._rooms.catalog.close()


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

    @rule(which=WHICH, harm=st.sampled_from([surgery.lose, surgery.truncate]))
    def damage(self, which, harm):
        _, digest = self.some(which)
        if digest in self.model.blobs - self.model.damaged and BYTES[digest]:
            harm(self.store, digest)
            self.model.damaged.add(digest)

    def is_damaged(self, digest):
        return not self.whole_files(digest)

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

    def nothing_is_left(self):
        super().nothing_is_left()
        assert objects_of(self.folder) == temporary_of(self.folder) == []


@pytest.mark.timeout(0 if FULL else 300)
@pytest.mark.parametrize("machine", [MemoryMachine, FolderMachine])
def test_a_store_does_what_plain_dicts_do(machine):
    run_state_machine_as_test(machine, settings=SETTINGS)
