"""Floors: predictions that need no model. A personal model that does not beat them has learnt nothing."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from perfit.data.schema import User
from perfit.errors import DataError
from perfit.evaluation.score import import_extra
from perfit.tasks.task import Task
from perfit.words import tokens

Predictions = Mapping[str, str]


def floors(task: Task, users: Sequence[User]) -> dict[str, Predictions]:
    """Predictions by floor and query id, to be scored like those of any method. Only histories are read.

    * label: "majority" (the label most frequent in all histories together) and "user_majority" (in the user's own).
    * rating: the same two, "mean" (over all histories) and "user_mean".
    * text: "nearest": the answer of the user's past item whose text is most like the query's (cosine of TF-IDF
      weights fitted on that user's history, by scikit-learn).

    Ties go to the more recent: for a user's own labels the one given last, for the nearest the later item; overall,
    where users share no time order, to the label earlier in the label list. A user without history gets the overall
    answer (text: an empty one), and a warning says how many users that are.

    Args:
        task: The task; its kind decides which floors there are.
        users: The test users, with histories oldest first.

    Raises:
        DataError: No user has a history, two queries share an id, or a past item lacks its answer.
        MissingExtraError: scikit-learn is not installed (extra "eval"; text only).
    """
    answers = {user.id: [task.answer_of(item) for item in user.history] for user in users}
    _check(users, answers)
    if task.kind == "text":
        return {"nearest": _nearest(task, users, answers)}
    everything = [answer for given in answers.values() for answer in given]
    overall = max(task.labels, key=Counter(everything).__getitem__)
    result = {
        "majority": _constant(users, lambda user: overall),
        "user_majority": _constant(users, lambda user: _majority(answers[user.id]) or overall),
    }
    if task.kind == "rating":
        mean = _mean(everything)
        result["mean"] = _constant(users, lambda user: mean)
        result["user_mean"] = _constant(users, lambda user: _mean(answers[user.id]) if user.history else mean)
    return result


def _check(users: Sequence[User], answers: Mapping[str, list[str]]) -> None:
    if not any(answers.values()):
        raise DataError("no user has a history", remedy="floors are made from histories: give the users one")
    if len(answers) != len(users):
        raise DataError("two users share an id", remedy="join them, or give each an id of its own")
    ids = Counter(query.id for user in users for query in user.queries)
    twice = [query for query, count in ids.items() if count > 1]
    if twice:
        raise DataError(f"{len(twice)} query ids are used twice, e.g. {twice[0]}", remedy="give each query its own id")
    empty = sum(1 for user in users if user.queries and not user.history)
    if empty:
        warnings.warn(f"{empty} users have no history; their floor is not personal", stacklevel=3)


def _constant(users: Sequence[User], answer: Callable[[User], str]) -> Predictions:
    return {query.id: given for user in users for given in [answer(user)] for query in user.queries}


def _majority(answers: Sequence[str]) -> str | None:
    if not answers:
        return None
    counts = Counter(answers)
    # max keeps the first of equals, and the reversed order begins with the most recent.
    return max(reversed(answers), key=counts.__getitem__)


def _mean(answers: Sequence[str]) -> str:
    return repr(fmean(float(answer) for answer in answers))


def _nearest(task: Task, users: Sequence[User], answers: Mapping[str, list[str]]) -> Predictions:
    field = task.body_field or task.history_answer
    result: dict[str, str] = {}
    for user in users:
        if not user.queries:
            continue
        texts = [task.field_of(item, field) for item in user.history]
        for query, index in zip(user.queries, nearest(texts, [task.article(q) for q in user.queries]), strict=True):
            result[query.id] = "" if index is None else answers[user.id][index]
    return result


def _terms(text: str) -> list[str]:
    return tokens(text, pairs=True)


def nearest(documents: Sequence[str], questions: Sequence[str]) -> list[int | None]:
    """For each question the index of the most similar document (TF-IDF cosine); the last one of equals.

    With no word in common the last document is taken; without documents the result is None.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra "eval").
    """
    last = len(documents) - 1
    if last < 0:
        return [None] * len(questions)
    text = import_extra("sklearn.feature_extraction.text", "scikit-learn")
    if not any(map(_terms, documents)):
        return [last] * len(questions)
    vectorizer = text.TfidfVectorizer(analyzer=_terms)
    # Rows have length 1, so the product is the cosine. Sparse products may differ in the last bit between equals.
    weights = vectorizer.fit_transform(documents)
    similarity = (vectorizer.transform(questions) @ weights.T).toarray().round(12)
    return [last - int(row[::-1].argmax()) for row in similarity]
