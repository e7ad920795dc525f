"""What became of each user of a run: kept user by user, so that a run killed anywhere knows whom it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfit.run import RunDirectory
from perfit.training.loop import Trained

_FILE = "training.json"


def summary(trained: Trained) -> dict[str, Any]:
    """A user's training as plain values."""
    return {"steps": trained.steps, "losses": list(trained.losses), "problem": trained.problem}


class TrainingRecord:
    """``training.json`` of a run.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        content: dict[str, Any] = run.read_json(_FILE) if self.exists() else {"complete": False, "users": {}}
        self.users: dict[str, dict[str, Any]] = content["users"]
        self.complete: bool = content["complete"]

    def exists(self) -> bool:
        """Whether any user was recorded."""
        return (self.run.path / _FILE).is_file()

    def add(self, trained: Sequence[Trained], *, complete: bool = False) -> None:
        """Record users whose shifts are durable, and whether they are all."""
        self.users |= {t.name: summary(t) for t in trained}
        self.complete = complete
        self.run.write_json(_FILE, {"complete": complete, "users": self.users})

    def forget(self, user: str) -> None:
        """Take a user out; nothing happens when there is none."""
        if self.users.pop(user, None) is not None:
            self.run.write_json(_FILE, {"complete": self.complete, "users": self.users})

    def results(self) -> list[Trained]:
        """What became of each user; the shifts are in the store."""
        return [Trained(name, (), tuple(u["losses"]), u["steps"], u["problem"]) for name, u in self.users.items()]
