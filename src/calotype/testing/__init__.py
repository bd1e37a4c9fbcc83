"""For tests of extensions: contracts that any backend can run. Needs ``calotype[testing]``."""

from __future__ import annotations

from calotype.errors import MissingExtra

try:
    import pytest
except ImportError as error:
    raise MissingExtra(
        "The backend contract runs under pytest, which is not installed.",
        hint="Install it: pip install 'calotype[testing]'.",
    ) from error

for _module in ("backends", "notes", "objects", "stages"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
