"""The commands by name, and what becomes of their errors."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from calotype import __version__
from calotype.cli.exits import Interrupted, Usage, error_line, exit_of
from calotype.cli.options import STDIO
from calotype.errors import CalotypeError

app = App(
    name="calotype",
    help="Every file kept once; every use of it a reference; let go when nothing refers to it.",
    version=__version__,
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
    default_parameter=Parameter(json_list=False, json_dict=False),  # "[1] a.jpg" is a file's name
)
app.register_install_completion_command()

COMMANDS = {
    "init": "tending:init",
    "put": "putting:put",
    "import": "importing:import_",
    "get": "getting:get",
    "ls": "looking:ls",
    "stat": "looking:stat",
    "explain": "looking:explain",
    "check": "checking:check",
    "url": "looking:url",
    "attach": "keeping:attach",
    "release": "keeping:release",
    "rm": "keeping:release",
    "restore": "keeping:restore",
    "discard": "keeping:discard",
    "keep": "keeping:keep",
    "renew": "keeping:renew",
    "update": "keeping:update",
    "gc": "collecting:gc",
    "fsck": "collecting:fsck",
    "purge": "collecting:purge",
    "unblock": "collecting:unblock",
    "stats": "looking:stats",
    "usage": "looking:usage",
    "quota": "keeping:quota",
    "backend list": "backing:list_",
    "backend add": "backing:add",
    "backend copy": "backing:copy",
    "backend primary": "backing:primary",
    "backend drop": "backing:drop",
    "catalog copy": "relocating:copy",
    "upgrade": "tending:upgrade",
    "doctor": "tending:doctor",
    "config": "tending:config",
}
"""Module and function of each; what a command does not need is not imported for it."""

GROUPS = {
    "backend": App(name="backend", help="Where the bytes are, and in which roles."),
    "catalog": App(name="catalog", help="Move the catalog to another database."),
}
"""The first words of commands that have two."""

for group in GROUPS.values():
    app.command(group)
for name, command in COMMANDS.items():
    first, _, last = name.rpartition(" ")
    GROUPS.get(first, app).command(f"calotype.cli.{command}", name=last)

WITH_STDIO = frozenset({"put", "get", "check"})
WITH_VALUE = frozenset({"--store", "--scope"})
ALONE = frozenset({"--json", "--quiet", "-q", "--bytes"})
EVERYWHERE = WITH_VALUE | ALONE

LIKE = 0.75
"""How like a name must be to what was typed to be offered in its place."""

_GUESS = re.compile(r"""["']?-*([\w-]+)["']?\.( Did you mean ["']?-*([\w-]+)["']?\?)""")


def run(arguments: Sequence[str]) -> int:
    """Parse and run; the exit code."""
    json_lines = "--json" in arguments
    words = _command_first(arguments)
    if words[:1] and words[0] in WITH_STDIO:
        words = [STDIO if each == "-" else each for each in words]
    try:
        if words and words[0].partition("=")[0] in EVERYWHERE:
            raise Usage("No command given.", hint="See 'calotype --help'.")
        if not _named(words):
            _import_all()
        outcome = app(words)
    except CalotypeError as error:
        return _failed(error, json_lines)
    except CycloptsError as error:
        return _failed(_misspelt(error, words), json_lines)
    except KeyboardInterrupt:
        hint = "What was done stays done; the same command goes on."
        return _failed(Interrupted("Interrupted.", hint=hint), json_lines)
    return int(outcome) if isinstance(outcome, int) else 0


def _misspelt(error: CycloptsError, words: Sequence[str]) -> Usage:
    """What the parser says, in our words, with the help that says more."""
    what = " ".join(str(error).replace(STDIO, "-").split())
    if isinstance(error, UnusedCliTokensError):
        what = f"No such argument: {(error.unused_tokens or ['?'])[0]!r}."
    guess = _GUESS.search(what)
    if guess and difflib.SequenceMatcher(None, guess[1], guess[3]).ratio() < LIKE:
        what = what.replace(guess[2], "").strip()
    group = words[0] if words[:1] and words[0] in GROUPS else ""
    return Usage(what, hint=f"See 'calotype {_named(words) or group} --help'.".replace("  ", " "))


def _named(words: Sequence[str]) -> str:
    """The command that is asked for; empty for none."""
    return next((name for name in COMMANDS if words[: name.count(" ") + 1] == name.split()), "")


def _import_all() -> None:
    """Help tells what every command does."""
    for each in (app, *GROUPS.values()):
        each.resolved_commands()


def _command_first(arguments: Sequence[str]) -> list[str]:
    """Options that every command has may also stand before it: ``calotype --store S ls``."""
    ahead = 0
    while ahead < len(arguments):
        name = arguments[ahead].partition("=")[0]
        if name in WITH_VALUE:
            ahead += 1 if "=" in arguments[ahead] else 2
        elif name in ALONE:
            ahead += 1
        else:
            break
    after = ahead + (2 if arguments[ahead : ahead + 1] and arguments[ahead] in GROUPS else 1)
    return [*arguments[ahead:after], *arguments[:ahead], *arguments[after:]]


def _failed(error: CalotypeError, json_lines: bool) -> int:
    sys.stdout.flush()
    print(error_line(error, json_lines=json_lines), file=sys.stderr)
    return int(exit_of(error))
