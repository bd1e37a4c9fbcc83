"""Services that are configured wrongly: one line that names what is missing, and nothing written."""

from __future__ import annotations

import os
import time

import psycopg
import pytest
from tests import seaweed, servers, supabase_server
from tests.cli.desk import said_in_one_line

from calotype import Store
from calotype.backends import s3, supabase
from calotype.errors import Unavailable

AT_ONCE = s3.Patience(connect=1, read=1, total=0.3)


@pytest.fixture
def at(desk, monkeypatch):
    """``at(url, keys)``: the store that is to be made has its bytes there."""
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setattr(s3, "Patience", lambda: AT_ONCE)
    monkeypatch.setattr(supabase, "Patience", lambda: supabase.wire.Patience(0.3, connecting=1))
    desk.file("a")

    def configure(url: str, keys: dict[str, str]) -> None:
        monkeypatch.setenv("CALOTYPE_CATALOG", "sqlite:///app.db")
        monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", url)
        for name, text in keys.items():
            monkeypatch.setenv(name, text)

    return configure


S3 = {
    "unknown key": (seaweed.USER | {"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID is not"),
    "wrong secret": (
        seaweed.USER | {"AWS_SECRET_ACCESS_KEY": "guessed"},
        "AWS_SECRET_ACCESS_KEY does not fit",
    ),
    "no key": (seaweed.USER | {"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID"),
    "no right to put": (seaweed.READER, "the right s3:PutObject on calotype-test/"),
    "no right to list": (seaweed.WRITER, "the right s3:ListBucket on calotype-test/"),
}


@pytest.mark.parametrize("words", ["put a", "put a a", "import .", "init"])
@pytest.mark.parametrize("wrong", S3)
def test_keys_of_s3_that_will_not_do(desk, at, wrong, words):
    keys, said = S3[wrong]
    at(seaweed.url(), keys)
    assert said in said_in_one_line(desk(*words.split(), code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (lambda: seaweed.url(bucket="never-made"), "there is no such bucket"),
        (lambda: seaweed.url("http://127.0.0.1:9"), "127.0.0.1:9 takes no connections"),
        (lambda: seaweed.url("http://nobody.invalid"), "no address is known for nobody.invalid"),
    ],
    ids=["missing bucket", "no service", "unknown host"],
)
def test_a_place_in_s3_that_is_none(desk, at, url, said):
    at(url(), seaweed.USER)
    assert said in said_in_one_line(desk("put", "a", code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


SUPABASE = {
    "wrong key": (lambda server: server.key[:-4] + "AAAA", "refused the key (403"),
    "anonymous key": (lambda server: server.token({"role": "anon"}, 60), "role 'anon'"),
    "no key": (lambda server: "", "CALOTYPE_SUPABASE_KEY"),
}


@pytest.mark.parametrize("wrong", SUPABASE)
def test_keys_of_supabase_that_will_not_do(desk, at, wrong):
    key, said = SUPABASE[wrong]
    server = supabase_server.running()
    at(server.bucket(), {"CALOTYPE_SUPABASE_KEY": key(server)})
    assert said in said_in_one_line(desk("put", "a", code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (lambda at: f"{at.rpartition('/')[0]}/never-made", "bucket"),
        (lambda at: "supabase+http://127.0.0.1:9/media", "127.0.0.1:9"),
        (lambda at: "supabase+http://nobody.invalid/media", "nobody.invalid"),
    ],
    ids=["missing bucket", "no service", "unknown host"],
)
def test_a_place_at_supabase_that_is_none(desk, at, url, said):
    server = supabase_server.running()
    at(url(server.bucket()), {"CALOTYPE_SUPABASE_KEY": server.key})
    assert said in said_in_one_line(desk("put", "a", code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


@pytest.fixture
def clerk():
    """A role that may read a schema, and no more."""
    name = f"clerk_{os.urandom(4).hex()}"
    with psycopg.connect(servers.postgres(), autocommit=True) as raw:
        raw.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        raw.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize("words", ["put a", "put a a", "import .", "init"])
@pytest.mark.parametrize("may", ["use", "select"])
def test_a_database_for_bytes_whose_role_may_only_read(desk, at, clerk, may, words):
    url = servers.schema()
    name = url.rpartition("%3D")[2]
    with psycopg.connect(url) as raw:
        raw.execute(f"GRANT USAGE ON SCHEMA {name} TO {clerk}")
    if may == "select":
        with Store(catalog=f"sqlite:///{desk.folder}/other.db", backend=url) as store:
            store.purge(store.put(b"x").digest)  # its tables stay
        desk.folder.joinpath("other.db").unlink()
        with psycopg.connect(url) as raw:
            raw.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {clerk}")
    at(url.replace("postgres@", f"{clerk}@"), {})
    before = sorted(each.name for each in desk.folder.iterdir())
    assert "permission denied for" in said_in_one_line(desk(*words.split(), code=1))
    assert sorted(each.name for each in desk.folder.iterdir()) == before


@pytest.mark.parametrize("words", ["put a", "put a a", "import .", "init"])
@pytest.mark.parametrize("url", ["file:/proc/x", "sqlite:////proc/x.db"])
def test_a_folder_that_cannot_be_made(desk, at, url, words):
    at(url, {})
    assert "/proc/" in said_in_one_line(desk(*words.split(), code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


@pytest.fixture(params=["no folder", "no new file", "no folder either", "no rights"])
def hopeless(request, clerk):
    """The URL of a catalog that cannot be made."""
    if request.param != "no rights":
        places = {
            "no folder": "nowhere/app.db",
            "no new file": "/proc/app.db",
            "no folder either": "/dev/null/app.db",
        }
        return f"sqlite:///{places[request.param]}"
    url = servers.schema()
    with psycopg.connect(url) as raw:
        raw.execute(f"GRANT USAGE ON SCHEMA {url.rpartition('%3D')[2]} TO {clerk}")
    return url.replace("postgres@", f"{clerk}@")


@pytest.mark.parametrize("url", ["file:bytes", "sqlite:///bytes.db"])
def test_where_no_catalog_can_be_made_nothing_is_left_in_the_place_of_the_bytes(
    desk, at, monkeypatch, hopeless, url
):
    at(url, {})
    monkeypatch.setenv("CALOTYPE_CATALOG", hopeless)
    said_in_one_line(desk("put", "a", code=1))
    assert [each.name for each in desk.folder.iterdir()] == ["a"]


@pytest.mark.parametrize("url", ["file:bytes", "sqlite:///bytes.db"])
@pytest.mark.parametrize("folder", ["/proc/shop", "/proc/nothing/shop", "/dev/null/shop"])
def test_where_no_folder_can_be_made_nothing_is_left_in_the_place_of_the_bytes(desk, url, folder):
    with Store(folder, backend=url) as store, pytest.raises(Unavailable):
        store.put(b"a")
    assert list(desk.folder.iterdir()) == []


def test_where_the_bytes_have_no_place_no_folder_is_left(desk):
    with Store("shop/mine", backend="file:/proc/bytes") as store, pytest.raises(Unavailable):
        store.put(b"a")
    assert list(desk.folder.iterdir()) == []


def test_where_the_bytes_have_no_place_no_tables_are_left_in_the_catalogs_database(
    desk, at, monkeypatch
):
    url = servers.schema()
    at("file:/proc/bytes", {})
    monkeypatch.setenv("CALOTYPE_CATALOG", url)
    said_in_one_line(desk("put", "a", code=1))
    with psycopg.connect(url) as raw:
        assert raw.execute("SELECT to_regclass('calotype_meta')").fetchone() == (None,)


@pytest.mark.parametrize(("words", "code"), [("put a", 1), ("doctor", 4)])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/x?endpoint=http://127.0.0.1:9", "127.0.0.1:9 takes no connections"),
        ("supabase+http://127.0.0.1:9/media", "127.0.0.1:9"),
    ],
    ids=["s3", "supabase"],
)
def test_a_service_that_is_away_is_not_waited_for_where_there_is_no_store(
    desk, monkeypatch, url, said, words, code
):
    """As it is where there are bytes to be had: for a minute."""
    desk.file("a")
    keys = {"CALOTYPE_SUPABASE_KEY": supabase_server.running().key, **seaweed.USER}
    places = {"CALOTYPE_CATALOG": "sqlite:///app.db", "CALOTYPE_BACKENDS__MAIN__URL": url}
    for name, text in (keys | places).items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv("CALOTYPE_STORE")
    begun = time.monotonic()
    done = desk(*words.split(), code=code)
    assert time.monotonic() - begun < 30
    assert said in str(done.out) + done.err
    assert "may not be written" not in str(done.out)
    assert [each.name for each in desk.folder.iterdir()] == ["a"]
