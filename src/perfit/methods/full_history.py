"""Full history: as much of the user's past as fits before the prompt, newest kept, in order of time; nothing is trained (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.backbone.room import check_length
from perfit.data.schema import User
from perfit.methods.answer import answer
from perfit.methods.history_bytes import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """Options of the full history.

    Attributes:
        max_length: Most tokens of history, prompt and answer, up to what the base can hold; None takes the setting's
            ``max_length``, to which every other method keeps.
    """

    max_length: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, "max_length", least=8)


class FullHistory:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        if options.max_length is not None:
            check_length(setting.backbone, options.max_length)
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """The history is all there is."""
        self._user_bytes = history_bytes(self.setting.task, users)
        return {user.id: "has no history to show" for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers after each user's past."""
        prompts = Prompts(self.setting)
        tokens = [prompts.after_history(ask, self.options.max_length) for ask in asks]
        prompts.warn()
        return answer(self.setting.backbone, tokens, prompts, done)

    def cost(self) -> Cost:
        """The texts that are shown."""
        return Cost(user_bytes=self._user_bytes)


make = FullHistory
