"""The pictures of the tour: photographs that scikit-image ships, and what befalls pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import skimage
from PIL import Image

SHIPPED = Path(skimage.__file__).parent / "data"
TRIP = {
    "cat.png": "chelsea.png",
    "coffee.png": "coffee.png",
    "rocket.jpg": "rocket.jpg",
    "astronaut.png": "astronaut.png",
    "bike.png": "motorcycle_left.png",
    "galaxies.jpg": "hubble_deep_field.jpg",
}


def make(folder: Path) -> None:
    """Fill ``folder`` with two albums: ``trip`` and ``best``."""
    trip, best = folder / "trip", folder / "best"
    for album in (trip, best):
        album.mkdir(parents=True)
    for name, shipped in TRIP.items():
        shutil.copyfile(SHIPPED / shipped, trip / name)
    shutil.copyfile(trip / "cat.png", trip / "cat_copy.png")
    shutil.copyfile(trip / "cat.png", trip / "upload-0042.jpg")
    shutil.copyfile(trip / "cat.png", best / "my cat.png")
    shutil.copyfile(trip / "rocket.jpg", best / "liftoff.jpg")
    with Image.open(trip / "rocket.jpg") as rocket:
        rocket.save(best / "rocket-again.jpg", quality=60)
    with Image.open(trip / "cat.png") as cat:
        cat.thumbnail((160, 160))
        cat.save(best / "cat-small.png")
    whole = (trip / "galaxies.jpg").read_bytes()
    (best / "galaxies-cut-off.jpg").write_bytes(whole[: len(whole) // 3])
