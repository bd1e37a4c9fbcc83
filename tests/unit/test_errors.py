"""Errors: one class a code, all in one tree, each with a message that helps."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import calotype
from calotype import errors
from calotype.catalog.failures import meaning
from calotype.errors import CalotypeError, InvalidDigest, Locked, Misconfigured, NotFound

CODES = {
    "NotFound": "not-found",
    "AmbiguousPrefix": "ambiguous-prefix",
    "InvalidDigest": "bad-digest",
    "DigestMismatch": "digest-mismatch",
    "Corrupt": "corrupt",
    "StillReferenced": "still-referenced",
    "Blocked": "blocked",
    "TooLarge": "too-large",
    "QuotaExceeded": "quota-exceeded",
    "NotAnImage": "not-an-image",
    "DecompressionBomb": "decompression-bomb",
    "Locked": "locked",
    "EraseLocked": "erase-locked",
    "GcLimit": "gc-limit",
    "Denied": "denied",
    "UrlExpired": "url-expired",
    "Unavailable": "backend-unreachable",
    "NoStore": "no-store",
    "SchemaBehind": "schema-behind",
    "SchemaAhead": "schema-ahead",
    "MissingExtra": "missing-extra",
    "RoleCascades": "role-cascades",
    "OpenToWorld": "open-to-world",
    "Misconfigured": "misconfigured",
}
"""Programs outside depend on these words: one may be added, none may change."""

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, CalotypeError) and each is not CalotypeError
]
SOURCES = sorted(Path(calotype.__file__).parent.rglob("*.py"))


def raised(name: str, message: str, hint: str) -> None:
    raise getattr(errors, name)(message, hint=hint)


def made_in(path: Path) -> list[ast.Call]:
    """The calls in a file that make an error of ours, by its name or as ``Locked.out``."""
    names = {*CODES, "CalotypeError"}
    calls = (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call))
    return [each for each in calls if _made_by(each) in names]


def _made_by(call: ast.Call) -> str:
    """The name that is called, or whose method is."""
    called = call.func
    if isinstance(called, ast.Attribute) and not called.attr.startswith("_"):
        called = called.value
    return called.id if isinstance(called, ast.Name) else ""


def test_every_class_has_the_code_that_programs_know_it_by():
    assert {each.__name__: each.code for each in CLASSES} == CODES


def test_no_two_classes_share_a_code():
    assert len({each.code for each in CLASSES}) == len(CLASSES)


def test_a_code_is_written_in_words_with_hyphens():
    assert [each.code for each in CLASSES if not re.fullmatch("[a-z]+(-[a-z]+)*", each.code)] == []


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(each.__name__ for each in CLASSES)
    assert all(each.__bases__[0] is CalotypeError for each in CLASSES)
    assert errors.__doc__.splitlines()[2] == "CalotypeError"


def test_one_clause_catches_them_all():
    for each in CLASSES:
        with pytest.raises(CalotypeError):
            raise each("It went wrong.")


@pytest.mark.parametrize("kind", [InvalidDigest, Misconfigured])
def test_a_wrong_argument_is_a_value_error_too(kind):
    assert issubclass(kind, ValueError)
    assert not issubclass(NotFound, ValueError)


def test_an_error_says_what_happened_and_hints_at_a_cure():
    error = NotFound("There is no such asset.", hint="List them with 'calotype ls'.")
    assert str(error) == "There is no such asset."
    assert error.hint == "List them with 'calotype ls'."
    assert error.code == "not-found"


def test_a_hint_is_optional_and_named():
    assert NotFound("There is none.").hint == ""
    with pytest.raises(TypeError):
        NotFound("There is none.", "Look elsewhere.")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda each: each.__name__)
def test_an_error_is_copied_and_pickled_with_its_hint(kind):
    error = kind("It went wrong.", hint="Try again.")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(other) is kind
        assert (str(other), other.hint, other.code) == ("It went wrong.", "Try again.", kind.code)


def test_an_error_comes_out_of_another_process_as_it_is():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(raised, "Locked", "It is locked.", "Wait.").exception()
    assert type(error) is errors.Locked
    assert (str(error), error.hint) == ("It is locked.", "Wait.")


def test_the_calls_that_make_errors_are_found():
    made = [call for path in SOURCES for call in made_in(path)]
    assert len(made) > 50
    assert [call for call in made if isinstance(call.func, ast.Attribute)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_wherever_an_error_is_made_it_has_a_hint(path):
    """But for a backend's NotFound, which whoever asked the backend turns into an answer."""
    without = [
        f"{path.name}:{call.lineno}"
        for call in made_in(path)
        if not any(word.arg in ("hint", None) for word in call.keywords)
        and not (path.parent.name == "backends" and _made_by(call) == "NotFound")
    ]
    assert without == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_messages_and_hints_end_as_sentences_do(path):
    for call in made_in(path):
        for said in [*call.args, *[word.value for word in call.keywords if word.arg == "hint"]]:
            text = _literal(said)
            assert text == "" or text[-1] in ".?{*", f"{path.name}:{call.lineno} {text}"


def _literal(node: ast.expr) -> str:
    """A string's text, with ``{`` for each value that is filled in; empty for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) or "{" for part in node.values)
    return ""


@pytest.mark.parametrize("sign", ["database is locked", "database table is locked"])
def test_a_file_that_sqlite_says_is_locked_is_locked_as_a_whole(sign):
    error = meaning(sqlite3.OperationalError(sign))
    assert isinstance(error, Locked) and error.whole
