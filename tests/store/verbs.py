"""Every verb of a store as a rule of the machine, with what it ought to do."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.store.machine import SCOPES, Machine
from tests.store.ought import BYTES, DIGESTS, PICTURES, Refused
from tests.store.trouble import Trouble

from calotype.quantities import FOREVER, duration

SCOPE = st.sampled_from(SCOPES)
DIGEST = st.sampled_from(DIGESTS)
WHICH = st.integers(0, 15)
OWNER = st.sampled_from(["scan/1", "set/a/b"])
ROLE = st.sampled_from([None, "front"])
HOLD = st.sampled_from(["30s", "2h", "3d"])
NAME = st.sampled_from([None, "a.png", "B.txt"])
METADATA = st.sampled_from([None, {}, {"n": 1}, {"tag": "x", "n": 2}])
FORM = st.sampled_from(["bytes", "file", "pieces", "path"])
DEMAND = st.sampled_from([None, None, None, "an image", *DIGESTS[:2]])
SPAN = st.sampled_from([0, 1, 2 * 3600, 25 * 3600, 20 * 60, 8 * 86400])
GRACE = st.sampled_from(["0s", "1h", "24h"])
SOME = st.integers(0, 2).flatmap(lambda n: st.none() if n else st.sets(DIGEST, max_size=4))
DROP = st.lists(WHICH, max_size=4)
LIMIT = st.integers(-6, 2).map(lambda n: None if n < 0 else n)
TROUBLE = st.integers(0, 59).map(
    lambda n: None if n < 40 else Trouble("kill", n - 40) if n < 56 else Trouble("fault", n - 56)
)
LATE_TROUBLE = st.integers(-200, 150).map(lambda n: None if n < 0 else Trouble("kill", n))


class MemoryMachine(Machine):
    """A store in memory: all that any store can do."""

    def __init__(self) -> None:
        super().__init__()
        self.plans = {}

    # -- bytes in ---------------------------------------------------------------------------

    @initialize(
        first=st.lists(DIGEST, min_size=2, max_size=6),
        second=st.lists(DIGEST, min_size=1, max_size=4),
        late=LATE_TROUBLE,
    )
    def begin(self, first, second, late):
        self.put_many("default", first, None, None, late)
        self.put_many("ana", second, "scan/1", None, None)

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
        digests=st.lists(DIGEST, min_size=1, max_size=5),
        owner=st.none() | OWNER,
        hold=st.none() | HOLD,
        trouble=TROUBLE,
    )
    def put_many(self, scope, digests, owner, hold, trouble):
        def ought(model):
            """As if there were no quota: which files find room is not promised."""
            counts, quotas, model.quotas = Counter(), model.quotas, {}
            for digest in digests:
                try:
                    counts[model.put(scope, digest, self.now, owner=owner, hold=hold)] += 1
                except Refused as error:
                    counts[error.code] += 1
            model.quotas = quotas
            return counts

        sources, before = [BYTES[digest] for digest in digests], self.model
        done, counts = self.do(
            lambda store: self.inside(scope, store).put_many(sources, owner, hold).result(),
            ought,
            trouble,
            whole=False,
        )
        if done is not None:
            self.is_counted_up(done, counts, before, scope, trouble)

    def is_counted_up(self, done, counts, before, scope, trouble):
        failed = Counter(failure.code for failure in done.failures)
        answered = failed.copy()
        for name in ("created", "restored", "duplicate", "healed"):
            answered[name] = getattr(done, name)
        assert failed["blocked"] == counts["blocked"]
        assert answered.total() == counts.total()
        if failed:
            after, self.model = self.model, before
            self.survive(after, whole=False)
            assert not failed["quota-exceeded"] or after.used(scope) > before.quotas[scope]
            assert not failed["backend-unreachable"] or trouble.struck
        elif trouble is None or not trouble.struck:
            for each in (answered, counts):  # of a file that is there twice, both may be healed
                each["duplicate"] += each.pop("healed", 0)
            assert answered == counts
        room = self.model.quotas.get(scope, FOREVER)
        assert self.model.used(scope) <= max(room, before.used(scope))

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

    @rule(scope=SCOPE, quota=st.sampled_from([None, 3_100, 100]))
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

    @rule(
        drop=DROP,
        wait=SPAN,
        grace=GRACE,
        only=SOME,
        limit=LIMIT,
        full=st.booleans(),
        trouble=TROUBLE,
    )
    def gc(self, drop, wait, grace, only, limit, full, trouble):
        self.let_go(map(self.some, drop))
        self.clock.advance(seconds=wait)
        options = {"digests": only, "limit": limit, "full": full}
        options |= {"now": True} if grace == "0s" else {"grace": grace}
        cutoff = self.now - duration(grace)
        self.collects(lambda store: store.gc(**options), cutoff, only, limit, trouble)

    @rule(drop=DROP, steps=st.integers(0, 4))
    def leave_gc_early(self, drop, steps):
        self.let_go(map(self.some, drop))
        run = self.store.plan_gc(now=True).run()
        for step, _ in enumerate(run):
            if step == steps:
                break
        run.close()
        after = self.model.copy()
        after.collect(self.now, DIGESTS)
        self.survive(after, whole=False)

    @rule(drop=DROP, grace=GRACE, only=SOME, limit=LIMIT)
    def plan_gc(self, drop, grace, only, limit):
        self.let_go(map(self.some, drop))
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
        trouble = None if limit is not None else trouble
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

    @rule(which=WHICH, block=st.sampled_from([False, False, True]), trouble=TROUBLE)
    def purge(self, which, block, trouble):
        _, digest = self.some(which)
        block |= digest not in self.model.blobs
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
