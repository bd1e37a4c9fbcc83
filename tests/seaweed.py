"""A real S3 service for tests: SeaweedFS, started once for each test process."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from random import Random
from urllib.parse import quote

BUCKET = "calotype-test"
PATIENCE = 60
"""Seconds in which the service has to be ready."""

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "admin-key", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
"""Credentials that may do everything."""

USER = {"AWS_ACCESS_KEY_ID": "user-key", "AWS_SECRET_ACCESS_KEY": "user-secret"}
"""Credentials that may read, write and list, but make no bucket."""

READER = {"AWS_ACCESS_KEY_ID": "reader-key", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
"""Credentials that may read and list."""

WRITER = {"AWS_ACCESS_KEY_ID": "writer-key", "AWS_SECRET_ACCESS_KEY": "writer-secret"}
"""Credentials that may write, and neither read nor list."""

_ACTIONS = {
    "admin": (ENVIRONMENT, ["Admin", "Read", "Write", "List", "Tagging"]),
    "user": (USER, ["Read", "Write", "List"]),
    "reader": (READER, ["Read", "List"]),
    "writer": (WRITER, ["Write"]),
}

# It ends with its standard input, which ends with this process, however that ends.
_GUARDED = '"$@" >weed.log 2>&1 </dev/null & read -r _; kill -9 $!'


@cache
def endpoint() -> str:
    """``http://127.0.0.1:PORT`` of a service of this process's own, with an empty bucket."""
    folder = tempfile.mkdtemp(prefix="calotype-s3-")
    _configure(Path(folder))
    for _ in range(5):
        ports = list(_free_ports(4))
        process = _started(Path(folder), ports)
        if _is_ready(process, ports[0]):
            break
        process.kill()
    else:
        raise RuntimeError(f"SeaweedFS does not start: {Path(folder, 'weed.log').read_text()}")
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() == owner:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)
            for port in (*ports, *(port + 10_000 for port in ports)):  # it leaves its sockets
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)

    atexit.register(stop)
    made = f"http://127.0.0.1:{ports[0]}"
    make_bucket(made, BUCKET)
    return made


def url(at: str = "", *, bucket: str = BUCKET, prefix: str = "") -> str:
    """The URL of a part of the bucket that nobody has used, asked at ``at`` or directly."""
    prefix = prefix or f"test/{uuid.uuid4().hex[:12]}"
    return f"s3://{bucket}/{prefix}?endpoint={quote(at or endpoint(), safe=':/')}"


def make_bucket(at: str, name: str) -> None:
    """Make a bucket, which the backend never does."""
    from calotype.backends.s3 import sigv4
    from calotype.quantities import now

    host = at.removeprefix("http://")
    request = sigv4.Request("PUT", host, f"/{name}")
    key = sigv4.Credentials(*ENVIRONMENT.values())
    headers = sigv4.signed(request, key, "us-east-1", sigv4.NO_BYTES, now())
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("PUT", f"/{name}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def _configure(folder: Path) -> None:
    identities = [
        {
            "name": name,
            "credentials": [
                {
                    "accessKey": key["AWS_ACCESS_KEY_ID"],
                    "secretKey": key["AWS_SECRET_ACCESS_KEY"],
                }
            ],
            "actions": actions,
        }
        for name, (key, actions) in _ACTIONS.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()


def _started(folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    names = ("s3.port", "master.port", "filer.port", "volume.port")
    weed = [
        str(Path(sys.executable).parent / "weed"),
        "-logdir=.",
        "mini",
        "-dir=data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3.config=s3.json",
        *[f"-{name}={port}" for name, port in zip(names, ports, strict=True)],
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    return subprocess.Popen(
        ["bash", "-c", _GUARDED, "weed", *weed], cwd=folder, stdin=subprocess.PIPE
    )


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            status = connection.getresponse().status
            connection.close()
        except OSError:
            time.sleep(0.1)
            continue
        if status == 403:
            return True
        time.sleep(0.1)
    return False


def _free_ports(count: int) -> Iterator[int]:
    """Ports that are free together with the one 10000 above, which it opens as well."""
    with ExitStack() as held:
        while count:
            port = Random().randrange(20_000, 32_000)
            try:
                for each in (port, port + 10_000):
                    taken = held.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", each))
            except OSError:
                continue
            yield port
            count -= 1
