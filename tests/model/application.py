"""The application, and the mains: attach, release, power cuts."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model import disk, rows
from tests.model.rows import HERE, KEPT, LINKED
from tests.model.store import IDLE, State, Step, Terms, commit

KINDS = {KEPT: "library entry", LINKED: "attached reference"}


def attach(terms: Terms, state: State) -> Iterator[Step]:
    """Attach in the application's own transaction, which ends well or not."""
    catalog = state.versions[-1]
    if state.attaching:
        over = state._replace(attaching=False)
        done = commit(over, rows.linked(catalog, 0, LINKED), durable=terms.durable("attach"))
        promised = state.promised | terms.attached
        yield "the application commits its attach", done._replace(promised=promised)
        yield "the application rolls back", over
    elif terms.attacher and catalog.assets[0] & (HERE | LINKED) == HERE:
        yield "the application attaches", state._replace(attaching=True)


def release(terms: Terms, state: State) -> Iterator[Step]:
    """Whatever keeps an asset may be let go."""
    catalog = state.versions[-1]
    if state.attaching or not any(catalog.assets):
        return
    for scope, kind in sorted({(0, LINKED), *terms.putters}):
        if catalog.assets[scope] & kind:
            done = commit(
                state, rows.let_go(catalog, scope, kind), durable=terms.durable("release")
            )
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
    attached = 0 if terms.durable("attach") else terms.attached
    for version in state.versions:
        for files in disk.after_a_cut(state.files):
            yield (
                "power cut",
                state._replace(
                    versions=(version._replace(looks=rows.unread(version.looks)),),
                    files=files,
                    putters=(IDLE,) * len(state.putters),
                    collectors=(IDLE,) * len(state.collectors),
                    auditor=IDLE,
                    verifier=IDLE,
                    attaching=False,
                    known_bad=state.known_bad & version.suspect,
                    promised=state.promised & ~attached,
                    cuts=state.cuts - 1,
                    linked_badly=False,
                ),
            )
