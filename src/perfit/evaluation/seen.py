"""Queries whose text somebody else has answered, apart from new ones: on the first, knowing others is worth most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfit.data.schema import Dataset, User
from perfit.json_keys import json_key
from perfit.methods.known import Who, known
from perfit.tasks.task import Task


@dataclass(frozen=True)
class BySeen:
    """A metric on both parts of the queries.

    Attributes:
        metric: The task's primary one.
        seen, new: How many queries stand in somebody else's history, or in the others' answered queries, and how many not.
        on_seen, on_new: By method, its mean over them.
    """

    metric: str
    seen: int
    new: int
    on_seen: Mapping[str, float]
    on_new: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, methods under their keys in JSON."""
        apart = {
            name: {json_key(method): value for method, value in means.items()}
            for name, means in (("on_seen", self.on_seen), ("on_new", self.on_new))
        }
        return {"metric": self.metric, "seen": self.seen, "new": self.new, **apart}

    def lines(self) -> list[str]:
        """For people."""

        def values(means: Mapping[str, float]) -> str:
            return ", ".join(f"{name.removeprefix('floor: ')} {value:.3f}" for name, value in means.items())

        return [
            f"{self.metric} on {self.seen} queries whose text somebody else has answered: {values(self.on_seen)}",
            f"{self.metric} on {self.new} queries whose text nobody else has: {values(self.on_new)}",
        ]


def seen_by_others(task: Task, data: Dataset, asked: Sequence[User]) -> set[str]:
    """Ids of the queries of ``asked`` whose text is one that somebody else is known to have answered.

    Args:
        task: Says what the text is.
        data: What is known of everybody (``methods.known``).
        asked: Users of ``data`` with their queries.
    """
    who: defaultdict[str, set[Who]] = defaultdict(set)
    for one in known(task, data):
        who[_words(one.text)].add(one.who)
    return {
        query.id for user in asked for query in user.queries if who.get(_words(task.article(query)), set()) - {user.id}
    }


def by_seen(metric: str, values: Mapping[str, Mapping[str, float]], seen: set[str]) -> BySeen | None:
    """Each method's mean on both parts; None where one of them is empty.

    Args:
        metric: What the values are of.
        values: By method, then query.
        seen: Of ``seen_by_others``.
    """
    queries = list(next(iter(values.values()), {}))
    apart = [[q for q in queries if q in seen], [q for q in queries if q not in seen]]
    if not all(apart):
        return None
    on_seen, on_new = (
        {name: sum(found[q] for q in part) / len(part) for name, found in values.items()} for part in apart
    )
    return BySeen(metric, len(apart[0]), len(apart[1]), on_seen, on_new)


def _words(text: str) -> str:
    return " ".join(text.split())
