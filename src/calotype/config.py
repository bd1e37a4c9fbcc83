"""Configuration: flags, environment, the nearest calotype.toml, defaults, and which said what."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calotype.errors import Misconfigured, NoStore
from calotype.quantities import duration, size
from calotype.staging import Limits
from calotype.store import Store

FILE = "calotype.toml"
PREFIX = "CALOTYPE_"

DEFAULTS: dict[str, str] = {
    "path": "",
    "catalog": "",
    "backends.main.url": "",
    "scope": "default",
    "column_scope": "default",
    "public_url": "",
    "gc.grace": "24h",
    "gc.erase_delay": "0s",
    "limits.file_size": "",
    "limits.pixels": "200000000",
}
"""Every key there is, and what it is when nobody says; empty for "not set"."""


@dataclass(frozen=True, slots=True)
class Value:
    """A setting and where it came from: a flag, a variable, a file, or ``default``."""

    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting by its key; relative paths are already absolute."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def text(self, key: str) -> str:
        """A setting's text, empty when it is not set."""
        return self.values[key].text

    def store(self) -> Store:
        """The store that these settings describe; nothing is opened yet."""
        file_size = self.text("limits.file_size")
        return Store(
            self.text("path") or None,
            catalog=self.text("catalog") or None,
            backend=self.text("backends.main.url") or None,
            scope=self.text("scope"),
            column_scope=self.text("column_scope"),
            public_url=self.text("public_url") or None,
            grace=duration(self.text("gc.grace")) / 1_000_000,
            erase_delay=duration(self.text("gc.erase_delay")) / 1_000_000,
            limits=Limits(size(file_size) if file_size else None, size(self.text("limits.pixels"))),
        )

    def shown(self) -> list[tuple[str, str, str]]:
        """(key, value with passwords masked, origin) of everything that is set."""
        return [
            (key, re.sub(r"://([^/:@]+):[^@/]+@", r"://\1:***@", value.text), value.origin)
            for key, value in sorted(self.values.items())
            if value.text
        ]


def load(
    where: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Settings:
    """Settings for the store named by ``where``, CALOTYPE_STORE, or the nearest calotype.toml.

    ``where`` is a folder (its calotype.toml if it has one) or a toml file. ``NoStore`` where
    nothing names a store, ``Misconfigured`` for keys that do not exist.
    """
    given = os.environ if environ is None else environ
    values = {key: Value(text, "default") for key, text in DEFAULTS.items()}
    named = os.fspath(where) if where is not None else given.get(f"{PREFIX}STORE")
    from_environment = _from_environment(given)
    file = _file(named, start or Path.cwd(), required=not from_environment.keys() & _PLACES)
    if file is not None:
        values |= _from_file(file)
    elif named is not None:
        origin = "--store" if where is not None else f"{PREFIX}STORE"
        values["path"] = Value(str(Path(named).absolute()), origin)
    values |= from_environment
    for key, text in (overrides or {}).items():
        values[_known(key, "the command line")] = Value(text, f"--{key}")
    return Settings(values)


_PLACES = frozenset({"path", "catalog"})


def _file(named: str | None, start: Path, *, required: bool) -> Path | None:
    if named is not None:
        place = Path(named)
        if place.is_file():
            return place.absolute()
        return (place / FILE).absolute() if (place / FILE).is_file() else None
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
        if _tool_table(folder / "pyproject.toml") is not None:
            return folder / "pyproject.toml"
    if required:
        raise NoStore(
            f"No store here (looked for {FILE} up to {start.anchor}).",
            hint="Run 'calotype init' or pass --store.",
        )
    return None


def _tool_table(file: Path) -> dict[str, object] | None:
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    table = found.get("tool", {}).get("calotype")
    return table if isinstance(table, dict) else None


def _from_file(file: Path) -> dict[str, Value]:
    try:
        found: dict[str, object] = (
            _tool_table(file) or {}
            if file.name == "pyproject.toml"
            else tomllib.loads(file.read_text())
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Misconfigured(
            f"Cannot read {file}: {error}.", hint="Mend it, or pass --store."
        ) from error
    return {
        key: Value(_placed(key, text, file.parent), str(file))
        for key, text in _flat(found, "", str(file)).items()
    }


def _flat(table: Mapping[str, object], prefix: str, origin: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{key}.", origin)
        else:
            flat[_known(key, origin)] = str(value)
    return flat


def _from_environment(given: Mapping[str, str]) -> dict[str, Value]:
    values = {}
    for name, text in given.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}STORE":
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if key.endswith("_file") and key not in DEFAULTS:
            key, text = key.removesuffix("_file"), _secret(name, text)
        if key not in DEFAULTS and key.partition(".")[0] not in _SECTIONS:
            continue
        values[_known(key, name)] = Value(_placed(key, text, Path.cwd()), name)
    return values


_SECTIONS = frozenset(key.partition(".")[0] for key in DEFAULTS if "." in key)


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Misconfigured(f"{name} names a file that cannot be read: {error}.") from error


def _known(key: str, origin: str) -> str:
    if key not in DEFAULTS:
        near = difflib.get_close_matches(key, DEFAULTS, n=1)
        meant = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(DEFAULTS)}."
        raise Misconfigured(f"No such setting: {key!r} (in {origin}).", hint=meant)
    return key


def _placed(key: str, text: str, base: Path) -> str:
    """Relative places are meant from where they are written."""
    if key == "path":
        return str((base / text).resolve())
    if key == "catalog" and re.match(r"sqlite:///[^/]", text):
        return f"sqlite:///{base / text.removeprefix('sqlite:///')}"
    if key.endswith(".url") and text.startswith("file:") and not text.startswith("file:/"):
        return f"file:{base / text.removeprefix('file:')}"
    return text
