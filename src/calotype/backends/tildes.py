"""Names of objects where a service refuses ``~``: a token stands behind ``_`` there."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"(sha256/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{64})_([0-9a-f]{16}(?:\.[a-z0-9]+)?)")


def without(name: str) -> str:
    """What the object ``name`` is called there."""
    return name.replace("~", "_")


def put_back(name: str) -> str:
    """The name of an object as the store knows it: the reverse of ``without``."""
    found = _TOKEN.fullmatch(name)
    return f"{found[1]}~{found[2]}" if found else name
