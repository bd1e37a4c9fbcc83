"""The backend in S3 over a network that delays, loses, cuts and changes what it carries."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import proxy as network
from tests import seaweed
from tests.proxy import Fault

from calotype.backends.s3 import S3Backend, parts, wire
from calotype.backends.s3.asking import Patience
from calotype.errors import CalotypeError, Denied, Misconfigured, NotFound, Unavailable
from calotype.quantities import SECOND, now
from calotype.testing.objects import absent, key, names, noise, put, read

HOUR = 3600 * SECOND
SMALL, LARGE = noise(200_000, 1), noise(2 * parts.PART + 999_999, 2)
BRIEF = Patience(connect=2, read=1.5, total=3)

pytestmark = pytest.mark.usefixtures("s3_keys")


@pytest.fixture
def prefix() -> str:
    return f"faults/{time.time_ns()}"


@pytest.fixture
def backend(proxy, prefix) -> S3Backend:
    """Through the proxy."""
    return S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=BRIEF)


@pytest.fixture
def direct(prefix) -> S3Backend:
    """The same objects, past the proxy."""
    return S3Backend(seaweed.url(prefix=prefix))


SLOW_DOWN = network.error(503, "SlowDown")
PASSING = [
    SLOW_DOWN,
    network.error(500, "InternalError"),
    network.error(429, "TooManyRequests"),
    network.error(502),
    network.error(400, "RequestTimeout"),
    network.lose_request,
    network.lose_answer,
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(fault, proxy, backend, direct):
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        proxy.plan(fault, times=2, method=method)
    put(backend, key("a"), SMALL)
    assert read(backend, key("a")) == SMALL
    assert backend.size(key("a")) == len(SMALL)
    proxy.plan(fault, times=2, having="list-type")
    assert names(backend) == [str(key("a"))]
    backend.delete(key("a"))
    assert absent(direct, key("a"))


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for_by_each_step_of_an_upload(fault, proxy, backend, direct):
    proxy.plan(fault, times=2, method="POST", having="?uploads")
    proxy.plan(fault, times=3, method="PUT", having="partNumber")
    proxy.plan(fault, times=2, method="POST", having="?uploadId")
    put(backend, key("a"), LARGE)
    assert read(direct, key("a")) == LARGE
    assert names(direct) == [str(key("a"))]


def test_an_answer_to_completing_that_is_lost_is_found_out(proxy, backend, direct):
    proxy.plan(network.lose_answer, method="POST", having="?uploadId")
    proxy.plan(network.error(404, "NoSuchUpload"), method="POST", having="?uploadId")
    put(backend, key("a"), LARGE)
    assert proxy.count("POST", "?uploadId") == 2
    assert proxy.count("HEAD") == 1
    assert proxy.count("DELETE") == 0
    assert read(direct, key("a")) == LARGE


def test_an_upload_that_is_gone_is_not_taken_for_the_object_that_is_there(proxy, backend, direct):
    put(direct, key("a"), LARGE[::-1])
    proxy.plan(network.error(404, "NoSuchUpload"), method="POST", having="?uploadId")
    with pytest.raises(Unavailable, match="removed before its end"):
        put(backend, key("a"), LARGE)
    assert read(direct, key("a")) == LARGE[::-1]
    assert direct.sweep(now() + HOUR) == 0


@pytest.mark.parametrize("code", ["InternalError", "AccessDenied", ""])
def test_completing_that_fails_after_a_200_is_no_success(proxy, backend, direct, code):
    proxy.plan(network.error(200, code), times=99, method="POST", having="?uploadId")
    with pytest.raises(CalotypeError):
        put(backend, key("a"), LARGE)
    assert absent(direct, key("a"))
    assert direct.sweep(now() + HOUR) == 0


def test_a_failed_upload_removes_its_parts(proxy, backend, direct):
    for having in ("partNumber=2", "?uploadId"):
        proxy.plan(network.error(403, "AccessDenied"), method="", having=having)
        with pytest.raises(Denied):
            put(backend, key("a"), LARGE)
        assert absent(direct, key("a"))
        assert direct.sweep(now() + HOUR) == 0
        proxy.clear()


# -- what does not pass is never taken for "missing" ------------------------------------------


def asking(backend):
    return {
        "open": lambda: backend.open(key("a")),
        "range": lambda: backend.open(key("a"), 5, 9),
        "nothing": lambda: backend.open(key("a"), 5, 5),
        "size": lambda: backend.size(key("a")),
        "put": lambda: put(backend, key("a"), SMALL),
        "put large": lambda: put(backend, key("a"), LARGE),
        "delete": lambda: backend.delete(key("a")),
        "scan": lambda: names(backend),
        "sweep": lambda: backend.sweep(now()),
        "reach": lambda: backend.reach(),
    }


HASTY = Patience(connect=1, read=0.3, total=0.2)


@pytest.mark.parametrize("does", asking(None))
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (network.error(503, "SlowDown"), Unavailable),
        (network.error(504), Unavailable),
        (network.lose_answer, Unavailable),
        (network.lose_request, Unavailable),
        (network.error(403, "AccessDenied"), Denied),
        (network.error(403), Denied),
        (network.error(400, "ExpiredToken"), Denied),
        (network.error(403, "RequestTimeTooSkewed"), Unavailable),
        (network.error(403, "InvalidObjectState"), Unavailable),
        (network.error(404, "NoSuchBucket"), Misconfigured),
        (network.error(404), Misconfigured),
        (network.error(404, "NotFound"), Misconfigured),
        (network.error(405, "MethodNotAllowed"), Misconfigured),
        (network.error(400, "NoSuchKey"), Misconfigured),
        (
            network.error(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"}),
            Misconfigured,
        ),
        (network.error(400, "AuthorizationHeaderMalformed"), Misconfigured),
    ],
)
def test_what_does_not_pass_is_told_and_never_missing(does, fault, kind, proxy, prefix):
    backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=HASTY)
    proxy.plan(fault, times=999)
    with pytest.raises(kind) as told:
        asking(backend)[does]()
    assert told.value.hint.endswith(("?", "."))
    assert prefix in str(told.value)


def test_a_service_that_never_answers_is_unavailable(proxy, prefix):
    backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=HASTY)
    over = threading.Event()
    proxy.plan(network.held(over), times=999)
    try:
        for does in ("open", "size", "put", "delete", "scan", "reach"):
            begun = time.monotonic()
            with pytest.raises(Unavailable, match="in time"):
                asking(backend)[does]()
            assert time.monotonic() - begun < 7
    finally:
        over.set()


def test_a_service_that_takes_no_bytes_is_unavailable(prefix):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as deaf:
        port = deaf.getsockname()[1]
        backend = S3Backend(seaweed.url(f"http://127.0.0.1:{port}", prefix=prefix), patience=HASTY)
        with pytest.raises(Unavailable, match="in time"):
            put(backend, key("a"), LARGE[: parts.PART])


def test_a_wrong_region_says_what_to_write(proxy, backend):
    answer = network.error(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"})
    for does in ("size", "put", "open"):
        proxy.plan(answer, times=99)
        with pytest.raises(Misconfigured, match="not in us-east-1") as told:
            asking(backend)[does]()
        assert told.value.hint == "Write region=eu-west-1 in its URL."


def test_what_is_missing_is_missing_only_by_its_code(proxy, backend):
    assert backend.size(key("a")) is None
    assert proxy.count("HEAD") == 1
    assert proxy.count("GET") == 1
    proxy.plan(network.error(404), method="GET")
    with pytest.raises(Misconfigured):
        backend.size(key("a"))
    proxy.plan(network.error(503), times=99, method="GET")
    with pytest.raises(Unavailable):
        backend.size(key("a"))


def rewritten(old: bytes, new: bytes) -> Fault:
    """The answer has ``new`` where ``old`` was; all of it is new where ``old`` is empty."""

    def fault(exchange, forward):
        forward()
        assert old in exchange.answer
        exchange.answer = exchange.answer.replace(old, new) if old else new
        exchange.answer_headers["Content-Length"] = str(len(exchange.answer))

    return fault


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b"<html><body>It works!"),
        (b"", b"<html><body>It works!</body></html>"),
        (b"", b""),
        (b"<IsTruncated>false</IsTruncated>", b"<IsTruncaued>false</IsTruncaued>"),
        (b"<IsTruncated>false", b"<IsTruncated>falre"),
        (b"Contents>", b"Cnntents>"),
        (b"<Size>200000", b"<Size>2x0000"),
        (b"<LastModified>20", b"<LastModified>2x"),
        (b"<Key>", b"<Key/><Kez>"),
    ],
)
def test_a_page_that_is_no_list_of_s3s_is_not_an_empty_one(proxy, prefix, direct, old, new):
    put(direct, key("a"), SMALL)
    backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=HASTY)
    proxy.plan(rewritten(old, new), times=99)
    with pytest.raises(Unavailable, match="no document of S3's"):
        names(backend)
    proxy.clear()
    proxy.plan(rewritten(old, new))
    patient = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix))
    assert names(patient) == [str(key("a"))]


def test_an_upload_without_an_id_is_not_begun(proxy, prefix):
    backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=HASTY)
    proxy.plan(rewritten(b"", b"<html></html>"), times=99)
    with pytest.raises(Unavailable, match="no document of S3's"):
        put(backend, key("a"), LARGE)


@pytest.mark.parametrize("mark", [b"", b"<NextContinuationToken>x</NextContinuationToken>"])
def test_a_list_that_goes_on_for_ever_is_ended(proxy, backend, mark):
    proxy.plan(
        rewritten(b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>" + mark),
        times=99,
    )
    with pytest.raises(Misconfigured, match="where its list goes on"):
        names(backend)


def test_a_list_out_of_order_is_refused(proxy, backend, direct):
    first, second = sorted(str(key(name)) for name in "ab")
    for name in "ab":
        put(direct, key(name), SMALL)

    def turned(exchange, forward):
        forward()
        text = exchange.answer.decode()
        text = text.replace(first, "@@").replace(second, first).replace("@@", second)
        exchange.answer = text.encode()

    proxy.plan(turned)
    with pytest.raises(Misconfigured, match="in no order"):
        names(backend)


def test_a_size_that_head_does_not_tell_is_asked_for_again(proxy, backend, direct):
    def silent(exchange, forward):
        forward()
        exchange.answer_headers["Content-Length"] = "many"

    put(direct, key("a"), SMALL)
    proxy.plan(silent, method="HEAD")
    assert backend.size(key("a")) == len(SMALL)


# -- bytes that change or get lost on the way -------------------------------------------------


def test_a_bit_that_flips_on_the_way_up_is_sent_again(proxy, backend, direct):
    proxy.plan(network.flip_up, times=2, method="PUT")
    put(backend, key("a"), SMALL)
    assert proxy.count("PUT") == 3
    assert read(direct, key("a")) == SMALL


def test_a_bit_that_always_flips_on_the_way_up_makes_no_object(proxy, backend, direct):
    proxy.plan(network.flip_up, times=999, method="PUT")
    for content in (SMALL, LARGE):
        with pytest.raises(Unavailable, match="BadDigest|Mismatch"):
            put(backend, key("a"), content)
        assert absent(direct, key("a"))
    assert direct.sweep(now() + HOUR) == 0


def test_a_bit_that_flips_in_a_part_is_sent_again(proxy, backend, direct):
    proxy.plan(network.flip_up, times=2, method="PUT", having="partNumber")
    put(backend, key("a"), LARGE)
    assert read(direct, key("a")) == LARGE


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_download_that_is_cut_goes_on_where_it_was(proxy, backend, direct, content):
    put(direct, key("a"), content)
    proxy.plan(network.cut, times=3, method="GET")
    assert read(backend, key("a")) == content
    assert proxy.count("GET") == 4
    if content is LARGE:
        asked = [each.headers for each in proxy.seen]
        assert all("if-match" in each and "range" in each for each in asked[1:])


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_download_that_is_always_cut_never_ends_cleanly(proxy, backend, direct, content):
    def nothing_more(exchange, forward):
        forward()
        exchange.answer = b""

    put(direct, key("a"), content)
    proxy.plan(network.cut, method="GET")
    proxy.plan(nothing_more, times=999, method="GET")
    with pytest.raises(Unavailable), backend.open(key("a")) as file:
        file.read()


@pytest.mark.parametrize("change", ["replaced", "deleted", "same"])
def test_a_download_that_is_cut_never_goes_on_with_another_object(proxy, backend, direct, change):
    put(direct, key("a"), LARGE)
    proxy.plan(network.cut, method="GET")
    with backend.open(key("a")) as file:
        begun = file.read(10)
        if change == "replaced":
            put(direct, key("a"), LARGE[::-1])
        elif change == "deleted":
            direct.delete(key("a"))
        else:
            put(direct, key("a"), LARGE)
            assert begun + file.read() == LARGE
            return
        with pytest.raises((Unavailable, NotFound)):
            file.read()


def test_another_part_than_was_asked_for_is_refused(proxy, backend, direct):
    put(direct, key("a"), LARGE)

    def whole(exchange, forward):
        del exchange.headers["range"]
        forward()

    def elsewhere(exchange, forward):
        forward()
        said = exchange.answer_headers["Content-Range"]
        exchange.answer_headers["Content-Range"] = said.replace("bytes 5-", "bytes 6-")

    for fault in (whole, elsewhere):
        proxy.plan(fault, method="GET", header="range")
        with pytest.raises(CalotypeError):
            read(backend, key("a"), 5, 2_000_000)


def test_a_bit_that_flips_on_the_way_down_is_for_the_reader_to_find(proxy, backend, direct):
    put(direct, key("a"), SMALL)
    proxy.plan(network.flip_down, method="GET")
    assert read(backend, key("a")) != SMALL
    assert read(backend, key("a")) == SMALL


# -- what arrives late ------------------------------------------------------------------------


def test_a_put_that_arrives_late_makes_the_whole_object_or_none(proxy, backend, direct):
    """Whose key it is, is fenced by the catalog; here it is whole, and can be deleted again."""
    gate = threading.Event()
    proxy.plan(network.held(gate, lost=True), method="PUT")
    proxy.plan(network.error(503), times=999, method="PUT")
    with pytest.raises(Unavailable):
        put(backend, key("a"), SMALL)
    direct.delete(key("a"))
    gate.set()
    assert gate.late.wait(20)
    assert read(direct, key("a")) == SMALL
    direct.delete(key("a"))
    assert absent(direct, key("a"))


def test_a_part_that_arrives_after_the_upload_was_aborted_makes_nothing(proxy, backend, direct):
    gate = threading.Event()
    proxy.plan(network.held(gate, lost=True), method="PUT", having="partNumber=2")
    proxy.plan(network.error(503), times=999, method="PUT", having="partNumber=2")
    with pytest.raises(Unavailable):
        put(backend, key("a"), LARGE)
    gate.set()
    assert gate.late.wait(20)
    assert absent(direct, key("a"))
    assert direct.sweep(now() + HOUR) == 0


def test_connections_that_the_service_closed_meanwhile_are_not_used(proxy, backend, direct):
    put(backend, key("a"), SMALL)
    wire = backend._bucket._wire
    for connection in wire._idle:
        connection.sock.shutdown(socket.SHUT_RDWR)
    assert read(backend, key("a")) == SMALL
    assert proxy.count("GET") == 1


def test_a_refusal_before_the_body_was_sent_is_heard(prefix):
    """A service may answer 403 and close while megabytes are still on their way."""
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    head = b"HTTP/1.1 403 x\r\nContent-Length: %d\r\n\r\n" % len(body)

    def refuse(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(head + body)
            time.sleep(0.2)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse, args=(server,), daemon=True)
        thread.start()
        at = seaweed.url(f"http://127.0.0.1:{server.getsockname()[1]}", prefix=prefix)
        backend = S3Backend(at, patience=HASTY)
        with pytest.raises(Denied, match="AccessDenied"):
            put(backend, key("a"), LARGE[: parts.PART])
        assert not backend._bucket._wire._idle
        thread.join(10)


def test_copies_of_a_request_leave_one_object(proxy, backend, direct):
    def twice(exchange, forward):
        forward()
        forward()

    proxy.plan(twice, times=99, method="PUT")
    put(backend, key("a"), SMALL)
    put(backend, key("b"), LARGE)
    assert read(direct, key("a")) == SMALL
    assert read(direct, key("b")) == LARGE
    assert sorted(names(direct)) == sorted([str(key("a")), str(key("b"))])


def test_pauses_are_bounded_in_all(proxy, backend, monkeypatch):
    pauses = []
    monkeypatch.setattr("random.uniform", lambda _, longest: pauses.append(longest) or longest / 2)
    proxy.plan(SLOW_DOWN, times=9999)
    with pytest.raises(Unavailable, match="503"):
        backend.size(key("a"))
    assert sum(pauses[:-1]) / 2 < backend._bucket.patience.total
    assert len(pauses) == proxy.count("HEAD") > 3


# -- encrypted ----------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A key and a certificate for 127.0.0.1 that nobody has signed."""
    file = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(file), "-out", str(tmp_path / "public.pem")),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "keyUsage=critical,keyCertSign,digitalSignature"),
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (tmp_path / "public.pem").read_text())
    return file


