"""For tests of extensions: contracts that any backend can run. Needs pytest and hypothesis."""

from __future__ import annotations

import pytest

for _module in ("backends", "objects", "stages"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
