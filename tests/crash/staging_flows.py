"""The flows of the staging service: uploads, jobs, deletions, and the backfill."""

from __future__ import annotations

import atexit
import io
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from examples.staging.backfill import old_image
from examples.staging.studio import Studio
from examples.staging.tables import images, jobs, projects, reading
from PIL import Image
from sqlalchemy import select, update
from tests.crash.applications import Flow, Kind, Say, State
from tests.crash.scenario import DAY, Clock, digest

from calotype import Digest
from calotype.catalog.tables import reference


def _dot(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 50, 7)).save(file, "PNG")
    return file.getvalue()


SHARED, OWN, NEW, OLD = map(_dot, (10, 90, 170, 250))
FLAT, HOUSE = 1, 2


@contextmanager
def _open(home: Path, clock: Clock) -> Iterator[Studio]:
    with Studio.open(home, clock) as studio:
        yield studio


# -- what must be so ------------------------------------------------------------------------


def _select(studio: Studio, *columns: object) -> list[tuple]:
    with reading(studio.engine).connect() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def _references(studio: Studio) -> dict[tuple[str, str], str]:
    live = select(reference.c.owner_id, reference.c.role, reference.c.digest).where(
        reference.c.released_at.is_(None)
    )
    with reading(studio.engine).connect() as connection:
        return {(owner, role): name for owner, role, name in connection.execute(live)}


def _state(studio: Studio) -> State:
    """Rows without their dates, and the references."""
    c = images.c
    rows = _select(studio, c.id, c.style, c.original_digest, c.staged_digest, c.price_cents)
    gone = _select(studio, c.id, c.deleted_at.is_not(None))
    return {
        **{("image", number): rest for number, *rest in rows},
        **{("image is deleted", number): deleted for number, deleted in gone},
        **{("job", number): state for number, state in _select(studio, jobs.c.id, jobs.c.state)},
        **{
            ("project", number): name
            for number, name in _select(studio, projects.c.id, projects.c.name)
        },
        **{("reference", *slot): name for slot, name in _references(studio).items()},
    }


def _wrong(studio: Studio) -> list[str]:
    """Images without their bytes, jobs half done, and references of what was deleted."""
    c, held, broken = images.c, _references(studio), []
    ended = dict(_select(studio, jobs.c.image_id, jobs.c.state))
    for number, original, staged, price, deleted in _select(
        studio, c.id, c.original_digest, c.staged_digest, c.price_cents, c.deleted_at
    ):
        wanted = {"original": original, "staged": staged} if deleted is None else {}
        found = {role: name for (owner, role), name in held.items() if owner == str(number)}
        if found != {role: name for role, name in wanted.items() if name is not None}:
            broken.append(f"half done: image {number} refers to {found}, not {wanted}")
        if (ended.get(number) == "done") != (staged is not None) or (staged is None) != (
            price == 0
        ):
            broken.append(f"half done: image {number} {staged} {price} {ended.get(number)}")
    return broken + [f"{each} is lost" for each in set(held.values()) if not _reads(studio, each)]


def _reads(studio: Studio, wanted: str) -> bool:
    with studio.store.open(wanted) as file:
        return Digest.of(file.read()) == wanted


def _kept(studio: Studio) -> Collection[str]:
    return set(_references(studio).values())


# -- the flows ------------------------------------------------------------------------------


def _two_projects(studio: Studio) -> None:
    """An original that both use, and one that is the first's own."""
    assert (studio.new_project("flat"), studio.new_project("house")) == (FLAT, HOUSE)
    studio.upload(HOUSE, SHARED, ["warm"])
    studio.upload(FLAT, SHARED, ["warm"])
    studio.upload(FLAT, OWN, ["bright", "monochrome"])


def _worked(studio: Studio) -> None:
    studio.work()


@cache
def _files() -> Path:
    root = Path(tempfile.mkdtemp(prefix="calotype-old-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name, data in {"a": OLD, "b": OLD, "c": SHARED, "d": NEW}.items():
        (root / f"{name}.png").write_bytes(data)
    return root


def _old_images(studio: Studio) -> None:
    """Two with the same original, one with a known one, one deleted, one whose file is lost."""
    for name in "abcde":
        old_image(studio.engine, studio.clock(), FLAT, "warm", path=f"{name}.png")
    studio.delete_image(8)


def _upload(studio: Studio, say: Say) -> None:
    """As somebody does who first looks whether the last try got through."""
    if digest(NEW) not in _kept(studio):
        studio.upload(FLAT, NEW, ["warm", "bright"])
        say("uploaded")


def _begin(studio: Studio, say: Say) -> None:
    if not _select(studio, projects.c.id):
        studio.new_project("flat")
        say("opened")
    _upload(studio, say)


def _work(studio: Studio, say: Say) -> None:
    studio.work()
    say("worked")


def _delete_images(studio: Studio, say: Say) -> None:
    """One whose original stays, and the two of another, whose bytes go with the second."""
    for image in (2, 3, 4):
        freed = studio.delete_image(image)
        say(f"deleted {image}")
        if freed:
            say(f"freed {digest(OWN)}")


def _delete_project(studio: Studio, say: Say) -> None:
    studio.delete_project(FLAT)
    say("deleted 4")
    studio.clock.forward(DAY + DAY // 24)
    studio.cleanup_orphans()
    say(f"freed {digest(OWN)}")


def _backfill(studio: Studio, say: Say) -> None:
    studio.backfill(_files())
    say("backfilled")


def _lost(studio: Studio, heard: Collection[str]) -> list[str]:
    """What was said to be done, and is not."""
    c = images.c
    rows = {row[0]: row[1:] for row in _select(studio, c.id, c.original_digest, c.deleted_at)}
    queued = [state for (state,) in _select(studio, jobs.c.state) if state == "queued"]
    true = {
        "uploaded": sum(name == digest(NEW) for name, _ in rows.values()) == 2,
        "opened": bool(_select(studio, projects.c.id)),
        "worked": not queued,
        "backfilled": all(rows[image][0] for image in (5, 6, 7) if image in rows),
        **{f"deleted {image}": deleted is not None for image, (_, deleted) in rows.items()},
        f"freed {digest(OWN)}": studio.store.explain(digest(OWN)).verdict == "erased",
    }
    return [f"lost: it was {each}" for each in heard if not true[each]]


STUDIO = Kind("staging.db", "originals", None, _open, _state, _wrong, _kept)

FLOWS = {
    flow.name: flow
    for flow in (
        Flow("staging-first", STUDIO, (), _begin, _lost),
        Flow("staging-upload", STUDIO, (_two_projects,), _upload, _lost),
        Flow("staging-work", STUDIO, (_two_projects,), _work, _lost),
        Flow("staging-delete", STUDIO, (_two_projects, _worked), _delete_images, _lost),
        Flow("staging-project", STUDIO, (_two_projects, _worked), _delete_project, _lost),
        Flow(
            "staging-backfill",
            STUDIO,
            (_two_projects, _worked, _old_images),
            _backfill,
            _lost,
            must_go_on=True,
        ),
    )
}


# -- flows that break a promise on purpose --------------------------------------------------


def _in_two_steps(studio: Studio, say: Say) -> None:
    """An image that is deleted and still refers to its original, for a moment."""
    with studio.engine.begin() as connection:
        connection.execute(update(images).where(images.c.id == 2).values(deleted_at=1))
    studio.store.release("image/2")
    say("deleted 2")


MUTANTS = {
    flow.name: flow
    for flow in (
        Flow("staging-in-two-steps", STUDIO, (_two_projects, _worked), _in_two_steps, _lost),
    )
}
