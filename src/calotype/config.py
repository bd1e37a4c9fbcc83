"""Configuration: flags, environment, the nearest calotype.toml, defaults, and which said what."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calotype.catalog import FIRST
from calotype.catalog.backends import MIRROR, PRIMARY, READ, ROLES
from calotype.errors import Misconfigured, NoStore, Unavailable
from calotype.masking import masked
from calotype.quantities import duration, size
from calotype.staging import Limits
from calotype.store import Store

FILE = "calotype.toml"
PREFIX = "CALOTYPE_"

DEFAULTS: dict[str, str] = {
    "path": "",
    "catalog": "",
    "schema": "",
    "backends.main.url": "",
    "scope": "default",
    "column_scope": "default",
    "public_url": "",
    "gc.grace": "24h",
    "gc.erase_delay": "",
    "limits.file_size": "",
    "limits.pixels": "200000000",
}
"""Every key there is, and what it is when nobody says; empty for "not set".

Besides: ``backends.NAME.url`` and ``backends.NAME.role`` of any other name.
"""

OF_BACKEND = ("url", "role")
_BACKEND = re.compile(r"backends\.([a-z0-9][a-z0-9_-]{0,62})\.(?:url|role)")


@dataclass(frozen=True, slots=True)
class Value:
    """A setting and where it came from: a flag, a variable, a file, or ``default``."""

    text: str
    origin: str


_UNSET = Value("", "default")


@dataclass(frozen=True, slots=True)
class Place:
    """A backend as it is configured: where, and what for when it is added to the store."""

    url: str
    role: str

    @property
    def added_as(self) -> str:
        """The role that it is added in: none becomes the primary by being added."""
        return self.role if self.role == READ else MIRROR


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting by its key; relative paths are already absolute."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def text(self, key: str) -> str:
        """A setting's text, empty when it is not set."""
        return self.values[key].text

    def _read(self, key: str, reader: Callable[[str], int]) -> int:
        """A setting as ``reader`` understands it; ``Misconfigured`` says where it was written."""
        found = self.values[key]
        try:
            return reader(found.text)
        except Misconfigured as error:
            message = f"{key} (in {found.origin}): {error}"
            raise Misconfigured(message, hint=error.hint) from error

    def store(self) -> Store:
        """The store that these settings describe; nothing is opened yet."""
        self._require_place()
        limited = self.text("limits.file_size") != ""
        places = self.backends()
        first = places.get(self._first(places))
        return Store(
            self.text("path") or None,
            catalog=self.text("catalog") or None,
            backend=first.url if first is not None else None,
            backends={name: each.url for name, each in places.items()},
            schema=self.text("schema") or None,
            scope=self.text("scope"),
            column_scope=self.text("column_scope"),
            public_url=self.text("public_url") or None,
            grace=self._read("gc.grace", duration) / 1_000_000,
            erase_delay=self._delay(),
            limits=Limits(
                self._read("limits.file_size", size) if limited else None,
                self._read("limits.pixels", size),
            ),
        )

    def backends(self) -> dict[str, Place]:
        """What is said of each backend, by its name; ``Misconfigured`` for half of it."""
        found = {}
        names = self._names()
        said = [self.values.get(f"backends.{name}.role", _UNSET).text for name in names]
        first = MIRROR if PRIMARY in said else PRIMARY
        for name in names:
            url, role = (self.values.get(f"backends.{name}.{each}", _UNSET) for each in OF_BACKEND)
            if role.text and role.text not in ROLES:
                raise Misconfigured(
                    f"backends.{name}.role (in {role.origin}) is {role.text!r}.",
                    hint=f"There are {', '.join(ROLES)}.",
                )
            if url.text:
                found[name] = Place(url.text, role.text or (first if name == FIRST else MIRROR))
            elif role.text and name != FIRST:
                raise Misconfigured(
                    f"The backend {name!r} has a role (in {role.origin}) and no place.",
                    hint=f"Set backends.{name}.url as well.",
                )
        return found

    def _names(self) -> list[str]:
        matches = (_BACKEND.fullmatch(key) for key in self.values)
        return sorted({match[1] for match in matches if match is not None})

    def _first(self, given: Mapping[str, Place]) -> str:
        """The backend that the store is opened with: the primary, as far as one can know here.

        The folder of a store of its own has one already.
        """
        if self.text("path"):
            return FIRST
        primary = [name for name, each in given.items() if each.role == PRIMARY] or [*given]
        if len(primary) > 1:
            raise Misconfigured(
                f"Which of the backends {' and '.join(primary)} is the primary is not said.",
                hint=f'Set backends.{primary[0]}.role to "primary", or another one\'s.',
            )
        return primary[0]

    def _delay(self) -> float | None:
        """Seconds, or None for what each backend wants."""
        if not self.text("gc.erase_delay"):
            return None
        return self._read("gc.erase_delay", duration) / 1_000_000

    def _require_place(self) -> None:
        """Say in the words of the settings what ``Store`` would say in Python's."""
        path, catalog = self.values["path"], self.values["catalog"]
        if path.text and catalog.text:
            raise Misconfigured(
                f"Both path (in {path.origin}) and catalog (in {catalog.origin}) are set.",
                hint="A store has one catalog: keep one of them.",
            )
        if catalog.text and not self.backends():
            raise Misconfigured(
                f"The catalog (in {catalog.origin}) is set, but not where the bytes are.",
                hint="Set backends.main.url as well, for example to file:media.",
            )
        if not (path.text or catalog.text):
            raise Misconfigured(
                "Nothing says where the store is.", hint="Set path or catalog, or pass --store."
            )

    def shown(self) -> list[tuple[str, str, str]]:
        """(key, value with passwords masked, origin) of everything that is set."""
        return [
            (key, masked(value.text), value.origin)
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
    named = os.fspath(where) if where is not None else given.get(f"{PREFIX}STORE") or None
    here = start or _here()
    origin = "--store" if where is not None else f"{PREFIX}STORE"
    from_environment = _from_environment(given, here)
    if named is not None:  # it says where, so no variable may say otherwise
        from_environment = {
            key: value for key, value in from_environment.items() if key not in _PLACES
        }
    says_where = bool(from_environment.keys() & {"path", "catalog"})
    file = _file(named, here, origin, required=not says_where)
    if file is not None:
        values |= _from_file(file)
    elif named is not None:
        values["path"] = Value(str(here / named), origin)
    if says_where:
        values = {key: each for key, each in values.items() if not _BACKEND.fullmatch(key)}
        values |= {key: Value(DEFAULTS[key], "default") for key in _PLACES}
    values |= from_environment
    for key, text in (overrides or {}).items():
        values[_known(key, "the command line")] = Value(text, f"--{key}")
    return Settings(values)


def said_where() -> Value | None:
    """What a variable says of where the store is, in place of any file; None where none does."""
    found = _from_environment(os.environ, _here())
    return found.get("catalog") or found.get("path")


_PLACES = frozenset({"path", "catalog", "schema", "backends.main.url"})


def _file(named: str | None, start: Path, origin: str, *, required: bool) -> Path | None:
    if named is not None:
        place = start / named
        if _is_file(place) and place.suffix != ".toml":
            raise Misconfigured(
                f"{str(place)!r} (in {origin}) is no store's folder and no toml file.",
                hint="Give the folder that it is in.",
            )
        if place.suffix == ".toml" and not place.exists():
            raise NoStore(
                f"No such file: {str(place)!r} (in {origin}).",
                hint="Run 'calotype init' in its folder, or name a folder.",
            )
        return next((each for each in (place, place / FILE) if _is_file(each)), None)
    for folder in (start, *start.parents):
        if _is_file(folder / FILE):
            return folder / FILE
        if _tool_table(folder / "pyproject.toml") is not None:
            return folder / "pyproject.toml"
    if required:
        raise NoStore(
            f"No store here (looked for {FILE} up to {start.anchor}).",
            hint="Run 'calotype init' or pass --store.",
        )
    return None


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise Unavailable(
            f"The folder you are in cannot be read: {error.strerror}.", hint="Go to another one."
        ) from error


def _is_file(path: Path) -> bool:
    """False also where it may not be looked."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises there


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
        elif isinstance(value, str | int | float):
            flat[_known(key, origin)] = str(value)
        else:
            raise Misconfigured(
                f"{_known(key, origin)} (in {origin}) is neither text nor a number.",
                hint="Write one value.",
            )
    return flat


def _from_environment(given: Mapping[str, str], here: Path) -> dict[str, Value]:
    values = {}
    for name, text in given.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}STORE":
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if key.endswith("_file") and key not in DEFAULTS:
            key, text = key.removesuffix("_file"), _secret(name, text)
        if not _is_meant(key):
            continue
        values[_known(key, name)] = Value(_placed(key, text, here), name)
    return values


_SECTIONS = frozenset(key.partition(".")[0] for key in DEFAULTS if "." in key)
_MISTAKEN = ("backend", "backend_url")
"""What is not near enough to be told from others' variables, and is written all the same."""


def _is_meant(key: str) -> bool:
    """False for variables of others: Kubernetes sets CALOTYPE_PORT beside a service of our name."""
    if key in DEFAULTS or key.partition(".")[0] in _SECTIONS or key in _MISTAKEN:
        return True
    return bool(difflib.get_close_matches(key, DEFAULTS, n=1, cutoff=0.75))


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Misconfigured(
            f"{name} names a file that cannot be read: {error}.",
            hint="Correct its path, or its permissions.",
        ) from error


def _known(key: str, origin: str) -> str:
    if key not in DEFAULTS and _BACKEND.fullmatch(key) is None:
        known = _near(key)
        near = [each for each in known if each.startswith(key)]
        near += difflib.get_close_matches(key, known, n=1)
        meant = f"There are {', '.join(DEFAULTS)}."
        if near:
            spelled = _variable(near[0]) if origin.startswith(PREFIX) else repr(near[0])
            meant = f"Did you mean {spelled}?"
        raise Misconfigured(f"No such setting: {key!r} (in {origin}).", hint=meant)
    return key


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _near(key: str) -> list[str]:
    """What may have been meant: every key, and those of the backend that was named."""
    section, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    mine = [f"backends.{name}.{each}" for each in OF_BACKEND]
    named = section == "backends" and _BACKEND.fullmatch(mine[0]) is not None
    return [*DEFAULTS, *mine] if named else [*DEFAULTS]


def _placed(key: str, text: str, base: Path) -> str:
    """Relative places are meant from where they are written."""
    if key == "path":
        return str((base / text).resolve())
    if key.endswith(("catalog", ".url")) and re.match(r"sqlite:///[^/]", text):
        return f"sqlite:///{base / text.removeprefix('sqlite:///')}"
    if key.endswith(".url") and text.startswith("file:") and not text.startswith("file:/"):
        return f"file:{base / text.removeprefix('file:')}"
    return text
