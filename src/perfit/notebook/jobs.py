"""The queue of trainings: durable, one waiting job a user, taken by one worker at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perfit.notebook.database import Notebook

QUEUED, RUNNING = "queued", "running"
LIVE, KEPT_BACK, FAILED = "live", "kept back", "failed"
STATES = (QUEUED, RUNNING, LIVE, KEPT_BACK, FAILED)
_ATTEMPTS = 3
_ENDED_KEPT = 20


@dataclass(frozen=True)
class Job:
    """One training that was asked for.

    Attributes:
        id: Its number.
        user: Whose shift.
        state: "queued", "running", "live" (trained and put live), "kept back" (trained, and worse), "failed".
        created, ended: ISO 8601 in UTC.
        result: What came of it.
    """

    id: int
    user: str
    state: str
    created: str
    ended: str | None
    result: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the user."""
        return {
            "job": self.id,
            "state": self.state,
            "created": self.created,
            "ended": self.ended,
            "result": dict(self.result),
        }


class Jobs:
    """The queue of a notebook.

    Args:
        notebook: Where it lies.
    """

    def __init__(self, notebook: Notebook):
        self.notebook = notebook

    def ask(self, user: str) -> Job:
        """Queue a training; one that waits already is the one. On return it is on the disk."""
        with self.notebook.writing() as database:
            row = database.execute("SELECT id FROM jobs WHERE user = ? AND state = ?", (user, QUEUED)).fetchone()
            if row is None:
                database.execute(
                    "INSERT INTO jobs (user, state, attempts, created) VALUES (?, ?, 0, ?)", (user, QUEUED, _now())
                )
                database.execute(
                    "DELETE FROM jobs WHERE user = ?1 AND ended IS NOT NULL AND id NOT IN "
                    "(SELECT id FROM jobs WHERE user = ?1 ORDER BY id DESC LIMIT ?2)",
                    (user, _ENDED_KEPT),
                )
        latest = self.latest(user)
        assert latest is not None
        return latest

    def latest(self, user: str) -> Job | None:
        """The newest job of a user."""
        return self._one("user = ? ORDER BY id DESC", user)

    def take(self) -> Job | None:
        """The oldest waiting job, now running; None where nothing waits."""
        with self.notebook.writing() as database:
            row = database.execute("SELECT id FROM jobs WHERE state = ? ORDER BY id LIMIT 1", (QUEUED,)).fetchone()
            if row is None:
                return None
            database.execute("UPDATE jobs SET state = ?, attempts = attempts + 1 WHERE id = ?", (RUNNING, row[0]))
        return self._one("id = ?", row[0])

    def runs(self, job: int) -> bool:
        """Whether a job still runs: it was not erased with its user meanwhile."""
        found = self._one("id = ?", job)
        return found is not None and found.state == RUNNING

    def end(self, job: int, state: str, result: Mapping[str, Any]) -> None:
        """Keep what came of a job; nothing where it was erased."""
        with self.notebook.writing() as database:
            database.execute(
                "UPDATE jobs SET state = ?, ended = ?, result = ? WHERE id = ?",
                (state, _now(), json.dumps(dict(result)), job),
            )

    def take_up(self) -> None:
        """Queue again what a killed worker had begun; what killed it three times is given up."""
        with self.notebook.writing() as database:
            database.execute(
                "UPDATE jobs SET state = ?, ended = ?, result = ? WHERE state = ? AND attempts >= ?",
                (
                    FAILED,
                    _now(),
                    json.dumps({"problem": "the worker ended in the middle, three times"}),
                    RUNNING,
                    _ATTEMPTS,
                ),
            )
            database.execute("UPDATE jobs SET state = ? WHERE state = ?", (QUEUED, RUNNING))

    def waiting(self) -> int:
        """How many wait or run."""
        with self.notebook.reading() as database:
            row = database.execute("SELECT count(*) FROM jobs WHERE state IN (?, ?)", (QUEUED, RUNNING)).fetchone()
        return int(row[0])

    def _one(self, condition: str, value: object) -> Job | None:
        columns = "id, user, state, created, ended, result"
        with self.notebook.reading() as database:
            row = database.execute(f"SELECT {columns} FROM jobs WHERE {condition} LIMIT 1", (value,)).fetchone()
        if row is None:
            return None
        number, user, state, created, ended, result = row
        return Job(number, user, state, created, ended, json.loads(result) if result else {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
