"""Candidates: whatever stops being kept is looked at again, whoever let it go and however.

One digest in several scopes, a clock, and collectors that may stop for ever between any two
transactions. Triggers append candidates; a collector reads the ids that are due, decides in later
transactions, and deletes only those ids. Candidate rows that agree in when to look and in who has
read them are one to the model, for nothing depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from tests.model.explorer import Invariant, Model
from tests.model.rows import changed

FOREVER = 99
NEVER = -1
PUSH = 1
"""How far a digest is pushed back that only an application's column keeps."""

COLUMN_SCOPE = 0


class Asset(NamedTuple):
    """Kept for itself until then; used by so many; and when a reference was released last."""

    kept_until: int
    used: int
    released_at: int

    @property
    def ends_at(self) -> int:
        """When the last thing ends that keeps it, given that nobody uses it."""
        return max(self.kept_until, self.released_at)


class Look(NamedTuple):
    """A candidate row: when to look, and the collectors that have read its id, as bits."""

    look_at: int
    readers: int = 0


class Catalog(NamedTuple):
    """The rows of one digest, and whether an application's column points at its blob."""

    blob: bool
    assets: tuple[Asset | None, ...]
    column: bool
    looks: frozenset[Look]


class Collector(NamedTuple):
    """Where a collector is, the cut-off of its run, and what it decided: when to look again."""

    doing: str = "idle"
    cutoff: int = NEVER
    again_at: int = NEVER


class State(NamedTuple):
    """The catalog, the clock and the collectors."""

    catalog: Catalog
    now: int
    collectors: tuple[Collector, ...]


Step = tuple[str, State]

TRIGGERS = frozenset(
    {
        "asset insert",
        "asset update",
        "asset delete",
        "reference update",
        "reference delete",
    }
)
"""Only when the asset is kept for a time, its kept_until changes, a live reference goes."""


@dataclass(frozen=True)
class Terms:
    """How large the model is, what the application does in it, and what is wrong with it.

    ``bulk`` lets the application delete rows of ours by itself, ``column`` lets a column of its
    own point at the blob, with no trigger. ``split`` gives each step of a look a transaction of
    its own, where the code has one for all; ``every_id`` reads candidates that are not due too.
    ``without`` names a trigger that is missing.
    """

    scopes: int = 2
    collectors: int = 1
    until: int = 2
    grace: int = 0
    users: int = 1
    bulk: bool = True
    column: bool = True
    split: bool = True
    every_id: bool = False
    without: str = ""
    mutant: str = ""


