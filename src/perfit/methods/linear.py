"""What anybody can do in two seconds: a linear model of words and of who the user is, on everybody's history.

Words and pairs of neighbouring words that stand in two texts or more (TF-IDF, sublinear), a sign for each user and one for
all others together; for labels a logistic regression (C 10), for ratings as numbers a ridge regression. Nothing in it is
tuned or left to chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfit.data.schema import Dataset, Query
from perfit.errors import ConfigError, DataError
from perfit.extras import import_extra
from perfit.methods.known import Known, Who, known
from perfit.tasks.task import Task
from perfit.words import tokens

Floats = NDArray[np.float64]
Asked = tuple[str, Query]
"""The id of a user, and what is asked."""

_C = 10.0
_STEPS = 1000


class LinearLabels:
    """The label that words and person make most probable; for tasks of labels or ratings.

    Labels that nobody gave keep a little probability: with n texts and L labels p becomes (n p + 1) / (n + L), which
    changes no order.
    """

    def __init__(self, task: Task, features: Features, model: Any, given: Sequence[int], texts: int):
        self.task, self._features, self._model, self._given, self._texts = task, features, model, given, texts

    @classmethod
    def fit(cls, data: Dataset, task: Task) -> LinearLabels:
        """Learn from everybody's history (``methods.known``); gold answers of users' queries are not read.

        Raises:
            ConfigError: The task has no labels.
            DataError: Nobody has a history, or a past item cannot be used.
            MissingExtraError: scikit-learn is not installed (extra "eval").
        """
        items = _learnable(task, data)
        place = {label: number for number, label in enumerate(task.labels)}
        answers = np.array([place[item.answer] for item in items])
        given = sorted(set(answers.tolist()))
        features = Features(items)
        model = None
        if len(given) > 1:
            linear = import_extra("sklearn.linear_model", "scikit-learn")
            model = linear.LogisticRegression(C=_C, max_iter=_STEPS).fit(features.of_items(items), answers)
        return cls(task, features, model, given, len(items))

    def log_probs(self, asks: Sequence[Asked]) -> Floats:
        """Log-probability of each label of the task: [asks, labels]; each row's probabilities sum to 1.

        A user who is not known has their words alone.

        Raises:
            DataError: A query lacks the task's marker.
        """
        labels = len(self.task.labels)
        probabilities = np.zeros((len(asks), labels))
        if self._model is None:
            probabilities[:, self._given] = 1.0
        elif asks:
            rows = self._features.of(_words_and_who(self.task, asks))
            probabilities[:, self._model.classes_] = self._model.predict_proba(rows)
        smoothed: Floats = np.log((self._texts * probabilities + 1) / (self._texts + labels))
        return smoothed

    def answers(self, asks: Sequence[Asked]) -> list[str]:
        """The most probable label of each; of equals the first of the task's."""
        return [self.task.labels[place] for place in self.log_probs(asks).argmax(1)]


class LinearRatings:
    """A number for each query of a rating task, within the scale."""

    def __init__(self, task: Task, features: Features, model: Any):
        self.task, self._features, self._model = task, features, model

    @classmethod
    def fit(cls, data: Dataset, task: Task) -> LinearRatings:
        """As ``LinearLabels.fit``."""
        items = _learnable(task, data)
        features = Features(items)
        linear = import_extra("sklearn.linear_model", "scikit-learn")
        numbers = np.array([float(item.answer) for item in items])
        return cls(task, features, linear.Ridge(solver="sparse_cg").fit(features.of_items(items), numbers))

    def numbers(self, asks: Sequence[Asked]) -> Floats:
        """[asks]: what the user would give, as a real number.

        Raises:
            DataError: A query lacks the task's marker.
        """
        scale = [float(label) for label in self.task.labels]
        if not asks:
            return np.zeros(0)
        found: Floats = self._model.predict(self._features.of(_words_and_who(self.task, asks)))
        return np.clip(found, min(scale), max(scale))

    def answers(self, asks: Sequence[Asked]) -> list[str]:
        """The same numbers as text: absolute and squared errors know numbers between the ratings."""
        return [repr(float(number)) for number in self.numbers(asks)]


class Features:
    """Texts and people as sparse rows [texts, features], as everybody's known texts have them.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra "eval").
    """

    def __init__(self, items: Sequence[Known]):
        text = import_extra("sklearn.feature_extraction.text", "scikit-learn")
        self._people = {who: place for place, who in enumerate(dict.fromkeys(item.who for item in items))}
        counts = Counter(term for item in items for term in set(_terms(item.text)))
        shared = sorted(term for term, count in counts.items() if count > 1)
        self._words = None
        if shared:
            self._words = text.TfidfVectorizer(analyzer=_terms, vocabulary=shared, sublinear_tf=True)
            self._words.fit([item.text for item in items])

    def of_items(self, items: Sequence[Known]) -> Any:
        """Rows of known texts."""
        return self.of([(item.text, item.who) for item in items])

    def of(self, asked: Sequence[tuple[str, Who]]) -> Any:
        """Rows of texts and people."""
        sparse = import_extra("scipy.sparse", "scipy")
        places = [(row, self._people[who]) for row, (_, who) in enumerate(asked) if who in self._people]
        rows, columns = (zip(*places, strict=True)) if places else ((), ())
        people = sparse.csr_matrix((np.ones(len(places)), (rows, columns)), shape=(len(asked), len(self._people)))
        if self._words is None:
            return people
        return sparse.hstack([self._words.transform([text for text, _ in asked]), people], format="csr")


def _learnable(task: Task, data: Dataset) -> list[Known]:
    if not task.labels:
        raise ConfigError(f"linear: task {task.name!r} has no labels, its answers are free text; use the nearest item")
    items = known(task, data)
    if not items:
        raise DataError("nobody has a history", remedy="a linear model learns from histories: give the users one")
    return items


def _words_and_who(task: Task, asks: Sequence[Asked]) -> list[tuple[str, Who]]:
    return [(task.article(query), user) for user, query in asks]


def _terms(text: str) -> list[str]:
    single = tokens(text, pairs=True)
    return [*single, *(f"{one} {two}" for one, two in pairwise(single))]
