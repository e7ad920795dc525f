"""Where else users' texts and states were put, so that erasing a user goes there too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perfit.durable.records import read_record, write_record

_MEND = "restore it, or delete it and name frozen caches with perfit users delete --also"
FILE = "elsewhere.json"
Kind = Literal["frozen_cache", "page"]


class Elsewhere:
    """``elsewhere.json`` of a run or a comparison: full paths of frozen caches and of pages written to other places.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / FILE

    def paths(self, kind: Kind) -> list[Path]:
        """What was noted of a kind, whether it still exists or not.

        Raises:
            StoreError: The file is damaged.
        """
        return [Path(path) for path in self._read().get(kind, [])]

    def note(self, kind: Kind, path: Path) -> None:
        """Note a path, once.

        Raises:
            StoreError: The file is damaged.
        """
        content, full = self._read(), str(path.resolve())
        if full not in content.setdefault(kind, []):
            content[kind].append(full)
            write_record(self.path, content)

    def _read(self) -> dict[str, list[str]]:
        if not self.path.exists():
            return {}
        return read_record(self.path, missing="not found", mend=_MEND)