class Candidates:
    """What may happen under some terms."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.triggers = TRIGGERS - {terms.without}

    def model(self) -> Model[State]:
        """The model to explore."""
        terms = self.terms
        wrong = terms.mutant or (f"no trigger on {terms.without}" if terms.without else "")
        catalog = Catalog(False, (None,) * terms.scopes, False, frozenset())
        return Model(
            f"candidates, {wrong}" if wrong else "candidates",
            State(catalog, 0, (Collector(),) * terms.collectors),
            (self.clock, self.application, self.bulk, self.column, self.collect),
            self.invariants(),
        )

    # -- triggers

    def look(self, catalog: Catalog, look_at: int, trigger: str = "") -> Catalog:
        """The catalog with one more candidate."""
        if trigger and trigger not in self.triggers:
            return catalog
        if self.terms.mutant == "one row a digest" and catalog.looks:
            return catalog
        return catalog._replace(looks=catalog.looks | {Look(look_at)})

    def _set(self, catalog: Catalog, scope: int, asset: Asset | None) -> Catalog:
        return catalog._replace(assets=changed(catalog.assets, scope, asset))

    def keep(self, catalog: Catalog, scope: int, kept_until: int) -> Catalog:
        """Upsert an asset; its trigger looks when the time is over."""
        before = catalog.assets[scope]
        if before is None:
            after, trigger = Asset(kept_until, 0, NEVER), "asset insert"
        else:
            after, trigger = before._replace(kept_until=kept_until), "asset update"
        made = self._set(catalog._replace(blob=True), scope, after)
        if kept_until == FOREVER or after == before:
            return made
        return self.look(made, kept_until, trigger)

    # -- the world

    def clock(self, state: State) -> Iterator[Step]:
        """Time passes."""
        if state.now < self.terms.until:
            now, catalog = state.now + 1, state.catalog
            due = frozenset(
                look._replace(look_at=max(look.look_at, self.due_at(now))) for look in catalog.looks
            )
            yield f"it is {now}", state._replace(now=now, catalog=catalog._replace(looks=due))

    def due_at(self, now: int) -> int:
        """The latest look_at that is due now; earlier ones are as good, and made one with it."""
        return now - self.terms.grace

    def application(self, state: State) -> Iterator[Step]:
        """Put, hold, keep, attach, release, discard: all that the library offers."""
        for scope in range(self.terms.scopes):
            for label, catalog in self._verbs(state.catalog, scope, state.now):
                if catalog != state.catalog:
                    yield f"scope {scope}: {label}", state._replace(catalog=catalog)

    def _verbs(self, catalog: Catalog, scope: int, now: int) -> Iterator[tuple[str, Catalog]]:
        asset = catalog.assets[scope]
        if asset is None:
            put = self.keep(catalog, scope, now)
            yield "put with an owner", self._set(put, scope, Asset(now, 1, NEVER))
            yield f"put with a hold until {now + 1}", self.keep(catalog, scope, now + 1)
            yield "put for good", self.keep(catalog, scope, FOREVER)
            return
        yield f"hold until {now + 1}", self.keep(catalog, scope, max(asset.kept_until, now + 1))
        yield "keep for good", self.keep(catalog, scope, FOREVER)
        if asset.kept_until > now:
            yield "discard", self.keep(catalog, scope, now)
        if asset.used < self.terms.users:
            used = asset._replace(used=asset.used + 1)
            yield "attach or restore", self._set(catalog, scope, used)
        if asset.used:
            released = asset._replace(used=asset.used - 1, released_at=now)
            yield "release", self.look(self._set(catalog, scope, released), now, "reference update")

    def bulk(self, state: State) -> Iterator[Step]:
        """The application deletes our rows with statements of its own."""
        if not self.terms.bulk:
            return
        catalog, now = state.catalog, state.now
        for scope, asset in enumerate(catalog.assets):
            if asset is None:
                continue
            if asset.used:
                fewer = self._set(catalog, scope, asset._replace(used=asset.used - 1))
                yield (
                    f"scope {scope}: DELETE a live reference",
                    state._replace(catalog=self.look(fewer, now, "reference delete")),
                )
            elif asset.released_at != NEVER:
                fewer = self._set(catalog, scope, asset._replace(released_at=NEVER))
                yield (
                    f"scope {scope}: DELETE released references",
                    state._replace(catalog=fewer),
                )
            else:
                due = self.due_at(now)
                fewer = self.look(self._set(catalog, scope, None), due, "asset delete")
                yield f"scope {scope}: DELETE the asset", state._replace(catalog=fewer)

    def column(self, state: State) -> Iterator[Step]:
        """A column of the application comes to point at the blob, or no longer does."""
        catalog = state.catalog
        if self.terms.column and (catalog.blob or catalog.column):
            now = "no longer points" if catalog.column else "points"
            yield (
                f"the column {now} at the blob",
                state._replace(catalog=catalog._replace(column=not catalog.column)),
            )

    # -- gc

    def collect(self, state: State) -> Iterator[Step]:
        """Each collector runs over and over."""
        for number, collector in enumerate(state.collectors):
            if collector.doing == "idle":
                cutoff = self.due_at(state.now)
                due = any(look.look_at <= cutoff for look in state.catalog.looks)
                taken = self._begin(state, number, cutoff) if due else None
            else:
                taken = getattr(self, "_" + collector.doing)(state, number, collector)
            if taken is not None:
                yield f"gc {number} {taken[0]}", taken[1]

    def _begin(self, state: State, number: int, cutoff: int) -> Step:
        then = Collector("assets" if self.terms.split else "look", cutoff)
        if self.terms.mutant == "decided before reading":
            return "begins", self._at(state, number, then)
        return self._read(state, number, then)

    def _read(self, state: State, number: int, then: Collector) -> Step:
        if then.doing == "read":
            then = then._replace(doing="finish")
        looks = frozenset(
            look._replace(readers=look.readers | 1 << number)
            if look.look_at <= then.cutoff or self.terms.every_id
            else look
            for look in state.catalog.looks
        )
        return "reads the ids that are due", self._at(
            state, number, then, state.catalog._replace(looks=looks)
        )

    def _at(
        self, state: State, number: int, then: Collector, catalog: Catalog | None = None
    ) -> State:
        return state._replace(
            catalog=state.catalog if catalog is None else catalog,
            collectors=changed(state.collectors, number, then),
        )

    def _look(self, state: State, number: int, mine: Collector) -> Step:
        """As built: all in one transaction, which takes off every candidate of a blob it dooms."""
        due = self.due_at(state.now)
        before = self.collected(state.catalog, mine.cutoff, due)
        catalog = doomed(before)
        if before.blob and not catalog.blob:
            gone = catalog._replace(looks=frozenset())
            return "dooms the blob", self._at(state, number, Collector(), gone)
        again_at = self.decision(catalog, state.now)
        settled = self._settled(catalog, number, again_at)
        return "looks at the digest", self._at(state, number, Collector(), settled)

    def _assets(self, state: State, number: int, mine: Collector) -> Step:
        then = mine._replace(doing="blob")
        return "collects assets", self._at(
            state, number, then, self.collected(state.catalog, mine.cutoff, self.due_at(state.now))
        )

    def _blob(self, state: State, number: int, mine: Collector) -> Step:
        then = mine._replace(doing="decide")
        return "dooms the blob if it may", self._at(state, number, then, doomed(state.catalog))

    def _decide(self, state: State, number: int, mine: Collector) -> Step:
        doing = "read" if self.terms.mutant == "decided before reading" else "finish"
        again_at = self.decision(state.catalog, state.now)
        return "decides", self._at(state, number, mine._replace(doing=doing, again_at=again_at))

    def _finish(self, state: State, number: int, mine: Collector) -> Step:
        settled = self._settled(state.catalog, number, mine.again_at)
        return "takes its ids off", self._at(state, number, Collector(), settled)

    def _settled(self, catalog: Catalog, number: int, again_at: int) -> Catalog:
        """Only the ids that were read are deleted; what is still pending gets a new one."""
        left = frozenset(look for look in catalog.looks if not look.readers >> number & 1)
        if self.terms.mutant == "by digest":
            left = frozenset()
        catalog = catalog._replace(looks=left)
        return catalog if again_at == NEVER else self.look(catalog, again_at)

    def collected(self, catalog: Catalog, cutoff: int, due: int) -> Catalog:
        """Away with released references and then with assets whose time is over."""
        for scope, asset in enumerate(catalog.assets):
            if asset is None:
                continue
            if asset.released_at <= cutoff:
                asset = asset._replace(released_at=NEVER)
            held = catalog.column and scope == COLUMN_SCOPE
            if asset.used or held or asset.ends_at > cutoff:
                catalog = self._set(catalog, scope, asset)
            else:
                catalog = self.look(self._set(catalog, scope, None), due, "asset delete")
        return catalog

    def decision(self, catalog: Catalog, now: int) -> int:
        """When to look again at what is not kept for good, NEVER where all of it is."""
        pending = [
            (scope, asset)
            for scope, asset in enumerate(catalog.assets)
            if asset is not None and asset.kept_until != FOREVER and not asset.used
        ]
        if self.terms.mutant == "one scope alone":
            pending = pending[:1] if catalog.assets[0] is not None else []
        ends = [
            asset.ends_at
            for scope, asset in pending
            if not (catalog.column and scope == COLUMN_SCOPE)
        ]
        bare = catalog.blob and not any(catalog.assets)
        if self.terms.mutant == "bare blob without a column forgotten":
            bare = bare and catalog.column
        if (bare or len(ends) < len(pending)) and self.terms.mutant != "column forgotten":
            ends.append(now + PUSH)
        return min(ends, default=NEVER)

    # -- invariants

    def invariants(self) -> Mapping[str, Invariant[State]]:
        """By name."""

        @cache
        def drained(catalog: Catalog) -> bool:
            """Whether gc, alone and for ever, leaves just what is kept."""
            while catalog.looks:
                before = doomed(self.collected(catalog._replace(looks=frozenset()), FOREVER - 1, 0))
                again_at = self.decision(before, 0)
                catalog = before if again_at == NEVER else self.look(before, again_at)
            kept = [asset for asset in catalog.assets if asset is not None]
            return catalog.blob == bool(kept) and all(
                asset.used or asset.kept_until == FOREVER for asset in kept
            )

        def nothing_leaks(state: State) -> bool:
            looks = frozenset(Look(look.look_at) for look in state.catalog.looks)
            return drained(state.catalog._replace(column=False, looks=looks))

        def looked_at_in_time(state: State) -> bool:
            catalog = state.catalog
            first = min((look.look_at for look in catalog.looks), default=FOREVER)
            late = state.now + (PUSH if self.terms.column else 0)
            if catalog.blob and not any(catalog.assets):
                return first <= late
            return all(
                first <= max(asset.ends_at, late)
                for asset in catalog.assets
                if asset is not None and not asset.used and asset.kept_until != FOREVER
            )

        def rows_point_at_rows(state: State) -> bool:
            catalog = state.catalog
            return catalog.blob or not (catalog.column or any(catalog.assets))

        return {
            "I2 rows point at rows": rows_point_at_rows,
            "I17 looked at in time": looked_at_in_time,
            "I17 nothing leaks": nothing_leaks,
        }


def doomed(catalog: Catalog) -> Catalog:
    """Delete the blob row unless something points at it."""
    if catalog.column or any(catalog.assets):
        return catalog
    return catalog._replace(blob=False)
