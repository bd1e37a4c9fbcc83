"""Progress: a bar on a terminal, a line now and then elsewhere, JSON lines for programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from calotype.cli.exits import resumable
from calotype.cli.printing import Printer
from calotype.cli.wire import record
from calotype.progress import Progress, Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

R = TypeVar("R")
E = TypeVar("E")

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal for a bar."""

Show = Callable[[Progress], None]


def follow(
    run: Run[E, R],
    printer: Printer,
    title: str,
    *,
    seen: Callable[[E], Progress | None],
    resume: str,
) -> R:
    """Run to the end, showing how far it is; Ctrl-C says ``resume``.

    ``seen`` takes every event and may answer with the progress to show.
    """
    with resumable(resume), meter(printer, title) as show:
        for event in run:
            if (progress := seen(event)) is not None:
                show(progress)
        return run.result()


def meter(
    printer: Printer, title: str, *, talks: bool = False, interval: float = INTERVAL
) -> AbstractContextManager[Show]:
    """Something that shows progress while the block runs.

    ``talks`` when the command prints lines as it goes: on one terminal they take the place of a
    bar.
    """
    if printer.quiet:
        return _silent(lambda _: None)
    if printer.json:
        return _silent(lambda progress: printer.object({"event": "progress"} | record(progress)))
    if not printer.err.isatty():
        return _ticking(printer, title, interval)
    if talks and printer.out.isatty():
        return _silent(lambda _: None)
    return _bar(printer, title)


@contextmanager
def _silent(show: Show) -> Iterator[Show]:
    yield show


@contextmanager
def _ticking(printer: Printer, title: str, interval: float) -> Iterator[Show]:
    latest = [Progress(None, 0)]
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(interval):
            print(f"{title}: {_words(latest[0], printer)}", file=printer.err, flush=True)

    def show(progress: Progress) -> None:
        latest[0] = progress

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield show
    finally:
        ended.set()
        ticker.join()


def _words(progress: Progress, printer: Printer) -> str:
    total = f" of {progress.total}" if progress.total is not None else ""
    words = [f"{progress.done}{total} done"]
    if progress.failed:
        words.append(f"{progress.failed} failed")
    if progress.bytes:
        words.append(printer.size(progress.bytes))
    if progress.eta is not None:
        words.append(f"about {_clock(progress.eta)} left")
    return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _bar(printer: Printer, title: str) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
    )
    console = Console(file=printer.err, highlight=False)
    with Bar(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task(title, total=None, words="")
        printer.above = _above(console) if printer.out.isatty() else None
        try:
            yield _updating(bar, task, printer)
        finally:
            printer.above = None


def _above(console: Console) -> Callable[[str], None]:
    return lambda text: console.out(text, highlight=False)


def _updating(bar: Bar, task: TaskID, printer: Printer) -> Show:
    def show(progress: Progress) -> None:
        words = _words(progress, printer)
        bar.update(task, total=progress.total, completed=progress.done, words=words)

    return show
