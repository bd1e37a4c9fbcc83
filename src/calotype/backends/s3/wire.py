"""Connections to a service: kept open for the next request, never shared across a fork."""

from __future__ import annotations

import http.client
import os
import selectors
import ssl
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from urllib.parse import urlsplit

BROKEN = (OSError, http.client.HTTPException)
"""What a connection fails with."""

IDLE = 32
"""Connections kept open while nobody uses them."""

PIECE = 256 << 10
"""Bytes sent at a time, each within the time-out: a slow line is not a silent one."""

_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.DefaultSelector
)
"""One system call where there is poll; the default one makes three, and select has few numbers."""


class Reply:
    """An answer whose body is still on its way. Close it; read to its end, its connection stays."""

    def __init__(
        self,
        wire: Wire,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
        *,
        last: bool,
    ) -> None:
        self._wire = wire
        self._connection: http.client.HTTPConnection | None = connection
        self._answer = answer
        self._last = last
        self._process = os.getpid()
        self.status = answer.status

    def header(self, name: str) -> str:
        """A header's text, or an empty string."""
        return self._answer.headers.get(name, "")

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes of the body; 0 at its end, wherever that is."""
        return self._answer.readinto(buffer)

    def read(self, most: int) -> bytes:
        """The rest of the body: an error of the connection where it is shorter than announced.

        So is one of more than ``most`` bytes.
        """
        announced = self._answer.length
        if announced is None:
            data = self._answer.read(most + 1)
        else:
            data = self._answer.read() if announced <= most else b""
        if max(len(data), announced or 0) > most:
            raise http.client.HTTPException(f"an answer of more than {most} bytes")
        return data

    def close(self) -> None:
        """Let go of it; harmless to repeat."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        whole = self._answer.isclosed() and not self._answer.length
        ours = self._process == os.getpid() and not self._last
        if whole and ours and connection.sock is not None:
            self._wire.take_back(connection)
        else:
            self._answer.close()
            connection.close()


class Wire:
    """Connections to one host. Safe across threads and forks; ``connect`` and ``read`` are seconds.

    ``read`` bounds the wait for each piece that is sent or received, not for all of them.
    """

    def __init__(self, scheme: str, host: str, *, connect: float, read: float) -> None:
        self._secure = scheme == "https"
        parts = urlsplit(f"//{host}")
        self._host, self._port = parts.hostname or "", parts.port
        self._connect, self._read = connect, read
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: Sequence[bytes]
    ) -> Reply:
        """Send one request; its answer, whatever its status. Raises one of ``BROKEN``.

        A service that refuses early closes while the body is still sent: its answer counts.
        """
        connection = self._connection()
        try:
            whole = _send(connection, method, target, headers, body)
            answer = connection.getresponse()
            if not whole and answer.status < 400:
                raise http.client.HTTPException("an answer to half a request")
            return Reply(self, connection, answer, last=not whole)
        except BaseException:
            connection.close()
            raise

    def take_back(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose answer was read to its end, in the process that opened it."""
        if len(self._idle) < IDLE and self._process == os.getpid():
            self._idle.append(connection)
        else:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._process != os.getpid():
            self._process = os.getpid()
            _close_all(self._idle)
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                connection = self._idle.pop()
                if _is_open(connection):
                    return connection
                connection.close()
        return self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        connection = (
            http.client.HTTPSConnection(
                self._host, self._port, timeout=self._connect, context=_trust()
            )
            if self._secure
            else http.client.HTTPConnection(self._host, self._port, timeout=self._connect)
        )
        connection.connect()
        connection.sock.settimeout(self._read)
        return connection


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that this machine trusts; SSL_CERT_FILE names others."""
    return ssl.create_default_context()


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Sequence[bytes],
) -> bool:
    """Send it all, or as much as the service takes that has answered already: False then."""
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, text in headers.items():
        connection.putheader(name, text)
    connection.endheaders()
    try:
        for piece in _pieces(body):
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        if _is_open(connection):
            raise
        return False
    return True


def _pieces(body: Sequence[bytes]) -> Iterator[memoryview]:
    for chunk in body:
        view = memoryview(chunk)
        for first in range(0, len(view), PIECE):
            yield view[first : first + PIECE]


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """False where the other side closed, or spoke out of turn."""
    with _Selector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(0)


def _close_all(connections: deque[http.client.HTTPConnection]) -> None:
    with suppress(IndexError):
        while True:
            connections.pop().close()
