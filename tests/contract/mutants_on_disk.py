"""Backends on disk, each wrong in one way."""

from __future__ import annotations

import io
import os
from pathlib import Path
from unittest.mock import patch

from calotype.backends import Key, Listed, local
from calotype.backends.local import LocalBackend
from calotype.backends.memory import exactly
from calotype.backends.staged import LocalStaged
from calotype.quantities import now


class OnDisk(LocalBackend):
    """Honest, with a way to write a file as a mutant likes."""

    def at(self, key: Key) -> Path:
        path = Path(self.path(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class WritesInPlace(OnDisk):
    def put(self, key, source, size):
        with self.at(key).open("wb", buffering=0) as file:
            for chunk in exactly(source, size):
                file.write(chunk)


class WritesInPlaceAndTidiesUp(OnDisk):
    def put(self, key, source, size):
        try:
            with self.at(key).open("wb", buffering=0) as file:
                for chunk in exactly(source, size):
                    file.write(chunk)
        except BaseException:
            self.delete(key)
            raise


class HasOneTemporaryName(OnDisk):
    def put(self, key, source, size):
        path = self.at(key)
        part = Path(self.path(key)).parents[3] / "tmp" / path.name
        part.parent.mkdir(exist_ok=True)
        try:
            with part.open("wb", buffering=0) as file:
                for chunk in exactly(source, size):
                    file.write(chunk)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)


class RenamesBeforeTheEnd(OnDisk):
    def put(self, key, source, size):
        file = self.stage()
        chunks = exactly(source, size)
        file.write(next(chunks, b""))
        self.publish([(key, file)])
        with open(os.dup(file._file.fileno()), "ab", buffering=0) as rest:
            rest.writelines(chunks)
        file.discard()


class ListsTemporaryFiles(OnDisk):
    def scan(self, prefix=""):
        yield from super().scan(prefix)
        root = Path(self.url.removeprefix("file:"))
        for path in sorted((root / "tmp").glob("*")):
            if str(path.relative_to(root)).startswith(prefix):
                yield Listed(str(path.relative_to(root)), path.stat().st_size, now())


class LeavesItsTemporaryFiles(OnDisk):
    def put(self, key, source, size):
        file = self.stage()
        for chunk in exactly(source, size):
            file.write(chunk)
        self.publish([(key, file)])
        file.discard()


class PublishesAllButOne(OnDisk):
    def publish(self, items):
        super().publish(items[: max(1, len(items) - 1)])


class PublishesNothingOverOldObjects(OnDisk):
    def publish(self, items):
        super().publish([(key, file) for key, file in items if self.size(key) is None])


class PublishesOnce(OnDisk):
    def publish(self, items):
        super().publish([(key, file) for key, file in items if not file.published])


class StagesAnother(OnDisk):
    """Stages files of a class that a mutant gives."""

    kind: type[LocalStaged] = LocalStaged

    def stage(self):
        file = super().stage()
        file.__class__ = type(self.kind.__name__, (self.kind,), {"__slots__": ()})
        return file


class DiscardsTheObject(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def discard(self):
            super().discard()
            if self.published:
                os.unlink(os.path.join(self._root, self._name))


class DiscardsOnlyItsDescriptor(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def discard(self):
            self._file.close()


class ReadsOnFromWhereItWrote(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def open(self):
            return os.fdopen(os.dup(self._file.fileno()), "rb")


class StagesOneForAll(OnDisk):
    def stage_all(self, contents):
        return super().stage_all([contents[0]] * len(contents)) if contents else []


class RestsOpen(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def rest(self, witness):
            self.seal()


class ForgetsWhatRests(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def rest(self, witness):
            self._file.truncate(0)
            super().rest(witness)


class ReadsByName(StagesAnother):
    class kind(LocalStaged):
        __slots__ = ()

        def open(self):
            path = os.path.join(self._root, self._name)

            class Reader(io.BytesIO):
                def read(self, size=-1):
                    os.stat(path)
                    return super().read(size)

            return Reader(Path(path).read_bytes())


class SweepsTheYoung(OnDisk):
    def sweep(self, older_than):
        return super().sweep(2**62)


class SweepsWhatIsHeld(OnDisk):
    def sweep(self, older_than):
        with patch.object(local, "is_held", return_value=False):
            return super().sweep(older_than)


class SweepsNothing(OnDisk):
    def sweep(self, older_than):
        return 0


class StagesInSight(OnDisk):
    def stage(self):
        file = super().stage()
        (Path(self.url.removeprefix("file:")) / "staging").write_bytes(b"")
        return file
