"""A store held against what it ought to hold: doing to both, comparing, and the end."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from tests.store import surgery
from tests.store.ought import BYTES, DIGESTS, GRACE, PICTURES, Model, Refused, noted
from tests.store.places import Clock, Place
from tests.store.trouble import Crash, Trouble

from calotype.errors import CalotypeError
from calotype.model import Asset, OwnerSummary
from calotype.names import Owner
from calotype.quantities import FOREVER, when

SCOPES = ("default", "ana")


class Machine(RuleBasedStateMachine):
    """A store, and what it ought to hold."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="calotype-machine-"))
        self.clock = Clock()
        self.place = self.a_place()
        self.store = self.place.open()
        self.model = Model()

    def a_place(self) -> Any:
        """Where the store is, never used before; its ``open`` opens it."""
        return Place(self.kind, self.root, self.clock)

    @property
    def now(self) -> int:
        return self.clock()

    def inside(self, scope: str, store: Any = None) -> Any:
        store = store or self.store
        return store if scope == "default" else store.scope(scope)

    def some(self, which: int) -> tuple[str, str]:
        """Scope and digest of one of the assets; or of one that is not there."""
        there = sorted(self.model.assets)
        absent = [(scope, d) for d in DIGESTS for scope in SCOPES if (scope, d) not in there]
        return [*there, *absent[:1]][which % (len(there) + len(absent[:1]))]

    # -- doing ------------------------------------------------------------------------------

    def do(
        self,
        act: Callable[[Any], Any],
        expect: Callable[[Model], Any],
        trouble: Trouble | None = None,
        *,
        whole: bool = True,
    ) -> tuple[Any, Any]:
        """Do it to store and model; what each answers, or (None, None) where it came to nothing.

        Stopped halfway, ``whole`` says that all of it or nothing of it must have happened; else
        all or nothing for each digest.
        """
        after, refused, expected = self.model.copy(), "", None
        try:
            expected = expect(after)
        except Refused as error:
            after, refused = self.model, error.code
        try:
            answer = self.run(act, trouble)
        except Crash:
            self.survive(after, whole=whole)
            return None, None
        except CalotypeError as error:
            if trouble is None or not trouble.struck or error.code != "backend-unreachable":
                assert error.code == refused, error
            return None, None
        assert not refused, f"{answer} instead of {refused}"
        self.model = after
        return answer, expected

    def run(self, act: Callable[[Any], Any], trouble: Trouble | None) -> Any:
        return act(self.store)

    def survive(self, after: Model, *, whole: bool) -> None:
        """The work was stopped: each digest is as it was before or as it ought to be after."""
        found, before = self.found(), self.model
        done = set()
        for digest in DIGESTS:
            old, new, real = (each.rows(digest) for each in (before, after, found))
            assert real in (old, new), f"{digest} is neither as before nor as after"
            if old != new:
                done.add(real == new)
        assert not whole or len(done) < 2, "half of it happened"
        found.damaged = {d for d in before.damaged & found.blobs if self.is_damaged(d)}
        self.model = found

    def is_damaged(self, digest: str) -> bool:
        return False

    # -- comparing --------------------------------------------------------------------------

    def found(self) -> Model:
        """What the catalog's rows say."""
        if not self.store._rooms.catalog.exists():
            return Model()
        with self.store._rooms.catalog.read() as connection:
            return noted(connection.connection.driver_connection)

    @invariant()
    def the_rows_are_what_they_ought_to_be(self) -> None:
        found = self.found()
        assert found.quotas == self.model.quotas
        for digest in DIGESTS:
            assert found.rows(digest) == self.model.rows(digest)

    def compare_everything(self) -> None:
        """Every answer of the store, in every scope."""
        for digest in DIGESTS:
            self._is_explained(digest)
        self._is_counted()
        for scope in SCOPES:
            inside = self.inside(scope)
            self._is_checked(scope, inside)
            self._is_used(scope, inside)
            for trashed in (False, True):
                self._is_listed(scope, inside, trashed)

    def is_as_noted(self, scope: str, asset: Asset) -> None:
        noted = self.model.assets[scope, asset.digest]
        end = noted.kept_until
        kept = "library" if end == FOREVER else when(end) if end > self.now else None
        assert asset.kept == kept
        assert (asset.filename, asset.metadata) == (noted.filename, noted.metadata)
        assert asset.references == len(self.model.live(scope, asset.digest))
        assert asset.trashed is not self.model.visible(scope, asset.digest, self.now)
        assert asset.created_at == when(noted.created_at)
        assert asset.size == len(BYTES[asset.digest])

    def reads(self, scope: str, digest: str, start: int | None, stop: int | None) -> None:
        def read(store: Any) -> bytes:
            with self.inside(scope, store).open(digest, start, stop) as file:
                return file.read()

        def ought(model: Model) -> bytes:
            model.seen(scope, digest, self.now)
            if digest in model.damaged:
                raise Refused("corrupt")
            return BYTES[digest][start:stop]

        answer, expected = self.do(read, ought)
        assert answer == expected

    def fsck(self, **how):
        found = list(self.store.fsck(**how))
        problems = [finding for finding in found if finding.is_problem]
        assert {finding.kind for finding in problems} <= {"missing", "corrupt"}
        assert {finding.digest for finding in problems} == self.model.damaged
        orphans = {finding.digest for finding in found if finding.kind == "orphan"}
        assert orphans == self.model.blobs - self.model.kept(self.now)
        assert not [finding for finding in found if finding.kind in ("stray", "foreign")]

    def _is_explained(self, digest: str) -> None:
        told = self.store.explain(digest)
        assert (told.blocked is not None) == (digest in self.model.blocked)
        assert (told.blob is not None) == (digest in self.model.blobs)
        if digest in self.model.kept(self.now):
            assert told.verdict == "kept"
        elif digest in self.model.blobs:
            over = digest in self.model.garbage(self.now - GRACE)
            assert told.verdict == ("garbage" if over else "trash")
        else:
            assert told.verdict in ("doomed", "erased", "unknown")

    def _is_counted(self) -> None:
        model, now, stats = self.model, self.now, self.store.stats()
        orphans = model.blobs - model.kept(now)
        live = [use.digest for use in model.uses if use.released_at is None]
        alone = [digest for (_, digest), a in model.assets.items() if a.kept_until > now]
        sizes = [sum(map(_size, some)) for some in (model.blobs, orphans, [*alone, *live])]
        assert [stats.bytes, stats.orphaned_bytes, stats.logical_bytes] == sizes
        assert stats.saved_bytes == sizes[2] - (sizes[0] - sizes[1])
        assert (stats.blobs, stats.orphaned) == (len(model.blobs), len(orphans))
        assert (stats.assets, stats.references) == (len(model.assets), len(live))
        assert {blob.digest for blob in self.store.orphans()} == orphans

    def _is_checked(self, scope: str, inside: Any) -> None:
        answers = inside.check(DIGESTS)
        assert set(answers) == set(DIGESTS)
        for digest, found in answers.items():
            assert (found is not None) == ((scope, digest) in self.model.assets)
            if found is not None:
                self.is_as_noted(scope, found)

    def _is_used(self, scope: str, inside: Any) -> None:
        live = self.model.live(scope)
        seen, trash = (self.model.shown(scope, self.now, trashed=each) for each in (False, True))
        usage = inside.usage()
        assert (usage.assets, usage.bytes) == (len(seen), sum(map(_size, seen)))
        assert (usage.trashed, usage.trashed_bytes) == (len(trash), sum(map(_size, trash)))
        assert (usage.references, usage.quota) == (len(live), self.model.quotas.get(scope))
        for digest in DIGESTS:
            found = [(*_pair(each.owner), each.role) for each in inside.references(digest=digest)]
            assert Counter(found) == Counter(use.slot[1:] for use in live if use.digest == digest)
        owners = {use.slot[1:3] for use in live}
        summaries = list(_paged(inside.owners()))
        assert [_pair(summary.owner) for summary in summaries] == sorted(owners)
        for summary in summaries:
            self._is_summed(scope, inside, summary)

    def _is_summed(self, scope: str, inside: Any, summary: OwnerSummary) -> None:
        mine = [use for use in self.model.live(scope) if use.slot[1:3] == _pair(summary.owner)]
        uses = Counter((use.digest, use.slot[3]) for use in mine)
        size = sum(_size(use.digest) for use in mine)
        assert (summary.references, summary.bytes) == (len(mine), size)
        found = _paged(inside.references(owner=summary.owner))
        assert Counter((each.digest, each.role) for each in found) == uses
        assert {each.digest for each in inside.assets(owner=summary.owner)} == {d for d, _ in uses}

    def _is_listed(self, scope: str, inside: Any, trashed: bool) -> None:
        shown = self.model.shown(scope, self.now, trashed=trashed)
        assets = {digest: self.model.assets[scope, digest] for digest in shown}

        def listed(**how: Any) -> list[str]:
            return [each.digest for each in _paged(inside.assets(trashed=trashed, **how))]

        assert listed() == sorted(shown, key=lambda digest: (-assets[digest].created_at, digest))
        assert listed(sort="size") == sorted(shown, key=lambda digest: (-_size(digest), digest))
        assert set(listed(media_type="image/*")) == {d for d in shown if BYTES[d] in PICTURES}
        named = {digest for digest in shown if assets[digest].filename == "B.txt"}
        assert set(listed(q="b.T")) == named

    # -- the end ----------------------------------------------------------------------------

    def let_go(self, places):
        """Nothing keeps these assets any more."""
        for scope, digest in places:
            if (scope, digest) in self.model.assets:
                self.inside(scope).discard(digest)
                asset = self.model.assets[scope, digest]
                asset.kept_until = min(asset.kept_until, self.now)
            for use in self.model.live(scope, digest):
                self.inside(scope).release("/".join(use.slot[1:3]), use.slot[3])
                use.released_at = self.now

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:
                self.compare_everything()
                self.fsck()
                for scope, digest in self.model.assets:
                    self.reads(scope, digest, None, None)
                self.nothing_is_left_over()
                self.nothing_is_left()
        finally:
            self.abandon()
            shutil.rmtree(self.root)

    def nothing_is_left_over(self):
        """Nothing but what is held lies about, once gc has come by."""
        self.clock.advance(days=2)
        self.store.gc(grace="9999d")
        assert not surgery.objects(self.store).keys() - self.live_keys()
        if self.store._rooms.catalog.exists():
            underway = "SELECT * FROM calotype_replica WHERE state NOT IN ('live', 'erased')"
            assert surgery.rows(self.store, underway) == []

    def live_keys(self):
        digests = self.model.blobs
        return {str(key) for digest in digests for key in surgery.keys(self.store, digest)}

    def nothing_is_left(self):
        """Nothing lies about at all, once all is let go of."""
        self.let_go(sorted(self.model.assets))
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
        self.store._ending.detach()
        self.store._rooms.catalog.close()


def _size(digest: str) -> int:
    return len(BYTES[digest])


def _pair(owner: Owner) -> tuple[str, str]:
    return (owner.kind, owner.id)


def _paged(listing: Any) -> Iterator[Any]:
    page = listing.page(2)
    yield from page.items
    while page.next is not None:
        page = listing.page(2, page.next)
        yield from page.items
