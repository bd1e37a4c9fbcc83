"""Wishes: what a put is to make of its bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from calotype.digest import Digest
from calotype.errors import Misconfigured
from calotype.names import Owner, file_name, role_name
from calotype.quantities import FOREVER, Duration, Instant, duration


@dataclass(frozen=True, slots=True)
class Wish:
    """One asset to be had: of which digest, called what, kept until when, used by whom.

    ``kept_until`` is None where only the owner is to keep it.
    """

    digest: Digest
    kept_until: Instant | None
    owner: Owner | None = None
    role: str | None = None
    filename: str | None = None
    metadata: Mapping[str, object] | None = None

    @property
    def slot(self) -> tuple[str, str, str] | None:
        """Owner and role; a role that is not given is the digest itself."""
        if self.owner is None:
            return None
        return (self.owner.kind, self.owner.id, self.role or self.digest)


def wish(
    digest: Digest,
    now: Instant,
    *,
    owner: str | Owner | None = None,
    role: str | None = None,
    filename: str | None = None,
    metadata: Mapping[str, object] | None = None,
    hold: Duration | None = None,
) -> Wish:
    """The wish that a put's arguments spell; ``Misconfigured`` where they make no sense."""
    if role is not None and owner is None:
        raise Misconfigured("A role belongs to an owner.", hint="Give owner= as well.")
    end = None if owner is not None else FOREVER
    return Wish(
        digest,
        end if hold is None else now + duration(hold),
        Owner.parse(owner) if owner is not None else None,
        role_name(role, digest),
        file_name(filename),
        json_object(metadata),
    )


def named_after(source: object) -> str | None:
    """The file name that a source brings along: the last part of a path."""
    if isinstance(source, str | os.PathLike):
        return os.path.basename(os.fsdecode(source)) or None  # noqa: PTH119 - pathlib costs more
    return None


def json_object(metadata: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """The metadata as JSON gives it back; ``Misconfigured`` for what JSON cannot say."""
    if metadata is None:
        return None
    try:
        return dict(json.loads(json.dumps(dict(metadata), allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise Misconfigured(
            f"The metadata is not JSON: {error}.", hint="Use strings, numbers, lists and dicts."
        ) from error
