"""Events as lines of JSON in a file."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

from perfit.events.kinds import Event, as_dict
from perfit.private import private_opener


class EventFile:
    """Appends every event to a JSON Lines file, with the seconds since the epoch in ``time``.

    Events hold user ids and numbers, never users' texts.
    """

    def __init__(self, path: Path):
        self.path = path
        self._begun = False

    def __call__(self, event: Event) -> None:
        """Append one event; the folder must exist by the first one."""
        if not self.path.parent.is_dir():
            return
        # NaN is no JSON: a loss that is not finite is null.
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in as_dict(event).items()}
        with open(self.path, "a", encoding="utf-8", opener=private_opener) as file:
            if not self._begun and _ends_in_mid_line(self.path):
                file.write("\n")
            self._begun = True
            file.write(json.dumps({"time": round(time.time(), 3), **plain}) + "\n")


def _ends_in_mid_line(path: Path) -> bool:
    """Whether a kill broke off the last line."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
