"""config: flags, environment, file and defaults, which of them wins, and what is no setting."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from tests import servers
from tests.cli.desk import said_in_one_line
from tests.store.pictures import picture

from calotype import config
from calotype.backends.local import LocalBackend
from calotype.errors import Misconfigured


def origins(desk, *options: str) -> dict[str, tuple[str, str]]:
    found = desk("config", "--json", *options).objects
    return {each["key"]: (each["value"], each["origin"]) for each in found}


def test_config_shows_the_settings_in_lines(desk):
    desk("init", "store")
    rows = dict(line.split() for line in desk("config").lines)
    assert rows["gc.grace"] == "24h" and rows["path"] == f"{desk.folder}/store"
    assert len(desk("config", "--origin").lines[0].split()) == 3


def test_a_flag_wins_over_environment_over_file_over_default(desk, monkeypatch):
    desk("init", "store")
    file = desk.folder / "store/calotype.toml"
    file.write_text('path = "."\nscope = "file"\n[gc]\ngrace = "2h"\nerase_delay = "1h"\n')
    monkeypatch.setenv("CALOTYPE_SCOPE", "variable")
    monkeypatch.setenv("CALOTYPE_GC__GRACE", "3h")
    found = origins(desk, "--scope", "flag")
    assert found["scope"] == ("flag", "--scope")
    assert found["gc.grace"] == ("3h", "CALOTYPE_GC__GRACE")
    assert found["gc.erase_delay"] == ("1h", str(file))
    assert found["limits.pixels"] == ("200000000", "default")
    assert origins(desk)["scope"] == ("variable", "CALOTYPE_SCOPE")


def test_the_settings_are_obeyed(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_LIMITS__FILE_SIZE", "3 B")
    monkeypatch.setenv("CALOTYPE_SCOPE", "ana")
    assert "more than 3 bytes" in said_in_one_line(desk("put", desk.file("long"), code=1))
    desk.put("abc")
    assert desk("ls", "--json").object["scope"] == "ana"
    monkeypatch.setenv("CALOTYPE_GC__GRACE", "0s")
    desk("rm", desk("ls", "--json").object["digest"])
    assert desk("gc", "--json").objects[-1]["doomed"] == 1


def test_the_limit_of_pixels_is_obeyed(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_LIMITS__PIXELS", "3")
    refused = desk("put", "--images-only", desk.file("a.png", picture()), code=1)
    assert "more than 3 pixels" in said_in_one_line(refused)


def test_columns_keep_files_in_the_scope_that_is_set(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_COLUMN_SCOPE", "site")
    digest = desk.put("a", "--scope", "site", "--owner", "scan/1")
    with closing(sqlite3.connect(desk.folder / "store/catalog.db")) as raw:
        raw.execute("CREATE TABLE page (d TEXT REFERENCES calotype_blob (digest))")
        raw.execute("INSERT INTO page VALUES (?)", (digest,))
        raw.commit()
    desk("release", "--scope", "site", "--owner", "scan/1")
    desk("gc", "--now")
    assert desk.names("--scope", "site") == ["a"]


def test_the_store_is_named_by_flag_or_variable_and_else_the_nearest_file(desk, monkeypatch):
    desk("init", "near")
    desk("init", "named")
    monkeypatch.setenv("CALOTYPE_STORE", "named")
    assert origins(desk)["path"][0] == f"{desk.folder}/named"
    assert origins(desk, "--store", "near")["path"][0] == f"{desk.folder}/near"
    assert origins(desk, "--store", "near/calotype.toml")["path"][0] == f"{desk.folder}/near"
    assert origins(desk, "--store", "new")["path"] == (f"{desk.folder}/new", "--store")
    (desk.folder / "near/below").mkdir()
    monkeypatch.chdir(desk.folder / "near/below")
    monkeypatch.setenv("CALOTYPE_STORE", "")
    assert origins(desk)["path"][0] == f"{desk.folder}/near"


def test_a_table_of_pyproject_will_do(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    desk.file("pyproject.toml", b'[tool.calotype]\npath = "media"\n')
    desk.put("a")
    assert (desk.folder / "media/catalog.db").exists()


def test_a_store_in_the_applications_database(desk, monkeypatch):
    (desk.folder / "conf").mkdir()
    desk.file(
        "conf/calotype.toml", b'catalog = "sqlite:///../app.db"\n[backends.main]\nurl = "file:b"\n'
    )
    monkeypatch.setenv("CALOTYPE_STORE", "conf")
    desk.put("a")
    assert (desk.folder / "app.db").exists() and (desk.folder / "conf/b").is_dir()
    assert desk("fsck", "--json").objects[-1]["problems"] == 0


def test_a_variable_may_name_a_file_that_holds_the_value(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    desk.file("secret", f"sqlite:///{desk.folder}/app.db\n".encode())
    monkeypatch.setenv("CALOTYPE_CATALOG_FILE", "secret")
    assert origins(desk)["catalog"] == (f"sqlite:///{desk.folder}/app.db", "CALOTYPE_CATALOG_FILE")
    monkeypatch.setenv("CALOTYPE_CATALOG_FILE", "nothing")
    assert "CALOTYPE_CATALOG_FILE" in said_in_one_line(desk("config", code=1))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[gc]\ngarce = 1", "'gc.grace'"),
        ("scop = 'x'", "'scope'"),
        ("gc = 5", "'gc.grace'"),
        ("zzz = 1", "There are path, "),
    ],
)
def test_a_key_that_does_not_exist_is_an_error_with_a_suggestion(desk, text, hint):
    desk("init", "store")
    desk.file("store/calotype.toml", text.encode())
    said = said_in_one_line(desk("ls", code=1))
    assert "store/calotype.toml" in said and hint in said


def test_a_variable_that_does_not_exist_is_an_error_with_a_suggestion(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_GC__GARCE", "1h")
    said = said_in_one_line(desk("config", code=1))
    assert "CALOTYPE_GC__GARCE" in said and "CALOTYPE_GC__GRACE" in said


@pytest.mark.parametrize("text", [b"path = ", b"\xff", b"path = 'a'\npath = 'b'"])
def test_a_file_that_is_no_toml_is_an_error_that_names_it(desk, text):
    desk("init", "store")
    desk.file("store/calotype.toml", text)
    assert "store/calotype.toml" in said_in_one_line(desk("ls", code=1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("GC__GRACE", "soon"),
        ("GC__GRACE", ""),
        ("GC__ERASE_DELAY", "-1"),
        ("LIMITS__FILE_SIZE", "much"),
        ("LIMITS__PIXELS", ""),
    ],
)
def test_a_value_that_cannot_be_right_says_where_it_was_written(desk, monkeypatch, key, value):
    desk.put("a")
    monkeypatch.setenv(f"CALOTYPE_{key}", value)
    said = said_in_one_line(desk("ls", code=1))
    assert f"CALOTYPE_{key}" in said and key.lower().replace("__", ".") in said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ana:secret@host/db", "postgresql://ana:***@host/db"),
        ("postgresql://ana:se:cr@et@host/db", "postgresql://ana:***@host/db"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("postgresql://host/db?password=secret&x=1", "postgresql://host/db?password=***&x=1"),
        ("postgresql://ana:sec/secret@host/db", "postgresql://ana:***@host/db"),
        ("postgresql://host/db?sslpassword=secret", "postgresql://host/db?sslpassword=***"),
        ("s3://bucket/a?access_key=secret&region=x", "s3://bucket/a?access_key=***&region=x"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
    ],
)
def test_passwords_are_masked(desk, monkeypatch, url, shown):
    monkeypatch.setenv("CALOTYPE_PUBLIC_URL", url)
    done = desk("config", "--json")
    assert "secret" not in done.out and "cr@et" not in done.out
    assert origins(desk)["public_url"][0] == shown


def test_the_same_settings_make_the_same_store_in_a_program(desk):
    desk("init", "store")
    desk.put("a")
    with config.load("store").store() as store:
        assert [each.filename for each in store.assets()] == ["a"]
    with pytest.raises(Misconfigured):
        config.load("store", {"nothing": "1"})


def test_a_store_that_is_named_is_used_whatever_variables_say(desk, monkeypatch):
    monkeypatch.setenv("CALOTYPE_PATH", str(desk.folder / "other"))
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "memory:")
    desk("put", desk.file("a"), "--store", "named")
    assert (desk.folder / "named/catalog.db").is_file()
    assert not (desk.folder / "other").exists()


def test_a_variable_says_where_in_place_of_the_file(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    desk("init", ".")
    monkeypatch.setenv("CALOTYPE_CATALOG", "sqlite:///app.db")
    assert "backends.main.url" in said_in_one_line(desk("put", desk.file("a"), code=1))
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:media")
    desk("put", "a")
    assert (desk.folder / "app.db").is_file() and (desk.folder / "media/sha256").is_dir()


def test_two_catalogs_in_one_file_are_named_with_it(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    (desk.folder / "calotype.toml").write_text('path = "."\ncatalog = "sqlite:///app.db"\n')
    said = said_in_one_line(desk("ls", code=1))
    assert "path (in" in said and "catalog (in" in said and "calotype.toml" in said


def test_a_file_that_is_no_toml_is_no_store(desk):
    desk.put("a")
    said = said_in_one_line(desk("ls", "--store", "store/catalog.db", code=1))
    assert "--store" in said and "folder" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CALOTYPE_SCOP", "CALOTYPE_SCOPE"),
        ("CALOTYPE_GRACE", "CALOTYPE_GC__GRACE"),
        ("CALOTYPE_GC_GRACE", "CALOTYPE_GC__GRACE"),
        ("CALOTYPE_BACKEND", "CALOTYPE_BACKENDS__MAIN__URL"),
        ("CALOTYPE_BACKEND_URL", "CALOTYPE_BACKENDS__MAIN__URL"),
        ("CALOTYPE_BACKENDS__ARCHIVE", "CALOTYPE_BACKENDS__ARCHIVE__URL"),
    ],
)
def test_a_variable_that_is_nearly_one_of_ours_is_asked_about(desk, monkeypatch, name, meant):
    monkeypatch.setenv(name, "x")
    assert f"Did you mean {meant}?" in said_in_one_line(desk("config", code=1))


def test_variables_of_others_are_left_alone(desk, monkeypatch):
    """Kubernetes sets these in every pod beside a service called calotype."""
    monkeypatch.setenv("CALOTYPE_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("CALOTYPE_SERVICE_HOST", "10.0.0.1")
    desk("config")


def test_a_toml_file_that_is_not_there_is_no_folder(desk):
    desk("put", desk.file("a"), "--store", "nothing.toml", code=10)
    desk("init", "--store", "nothing.toml", code=2)
    assert not (desk.folder / "nothing.toml").exists()


def test_a_backend_alone_says_not_where_the_store_is(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:media")
    desk("ls", code=10)


def test_init_makes_the_store_that_variables_describe(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_CATALOG", "sqlite:///app.db")
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:m")
    said = said_in_one_line(desk("init", "media", code=2))
    assert "CALOTYPE_CATALOG says that the store is elsewhere." in said
    assert list(desk.folder.iterdir()) == []
    assert desk("init").out == f"A store in {desk.folder}/app.db\n"
    made = {each.name for each in desk.folder.iterdir()}
    assert not made & {"calotype.toml", "catalog.db", "blobs"} and "app.db" in made
    desk.put("a")
    assert len(list((desk.folder / "m/sha256").glob("*/*/*"))) == 1
    desk("init", "--store", "media")  # whoever names one means it, here as everywhere
    assert (desk.folder / "media/catalog.db").exists()


def test_init_makes_the_folder_that_a_variable_names(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_PATH", "p")
    assert "CALOTYPE_PATH" in said_in_one_line(desk("init", "media", code=2))
    desk("init", "p")
    assert [each.name for each in desk.folder.iterdir()] == ["p"]
    assert (desk.folder / "p/catalog.db").exists()


def test_init_makes_a_store_with_its_bytes_where_a_variable_says(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:m")
    desk("init")
    desk.put("a")
    assert len(list((desk.folder / "m/sha256").glob("*/*/*"))) == 1
    assert not (desk.folder / "blobs").exists()


# -- several backends ---------------------------------------------------------------------------


@pytest.fixture
def two(desk):
    """A store in whose configuration another backend is named; none was made yet."""
    desk.file("calotype.toml", b'path = "store"\n[backends.two]\nurl = "file:two"\n')
    desk.patch.delenv("CALOTYPE_STORE")
    return desk


def roles(desk):
    return {each["name"]: each["role"] for each in desk("backend", "list", "--json").objects}


def test_a_store_is_made_with_the_backends_that_are_configured(two):
    two("init", ".")
    assert roles(two) == {"main": "primary", "two": "mirror"}
    two.put("a")
    assert len(list((two.folder / "two/sha256").glob("*/*/*"))) == 1
    two("init", ".")
    assert roles(two) == {"main": "primary", "two": "mirror"}


def test_a_backend_is_added_as_it_is_configured(two, monkeypatch):
    two.put("a")
    assert roles(two) == {"main": "primary"}
    assert "Leave the URL away" in said_in_one_line(two("backend", "add", "two", "file:b", code=2))
    (remark,) = [each for each in two("doctor", "--json").objects if each["level"] == "warn" and each["subject"] == "bytes"]  # fmt: skip
    assert remark["cure"] == "calotype backend add two"
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__ROLE", "read")
    two("backend", "add", "two")
    assert roles(two) == {"main": "primary", "two": "read"}
    assert two("backend", "list", "--json").objects[1]["url"] == f"file:{two.folder}/two"
    assert "bytes" not in [each["subject"] for each in two("doctor", "--json").objects if each["level"] == "warn"]  # fmt: skip
    said = said_in_one_line(two("backend", "add", "three", code=2))
    assert "backends.three.url" in said


def test_the_role_in_the_catalog_counts(two, monkeypatch):
    two("init", ".")
    two("backend", "copy", "two")
    two("backend", "primary", "two")
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__ROLE", "mirror")
    assert roles(two) == {"main": "mirror", "two": "primary"}
    two("backend", "drop", "main")
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__ROLE", "primary")
    two.put("a")
    assert roles(two) == {"two": "primary"}


def rotten(desk, folder: str) -> None:
    """Every object there has other bytes of the same length."""
    for file in (desk.folder / folder).glob("sha256/*/*/*"):
        file.chmod(0o600)
        file.write_bytes(b"x" * file.stat().st_size)


def test_copying_is_shown_before_it_is_done(two):
    two.put("a")
    two.put("bc")
    two("init", ".")
    found = two("backend", "copy", "two", "--dry-run", "--json").object
    assert found == {"copied": 2, "bytes": 3, "there": 0, "gone": 0, "failed": 0, "failures": []}
    assert two("backend", "copy", "two", "--dry-run").lines == ["would be copied  2 blobs, 3 B"]
    assert not list(two.folder.glob("two/sha256/*/*/*"))
    assert two("backend", "copy", "two").lines == ["2 blobs copied, 3 B"]
    assert two("backend", "copy", "two", "--dry-run").lines == ["would be copied  0 blobs, 0 B"]
    two("backend", "copy", "three", "--dry-run", code=5)


def test_what_cannot_be_copied_ends_with_3_and_is_named(two):
    good, bad = two.put("a"), two.put("bc")
    two("init", ".")
    (damaged,) = (two.folder / "store/blobs/sha256").glob(f"*/*/{bad}*")
    damaged.chmod(0o600)
    damaged.write_bytes(b"xx")
    done = two("backend", "copy", "two", code=3)
    assert done.lines[0].startswith(f"{bad[:12]}  ")
    assert done.lines[1:] == ["1 blob copied, 1 B; 1 failed"]
    assert [each.name[:64] for each in two.folder.glob("two/sha256/*/*/*")] == [good]
    told = two("backend", "copy", "two", "--json", code=3).objects[-1]
    assert (told["copied"], told["failed"]) == (0, 1)
    assert told["failures"][0]["digest"] == bad


def test_copies_are_read_back_unless_told_otherwise(two, monkeypatch):
    two.put("a")
    two("init", ".")
    put = LocalBackend.put

    def put_otherwise(backend, key, source, size):
        put(backend, key, source, size)
        rotten(two, "two")

    monkeypatch.setattr(LocalBackend, "put", put_otherwise)
    assert "came back otherwise" in two("backend", "copy", "two", code=3).lines[0]
    assert two("backend", "copy", "two", "--no-verify").lines == ["1 blob copied, 1 B"]


def test_copying_is_no_faster_than_its_rate(two):
    for n in range(3):
        two.put(f"{n}", content=bytes([n]) * 20_000)
    two("init", ".")
    started = time.monotonic()
    two("backend", "copy", "two", "--rate", "100kB")
    assert time.monotonic() - started >= 0.6
    for none in ("0", "fast"):
        two("backend", "copy", "two", "--rate", none, code=2 if none == "fast" else 1)


def test_dropping_is_shown_before_it_is_done(two):
    two("init", ".")
    two.put("a")
    two("backend", "copy", "two")
    (two.folder / "two").rename(two.folder / "away")
    two.put("b")  # where the mirror is not
    (two.folder / "away").rename(two.folder / "two")
    two("backend", "primary", "two")
    before = two("backend", "list", "--json").objects
    said = two("backend", "drop", "main", "--dry-run", "--bytes")
    assert said.out.splitlines() == [
        "would go    1 copy, 1 B, once another copy is read whole",
        "would stay  1 copy, 1 B: no other backend has them sound",
    ]
    told = two("backend", "drop", "main", "--dry-run", "--json").objects
    assert [(each["let_go"], each["kept"], each["removed"]) for each in told] == [(1, 1, False)]
    assert two("backend", "list", "--json").objects == before
    two("backend", "drop", "main", code=3)


@pytest.mark.parametrize("verb", [["put", "calotype.toml"], ["stats"], ["gc"], ["fsck"]])
def test_another_url_than_the_catalogs_is_refused_before_anything_is_written(
    two, monkeypatch, verb
):
    two("init", ".")
    before = sorted(two.folder.rglob("*"))
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__URL", "file:elsewhere")
    said = said_in_one_line(two(*verb, code=1))
    assert "'two' is file:" in said and "elsewhere" in said and "calotype backend add" in said
    assert sorted(two.folder.rglob("*")) == before


def test_what_is_configured_as_the_primary_is_added_as_a_mirror(two, monkeypatch):
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__ROLE", "primary")
    two("init", ".")
    assert roles(two) == {"main": "primary", "two": "mirror"}


def test_another_one_than_main_may_be_the_primary(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_CATALOG", "sqlite:///app.db")
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__URL", "file:main")
    monkeypatch.setenv("CALOTYPE_BACKENDS__FAST__URL", "file:fast")
    monkeypatch.setenv("CALOTYPE_BACKENDS__FAST__ROLE", "primary")
    desk.put("a")
    assert (desk.folder / "fast/sha256").is_dir() and not (desk.folder / "main").exists()
    desk("backend", "add", "main")
    assert roles(desk) == {"fast": "primary", "main": "mirror"}
    monkeypatch.setenv("CALOTYPE_BACKENDS__MAIN__ROLE", "primary")
    assert "fast and main is the primary" in said_in_one_line(desk("ls", code=1))


def test_the_first_backend_is_the_primary_where_none_is_called_main(desk, monkeypatch):
    monkeypatch.delenv("CALOTYPE_STORE")
    monkeypatch.setenv("CALOTYPE_CATALOG", "sqlite:///app.db")
    monkeypatch.setenv("CALOTYPE_BACKENDS__ONE__URL", "file:one")
    desk.put("a")
    assert (desk.folder / "one/sha256").is_dir()
    monkeypatch.setenv("CALOTYPE_BACKENDS__TWO__URL", "file:two")
    assert "one and two is the primary" in said_in_one_line(desk("ls", code=1))
    monkeypatch.setenv("CALOTYPE_BACKENDS__ONE__ROLE", "primary")
    desk("backend", "add", "two")
    desk("backend", "copy", "two")
    assert roles(desk) == {"one": "primary", "two": "mirror"}
    desk("backend", "primary", "two")
    desk("backend", "drop", "one")
    monkeypatch.delenv("CALOTYPE_BACKENDS__ONE__URL")
    monkeypatch.delenv("CALOTYPE_BACKENDS__ONE__ROLE")
    assert roles(desk) == {"two": "primary"}
    assert desk("get", desk.put("a"), "-o", "-").out == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[backends.two]\nurl = 'file:b'\nrole = 'slave'", "There are primary, mirror, read."),
        ("[backends.two]\nrole = 'read'", "Set backends.two.url as well."),
        ("[backends.two]\nulr = 'file:b'", "'backends.two.url'"),
        ("[backends.Two]\nurl = 'file:b'", "No such setting"),
        ("[backends]\nurl = 'file:b'", "No such setting"),
    ],
)
def test_half_a_backend_is_an_error_that_says_which(desk, text, said):
    desk("init", "store")
    desk.file("store/calotype.toml", f"path = '.'\n{text}\n".encode())
    line = said_in_one_line(desk("ls", code=1))
    assert said in line and "store/calotype.toml" in line


def test_the_password_of_a_backend_is_masked_and_may_lie_in_a_file(desk, monkeypatch):
    url = "postgresql://ana:secret@host/db?password=secret"
    desk.file("url", url.encode())
    monkeypatch.setenv("CALOTYPE_BACKENDS__ARCHIVE__URL_FILE", "url")
    masked = "postgresql://ana:***@host/db?password=***"
    assert origins(desk)["backends.archive.url"] == (masked, "CALOTYPE_BACKENDS__ARCHIVE__URL_FILE")
    assert "secret" not in desk("config", "--origin").out


def test_a_variable_that_says_where_leaves_the_backends_of_a_file_alone(two, monkeypatch):
    monkeypatch.setenv("CALOTYPE_PATH", str(two.folder / "other"))
    assert "backends.two.url" not in origins(two)
    two("init", "other")
    assert not (two.folder / "two").exists()


def test_a_password_in_the_configuration_opens_what_the_catalog_notes_without(desk, monkeypatch):
    """The server lets anybody in; what counts is that the two URLs are one place."""
    bare = servers.schema()
    with_password = bare.replace("postgresql://postgres@", "postgresql://postgres:secret@", 1)
    assert with_password != bare
    monkeypatch.setenv("CALOTYPE_BACKENDS__ARCHIVE__URL", with_password)
    digest = desk.put("a")
    desk("backend", "add", "archive")
    desk("backend", "copy", "archive")
    assert "secret" not in desk("backend", "list", "--json").out
    assert "secret" not in desk("doctor").out
    (file,) = (desk.folder / "store/blobs/sha256").glob("*/*/*")
    file.unlink()
    assert desk("get", digest, "-o", "-").out == "a"
