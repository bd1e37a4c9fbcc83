"""What JSON lines carry: digests as bare hex, instants as ISO 8601 in UTC, sizes in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime

from calotype.model import Asset, Blob, Reference
from calotype.names import Owner

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def encode(value: object) -> Json:
    """Any value of the library's as JSON: dataclasses by field, owners as ``kind/id``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Owner):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): encode(each) for key, each in value.items()}
    if is_dataclass(value):
        return record(value)
    if isinstance(value, Iterable):
        return [encode(each) for each in value]
    return str(value)


def record(value: object, **more: object) -> dict[str, Json]:
    """A dataclass as a JSON object, with ``more`` after its fields."""
    found = {each.name: getattr(value, each.name) for each in fields(value)}  # type: ignore[arg-type]
    return {key: encode(each) for key, each in (found | more).items() if not key.startswith("_")}


def asset(value: Asset) -> dict[str, Json]:
    """An asset with the facts of its blob beside its own."""
    flat = {each.name: getattr(value, each.name) for each in fields(value) if each.name != "blob"}
    return record(value.blob) | {key: encode(each) for key, each in flat.items()}


def blob(value: Blob) -> dict[str, Json]:
    """A blob's facts."""
    return record(value)


def reference(value: Reference) -> dict[str, Json]:
    """A use of an asset; the scope is the caller's own."""
    return {
        "owner": str(value.owner),
        "role": value.role,
        "digest": value.digest,
        "created_at": encode(value.created_at),
    }
