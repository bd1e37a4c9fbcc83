"""One digest: put, attach, release, gc, fsck, power cuts and damage, in every order.

Every step is one transaction or one file operation, so a process may be overtaken between any two
of them. A killed process is one that never takes its next step: all such runs are among those
explored, and I17 asks in every state what would be left if all were killed now. A late request is
a process that takes its next step much later. Transactions are atomic and follow one another
(BEGIN IMMEDIATE); only the application's spans two steps, and holds the writer's lock meanwhile.
"""

from __future__ import annotations

from functools import partial

from tests.model.application import attach, power_cut, release
from tests.model.collector import Collector, fence
from tests.model.explorer import Model
from tests.model.fsck import Auditor, adopt_strays, by_hand, damage, move, verify
from tests.model.promises import invariants
from tests.model.putter import Putter
from tests.model.store import State, Terms, initial


def put_gc(terms: Terms) -> Model[State]:
    """The model under these terms."""
    putters = [Putter(terms, number) for number in range(len(terms.putters))]
    collectors = [Collector(terms, number) for number in range(terms.collectors)]
    family = "fsck" if terms.auditor else "put_gc"
    return Model(
        f"{family}, {terms.mutant}" if terms.mutant else family,
        initial(terms),
        (
            *(putter.steps for putter in putters),
            *(collector.steps for collector in collectors),
            partial(attach, terms),
            partial(release, terms),
            partial(fence, terms),
            partial(power_cut, terms),
            partial(verify, terms),
            Auditor(terms).steps if terms.auditor else adopt_strays,
            partial(damage, terms),
            by_hand,
            move,
        ),
        invariants(terms),
    )
