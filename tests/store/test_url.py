"""url: stable in its window, ended after it, signed with keys that rotate, or a plain file."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import urlopen

import pytest
from tests import seaweed
from tests.store.pictures import picture
from tests.store.places import DAY, HOUR, SECOND
from tests.store.surgery import problems, rows

from calotype import Digest, Store
from calotype.errors import Denied, Misconfigured, NotFound, UrlExpired


@pytest.fixture
def store(place, clock):
    clock.instant = clock.instant // HOUR * HOUR + 600 * SECOND
    with place.open(public_url="https://pictures.example/") as opened:
        yield opened


@pytest.fixture
def digest(store):
    return store.put(picture()).digest


def test_a_url_says_where_and_what_it_allows(store, digest, clock):
    url = store.url(digest, expires="1h", disposition='attachment; filename="ä.png"')
    assert url.startswith("https://pictures.example/signed/")
    grant = store.verify_url(url)
    assert (grant.scope, grant.digest) == ("default", digest)
    assert grant.disposition == 'attachment; filename="ä.png"'
    assert store.verify_url(url.rsplit("/", 1)[1]) == grant


def test_a_url_lives_at_least_as_long_as_was_asked_for(store, digest, clock):
    for minutes in range(0, 130, 7):
        clock.instant += minutes
        end = store.verify_url(store.url(digest, expires=3600)).expires_at
        assert clock.moment + timedelta(hours=1) <= end <= clock.moment + timedelta(hours=2)
        clock.advance(seconds=7 * 60)


def test_a_url_is_the_same_all_through_its_window(store, digest, clock):
    """aws-sdk-js #2547."""
    first = store.url(digest)
    clock.advance(seconds=49 * 60)
    assert store.url(digest) == first
    clock.advance(seconds=2 * 60)
    assert store.url(digest) != first
    assert store.verify_url(first).digest == digest


def test_urls_of_a_reopened_store_are_the_same(durable):
    with durable.open(public_url="https://p.example") as store:
        url = store.url(store.put(picture()).digest)
    with durable.open(public_url="https://p.example") as store:
        assert store.url(Digest.of(picture())) == url
        assert store.verify_url(url).digest == Digest.of(picture())


def test_urls_of_other_lives_are_others(store, digest):
    urls = {store.url(digest, expires=seconds) for seconds in (60, 3600, "1d", timedelta(days=7))}
    assert len(urls) == 4
    assert store.url(digest, expires="1h") == store.url(digest, expires=3600)


def test_a_url_ends(store, digest, clock):
    url = store.url(digest, expires=60)
    clock.advance(seconds=120)
    with pytest.raises(UrlExpired, match="clock"):
        store.verify_url(url)


def test_a_url_ends_to_the_second(store, digest, clock):
    url = store.url(digest, expires=60)
    end = store.verify_url(url).expires_at
    clock.instant = round(end.timestamp() * SECOND) - 1
    store.verify_url(url)
    clock.instant += 1
    with pytest.raises(UrlExpired):
        store.verify_url(url)


@pytest.mark.parametrize("expires", [0, 0.5, -1, "never"])
def test_a_life_that_is_none_is_refused(store, digest, expires):
    if expires == 0.5:
        assert store.url(digest, expires=expires) == store.url(digest, expires=1)
    else:
        with pytest.raises(Misconfigured):
            store.url(digest, expires=expires)


def forged(url: str, **changes: object) -> str:
    """The same token with other contents and its old signature."""
    head, _, token = url.rpartition("/")
    payload, _, mac = token.partition(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    names = ["version", "key", "end", "scope", "digest", "disposition"]
    for name, value in changes.items():
        fields[names.index(name)] = value
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return f"{head}/{base64.urlsafe_b64encode(text).decode().rstrip('=')}.{mac}"


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": "user:ana"},
        {"digest": Digest.of(b"other")},
        {"end": 2**40},
        {"disposition": "inline"},
        {"key": "00000000"},
        {"version": 2},
        {"key": None},
        {"end": "soon"},
        {"digest": 7},
    ],
)
def test_a_token_that_was_changed_is_denied(store, digest, changes):
    with pytest.raises(Denied):
        store.verify_url(forged(store.url(digest), **changes))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "abc",
        "abc.def",
        "W10.W10",
        "e30.e30",
        "\x00.\xff",
        "bnVsbA.AA",
        "NQ.AA",
        "WzEsMl0.AA",
    ],
)
def test_what_is_no_token_is_denied(store, digest, token):
    with pytest.raises(Denied):
        store.verify_url(token)
    with pytest.raises(Denied):
        store.verify_url(f"https://pictures.example/signed/{token}")


