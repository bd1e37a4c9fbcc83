"""Backends in memory, each wrong in one way."""

from __future__ import annotations

import io
import time
from contextlib import suppress

from calotype.backends import Key, Listed
from calotype.backends.memory import MemoryBackend, exactly
from calotype.errors import NotFound, Unavailable
from calotype.quantities import now


class InMemory(MemoryBackend):
    """Honest, and easy to break: what a mutant overrides is all that it does differently."""

    def store(self, key: Key, content: bytes) -> None:
        super().put(key, io.BytesIO(content), len(content))


class SkipsWhatExists(InMemory):
    def put(self, key, source, size):
        if self.size(key) is None:
            super().put(key, source, size)


class SwallowsErrors(InMemory):
    def put(self, key, source, size):
        with suppress(OSError):
            super().put(key, source, size)


class KeepsWhatArrived(InMemory):
    def put(self, key, source, size):
        content = b""
        try:
            for chunk in exactly(source, size):
                content += chunk
        finally:
            self.store(key, content)


class RenamesErrors(InMemory):
    def put(self, key, source, size):
        try:
            super().put(key, source, size)
        except OSError as error:
            raise Unavailable("the disk failed") from error


class TakesShortSources(InMemory):
    def put(self, key, source, size):
        content = b"".join(iter(lambda: source.read(size), b""))
        if len(content) > size:
            raise Unavailable("too long")
        self.store(key, content)


class NeverReadsPastTheSize(InMemory):
    def put(self, key, source, size):
        content = b""
        while len(content) < size:
            chunk = source.read(size - len(content))
            if not chunk:
                raise Unavailable("too short")
            content += chunk
        self.store(key, content)


class ReadsOnce(InMemory):
    def put(self, key, source, size):
        content = source.read(size)
        if len(content) != size or source.read(1):
            raise Unavailable("not the size")
        self.store(key, content)


class RewindsItsSource(InMemory):
    def put(self, key, source, size):
        with suppress(AttributeError):
            source.seek(0)
        super().put(key, source, size)


class CutsAtOneMebibyte(InMemory):
    def put(self, key, source, size):
        self.store(key, b"".join(exactly(source, size))[: 1 << 20])


class DeletesBeforeItPuts(InMemory):
    def put(self, key, source, size):
        self.delete(key)
        super().put(key, source, size)


class LosesWhatIsPutAtOnce(InMemory):
    def put(self, key, source, size):
        content = b"".join(exactly(source, size))
        objects = dict(self._objects)
        time.sleep(0.001)
        self._objects = objects | {str(key): (content, now())}


class IgnoresStop(InMemory):
    def open(self, key, start=0, stop=None):
        return super().open(key, start)


class IgnoresStart(InMemory):
    def open(self, key, start=0, stop=None):
        return super().open(key, 0, stop)


class RefusesToClip(InMemory):
    def open(self, key, start=0, stop=None):
        if start > (self.size(key) or 0):
            raise Unavailable("416")
        return super().open(key, start, stop)


class OpensWhatIsMissing(InMemory):
    def open(self, key, start=0, stop=None):
        return io.BytesIO() if self.size(key) is None else super().open(key, start, stop)


class SharesOneReader(InMemory):
    def __init__(self):
        super().__init__()
        self.reader = None

    def open(self, key, start=0, stop=None):
        content = super().open(key).read()
        if self.reader is None or self.reader.closed or self.reader.getvalue() != content:
            self.reader = io.BytesIO(content)
        self.reader.seek(start)
        return self.reader


class ReadsWhatIsThereByThen(InMemory):
    def open(self, key, start=0, stop=None):
        backend, honest = self, super().open

        class Lazy(io.BytesIO):
            def read(self, size=-1):
                with suppress(NotFound):
                    at = self.tell()
                    self.seek(0)
                    self.truncate()
                    self.write(MemoryBackend.open(backend, key, start, stop).getvalue())
                    self.seek(at)
                return super().read(size)

        return Lazy(honest(key, start, stop).read())


