"""What is shown of a URL, and of what was nearly one."""

from __future__ import annotations

import pytest

from calotype import Store
from calotype.errors import Misconfigured
from calotype.masking import masked
from calotype.opening import open_backend


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://bob:hunter2@host/db", "postgres://bob:***@host/db"),
        ("postgresql+psycopg://bob:hun/ter2@host/db", "postgresql+psycopg://bob:***@host/db"),
        ("postgresql:/bob:hunter2@host/db", "postgresql:/bob:***@host/db"),
        ("postgresql//bob:hunter2@host/db", "postgresql//bob:***@host/db"),
        ("mysql:/bob:hunter2@host/db", "mysql:/bob:***@host/db"),
        ("bob:hunter2@host", "bob:***@host"),
        ("s3://b?endpoint=http://id:hunter2@host", "s3://b?endpoint=http://id:***@host"),
        ("s3://b?endpoint=http://h/?password=hunter2", "s3://b?endpoint=http://h/?password=***"),
        ("x://host?PWD=hunter2&y=1", "x://host?PWD=***&y=1"),
    ],
)
def test_what_is_secret_is_masked(url, shown):
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob@host:5432/db?host=/run/x",
        "https://host:8080/a@b",
        "s3://bucket/a@b?endpoint=http://127.0.0.1:8333",
        "file:/srv/a@b",
        "file:a@b",
        "sqlite:///a@b.db",
        "/srv/a:b@c",
    ],
)
def test_what_holds_no_secret_is_shown_as_it_is(url):
    assert masked(url) == url


@pytest.mark.parametrize("given", ["catalog", "backend"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/bob:hunter2@host/db",
        "postgresql://bob:hunter2@127.0.0.1:port/db",
        "postgresql://bob:hunter2@[::1/db",
        "mysql://bob:hunter2@host/db",
        "bob:hunter2@host",
        "s3://bucket?endpoint=http://host/?password=hunter2",
        "x://host?endpoint=http%3A%2F%2Fbob%3Ahunter2%40host",
    ],
)
def test_no_error_repeats_a_password(url, given, tmp_path):
    places = {"catalog": f"sqlite:///{tmp_path}/c.db", "backend": f"file:{tmp_path}"}
    with pytest.raises(Misconfigured) as told, Store(**{**places, given: url}) as store:
        store.create()
    assert "hunter2" not in str(told.value) + told.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "file://bob:hunter2@host/x",
        "file://host/x",
        "file://[::1/x",
        "file://localhost",
        "sqlite://bob:hunter2@host/x",
        "sqlite://host/x",
        "sqlite://:hunter2@/x",
    ],
)
def test_a_file_is_on_no_host(url):
    with pytest.raises(Misconfigured) as told:
        open_backend(url)
    assert "hunter2" not in str(told.value) + told.value.hint


def test_the_long_form_of_a_folder_may_name_this_machine(tmp_path):
    for host in ("", "localhost"):
        assert open_backend(f"file://{host}{tmp_path}/a%20b").url == f"file:{tmp_path}/a b"
