"""Result pages of state boards as a browser shows them: made-up licences, really rendered."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

STATES = {
    "CA": ("California State Board of Pharmacy", "#1d3f72"),
    "FL": ("Florida Department of Health", "#8a4b08"),
    "NY": ("New York Office of the Professions", "#3b2a6d"),
    "PA": ("Pennsylvania Licensing System", "#1f5f4a"),
    "TX": ("Texas State Board of Pharmacy", "#7a1f2b"),
}
SEARCHES = ("Belmar", "Empower", "Hallandale", "Olympia", "Strive", "Tailor Made", "Wells")
STATUSES = ("Active", "Active", "Active", "Expired", "Inactive")


@dataclass(frozen=True, slots=True)
class Licence:
    """One line of a result page."""

    number: str
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class Search:
    """What a state's page said about a name."""

    state: str
    name: str
    licences: tuple[Licence, ...]

    @property
    def html(self) -> str:
        """The page; it says nothing of when it was asked, as the real ones do not."""
        board, colour = STATES[self.state]
        lines = "".join(
            f"<tr><td>{escape(each.number)}</td><td>{escape(each.name)}</td>"
            f"<td class='{each.status}'>{each.status}</td></tr>"
            for each in self.licences
        )
        table = f"<table><tr><th>Licence<th>Name<th>Status</tr>{lines}</table>"
        found = table if self.licences else "<p class='none'>No records match your search.</p>"
        return f"""<!doctype html><meta charset="utf-8"><style>
            body {{ font: 15px/1.5 "DejaVu Sans", sans-serif; margin: 0; color: #222 }}
            header {{ background: {colour}; color: #fff; padding: 18px 28px; font-size: 22px }}
            main {{ padding: 20px 28px }} table {{ border-collapse: collapse; width: 100% }}
            td, th {{ border-bottom: 1px solid #ccc; padding: 7px 10px; text-align: left }}
            .Active {{ color: #17692c }} .Expired, .Inactive {{ color: #a3230f }}
            .none {{ font-size: 18px; color: #666 }}
            </style><header>{board}</header><main><h3>Licence search</h3>{found}</main>"""


def searches(tag: str) -> list[Search]:
    """Every name in every state; another tag finds another fifth of the pages changed."""
    return [_search(state, name, tag) for state in STATES for name in SEARCHES]


def _search(state: str, name: str, tag: str) -> Search:
    changed = random.Random(f"changed {state}{name}{tag}").random() < 0.2
    dice = random.Random(f"{state}{name}{tag if changed else ''}")
    if dice.random() < 0.35:
        return Search(state, name, ())
    found = [
        Licence(
            f"{state}{dice.randrange(10_000, 99_999)}",
            f"{name} {dice.choice(('Pharmacy', 'Compounding', 'Rx', 'Health'))} #{number}",
            dice.choice(STATUSES),
        )
        for number in range(1, dice.randrange(2, 6))
    ]
    return Search(state, name, tuple(found))


def render(folder: Path, tag: str, wanted: Sequence[Search] | None = None) -> int:
    """Write ``tag/state/name.json`` and its screenshot for every search; how many."""
    chosen = searches(tag) if wanted is None else wanted
    with browser() as page:
        for search in chosen:
            place = folder / tag / search.state / search.name
            place.parent.mkdir(parents=True, exist_ok=True)
            page.set_content(search.html)
            shot = place.with_suffix(".png")
            page.screenshot(path=shot)
            facts = asdict(search) | {"screenshot": shot.name}
            place.with_suffix(".json").write_text(json.dumps(facts, indent=1))
    return len(chosen)


class Unreadable(ValueError):
    """The file is half written, or is no search."""


def read(file: Path) -> tuple[Search, Path]:
    """What a search left: the facts in its file, and the screenshot that lies beside it."""
    try:
        if not file.is_file():
            raise OSError("not a regular file")
        facts = json.loads(file.read_text())
        licences = tuple(
            Licence(_text(each["number"]), _text(each["name"]), _text(each["status"]))
            for each in facts["licences"]
        )
        search = Search(_text(facts["state"]), _text(facts["name"]), licences)
        return search, file.with_name(_text(facts["screenshot"]))
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _text(value: object) -> str:
    """Text that a database takes; ``ValueError`` for everything else."""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"no text: {value!r}")
    value.encode()
    return value


@contextmanager
def browser() -> Iterator[Page]:
    """A page of a headless Chromium; ``SystemExit`` says how to get one."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise SystemExit("Playwright is missing: pip install playwright.") from None
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is missing: apt install chromium.")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield started.new_page(viewport={"width": 900, "height": 480})
        finally:
            started.close()
