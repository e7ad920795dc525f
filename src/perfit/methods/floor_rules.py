"""Floors: answers that need no model. A personal model that does not beat them all has learnt nothing.

One rule a class, made from everybody's history (``methods.known``) and from nothing of a query but its text.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from perfit.data.schema import Dataset, Query, User
from perfit.errors import DataError
from perfit.methods.known import Known, known, past_text
from perfit.methods.linear import LinearLabels, LinearRatings
from perfit.methods.nearest import nearest
from perfit.tasks.task import Task

Asked = tuple[User, Query]


class Rule(Protocol):
    """How one floor answers."""

    def __init__(self, task: Task, data: Dataset) -> None:
        """Learn from the others' histories and answered queries and from the users' histories.

        Raises:
            DataError: Nobody has a history, or a past item cannot be used.
            MissingExtraError: scikit-learn is not installed (extra "eval"; linear and nearest).
        """

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """An answer to each query, from the history of its user and what was learnt."""
        ...


class Majority:
    """The answer given most often by everybody together.

    Of equals the one earlier in the label list: people share no time order.
    """

    def __init__(self, task: Task, data: Dataset):
        self.answer = most_given(task, data)

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        return [self.answer] * len(asked)


class UserMajority:
    """The answer the user gave most often, of equals the one given last; without a history everybody's."""

    def __init__(self, task: Task, data: Dataset):
        self.task, self.overall = task, most_given(task, data)

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        own = {user.id: self._own(user) for user, _ in asked}
        return [own[user.id] for user, _ in asked]

    def _own(self, user: User) -> str:
        given = [self.task.answer_of(item) for item in user.history]
        # max keeps the first of equals, and the reversed order begins with the most recent.
        return max(reversed(given), key=Counter(given).__getitem__) if given else self.overall


class Mean:
    """The mean of everybody's ratings."""

    def __init__(self, task: Task, data: Dataset):
        self.answer = _mean([item.answer for item in _given(task, data)])

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        return [self.answer] * len(asked)


class UserMean:
    """The mean of the user's ratings; without a history everybody's."""

    def __init__(self, task: Task, data: Dataset):
        self.task, self.overall = task, Mean(task, data).answer

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        own = {user.id: [self.task.answer_of(item) for item in user.history] for user, _ in asked}
        return [_mean(own[user.id]) if user.history else self.overall for user, _ in asked]


class Nearest:
    """The answer of the user's past item most like the query (TF-IDF cosine over that history), of equals the later.

    Without a history everybody's most frequent answer; for free text none.
    """

    def __init__(self, task: Task, data: Dataset):
        self.task, self.overall = task, "" if task.kind == "text" else most_given(task, data)

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        found = [self.overall] * len(asked)
        groups: dict[str, list[int]] = {}
        for index, (user, _) in enumerate(asked):
            groups.setdefault(user.id, []).append(index)
        for group in groups.values():
            history = asked[group[0]][0].history
            texts = [past_text(self.task, item) for item in history]
            places = nearest(texts, [self.task.article(asked[index][1]) for index in group])
            for index, place in zip(group, places, strict=True):
                if place is not None:
                    found[index] = self.task.answer_of(history[place])
        return found


class Linear:
    """A linear model of words and of who the user is (``methods.linear``): a label, or a real number for ratings."""

    def __init__(self, task: Task, data: Dataset):
        self.model = (LinearRatings if task.kind == "rating" else LinearLabels).fit(data, task)

    def answers(self, asked: Sequence[Asked]) -> list[str]:
        """See the class."""
        return self.model.answers([(user.id, query) for user, query in asked])


@dataclass(frozen=True)
class Kind:
    """A rule, the kinds of task it answers, and whether it knows the user."""

    rule: type[Rule]
    kinds: tuple[str, ...]
    personal: bool = True


RULES: Mapping[str, Kind] = {
    "majority": Kind(Majority, ("label", "rating"), personal=False),
    "user-majority": Kind(UserMajority, ("label", "rating")),
    "mean": Kind(Mean, ("rating",), personal=False),
    "user-mean": Kind(UserMean, ("rating",)),
    "nearest": Kind(Nearest, ("label", "rating", "text")),
    "linear": Kind(Linear, ("label", "rating")),
}
"""All floors by name, in the order of tables."""


@dataclass(frozen=True)
class FloorAnswers:
    """One floor's answers by query id, and the seconds that learning and answering took."""

    predictions: Mapping[str, str]
    seconds: float


def floors(task: Task, data: Dataset, asking: Sequence[User]) -> dict[str, FloorAnswers]:
    """Every floor that fits the task, by name: what it answers to these users' queries.

    Args:
        task: The task.
        data: Whose histories are learnt from: all users and the others.
        asking: Users with the queries that are answered.

    Raises:
        DataError: Nobody has a history, two users or two queries share an id, or a past item cannot be used.
        MissingExtraError: scikit-learn is not installed (extra "eval").
    """
    _check(data.users, asking)
    if bare := sum(1 for user in asking if user.queries and not user.history):
        warnings.warn(f"{bare} users have no history; their floor is not personal", stacklevel=2)
    asked = [(user, query) for user in asking for query in user.queries]
    found = {}
    for name, kind in RULES.items():
        if task.kind in kind.kinds:
            began = time.perf_counter()
            answers = kind.rule(task, data).answers(asked)
            predictions = {query.id: answer for (_, query), answer in zip(asked, answers, strict=True)}
            found[name] = FloorAnswers(predictions, time.perf_counter() - began)
    return found


def most_given(task: Task, data: Dataset) -> str:
    """The answer most frequent in everybody's history, of equals the first of the task's."""
    counts = Counter(item.answer for item in _given(task, data))
    return max(task.labels, key=counts.__getitem__)


def _given(task: Task, data: Dataset) -> list[Known]:
    items = known(task, data)
    if not items:
        raise DataError("nobody has a history", remedy="floors are made from histories: give the users one")
    return items


def _mean(answers: Sequence[str]) -> str:
    return repr(fmean(map(float, answers)))


def _check(users: Sequence[User], asking: Sequence[User]) -> None:
    if len({user.id for user in users}) != len(users):
        raise DataError("two users share an id", remedy="join them, or give each an id of its own")
    ids = Counter(query.id for user in asking for query in user.queries)
    twice = [query for query, count in ids.items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} query ids are used twice, e.g. {twice[0]}", remedy="give each query its own id")
