"""A tour of Calotype with real pictures, by its own commands.

    python -m demo.tour [folder]

Makes the folder (``demo-store``) anew and leaves a store in it to play with.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from demo import pictures

CALOTYPE = Path(sys.executable).with_name("calotype")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in one folder, as a reader would type them."""

    folder: Path

    def show(self, command: str, *, ends: int = 0) -> str:
        """Print a command and what it prints; stop the tour unless it ends with ``ends``."""
        print(f"\n$ calotype {command}", flush=True)
        done = self._run(command)
        print(done.stdout, end="", flush=True)
        if done.returncode != ends:
            raise SystemExit(f"The tour stops here: exit {done.returncode}, not {ends}.")
        if ends:
            print(f"(exit code {ends})")
        return done.stdout

    def ask(self, command: str) -> str:
        """What a command prints, unseen."""
        done = self._run(command)
        if done.returncode:
            raise SystemExit(f"calotype {command}: {done.stdout}")
        return done.stdout.strip()

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        words = [word for part in shlex.split(command) for word in self._expanded(part)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CALOTYPE_")}
        return subprocess.run(
            [str(CALOTYPE), *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _expanded(self, word: str) -> Sequence[str]:
        if "*" not in word:
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word))


def say(text: str) -> None:
    """A line or two of the guide."""
    print(f"\n{text}", flush=True)


def title(text: str) -> None:
    """The name of a station."""
    print(f"\n\n{text}\n{'-' * len(text)}", flush=True)


def tour(folder: Path) -> None:
    """All stations, one after another."""
    fresh(folder)
    shell = Shell(folder)
    title("1. Pictures go in, each once")
    say(f"There are two albums in {folder.name}/pictures: photographs, copies of them under other")
    print("names, one made smaller, one saved again, one cut off in the middle.")
    putting(shell)
    cat = digest_of(shell, "pictures/trip/cat.png")
    title("2. Who uses what")
    using(shell, cat)
    title("3. Letting go, and changing one's mind")
    releasing(shell)
    title("4. Garbage collection")
    collecting(shell, cat)
    title("5. A damaged file, found and mended")
    mending(shell, cat)
    title("6. Scopes and URLs")
    scopes(shell, cat)
    farewell(folder, cat)


def fresh(folder: Path) -> None:
    """An empty folder with pictures in it; never one that is not a tour's."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "pictures").is_dir():
        raise SystemExit(f"{folder} is not a folder of this tour: choose another.")
    shutil.rmtree(folder, ignore_errors=True)
    pictures.make(folder / "pictures")


def digest_of(shell: Shell, picture: str) -> str:
    """The first characters of a picture's digest."""
    from calotype import Digest

    return Digest.of(shell.folder / picture)[:12]


def putting(shell: Shell) -> None:
    """put and stats."""
    shell.show("init .")
    shell.show("put pictures/trip/* --owner album/trip")
    say("The same cat three times, once named .jpg: one file. The type is read from the bytes.")
    shell.show("put pictures/best/* --owner album/best")
    say("The cut-off picture is kept as it is. Nothing is refused for what it contains.")
    shell.show("stats")


def using(shell: Shell, cat: str) -> None:
    """attach, ls and explain."""
    shell.show(f"attach {cat} --owner listing/42 --role cover")
    shell.show("ls --owner album/best")
    shell.show(f"explain {cat}")


def releasing(shell: Shell) -> None:
    """release, the trash, restore, and uploading again."""
    shell.show("release --owner album/trip")
    say("What only that album used is in the trash now, for 24 hours. The cat is not.")
    shell.show("ls --trashed")
    shell.show("restore --owner album/trip")
    shell.show("release --owner album/trip")
    say("Uploading a picture again brings it back too.")
    shell.show("put pictures/trip/coffee.png --owner listing/43")


def collecting(shell: Shell, cat: str) -> None:
    """gc: looked at first, then done."""
    say("Nothing goes before its grace is over, unless we say so.")
    shell.show("gc --dry-run")
    shell.show("gc --now --dry-run")
    shell.show("gc --now")
    shell.show(f"explain {cat}")
    gone = digest_of(shell, "pictures/trip/astronaut.png")
    shell.show(f"get {gone} -o astronaut.png", ends=5)


def mending(shell: Shell, cat: str) -> None:
    """Damage, fsck, heal."""
    where = Path(unquote(urlsplit(shell.ask(f"url {cat}")).path))
    say("We overwrite 4 bytes in the middle of the cat, behind Calotype's back.")
    print(f"{where.relative_to(shell.folder)}")
    where.chmod(0o644)
    with where.open("r+b") as file:
        file.seek(where.stat().st_size // 2)
        file.write(b"ouch")
    shell.show("fsck --read-data", ends=4)
    say("Putting the same picture again mends it, for everyone who uses it.")
    shell.show('put "pictures/best/my cat.png" --owner album/best')
    shell.show("fsck --read-data")


def scopes(shell: Shell, cat: str) -> None:
    """Another user sees nothing, and shares the bytes all the same."""
    say("Ben has the cat too. He is not told that it was here.")
    shell.show(f"--scope user:ben stat {cat}", ends=5)
    shell.show("--scope user:ben put pictures/trip/cat.png")
    shell.show(f"url {cat}")


def farewell(folder: Path, cat: str) -> None:
    """What to try next."""
    activate = os.path.relpath(CALOTYPE.with_name("activate"))
    title("Your turn")
    print(f"The store is in {folder.name}. Four commands to try:\n")
    print(f"  . {activate} && cd {os.path.relpath(folder)}")
    for command in (
        "ls --long",
        f"explain {cat}",
        f"get {cat} -o back.png",
        "put back.png --owner listing/44",
    ):
        print(f"  calotype {command}")
    print("\nThen read docs/tutorial.md. 'make demo' makes everything anew.")


if __name__ == "__main__":
    tour(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-store").absolute())
