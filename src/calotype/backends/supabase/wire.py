"""The wire to Supabase Storage: one HTTP client with the key, and how often it asks again."""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from json import loads
from typing import TypeVar

from calotype.backends.supabase.place import Place
from calotype.backends.supabase.refusals import Passing, Refusal
from calotype.errors import Misconfigured, MissingExtra, Unavailable

try:
    import httpx
except ImportError as error:
    raise MissingExtra(
        "The Supabase backend needs httpx.", hint="Run pip install 'calotype[supabase]'."
    ) from error

_T = TypeVar("_T")

KEPT_ALIVE = 32
"""Connections that stay open between requests; as many more are opened as are needed."""

PIECE = 1 << 16
"""Bytes of a body that are given to the socket at a time."""

LONGEST = 64 << 20
"""Bytes of the longest answer that is no object; a page of a list has less than one."""

_BETWEEN = "Look what stands between here and there: a proxy, a login page, another server."
_NONE: Mapping[str, str] = {}
_NO_CODES: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds.

    ``connecting`` and ``silence`` (no byte either way) end one request. A request that failed for
    now is sent again after a pause between 0 and ``pause``, which doubles up to ``longest`` (full
    jitter), until ``total`` seconds have passed since the first.
    """

    total: float = 45
    pause: float = 0.25
    longest: float = 8
    connecting: float = 10
    silence: float = 60

    def attempts(self) -> Iterator[None]:
        """Once for each request to send, with the pauses between them; at least one."""
        end = time.monotonic() + self.total
        most = self.pause
        while True:
            yield
            wait = random.uniform(0, most)
            if time.monotonic() + wait > end:
                return
            time.sleep(wait)
            most = min(2 * most, self.longest)

    def bear(self, do: Callable[[], _T]) -> _T:
        """What ``do`` returns, called again while it raises ``Passing`` and patience lasts."""
        for _ in self.attempts():
            try:
                return do()
            except Passing as error:
                failure = error
        raise failure


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said to one request, with its whole body."""

    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Requests to one place, with the key. Safe for threads, and after a fork."""

    def __init__(self, place: Place, key: str, patience: Patience) -> None:
        self.place = place
        self.patience = patience
        self._headers = {
            "authorization": f"Bearer {key}",
            "apikey": key,
            "accept-encoding": "identity",  # the length that is announced is the object's own
        }
        self._made: tuple[int, httpx.Client] | None = None

    def hasty(self, total: float) -> Wire:
        """Over the same connections, but with patience for so many seconds at most."""
        self._client()  # which both have
        other = copy(self)
        other.patience = replace(self.patience, total=min(total, self.patience.total))
        return other

    def path(self, route: str, name: str = "") -> str:
        """``/route/bucket/name``, or of the bucket alone."""
        return f"/{route}/{self.place.bucket}{'/' if name else ''}{name}"

    def ask(
        self, method: str, path: str, name: str, json: Mapping[str, object] | None = None
    ) -> Mapping[str, object]:
        """The JSON object that a request is answered with, which is harmless to repeat.

        ``name`` is what it is about, in errors.
        """
        return self.patience.bear(lambda: self.said(self.once(method, path, name, json=json)))

    def said(self, answer: Answer) -> Mapping[str, object]:
        """The JSON object of an answer."""
        try:
            found = loads(answer.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):  # or one that was cut off, so it is asked for again
            raise Passing(str(strange(self.place, "no JSON object")), hint=_BETWEEN)
        return found

    def once(
        self,
        method: str,
        path: str,
        name: str,
        *,
        json: Mapping[str, object] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] = _NONE,
        codes: Mapping[int, str] = _NO_CODES,
        silence: float | None = None,
    ) -> Answer:
        """The answer to one request; ``Passing`` where it may have been done or not."""
        request = self._client().build_request(
            method,
            self.place.endpoint + path,
            json=json,
            content=content if content is None or len(content) <= PIECE else _pieces(content),
            headers={**headers, **_length(content)},
            timeout=self._timeout(silence),
        )
        return self._accepted(self._send(request), name, codes)

    def stream(self, path: str, name: str, headers: Mapping[str, str]) -> httpx.Response:
        """The answer to a GET whose body is still to be read; the caller closes it."""
        request = self._client().build_request(
            "GET", self.place.endpoint + path, headers=dict(headers), timeout=self._timeout()
        )
        response = self._send(request)
        if not response.is_success:
            self._accepted(response, name, _NO_CODES)
        return response

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client().send(request, stream=True)
        except httpx.RequestError as error:
            raise silent(self.place, error) from error

    def _accepted(self, response: httpx.Response, name: str, codes: Mapping[int, str]) -> Answer:
        """The answer with its body, unless it is a refusal."""
        try:
            body = self._body(response)
        except httpx.RequestError as error:
            raise silent(self.place, error) from error
        finally:
            response.close()
        if response.is_success:
            return Answer(response.headers, body)
        raise Refusal.of(response.status_code, body, codes).error(self.place, name)

    def _body(self, response: httpx.Response) -> bytes:
        """What was answered; no answer may be without end, in bytes or in time."""
        body = bytearray()
        end = time.monotonic() + self.patience.silence
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > LONGEST:
                raise strange(self.place, f"more than {LONGEST} bytes")
            if time.monotonic() > end:
                raise Passing(f"{self.place.endpoint} answers too slowly.", hint="Try again.")
        return bytes(body)

    def _timeout(self, silence: float | None = None) -> httpx.Timeout:
        return httpx.Timeout(silence or self.patience.silence, connect=self.patience.connecting)

    def _client(self) -> httpx.Client:
        """The client, made on first use; a forked child makes one of its own."""
        made = self._made
        if made is None or made[0] != os.getpid():
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_ALIVE)
            try:
                made = os.getpid(), httpx.Client(headers=self._headers, limits=limits)
            except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
                raise Misconfigured(
                    f"No HTTP client can be made here ({type(error).__name__}).",
                    hint="Correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE.",
                ) from error
            weakref.finalize(self, _close, *made)
            self._made = made
        return made[1]


def _close(pid: int, client: httpx.Client) -> None:
    if pid == os.getpid():
        client.close()


def _pieces(content: bytes) -> Iterator[bytes]:
    """A body in pieces that sockets take: of a large one they would copy the rest over and over."""
    view = memoryview(content)
    return (bytes(view[at : at + PIECE]) for at in range(0, len(view), PIECE))


def _length(content: bytes | None) -> Mapping[str, str]:
    return {} if content is None else {"content-length": str(len(content))}


def silent(place: Place, error: httpx.RequestError) -> Passing:
    """The error for a request that got no answer, or half of one."""
    why = str(error) or type(error).__name__
    return Passing(
        f"{place.endpoint} did not answer: {why}.",
        hint="Check the network and the backend's URL; nothing that was acknowledged is lost.",
    )


def strange(place: Place, what: str) -> Unavailable:
    """The error for an answer that is none of Supabase Storage."""
    return Unavailable(
        f"{place.endpoint} gave an answer that cannot be right: {what}.",
        hint=_BETWEEN,
    )
