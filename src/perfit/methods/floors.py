"""Floors: answers that need no model. No table should be read without them (ours)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from perfit.data.schema import User
from perfit.errors import ConfigError, DataError
from perfit.evaluation.floors import nearest
from perfit.methods.answer import by_user
from perfit.methods.history_bytes import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.work import Work

KINDS = {
    "floor-majority": ("label", "rating"),
    "floor-user-majority": ("label", "rating"),
    "floor-user-mean": ("rating",),
    "floor-nearest": ("label", "rating", "text"),
}
"""The kinds of task each floor answers."""


@dataclass(frozen=True)
class Options:
    """None."""


class Floor:
    """One of four: the other users' most frequent answer, the user's own, their mean rating, their nearest past item's.

    Ties go to the answer given last. A user without a history gets the other users' most frequent answer (text: none).
    """

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        if setting.task.kind not in KINDS[name]:
            raise ConfigError(
                f"{name}: does not fit task {setting.task.name!r} of kind {setting.task.kind!r}; it fits "
                f"{' and '.join(KINDS[name])}"
            )
        self.name, self.label, self.setting = name, label, setting
        self.work = Work(setting.folder, setting, name, None)
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Count the other users' answers, of histories and known queries."""
        task = self.setting.task
        if task.kind == "text":
            return
        given = [task.answer_of(item) for user in others for item in user.history]
        given += [task.check_gold(q.gold, f"query {q.id}") for user in others for q in user.queries if q.gold]
        if not given and self.name == "floor-majority":
            raise DataError("no other user has an answer to count", remedy="give other users with histories")
        overall = _most_frequent(given) if given else ""
        self.work.fit_once(others, lambda pool: {}, {"answer": overall})

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """The history is all there is."""
        if self.name == "floor-nearest":
            self._user_bytes = history_bytes(self.setting.task, users)
        elif self.name != "floor-majority":
            self._user_bytes = max(len(label.encode()) for label in self.setting.task.labels)
        personal = self.name != "floor-majority"
        return {user.id: "has no history" for user in users if personal and not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """An answer to each ask."""
        overall = "" if self.setting.task.kind == "text" else str(self.work.collective().notes["answer"])
        texts = [overall] * len(asks)
        for group in by_user(asks):
            user = asks[group[0]].user
            if user.history and self.name != "floor-majority":
                for index, text in zip(group, self._own(user, [asks[i] for i in group]), strict=True):
                    texts[index] = text
            done(len(group))
        return texts

    def _own(self, user: User, asks: Sequence[Ask]) -> list[str]:
        task = self.setting.task
        answers = [task.answer_of(item) for item in user.history]
        if self.name == "floor-user-majority":
            return [_most_frequent(answers)] * len(asks)
        if self.name == "floor-user-mean":
            return [repr(fmean(map(float, answers)))] * len(asks)
        texts = [task.field_of(item, task.body_field or task.history_answer) for item in user.history]
        found = nearest(texts, [task.article(ask.query) for ask in asks])
        return [answers[index] for index in found if index is not None]

    def cost(self) -> Cost:
        """The texts that are searched, or one answer."""
        return Cost(user_bytes=self._user_bytes)


def _most_frequent(answers: Sequence[str]) -> str:
    counts = Counter(answers)
    return max(reversed(answers), key=counts.__getitem__)


make = Floor
