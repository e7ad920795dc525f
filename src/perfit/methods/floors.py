"""The floors as methods, beside those that have a model. No table should be read without them (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import Dataset, User
from perfit.errors import ConfigError, StoreError
from perfit.methods.floor_rules import RULES, Rule
from perfit.methods.history_as_text import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress

PREFIX = "floor-"
"""What a floor's name begins with among the methods."""


@dataclass(frozen=True)
class Options:
    """None."""


class Floor:
    """One of ``floor_rules.RULES``. Nothing of it is kept: it learns anew in seconds, and always the same."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self._kind = RULES[name.removeprefix(PREFIX)]
        if setting.task.kind not in self._kind.kinds:
            raise ConfigError(
                f"{name}: does not fit task {setting.task.name!r} of kind {setting.task.kind!r}; it fits "
                f"{' and '.join(self._kind.kinds)}"
            )
        self.name, self.label, self.setting = name, label, setting
        self._others: tuple[User, ...] = ()
        self._rule: Rule | None = None
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """The other users' histories and answered queries are learnt from with the users'."""
        self._others, self._rule = tuple(others), None

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Learn from everybody's history.

        Raises:
            DataError: Nobody has a history, or a past item cannot be used.
        """
        task = self.setting.task
        self._rule = self._kind.rule(task, Dataset(tuple(users), self._others))
        if self._kind.rule is RULES["nearest"].rule:
            self._user_bytes = history_bytes(task, users)
        elif self._kind.rule is RULES["linear"].rule:  # the user's own sign: a weight for each label, or one
            self._user_bytes = 2 * (1 if task.kind == "rating" else len(task.labels))
        elif self._kind.personal:
            self._user_bytes = max(len(label.encode()) for label in task.labels)
        return {user.id: "has no history" for user in users if self._kind.personal and not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """An answer to each ask."""
        if self._rule is None:
            raise StoreError(f"{self.name}: has not learnt from anybody's history; call fit and adapt first")
        texts = self._rule.answers([(ask.user, ask.query) for ask in asks])
        done(len(asks))
        return texts

    def cost(self) -> Cost:
        """What is kept of a user: the texts that are searched, one answer, or one weight a label."""
        return Cost(user_bytes=self._user_bytes)


make = Floor
