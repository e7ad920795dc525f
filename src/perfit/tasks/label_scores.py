"""Answers of tasks with labels by the labels' log-probabilities, beside free generation.

Free generation can run on after a label or say another word, so that its accuracy is lower; the two are different
protocols and their numbers not comparable.
"""

from __future__ import annotations

from torch import Tensor

from perfit.tasks.expected import Expected
from perfit.tasks.task import Task


def answers_from(scores: Tensor, task: Task, answers: str) -> list[str]:
    """What is answered where labels are scored, one text a row.

    Args:
        scores: ``PerFit.score_labels``, [queries, labels].
        task: With labels.
        answers: "trie": the most probable label, the task's first of equals, never a format failure; "expected": median
            and mean over the ratings' exact probabilities, as ``tasks.expected`` writes them, of all labels' scores.
    """
    if answers == "expected":
        return [Expected.of(task.labels, row).text() for row in scores.tolist()]
    return [task.labels[int(place)] for place in scores.argmax(1)]
