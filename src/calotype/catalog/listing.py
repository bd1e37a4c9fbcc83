"""Lists by pages: assets, owners, references; a page is one short transaction."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from calotype.catalog import Catalog
from calotype.catalog.columns import Hosts
from calotype.catalog.copies import to_blob
from calotype.catalog.holdings import ASSET, to_asset, visible
from calotype.catalog.slots import of_owner, to_reference
from calotype.catalog.tables import asset, blob, derivation, reference
from calotype.errors import Misconfigured
from calotype.model import Asset, Blob, OwnerSummary, Reference
from calotype.names import Owner, escaped
from calotype.quantities import Instant, at

T = TypeVar("T")
Sort = Literal["recent", "size", "views", "digest"]
PAGE = 500
LARGEST_PAGE = 10_000

_SORTS: dict[str, tuple[ColumnElement[object], bool]] = {
    "recent": (asset.c.created_at, True),
    "size": (blob.c.size, True),
    "views": (asset.c.access_count, True),
    "digest": (asset.c.digest, False),
}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, and what to pass as ``after`` for the next page (None on the last)."""

    items: tuple[T, ...]
    next: str | None


class Listing(Generic[T]):
    """A list that is read page by page; iterate it for everything, or ask for one page."""

    def __init__(
        self, fetch: Callable[[int, str | None], Page[T]], after: str | None = None
    ) -> None:
        self._fetch = fetch
        self._after = after

    def __iter__(self) -> Iterator[T]:
        """Every item from ``after`` on; what changes meanwhile may or may not be seen."""
        place = self._after
        while True:
            page = self._fetch(PAGE, place)
            yield from page.items
            place = page.next
            if place is None:
                return

    def page(self, limit: int = 100, after: str | None = None) -> Page[T]:
        """At most ``limit`` items (and 10,000) that come after the page that gave ``after``."""
        if limit < 1:
            raise Misconfigured("A page has at least one item.", hint="Give limit=1 or more.")
        return self._fetch(min(limit, LARGEST_PAGE), after or self._after)


def _seal(kind: str, place: tuple[object, ...]) -> str:
    """A place in a list of this kind, as text."""
    return base64.urlsafe_b64encode(json.dumps((kind, *place)).encode()).decode().rstrip("=")


def _unseal(kind: str, after: str, length: int) -> list[object]:
    try:
        place = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except (ValueError, RecursionError):
        place = None
    fits = isinstance(place, list) and len(place) == length + 1 and _plain(place)
    if not (fits and place[0] == kind):
        raise Misconfigured(
            f"Not a place in this list: {after[:40]!r}.", hint="Pass the 'next' of a page."
        )
    return list(place[1:])


def _plain(place: list[object]) -> bool:
    return all(
        abs(each) < 2**63 if isinstance(each, int) else isinstance(each, str) for each in place
    )


@dataclass(frozen=True, slots=True)
class Lister:
    """The lists of one scope."""

    catalog: Catalog
    scope: str
    hosts: Hosts

    def assets(
        self,
        *,
        owner: Owner | None,
        media_type: str | None,
        q: str | None,
        trashed: bool,
        sort: Sort,
        after: str | None,
    ) -> Listing[Asset]:
        """Visible assets (or those in the trash) that meet every condition given.

        An owner's are those that it has; in the trash, those that it had.
        """
        if sort not in _SORTS:
            raise Misconfigured(f"Cannot sort by {sort!r}.", hint=f"Use {', '.join(_SORTS)}.")

        def fetch(limit: int, place: str | None) -> Page[Asset]:
            if not self.catalog.exists():
                return Page((), None)
            with self.catalog.read() as connection:
                now = self.catalog.clock()
                held = self.hosts.on_asset(connection)
                statement = ASSET.add_columns(held.label("held")).where(asset.c.scope == self.scope)
                shown = visible(now, held)
                statement = statement.where(not_(shown) if trashed else shown)
                statement = _matching(statement, owner, media_type, q, trashed=trashed)
                rows = _paged(connection, statement, sort, place, limit)
                items = tuple(to_asset(row, now) for row in rows[:limit])
            more = len(rows) > limit
            return Page(items, _seal(sort, _place(items[-1], sort)) if more else None)

        return Listing(fetch, after)

    def owners(self, kind: str | None) -> Listing[OwnerSummary]:
        """Owners with live references, by kind and id."""
        place = (reference.c.owner_kind, reference.c.owner_id)
        statement = (
            select(*place, func.count().label("references"), func.sum(blob.c.size).label("bytes"))
            .join_from(reference, blob, reference.c.digest == blob.c.digest)
            .where(reference.c.scope == self.scope, reference.c.released_at.is_(None))
            .group_by(*place)
            .order_by(*place)
        )
        if kind is not None:
            statement = statement.where(reference.c.owner_kind == escaped(kind))

        def fetch(limit: int, after: str | None) -> Page[OwnerSummary]:
            if not self.catalog.exists():
                return Page((), None)
            chosen = statement
            if after is not None:
                chosen = chosen.where(tuple_(*place) > tuple_(*_unseal("owners", after, 2)))
            with self.catalog.read() as connection:
                rows = connection.execute(chosen.limit(limit + 1)).all()
            items = tuple(
                OwnerSummary(Owner(row.owner_kind, row.owner_id), row.references, int(row.bytes))
                for row in rows[:limit]
            )
            last = items[-1].owner if len(rows) > limit else None
            return Page(items, _seal("owners", (last.kind, last.id)) if last else None)

        return Listing(fetch)

    def references(self, *, owner: Owner | None, digest: str | None) -> Listing[Reference]:
        """Live references of an owner, to a digest, or both; in the order they were made."""
        if owner is None and digest is None:
            raise Misconfigured("Whose references?", hint="Give owner=, digest= or both.")
        conditions = [reference.c.scope == self.scope, reference.c.released_at.is_(None)]
        if owner is not None:
            conditions += of_owner(self.scope, owner, None)
        if digest is not None:
            conditions.append(reference.c.digest == digest)

        made = (reference.c.created_at, reference.c.id)

        def fetch(limit: int, after: str | None) -> Page[Reference]:
            if not self.catalog.exists():
                return Page((), None)
            statement = select(reference).where(*conditions)
            if after is not None:
                statement = statement.where(
                    _made_after(self.scope, _unseal("references", after, 4))
                )
            with self.catalog.read() as connection:
                ordered = statement.order_by(*made).limit(limit + 1)
                rows = connection.execute(ordered).mappings().all()
            items = tuple(to_reference(row) for row in rows[:limit])
            if len(rows) <= limit:
                return Page(items, None)
            last = items[-1]
            ended = (at(last.created_at), last.owner.kind, last.owner.id, last.role)
            return Page(items, _seal("references", ended))

        return Listing(fetch)


