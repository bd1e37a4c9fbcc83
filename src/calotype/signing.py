"""Signed URLs: stable inside a time window, so that browsers and CDNs can cache them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path

from calotype.backends import Bounds, Locates, Signs
from calotype.catalog import Catalog, copies, settings
from calotype.digest import Digest
from calotype.errors import Corrupt, Denied, Misconfigured, NotFound, UrlExpired
from calotype.model import Grant
from calotype.mounting import Mounts
from calotype.quantities import SECOND, Instant, when

SAFE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif"})
"""What browsers may show in place when nobody says otherwise: nothing in it is run."""

ROTATED_KEYS = 1
"""How many keys before the newest still verify."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes and reads the tokens of one store."""

    catalog: Catalog
    mounts: Mounts
    public_url: str | None

    def url(self, scope: str, digest: Digest, expires: int, disposition: str | None) -> str:
        """A URL for an asset that is visible now; ``expires`` (microseconds) is its least life.

        Under ``public_url`` it ends at the next multiple of ``expires`` after that, and is the
        same text all through one multiple. Without ``public_url`` it is the backend's own signed
        URL, which ends so as well, or sooner where that bounds it; or the file's own ``file://``
        URL, which has no end. It keeps nothing alive.
        """
        if expires < SECOND:
            raise Misconfigured("A URL lives at least one second.", hint="Give expires=3600.")
        if self.public_url is None:
            return self._own_url(digest, expires, disposition)
        end = _end(self.catalog.clock(), expires, expires)
        token = self.token(Grant(scope, digest, when(end), disposition), end)
        return f"{self.public_url.rstrip('/')}/signed/{token}"

    def token(self, grant: Grant, end: Instant) -> str:
        """The grant as text: payload and HMAC-SHA-256, both base64url."""
        with self.catalog.read() as connection:
            keys = settings.signing_keys(connection)
        if not keys:
            raise Corrupt(
                "The catalog has lost the keys that sign URLs.",
                hint="'calotype url --rotate-key' makes a new one; older URLs are no longer valid.",
            )
        ident, secret = keys[0]
        fields = [1, ident, end // SECOND, grant.scope, grant.digest, grant.disposition]
        payload = _text(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())
        return f"{payload}.{_mac(secret, payload)}"

    def verify(self, token: str) -> Grant:
        """The grant that a token or a whole URL holds.

        ``Denied`` for a token of no key of ours, ``UrlExpired`` once its time is over.
        """
        payload, _, mac = token.rsplit("/", 1)[-1].partition(".")
        if not token.isascii():
            raise _denied()
        version, ident, end, scope, digest, disposition = _fields(payload)
        with self.catalog.read() as connection:
            secret = dict(settings.signing_keys(connection)).get(str(ident))
        if version != 1 or secret is None:
            raise _denied()
        if not hmac.compare_digest(_mac(secret, payload).encode(), mac.encode()):
            raise _denied()
        now = self.catalog.clock()
        if end * SECOND <= now:
            raise UrlExpired(
                f"The URL ended at {when(end * SECOND):%Y-%m-%d %H:%M:%S}Z; "
                f"the server's clock says {when(now):%Y-%m-%d %H:%M:%S}Z.",
                hint="Ask for a new one.",
            )
        return Grant(scope, Digest(digest), when(end * SECOND), disposition)

    def rotate(self) -> None:
        """Sign with a new key from now on; the one before still verifies, older ones do not."""
        with self.catalog.write() as connection:
            settings.add_signing_key(connection, self.catalog.clock(), keep=ROTATED_KEYS)

    def _own_url(self, digest: Digest, expires: int, disposition: str | None) -> str:
        """A URL of a backend's own that has the digest; the first that can make one."""
        with self.catalog.read() as connection:
            found = copies.live_anywhere(connection, [digest])
        if not found:
            raise NotFound(f"No bytes of {digest}.", hint="Put the file again.")
        found = [copy for copy in found if not copy.suspect] or found
        for mount in self.mounts.all:
            for copy in found:
                if copy.backend != mount.name:
                    continue
                if isinstance(mount.backend, Signs):
                    longest = (
                        mount.backend.longest_url if isinstance(mount.backend, Bounds) else None
                    )
                    window = expires if longest is None else min(expires, longest - expires)
                    end = _end(self.catalog.clock(), expires, max(window, SECOND))
                    kind = copy.blob.media_type
                    shown = disposition or ("inline" if kind in SAFE else "attachment")
                    return mount.backend.sign(copy.key, end, media_type=kind, disposition=shown)
                if isinstance(mount.backend, Locates):
                    return Path(mount.backend.path(copy.key)).as_uri()
        raise Misconfigured(
            f"The backend {self.mounts.primary.url} has no URLs of its own.",
            hint="Set public_url to where 'calotype serve' answers.",
        )


def _end(now: Instant, expires: int, window: int) -> Instant:
    """``expires`` after the end of the window that ``now`` is in."""
    return (now // window + 1) * window + expires


def _mac(secret: bytes, payload: str) -> str:
    """Of the payload's text, so that a token has no second spelling."""
    return _text(hmac.new(secret, payload.encode(), hashlib.sha256).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _fields(payload: str) -> tuple[int, str, int, str, str, str | None]:
    """What stands in a token that nobody has verified yet."""
    try:
        data = base64.b64decode(payload + "=" * (-len(payload) % 4), altchars=b"-_", validate=True)
        version, ident, end, scope, digest, disposition = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        raise _denied() from None
    return version, ident, end, scope, digest, disposition


def _denied() -> Denied:
    return Denied("The URL's token was not signed by this store.", hint="Ask for a new one.")
