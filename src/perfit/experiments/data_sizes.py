"""Table 6: what a data set holds, counted as the paper counts."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from perfit.data.schema import Dataset, User
from perfit.experiments.by_task import by_task
from perfit.experiments.paper.entry import Entry
from perfit.experiments.world import World
from perfit.tasks import get_task
from perfit.tasks.plain_text import plain_ids
from perfit.tasks.task import Task


def data_entry(entry: Entry, world: World) -> dict[str, Any]:
    """Sizes of every task's data, by ``task.quantity``; lengths in tokens of the base."""
    base = world.choices.base_of(entry.bases[0])

    def measure(task: str) -> tuple[dict[str, float], int]:
        data = world.dataset(task)
        tokenizer = None if base is None else world.base(base).backbone.tokenizer
        return sizes(data, get_task(task), tokenizer), len(data.users)

    return by_task(entry, world, measure)


def sizes(data: Dataset, task: Task, tokenizer: Any | None) -> dict[str, float]:
    """Users and queries of both stages, mean history, and mean tokens of texts and free answers.

    Args:
        data: All users.
        task: Its task.
        tokenizer: The base's; None leaves lengths out.
    """
    found = {
        "stage1_users": float(len(data.others)),
        "stage2_users": float(len(data.users)),
        "stage1_queries": float(sum(len(user.queries) for user in data.others)),
        "queries": float(sum(len(user.queries) for user in data.users)),
        "history": fmean(len(user.history) for user in data.users) if data.users else 0.0,
    }
    if task.labels:
        found["classes"] = float(len(task.labels))
    if tokenizer is not None:
        for prefix, group in (("stage1_", data.others), ("", data.users)):
            found |= {f"{prefix}{name}": value for name, value in _lengths(group, task, tokenizer).items()}
    return found


def _lengths(users: tuple[User, ...], task: Task, tokenizer: Any) -> dict[str, float]:
    queries = [query for user in users for query in user.queries]
    if not queries:
        return {}
    found = {"input": fmean(len(plain_ids(task.article(query), tokenizer)) for query in queries)}
    if task.kind == "text":
        found["output"] = fmean(len(plain_ids(query.gold or "", tokenizer)) for query in queries)
    return found
