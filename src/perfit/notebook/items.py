"""What a user gave to learn from: the history, and answers that were accepted, edited or rejected."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from perfit.data.schema import HistoryItem, Turn, User
from perfit.notebook.database import Notebook
from perfit.tasks.task import Task

Verdict = Literal["accepted", "edited", "rejected"]
_ONE_IN = 5


@dataclass(frozen=True)
class Learnable:
    """What a user's shift is trained on, and what no training of a server ever sees.

    Attributes:
        training: A user with the items to train on.
        held_out: A user of the same id with the items that an update is judged by; none of fewer than five.
    """

    training: User
    held_out: User


class Items:
    """Histories and feedback of a notebook.

    Every fifth item is held out, and stays so while it is there: an update is judged by items that neither it nor the
    version before it was trained on. Copies of an item are held out together.

    Args:
        notebook: Where they lie.
    """

    def __init__(self, notebook: Notebook):
        self.notebook = notebook

    def replace(self, user: User) -> tuple[int, int]:
        """Keep this history instead of what was there, feedback apart.

        Returns:
            How many items, and how many of them are held out.
        """
        with self.notebook.writing() as database:
            known = {
                (fields, turns): held for fields, turns, held in _rows(database, user.id, "fields, turns, held_out")
            }
            database.execute("DELETE FROM items WHERE user = ?", (user.id,))
            held = 0
            for place, item in enumerate(user.history):
                text = (_text(item.fields), _said(item.turns))
                out = int(known.setdefault(text, place % _ONE_IN == _ONE_IN - 1))  # its copies go with it
                held += out
                database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", (user.id, place, *text, item.date, out))
        return len(user.history), held

    def judge(self, user: str, verdict: Verdict, item: HistoryItem, task: Task) -> None:
        """Keep what a user made of an answer; an accepted or edited one becomes a past item, a rejected one is none any more.

        Args:
            user: The id.
            verdict: What the user says.
            item: The text asked, with the answer that is right, or, rejected, that is wrong.
            task: Whose item this is.

        Raises:
            DataError: It is no past item of the task.
        """
        answer = task.history_example(item).answer or ""
        asked = _text({name: value for name, value in item.fields.items() if name != task.history_answer})
        with self.notebook.writing() as database:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            database.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)",
                (user, _next(database, "feedback", user), verdict, asked, answer, now),
            )
            text = (_text(item.fields), _said(item.turns))
            if verdict == "rejected":
                database.execute("DELETE FROM items WHERE user = ? AND fields = ? AND turns = ?", (user, *text))
                return
            same = "SELECT held_out FROM items WHERE user = ? AND fields = ? AND turns = ?"
            count = int(database.execute("SELECT count(*) FROM items WHERE user = ?", (user,)).fetchone()[0])
            known = database.execute(same, (user, *text)).fetchone()
            held = int(known[0] if known is not None else count % _ONE_IN == _ONE_IN - 1)
            place = _next(database, "items", user)
            database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", (user, place, *text, item.date, held))

    def of(self, user: str) -> Learnable:
        """What there is to learn from, oldest first; empty for who gave nothing."""
        with self.notebook.reading() as database:
            rows = _rows(database, user, "place, fields, turns, date, held_out")
        items = [
            (
                HistoryItem(str(place), json.loads(fields), date, turns=tuple(Turn(*one) for one in json.loads(turns))),
                held,
            )
            for place, fields, turns, date, held in rows
        ]
        return Learnable(
            User(user, tuple(item for item, held in items if not held)),
            User(user, tuple(item for item, held in items if held)),
        )

    def of_feedback_alone(self, user: str, task: Task) -> bool:
        """Whether every item came from answers that were accepted or edited: no history was ever given, or none is left."""
        with self.notebook.reading() as database:
            rows = _rows(database, user, "fields")
            said = set(
                database.execute("SELECT input, answer FROM feedback WHERE user = ? AND verdict != 'rejected'", (user,))
            )
        for (text,) in rows:
            fields = json.loads(text)
            answer = fields.pop(task.history_answer, "")
            if (_text(fields), answer) not in said:
                return False
        return True

    def counts(self, user: str) -> dict[str, int]:
        """How many items, held-out ones among them, and verdicts."""
        with self.notebook.reading() as database:
            items, held = database.execute(
                "SELECT count(*), coalesce(sum(held_out), 0) FROM items WHERE user = ?", (user,)
            ).fetchone()
            said = database.execute("SELECT count(*) FROM feedback WHERE user = ?", (user,)).fetchone()[0]
        return {"items": items, "held_out": held, "feedback": said}


def _rows(database: sqlite3.Connection, user: str, columns: str) -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM items WHERE user = ? ORDER BY place", (user,)).fetchall()


def _next(database: sqlite3.Connection, table: str, user: str) -> int:
    found = database.execute(f"SELECT coalesce(max(place), -1) + 1 FROM {table} WHERE user = ?", (user,)).fetchone()
    return int(found[0])


def _text(fields: Mapping[str, str]) -> str:
    return json.dumps(dict(fields), ensure_ascii=False, sort_keys=True)


def _said(turns: Sequence[Turn]) -> str:
    return json.dumps([[turn.role, turn.content] for turn in turns], ensure_ascii=False)
