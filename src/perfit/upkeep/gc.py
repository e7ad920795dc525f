"""What nothing points at is taken away, and how many bytes that gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfit.run import RunDirectory
from perfit.upkeep.leftovers import leftovers


@dataclass(frozen=True)
class Swept:
    """What was, or would be, taken away.

    Attributes:
        removed: A line each.
        bytes: What it came to.
        dry_run: Whether all of it is still there.
    """

    removed: tuple[str, ...]
    bytes: int
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"removed": list(self.removed), "bytes": self.bytes, "dry_run": self.dry_run}


def gc(run: RunDirectory, *, dry_run: bool = False) -> Swept:
    """Take away what nothing points at; what is live, kept as a version or being written stays.

    Args:
        run: The run; it is locked meanwhile, as by a training.
        dry_run: Only say what would go.

    Raises:
        StoreError: The run is in use, damaged or cannot be written.
    """
    found = leftovers(run)
    if not dry_run:
        with run.locked():
            for left in found:
                left.remove()
        found = [left for left in found if left.gone()]  # what somebody is writing now stays
    lines = tuple(f"{left.path.relative_to(run.path)}: {left.what}, {left.size:,} bytes" for left in found)
    return Swept(lines, sum(left.size for left in found), dry_run)
