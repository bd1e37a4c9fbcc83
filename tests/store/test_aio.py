"""AsyncStore: the same store, awaited; real concurrency, cancellation, and an event loop at ease."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import io
import os
import sys
import threading
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from tests.invariants import broken_invariants, temporary_of
from tests.store.pictures import noise, picture
from tests.store.places import Place
from tests.store.surgery import backend_of, problems, states

from calotype import Scope, Store
from calotype.aio import AsyncBackends, AsyncPlan, AsyncScope, AsyncStore
from calotype.backing import Backends
from calotype.catalog import Catalog
from calotype.digest import Digest
from calotype.errors import DigestMismatch, Misconfigured, NotFound, TooLarge
from calotype.gc.plans import Plan
from calotype.progress import Progress
from calotype.staging import Limits


@pytest.fixture(params=["folder", "postgres"])
def place(request, tmp_path, clock) -> Place:
    return Place(request.param, tmp_path, clock)


@asynccontextmanager
async def opened(place: Place, **options):
    """The store of the place, and a look through it in the end."""
    async with AsyncStore.of(place.open(**options)) as store:
        yield store
        single = len(await store.backends.list()) == 1
    if place.kind == "folder" and single:
        assert broken_invariants(place.root / "store") == []
        assert temporary_of(place.root / "store") == []


async def pieces(data: bytes, size: int = 100_000):
    for first in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[first : first + size]


async def content(scope: AsyncScope, digest: str) -> bytes:
    async with scope.open(digest) as file:
        return await file.read()


# Names


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(AsyncStore, Store), (AsyncScope, Scope), (AsyncBackends, Backends), (AsyncPlan, Plan)],
)
def test_names_parameters_and_defaults_are_the_same(ours, theirs):
    def public(kind) -> dict[str, object]:
        found = inspect.getmembers(kind, inspect.isroutine)
        return {name: what for name, what in found if not name.startswith("_")}

    mine, wanted = public(ours), public(theirs)
    assert mine.keys() - wanted.keys() == ({"aclose", "of"} if ours is AsyncStore else set())
    assert wanted.keys() - mine.keys() == set()
    for name in [*wanted, "__init__"] if ours is AsyncStore else wanted:
        assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name)), name


def parameters(what) -> list[tuple[object, ...]]:
    found = inspect.signature(what).parameters.values()
    return [(each.name, each.kind, each.default) for each in found]


def test_every_argument_reaches_the_store(monkeypatch):
    told: list[dict[str, object]] = []
    real = inspect.signature(Store.__init__)

    def noting(self, *given, **named):
        told.append(real.bind(self, *given, **named).arguments)

    monkeypatch.setattr(Store, "__init__", noting)
    given = {name: object() for name in inspect.signature(AsyncStore).parameters}
    store = AsyncStore(**given)
    assert told == [{"self": store._inner, **given}]


def test_what_takes_time_is_a_coroutine():
    at_once = {"scope", "memory", "from_config", "of", "open"}
    iterated = {"assets", "owners", "references", "orphans", "fsck", "put_many", "copy_catalog"}
    iterated |= {"import_tree", "import_table"}
    for name, what in inspect.getmembers(AsyncStore, inspect.isroutine):
        if not name.startswith("_") and name not in at_once | iterated:
            assert inspect.iscoroutinefunction(what), name


def test_gc_runs_by_itself(tmp_path):
    """What is let go of is gone without a call of gc."""

    async def main():
        async with AsyncStore(tmp_path / "store", gc_every=0.02, grace=0) as store:
            await store.put(picture(), owner="scan/1")
            await store.release("scan/1")
            with anyio.fail_after(20):
                while (await store.stats()).blobs:
                    await asyncio.sleep(0.02)

    asyncio.run(main())


# The verbs


def test_a_day_in_the_life(place):
    async def day():
        async with opened(place) as store:
            done = await store.put(picture(), owner="page/1", role="cover", filename="a.png")
            assert (done.status, done.asset.filename) == ("created", "a.png")
            with pytest.raises(DigestMismatch):
                await store.put(b"x", expect=done.digest)
            ana = store.scope("ana")
            assert ana.name == "ana"
            with pytest.raises(NotFound):
                await content(ana, done.digest)
            assert await content(store, done.digest) == picture()
            await store.attach(done.digest, "page/2")
            assert [each.owner.id async for each in store.owners()] == ["1", "2"]
            page = await store.references(digest=done.digest).page(1)
            assert len(page.items) == 1 and page.next is not None
            assert (await store.release("page/1")).references == 1
            assert (await store.restore(owner="page/1")).references == 1
            run = store.put_many([noise(100, number) for number in range(40)])
            events = [event async for event in run]
            assert isinstance(events[-1], Progress)
            assert (await run.result()).created == 40
            assert len([each async for each in store.assets()]) == 41
            assert (await store.stats()).blobs == 41
            await store.discard(Digest.of(noise(100, 0)))
            assert len([blob async for blob in store.orphans()]) == 1
            plan = await store.plan_gc(now=True)
            assert (plan.facts.doomed, await plan.is_safe()) == (1, True)
            assert (await plan.execute()).doomed == 1
            assert (await (await store.plan(plan.facts.id)).run().result()).doomed == 0
            assert (await store.fsck(read_data=True).result()).problems == 0
            assert [each.name for each in await store.backends.list()] == ["main"]
            mirror = await store.backends.add("two", f"file:{place.root}/two")
            assert mirror.lacking == 40
            assert (await store.backends.copy("two").result()).copied == 40
            assert (await store.explain(done.digest)).verdict == "kept"

    asyncio.run(day())


def test_bytes_that_come_by_and_by(place):
    async def coming():
        async with opened(place, limits=Limits(file_size=20 << 20)) as store:
            for data in (b"", picture(), noise(9 << 20)):
                done = await store.put(pieces(data), filename="name")
                assert (done.digest, done.asset.filename) == (Digest.of(data), "name")
                assert await content(store, done.digest) == data
            assert (await store.put(pieces(picture(), 7))).status == "duplicate"
            taken = 0

            async def endless():
                nonlocal taken
                while True:
                    taken += 1 << 20
                    yield bytes(1 << 20)

            with pytest.raises(TooLarge):
                await store.put(endless())
            assert taken <= 22 << 20

            async def wrong():
                yield b"bytes"
                yield "text"

            with pytest.raises(Misconfigured, match="gave str"):
                await store.put(wrong())

            async def broken():
                yield noise(9 << 20)
                raise OSError("the line is dead")

            with pytest.raises(OSError, match="the line is dead"):
                await store.put(broken())
            assert (await store.stats()).blobs == 3

    asyncio.run(coming())


class Form:
    """A file of a form, as Starlette and FastAPI give it."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    async def read(self, size: int = -1) -> bytes:
        await asyncio.sleep(0)
        return self.file.read(size)