@pytest.fixture
def trusting(monkeypatch) -> Iterator[Callable[[Path], None]]:
    """Trust a certificate from now on, as SSL_CERT_FILE has it."""

    def trust(file: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        wire._trust.cache_clear()

    yield trust
    wire._trust.cache_clear()


def test_all_goes_encrypted_to_a_service_that_is_trusted(certificate, trusting, prefix, direct):
    with network.before(seaweed.endpoint(), certificate) as proxy:
        assert proxy.endpoint.startswith("https:")
        backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix), patience=BRIEF)
        trusting(certificate)
        backend.reach()
        put(backend, key("a"), LARGE)
        put(backend, key("b"), SMALL)
        for _ in range(3):
            assert read(backend, key("b")) == SMALL
        proxy.plan(network.cut, times=2, method="GET")
        assert read(backend, key("a")) == LARGE == read(direct, key("a"))
        proxy.plan(network.error(403, "AccessDenied"), method="PUT")
        with pytest.raises(Denied):
            put(backend, key("c"), LARGE[: parts.PART])


def test_a_service_that_is_not_trusted_is_told_nothing(certificate, trusting, prefix):
    with network.before(seaweed.endpoint(), certificate) as proxy:
        backend = S3Backend(seaweed.url(proxy.endpoint, prefix=prefix))
        for does in asking(backend).values():
            with pytest.raises(Misconfigured, match="certificate of 127.0.0.1.* is not trusted"):
                does()
        assert proxy.seen == []


def test_a_service_that_does_not_encrypt_is_told_so(prefix, proxy):
    backend = S3Backend(
        seaweed.url(proxy.endpoint.replace("http:", "https:"), prefix=prefix), patience=HASTY
    )
    with pytest.raises(Misconfigured, match="does not speak TLS") as told:
        backend.reach()
    assert told.value.hint == "Write http:// in the endpoint, or correct its port."
