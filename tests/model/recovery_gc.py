"""The gc of a catalog that may be put back or outdone meanwhile: look, let go, announce, delete.

A key stays ``erasing`` once its delete was sent: that may land at any later time, also twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.recovery_steps import told
from tests.model.recovery_store import (
    GONE,
    IDLE,
    USED,
    Catalog,
    Gc,
    Marker,
    State,
    Step,
    Terms,
    all_doomed,
    doomed,
    fault,
    is_blob,
    with_catalog,
)
from tests.model.rows import changed

from calotype.catalog.states import DOOMED, ERASING, WRITING

Going = Iterator[tuple[str, State, Gc]]


def _is_due(state: State, catalog: Catalog, key: int) -> bool:
    """Written to or let go of, and not gone by a delete that was sent."""
    row = catalog.rows[key]
    return row in (DOOMED, WRITING) or (row == ERASING and not state.late >> key & 1)


def is_garbage(catalog: Catalog) -> bool:
    """Nothing keeps it, and its blob is there: in the trash, or let go of by who held it."""
    return is_blob(catalog) and not catalog.held and catalog.use != USED


class Collector:
    """What each catalog's gc does next."""

    def __init__(self, terms: Terms) -> None:
        self.mutant = terms.mutant
        self._steps = {
            "idle": self._look,
            "let go": self._let_go,
            "erase": self._erase,
            "announce": self._announce,
        }

    def steps(self, state: State) -> Iterator[Step]:
        """One step of one gc."""
        for who, catalog in enumerate(state.catalogs):
            if catalog is not None:
                gc = state.gcs[who]
                for label, after, doing in self._steps[gc.doing](state, who, catalog, gc):
                    yield f"{label} by {who}", after._replace(gcs=changed(after.gcs, who, doing))

    def _look(self, state: State, who: int, catalog: Catalog, gc: Gc) -> Going:
        """Where nothing tells that an older catalog was put back, nobody runs gc before recovery."""
        rows = any(_is_due(state, catalog, key) for key in range(len(catalog.rows)))
        busy = rows or is_garbage(catalog) or (catalog.blocked and not state.noted)
        behind = fault(state, catalog) and self.mutant != "let go though the catalog is behind"
        if busy and not behind and not state.quiet:
            yield "look", state, _looked("let go", catalog)

    def _let_go(self, state: State, who: int, catalog: Catalog, gc: Gc) -> Going:
        """In the catalog that was looked at; then look again, before anything is erased."""
        same = _is_same(catalog, gc) or self.mutant == "let go in another catalog"
        if same and is_garbage(catalog):
            yield "let go", with_catalog(state, who, all_doomed(catalog)), gc
        if fault(state, catalog):
            yield "locked", state, IDLE
        else:
            marker = Marker(catalog.epoch, catalog.generation, catalog.seq)
            marked = state._replace(marker=marker) if state.marker == GONE else state
            yield "claim", marked, _looked("erase", catalog)

    def _erase(self, state: State, who: int, catalog: Catalog, gc: Gc) -> Going:
        """Make up for blocks, fence off writers, and say what is erased next."""
        same = _is_same(catalog, gc)
        may_tell = same or self.mutant == "told by another catalog"
        if catalog.blocked and not state.noted and may_tell:
            yield "tell of the block", told(state, who), gc
        for key, row in enumerate(catalog.rows):
            if not _is_due(state, catalog, key):
                continue
            if row == WRITING:
                yield f"fence off {key}", with_catalog(state, who, doomed(catalog, key)), gc
            elif same:
                rows = changed(catalog.rows, key, ERASING)
                after = with_catalog(state, who, catalog._replace(rows=rows, seq=catalog.seq + 1))
                going_on = gc._replace(doing="announce", key=key, seq=catalog.seq + 1)
                yield f"set {key} erasing", after, going_on
        yield "done", state, IDLE

    def _announce(self, state: State, who: int, catalog: Catalog, gc: Gc) -> Going:
        """Write the note, raise the marker, and look whether the catalog knows of it."""
        marker = state.marker
        mine = (marker.epoch, marker.generation) == (gc.epoch, gc.generation)
        noted = state._replace(notes=state.notes | {(gc.seq, gc.key)})
        seq = max(marker.seq, gc.seq)
        if self.mutant == "the mark is written over":
            plain = marker._replace(seq=seq, recovering=False)
            yield "announce blindly", _sent(noted._replace(marker=plain), gc), IDLE
        elif not mine or marker.recovering:
            yield "note, and stop", noted, IDLE
        else:
            raised = noted._replace(marker=marker._replace(seq=seq))
            if _is_same(catalog, gc):
                yield "announce, and send a delete", _sent(raised, gc), IDLE
            else:
                yield "the catalog was put back", raised, IDLE


def _sent(state: State, gc: Gc) -> State:
    return state._replace(late=state.late | 1 << gc.key)


def _looked(doing: str, catalog: Catalog) -> Gc:
    return Gc(doing, generation=catalog.generation, epoch=catalog.epoch, seq=catalog.seq)


def _is_same(catalog: Catalog, gc: Gc) -> bool:
    return catalog.generation == gc.generation and catalog.seq >= gc.seq
