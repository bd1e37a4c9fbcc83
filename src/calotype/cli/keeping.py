"""attach, release, restore, discard, keep, renew, update, quota: who keeps what."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from calotype.cli.exits import Exit, Usage, given
from calotype.cli.names import shown
from calotype.cli.options import (
    EVERYWHERE,
    Common,
    DigestGiven,
    OwnerGiven,
    RoleGiven,
    option,
    owner_of,
    require_duration,
    require_size,
)
from calotype.cli.printing import instant, name_of, plural
from calotype.cli.putting import json_object
from calotype.cli.wire import asset as asset_record
from calotype.cli.wire import record
from calotype.names import Owner
from calotype.store import Store

MaybeDigest = Annotated[
    str | None, Parameter(help="A digest, or 6 or more of its first characters.", metavar="DIGEST")
]


def attach(
    digest: DigestGiven,
    /,
    *,
    owner: Annotated[str, option("--owner", "Who refers to it: kind/id.", metavar="KIND/ID")],
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Let an owner refer to an asset; the same again changes nothing.

    Example: `calotype attach 2cf24dba5fb0 --owner scan/9 --role original`
    """
    with given("--owner"):
        known = Owner.parse(owner)
    with common.open_store() as store:
        found = store.resolve(digest, trashed=True)
        store.attach(found, known, role)
    common.printer.record(
        {"digest": found, "owner": owner, "role": role or found},
        f"{found[:12]}  kept by {shown(owner)}",
    )
    return Exit.OK


def release(
    digest: MaybeDigest = None,
    /,
    *,
    owner: OwnerGiven = None,
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Let go: of an owner's references, or of a digest's library entry or hold.

    Example: `calotype release --owner scan/9`
    """
    known = _either(digest, owner, role, "Let go of what?")
    if digest is not None:
        return discard(digest, common=common)
    assert known is not None
    with common.open_store() as store:
        done = store.release(known, role)
    text = f"{plural(done.references, 'reference')} of {shown(str(known))} released"
    common.printer.record(record(done, owner=known), text)
    return Exit.OK


def restore(
    digest: MaybeDigest = None,
    /,
    *,
    owner: OwnerGiven = None,
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Bring back an owner's released references, or an asset out of the trash.

    Example: `calotype restore --owner scan/9`
    """
    known = _either(digest, owner, role, "Restore what?")
    with common.open_store() as store:
        if digest is None:
            assert known is not None
            done = store.restore(owner=known, role=role)
            text = f"{plural(done.references, 'reference')} of {shown(str(known))} restored"
        else:
            done = store.restore(store.resolve(digest, trashed=True))
            text = f"{done.digests[0][:12]}  kept for itself again"
    common.printer.record(record(done, owner=known), text)
    return Exit.OK


def _either(digest: str | None, owner: str | None, role: str | None, asked: str) -> Owner | None:
    """The owner, where a digest was not given; ``Usage`` for both, none, or a role alone."""
    if digest is not None and owner is not None:
        raise Usage("A digest and --owner were both given.", hint="Give one of them.")
    if digest is None and owner is None:
        raise Usage(asked, hint="Give a digest, or --owner KIND/ID.")
    if role is not None and owner is None:
        raise Usage("A role belongs to an owner.", hint="Give --owner in place of the digest.")
    return owner_of(owner)


def discard(digest: DigestGiven, /, *, common: Common = EVERYWHERE) -> int:
    """End a library entry or hold; owners' references stay, and keep the asset.

    Example: `calotype discard 2cf24dba5fb0`
    """
    with common.open_store() as store:
        done = store.discard(store.resolve(digest, trashed=True))
    keepers = shown(", ".join(str(each) for each in done.kept_by))
    text = f"still kept by {keepers}" if keepers else "in the trash"
    common.printer.record(record(done), f"{done.digest[:12]}  {text}")
    return Exit.OK


def keep(digest: DigestGiven, /, *, common: Common = EVERYWHERE) -> int:
    """Keep an asset for itself from now on.

    Example: `calotype keep 2cf24dba5fb0`
    """
    with common.open_store() as store:
        return _kept(store, store.keep(store.resolve(digest)).digest, common)


def renew(
    digest: DigestGiven,
    /,
    *,
    hold: Annotated[
        str, option("--hold", "For how long from now, at least.", metavar="24h")
    ] = "24h",
    common: Common = EVERYWHERE,
) -> int:
    """Hold an asset for longer; the later end counts.

    Example: `calotype renew 2cf24dba5fb0 --hold 7d`
    """
    require_duration("--hold", hold)
    with common.open_store() as store:
        return _kept(store, store.renew(store.resolve(digest), hold).digest, common)


def update(
    digest: DigestGiven,
    /,
    *,
    filename: Annotated[str | None, option("--filename", "Its new name.", metavar="NAME")] = None,
    metadata: Annotated[
        str | None, option("--metadata", "A JSON object in place of the old.", metavar="JSON")
    ] = None,
    common: Common = EVERYWHERE,
) -> int:
    """Change an asset's name or metadata.

    Example: `calotype update 2cf24dba5fb0 --filename photo.jpg`
    """
    changed = json_object(metadata)
    if filename == "":
        raise Usage("An empty name.", hint="Give --filename a name.")
    if filename is None and changed is None:
        raise Usage("Nothing to change.", hint="Give --filename, --metadata or both.")
    with common.open_store() as store:
        found = store.update(store.resolve(digest), filename, changed)
    text = f"{found.digest[:12]}  {name_of(found.filename)}"
    common.printer.record(asset_record(found), text)
    return Exit.OK


def _kept(store: Store, digest: str, common: Common) -> int:
    found = store.stat(digest)
    kept = found.kept if isinstance(found.kept, str) else instant(found.kept)
    common.printer.record(asset_record(found), f"{found.digest[:12]}  {kept or 'by its owners'}")
    return Exit.OK


def quota(
    scope: Annotated[str, Parameter(help="The scope.", metavar="SCOPE")],
    size: Annotated[
        str | None, Parameter(help='"10 GB", or none to lift it.', metavar="SIZE")
    ] = None,
    /,
    *,
    common: Common = EVERYWHERE,
) -> int:
    """Limit the bytes of a scope, lift the limit with `none`, or show it.

    Example: `calotype quota user:ana "10 GB"`
    """
    require_size("SIZE", None if size == "none" else size)
    with common.open_store() as store:
        if size is not None:
            store.set_quota(scope, None if size == "none" else size)
        found = store.scope(scope).usage()
    quota = found.quota
    limit = f"of {common.printer.size(quota)}" if quota is not None else "no quota"
    if quota is not None and found.bytes + found.trashed_bytes > quota:
        limit += ", which is passed: nothing new fits until something goes"
    used = common.printer.size(found.bytes + found.trashed_bytes)
    common.printer.record(record(found), f"{shown(scope)}: {used} used, {limit}")
    return Exit.OK
