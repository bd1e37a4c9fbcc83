"""Jobs: the picture of an image is made, kept, and referred to by the image beside its original.

A job stays ``queued`` until the transaction that also stores its result's reference. Killed at any
point it is simply run again; run twice at once it makes the same bytes, and one of the two counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, select, update

from calotype import Store
from calotype.errors import Corrupt, NotFound
from calotype.model import Put
from examples.staging.keeping import keep
from examples.staging.styles import NoPicture, make
from examples.staging.tables import images, jobs, reading
from examples.staging.uploads import owner_of

STAGED = "staged"
PRICE_CENTS = 19


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker needs to know of a job."""

    job: int
    image: int
    style: str
    original: str


def work(store: Store, engine: Engine, clock: Callable[[], int]) -> Counter[str]:
    """Run every queued job; how many ended as done, failed or cancelled."""
    with reading(engine).connect() as connection:
        queued = list(
            connection.scalars(
                select(jobs.c.id).where(jobs.c.state == "queued").order_by(jobs.c.id)
            )
        )
    ended = (run(store, engine, clock(), job) for job in queued)
    return Counter(state for state in ended if state is not None)


def run(store: Store, engine: Engine, now: int, job: int) -> str | None:
    """Run one job; its end, or None where another worker was faster.

    ``cancelled`` where the image was deleted, ``failed`` where no picture can be made of it.
    Where the store is out of reach it raises, and the job stays queued.
    """
    ticket = _ticket(engine, job)
    if ticket is None:
        return _end(engine, job, "cancelled", now)
    try:
        with store.open(ticket.original) as file:
            made = make(ticket.style, file.read())
    except NotFound:
        return _end(engine, job, "cancelled", now)
    except (Corrupt, NoPicture) as error:
        return _end(engine, job, "failed", now, str(error))
    name = f"{ticket.image}-{ticket.style}.jpg"
    return keep(store, engine, now, made, lambda c, put: _finish(store, c, ticket, put, now), name)


def _ticket(engine: Engine, job: int) -> Ticket | None:
    found = (
        select(jobs.c.id, jobs.c.image_id, images.c.style, images.c.original_digest)
        .join(images, images.c.id == jobs.c.image_id)
        .where(jobs.c.id == job, images.c.deleted_at.is_(None))
    )
    with reading(engine).connect() as connection:
        row = connection.execute(found).one_or_none()
    return Ticket(*row) if row is not None else None


def _finish(store: Store, connection: Connection, ticket: Ticket, put: Put, now: int) -> str | None:
    """The image may have been deleted while its picture was made: then nothing may refer to it."""
    if not _ended(connection, ticket.job, "done", now):
        return None
    there = images.c.id == ticket.image, images.c.deleted_at.is_(None)
    result = {"staged_digest": put.digest, "price_cents": PRICE_CENTS}
    if connection.execute(update(images).where(*there).values(result)).rowcount:
        store.attach(put.digest, owner_of(ticket.image), STAGED, connection=connection)
        return "done"
    connection.execute(update(jobs).where(jobs.c.id == ticket.job).values(state="cancelled"))
    return "cancelled"


def _end(engine: Engine, job: int, state: str, now: int, error: str | None = None) -> str | None:
    with engine.begin() as connection:
        return state if _ended(connection, job, state, now, error) else None


def _ended(
    connection: Connection, job: int, state: str, now: int, error: str | None = None
) -> bool:
    """End a job that nobody has ended yet."""
    changed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job, jobs.c.state == "queued")
        .values(state=state, error=error, finished_at=now)
    )
    return changed.rowcount == 1
