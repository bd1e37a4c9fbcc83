"""From PostgreSQL to S3 while a reader and a writer are at work: every command, and what it says.

    python -m demo.moving [COUNT]

Starts a PostgreSQL and an S3 service of its own, as the tests do (`pip install --group test .`),
keeps COUNT pictures (300) as rows, and moves them. What it prints was counted as it happened.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from calotype import Digest, Store
from calotype.errors import NotFound

CALOTYPE = Path(sys.executable).with_name("calotype")
PARTLY = 3


@dataclass
class Shell:
    """Runs commands with these variables, as somebody would who moves a store."""

    variables: dict[str, str]

    def show(self, command: str, *, or_partly: bool = False) -> bool:
        """Print a command and what it says; False where it was done in part."""
        print(f"\n$ calotype {command}", flush=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CALOTYPE_")}
        done = subprocess.run(
            [str(CALOTYPE), *shlex.split(command)],
            env=environment | self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        print(_without_secrets(done.stdout), end="", flush=True)
        if done.returncode == PARTLY and or_partly:
            print("(exit code 3: not all of it yet)")
            return False
        if done.returncode:
            raise SystemExit(f"It stops here: exit {done.returncode}.")
        return True


def _without_secrets(text: str) -> str:
    """Paths of this run's own servers are long, and nobody else's."""
    return re.sub(r"host=[^&\s]*", "host=...", text)


@dataclass
class Users:
    """A writer and a reader of the store, until it is over; what they did, and what went wrong."""

    store: Store
    kept: list[str] = field(default_factory=list)
    put: int = 0
    let_go: int = 0
    read: int = 0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def write(self) -> None:
        """New files all the time; every third is let go of again."""
        while not self.over.is_set():
            digest = self.store.put(picture(f"new {self.put}"), owner=f"new/{self.put}").digest
            self.put += 1
            if self.put % 3 == 0:
                self.store.release(f"new/{self.put - 1}")
                self.let_go += 1
            else:
                self.kept.append(digest)
            time.sleep(0.02)

    def look(self) -> None:
        """Any file that is kept, read whole."""
        dice = random.Random(1)
        while not self.over.is_set():
            digest = dice.choice(self.kept)
            with self.store.open(digest) as file:
                data = file.read()
            self.read, self.bytes = self.read + 1, self.bytes + len(data)
            if Digest.of(data) != digest:
                self.wrong.append(digest)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Both, while the block lasts."""
        works = (self.write, self.look)
        threads = [threading.Thread(target=self._guarded, args=[work]) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.wrong.append(repr(error))


def picture(name: str) -> bytes:
    """A few kilobytes that only this name has."""
    dice = random.Random(name)
    return dice.randbytes(dice.randrange(4_000, 40_000))


def main(count: int) -> None:
    """All of it, one after the other."""
    try:
        from tests import seaweed, servers

        catalog, bucket = servers.schema(), seaweed.url(prefix="media")
    except ModuleNotFoundError as missing:
        raise SystemExit(f"{missing.name} is missing: pip install --group test .") from None
    os.environ.update(seaweed.ENVIRONMENT)
    shell = Shell(
        {
            "CALOTYPE_CATALOG": catalog,
            "CALOTYPE_BACKENDS__MAIN__URL": "database:",
            "CALOTYPE_BACKENDS__MAIN__ROLE": "primary",
            "CALOTYPE_BACKENDS__BUCKET__URL": bucket,
        }
    )
    print(f"# {count} pictures as rows of PostgreSQL, and users that never stop")
    with Store(catalog=catalog, backend="database:") as store:
        users = Users(store)
        pictures = [picture(f"old {number}") for number in range(count)]
        store.put_many(pictures, owner="album/1").result()
        users.kept += [Digest.of(each) for each in pictures]
        with users.at_work():
            _move(shell, store)
        _told(users, store)
    shell.show("fsck --read-data")


def _move(shell: Shell, store: Store) -> None:
    shell.show("stats")
    shell.show("backend add bucket")
    shell.show("backend copy bucket")
    shell.show("backend primary bucket")
    shell.show("backend list")
    while not shell.show("backend drop main", or_partly=True):
        shell.show("backend copy bucket")
    print("\n# The configuration names the bucket alone from now on")
    for name in ("URL", "ROLE"):
        del shell.variables[f"CALOTYPE_BACKENDS__MAIN__{name}"]
    time.sleep(0.5)  # the users go on with it
    shell.show("backend list")
    chunks = "SELECT count(*) FROM calotype_chunk"
    with store._rooms.catalog.read() as connection:
        print(f"\n{chunks}: {connection.exec_driver_sql(chunks).scalar()}")


def _told(users: Users, store: Store) -> None:
    store.gc(now=True, force=True)
    lost = 0
    for digest in users.kept:
        try:
            with store.open(digest) as file:
                lost += Digest.of(file.read()) != digest
        except NotFound:
            lost += 1
    print(f"\nThe writer put {users.put} files meanwhile and let go of {users.let_go}.")
    print(f"The reader read {users.read} files, {users.bytes:,} bytes.")
    print(f"{len(users.kept)} files are kept: {lost} lost, {len(users.wrong)} read wrong.")
    if lost or users.wrong:
        raise SystemExit("\n".join(users.wrong[:5]) or "Files were lost.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 300)
