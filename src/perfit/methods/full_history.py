"""Full history: as much of the user's past as fits before the prompt, newest kept, in order of time; nothing is trained (ours)."""

from __future__ import annotations

from dataclasses import dataclass

from perfit.backbone.room import check_length
from perfit.inference.batches import Tokens
from perfit.methods.answer import answer
from perfit.methods.history_as_text import HistoryAsText
from perfit.methods.method import Ask, Setting
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


def make(name: str, label: str, setting: Setting, options: Options) -> HistoryAsText[Tokens]:
    """The base's answers after each user's past.

    Raises:
        ConfigError: The base has fewer positions than ``max_length``.
    """
    if options.max_length is not None:
        check_length(setting.backbone, options.max_length)

    def asked(prompts: Prompts, ask: Ask) -> Tokens:
        return prompts.after_history(ask, options.max_length)

    return HistoryAsText(name, label, setting, asked, answer, "has no history to show")
