"""A proxy before a service, which does to requests and answers what networks do."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Exchange:
    """A request on its way through, and the answer once there is one."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    def error(self, status: int, code: str, **headers: str) -> None:
        """Answer as S3 does when it refuses."""
        self.status = status
        self.answer = b"" if self.method == "HEAD" else _ERROR.format(code=code).encode()
        self.answer_headers = {"Content-Type": "application/xml", **headers}
        self.answer_headers["Content-Length"] = str(len(self.answer))


_ERROR = "<Error><Code>{code}</Code><Message>As the test has it.</Message></Error>"


class Hangup(Exception):
    """The connection to the client is closed without another byte."""


Fault = Callable[[Exchange, Callable[[], None]], None]
"""Is given the exchange, and ``forward``, which has the service do it; may raise ``Hangup``."""


def flip_up(exchange: Exchange, forward: Callable[[], None]) -> None:
    """A bit of the body is another one when it arrives."""
    exchange.body = _flipped(exchange.body)
    forward()


def flip_down(exchange: Exchange, forward: Callable[[], None]) -> None:
    """A bit of the answer's body is another one when it arrives."""
    forward()
    exchange.answer = _flipped(exchange.answer)


def lose_answer(exchange: Exchange, forward: Callable[[], None]) -> None:
    """The service does it, and nobody hears of that."""
    forward()
    raise Hangup


def lose_request(exchange: Exchange, forward: Callable[[], None]) -> None:
    """The service never hears of it."""
    raise Hangup


def cut(exchange: Exchange, forward: Callable[[], None]) -> None:
    """Half of the answer's body arrives, then the connection ends."""
    forward()
    exchange.answer = exchange.answer[: len(exchange.answer) // 2]


def error(status: int, code: str = "", **headers: str) -> Fault:
    """The service is not asked; the answer is an error."""

    def fault(exchange: Exchange, forward: Callable[[], None]) -> None:
        exchange.error(status, code, **headers)

    return fault


def held(until: threading.Event, *, lost: bool = False) -> Fault:
    """Forwarded only then; ``lost`` hangs up on the client at once and forwards all the same."""

    def fault(exchange: Exchange, forward: Callable[[], None]) -> None:
        if not lost:
            until.wait(60)
            forward()
            return

        def later() -> None:
            until.wait(60)
            forward()
            late.set()

        late = threading.Event()
        until.late = late  # type: ignore[attr-defined]
        threading.Thread(target=later, daemon=True).start()
        raise Hangup

    return fault


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


@dataclass
class _Plan:
    applies: Callable[[Exchange], bool]
    fault: Fault
    times: int


class Proxy:
    """Between a client and the service at ``upstream``; faultless until told otherwise."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[Exchange] = []
        self._upstream = urlsplit(upstream)
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()
        self.endpoint = ""

    def plan(
        self, fault: Fault, *, times: int = 1, method: str = "", having: str = "", header: str = ""
    ) -> None:
        """Do so to the next requests that fit: by method, a part of the target, a header."""

        def applies(exchange: Exchange) -> bool:
            return (
                exchange.method == (method or exchange.method)
                and having in exchange.target
                and (not header or header in exchange.headers)
            )

        with self._lock:
            self._plans.append(_Plan(applies, fault, times))

    def clear(self) -> None:
        """Forget what was planned and seen."""
        with self._lock:
            self._plans.clear()
            self.seen.clear()

    def count(self, method: str, having: str = "") -> int:
        """How many such requests there were."""
        return sum(each.method == method and having in each.target for each in self.seen)

    def handle(self, exchange: Exchange) -> None:
        """Do to the exchange what is planned, or forward it."""
        with self._lock:
            self.seen.append(exchange)
            plan = next((each for each in self._plans if each.applies(exchange)), None)
            if plan is not None:
                plan.times -= 1
                if not plan.times:
                    self._plans.remove(plan)
        fault = plan.fault if plan is not None else lambda _, forward: forward()
        fault(exchange, lambda: self._forward(exchange))

    def _forward(self, exchange: Exchange) -> None:
        connection = http.client.HTTPConnection(self._upstream.netloc, timeout=60)
        connection.putrequest(
            exchange.method, exchange.target, skip_host=True, skip_accept_encoding=True
        )
        for name, text in exchange.headers.items():
            connection.putheader(name, text)
        connection.endheaders(exchange.body or None)
        answer = connection.getresponse()
        exchange.status = answer.status
        exchange.answer_headers = dict(answer.getheaders())
        exchange.answer = answer.read()
        connection.close()


@contextmanager
def before(upstream: str, certificate: Path | None = None) -> Iterator[Proxy]:
    """A proxy on a port of its own while the block lasts; with a certificate it speaks TLS."""
    proxy = Proxy(upstream)
    connected: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            connected.add(self.request)
            super().setup()

        def finish(self) -> None:
            super().finish()
            connected.discard(self.request)

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): text for name, text in self.headers.items()}
            exchange = Exchange(self.command, self.path, headers, self.rfile.read(size))
            try:
                proxy.handle(exchange)
            except Hangup:
                self.close_connection = True
                return
            self.wfile.write(_head(exchange) + exchange.answer)
            announced = exchange.answer_headers.get("Content-Length", "0")
            if self.command != "HEAD" and len(exchange.answer) != int(announced):
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    proxy.endpoint = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        for each in list(connected):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.server_close()
        thread.join(10)


def _head(exchange: Exchange) -> bytes:
    lines = [f"HTTP/1.1 {exchange.status} x"]
    lines += [
        f"{name}: {text}"
        for name, text in exchange.answer_headers.items()
        if name.lower() not in ("transfer-encoding", "connection")
    ]
    if "Content-Length" not in exchange.answer_headers:
        exchange.answer_headers["Content-Length"] = str(len(exchange.answer))
        lines.append(f"Content-Length: {len(exchange.answer)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
