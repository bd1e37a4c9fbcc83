"""put_many of whole corpora against the floor and hashfs, cold and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import corpora, sides
from benchmarks.places import fresh, require_room, settle, warm
from benchmarks.report import Section, Table
from benchmarks.rounds import Series, interleaved

ROUNDS = 4


def run() -> Section:
    """Ingest corpus A, then corpus B; each side in a new folder, then once more into the same."""
    require_room(16, "the ingest row")
    tables = [
        _corpus("A: 20,000 images, mean 49 KB, half duplicates", corpora.a(), "<= 1.7", ">= 2"),
        _corpus(
            f"B: {corpora.LARGE} photographs of 12 megapixels, mean 4.5 MB",
            corpora.b(),
            "",
            ">= 1.5",
        ),
    ]
    return Section("ingest", "put_many of whole corpora", tables)


def _corpus(name: str, files: Sequence[Path], of_floor: str, of_hashfs: str) -> Table:
    warm(files)
    again: dict[str, list[float]] = {"calotype": [], "hashfs": []}
    works: dict[str, Callable[[], float]] = {
        "floor": partial(_floor, files, durable=False),
        "durable": partial(_floor, files, durable=True),
        "calotype": partial(_twice, _calotype, files, again["calotype"]),
        "hashfs": partial(_twice, sides.hashfs, files, again["hashfs"]),
    }
    cold = interleaved(works, ROUNDS)
    second = {name: Series(tuple(values)) for name, values in again.items()}
    floor, ours, theirs = cold["floor"], cold["calotype"], cold["hashfs"]
    cells = [
        ["the floor, 2 threads, not durable", str(floor), "1", "", ""],
        ["the floor and one syncfs", str(cold["durable"]), _times(cold["durable"], floor), "", ""],
        ["`put_many`, durable", str(ours), _times(ours, floor), _times(theirs, ours), ""],
        ["hashfs, not durable", str(theirs), _times(theirs, floor), "1", ""],
        ["target", "", of_floor, of_hashfs, ""],
    ]
    cells += [
        ["`put_many` again", str(second["calotype"]), "", _times(*_pair(second)), ""],
        ["hashfs again", str(second["hashfs"]), "", "1", ""],
        ["target", "", "", ">= 3 (by import)" if of_floor else "", ""],
    ]
    note = (
        f"{ROUNDS} rounds, corpus in the page cache, new folders every time. This is the "
        "library's `put_many`: the command `import`, which the targets speak of, comes later; "
        "again therefore reads and hashes every file. hashfs keeps no rows and syncs nothing."
    )
    columns = [name, "s", "of the floor's time", "times as fast as hashfs"]
    return Table(columns, [row[:4] for row in cells], note)


def _pair(second: dict[str, Series]) -> tuple[Series, Series]:
    return second["hashfs"], second["calotype"]


def _times(one: Series, other: Series) -> str:
    return str(one.over(other))


def _floor(files: Sequence[Path], *, durable: bool) -> float:
    settle()
    return sides.floor(fresh("floor"), files, durable=durable)


def _calotype(folder: Path, files: Sequence[Path]) -> float:
    return sides.calotype(folder, files)["seconds"]


def _twice(
    side: Callable[[Path, Sequence[Path]], float], files: Sequence[Path], again: list[float]
) -> float:
    folder = fresh("ingest")
    settle()
    cold = side(folder, files)
    settle()
    again.append(side(folder, files))
    return cold
