"""Write what follows from the code: two pages of docs/reference and CONTRIBUTING.md's layout.

    python docs/generate.py [--check]

The pages are python.md and cli.md. With ``--check`` it changes nothing and only says whether they
are current.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from calotype import Digest, Scope, Store, model
from calotype.aio import AsyncFile, AsyncListing, AsyncPlan, AsyncRun, AsyncStore
from calotype.backing import Backends, Copied, CopyFailure
from calotype.catalog.listing import Listing, Page
from calotype.cli.app import COMMANDS, app
from calotype.dropping import Dropped
from calotype.figures import BackendState, Stats
from calotype.gc.plans import Plan
from calotype.inspecting import Inspects
from calotype.moving_in import MovesIn
from calotype.progress import Progress, Run
from calotype.relocating import Relocated
from calotype.staging import Limits
from calotype.taking_uploads import TakesUploads
from calotype.uploading import Upload

OF_BACKENDS = [Copied, CopyFailure, Dropped]
FIGURES = [Stats, BackendState]
ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference" / "python.md"
COMMAND_LINE = ROOT / "docs" / "reference" / "cli.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LAYOUT = re.compile(r"(?<=<!-- layout -->\n).*?(?=<!-- end -->)", re.DOTALL)

HEAD = """\
# Python reference

Made from the docstrings by `python docs/generate.py`; do not edit.

Everything starts with `from calotype import Store, Digest`. Wherever a digest is taken, 64 hex
characters in either case will do, with or without `sha256:`. Durations are `"24h"`, seconds or a
`timedelta`; sizes are bytes or `"10 MB"`. A `Source` is a path, bytes, a binary file or an
iterator of bytes. Errors are in [errors.md](errors.md).
"""

CLI_HEAD = """\
# Command line

