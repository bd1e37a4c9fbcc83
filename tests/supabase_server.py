"""Supabase Storage as its clients meet it, in this process: the routes that we use, with the quirks.

An HTTP/1.1 server on a thread of its own, on the loopback address. Objects are in memory. It asks
for the key on every route, as the real one does, and it can be told to fail: see ``Fault``.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import hmac
import json
import re
import secrets
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

VALID_KEY = re.compile(r"(\w|/|!|-|\.|\*|'|\(|\)| |&|\$|@|=|;|:|\+|,|\?)+", re.ASCII)
BASE = "/storage/v1"


@dataclass
class Stored:
    content: bytes
    kind: str = "application/octet-stream"
    metadata: dict | None = None
    caching: str = "no-cache"
    version: str = field(default_factory=lambda: str(uuid.uuid4()))
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))
    bytes_lost: bool = False

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'


@dataclass
class Bucket:
    public: bool = False
    file_size_limit: int | None = None
    allowed_mime_types: list[str] | None = None
    objects: dict[str, Stored] = field(default_factory=dict)


@dataclass
class Resumed:
    """An upload that goes on."""

    bucket: str
    name: str
    size: int
    metadata: dict[str, str]
    content: bytearray = field(default_factory=bytearray)


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests that ``route`` (a pattern) matches.

    ``refuse`` answers ``status`` and does nothing · ``early`` does so before it reads the body ·
    ``lose`` does the work and ends the connection · ``reset`` ends it after ``after`` bytes of the
    request's body · ``cut`` after as many of the answer's · ``clip`` ends the answer there as if
    that were all · ``slow`` waits ``seconds`` · ``unsized`` leaves the length out · ``drop`` does
    not do the work and says that it did · ``drip`` sends a byte each ``seconds`` · ``other`` sends ``body`` in place of the answer.
    """

    does: str
    route: str = ""
    times: int = 1
    status: int = 503
    after: int = 0
    seconds: float = 0.0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    by_gate = False

    def __init__(self, status: int, code: str, message: str, error: str = "") -> None:
        self.status, self.code, self.message, self.error = status, code, message, error or code


NO_KEY = Refused(404, "NoSuchKey", "Object not found", "not_found")
NO_BUCKET = Refused(404, "NoSuchBucket", "Bucket not found", "Bucket not found")
NO_API_KEY = Refused(401, "", "No API key found in request", "Unauthorized")
DUPLICATE = Refused(409, "KeyAlreadyExists", "The resource already exists", "Duplicate")


