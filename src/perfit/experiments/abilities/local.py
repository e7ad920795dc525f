"""Scores of the local tasks for one owner of a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from perfit.evaluation.bootstrap import Floats
from perfit.experiments.abilities.items import Item, LocalTask, local_tasks
from perfit.experiments.abilities.likelihood import continuations
from perfit.inference.edited import Edited
from perfit.tasks.plain_text import plain_ids

AVERAGE = "average"


def local_scores(edited: Edited, owner: str, tasks: Mapping[str, LocalTask] | None = None) -> dict[str, float]:
    """Each task's score, and their mean as "average"."""
    found = {name: _score(edited, owner, task) for name, task in (tasks or local_tasks()).items()}
    return {**found, AVERAGE: fmean(found.values())}


def _score(edited: Edited, owner: str, task: LocalTask) -> float:
    tokenizer = edited.backbone.tokenizer
    pairs = [
        (plain_ids(item.context, tokenizer, front=True), plain_ids(choice, tokenizer))
        for item in task.items
        for choice in item.choices
    ]
    values = iter(value for value, _ in continuations(edited, owner, pairs))
    scores = [[next(values) for _ in item.choices] for item in task.items]
    return {"accuracy": accuracy, "mcc": mcc, "pearson": pearson}[task.metric](task.items, scores)


def accuracy(items: Sequence[Item], scores: Sequence[Sequence[float]]) -> float:
    """Share of items whose likeliest choice is right."""
    return fmean(float(int(np.argmax(one)) == int(item.gold)) for item, one in zip(items, scores, strict=True))


def mcc(items: Sequence[Item], scores: Sequence[Sequence[float]]) -> float:
    """Matthews' correlation of the likelier of two choices with the right one; 0 where one of them is never chosen."""
    said = np.array([float(np.argmax(one)) for one in scores])
    return _correlation(said, np.array([item.gold for item in items]))


def pearson(items: Sequence[Item], scores: Sequence[Sequence[float]]) -> float:
    """Pearson's correlation of the first choice's log-odds with the wanted score; 0 where one of them is constant."""
    return _correlation(np.array([one[0] - one[1] for one in scores]), np.array([item.gold for item in items]))


def _correlation(a: Floats, b: Floats) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])  # of two values a side this is Matthews' correlation
