"""connection= of AsyncStore: an AsyncSession or AsyncConnection of any driver, and its transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool
from tests.store.pictures import picture
from tests.store.places import Place
from tests.store.surgery import problems

from calotype.aio import AsyncStore
from calotype.errors import Misconfigured, NotFound

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=["psycopg", "asyncpg", "aiosqlite"])
def driver(request) -> str:
    return request.param


@pytest.fixture
def place(driver, tmp_path, clock) -> Place:
    return Place("shared" if driver == "aiosqlite" else "postgres", tmp_path, clock)


def engine_of(place: Place, driver: str, **options):
    """An engine as a careful application sets it up."""
    if driver == "aiosqlite":
        engine = create_async_engine(f"sqlite+aiosqlite:///{place.database}", poolclass=NullPool)

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(raw, _):
            raw.isolation_level = None
            raw.execute("PRAGMA foreign_keys=ON")
            raw.execute("PRAGMA busy_timeout=200")

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine
    url, _, search_path = place.url.partition("options=-csearch_path%3D")
    url = url.rstrip("?&").replace("postgresql://", f"postgresql+{driver}://")
    if driver == "asyncpg":
        options["connect_args"] = {"server_settings": {"search_path": search_path}}
    else:
        options["connect_args"] = {"options": f"-csearch_path={search_path}"}
    return create_async_engine(url, poolclass=NullPool, **options)


@asynccontextmanager
async def both(place: Place, driver: str, **options):
    engine = engine_of(place, driver, **options)
    async with AsyncStore.of(place.open()) as store:
        await store.create()
        yield store, engine
        assert problems(store._inner) == []
    await engine.dispose()


def test_it_stands_and_falls_with_the_session(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            other = (await store.put(picture(1), hold="1h")).digest

            async def referred() -> list[str]:
                return sorted([each.digest async for each in store.references(owner="page/1")])

            async with AsyncSession(engine) as session:
                await store.attach(digest, "page/1", "cover", connection=session)
                await session.rollback()
                assert await referred() == []
                await store.attach(digest, "page/1", "cover", connection=session)
                await store.attach(digest, owner="page/1", role="cover", connection=session)
                await store.attach(other, owner="page/1", connection=session)
                assert await referred() == []
                await session.commit()
                assert await referred() == sorted([digest, other])
                released = await store.release("page/1", connection=session)
                assert released.references == 2
                await session.rollback()
                assert len(await referred()) == 2
                await store.release("page/1", connection=session)
                await session.commit()
                assert await referred() == []
                back = await store.restore(owner="page/1", connection=session)
                assert back.references == 2
                await session.commit()
            assert len(await referred()) == 2
            await store.discard(other)
            await store.release("page/1")
            async with engine.begin() as connection:
                await store.restore(other, connection=connection)
            assert (await store.stat(other)).kept == "library"

    asyncio.run(working())


def test_an_error_leaves_the_transaction_usable(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            async with engine.connect() as connection:
                with pytest.raises(NotFound):
                    await store.attach("0" * 64, "page/1", connection=connection)
                await store.attach(digest, "page/1", connection=connection)
                await connection.execute(text("CREATE TABLE mine (id INTEGER)"))
                await connection.commit()
            assert len([each async for each in store.references(owner="page/1")]) == 1

    asyncio.run(working())


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_a_transaction_in_which_a_statement_failed(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            async with AsyncSession(engine) as session:
                with pytest.raises(DBAPIError):
                    await session.execute(text("SELECT 1/0"))
                with pytest.raises(Misconfigured, match="A statement failed") as told:
                    await store.attach(digest, "page/1", connection=session)
                assert told.value.hint == "Roll it back first."
                await session.rollback()
                await store.attach(digest, "page/1", connection=session)

    asyncio.run(working())


def test_a_session_of_a_registry(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            session = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
            await store.attach(digest, "page/1", connection=session)
            await session.rollback()
            await store.attach(digest, "page/2", connection=session)
            await session.commit()
            await session.remove()
            assert [each.owner.id async for each in store.owners()] == ["2"]

    asyncio.run(working())


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_many_sessions_at_once(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest

            async def attach(number: int) -> None:
                async with AsyncSession(engine) as session, session.begin():
                    await store.attach(digest, f"page/{number}", connection=session)

            await asyncio.gather(*[attach(number) for number in range(20)])
            assert (await store.stat(digest)).references == 20

    asyncio.run(working())


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
@pytest.mark.parametrize("schema", [None, "clinic"])
def test_a_verb_that_is_cancelled_says_so(place, driver, schema, tmp_path):
    schema = schema and f"{schema}_{uuid.uuid4().hex[:8]}"
    backend = f"file:{tmp_path}/bytes"

    async def working():
        engine = engine_of(place, driver)
        async with AsyncStore(catalog=place.url, backend=backend, schema=schema) as store:
            digest = (await store.put(picture(), hold="1h")).digest
            async with AsyncSession(engine) as session:
                with psycopg.connect(place.url) as other:
                    table = f"{schema}.calotype_asset" if schema else "calotype_asset"
                    other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await store.attach(digest, "page/1", connection=session)
                await session.rollback()
                await store.attach(digest, "page/2", connection=session)
                await session.commit()
            assert [each.owner.id async for each in store.owners()] == ["2"]
        await engine.dispose()
        if schema:
            with psycopg.connect(place.url) as raw:
                raw.execute(f"DROP SCHEMA {schema} CASCADE")

    asyncio.run(working())


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"], indirect=True)
def test_a_connection_that_commits_each_statement(place, driver):
    async def working():
        async with both(place, driver, isolation_level="AUTOCOMMIT") as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            async with AsyncSession(engine) as session:
                with pytest.raises(Misconfigured, match="commits each statement"):
                    await store.attach(digest, "page/1", connection=session)

    asyncio.run(working())


@pytest.mark.parametrize("driver", ["aiosqlite"], indirect=True)
def test_sqlite_as_python_itself_begins_transactions(place, driver):
    """In AUTOCOMMIT mode the verb has a transaction of its own; a savepoint must not be first."""

    async def working():
        async with both(place, driver) as (store, _):
            digest = (await store.put(picture(), hold="1h")).digest
            url = f"sqlite+aiosqlite:///{place.database}"
            engine = create_async_engine(url, poolclass=NullPool)
            event.listen(
                engine.sync_engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON")
            )
            async with engine.connect() as plain:
                await plain.execution_options(isolation_level="AUTOCOMMIT")
                await store.attach(digest, "page/1", connection=plain)
            async with AsyncSession(engine) as session:
                await store.attach(digest, "page/2", connection=session)
                await session.rollback()
                await store.attach(digest, "page/3", connection=session)
                await session.commit()
                async with session.begin_nested():
                    with pytest.raises(Misconfigured, match="begins with a savepoint"):
                        await store.attach(digest, "page/4", connection=session)
            owners = [each.owner.id async for each in store.owners()]
            assert owners == ["1", "3"]
            await engine.dispose()

    asyncio.run(working())


def test_what_is_not_awaited_is_refused(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            async with engine.connect() as connection:
                raw = (await connection.get_raw_connection()).driver_connection
                with closing(sqlite3.connect(":memory:")) as plain:
                    for wrong in (connection.sync_connection, raw, plain, 7):
                        with pytest.raises(Misconfigured, match="Cannot await"):
                            await store.attach(digest, "page/1", connection=wrong)

    asyncio.run(working())


def test_the_synchronous_store_names_the_one_to_use(place, driver):
    async def working():
        async with both(place, driver) as (store, engine):
            digest = (await store.put(picture(), hold="1h")).digest
            async with AsyncSession(engine) as session, engine.connect() as connection:
                raw = (await connection.get_raw_connection()).driver_connection
                for each in (session, connection, raw):
                    with pytest.raises(Misconfigured, match="has to be awaited") as raised:
                        store._inner.attach(digest, "page/1", connection=each)
                    assert "AsyncStore" in raised.value.hint

    asyncio.run(working())


@pytest.mark.parametrize("factory", [psycopg.RawCursor, psycopg.ClientCursor])
def test_a_connection_of_psycopg_may_make_cursors_of_any_kind(tmp_path, clock, factory):
    place = Place("postgres", tmp_path, clock)
    with place.open() as store:
        digest = store.put(picture(), hold="1h").digest
        with psycopg.connect(place.url, cursor_factory=factory) as connection:
            store.attach(digest, "page/1", connection=connection)
            assert connection.cursor_factory is factory
            with pytest.raises(Misconfigured, match="Cannot join"):
                store.attach(digest, "page/2", connection=connection.cursor())
        assert store.stat(digest).references == 1
