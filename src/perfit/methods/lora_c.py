"""LoRA-C: one LoRA for everybody, trained on other users (paper, D.3 and D.5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.adapters import LoraShape
from perfit.methods.answer import answer
from perfit.methods.collective_lora import CollectiveLora, CollectiveLoraOptions
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """Options of LoRA-C.

    Attributes:
        rank, alpha, dropout: Of the LoRA on q, k and v.
        epochs: Of stage 1; None: the config's, or 3 under the paper's preset (D.4).
        learning_rate: Peak rate; None: that of the config's stage 1.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    epochs: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "epochs")
        check_numbers(self, "learning_rate")

    def collective(self, layers: tuple[int, ...] | None = None) -> CollectiveLoraOptions:
        """The same as options of stage 1 on some layers."""
        shape = LoraShape(self.rank, self.alpha, self.dropout)
        return CollectiveLoraOptions(shape, self.epochs, self.learning_rate, layers)


class LoraC:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting = name, label, setting
        self.stage1 = CollectiveLora(setting, options.collective())

    def fit(self, others: Sequence[User]) -> None:
        """Train the LoRA."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Nothing is personal."""
        return {}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers with the LoRA in it."""
        prompts = Prompts(self.setting)
        tokens = [prompts.plain(ask) for ask in asks]
        prompts.warn()
        return answer(self.stage1.at_work(), tokens, prompts, done)

    def cost(self) -> Cost:
        """The LoRA."""
        return Cost(collective_parameters=self.stage1.parameters)


make = LoraC
