"""Non-personalised: the frozen base as it is (paper, D.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.answer import answer
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """None."""


class Base:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting = name, label, setting

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Nothing is personal."""
        return {}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers."""
        prompts = Prompts(self.setting)
        tokens = [prompts.plain(ask) for ask in asks]
        prompts.warn()
        return answer(self.setting.backbone, tokens, prompts, done)

    def cost(self) -> Cost:
        """Nothing."""
        return Cost()


make = Base