What `calotype COMMAND --help` prints, made by `python docs/generate.py`; do not edit. `--store`,
`--scope`, `--json`, `-q` and `--bytes` go with every command, before or after its name. Exit codes
are in [errors.md](errors.md#exit-codes). After `calotype --install-completion` the shell (bash,
zsh, fish or PowerShell) completes commands and options.
"""

WIDTH = 92


def main(arguments: list[str]) -> int:
    """Write all, or compare them."""
    layout = "".join(f"{line}\n" for line in rooms())
    made = {
        REFERENCE: "\n".join(page()) + "\n",
        COMMAND_LINE: "\n".join(commands()),
        CONTRIBUTING: LAYOUT.sub(lambda _: layout, CONTRIBUTING.read_text()),
    }
    old = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if "--check" not in arguments:
        for path in old:
            path.write_text(made[path])
        return 0
    for path in old:
        print(f"{path.name} is not current: run 'make docs'.", file=sys.stderr)
    return len(old)


def rooms() -> Iterator[str]:
    """A table row for each module: its path and the first sentence of its docstring."""
    yield "| in `src/calotype` | is |"
    yield "|---|---|"
    source = ROOT / "src" / "calotype"
    for path in sorted(source.rglob("*.py"), key=lambda path: (len(path.parts), path)):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        if said:
            sentence = " ".join(said.partition("\n\n")[0].split())
            yield f"| `{path.relative_to(source)}` | {sentence.replace('``', '`')} |"


def commands() -> Iterator[str]:
    """The page of the command line, line by line."""
    yield CLI_HEAD
    for name in COMMANDS:
        yield f"## {name}\n"
        yield code(helped(name))


def helped(name: str) -> str:
    """What a command says of itself on a terminal of 100 columns."""
    said = io.StringIO()
    app([*name.split(), "--help"], console=Console(file=said, width=100))
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines())


def page() -> Iterator[str]:
    """The page, line by line."""
    yield HEAD
    yield from described(Store)
    yield from described(Scope)
    yield from described(Backends)
    yield f"## {AsyncStore.__name__} (`calotype.aio`)\n"
    yield prose(AsyncStore) + "\n"
    for each in (AsyncFile, AsyncListing, AsyncRun, AsyncPlan):
        yield from value(each)
    yield "## What they answer\n"
    yield "Frozen dataclasses, from `calotype.model` unless another module is named.\n"
    for each in [
        *answers(),
        *FIGURES,
        *OF_BACKENDS,
        Plan,
        Relocated,
        Upload,
        Progress,
        Run,
        Listing,
        Page,
        Limits,
        Digest,
    ]:
        yield from value(each)


def answers() -> list[type]:
    """The dataclasses of the model, in the order of their module."""
    return [
        each
        for each in vars(model).values()
        if dataclasses.is_dataclass(each) and each.__module__ == model.__name__
    ]


def described(owner: type) -> Iterator[str]:
    """A class with its own public methods and properties, and those of its parts."""
    yield f"## {owner.__name__}\n"
    yield prose(owner) + "\n"
    if owner is Store:
        yield code(call(owner.__name__, owner))
    parts = {Scope: [MovesIn, TakesUploads], Store: [Inspects]}.get(owner, [])
    for name, what in [each for part in [owner, *parts] for each in members(part)]:
        yield f"### {name}\n"
        yield code(call(name, what))
        yield prose(what) + "\n"


def value(owner: type) -> Iterator[str]:
    """A value: its fields, and what else can be asked of it."""
    home = f" (`{owner.__module__}`)"
    if owner.__module__ == model.__name__ or owner.__module__.startswith("calotype.aio"):
        home = ""
    yield f"### {owner.__name__}{home}\n"
    yield prose(owner) + "\n"
    lines = [f"{name}: {kind}" for name, kind in fields(owner)]
    lines += [call(name, what) for name, what in members(owner)]
    yield code("\n".join(lines))
    notes = [f"* `{name}`: {flowing(what)}" for name, what in members(owner)]
    if notes:
        yield "\n".join(notes) + "\n"


def fields(owner: type) -> list[tuple[str, str]]:
    """The public fields of a dataclass with their types."""
    if not dataclasses.is_dataclass(owner):
        return []
    found = dataclasses.fields(owner)
    return [(each.name, str(each.type)) for each in found if not each.name.startswith("_")]


def members(owner: type) -> list[tuple[str, object]]:
    """The class's own public methods and properties, in the order of the source."""
    found = [(name, getattr(what, "__func__", what)) for name, what in vars(owner).items()]
    return [
        (name, what)
        for name, what in found
        if not name.startswith("_") and (inspect.isfunction(what) or isinstance(what, property))
    ]


def call(name: str, what: object) -> str:
    """How it is called, as it is written; on one line where that fits."""
    if isinstance(what, property):
        return f"{name}: {inspect.signature(what.fget).return_annotation}"
    found = inspect.signature(what)
    out = f" -> {found.return_annotation}" if inspect.isfunction(what) else ""
    listed = [shown for each in found.parameters.values() for shown in parameter(each)]
    if "*" in listed:
        listed = [each for n, each in enumerate(listed) if each != "*" or "*" not in listed[:n]]
    line = f"{name}({', '.join(listed)}){out}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in listed) + f"){out}"
    return line


def parameter(found: inspect.Parameter) -> Iterator[str]:
    """A parameter with its type and default; a star before those that need their name."""
    if found.name in ("self", "cls") or found.name.startswith("_"):
        return
    if found.kind is found.KEYWORD_ONLY:
        yield "*"
    stars = "**" if found.kind is found.VAR_KEYWORD else ""
    default = ""
    if found.default is not found.empty:
        default = f" = {getattr(found.default, '__name__', None) or repr(found.default)}"
    yield f"{stars}{found.name}: {found.annotation}{default}"


def code(text: str) -> str:
    """A block of it."""
    return f"```text\n{text}\n```\n"


def prose(what: object) -> str:
    """The docstring as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", inspect.getdoc(what) or "")


def flowing(what: object) -> str:
    """The docstring in one line."""
    return " ".join(prose(what).split())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
