"""The application and the world: attach and release, power cuts and damaged disks."""

from __future__ import annotations

from collections.abc import Iterator

from calotype.catalog.states import LIVE
from tests.model import disk, rows
from tests.model.rows import HERE, KEPT, LINKED
from tests.model.store import IDLE, State, Step, Terms, commit

KINDS = {KEPT: "library entry", LINKED: "attached reference"}


def attach(terms: Terms, state: State) -> Iterator[Step]:
    """Attach in the application's own transaction, which ends well or not."""
    catalog = state.versions[-1]
    if state.attaching:
        over = state._replace(attaching=False)
        done = commit(over, rows.linked(catalog, 0, LINKED), durable=not terms.lazy)
        promised = state.promised | terms.attached
        yield "the application commits its attach", done._replace(promised=promised)
        yield "the application rolls back", over
    elif terms.attacher and catalog.assets[0] & (HERE | LINKED) == HERE:
        yield "the application attaches", state._replace(attaching=True)


def release(terms: Terms, state: State) -> Iterator[Step]:
    """Whatever keeps an asset may be let go."""
    if state.attaching:
        return
    catalog = state.versions[-1]
    for scope, kind in sorted({(0, LINKED), *terms.putters}):
        if catalog.assets[scope] & kind:
            done = commit(state, rows.let_go(catalog, scope, kind), durable=not terms.lazy)
            promised = state.promised & ~_promises(terms, scope, kind)
            label = f"the {KINDS.get(kind, 'reference')} of scope {scope} is let go"
            yield label, done._replace(promised=promised)


def _promises(terms: Terms, scope: int, kind: int) -> int:
    """The promises that a release takes back."""
    if kind == LINKED:
        return terms.attached
    wanted = enumerate(terms.putters)
    return sum(1 << putter for putter, into in wanted if into == (scope, kind))


def power_cut(terms: Terms, state: State) -> Iterator[Step]:
    """Back to a version that the log still holds; entries not synced are there or not."""
    if not state.cuts:
        return
    attached = terms.attached if terms.lazy else 0
    for version in dict.fromkeys(state.versions):
        for files in disk.after_a_cut(state.files):
            yield (
                "power cut",
                state._replace(
                    versions=(version._replace(looks=rows.unread(version.looks)),),
                    files=files,
                    putters=(IDLE,) * len(state.putters),
                    collectors=(IDLE,) * len(state.collectors),
                    attaching=False,
                    promised=state.promised & ~attached,
                    cuts=state.cuts - 1,
                    linked_badly=False,
                ),
            )


def damage(state: State) -> Iterator[Step]:
    """The world damages a live object so that its size tells."""
    if not state.rot:
        return
    for key, held in enumerate(state.versions[-1].states):
        if held == LIVE and state.files[key] == disk.DURABLE:
            yield (
                f"key {key} is damaged",
                state._replace(files=disk.damaged(state.files, key), rot=state.rot - 1),
            )
