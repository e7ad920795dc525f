"""Excerpts of what users wrote, kept for the page of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from perfit.data.schema import User
from perfit.durable.records import read_record, write_record
from perfit.errors import DamagedError
from perfit.tasks.task import Task

_EXCERPTS, _LETTERS = 6, 160


def save_texts(folder: Path, task: Task, users: Sequence[User]) -> None:
    """Keep excerpts of users' past items: the answers of free-text tasks, elsewhere text and answer."""
    field = task.body_field

    def excerpt(item_text: str) -> str:
        return item_text if len(item_text) <= _LETTERS else item_text[: _LETTERS - 1].rstrip() + "…"

    texts = {}
    for user in users:
        lines = []
        for item in user.history[:_EXCERPTS]:
            answer = task.field_of(item, task.history_answer)
            text = answer if task.kind == "text" or field is None else f"{answer}: {task.field_of(item, field)}"
            lines.append(excerpt(" ".join(text.split())))
        texts[user.id] = lines
    write_texts(folder / "texts.json", texts)


def write_texts(path: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Write excerpts by user, as ``save_texts`` does."""
    write_record(path, {"users": {user: list(lines) for user, lines in texts.items()}})


def read_texts(folder: Path) -> dict[str, list[str]]:
    """Excerpts by user; none where they were not to be kept.

    Raises:
        DamagedError: They are not as they were written.
    """
    path = folder / "texts.json"
    if not path.is_file():
        return {}
    mend = "delete it and analyse again"
    users = read_record(path, missing="not found", mend=mend).get("users")
    if not isinstance(users, dict) or not all(isinstance(lines, list) for lines in users.values()):
        raise DamagedError(f"{path}: a value is missing or wrong; {mend}")
    return {user: [str(line) for line in lines] for user, lines in users.items()}
