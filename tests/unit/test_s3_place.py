"""Where a bucket is, as its URL says."""

from __future__ import annotations

import pytest

from calotype.backends.s3.place import Place
from calotype.errors import Misconfigured
from calotype.opening import open_backend


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("s3://bucket", "https://bucket.s3.us-east-1.amazonaws.com/k"),
        ("s3://bucket/", "https://bucket.s3.us-east-1.amazonaws.com/k"),
        ("s3://bucket/a/b/", "https://bucket.s3.us-east-1.amazonaws.com/a/b/k"),
        ("s3://bucket?region=eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/k"),
        ("s3://bucket?region=cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/k"),
        ("s3://my.bucket/a", "https://s3.us-east-1.amazonaws.com/my.bucket/a/k"),
        ("s3://Old_Bucket", "https://s3.us-east-1.amazonaws.com/Old_Bucket/k"),
        ("s3://bucket/a?endpoint=http://127.0.0.1:8333", "http://127.0.0.1:8333/bucket/a/k"),
        ("s3://bucket?endpoint=http%3A%2F%2Fhost%3A80", "http://host/bucket/k"),
        ("s3://bucket?endpoint=https://HOST:443/", "https://host/bucket/k"),
        ("s3://bucket?endpoint=https://bücher.example", "https://xn--bcher-kva.example/bucket/k"),
        ("s3://bucket?endpoint=http://[::1]:9000", "http://[::1]:9000/bucket/k"),
        (
            "s3://bucket/a?endpoint=https://x.example/storage/v1/s3&region=local",
            "https://x.example/storage/v1/s3/bucket/a/k",
        ),
        (
            "s3://bucket/a%20b+c/%C3%BC",
            "https://bucket.s3.us-east-1.amazonaws.com/a%20b%2Bc/%C3%BC/k",
        ),
        ("s3://bucket/a b/ü", "https://bucket.s3.us-east-1.amazonaws.com/a%20b/%C3%BC/k"),
    ],
)
def test_a_url_says_where_to_ask(url, asked):
    place = Place.read(url)
    assert f"{place.scheme}://{place.host}{place.path('k')}" == asked
    assert not place.prefix or place.prefix.endswith("/")


def test_a_bucket_has_a_path_of_its_own():
    assert Place.read("s3://bucket/a").path(None) == "/"
    assert Place.read("s3://bucket/a?endpoint=http://host").path(None) == "/bucket"


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a b/?region=x&endpoint=http%3A%2F%2Fhost%3A8333%2F", "s3://bucket/a%20b?endpoint=http://host:8333&region=x"),
        ("s3://bucket?endpoint=&region=", "s3://bucket"),
    ],
)  # fmt: skip
def test_a_place_has_one_spelling(url, written, monkeypatch):
    assert Place.read(url).url == written
    assert Place.read(written) == Place.read(url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Place.read(url).url == written


def test_the_region_is_the_urls_or_the_environments(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert Place.read("s3://bucket").region == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Place.read("s3://bucket").region == "eu-west-1"
    assert Place.read("s3://bucket?region=ap-south-1").region == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "evil.example/?")
    with pytest.raises(Misconfigured, match="region"):
        Place.read("s3://bucket")


@pytest.mark.parametrize(
    ("url", "said", "hint"),
    [
        ("s3://bucket?regoin=x", "takes no 'regoin'", "Did you mean 'region'?"),
        (
            "s3://bucket?endpoint_url=http://x",
            "takes no 'endpoint_url'",
            "Did you mean 'endpoint'?",
        ),
        ("s3://bucket?access_key=x", "takes no 'access_key'", "There are 'endpoint' and 'region'."),
        ("s3://bucket?region=a&region=b", "'region' twice", "Keep one of them."),
        ("s3://ab", "Not the name of a bucket", "Write s3://"),
        ("s3:bucket", "Not the name of a bucket", "Write s3://"),
        ("s3:///a", "Not the name of a bucket", "Write s3://"),
        ("s3://buck et", "Not the name of a bucket", "Write s3://"),
        ("s3://bucket/a#b", "has no '#'", "Write %23"),
        ("s3://bucket/a//b", "Not a prefix", "Leave out"),
        ("s3://bucket/a/../b", "Not a prefix", "Leave out"),
        ("s3://bucket/%2E%2E/b", "Not a prefix", "Leave out"),
        ("s3://bucket?region=a b", "Not the name of a region", "Write region="),
        ("s3://bucket?endpoint=host:8333", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=ftp://host", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://host:99999", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://host?x=1", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://a..b", "Not an endpoint", "Write endpoint="),
        (f"s3://bucket?endpoint=http://{'a' * 64}", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://a%20b", "Not an endpoint", "Write endpoint="),
        ("s3://bucket?endpoint=http://host/%2520", "Not an endpoint", "Write endpoint="),
        ("s3://bucket/a%00b", "Not a prefix", "Write visible"),
        ("s3://bucket/a\udc80b", "Not a prefix", "Write visible"),
        (f"s3://bucket/{'a' * 801}", "Not a prefix", "Write visible"),
        ("s3://bucket[", "cannot|can be read|bucket", ""),
    ],
)
def test_a_url_that_cannot_be_right_is_told(url, said, hint):
    with pytest.raises(Misconfigured, match=said) as told:
        open_backend(url)
    assert told.value.hint.startswith(hint)


@pytest.mark.parametrize(
    "url",
    [
        "s3://id:hunter2@bucket",
        "s3://bucket?endpoint=http://id:hunter2@host",
        "s3://bucket?endpoint=http%3A%2F%2Fid%3Ahunter2%40host",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url):
    with pytest.raises(Misconfigured, match="holds no credentials") as told:
        open_backend(url)
    assert "hunter2" not in str(told.value) + told.value.hint
    assert "AWS_SECRET_ACCESS_KEY" in told.value.hint
