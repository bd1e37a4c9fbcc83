"""The contract of a backend as tests: subclass, give a ``backend`` fixture, and run pytest.

    class TestMine(BackendContract):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path)

    TestMineAgainstAModel = machine(lambda: MyBackend(mkdtemp())).TestCase

The fixture gives an empty backend to each test. One that also stages files has
``calotype.testing.stages.StagesContract``, which holds all of this and more.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from calotype.backends import Backend, Key
from calotype.errors import CalotypeError, Unavailable
from calotype.quantities import SECOND, now
from calotype.testing.objects import (
    Broken,
    absent,
    key,
    names,
    noise,
    put,
    read,
    source,
    together,
)

OLD, NEW = noise(300_000, 1), noise(200_000, 2)
CUT = len(NEW) // 2
DAY = 86_400 * SECOND


class BackendContract:
    """What every backend promises. Each test takes the ``backend`` alone."""

    @pytest.fixture
    def backend(self) -> Backend:
        """An empty backend: for the subclass to give."""
        raise NotImplementedError(f"{type(self).__name__} gives no 'backend' fixture")

    def test_what_was_put_is_read_back(self, backend: Backend) -> None:
        """Whole, with its size."""
        backend.put(key("a"), source(NEW), len(NEW))
        assert read(backend, key("a")) == NEW
        assert backend.size(key("a")) == len(NEW)

    def test_an_empty_object_is_an_object(self, backend: Backend) -> None:
        """No bytes is not the same as no object."""
        put(backend, key("a"), b"")
        assert read(backend, key("a")) == b""
        assert backend.size(key("a")) == 0
        assert names(backend) == [str(key("a"))]

    def test_five_mebibytes_are_read_back(self, backend: Backend) -> None:
        """Past the size of every buffer and part."""
        large = noise(5 << 20)
        backend.put(key("a"), source(large), len(large))
        assert read(backend, key("a")) == large
        assert read(backend, key("a"), 3 << 20, (4 << 20) + 1) == large[3 << 20 : (4 << 20) + 1]

    def test_a_source_is_read_from_where_it_stands(self, backend: Backend) -> None:
        """Nobody rewinds it."""
        file = io.BytesIO(b"gone before" + NEW)
        file.seek(len(b"gone before"))
        backend.put(key("a"), file, len(NEW))
        assert read(backend, key("a")) == NEW

    def test_what_is_not_there_is_not_found(self, backend: Backend) -> None:
        """In an empty backend, and beside other objects."""
        assert absent(backend, key("a"))
        put(backend, key("b"), NEW)
        assert absent(backend, key("a"))

    def test_a_range_is_clipped_to_the_object(self, backend: Backend) -> None:
        """As slices of bytes are."""
        put(backend, key("a"), NEW)
        size = len(NEW)
        for start in (0, 1, CUT, size - 1, size, size + 9):
            for stop in (None, 0, 1, CUT, size - 1, size, size + 9):
                assert read(backend, key("a"), start, stop) == NEW[start:stop], (start, stop)

    def test_readers_share_no_position(self, backend: Backend) -> None:
        """Two readers of one object go on by themselves."""
        put(backend, key("a"), NEW)
        with backend.open(key("a")) as first, backend.open(key("a"), CUT) as second:
            assert first.read(9) == NEW[:9]
            assert second.read(9) == NEW[CUT:][:9]
            assert first.read() == NEW[9:]
            assert second.read() == NEW[CUT:][9:]

    def test_a_broken_source_leaves_no_trace(self, backend: Backend) -> None:
        """Its own error comes out, and nothing is there."""
        for offset in (0, CUT):
            with pytest.raises(Broken):
                backend.put(key("a"), source(NEW, breaks_at=offset), len(NEW))
            assert absent(backend, key("a"))
        assert names(backend) == []

    def test_a_source_that_refuses_at_its_end_leaves_no_trace(self, backend: Backend) -> None:
        """A verifying source raises only once all was read: the bytes were wrong."""
        with pytest.raises(Broken):
            backend.put(key("a"), source(NEW, breaks_at=len(NEW)), len(NEW))
        assert absent(backend, key("a"))
        assert names(backend) == []

    def test_a_source_that_ends_early_leaves_no_trace(self, backend: Backend) -> None:
        """Also by a single byte, and when it has none."""
        for content in (b"", NEW[:CUT], NEW[:-1]):
            with pytest.raises(Unavailable):
                backend.put(key("a"), source(content), len(NEW))
            assert absent(backend, key("a"))
        assert names(backend) == []

    def test_a_source_that_goes_on_too_long_leaves_no_trace(self, backend: Backend) -> None:
        """Also by a single byte, and where none were announced."""
        for size in (0, CUT, len(NEW) - 1):
            with pytest.raises(Unavailable):
                backend.put(key("a"), source(NEW), size)
            assert absent(backend, key("a"))
        assert names(backend) == []

    def test_a_failed_put_harms_nothing_that_was_stored(self, backend: Backend) -> None:
        """The old object stays whole, however the source fails."""
        put(backend, key("a"), OLD)
        for offset in (0, CUT, len(NEW)):
            with pytest.raises(Broken):
                backend.put(key("a"), source(NEW, breaks_at=offset), len(NEW))
        for size in (CUT, len(NEW) + 1):
            with pytest.raises(Unavailable):
                backend.put(key("a"), source(NEW), size)
        assert read(backend, key("a")) == OLD
        assert names(backend) == [str(key("a"))]

    def test_putting_again_replaces(self, backend: Backend) -> None:
        """A shorter, a longer and a damaged object of the same length: each is replaced."""
        for content in (OLD, NEW, OLD, bytes(len(NEW)), NEW):
            put(backend, key("a"), content)
            assert read(backend, key("a")) == content
            assert backend.size(key("a")) == len(content)
            assert names(backend) == [str(key("a"))]

    def test_an_object_is_there_whole_or_not_at_all(self, backend: Backend) -> None:
        """While its source is still read there is nothing, and of what was there all."""
        put(backend, key("b"), OLD)

        def look() -> None:
            assert absent(backend, key("a"))
            assert read(backend, key("b")) == OLD
            assert names(backend) == [str(key("b"))]

        backend.put(key("a"), source(NEW[:40], before=look), 40)
        backend.put(key("a"), source(NEW), len(NEW))

        def look_again() -> None:
            assert read(backend, key("b")) == OLD
            assert backend.size(key("b")) == len(OLD)

        backend.put(key("b"), source(NEW, before=look_again), len(NEW))
        assert read(backend, key("b")) == NEW

    def test_racing_writers_end_with_one_whole_object(self, backend: Backend) -> None:
        """Different bytes of different length under one key; readers beside see whole ones."""
        contents = [noise(50_000 + 13_000 * seed, seed) for seed in range(6)]
        put(backend, key("a"), contents[0])
        gate = threading.Barrier(len(contents))
        writing = list(contents)

        def write(content: bytes) -> None:
            reads = count()

            def in_step() -> None:
                if next(reads) < 3:
                    with suppress(threading.BrokenBarrierError):  # where a backend queues them
                        gate.wait(1)

            try:
                for _ in range(3):
                    backend.put(key("a"), source(content, before=in_step), len(content))
            finally:
                writing.remove(content)

        def look() -> None:
            looks = count()
            while writing or next(looks) < 20:
                assert read(backend, key("a")) in contents

        together(look, look, *[lambda c=content: write(c) for content in contents])
        assert read(backend, key("a")) in contents
        assert backend.size(key("a")) == len(read(backend, key("a")))
        assert names(backend) == [str(key("a"))]

    def test_deleting_is_harmless_to_repeat(self, backend: Backend) -> None:
        """Also where there never was anything; other objects stay."""
        put(backend, key("b"), OLD)
        backend.delete(key("a"))
        put(backend, key("a"), NEW)
        for _ in range(2):
            backend.delete(key("a"))
            assert absent(backend, key("a"))
        assert read(backend, key("b")) == OLD

    def test_a_deleted_object_can_be_put_again(self, backend: Backend) -> None:
        """Nothing remembers the deletion."""
        for content in (NEW, OLD):
            put(backend, key("a"), content)
            backend.delete(key("a"))
        put(backend, key("a"), NEW)
        assert read(backend, key("a")) == NEW

    def test_a_reader_never_mixes_two_objects(self, backend: Backend) -> None:
        """One that was opened before a delete or a replacement reads the old bytes, or fails."""
        changes: tuple[Callable[[], None], ...] = (
            lambda: backend.delete(key("a")),
            lambda: put(backend, key("a"), NEW),
            lambda: put(backend, key("a"), OLD[::-1]),
        )
        for change in changes:
            put(backend, key("a"), OLD)
            with backend.open(key("a")) as file:
                begun = file.read(10)
                change()
                try:
                    rest = file.read()
                except CalotypeError:
                    continue
                assert begun + rest == OLD

    def test_token_and_extension_make_other_objects(self, backend: Backend) -> None:
        """One digest, several keys: none is taken for another."""
        token, other = "0123456789abcdef", "fedcba9876543210"
        keys = [key("a", t, e) for t in ("", token, other) for e in ("", "jpg", "jp")]
        for at in keys:
            put(backend, at, str(at).encode())
        assert [read(backend, at) for at in keys] == [str(at).encode() for at in keys]
        backend.delete(keys[0])
        assert absent(backend, keys[0])
        assert names(backend) == sorted(map(str, keys[1:]))

    def test_a_scan_is_sorted_and_tells_size_and_time(self, backend: Backend) -> None:
        """By name, each once; times are microseconds since 1970."""
        objects = {str(key(f"{n}")): n for n in range(40)}
        for n in range(40):
            put(backend, key(f"{n}"), bytes(n))
        listed = list(backend.scan())
        assert [found.name for found in listed] == sorted(objects)
        assert [found.size for found in listed] == [objects[name] for name in sorted(objects)]
        assert all(abs(found.modified - now()) < DAY for found in listed)

    def test_a_scan_keeps_to_its_prefix(self, backend: Backend) -> None:
        """A prefix is the beginning of a name: not a folder, and not any part of it."""
        keys = sorted(str(key(f"{n}", extension="jpg")) for n in range(40))
        for n in range(40):
            put(backend, key(f"{n}", extension="jpg"), b"x")
        some = keys[20]
        for prefix in ("", "s", "sha256", "sha256/", some[:8], some[:9], some[:10], some[:13]):
            assert names(backend, prefix) == [k for k in keys if k.startswith(prefix)], prefix
        assert names(backend, some[:40]) == names(backend, some) == [some]
        for prefix in (some[7:], some[13:30], "jpg", "/sha256", "sha2567", some + "x", some + "/"):
            assert names(backend, prefix) == [], prefix

    def test_a_scan_goes_on_beside_writers(self, backend: Backend) -> None:
        """It never raises, and lists what was there all the time."""
        stay = {str(key(f"stay{n}")) for n in range(10)}
        for n in range(10):
            put(backend, key(f"stay{n}"), b"x")

        done = threading.Event()

        def change(writer: int) -> None:
            for n in count():
                put(backend, key(f"{writer} {n % 7}"), b"y")
                backend.delete(key(f"{writer} {(n + 3) % 7}"))
                if done.is_set():
                    return

        def look() -> None:
            try:
                for _ in range(20):
                    listed = names(backend)
                    assert listed == sorted(set(listed))
                    assert stay <= set(listed)
            finally:
                done.set()

        together(look, *[lambda w=writer: change(w) for writer in range(3)])

    def test_many_threads_work_at_once(self, backend: Backend) -> None:
        """Each on objects of its own: none disturbs another."""

        def work(worker: int) -> None:
            for n in range(8):
                content = noise(9_000 + n, worker)
                backend.put(key(f"{worker} {n}"), source(content), len(content))
                assert read(backend, key(f"{worker} {n}")) == content
                if n % 2:
                    backend.delete(key(f"{worker} {n}"))

        together(*[lambda w=worker: work(w) for worker in range(8)])
        left = sorted(str(key(f"{worker} {n}")) for worker in range(8) for n in range(0, 8, 2))
        assert names(backend) == left


_KEYS = [
    key(name, token, extension)
    for name in "ab"
    for token in ("", "0123456789abcdef")
    for extension in ("", "png")
]
_ANY_KEY = st.sampled_from(_KEYS)
_BYTES = st.binary(max_size=200) | st.builds(noise, st.just(70_000), st.integers(0, 9))
_CUT = st.integers(0, 250)


def machine(make: Callable[[], Backend]) -> type[RuleBasedStateMachine]:
    """A Hypothesis machine that holds a backend from ``make`` against a dictionary.

    ``make`` gives an empty backend each time; what it leaves behind is the caller's to clean up.
    """

    class BackendMachine(RuleBasedStateMachine):
        """Puts, failing puts, deletes and reads in any order."""

        def __init__(self) -> None:
            super().__init__()
            self.backend = make()
            self.model: dict[Key, bytes] = {}

        @rule(at=_ANY_KEY, content=_BYTES)
        def put(self, at: Key, content: bytes) -> None:
            self.backend.put(at, source(content), len(content))
            self.model[at] = content

        @rule(at=_ANY_KEY, content=_BYTES, cut=_CUT)
        def put_from_a_broken_source(self, at: Key, content: bytes, cut: int) -> None:
            with pytest.raises(Broken):
                broken = source(content, breaks_at=min(cut, len(content)))
                self.backend.put(at, broken, len(content))

        @rule(at=_ANY_KEY, content=_BYTES, more=st.integers(-9, 9))
        def put_another_number_of_bytes(self, at: Key, content: bytes, more: int) -> None:
            assume(more and len(content) + more >= 0)
            with pytest.raises(Unavailable):
                self.backend.put(at, source(content), len(content) + more)

        @rule(at=_ANY_KEY)
        def delete(self, at: Key) -> None:
            self.backend.delete(at)
            self.model.pop(at, None)

        @rule(at=_ANY_KEY, start=_CUT, stop=st.none() | _CUT)
        def read(self, at: Key, start: int, stop: int | None) -> None:
            if at in self.model:
                assert read(self.backend, at, start, stop) == self.model[at][start:stop]
            else:
                assert absent(self.backend, at)

        @rule(at=_ANY_KEY, length=st.integers(0, 90))
        def scan(self, at: Key, length: int) -> None:
            prefix = str(at)[:length]
            kept = sorted(name for name in map(str, self.model) if name.startswith(prefix))
            assert names(self.backend, prefix) == kept

        @invariant()
        def all_is_as_the_model_has_it(self) -> None:
            sizes = {str(at): len(content) for at, content in self.model.items()}
            assert {found.name: found.size for found in self.backend.scan()} == sizes
            assert all(self.backend.size(at) == sizes.get(str(at)) for at in _KEYS)

    return BackendMachine
