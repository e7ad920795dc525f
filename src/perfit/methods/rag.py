"""RAG: the k past items nearest to the query by BM25, before its prompt; nothing is trained (paper, D.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.answer import answer
from perfit.methods.history_bytes import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """Options of RAG.

    Attributes:
        k: Past items before each prompt; the paper has 1, 2 and 4.
    """

    k: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "k")


class Rag:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """The history is all there is."""
        self._user_bytes = history_bytes(self.setting.task, users)
        return {user.id: "has no history to retrieve from" for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers after each user's nearest past items."""
        prompts = Prompts(self.setting)
        tokens = [prompts.retrieved(ask, self.options.k) for ask in asks]
        prompts.warn()
        return answer(self.setting.backbone, tokens, prompts, done)

    def cost(self) -> Cost:
        """The texts that are searched."""
        return Cost(user_bytes=self._user_bytes)


make = Rag
