"""attach, release, restore, discard, keep, renew, update, quota: who keeps what."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from calotype.cli.exits import Exit, Usage
from calotype.cli.options import EVERYWHERE, Common, DigestGiven, OwnerGiven, RoleGiven, option
from calotype.cli.printing import instant, plural
from calotype.cli.putting import json_object
from calotype.cli.wire import asset as asset_record
from calotype.cli.wire import record
from calotype.store import Store

MaybeDigest = Annotated[
    str | None, Parameter(help="A digest, or 6 or more of its first characters."), "DIGEST"
]


def attach(
    digest: DigestGiven,
    *,
    owner: Annotated[str, option("--owner", "Who refers to it: kind/id."), "KIND/ID"],
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Let an owner refer to an asset; the same again changes nothing."""
    with common.open_store() as store:
        found = store.resolve(digest, trashed=True)
        store.attach(found, owner, role)
    common.printer.record(
        {"digest": found, "owner": owner, "role": role or found}, f"{found[:12]}  kept by {owner}"
    )
    return Exit.OK


def release(
    digest: MaybeDigest = None,
    *,
    owner: OwnerGiven = None,
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Let go: of an owner's references, or of a digest's library entry or hold."""
    if (digest is None) == (owner is None):
        raise Usage("Let go of what?", hint="Give a digest, or --owner KIND/ID.")
    if digest is not None:
        return discard(digest, common=common)
    assert owner is not None
    with common.open_store() as store:
        done = store.release(owner, role)
    text = f"{plural(done.references, 'reference')} of {owner} released"
    common.printer.record(record(done, owner=owner), text)
    return Exit.OK


def restore(
    digest: MaybeDigest = None,
    *,
    owner: OwnerGiven = None,
    role: RoleGiven = None,
    common: Common = EVERYWHERE,
) -> int:
    """Bring back an owner's released references, or an asset out of the trash."""
    if (digest is None) == (owner is None):
        raise Usage("Restore what?", hint="Give a digest, or --owner KIND/ID.")
    with common.open_store() as store:
        if owner is not None:
            done = store.restore(owner=owner, role=role)
            text = f"{plural(done.references, 'reference')} of {owner} restored"
        else:
            assert digest is not None
            done = store.restore(store.resolve(digest, trashed=True))
            text = f"{done.digests[0][:12]}  kept for itself again"
    common.printer.record(record(done), text)
    return Exit.OK


def discard(digest: DigestGiven, *, common: Common = EVERYWHERE) -> int:
    """End a library entry or hold; owners' references stay, and keep the asset."""
    with common.open_store() as store:
        done = store.discard(store.resolve(digest, trashed=True))
    keepers = ", ".join(str(each) for each in done.kept_by)
    text = f"still kept by {keepers}" if keepers else "in the trash"
    common.printer.record(record(done), f"{done.digest[:12]}  {text}")
    return Exit.OK


def keep(digest: DigestGiven, *, common: Common = EVERYWHERE) -> int:
    """Keep an asset for itself from now on."""
    with common.open_store() as store:
        return _kept(store, store.keep(store.resolve(digest)).digest, common)


def renew(
    digest: DigestGiven,
    *,
    hold: Annotated[str, option("--hold", "For how long from now, at least."), "24h"] = "24h",
    common: Common = EVERYWHERE,
) -> int:
    """Hold an asset for longer; the later end counts."""
    with common.open_store() as store:
        return _kept(store, store.renew(store.resolve(digest), hold).digest, common)


def update(
    digest: DigestGiven,
    *,
    filename: Annotated[str | None, option("--filename", "Its new name."), "NAME"] = None,
    metadata: Annotated[
        str | None, option("--metadata", "A JSON object in place of the old."), "JSON"
    ] = None,
    common: Common = EVERYWHERE,
) -> int:
    """Change an asset's name or metadata."""
    with common.open_store() as store:
        found = store.update(store.resolve(digest), filename, json_object(metadata))
        return _kept(store, found.digest, common)


def _kept(store: Store, digest: str, common: Common) -> int:
    found = store.stat(digest)
    kept = found.kept if isinstance(found.kept, str) else instant(found.kept)
    common.printer.record(asset_record(found), f"{found.digest[:12]}  {kept or 'by its owners'}")
    return Exit.OK


def quota(
    scope: Annotated[str, Parameter(help="The scope."), "SCOPE"],
    size: Annotated[str | None, Parameter(help='"10 GB", or none to lift it.'), "SIZE"] = None,
    *,
    common: Common = EVERYWHERE,
) -> int:
    """Limit the bytes of a scope, lift the limit with `none`, or show it."""
    with common.open_store() as store:
        if size is not None:
            store.set_quota(scope, None if size == "none" else size)
        found = store.scope(scope).usage()
    limit = common.printer.size(found.quota) if found.quota is not None else "no quota"
    used = common.printer.size(found.bytes + found.trashed_bytes)
    common.printer.record(record(found), f"{scope}: {used} used, {limit}")
    return Exit.OK
