"""What is known of everybody before a query is asked: what floors learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perfit.data.schema import Dataset, HistoryItem, User
from perfit.tasks.task import Task

Who = str | None
"""The id of a user; None for the others, whoever they are: nothing is asked for them."""


@dataclass(frozen=True, slots=True)
class Known:
    """One text with the answer that somebody gave to it, as the task spells it."""

    who: Who
    text: str
    answer: str


def known(task: Task, data: Dataset) -> list[Known]:
    """The others' histories and answered queries, and the users' histories; never a query of theirs.

    Others who are the users themselves (what stage 1 takes where there are no others) count once.

    Raises:
        DataError: A past item lacks a field, or an answer is none of the task's.
    """
    own = {user.id: user.history for user in data.users}
    result: list[Known] = []
    for other in data.others:
        if other.queries or own.get(other.id) != other.history:
            result += _history(task, None, other)
            for query in other.queries:
                if query.gold is not None:
                    gold = task.check_gold(query.gold, f"query {query.id}")
                    result.append(Known(None, task.article(query), gold))
    for user in data.users:
        result += _history(task, user.id, user)
    return result


def past_text(task: Task, item: HistoryItem) -> str:
    """What a past item is about, in place of a query's text.

    Raises:
        DataError: The field is missing.
    """
    return task.field_of(item, task.body_field or task.history_answer)


def _history(task: Task, who: Who, user: User) -> Iterator[Known]:
    for item in user.history:
        yield Known(who, past_text(task, item), task.answer_of(item))
