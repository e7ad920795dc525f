"""Figures 10-14: users near to the collective shift, in the middle and far from it, each by number and by numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.neighbours import from_the_collective
from perfit.analysis.subspace import centred, complete
from perfit.data.schema import User
from perfit.experiments.outcome import OutcomeRow, Value
from perfit.tasks import get_task
from perfit.tasks.task import Task
from perfit.words import count_words

GROUPS = {"near": "Closest", "middle": "Intermediate", "far": "Farthest"}
"""By our names the paper's, in the order of its Figures 12, 13 and 14."""
_EACH = 10
_MARKS = ",;:!?-–—"


@dataclass(frozen=True)
class Case:
    """One user in numbers: what the paper shows as a title (Figures 12, 13) or a query (Figure 14).

    Attributes:
        group: One of ``GROUPS``.
        number: In the group, from 1, nearest to the collective shift first.
        distance: To the collective shift, over the mean user's.
        punctuation: Marks in a text the user wrote, on average.
        words: Words of such a text.
        asked: Words of what a query of the user's asks about; few where there is no abstract.
        history: How many texts the user wrote.
    """

    group: str
    number: int
    distance: float
    punctuation: float
    words: float
    asked: float
    history: float


_COLUMNS = ("distance", "punctuation", "words", "asked", "history")


def cases_of(task: str, deltas: DeltaVectors, layer: int, users: Mapping[str, User]) -> list[Case]:
    """Up to ten users of each group; of fewer than thirty, a third each."""
    vectors, the_task = complete(deltas.delta(layer)), get_task(task)
    order = from_the_collective(vectors)
    distances = np.linalg.norm(centred(vectors), axis=1)
    mean = float(distances.mean()) or 1.0
    count = max(1, min(_EACH, len(order) // 3))
    middle = (len(order) - count) // 2
    places = {"near": order[:count], "middle": order[middle : middle + count], "far": order[-count:]}
    return [
        Case(group, number, float(distances[place]) / mean, *_of(the_task, users[deltas.users[place]]))
        for group, found in places.items()
        for number, place in enumerate(found, 1)
    ]


def _of(task: Task, user: User) -> tuple[float, float, float, float]:
    texts = [task.answer_of(item) for item in user.history]
    asked = [task.article(query) for query in user.queries]
    marks = [sum(sign in _MARKS for sign in text) for text in texts]
    return _mean(marks), _mean(list(map(count_words, texts))), _mean(list(map(count_words, asked))), float(len(texts))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def measures_of(task: str, cases: Sequence[Case]) -> dict[str, float]:
    """Punctuation by group, which the paper's text is about, and near minus middle."""
    means = {group: _mean([one.punctuation for one in cases if one.group == group]) for group in GROUPS}
    found = {f"{task}.punctuation_{group}": value for group, value in means.items()}
    return found | {f"{task}.punctuation_near_minus_middle": means["near"] - means["middle"]}


def case_rows(found: Mapping[str, Sequence[Case]]) -> tuple[OutcomeRow, ...]:
    """One row a user, by group and number, and under each group its mean; no text and no id of anybody."""
    numbers = max(len(cases) for cases in found.values())
    rows = []
    for group, label in GROUPS.items():
        mine = {task: [one for one in cases if one.group == group] for task, cases in found.items()}
        for number in range(1, numbers + 1):
            values = {task: [one for one in cases if one.number == number] for task, cases in mine.items()}
            if any(values.values()):
                rows.append(OutcomeRow(f"{label} #{number}", _values(values)))
        rows.append(OutcomeRow(f"{label}, mean", _values(mine)))
    return tuple(rows)


def case_columns(found: Mapping[str, Sequence[Case]]) -> tuple[str, ...]:
    """The columns of ``case_rows``."""
    return tuple(f"{task}.{name}" for task in found for name in _COLUMNS)


def _values(cases: Mapping[str, Sequence[Case]]) -> dict[str, Value]:
    return {
        f"{task}.{name}": Value(None, _mean([getattr(one, name) for one in mine]))
        for task, mine in cases.items()
        if mine
        for name in _COLUMNS
    }