def test_a_file_whose_reading_is_awaited(place):
    async def putting():
        async with opened(place) as store:
            for data in (b"", picture(), noise(9 << 20)):
                done = await store.put(Form(data))
                assert done.digest == Digest.of(data)
                assert await content(store, done.digest) == data

    asyncio.run(putting())


def test_a_generator_that_is_refused_is_closed(place):
    async def putting():
        closed = []

        async def endless():
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                await asyncio.sleep(0)
                closed.append(True)

        async with opened(place, limits=Limits(file_size=100)) as store:
            source = endless()
            with pytest.raises(TooLarge):
                await store.put(source)
            assert closed == [True]

    asyncio.run(putting())


def test_a_file_is_read_in_parts(place):
    async def reading():
        async with opened(place) as store:
            data = noise(3 << 20)
            digest = (await store.put(data)).digest
            async with store.open(digest) as file:
                assert b"".join([chunk async for chunk in file]) == data
                assert await file.seek(10) == 10
                assert await file.read(5) == data[10:15]
            with pytest.raises(Misconfigured, match="is not open"):
                await file.read()
            async with store.open(digest, 5, 9) as file:
                assert await file.read() == data[5:9]
            with pytest.raises(NotFound):
                async with store.open(Digest.of(b"unknown")):
                    raise AssertionError

    asyncio.run(reading())


# Many at once


