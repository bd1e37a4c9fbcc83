"""The tour: three months of searches, with pages that a browser really shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import Engine

from calotype import Store
from examples.screenshots import pages, results
from examples.screenshots.image_storage import ImageStorage
from examples.screenshots.tables import open_archive

MONTHS = ("2026-09", "2026-10", "2026-11")
DAY = 24 * 3600 * 1_000_000


def tour(home: Path) -> None:
    """All of it, one after another; two months are imported at once. ``home`` is made anew."""
    fresh(home)
    source = home / "source"
    for tag in MONTHS:
        print(f"{tag}: {pages.render(source, tag)} pages rendered", flush=True)
    broken = source / MONTHS[2] / "TX" / "Wells.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"<html>504 Gateway Time-out</html>")

    print("\n# September and October, by two importers at once")
    program = [sys.executable, "-m", "examples.screenshots"]
    command = [*program, "import", str(source)]
    both = [
        subprocess.Popen([*command, tag, str(home)], stdout=subprocess.PIPE, text=True)
        for tag in MONTHS[:2]
    ]
    for each in both:
        said = each.communicate()[0].splitlines()
        print("\n".join([*said[:2], f"... {max(len(said) - 3, 0)} lines more", said[-1]]))

    print("\n# November, with one screenshot that is none; its results are linked later")
    partly = subprocess.run([*command, MONTHS[2], str(home)], stdout=subprocess.DEVNULL)
    print(f"exit code {partly.returncode}")
    print((home / f"{MONTHS[2]}.failures.jsonl").read_text(), end="")
    broken.write_bytes(whole)
    subprocess.run([*program, "link", MONTHS[2], str(home)], check=True)
    _look(home)
    _let_go(home)


def fresh(home: Path) -> None:
    """An empty folder with our mark; one without it is somebody's own, and left alone."""
    mark = home / "made-by-the-tour"
    if mark.is_file():
        shutil.rmtree(home)
    if home.exists() and not (home.is_dir() and not any(home.iterdir())):
        raise SystemExit(f"{home} is not a folder of this tour: choose another.")
    home.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _look(home: Path) -> None:
    engine, store = open_archive(home)
    with store:
        stats = store.stats()
        shown = [each for each in results.results(engine) if each.image_hash]
        files = list((home / "source").rglob("*.png"))
        size = sum(file.stat().st_size for file in files)
        print(f"\n# {len(files)} screenshots of {size:,} bytes")
        saved = 1 - stats.bytes / size
        print(f"kept: {stats.blobs} images of {stats.bytes:,} bytes, {saved:.0%} saved")
        print(f"{len(shown)} results show them, {len(shown) / stats.blobs:.1f} an image")
        first = shown[0]
        print(f"result {first.id}: {results.get_image_url_for_result(engine, store, first.id)}")
        count = results.write_page(engine, store, MONTHS[0], home / "results.html")
        print(f"{home / 'results.html'}: {count} results with their pictures")
        _photograph(home / "results.html")
        print(f"health: {results.health(engine, store) or 'all is well'}")


def _photograph(page_file: Path) -> None:
    """What the results page looks like in a browser."""
    with pages.browser() as page:
        page.goto(page_file.absolute().as_uri())
        page.screenshot(path=page_file.with_suffix(".png"), full_page=True)


def _let_go(home: Path) -> None:
    print("\n# A dataset is deleted; a day later its pictures go, and those of others stay")
    engine, store = open_archive(home)
    with store:
        results.delete_dataset(engine, MONTHS[1])
    engine, store = open_archive(home, clock=lambda: time.time_ns() // 1000 + 2 * DAY)
    with store:
        storage = ImageStorage(engine, store)
        viewed = [f"{digest[:8]} {count} times" for digest, count in results.most_viewed(store, 3)]
        print(f"most viewed: {', '.join(viewed)}")
        print(f"orphaned: {len(storage.find_orphaned_images())}")
        print(f"freed: {len(storage.cleanup_orphans())}, left: {store.stats().blobs}")
        _delete(engine, store, storage)
        print(f"usage: {[(day.day, day.assets, day.bytes) for day in store.usage_days()]}")
        print(f"clear_cache: {storage.clear_cache()} freed")
        left = list((home / "imagecache").rglob("*.png"))
        print(f"left: {store.stats().blobs} rows, {len(left)} files")


def _delete(engine: Engine, store: Store, storage: ImageStorage) -> None:
    digest = next(each.image_hash for each in results.results(engine) if each.image_hash)
    rows = storage.rows_of(digest)
    print(f"delete_image of one that is shown ({rows}): {storage.delete_image(digest)}")
    with pages.browser() as page:
        page.set_content("<h1>a page that no search has shown</h1>")
        own = storage.store_image(page.screenshot(), "image/png")
    print(f"delete_image of one that none shows: {storage.delete_image(own)}")
    store.stat(digest)  # it would raise
