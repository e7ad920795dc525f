"""What a history weighs for methods that keep it as text."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.data.schema import User
from perfit.tasks.task import Task


def history_bytes(task: Task, users: Sequence[User]) -> int:
    """UTF-8 bytes of the users' retrieval documents, the mean over users, rounded.

    Raises:
        DataError: A past item lacks a field.
    """
    sizes = [sum(len(task.retrieval_document(item).encode()) for item in user.history) for user in users]
    return round(sum(sizes) / len(sizes)) if sizes else 0