def test_a_hundred_puts_at_once(place):
    async def crowd():
        async with opened(place) as store:
            same = [store.put(picture(), owner=f"page/{number}") for number in range(50)]
            others = [store.put(pieces(noise(3000, n)), owner="set/1") for n in range(50)]
            done = await asyncio.gather(*same, *others)
            assert [each.status for each in done].count("created") == 51
            assert (await store.stats()).references == 100

    asyncio.run(crowd())


def test_sources_that_wait_keep_no_thread_waiting(place):
    """More of them than threads; and what they wait for is the store itself."""

    async def waiting():
        async with opened(place) as store:
            digest = (await store.put(picture())).digest
            go = asyncio.Event()

            async def slow(number):
                yield b"%d" % number
                await go.wait()
                async with store.open(digest) as file:
                    yield await file.read()

            puts = [asyncio.ensure_future(store.put(slow(number))) for number in range(60)]
            await asyncio.sleep(0.05)
            assert (await asyncio.wait_for(store.stat(digest), 20)).digest == digest
            go.set()
            done = await asyncio.wait_for(asyncio.gather(*puts), 60)
            assert len({each.digest for each in done}) == 60

    asyncio.run(waiting())


def test_the_event_loop_does_no_work_of_the_store(place, monkeypatch):
    here: set[int] = set()
    for name in ("read", "write", "ensure", "require", "exists"):
        call = getattr(Catalog, name)

        def noted(*given, call=call, **named):
            here.add(threading.get_ident())
            return call(*given, **named)

        monkeypatch.setattr(Catalog, name, noted)

    async def working():
        async with opened(place) as store:
            digest = (await store.put(pieces(picture()), hold="1h")).digest
            await store.attach(digest, "page/1")
            [each async for each in store.assets()]
            await content(store, digest)
            await store.fsck().result()
            await store.gc()

    asyncio.run(working())
    assert here and threading.get_ident() not in here


def test_context_variables_are_seen(place):
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    def source():
        seen.append(user.get())
        yield picture()

    async def as_user(store, name):
        user.set(name)
        await store.put(source())

    async def both():
        async with opened(place) as store:
            await asyncio.gather(as_user(store, "ana"), as_user(store, "bob"))

    asyncio.run(both())
    assert sorted(seen) == ["ana", "bob"]


# Cancelled


def test_a_put_that_is_cancelled_while_its_source_waits_keeps_nothing(place):
    async def cancelling():
        async with opened(place) as store:
            await store.create()
            began = asyncio.Event()

            async def stalls():
                yield noise(9 << 20)
                began.set()
                await asyncio.Event().wait()

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30) as limit:
                    task = asyncio.ensure_future(store.put(stalls()))
                    await began.wait()
                    limit.reschedule(asyncio.get_running_loop().time())
                    await task
            assert (await store.stats()).blobs == 0

    asyncio.run(cancelling())


async def inside(scope: anyio.CancelScope, awaited) -> None:
    with scope:
        await awaited
    if scope.cancelled_caught:
        raise asyncio.CancelledError


async def cancel(task: asyncio.Task, scope: anyio.CancelScope, way: str) -> None:
    """As asyncio does, once or more; or as anyio does, each time the event loop turns."""
    if way == "anyio":
        scope.cancel()
        return
    for _ in range(1 if way == "once" else 3):
        task.cancel()
        await asyncio.sleep(0)


@pytest.mark.parametrize("way", ["once", "twice", "anyio"])
def test_what_has_come_goes_though_no_thread_is_idle(place, way):
    async def cancelling():
        async with opened(place) as store:
            await store.create()
            began, go = asyncio.Event(), threading.Event()

            async def stalls():
                yield noise(9 << 20)
                began.set()
                await asyncio.Event().wait()

            scope = anyio.CancelScope()
            task = asyncio.ensure_future(inside(scope, store.put(stalls())))
            await began.wait()
            busy = [asyncio.ensure_future(store._threads.run(go.wait, 30)) for _ in range(16)]
            await asyncio.sleep(0.05)
            await cancel(task, scope, way)
            await asyncio.sleep(0.05)
            assert not task.done()
            go.set()
            await asyncio.gather(task, *busy, return_exceptions=True)
            assert task.cancelled()
            if place.kind == "folder":
                assert temporary_of(place.root / "store") == []

    asyncio.run(cancelling())


