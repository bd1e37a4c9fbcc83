"""gc through derivations: outputs live as long as what they were made of, cycles or not."""

from __future__ import annotations

import pytest
from tests.store.pictures import picture
from tests.store.surgery import change, content, objects, problems, rows, states

from calotype import Digest, Store


def derive(store: Store, source: str, output: str, recipe: str = "thumbnail") -> None:
    """The rows that deriving leaves: an output has a blob and no asset."""
    change(
        store,
        "INSERT INTO calotype_derivation (audience, input_digest, recipe, version, params_hash,"
        f" state, output_digest) VALUES ('default', '{source}', '{recipe}', '1', '{output[:8]}',"
        f" 'ready', '{output}')",
    )


def bare(store: Store, number: int) -> Digest:
    """A blob without any asset, as outputs are."""
    digest = store.put(picture(number)).digest
    change(store, f"DELETE FROM calotype_asset WHERE digest = '{digest}'")
    return digest


@pytest.fixture
def source(store):
    return store.put(picture(), owner="scan/9").digest


def test_an_output_is_kept_while_its_input_is(store, source):
    output = bare(store, 1)
    derive(store, source, output)
    assert store.gc(now=True, full=True).doomed == 0
    assert states(store, output) == ["live"]
    assert problems(store) == []
    explained = store.explain(output)
    assert (explained.verdict, [kept.kind for kept in explained.kept_by]) == (
        "kept",
        ["derivation"],
    )


def test_an_output_goes_with_its_input_in_the_same_run(store, source):
    output = bare(store, 1)
    derive(store, source, output)
    store.release("scan/9")
    report = store.gc(now=True)
    assert (report.doomed, report.erased) == (2, 2)
    assert objects(store) == {}
    assert rows(store, "SELECT COUNT(*) FROM calotype_derivation") == [(0,)]
    assert problems(store) == []


def test_a_chain_of_outputs_goes_in_one_run(store, source):
    chain = [source, *[bare(store, number) for number in range(1, 5)]]
    for upper, lower in zip(chain, chain[1:], strict=False):
        derive(store, upper, lower)
    assert store.gc(now=True, full=True).doomed == 0
    store.release("scan/9")
    assert store.gc(now=True).doomed == 5
    assert problems(store) == []


def test_a_cycle_is_kept_by_any_of_its_members_and_goes_as_a_whole(store, source):
    other, third = bare(store, 1), bare(store, 2)
    for upper, lower in ((source, other), (other, third), (third, source)):
        derive(store, upper, lower)
    assert store.gc(now=True, full=True).doomed == 0
    store.release("scan/9")
    assert store.gc(now=True).doomed == 3
    assert objects(store) == {}
    assert problems(store) == []


def test_an_output_may_be_its_own_input(store, source):
    derive(store, source, source)
    assert store.gc(now=True, full=True).doomed == 0
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1
    assert objects(store) == {}


def test_an_output_of_two_inputs_lives_as_long_as_either(store, source):
    second = store.put(picture(5), owner="scan/10").digest
    output = bare(store, 1)
    derive(store, source, output)
    derive(store, second, output)
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1
    assert states(store, output) == ["live"]
    store.release("scan/10")
    assert store.gc(now=True).doomed == 2


def test_an_output_that_is_also_an_asset_outlives_its_input(store, source):
    output = store.put(picture(1)).digest
    derive(store, source, output)
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1
    assert content(store, output) == picture(1)
    store.discard(output)
    assert store.gc(now=True).doomed == 1


def test_an_input_is_not_kept_by_its_output(store, source):
    output = store.put(picture(1)).digest
    derive(store, source, output)
    store.release("scan/9")
    store.gc(now=True)
    assert store.explain(source).verdict == "erased"


def test_an_output_whose_derivation_was_deleted_goes(store, source):
    output = bare(store, 1)
    derive(store, source, output)
    store.gc(now=True)
    change(store, "DELETE FROM calotype_derivation")
    assert store.gc(now=True).doomed == 1
    assert states(store, output) == ["erased"]
    assert problems(store) == []


@pytest.mark.parametrize("by", [None, 2])
def test_an_output_that_its_derivation_has_no_more_goes(store, source, by):
    output = bare(store, 1)
    derive(store, source, output)
    other = None if by is None else bare(store, by)
    store.gc(now=True, digests=[output])
    state = "pending" if other is None else "ready"
    change(store, "UPDATE calotype_derivation SET state = ?, output_digest = ?", state, other)
    assert store.gc(now=True).doomed == 1
    assert states(store, output) == ["erased"]
    assert problems(store) == []


def test_a_cycle_of_many_is_not_run_through_for_ever(store):
    ring = [bare(store, number) for number in range(30)]
    for upper, lower in zip(ring, [*ring[1:], ring[0]], strict=True):
        derive(store, upper, lower)
    for lower in ring[::3]:
        derive(store, ring[0], lower, recipe="other")
    assert store.gc(now=True).doomed == 30


def test_counts_leave_derived_outputs_out(store, source):
    output = bare(store, 1)
    derive(store, source, output)
    stats = store.stats()
    assert (stats.blobs, stats.bytes) == (1, len(picture()))
    assert (stats.derived_blobs, stats.derived_bytes) == (1, len(picture(1)))
    assert (stats.orphaned, stats.orphaned_bytes) == (0, 0)