def test_every_changed_character_is_denied(store, digest):
    token = store.url(digest).rpartition("/")[2]
    for at in range(len(token)):
        other = "A" if token[at] != "A" else "B"
        harmed = token[:at] + other + token[at + 1 :]
        if at == len(token) - 1:
            continue
        with pytest.raises(Denied):
            store.verify_url(harmed)


def test_a_token_has_one_spelling(store, digest):
    """The last character of base64 carries bits that mean nothing: they are not ignored."""
    token = store.url(digest).rpartition("/")[2]
    accepted = []
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        try:
            store.verify_url(token[:-1] + last)
        except Denied:
            continue
        accepted.append(last)
    assert accepted == [token[-1]]


def test_another_stores_url_is_denied(store, digest, tmp_path, clock):
    from tests.store.places import Place

    with Place("folder", tmp_path / "other", clock).open(public_url="https://p.example") as other:
        other.put(picture())
        with pytest.raises(Denied):
            store.verify_url(other.url(digest))


def test_after_one_rotation_old_urls_verify_and_new_ones_differ(store, digest, clock):
    old = store.url(digest)
    clock.advance(seconds=1)
    store.rotate_url_key()
    new = store.url(digest)
    assert new != old
    assert store.verify_url(old) == store.verify_url(new)


def test_after_two_rotations_old_urls_are_denied(store, digest, clock):
    old = store.url(digest)
    for _ in range(2):
        clock.advance(seconds=1)
        store.rotate_url_key()
    with pytest.raises(Denied):
        store.verify_url(old)
    assert rows(store, "SELECT COUNT(*) FROM calotype_signing_key") == [(2,)]
    assert store.verify_url(store.url(digest)).digest == digest


def test_rotations_at_one_instant_still_use_the_newest_key(store, digest):
    urls = []
    for _ in range(6):
        urls.append(store.url(digest))
        store.rotate_url_key()
    assert len(set(urls)) == 6
    for old in urls[:-1]:
        with pytest.raises(Denied):
            store.verify_url(old)
    assert store.verify_url(urls[-1]).digest == digest


def test_a_rotation_counts_although_the_clock_went_back(store, digest, clock):
    old = store.url(digest)
    clock.advance(days=-1)
    store.rotate_url_key()
    store.rotate_url_key()
    with pytest.raises(Denied):
        store.verify_url(old)


def test_a_url_keeps_nothing_alive(store, clock):
    digest = store.put(picture(), owner="scan/9").digest
    url = store.url(digest)
    store.release("scan/9")
    assert store.gc(now=True).doomed == 1
    assert store.verify_url(url).digest == digest
    with pytest.raises(NotFound):
        store.stat(digest)


def test_there_is_no_url_of_what_is_not_visible(store):
    digest = store.put(picture(), owner="scan/9").digest
    store.release("scan/9")
    for unseen in (digest, Digest.of(b"nothing")):
        with pytest.raises(NotFound):
            store.url(unseen)


def test_scopes_sign_for_themselves(store):
    ana = store.scope("user:ana/é")
    digest = ana.put(picture()).digest
    with pytest.raises(NotFound):
        store.url(digest)
    assert store.verify_url(ana.url(digest)).scope == "user:ana/é"


# Without public_url


def test_without_a_public_url_it_is_the_file_itself(durable):
    with durable.open() as store:
        digest = store.put(picture()).digest
        url = store.url(digest)
        assert store.url(digest, expires=5) == url
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("file", "")
    assert Path(unquote(parts.path)).read_bytes() == picture()


def test_a_folder_with_odd_characters_has_readable_urls(tmp_path, clock):
    from tests.store.places import Place

    with Place("folder", tmp_path / "ü #?% x", clock).open() as store:
        url = store.url(store.put(picture()).digest)
    assert Path(unquote(urlsplit(url).path)).read_bytes() == picture()


