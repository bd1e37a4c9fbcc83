"""SHA-256 digests: the names of blobs."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Self

from calotype.errors import InvalidDigest, Misconfigured

CHUNK = 1 << 20
"""Bytes read at a time: large enough that hashing, not the calls, takes the time."""

_HEX64 = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")


class Digest(str):
    """64 lower-case hexadecimal characters: the SHA-256 of some bytes.

    A ``str`` in every respect, so it goes into JSON, SQL and paths as it is. Making one checks it.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check ``text``; ``InvalidDigest`` for anything but 64 lower-case hex characters."""
        if isinstance(text, cls):
            return text
        if not _HEX64.fullmatch(text):
            raise InvalidDigest(
                f"Not a SHA-256 digest: {text[:80]!r}.",
                hint="A digest is 64 lower-case hexadecimal characters.",
            )
        return super().__new__(cls, text)

    @classmethod
    def known(cls, text: str) -> Self:
        """``text`` that needs no check: a hash's own, or a row of the catalog."""
        return super().__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a digest as people write it: either case, with or without ``sha256:``."""
        if isinstance(text, cls):
            return text
        return cls(str(text).strip().lower().removeprefix("sha256:"))

    @classmethod
    def of(cls, source: bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO) -> Self:
        """Hash bytes, the file at a path, or an open binary file from where it stands.

        Reads in chunks of 1 MiB and holds no more than one.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            return cls.known(hashlib.sha256(source).hexdigest())
        if isinstance(source, str | os.PathLike):
            with Path(source).open("rb", buffering=0) as file:
                return cls.known(hashed(file))
        return cls.known(hashed(source))


def digests_of(digests: Iterable[str]) -> list[Digest]:
    """Several digests as people write them; ``Misconfigured`` for one that is no list."""
    if isinstance(digests, str | bytes):
        raise Misconfigured("digests= wants several digests.", hint="Give a list of one.")
    return [Digest.parse(digest) for digest in digests]


def digest_prefix(text: str) -> str:
    """Check an abbreviated digest of 6 characters or more and return it in lower case."""
    prefix = text.strip().lower().removeprefix("sha256:")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidDigest(
            f"Not a digest or a prefix of one: {text[:80]!r}.",
            hint="Give 6 to 64 hexadecimal characters, as 'calotype ls' prints them.",
        )
    return prefix


def digest_many(
    paths: Iterable[str | os.PathLike[str]], *, threads: int = 2
) -> Iterator[tuple[str | os.PathLike[str], Digest | OSError]]:
    """Hash many files, in order, on ``threads`` threads (hashing releases the GIL).

    A file that cannot be read yields its ``OSError`` in place of a digest.
    """

    def one(
        path: str | os.PathLike[str],
    ) -> tuple[str | os.PathLike[str], Digest | OSError]:
        try:
            return path, Digest.of(path)
        except OSError as error:
            return path, error

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(one, paths)


def hashed(file: BinaryIO, seen: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of what is left of ``file``; ``seen`` is told the size of each chunk read."""
    sha = hashlib.sha256()
    while chunk := file.read(CHUNK):
        sha.update(chunk)
        seen(len(chunk))
    return sha.hexdigest()
