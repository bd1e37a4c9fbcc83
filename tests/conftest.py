"""Fixtures: stores in every place where one can live, with a clock of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests import mounts, seaweed
from tests import proxy as network
from tests.proxy import Proxy
from tests.store.places import Clock, Place

from calotype import Store


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "mounts: needs small or read-only disks of its own")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Collect what needs disks of its own only where they can be made."""
    if mounts.MISSING:
        items[:] = [item for item in items if item.get_closest_marker("mounts") is None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not collected, and why."""
    if mounts.MISSING:
        terminalreporter.write_line(f"not collected: {mounts.MISSING}")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test sets in the environment, as keys of services, ends with it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def s3_keys() -> None:
    """The keys of the tests' S3 service, as a user has them in the environment."""
    os.environ.update(seaweed.ENVIRONMENT)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A network before that service."""
    with network.before(seaweed.endpoint()) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still; stores of the test go by it."""
    return Clock()


@pytest.fixture(params=["folder", "memory", "shared", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path, clock) -> Place:
    """Each place in turn."""
    return Place(request.param, tmp_path, clock)


@pytest.fixture(params=["folder", "shared", "postgres"])
def durable(request: pytest.FixtureRequest, tmp_path, clock) -> Place:
    """Each place that outlives the store: it can be opened again, its files can be harmed."""
    return Place(request.param, tmp_path, clock)


@pytest.fixture(params=["folder", "shared"])
def in_file(request: pytest.FixtureRequest, tmp_path, clock) -> Place:
    """Each place whose catalog is an SQLite file."""
    return Place(request.param, tmp_path, clock)


@pytest.fixture
def folder(tmp_path, clock) -> Place:
    """A store's own folder."""
    return Place("folder", tmp_path, clock)


@pytest.fixture
def shared(tmp_path, clock) -> Place:
    """A store inside an application's database."""
    return Place("shared", tmp_path, clock)


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    """An empty store in each place in turn."""
    with place.open() as opened:
        yield opened


@pytest.fixture
def memory(tmp_path, clock) -> Iterator[Store]:
    """An empty store in memory, for what does not depend on the place."""
    with Place("memory", tmp_path, clock).open() as opened:
        yield opened