def test_memory_has_no_urls_of_its_own(memory):
    digest = memory.put(picture()).digest
    with pytest.raises(Misconfigured) as caught:
        memory.url(digest)
    assert "public_url" in caught.value.hint
    assert problems(memory) == []


@pytest.mark.parametrize("url", ["x", "https://", "https://x.example/?q=1", "javascript:alert(1)"])
def test_a_public_url_that_no_browser_could_follow_is_refused(url):
    with pytest.raises(Misconfigured, match="public URL"):
        Store.memory(public_url=url)


# Of the service that has the bytes


@pytest.fixture
def in_s3(tmp_path, clock, s3_keys, monkeypatch):
    """A store whose bytes are in S3; both go by the clock of the test."""
    monkeypatch.setattr("calotype.backends.s3.now", clock)
    with Store(tmp_path / "store", backend=seaweed.url(), clock=clock) as store:
        yield store


def ends(url: str) -> timedelta:
    """The end of a URL of S3's, since 1970."""
    (signed,), (lives,) = (parse_qs(urlsplit(url).query)[f"X-Amz-{n}"] for n in ("Date", "Expires"))
    begins = datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return begins - datetime.fromtimestamp(0, UTC) + timedelta(seconds=int(lives))


def test_a_url_of_a_service_is_the_same_all_through_its_window(in_s3, clock):
    digest = in_s3.put(picture()).digest
    clock.instant = clock.instant // HOUR * HOUR + 600 * SECOND
    first = in_s3.url(digest)
    clock.advance(seconds=49 * 60)
    assert in_s3.url(digest) == first
    clock.advance(seconds=2 * 60)
    assert in_s3.url(digest) != first


@pytest.mark.parametrize("days", [1, 3, 3.5, 4, 6, 6.99, 7])
def test_a_url_of_s3_lives_as_long_as_was_asked_for_and_never_too_long(in_s3, clock, days):
    """S3 lets none live for more than 7 days; near to that the window is a smaller one."""
    digest = in_s3.put(picture()).digest
    window = round(min(days, 7 - days) * DAY) or SECOND
    for position in (0, 1, DAY // 3, DAY - 1, 2 * DAY, 3 * DAY + 7 * HOUR, 7 * DAY - 1, 40 * DAY):
        clock.instant = clock.instant // (7 * DAY) * 7 * DAY + position
        life = ends(in_s3.url(digest, expires=f"{days * 24}h")) - timedelta(
            microseconds=clock.instant
        )
        assert timedelta(days=days) <= life
        assert life <= timedelta(days=days, microseconds=window)
        assert life <= timedelta(days=7, seconds=1)
    clock.instant = (clock.instant // window + 1) * window
    first = in_s3.url(digest, expires=f"{days * 24}h")
    clock.instant += window - 1
    assert in_s3.url(digest, expires=f"{days * 24}h") == first


def test_a_url_of_s3_for_more_than_7_days_is_refused(in_s3):
    digest = in_s3.put(picture()).digest
    for life in ("169h", "8d", "400d"):
        with pytest.raises(Misconfigured, match="lives 7 days at most"):
            in_s3.url(digest, expires=life)


@pytest.mark.parametrize("days", [4, 7])
def test_s3_answers_by_a_url_of_many_days(tmp_path, s3_keys, days):
    with Store(tmp_path / "store", backend=seaweed.url()) as store:
        url = store.url(store.put(picture()).digest, expires=f"{days}d")
    with urlopen(url) as answer:
        assert answer.read() == picture()


HTML = b"<!doctype html><title>x</title><script>alert(1)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.mark.parametrize(
    ("content", "shown"), [(HTML, "attachment"), (SVG, "attachment"), (picture(), "inline")]
)
def test_a_service_shows_nothing_in_which_something_could_be_run(tmp_path, s3_keys, content, shown):
    with Store(tmp_path / "store", backend=seaweed.url()) as store:
        url = store.url(store.put(content).digest)
    with urlopen(url) as answer:
        assert answer.headers["Content-Disposition"] == shown
        assert answer.read() == content
