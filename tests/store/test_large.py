"""One large file through every catalog and backend: 40 MB here, 5 GiB in ``make prove PARTS=large``.

Five are more than a number of 32 bits counts, than one request of S3 takes, and than most services
have in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.combinations import NAMES, combination
from tests.store.pictures import noise

BLOCK = noise(1 << 20)
HALF = 2 << 30 if os.environ.get("CALOTYPE_LARGE") == "full" else 20 << 20
SIZE = 2 * HALF + HALF // 2 + 12_345
"""Twice a half is 4 GiB, where a number of 32 bits ends."""


@dataclass(frozen=True, slots=True)
class Film:
    """A file no two parts of which are alike, and its SHA-256."""

    path: Path
    digest: str

    def part(self, start: int, stop: int) -> bytes:
        """Its bytes from ``start`` to before ``stop``."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Iterator[Film]:
    path = tmp_path_factory.mktemp("film") / "film.bin"
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, SIZE, len(BLOCK)):
            part = (b"%020d" % start + BLOCK)[: min(len(BLOCK), SIZE - start)]
            whole.update(part)
            file.write(part)
    yield Film(path, whole.hexdigest())
    path.unlink()


@pytest.mark.parametrize("pair", NAMES)
@pytest.mark.timeout(3600)
def test_it_is_kept_read_checked_and_let_go_of(pair, film, tmp_path):
    catalog, _, place = pair.partition("-")
    kept = combination(catalog, place, tmp_path)
    with kept.open() as store:
        put = store.put(film.path, owner="film/1")
        assert (put.status, put.digest) == ("created", film.digest)
        assert store.stat(film.digest).size == SIZE
        assert store.put(film.path, owner="film/2").status == "duplicate"
        assert kept.objects().sizes.popitem()[1] == SIZE
        with store.open(film.digest) as file:
            for start in (0, HALF - 9, 2 * HALF - 9, SIZE - 9):  # across the borders of 31, 32 bits
                file.seek(start)
                assert file.read(18) == film.part(start, start + 18)
        with store.open(film.digest) as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == film.digest
        checked = store.fsck(read_data=True)
        assert list(checked) == []
        assert checked.result().complete
        store.release("film/1")
        assert store.gc(now=True).erased == 0
        store.release("film/2")
        collected = store.gc(now=True)
        assert (collected.erased, collected.erased_bytes) == (1, SIZE)
    assert kept.objects().sizes == {}
    shutil.rmtree(tmp_path, ignore_errors=True)
