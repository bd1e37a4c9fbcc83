"""How large a picture is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """Pixels across and down, and those that are decoded with them but cropped away."""

    width: int
    height: int
    cropped: int = 0

    @property
    def pixels(self) -> int:
        """All the pixels that a decoder has to make."""
        return self.width * self.height + self.cropped
