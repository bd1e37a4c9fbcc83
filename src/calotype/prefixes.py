"""Prefixes: the one digest that begins with a few characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calotype.catalog import Catalog, holdings
from calotype.digest import Digest, digest_prefix
from calotype.errors import AmbiguousPrefix, NotFound

MANY = 100
"""Of more digests nobody wants to read how they go on."""


def resolve(
    catalog: Catalog,
    prefix: str,
    scope: str | None,
    *,
    where: str,
    hint: str,
    shown: Callable[[Digest], bool] = lambda _: True,
) -> Digest:
    """The digest in a scope, or with None in any, that begins with 6 characters or more.

    Those that are not ``shown`` count as not there. A whole digest is answered as it is, known or
    not. ``NotFound`` for none, ``AmbiguousPrefix`` for several.
    """
    wanted = digest_prefix(prefix)
    if len(wanted) == 64:
        return Digest(wanted)
    matches: list[Digest] = []
    found: Sequence[str] = ()
    if catalog.exists():
        with catalog.read() as connection:
            found = holdings.by_prefix(connection, scope, wanted, MANY)
        matches = [digest for digest in map(Digest.known, found) if shown(digest)]
    if found and not matches:
        raise NotFound(
            f"What begins with {wanted} in {where} is in the trash.",
            hint=f"'calotype restore {wanted}' brings it back.",
        )
    if not matches:
        raise NotFound(f"No digest begins with {wanted} in {where}.", hint=hint)
    if len(matches) > 1:
        several = ", ".join(each[: len(wanted) + 4] for each in matches[:4])
        raise AmbiguousPrefix(
            f"{len(matches)} digests begin with {wanted}: {several}.", hint="Give more characters."
        )
    return matches[0]
