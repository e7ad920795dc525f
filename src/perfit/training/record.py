"""What became of each user of a run: kept line by line, so that a run killed anywhere knows whom it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from perfit.durable.ledger import Ledger
from perfit.durable.records import write_records
from perfit.errors import DamagedError, StoreError
from perfit.run import RunDirectory
from perfit.training.learner import Trained

_MEND = "restore it, or train again in another folder"


def summary(trained: Trained) -> dict[str, Any]:
    """A user's training as plain values."""
    return {"steps": trained.steps, "losses": list(trained.losses), "problem": trained.problem}


class TrainingRecord:
    """``training.jsonl`` of a run: a line that names the run, one for each user, and one when all are through.

    A line ``resources`` says with how much at once the users after it train. Those before it are through.

    Args:
        run: The run directory.

    Attributes:
        users: What each user's training came to, in the order in which they finished.
        complete: Whether they are all.
        before: Users that were through when the training began anew with other ``resources``.

    Raises:
        StoreError: The file is damaged, or another run's.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self.ledger = Ledger(run.training_path, mend=_MEND)
        self.users: dict[str, dict[str, Any]] = {}
        self.complete = False
        self.before: frozenset[str] = frozenset()
        self._resources: Any = None
        try:
            for number, record in enumerate(self.ledger.records):
                if number == 0 and record["run"] != run.context():
                    raise StoreError(f"{run.training_path}: is another run's; {_MEND}")
                self._take(record)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise DamagedError(f"{run.training_path}: a value is missing or wrong; {_MEND}") from None

    def _take(self, record: Mapping[str, Any]) -> None:
        if "resources" in record:
            self._resources, self.before = record["resources"], frozenset(self.users)
        elif "user" in record:
            steps, losses = int(record["steps"]), [float(loss) for loss in record["losses"]]
            self.users[record["user"]] = {"steps": steps, "losses": losses, "problem": record["problem"]}
        elif "complete" in record:
            self.complete = True

    def exists(self) -> bool:
        """Whether stage 2 was begun."""
        return bool(self.ledger.records)

    def begin(self, resources: Mapping[str, Any]) -> None:
        """Record that users train with so much at once, where that is new."""
        records: list[dict[str, Any]] = []
        if not self.exists():
            records.append({"format": 1, "run": self.run.context()})
        if self._resources != dict(resources) and not self.complete:
            records.append({"resources": dict(resources)})
        self._append(records)

    def add(self, trained: Sequence[Trained], *, complete: bool = False) -> None:
        """Record users whose shifts are durable, and whether they are all."""
        records: list[dict[str, Any]] = []
        for one in trained:
            found = summary(one)
            # A user that trained again after a kill came to the same, and is told already.
            if self.users.get(one.name) != found:
                records.append({"user": one.name, **found})
        if complete and not self.complete:
            records.append({"complete": True})
        self._append(records)

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.ledger.append(records)
        for record in records:
            self._take(record)

    def forget(self, user: str) -> None:
        """Write the file anew without a user's line; nothing happens when there is none."""
        if self.users.pop(user, None) is None:
            return
        write_records(self.run.training_path, [record for record in self.ledger.records if record.get("user") != user])
        self.ledger = Ledger(self.run.training_path, mend=_MEND)

    def results(self, asked: Collection[str], stored: Collection[str]) -> list[Trained]:
        """What became of each user; the shifts are in the store.

        Args:
            asked: The users of the training's data.
            stored: The users whose shifts are there now.
        """
        there = set(stored)
        gone = "its shift was deleted from the store; perfit users add trains it again"
        found = []
        for name in [*self.users, *(name for name in asked if name not in self.users)]:
            told = self.users.get(name)
            if told is not None and (told["problem"] is not None or name in there):
                found.append(Trained(name, (), tuple(told["losses"]), told["steps"], told["problem"]))
            elif told is not None or name not in there:
                found.append(Trained(name, (), (), 0, gone))
            else:
                found.append(Trained(name, (), (), 0))
        return found
