"""A wire to PostgreSQL that can be cut around a commit."""

from __future__ import annotations

import select
import socket
import threading
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import parse_qs, urlsplit

COMMIT = b"COMMIT"


class Wire:
    """Stands before a server's socket; ``cut`` says what happens to the next COMMIT it carries.

    ``"before"``: it never reaches the server. ``"after"``: the server did it, and nobody hears.
    """

    def __init__(self, url: str) -> None:
        server = parse_qs(urlsplit(url).query)["host"][0]
        folder = mkdtemp(prefix="calotype-wire-")
        self._server = f"{server}/.s.PGSQL.5432"
        self.url = url.replace(server, folder)
        self.cut = ""
        self.cuts = 0
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
        with client, server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    if end is client and self.cut and COMMIT in data:
                        if self.cut == "after":
                            server.sendall(data)
                            server.recv(1 << 16)
                        self.cut = ""
                        self.cuts += 1
                        return
                    (server if end is client else client).sendall(data)
