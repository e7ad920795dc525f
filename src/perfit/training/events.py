"""Where training events go: a JSON Lines file, TensorBoard, or several places at once."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfit.errors import MissingExtraError
from perfit.private import private_opener
from perfit.training.loop import Emit


class EventFile:
    """Appends every event to a JSON Lines file, with the seconds since the epoch in ``time``.

    Events hold user ids and numbers, never users' texts.
    """

    def __init__(self, path: Path):
        self.path = path
        self._begun = False

    def __call__(self, event: dict[str, Any]) -> None:
        """Append one event; the folder must exist by the first one."""
        if not self.path.parent.is_dir():
            return
        # NaN is no JSON: a loss that is not finite is null.
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
        with open(self.path, "a", encoding="utf-8", opener=private_opener) as file:
            if not self._begun and _ends_in_mid_line(self.path):
                file.write("\n")
            self._begun = True
            file.write(json.dumps({"time": round(time.time(), 3), **plain}) + "\n")


class TensorBoard:
    """Writes loss, active learners and items per second of each step as TensorBoard scalars (extra "tensorboard")."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("tensorboard", "tensorboard") from None
        self.writer = SummaryWriter(str(folder))
        self.stage = 0
        self.step = 0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        if event["event"] == "stage":
            self.stage, self.step = event["stage"], 0
        elif event["event"] == "step":
            self.step += 1
            for name, value in (
                ("loss", event["loss"]),
                ("learners", event["learners"]),
                ("items_per_second", event["rows"] / max(event["seconds"], 1e-9)),
            ):
                self.writer.add_scalar(f"stage{self.stage}/{name}", value, self.step)
        elif event["event"] == "phase":
            self.writer.flush()

    def close(self) -> None:
        """Write what is still waiting, and close the file."""
        self.writer.close()


def _ends_in_mid_line(path: Path) -> bool:
    """Whether a kill broke off the last line."""
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def tee(listeners: Sequence[Emit]) -> Emit:
    """One listener that hands each event to all of them, in order."""

    def emit(event: dict[str, Any]) -> None:
        for listener in listeners:
            listener(event)

    return emit
