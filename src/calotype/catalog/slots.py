"""Statements on references: an owner's slots, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from calotype.catalog.among import among_given
from calotype.catalog.prepared import Found, Prepared, prepared_insert
from calotype.catalog.tables import reference
from calotype.digest import Digest
from calotype.errors import Locked
from calotype.model import Reference
from calotype.names import Owner
from calotype.quantities import Instant, when
from calotype.wishes import Wish

_INSERT_REFERENCE = prepared_insert(
    reference,
    "scope",
    "owner_kind",
    "owner_id",
    "role",
    "digest",
    "created_at",
    then="ON CONFLICT (scope, owner_kind, owner_id, role) WHERE released_at IS NULL DO NOTHING",
)

ROUNDS = 10
"""How often to fill a slot that somebody else fills at the same moment."""


_SLOT = (
    reference.c.owner_kind == bindparam("b_kind"),
    reference.c.owner_id == bindparam("b_id"),
    reference.c.role == bindparam("b_role"),
)


Slot = tuple[str, str, str]
"""Kind and id of an owner, and a role."""


def refer(connection: Connection, scope: str, wishes: Sequence[Wish], now: Instant) -> list[Digest]:
    """Put each wish's digest into its slot; the digests of the references that are new.

    The same digest there already: nothing changes. Another digest: its row is released first,
    so that history stays. Of several wishes for one slot the last one wins.
    """
    wanting = {slot: wish.digest for wish in wishes if (slot := wish.slot) is not None}
    fresh: list[Digest] | None = None
    for _ in range(ROUNDS):
        held = filled(connection, scope, wanting)
        wanting = {slot: digest for slot, digest in wanting.items() if held.get(slot) != digest}
        fresh = list(wanting.values()) if fresh is None else fresh
        if not wanting:
            return fresh
        _fill(connection, scope, wanting, held, now)
        if connection.dialect.name == "sqlite":
            return fresh
    kind, ident, _ = next(iter(wanting))
    raise Locked(f"Others fill the same slots all the time: {kind}/{ident}.", hint="Try again.")


def _fill(
    connection: Connection,
    scope: str,
    wanting: Mapping[Slot, Digest],
    held: Mapping[Slot, str],
    now: Instant,
) -> None:
    """Release what is in these slots, and put each there unless somebody else was faster."""
    displaced = [slot for slot in wanting if slot in held]
    if displaced:
        connection.execute(
            update(reference)
            .where(reference.c.scope == scope, *_SLOT, reference.c.released_at.is_(None))
            .values(released_at=now),
            [{"b_kind": kind, "b_id": ident, "b_role": role} for kind, ident, role in displaced],
        )
    _INSERT_REFERENCE.many(
        connection,
        [
            {
                "scope": scope,
                "owner_kind": kind,
                "owner_id": ident,
                "role": role,
                "digest": digest,
                "created_at": now,
            }
            for (kind, ident, role), digest in wanting.items()
        ],
    )


_LIVE_SLOTS = Prepared(
    select(reference.c.role, reference.c.digest).where(
        reference.c.scope == bindparam("scope_name"),
        reference.c.owner_kind == bindparam("kind"),
        reference.c.owner_id == bindparam("ident"),
        among_given(reference.c.role, "roles"),
        reference.c.released_at.is_(None),
    )
)


def filled(connection: Connection, scope: str, slots: Iterable[Slot]) -> dict[Slot, str]:
    """Of these slots those that have something: slot -> digest."""
    roles: dict[tuple[str, str], list[str]] = {}
    for kind, ident, role in slots:
        roles.setdefault((kind, ident), []).append(role)
    found: dict[Slot, str] = {}
    for (kind, ident), some in roles.items():
        rows = _LIVE_SLOTS.tuples(connection, scope_name=scope, kind=kind, ident=ident, roles=some)
        found.update({(kind, ident, role): digest for role, digest in rows})
    return found


def of_owner(scope: str, owner: Owner, role: str | None) -> list[ColumnElement[bool]]:
    """Conditions for an owner's references, in one role or in all."""
    conditions = [
        reference.c.scope == scope,
        reference.c.owner_kind == owner.kind,
        reference.c.owner_id == owner.id,
    ]
    return [*conditions, reference.c.role == role] if role is not None else conditions


def release(
    connection: Connection, scope: str, owner: Owner, role: str | None, now: Instant
) -> list[Digest]:
    """Release an owner's live references in one statement; the digests they pointed at."""
    released = connection.execute(
        update(reference)
        .where(*of_owner(scope, owner, role), reference.c.released_at.is_(None))
        .values(released_at=now)
        .returning(reference.c.digest)
    )
    return [Digest(digest) for digest in released.scalars()]


def roles(connection: Connection, scope: str, owner: Owner) -> list[str]:
    """The roles in which an owner has something."""
    statement = select(reference.c.role).where(
        *of_owner(scope, owner, None), reference.c.released_at.is_(None)
    )
    return list(connection.scalars(statement))


def restorable(
    connection: Connection, scope: str, owner: Owner, role: str | None
) -> list[tuple[str, Digest]]:
    """(role, digest) of the newest released row of each role that has no live one."""
    taken = reference.alias()
    live_one = (
        select(1)
        .where(
            taken.c.scope == reference.c.scope,
            taken.c.owner_kind == reference.c.owner_kind,
            taken.c.owner_id == reference.c.owner_id,
            taken.c.role == reference.c.role,
            taken.c.released_at.is_(None),
        )
        .exists()
    )
    rows = connection.execute(
        select(reference.c.role, reference.c.digest)
        .where(*of_owner(scope, owner, role), reference.c.released_at.is_not(None), ~live_one)
        .order_by(reference.c.id)
    )
    newest = {row.role: Digest(row.digest) for row in rows}
    return list(newest.items())


def known_owner(connection: Connection, scope: str, owner: Owner) -> bool:
    """True when the owner has or had references that are still remembered."""
    statement = select(reference.c.id).where(*of_owner(scope, owner, None)).limit(1)
    return connection.scalar(statement) is not None


def to_reference(found: Found) -> Reference:
    """A reference row as a value."""
    released = found["released_at"]
    return Reference(
        found["scope"],
        Owner(found["owner_kind"], found["owner_id"]),
        found["role"],
        Digest(found["digest"]),
        when(found["created_at"]),
        when(released) if released is not None else None,
    )


def uses(connection: Connection, scope: str, digest: str) -> list[tuple[Owner, str]]:
    """(owner, role) of the live references to an asset."""
    rows = connection.execute(
        select(reference.c.owner_kind, reference.c.owner_id, reference.c.role)
        .where(
            reference.c.digest == digest,
            reference.c.scope == scope,
            reference.c.released_at.is_(None),
        )
        .order_by(reference.c.id)
    )
    return [(Owner(row.owner_kind, row.owner_id), row.role) for row in rows]
