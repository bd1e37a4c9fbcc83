"""A wire to PostgreSQL that can be cut around a commit."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import parse_qs, urlsplit

COMMIT = b"COMMIT"


class Wire:
    """Stands before a server's socket; ``cut`` says what happens to the next COMMIT it carries.

    ``"before"``: it never reaches the server. ``"after"``: the server did it, and nobody hears.
    ``watch`` is told ``"before"`` and ``"after"`` of each; where it answers False the wire is cut.
    """

    def __init__(self, url: str) -> None:
        server = parse_qs(urlsplit(url).query)["host"][0]
        folder = mkdtemp(prefix="calotype-wire-")
        self._server = f"{server}/.s.PGSQL.5432"
        self.url = url.replace(server, folder)
        self.cut = ""
        self.cuts = 0
        self.watch: Callable[[str], bool] = lambda _: True
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(folder, ".s.PGSQL.5432")))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=[client], daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        with client, server, suppress(ConnectionError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is client and COMMIT in data:
                        data = self._commit(server, data)
                        if not data:
                            return
                        client.sendall(data)
                        continue
                    (server if end is client else client).sendall(data)

    def _commit(self, server: socket.socket, data: bytes) -> bytes:
        """The server's answer; nothing where the wire is cut."""
        how, self.cut = self.cut, ""
        self.cuts += bool(how)
        if how == "before" or not self.watch("before"):
            return b""
        server.sendall(data)
        answer = server.recv(1 << 16)
        return b"" if how == "after" or not self.watch("after") else answer
