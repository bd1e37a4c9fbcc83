"""The contract of a backend's notes as tests: beside ``BackendContract``, for one that keeps them.

class TestMine(NotesContract, BackendContract):
    @pytest.fixture
    def backend(self, tmp_path):
        return MyBackend(tmp_path)
"""

from __future__ import annotations

import pytest

from calotype.backends import Backend, Notes
from calotype.backends.markers import ERASED, MARKER, blocked_name, erased_name
from calotype.testing.objects import absent, key, names, noise, put, read, together

LONG = noise(300_000)
NAMES = (MARKER, erased_name(7), blocked_name("ab" * 32))


class NotesContract:
    """What every backend promises that keeps notes. Each test takes the ``backend`` alone."""

    @pytest.fixture
    def backend(self) -> Backend:
        """An empty backend: for the subclass to give."""
        raise NotImplementedError(f"{type(self).__name__} gives no 'backend' fixture")

    def test_a_note_is_read_back(self, backend: Backend) -> None:
        """Whole, also a long one and an empty one; and None is none."""
        notes = _notes(backend)
        for name, content in zip(NAMES, (b"{}\n", LONG, b""), strict=True):
            assert notes.read_note(name) is None
            assert notes.write_note(name, content)
            assert notes.read_note(name) == content

    def test_a_note_is_written_where_there_is_none(self, backend: Backend) -> None:
        """Another one stays; the very same one is as good as written."""
        notes = _notes(backend)
        assert notes.write_note(MARKER, b"one")
        assert not notes.write_note(MARKER, b"two")
        assert notes.read_note(MARKER) == b"one"
        assert notes.write_note(MARKER, b"one")

    def test_a_note_gives_way_to_who_has_read_it(self, backend: Backend) -> None:
        """And to nobody else: neither to who read an older one, nor to who read one that went."""
        notes = _notes(backend)
        assert notes.write_note(MARKER, b"one")
        assert notes.write_note(MARKER, b"the second", instead_of=b"one")
        assert not notes.write_note(MARKER, b"three", instead_of=b"one")
        assert notes.read_note(MARKER) == b"the second"
        assert notes.write_note(MARKER, b"3", instead_of=b"the second")
        assert notes.read_note(MARKER) == b"3"
        notes.delete_note(MARKER)
        assert not notes.write_note(MARKER, b"four", instead_of=b"3")
        assert notes.read_note(MARKER) is None

    def test_of_several_at_once_one_gives_way_to_one(self, backend: Backend) -> None:
        """Each goes on from what it read: no step is lost."""
        notes = _notes(backend)
        assert notes.write_note(MARKER, b"0")

        def step(writer: int) -> None:
            for _ in range(5):
                while True:
                    there = notes.read_note(MARKER) or b""
                    number = int(there.split()[0]) + 1
                    if notes.write_note(MARKER, b"%d %d" % (number, writer), instead_of=there):
                        break

        together(*[lambda w=writer: step(w) for writer in range(4)])
        assert (notes.read_note(MARKER) or b"").split()[0] == b"20"

    def test_deleting_a_note_is_harmless_to_repeat(self, backend: Backend) -> None:
        """Also where there never was one; others stay."""
        notes = _notes(backend)
        notes.delete_note(MARKER)
        assert notes.write_note(MARKER, b"one")
        assert notes.write_note(erased_name(1), b"two")
        for _ in range(2):
            notes.delete_note(MARKER)
            assert notes.read_note(MARKER) is None
        assert notes.read_note(erased_name(1)) == b"two"

    def test_notes_are_listed_beside_objects(self, backend: Backend) -> None:
        """By their names, in order, and found by what these begin with."""
        notes = _notes(backend)
        put(backend, key("a"), b"bytes")
        for name in (*NAMES, erased_name(12)):
            assert notes.write_note(name, b"note")
        assert names(backend) == sorted((*NAMES, erased_name(12), str(key("a"))))
        assert names(backend, ERASED) == [erased_name(7), erased_name(12)]
        assert names(backend, "sha256/") == [str(key("a"))]
        assert {found.size for found in backend.scan(ERASED)} == {4}

    def test_notes_and_objects_do_not_disturb_each_other(self, backend: Backend) -> None:
        """Neither is taken for the other."""
        notes = _notes(backend)
        assert notes.write_note(MARKER, b"note")
        assert absent(backend, key("a"))
        put(backend, key("a"), b"bytes")
        notes.delete_note(MARKER)
        assert read(backend, key("a")) == b"bytes"
        assert notes.write_note(MARKER, b"again")
        backend.delete(key("a"))
        assert notes.read_note(MARKER) == b"again"


def _notes(backend: Backend) -> Notes:
    assert isinstance(backend, Notes)
    return backend
