"""Answers of label tasks by the labels' log-probabilities, beside free generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perfit.data.schema import Query
from perfit.personalizer import PerFit
from perfit.tasks.expected import Expected
from perfit.training.loop import Emit


def best_labels(
    perfit: PerFit,
    queries: Sequence[Query],
    owners: Sequence[str],
    *,
    done: Callable[[int], None] = lambda rows: None,
    emit: Emit = lambda event: None,
) -> list[str]:
    """Each query's most probable label, the task's first of equals: never a format failure.

    Free generation can run on after a label or say another word, so that its accuracy is lower; the two are different
    protocols and their numbers not comparable.

    Raises:
        ConfigError: The task has no labels.
    """
    scores = perfit.score_labels(queries, owners, best_only=True, done=done, emit=emit)
    return [perfit.task.labels[int(place)] for place in scores.argmax(1)]


def expected_ratings(
    perfit: PerFit,
    queries: Sequence[Query],
    owners: Sequence[str],
    *,
    done: Callable[[int], None] = lambda rows: None,
    emit: Emit = lambda event: None,
) -> list[str]:
    """Each query's median and mean over the ratings' exact probabilities, as ``tasks.expected`` writes them.

    Raises:
        ConfigError: The task has no labels.
    """
    scores = perfit.score_labels(queries, owners, done=done, emit=emit)
    return [Expected.of(perfit.task.labels, row).text() for row in scores.tolist()]
