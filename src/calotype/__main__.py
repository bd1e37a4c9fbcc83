"""``python -m calotype``: the command line."""

from __future__ import annotations

from calotype.cli import entry

if __name__ == "__main__":
    entry()
