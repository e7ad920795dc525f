"""Methods that learn nothing: what is personal is the text of the history, which their prompts are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from perfit.backbone.model import Backbone
from perfit.data.schema import User
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.prompts import Prompts
from perfit.tasks.task import Task

Asked = TypeVar("Asked")
"""What is run for one ask: the tokens of a prompt, or of several."""


class HistoryAsText(Generic[Asked]):
    """Such a method.

    Args:
        name, label, setting: See ``Method``.
        asked: What is run for an ask.
        answers: An answer to each of them, in order.
        lacking: Why a user without a history has nothing of their own.
    """

    def __init__(
        self,
        name: str,
        label: str,
        setting: Setting,
        asked: Callable[[Prompts, Ask], Asked],
        answers: Callable[[Backbone, Sequence[Asked], Prompts, Done], list[str]],
        lacking: str,
    ):
        self.name, self.label, self.setting = name, label, setting
        self._asked, self._answers, self._lacking = asked, answers, lacking
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """The history is all there is."""
        self._user_bytes = history_bytes(self.setting.task, users)
        return {user.id: self._lacking for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers to what is made of each user's history."""
        prompts = Prompts(self.setting)
        asked = [self._asked(prompts, ask) for ask in asks]
        prompts.warn()
        return self._answers(self.setting.backbone, asked, prompts, done)

    def cost(self) -> Cost:
        """The texts that are searched or shown."""
        return Cost(user_bytes=self._user_bytes)


def history_bytes(task: Task, users: Sequence[User]) -> int:
    """UTF-8 bytes of the users' retrieval documents, the mean over users, rounded.

    Raises:
        DataError: A past item lacks a field.
    """
    sizes = [sum(len(task.retrieval_document(item).encode()) for item in user.history) for user in users]
    return round(sum(sizes) / len(sizes)) if sizes else 0
