"""The tour: a day in the life of the studio, with real photographs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from examples.staging.backfill import old_image
from examples.staging.monitoring import lines
from examples.staging.studio import Studio, present
from examples.staging.uploads import Upload

try:
    import skimage
except ModuleNotFoundError:
    raise SystemExit("scikit-image is missing: pip install scikit-image.") from None

PHOTOS = Path(skimage.__file__).parent / "data"
CAT, COFFEE, ROCKET = PHOTOS / "chelsea.png", PHOTOS / "coffee.png", PHOTOS / "rocket.jpg"
HOUR = 3600 * 1_000_000


@dataclass(slots=True)
class Clock:
    """The real time, and what we pretend has passed."""

    ahead: int = 0

    def __call__(self) -> int:
        """Microseconds since 1970."""
        return present() + self.ahead


def tour(folder: Path) -> None:
    """All stations, one after another; leaves the studio in ``folder``."""
    fresh(folder)
    clock = Clock()
    with Studio.open(folder, clock) as studio:
        flat, house = studio.new_project("flat"), studio.new_project("house")
        cat = sharing(studio, flat, house)
        one_by_one(studio, flat)
        in_bulk(studio, flat, cat)
        later(studio, clock, flat)
        before(studio, house)
        numbers(studio)


def fresh(folder: Path) -> None:
    """An empty folder with our mark; one without it is somebody's own, and left alone."""
    mark = folder / "made-by-the-tour"
    if mark.is_file():
        shutil.rmtree(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SystemExit(f"{folder} is not a folder of this tour: choose another.")
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def title(text: str) -> None:
    """The name of a station."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def sharing(studio: Studio, flat: int, house: int) -> Upload:
    """Two projects upload the same photograph."""
    title("1. One original, many images")
    first = _uploaded(studio, flat, "flat", CAT)
    _uploaded(studio, house, "house", CAT, styles=("warm",))
    print(f"jobs: {dict(studio.work())}")
    _references(studio, first)
    return first


def one_by_one(studio: Studio, flat: int) -> None:
    """Three images of one original; its bytes go with the last of them."""
    title("2. Images are deleted one by one")
    coffee = _uploaded(studio, flat, "flat", COFFEE)
    print(f"jobs: {dict(studio.work())}")
    for image in coffee.images:
        freed = studio.delete_image(image)
        print(f"delete_image({image}) -> {freed}")
    print(f"the original: {studio.store.explain(coffee.digest).verdict}")
    print(f"the bill of 'flat' stays as it was: {studio.bill(flat)} cents")


def in_bulk(studio: Studio, flat: int, cat: Upload) -> None:
    """A project goes at once; what another project uses stays."""
    title("3. A project is deleted")
    rocket = _uploaded(studio, flat, "flat", ROCKET)
    print(f"jobs: {dict(studio.work())}")
    print(f"delete_project('flat') -> {studio.delete_project(flat)} images")
    print(f"its bill: {studio.bill(flat)} cents")
    print(f"the rocket: {studio.store.explain(rocket.digest).verdict}")
    _references(studio, cat)


def later(studio: Studio, clock: Clock, flat: int) -> None:
    """The clean-up waits for its grace."""
    title("4. The clean-up, before and after 24 hours")
    waiting = studio.statistics()
    print(f"{waiting.orphaned_count} original waits, {waiting.orphaned_size:,} bytes")
    print(f"cleanup_orphans(limit=100) -> {studio.cleanup_orphans(limit=100)} originals freed")
    clock.ahead += 25 * HOUR
    print("... 25 hours later (the tour sets its clock ahead)")
    print(f"cleanup_orphans(limit=100) -> {studio.cleanup_orphans(limit=100)} originals freed")
    print(f"the bill of 'flat': {studio.bill(flat)} cents")


def before(studio: Studio, house: int) -> None:
    """Rows from before originals were shared."""
    title("5. Old images")
    linked = old_image(
        studio.engine, studio.clock(), house, "bright", url="https://cdn.example/1.jpg"
    )
    print(f"only a URL: delete_image({linked}) -> {studio.delete_image(linked)}")
    for style in ("bright", "monochrome"):
        copy = studio.folder / "old" / f"{style}.png"
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(CAT, copy)
        old_image(studio.engine, studio.clock(), house, style, path=copy.name)
    done = studio.backfill(studio.folder / "old")
    print(f"backfill of two files: {done.created} created, {done.duplicate} duplicate, ", end="")
    print(f"{len(done.failures)} failed")


def numbers(studio: Studio) -> None:
    """Monitoring, and a look at everything."""
    title("6. Monitoring")
    print("\n".join(lines(studio.numbers())))
    check = studio.store.fsck(read_data=True).result()
    print(f"fsck: {check.blobs} files read, {check.problems} problems")


def _uploaded(studio: Studio, project: int, name: str, photo: Path, **options: object) -> Upload:
    done = studio.upload(project, photo, **options)  # type: ignore[arg-type]
    ids = ", ".join(map(str, done.images))
    print(f"{name}: {photo.name} is {done.status}; ordered as image {ids}")
    return done


def _references(studio: Studio, done: Upload) -> None:
    users = [str(each.owner) for each in studio.store.references(digest=done.digest)]
    print(f"{done.digest[:8]}... is the original of {', '.join(users)}")
