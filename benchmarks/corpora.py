"""Corpora: real JPEG and PNG encodings varied from photographs, the same for the same seed.

A: 20,000 files, mean 49 KB, 80 % JPEG, half exact duplicates under other names. B: photographs
of 12 megapixels. C: one file of 1 GiB. Made once, in processes, and kept under .bench/cache.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageChops, ImageEnhance

from benchmarks.places import GIB, cached, require_room

UNIQUE = 10_000
LARGE = 200
"""Files of corpus B: 200 of the 500 keep four interleaved rounds within minutes."""

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)


def a() -> list[Path]:
    """The files of corpus A, in a seeded order that mixes originals and duplicates."""
    folder = cached("A")
    if not folder.exists():
        require_room(1.1, "corpus A")
        draft = _draft(folder)
        with ProcessPoolExecutor() as pool:
            list(pool.map(_write_pair, [draft] * UNIQUE, range(UNIQUE), chunksize=100))
        draft.rename(folder)
    return _shuffled(folder)


def b() -> list[Path]:
    """The files of corpus B."""
    folder = cached("B")
    if not folder.exists():
        require_room(1.1, "corpus B")
        draft = _draft(folder)
        with ProcessPoolExecutor() as pool:
            list(pool.map(_write_large, [draft] * LARGE, range(LARGE), chunksize=10))
        draft.rename(folder)
    return _shuffled(folder)


def c() -> list[Path]:
    """The one file of corpus C: 1 GiB that no compression shrinks."""
    folder = cached("C")
    if not folder.exists():
        require_room(1, "corpus C")
        draft = _draft(folder)
        with (draft / "large.bin").open("wb") as file:
            for number in range(GIB >> 20):
                file.write(hashlib.shake_256(b"C%d" % number).digest(1 << 20))
        draft.rename(folder)
    return _shuffled(folder)


def photographs(count: int, seed: str) -> list[bytes]:
    """Distinct JPEG files of about 50 KB, made quickly: each has a comment of its own."""
    base = _encode(random.Random(seed), "JPEG", 200_000, 85)
    marker = [hashlib.sha256(f"{seed}{number}".encode()).digest() for number in range(count)]
    return [base[:2] + b"\xff\xfe\x00\x22" + each + base[2:] for each in marker]


def _draft(folder: Path) -> Path:
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    return draft


def _shuffled(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    random.Random(folder.name).shuffle(found)
    return found


@cache
def _picture(name: str) -> Image.Image:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("The corpora are made from scikit-image's pictures: install that.")
    with Image.open(Path(spec.origin).parent / "data" / name) as image:
        return image.convert("RGB")


def _encode(dice: random.Random, kind: str, pixels: float, quality: int) -> bytes:
    """A crop of a photograph, scaled to about ``pixels``, flipped and brightened at random."""
    picture = _picture(dice.choice(PHOTOGRAPHS))
    ratio = dice.uniform(0.6, 1.6)
    size = (round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5))
    share = dice.uniform(0.5, 0.95)
    width, height = (round(side * share) for side in picture.size)
    left = dice.randrange(picture.width - width + 1)
    top = dice.randrange(picture.height - height + 1)
    made = picture.resize(size, box=(left, top, left + width, top + height))
    if dice.random() < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    made = ImageEnhance.Brightness(made).enhance(dice.uniform(0.8, 1.2))
    out = io.BytesIO()
    made.save(out, kind, **({"quality": quality} if kind == "JPEG" else {"compress_level": 3}))
    return out.getvalue()


def _write_pair(folder: Path, number: int) -> None:
    """One image of corpus A under two names in two folders."""
    dice = random.Random(f"A{number}")
    if number % 5 == 4:
        kind, data = "png", _encode(dice, "PNG", dice.lognormvariate(10.16, 0.5), 0)
    else:
        pixels = dice.lognormvariate(12.38, 0.5)
        kind, data = "jpg", _encode(dice, "JPEG", pixels, dice.randint(75, 92))
    names = [f"{number % 97:02}/{number:05}", f"more/{number % 89:02}/copy of {number:05}"]
    for name in names:
        path = folder / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@cache
def _scene(number: int) -> Image.Image:
    return _picture(PHOTOGRAPHS[number]).resize((4200, 3200), Image.Resampling.BICUBIC)


@cache
def _noise() -> Image.Image:
    """Grain of 4200 x 3200; bytes of SHAKE-128, so that a seed decides it."""
    grain = hashlib.shake_128(b"grain").digest(4200 * 3200)
    return Image.frombytes("L", (4200, 3200), grain).point([round(110 + x / 7) for x in range(256)])


def _write_large(folder: Path, number: int) -> Path:
    """One photograph of 12 megapixels: a scene seen from elsewhere, with grain."""
    dice = random.Random(f"B{number}")
    left, top = dice.randrange(200), dice.randrange(200)
    box = (left, top, left + 4000, top + 3000)
    grain = ImageChops.offset(_noise(), dice.randrange(4200), dice.randrange(3200)).crop(box)
    scene = _scene(number % len(PHOTOGRAPHS)).crop(box)
    bands = [ImageChops.add(band, grain, 1, -128) for band in scene.split()]
    path = folder / f"{number:03}.jpg"
    Image.merge("RGB", bands).save(path, "JPEG", quality=dice.randint(86, 92))
    return path


if __name__ == "__main__":
    for made in (a, b, c):
        files = made()
        size = sum(path.stat().st_size for path in files)
        print(made.__name__, len(files), f"{size / len(files):.0f} B mean, {size / 1e6:.0f} MB")
