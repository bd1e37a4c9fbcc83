"""Calotype: every file kept once, every use of it a reference, let go when nothing refers to it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calotype.digest import Digest
    from calotype.errors import CalotypeError
    from calotype.scope import Scope
    from calotype.store import Store

__version__ = "0.1.0.dev0"

_HOMES = {
    "CalotypeError": "calotype.errors",
    "Digest": "calotype.digest",
    "Scope": "calotype.scope",
    "Store": "calotype.store",
}

__all__ = ["CalotypeError", "Digest", "Scope", "Store", "__version__"]


def __getattr__(name: str) -> object:
    """Load what is asked for: importing ``calotype`` itself loads no database and no image code."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
