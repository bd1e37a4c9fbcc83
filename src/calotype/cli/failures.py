"""What failed, file by file: told, written down for ``--failures``, and read by ``--from``."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from calotype.cli.exits import Usage, as_json, sentence
from calotype.cli.names import shown
from calotype.cli.options import is_stdio, stdin
from calotype.cli.printing import Printer
from calotype.errors import CalotypeError, Misconfigured, Unavailable


def tell(printer: Printer, name: str, error: CalotypeError) -> None:
    """Say that one file failed: among the answers for programs, on stderr for people."""
    if printer.json:
        printer.failure({"event": "failure", "source": name, "error": {**as_json(error)}})
    else:
        printer.out.flush()
        where = "" if repr(name) in str(error) else f"{shown(name)}: "
        print(f"calotype: {where}{sentence(error)}", file=printer.err)


def sources(file: Path) -> Iterator[Path]:
    """The sources that a list names; ``Misconfigured`` for anything else."""
    name = "-" if is_stdio(file) else str(file)
    try:
        content = stdin().read() if is_stdio(file) else file.read_bytes()
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"Cannot read {name!r}: {error}.", hint="Check it.") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield Path(_source(line, f"{name}:{number}"))


def _source(line: str, where: str) -> str:
    try:
        found: object = json.loads(line)
    except ValueError:
        found = None
    source = found.get("source") if isinstance(found, dict) else None
    if not isinstance(source, str):
        raise Misconfigured(
            f"{where} names no source.", hint="""Each line is an object: {"source": "FILE"}."""
        )
    return source


def require_writable(file: Path) -> None:
    """Notice before the work that the list could not be written after it; ``Usage``.

    An old list stays as it is until then, for it may be where the sources come from; no new one
    is left by work that does not come to its end, for an empty one says that nothing failed.
    """
    try:
        if is_stdio(file) or file.is_fifo():
            raise Usage(
                "--failures: A list needs a file.", hint="--json prints failures as they come."
            )
        draft = _draft(file)
        try:
            draft.open("ab").close()
        except OSError:
            if not file.is_file():
                raise
            file.open("r+b").close()  # in a folder that takes none beside it
        else:
            if draft != file:
                draft.unlink()
        is_other = file.exists() and file.stat().st_size > 0 and not _is_list(file)
    except OSError as error:
        raise Usage(
            f"--failures: Cannot write {str(file)!r}: {error.strerror}.", hint="Check the folder."
        ) from error
    if is_other:
        raise Usage(
            f"--failures: {str(file)!r} is there and no list of failures.",
            hint="Name a new file.",
        )


def _draft(file: Path) -> Path:
    """Where a list waits until it is whole: beside its place, or there if that is no file."""
    if file.exists() and not file.is_file():
        return file
    return _place(file).with_name(f".calotype-{os.getpid()}")


def _place(file: Path) -> Path:
    """Where links lead; ``OSError`` for those that lead in a circle."""
    place = Path(os.path.realpath(file))  # resolve() of Python 3.12 raises RuntimeError
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return place


def _is_list(file: Path) -> bool:
    try:
        return bool([*sources(file)])
    except Misconfigured:
        return False


def write(file: Path, failures: Sequence[tuple[str, CalotypeError]]) -> None:
    """Write the list in place of an old one, which stays until this one is whole.

    One that cannot be replaced, as a file that is mounted by itself, is written over.
    """
    lines = [json.dumps({"source": name, "error": as_json(error)}) for name, error in failures]
    text = "".join(f"{line}\n" for line in lines)
    try:
        draft = _draft(file)
        if draft == file:
            file.write_text(text, encoding="utf-8")
        elif not _replaced(_place(file), draft, text):
            _write_over(file, text)
    except OSError as error:
        raise Unavailable(
            f"Cannot write {str(file)!r}: {error.strerror}.", hint="What was printed is kept."
        ) from error


def _replaced(place: Path, draft: Path, text: str) -> bool:
    """False where what is there can only be written over."""
    try:
        draft.open("ab").close()
    except OSError:
        if not place.exists():
            raise
        return False
    try:
        draft.write_text(text, encoding="utf-8")
        if place.exists():
            shutil.copymode(place, draft)
        with suppress(OSError):
            draft.replace(place)
            return True
    finally:
        draft.unlink(missing_ok=True)
    return False


def _write_over(file: Path, text: str) -> None:
    """Where there is no room for it the old list is put back."""
    old = file.read_bytes()
    try:
        file.write_text(text, encoding="utf-8")
    except OSError:
        file.write_bytes(old)
        raise