def _made_after(scope: str, place: list[object]) -> ColumnElement[bool]:
    """True for references made after the one in ``place``: an instant, an owner and a role.

    A place does not hold the row's number, which counts the references of every scope.
    """
    instant, kind, ident, role = place
    those = reference.alias()
    number = (
        select(func.max(those.c.id))
        .where(
            *(those.c.scope == scope, those.c.owner_kind == kind, those.c.owner_id == ident),
            *(those.c.role == role, those.c.created_at == instant),
        )
        .scalar_subquery()
    )
    return or_(
        reference.c.created_at > instant,
        and_(reference.c.created_at == instant, reference.c.id > func.coalesce(number, 0)),
    )


def _matching(
    statement: Select[tuple[object, ...]],
    owner: Owner | None,
    media_type: str | None,
    q: str | None,
    *,
    trashed: bool,
) -> Select[tuple[object, ...]]:
    if owner is not None:
        used = select(1).where(
            *(reference.c.owner_kind == owner.kind, reference.c.owner_id == owner.id),
            reference.c.scope == asset.c.scope,
            reference.c.digest == asset.c.digest,
            reference.c.released_at.is_not(None) if trashed else reference.c.released_at.is_(None),
        )
        statement = statement.where(used.correlate(asset).exists())
    if media_type is not None:
        family = escaped(media_type).removesuffix("*")
        statement = statement.where(
            blob.c.media_type.startswith(family, autoescape=True)
            if family.endswith("/")
            else blob.c.media_type == family
        )
    if q:
        part = escaped(q)
        statement = statement.where(
            or_(
                asset.c.filename.contains(part, autoescape=True),
                func.lower(asset.c.filename).contains(part.lower(), autoescape=True),
                asset.c.digest.startswith(part.lower(), autoescape=True),
            )
        )
    return statement


def _paged(
    connection: Connection,
    statement: Select[tuple[object, ...]],
    sort: Sort,
    place: str | None,
    limit: int,
) -> list[RowMapping]:
    column, descending = _SORTS[sort]
    if place is not None:
        value, digest = _unseal(sort, place, 2)
        beyond = column < value if descending else column > value
        statement = statement.where(or_(beyond, and_(column == value, asset.c.digest > digest)))
    order = column.desc() if descending else column
    ordered = statement.order_by(order, asset.c.digest).limit(limit + 1)
    return list(connection.execute(ordered).mappings())


def _place(item: Asset, sort: Sort) -> tuple[object, ...]:
    values = {
        "recent": at(item.created_at),
        "size": item.size,
        "views": item.access_count,
        "digest": item.digest,
    }
    return (values[sort], item.digest)


def orphans(
    connection: Connection, now: Instant, hosts: Hosts, limit: int, after: str
) -> list[Blob]:
    """Blobs that nothing keeps now, the trash of every scope included, by digest."""
    held = visible(now, hosts.on_asset(connection))
    kept = select(1).where(asset.c.digest == blob.c.digest, held).correlate(blob).exists()
    derived = select(1).where(derivation.c.output_digest == blob.c.digest).correlate(blob).exists()
    rows = connection.execute(
        select(blob)
        .where(blob.c.digest > after, not_(kept), not_(derived), not_(hosts.on_blob(connection)))
        .order_by(blob.c.digest)
        .limit(limit)
    )
    return [to_blob(row) for row in rows.mappings()]