class HasSizeZeroForMissing(InMemory):
    def size(self, key):
        return super().size(key) or 0


class HasNoSizeForEmpty(InMemory):
    def size(self, key):
        return super().size(key) or None


class DeletesOnlyWhatIsThere(InMemory):
    def delete(self, key):
        del self._objects[str(key)]


class DeletesAllOfADigest(InMemory):
    def delete(self, key):
        for found in list(self.scan(str(Key(key.digest)))):
            super().delete(Key.parse(found.name))


class RemembersDeletions(InMemory):
    def __init__(self):
        super().__init__()
        self.gone = set()

    def delete(self, key):
        super().delete(key)
        self.gone.add(key)

    def size(self, key):
        return None if key in self.gone else super().size(key)

    def open(self, key, start=0, stop=None):
        if key in self.gone:
            raise NotFound("deleted")
        return super().open(key, start, stop)


class ForgetsTokens(InMemory):
    def put(self, key, source, size):
        super().put(Key(key.digest, "", key.extension), source, size)

    def open(self, key, start=0, stop=None):
        return super().open(Key(key.digest, "", key.extension), start, stop)


class ForgetsExtensions(InMemory):
    def put(self, key, source, size):
        super().put(Key(key.digest, key.token), source, size)

    def open(self, key, start=0, stop=None):
        return super().open(Key(key.digest, key.token), start, stop)


class ScansInAnyOrder(InMemory):
    def scan(self, prefix=""):
        return reversed(list(super().scan(prefix)))


class ScansByContainment(InMemory):
    def scan(self, prefix=""):
        return (found for found in super().scan() if prefix in found.name)


class ScansWholeFolders(InMemory):
    def scan(self, prefix=""):
        folder = prefix.rstrip("/") + "/" if prefix else ""
        return super().scan(folder)


class ScansNoMoreThanAPage(InMemory):
    def scan(self, prefix=""):
        return iter(list(super().scan(prefix))[:30])


class ScansInSeconds(InMemory):
    def scan(self, prefix=""):
        for found in super().scan(prefix):
            yield Listed(found.name, found.size, found.modified // 1_000_000)


class ScanTrips(InMemory):
    def scan(self, prefix=""):
        for name in sorted(name for name in list(self._objects) if name.startswith(prefix)):
            time.sleep(0.0002)
            content, modified = self._objects[name]
            yield Listed(name, len(content), modified)


class KeepsHalfOfANote(InMemory):
    def write_note(self, name, content, *, instead_of=None):
        return super().write_note(name, content[:100_000], instead_of=instead_of)


class WritesOverNotes(InMemory):
    def write_note(self, name, content, *, instead_of=None):
        return super().write_note(name, content, instead_of=self.read_note(name))


class NeverWritesOverNotes(InMemory):
    def write_note(self, name, content, *, instead_of=None):
        return super().write_note(name, content)


class RefusesTheSameNote(InMemory):
    def write_note(self, name, content, *, instead_of=None):
        if self.read_note(name) not in (None, instead_of):
            return False
        return super().write_note(name, content, instead_of=instead_of)


class LooksAndThenWrites(InMemory):
    def write_note(self, name, content, *, instead_of=None):
        there = self.read_note(name)
        time.sleep(0.001)
        if there not in (instead_of, content):
            return False
        return super().write_note(name, content, instead_of=self.read_note(name))


class DeletesAllNotes(InMemory):
    def delete_note(self, name):
        self._notes.clear()


class DeletesOnlyNotesThatAreThere(InMemory):
    def delete_note(self, name):
        del self._notes[name]


class HidesItsNotes(InMemory):
    def scan(self, prefix=""):
        return (found for found in super().scan(prefix) if found.name not in self._notes)


class ForgetsNotesWithObjects(InMemory):
    def delete(self, key):
        super().delete(key)
        self._notes.clear()