@contextmanager
def held(store: AsyncStore, monkeypatch):
    """Publishing begins, and goes on when it is told to."""
    began, go = threading.Event(), threading.Event()
    kind = type(backend_of(store._inner))
    publish = kind.publish

    def holding(*given):
        began.set()
        assert go.wait(30)
        return publish(*given)

    monkeypatch.setattr(kind, "publish", holding)
    yield began, go
    monkeypatch.setattr(kind, "publish", publish)


@pytest.mark.parametrize("way", ["once", "twice", "anyio"])
def test_a_put_that_is_cancelled_before_its_commit_keeps_nothing(place, monkeypatch, way):
    async def cancelling():
        async with opened(place) as store:
            with held(store, monkeypatch) as (began, go):
                put = store.put(picture() if way == "once" else pieces(picture()))
                scope = anyio.CancelScope()
                task = asyncio.ensure_future(inside(scope, put))
                while not began.is_set():
                    await asyncio.sleep(0.01)
                await cancel(task, scope, way)
                await asyncio.sleep(0.05)
                assert not task.done()  # it waits until the thread has let go
                go.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
            digest = Digest.of(picture())
            assert (await store.check([digest]))[digest] is None
            assert states(store._inner, digest) == ["doomed"]
            await store.gc(now=True)
            assert states(store._inner, digest) == ["erased"]
            assert (await store.put(picture())).status == "created"
            assert problems(store._inner) == []

    asyncio.run(cancelling())


def test_what_waits_for_a_thread_is_never_begun(place, monkeypatch):
    async def cancelling():
        async with opened(place) as store:
            with held(store, monkeypatch) as (_, go):
                first = [asyncio.ensure_future(store.put(noise(50, n))) for n in range(16)]
                await asyncio.sleep(0.1)
                late = asyncio.ensure_future(store.put(picture()))
                await asyncio.sleep(0.05)
                late.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(late, 10)
                go.set()
                await asyncio.gather(*first)
            assert (await store.stats()).blobs == 16

    asyncio.run(cancelling())


def test_a_run_that_is_cancelled_or_left_stops_where_it_stands(place):
    async def stopping():
        async with opened(place) as store:
            taken = 0

            def sources():
                nonlocal taken
                for number in range(5000):
                    taken += 1
                    yield noise(20, number)

            async for _ in store.put_many(sources()):
                break
            await asyncio.sleep(0)
            run = store.put_many(sources())
            task = asyncio.ensure_future(run.result())
            while taken < 600:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert taken < 9000
            with pytest.raises(RuntimeError, match="before its end"):
                await run.result()
            await store.gc(now=True)

    asyncio.run(stopping())


def test_arguments_that_make_no_sense_are_told_when_awaited(place):
    async def asking():
        async with opened(place) as store:
            await store.create()
            with pytest.raises(Misconfigured):
                await store.put_many(b"one").result()
            with pytest.raises(Misconfigured, match="several digests"):
                await store.check("d" * 64)
            with pytest.raises(Misconfigured, match="several digests"):
                await store.gc(digests="d" * 64)
            with pytest.raises(NotFound):
                await store.backends.copy("nowhere").result()

    asyncio.run(asking())


# Closed, forked, of several loops


def test_it_can_be_closed_and_used_again(place):
    others = set(threading.enumerate())
    store = AsyncStore.of(place.open())

    async def using():
        done = await store.put(picture())
        await store.aclose()
        await store.close()
        return done.status

    assert [asyncio.run(using()) for _ in range(2)] == ["created", "duplicate"]
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("calotype_"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(place):
    store = AsyncStore.of(place.open())
    asyncio.run(store.put(picture()))
    child = os.fork()
    if not child:
        code = 1
        try:
            assert asyncio.run(asyncio.wait_for(store.put(picture()), 30)).status == "duplicate"
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(store.close())


def test_the_ways_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CALOTYPE_STORE", str(tmp_path / "media"))

    async def making():
        async with AsyncStore(tmp_path / "media") as store:
            await store.put(picture())
        async with AsyncStore.from_config() as store:
            assert (await store.stats()).blobs == 1
        async with AsyncStore.memory() as store:
            assert (await store.stats()).blobs == 0

    asyncio.run(making())
