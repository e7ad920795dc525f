"""What a user gave to learn from: the history, and answers that were accepted, edited or rejected."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from perfit.data.schema import HistoryItem, Turn, User
from perfit.durable.records import parse_object
from perfit.errors import ConfigError, DamagedError
from perfit.notebook.database import Notebook
from perfit.store.data_keys import Keeper
from perfit.tasks.task import Task
from perfit.words import composed

Verdict = Literal["accepted", "edited", "rejected"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
MOST = 20_000
"""Items a user may have, and verdicts that are kept."""
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

    Texts are kept in their composed form, as training reads them: one text is one item, whatever spelling of its accents it
    came in. Every fifth item is held out, and stays so while it is there: an update is judged by items that neither it nor the
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
            keeper = self.notebook.keeper(user.id, new=True)
            known = {
                (fields, turns): held for fields, turns, held in _rows(database, user.id, "fields, turns, held_out")
            }
            database.execute("DELETE FROM items WHERE user = ?", (user.id,))
            held = 0
            for place, item in enumerate(user.history):
                text = _texts(keeper, item)
                out = int(known.setdefault(text, place % _ONE_IN == _ONE_IN - 1))  # its copies go with it
                held += out
                date = item.date and keeper.hide("items.date", item.date)
                database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", (user.id, place, *text, date, out))
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
            ConfigError: The user has as many items as may be.
        """
        answer = task.history_example(item).answer or ""
        asked = _text({name: value for name, value in item.fields.items() if name != task.history_answer})
        with self.notebook.writing() as database:
            keeper = self.notebook.keeper(user, new=True)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            database.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(user, _next(database, "feedback", user), verdict),
                    *(
                        keeper.hide("feedback.input", asked),
                        keeper.hide("feedback.answer", answer),
                        now,
                    ),
                ),
            )
            database.execute(
                "DELETE FROM feedback WHERE user = ?1 AND place <= (SELECT max(place) FROM feedback WHERE user = ?1) - ?2",
                (user, MOST),
            )
            text = _texts(keeper, item)
            if verdict == "rejected":
                database.execute("DELETE FROM items WHERE user = ? AND fields = ? AND turns = ?", (user, *text))
                return
            same = "SELECT held_out FROM items WHERE user = ? AND fields = ? AND turns = ?"
            count = int(database.execute("SELECT count(*) FROM items WHERE user = ?", (user,)).fetchone()[0])
            if count >= MOST:
                raise ConfigError(
                    f"history: {MOST:,} items are kept of this user, as many as may be; PUT a shorter history first"
                )
            known = database.execute(same, (user, *text)).fetchone()
            held = int(known[0] if known is not None else count % _ONE_IN == _ONE_IN - 1)
            place = _next(database, "items", user)
            date = item.date and keeper.hide("items.date", item.date)
            database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", (user, place, *text, date, held))

    def of(self, user: str) -> Learnable:
        """What there is to learn from, oldest first; empty for who gave nothing."""
        with self.notebook.reading() as database:
            rows = _rows(database, user, "place, fields, turns, date, held_out")
        items: list[tuple[HistoryItem, int]] = []
        if rows:  # who gave nothing has no key
            keeper = self.notebook.keeper(user)
            items = [(item_of(keeper, *row), held) for *row, held in rows]
        return Learnable(
            User(user, tuple(item for item, held in items if not held)),
            User(user, tuple(item for item, held in items if held)),
        )

    def of_feedback_alone(self, user: str, task: Task) -> bool:
        """Whether every item came from answers that were accepted or edited: no history was ever given, or none is left."""
        with self.notebook.reading() as database:
            rows = _rows(database, user, "fields")
            given = database.execute(
                "SELECT input, answer FROM feedback WHERE user = ? AND verdict != 'rejected'", (user,)
            ).fetchall()
        if not rows:
            return True
        show = self.notebook.keeper(user).show
        said = {(show("feedback.input", asked), show("feedback.answer", answer)) for asked, answer in given}
        for (text,) in rows:
            fields = json.loads(show("items.fields", text))
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


def item_of(keeper: Keeper, place: int, fields: str, turns: str, date: str | None) -> HistoryItem:
    """A past item from its row.

    Raises:
        DamagedError: It is not as one is written.
    """
    fields, turns = keeper.show("items.fields", fields), keeper.show("items.turns", turns)
    date = date and keeper.show("items.date", date)
    try:
        texts, said = parse_object(fields.encode()), [Turn(*one) for one in json.loads(turns)]
    except (ValueError, TypeError, AttributeError):
        raise DamagedError("an item of a history cannot be read; PUT the history of this user again") from None
    if not all(
        isinstance(text, str)
        for text in (*texts.values(), *(part for turn in said for part in (turn.role, turn.content)))
    ):
        raise DamagedError("an item of a history holds what is no text; PUT the history of this user again")
    return HistoryItem(str(place), texts, date, turns=tuple(said))


def asked_of(keeper: Keeper, asked: str) -> dict[str, Any]:
    """What a verdict was on, from its row.

    Raises:
        DamagedError: It is not as one is written.
    """
    try:
        return parse_object(keeper.show("feedback.input", asked).encode())
    except (ValueError, AttributeError):
        raise DamagedError("a verdict cannot be read") from None


def _texts(keeper: Keeper, item: HistoryItem) -> tuple[str, str]:
    """An item's texts as their columns keep them: equal for equal items of a user."""
    return keeper.hide("items.fields", _text(item.fields)), keeper.hide("items.turns", _said(item.turns))


def _rows(database: sqlite3.Connection, user: str, columns: str) -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM items WHERE user = ? ORDER BY place", (user,)).fetchall()


def _next(database: sqlite3.Connection, table: str, user: str) -> int:
    found = database.execute(f"SELECT coalesce(max(place), -1) + 1 FROM {table} WHERE user = ?", (user,)).fetchone()
    return int(found[0])


def _text(fields: Mapping[str, str]) -> str:
    return json.dumps({name: composed(text) for name, text in fields.items()}, ensure_ascii=False, sort_keys=True)


def _said(turns: Sequence[Turn]) -> str:
    return json.dumps([[turn.role, composed(turn.content)] for turn in turns], ensure_ascii=False)