class Gone(Exception):
    """The connection is over."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.storage.connections += 1

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, Gone):
            super().handle_one_request()
            return
        self.close_connection = True

    def answer(self) -> None:
        self.storage = self.server.storage
        self.fault = self.storage._due(f"{self.command} {self.path}")
        self.storage.asked.append(f"{self.command} {self.path}")
        self.left = int(self.headers.get("content-length", 0))
        if self.fault.does == "slow":
            time.sleep(self.fault.seconds)
        try:
            if self.fault.does in ("refuse", "early"):
                self.refuse()
            elif self.fault.does == "drop":
                self.body()
                self.reply(200, {"Key": "", "Id": ""})
            else:
                self.route()
        except Refused as said:
            self.body()
            self.say(said)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    # -- what goes over the wire ------------------------------------------------------------

    def refuse(self) -> None:
        if self.fault.does == "early":
            self.close_connection = True
        else:
            self.body()
        body = self.fault.body or b"<html>Service Unavailable</html>"
        self.send(self.fault.status, {"content-type": "text/html", **self.fault.headers}, body)

    def say(self, said: Refused) -> None:
        """Almost every refusal has the status 400; a HEAD has no body to say more in."""
        at_gate = said.by_gate or said is NO_API_KEY
        if self.path.startswith(f"{BASE}/upload/resumable") and not at_gate:
            self.send(said.status, {"content-type": "text/plain"}, said.message.encode())
        else:
            facts = {
                "statusCode": str(said.status),
                "error": said.error,
                "message": said.message,
                "code": said.code,
            }
            status = said.status if said.status in (401, 429, 500, 544) else 400
            self.reply(status, {key: value for key, value in facts.items() if value})

    def reply(self, status: int, facts: object) -> None:
        self.send(status, {"content-type": "application/json"}, json.dumps(facts).encode())

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        does, after = self.fault.does, self.fault.after
        if does == "lose":
            self.end()
        if does == "other":
            body = self.fault.body
            headers |= self.fault.headers
        unsized = does in ("clip", "unsized") and body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if unsized:
            self.send_header("transfer-encoding", "chunked")
        elif status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if unsized:
            body = body[:after] if does == "clip" else body
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        else:
            for part in (
                dripping(body) if does == "drip" else [body[:after] if does == "cut" else body]
            ):
                self.wfile.write(part)
                time.sleep(self.fault.seconds if does == "drip" else 0)
        if does == "cut" and after < len(body):
            self.end()

    def end(self) -> None:
        """Reset the connection."""
        linger = struct.pack("ii", 1, 0) if self.fault.does == "reset" else struct.pack("ii", 0, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.close()
        raise Gone

    def chunks(self) -> Iterator[bytes]:
        """The request's body as it comes; the connection may end before it does."""
        taken = 0
        while self.left:
            most = min(self.left, 1 << 16)
            if self.fault.does == "reset":
                most = min(most, self.fault.after - taken)
                if not most:
                    self.end()
            chunk = self.rfile.read(most)
            if not chunk:
                raise Gone
            self.left -= len(chunk)
            taken += len(chunk)
            yield chunk
        if self.fault.does == "reset":
            self.end()

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def facts(self) -> dict:
        return json.loads(self.body() or b"{}")

    # -- who asks ---------------------------------------------------------------------------

    def role(self) -> str:
        """The role that the key has; ``AccessDenied`` for none that fits."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            return self.storage.claims(bearer)["role"]
        except (ValueError, KeyError):
            refused = Refused(403, "AccessDenied", "invalid signature", "Unauthorized")
            refused.by_gate = True
            raise refused from None

    def writer(self) -> None:
        if self.role() != "service_role":
            message = "new row violates row-level security policy"
            raise Refused(403, "AccessDenied", message, "Unauthorized")

    # -- routes -----------------------------------------------------------------------------

    def route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith(f"{BASE}/"):
            self.body()
            self.reply(
                404, {"message": f"Route {self.command}:{path} not found", "statusCode": 404}
            )
            return
        at = f"{self.command} {path.removeprefix(BASE)}"
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, at):
                if route not in FOR_ANYBODY and not self.headers.get("apikey"):
                    raise NO_API_KEY
                route(self, *found.groups())
                return
        self.reply(
            404, {"message": f"Route {at} not found", "error": "Not Found", "statusCode": 404}
        )

    def bucket(self, name: str) -> Bucket:
        try:
            return self.storage.buckets[name]
        except KeyError:
            raise NO_BUCKET from None

    def stored(self, bucket: str, name: str) -> Stored:
        """Row-level security hides what the role may not see: it is answered as missing."""
        valid(name)
        found = self.bucket(bucket).objects.get(name)
        if found is None or (not self.bucket(bucket).public and self.role() != "service_role"):
            raise NO_KEY
        return found

    def get_bucket(self, name: str) -> None:
        self.role()
        found = self.bucket(name)
        limits = {"file_size_limit": found.file_size_limit, "public": found.public}
        self.reply(200, {"id": name, "name": name, **limits})

    def make_bucket(self) -> None:
        self.writer()
        facts = self.facts()
        limits = {key: facts.get(key) for key in ("file_size_limit", "allowed_mime_types")}
        self.storage.buckets[facts["name"]] = Bucket(bool(facts.get("public")), **limits)
        self.reply(200, {"name": facts["name"]})

    def create(self, bucket: str, name: str) -> None:
        self.writer()
        self.upload(bucket, name, self.headers.get("x-upsert") == "true")

    def update(self, bucket: str, name: str) -> None:
        self.writer()
        self.upload(bucket, name, True)

    def upload(self, bucket: str, name: str, upsert: bool) -> None:
        """Not atomic: whether it is there is looked up first, and it is written in the end."""
        valid(name)
        if not upsert and name in self.bucket(bucket).objects:
            raise DUPLICATE
        kind = self.headers.get("content-type", "application/octet-stream")
        size = self.left
        said = self.headers.get("x-metadata", "")
        metadata = json.loads(base64.b64decode(said)) if said else {}
        made = Stored(self.body(), kind, metadata, self.headers.get("cache-control", "no-cache"))
        admit(self.bucket(bucket), kind, size)
        self.storage.before_writing()
        self.bucket(bucket).objects[name] = made
        self.reply(200, {"Key": f"{bucket}/{name}", "Id": str(uuid.uuid4())})

    def read(self, bucket: str, name: str) -> None:
        self.role()
        self.render(self.stored(bucket, name))

    def read_signed(self, bucket: str, name: str) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        claims = self.storage.signed(query["token"][0], f"{bucket}/{name}")
        headers = {"expires": datetime.fromtimestamp(claims["exp"], UTC).isoformat()}
        if "download" in query:
            name = query["download"][0]
            headers["content-disposition"] = (
                f"attachment; filename={name};" if name else "attachment;"
            )
        found = self.bucket(bucket).objects.get(name_of(claims))
        if found is None:
            raise NO_KEY
        self.render(found, headers)

    def render(self, found: Stored, headers: dict[str, str] | None = None) -> None:
        if found.bytes_lost:
            said = {
                "error": "Not found",
                "message": "The resource was not found",
                "statusCode": "404",
            }
            self.reply(400, said)
            return
        etag = found.etag
        if self.headers.get("if-none-match") == etag:
            self.send(304, {"etag": etag})
            return
        headers = headers or {"cache-control": found.caching}
        headers |= {"etag": etag, "content-type": found.kind, "accept-ranges": "bytes"}
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if not ranged and "gzip" in self.headers.get("accept-encoding", ""):
            # As what stands before the service does.
            packed = headers | {"content-encoding": "gzip"}
            self.send(200, packed, gzip.compress(found.content))
            return
        if not ranged:
            self.send(200, headers, found.content)
            return
        size = len(found.content)
        first, last = int(ranged[1]), min(int(ranged[2] or size), size - 1)
        if first >= size:
            raise Refused(500, "", "Internal Server Error", "Internal")
        headers["content-range"] = f"bytes {first}-{last}/{size}"
        self.send(206, headers, found.content[first : last + 1])

    def head(self, bucket: str, name: str) -> None:
        self.role()
        found = self.stored(bucket, name)
        self.send(200, {"etag": found.etag}, found.content)

    def info(self, bucket: str, name: str) -> None:
        self.role()
        found = self.stored(bucket, name)
        facts = {
            "name": name,
            "version": found.version,
            "size": len(found.content),
            "content_type": found.kind,
            "etag": found.etag,
            "metadata": found.metadata,
        }
        self.reply(200, facts)

    def info_for_anybody(self, bucket: str, name: str) -> None:
        """A key that does not fit is nobody's here, and nobody sees a private bucket."""
        try:
            self.role()
        except Refused:
            if bucket not in self.storage.buckets or not self.bucket(bucket).public:
                raise NO_BUCKET from None
        self.info(bucket, name)

    def sign(self, bucket: str, name: str) -> None:
        self.writer()
        seconds = self.facts()["expiresIn"]
        self.stored(bucket, name)
        token = self.storage.token({"url": f"{bucket}/{name}"}, seconds)
        self.reply(200, {"signedURL": f"/object/sign/{bucket}/{name}?token={token}"})

    def sign_many(self, bucket: str) -> None:
        self.writer()
        facts = self.facts()
        rows = []
        for name in facts["paths"]:
            token = self.storage.token({"url": f"{bucket}/{name}"}, facts["expiresIn"])
            there = name in self.bucket(bucket).objects
            url = f"/object/sign/{bucket}/{name}?token={token}" if there else None
            rows.append({"path": name, "signedURL": url, "error": None if there else "not there"})
        self.reply(200, rows)

    def sign_upload(self, bucket: str, name: str) -> None:
        self.writer()
        self.body()
        valid(name)
        if name in self.bucket(bucket).objects:
            raise DUPLICATE
        token = self.storage.token({"url": f"{bucket}/{name}", "upload": True}, 7200)
        url = f"/object/upload/sign/{bucket}/{name}?token={token}"
        self.reply(200, {"url": url, "token": token})

    def upload_signed(self, bucket: str, name: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.storage.signed(query["token"][0], f"{bucket}/{name}")
        self.upload(bucket, name, False)

    def list(self, bucket: str) -> None:
        """A bucket that is not there has an empty list. Names go by their bytes."""
        role = self.role()
        asked = self.facts()
        hidden = role != "service_role"
        objects = {} if hidden else getattr(self.storage.buckets.get(bucket), "objects", {})
        pattern = re.escape(asked.get("prefix", "")).replace("_", ".")  # LIKE, unescaped
        after = base64.b64decode(asked.get("cursor", "")).decode()
        names = sorted(each for each in list(objects) if re.match(pattern, each) and each > after)
        limit = min(asked.get("limit", 1000), self.storage.page)
        page = [(name, objects.get(name)) for name in names[:limit]]
        rows = [
            {
                "id": found.version,
                "name": name,
                "updated_at": found.updated.isoformat().replace("+00:00", "Z"),
                "metadata": {"size": len(found.content), "eTag": found.etag},
            }
            for name, found in page
            if found is not None
        ]
        answer = {"hasNext": len(names) > limit, "folders": [], "objects": rows}
        if len(names) > limit:
            answer["nextCursor"] = base64.b64encode(names[limit - 1].encode()).decode()
        self.reply(200, answer)

    def delete(self, bucket: str, name: str) -> None:
        self.writer()
        if self.bucket(bucket).objects.pop(name, None) is None:
            raise NO_KEY
        self.reply(200, {"message": "Successfully deleted"})

    def delete_many(self, bucket: str) -> None:
        """The rows that it deleted; of a bucket that is not there, or for a role that may not: none."""
        hidden = self.role() != "service_role"
        names = self.facts()["prefixes"]
        objects = {} if hidden else getattr(self.storage.buckets.get(bucket), "objects", {})
        gone = [name for name in names if objects.pop(name, None) is not None]
        self.reply(200, [{"name": name, "bucket_id": bucket} for name in gone])

    # -- resumable uploads ------------------------------------------------------------------

    def tus_create(self) -> None:
        """Creation, and creation-with-upload: what its body has is the first of the content."""
        self.writer()
        pairs = (each.split(" ") for each in self.headers["upload-metadata"].split(","))
        said = {name: base64.b64decode(value).decode() for name, value in pairs}
        bucket, name = said["bucketName"], said["objectName"]
        valid(name)
        size = int(self.headers["upload-length"])
        admit(self.bucket(bucket), said["contentType"], size)
        ident = base64.urlsafe_b64encode(f"{bucket}/{name}/{uuid.uuid4()}".encode()).decode()
        ident = ident.rstrip("=")
        going = self.storage.uploads[ident] = Resumed(bucket, name, size, said)
        if self.left:
            self.take(ident, going)
        headers = {
            "location": f"https://{self.headers['host']}/upload/resumable/{ident}",
            "upload-offset": str(len(going.content)),
            "tus-resumable": "1.0.0",
        }
        self.send(201, headers)

    def tus(self, ident: str) -> Resumed:
        try:
            return self.storage.uploads[ident]
        except KeyError:
            raise Refused(404, "", "The file for this url was not found") from None

    def tus_patch(self, ident: str) -> None:
        self.writer()
        going = self.tus(ident)
        if int(self.headers["upload-offset"]) != len(going.content):
            raise Refused(409, "", "Upload-Offset conflict")
        if (
            self.headers.get("x-upsert") != "true"
            and going.name in self.bucket(going.bucket).objects
        ):
            raise DUPLICATE
        self.take(ident, going)
        self.send(204, {"upload-offset": str(len(going.content)), "tus-resumable": "1.0.0"})

    def take(self, ident: str, going: Resumed) -> None:
        """The request's body is what comes next; the last of it makes the object."""
        for chunk in self.chunks():
            going.content += chunk
        if len(going.content) == going.size:
            if self.storage.failing_completions:
                self.storage.failing_completions -= 1
                raise Refused(500, "", "The connection to the database timed out")
            metadata = json.loads(going.metadata.get("metadata", "{}"))
            caching = going.metadata.get("cacheControl", "no-cache")
            kind = going.metadata["contentType"]
            made = Stored(going.content, kind, metadata, caching)
            self.bucket(going.bucket).objects[going.name] = made
            if self.storage.forgets_uploads:
                del self.storage.uploads[ident]

    def tus_head(self, ident: str) -> None:
        offset = len(self.tus(ident).content)
        self.send(200, {"upload-offset": str(offset), "tus-resumable": "1.0.0"})

    def tus_delete(self, ident: str) -> None:
        self.writer()
        self.tus(ident)
        del self.storage.uploads[ident]
        self.send(204, {"tus-resumable": "1.0.0"})


ROUTES: list[tuple[str, Callable]] = [
    (r"POST /bucket", Handler.make_bucket),
    (r"GET /bucket/([^/]+)", Handler.get_bucket),
    (r"POST /object/list-v2/([^/]+)", Handler.list),
    (r"POST /object/upload/sign/([^/]+)/(.+)", Handler.sign_upload),
    (r"PUT /object/upload/sign/([^/]+)/(.+)", Handler.upload_signed),
    (r"POST /object/sign/([^/]+)", Handler.sign_many),
    (r"POST /object/sign/([^/]+)/(.+)", Handler.sign),
    (r"GET /object/sign/([^/]+)/(.+)", Handler.read_signed),
    (r"GET /object/authenticated/([^/]+)/(.+)", Handler.read),
    (r"HEAD /object/authenticated/([^/]+)/(.+)", Handler.head),
    (r"GET /object/info/authenticated/([^/]+)/(.+)", Handler.info),
    (r"GET /object/info/([^/]+)/(.+)", Handler.info_for_anybody),
    (r"POST /object/([^/]+)/(.+)", Handler.create),
    (r"PUT /object/([^/]+)/(.+)", Handler.update),
    (r"DELETE /object/([^/]+)/(.+)", Handler.delete),
    (r"DELETE /object/([^/]+)", Handler.delete_many),
    (r"POST /upload/resumable", Handler.tus_create),
    (r"PATCH /upload/resumable/(.+)", Handler.tus_patch),
    (r"HEAD /upload/resumable/(.+)", Handler.tus_head),
    (r"DELETE /upload/resumable/(.+)", Handler.tus_delete),
]

FOR_ANYBODY = (Handler.read_signed, Handler.upload_signed)
"""What a token in the URL is enough for."""


def valid(name: str) -> None:
    if not VALID_KEY.fullmatch(name):
        raise Refused(400, "InvalidKey", f"Invalid key: {name}")


def admit(bucket: Bucket, kind: str, size: int) -> None:
    if bucket.allowed_mime_types is not None and kind not in bucket.allowed_mime_types:
        message = f"mime type {kind} is not supported"
        raise Refused(415, "InvalidMimeType", message, "invalid_mime_type")
    if bucket.file_size_limit is not None and size > bucket.file_size_limit:
        message = "The object exceeded the maximum allowed size"
        raise Refused(413, "EntityTooLarge", message, "Payload too large")


def dripping(body: bytes) -> Iterator[bytes]:
    return (body[n : n + 1] for n in range(len(body)))


def name_of(claims: dict) -> str:
    return claims["url"].partition("/")[2]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    storage: Supabase

    def handle_error(self, *_: object) -> None:
        pass


class Supabase:
    """A running server. ``with Supabase() as storage:`` ends it."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.uploads: dict[str, Resumed] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.connections = 0
        self.page = 1000
        self.failing_completions = 0
        self.forgets_uploads = False
        self.chance: Callable[[], Fault] = lambda: Fault("nothing")
        self.before_writing: Callable[[], object] = lambda: None
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.storage = self
        self.port = self._server.server_address[1]
        self.key = self.token({"role": "service_role"}, 3600)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Supabase:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE}"

    def bucket(self, **limits: object) -> str:
        """The URL of a new, empty bucket."""
        name = f"media-{uuid.uuid4().hex[:8]}"
        self.buckets[name] = Bucket(**limits)
        return f"supabase+http://127.0.0.1:{self.port}/{name}"

    def fail(self, does: str, route: str = "", **how: object) -> None:
        """Have coming requests fail: see ``Fault``."""
        with self._lock:
            self.faults.append(Fault(does, route, **how))

    def _due(self, request: str) -> Fault:
        with self._lock:
            for fault in self.faults:
                if fault.times and re.search(fault.route, request):
                    fault.times -= 1
                    return fault
            return self.chance()

    def token(self, claims: dict, seconds: int) -> str:
        """A JWT, HS256; the same in the same second."""
        now = int(time.time())
        claims = claims | {"iat": now, "exp": now + seconds}
        head, body = ({"alg": "HS256", "typ": "JWT"}, claims)
        text = ".".join(_text(json.dumps(each).encode()) for each in (head, body))
        return f"{text}.{self._mac(text)}"

    def claims(self, token: str) -> dict:
        """What a JWT says; ``ValueError`` for one that is not ours or has expired."""
        text, _, mac = token.rpartition(".")
        if not hmac.compare_digest(self._mac(text).encode(), mac.encode()):
            raise ValueError("signature")
        body = text.partition(".")[2]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if claims["exp"] < time.time():
            raise ValueError("expired")
        return claims

    def signed(self, token: str, url: str) -> dict:
        try:
            claims = self.claims(token)
        except ValueError as error:
            raise Refused(400, "InvalidJWT", str(error)) from None
        if claims.get("url") != url:
            raise Refused(400, "InvalidSignature", "Invalid signature")
        return claims

    def _mac(self, text: str) -> str:
        return _text(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@cache
def running() -> Supabase:
    """A server for this process."""
    return Supabase()
