"""LoRA-P: each user's own LoRA on the base (paper, D.3 and D.5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.adapters import LoraShape
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.personal_lora import PersonalLora, PersonalLoraOptions


@dataclass(frozen=True)
class Options:
    """Options of LoRA-P.

    Attributes:
        rank, alpha, dropout: Of each LoRA on q and v.
        epochs: Of stage 2; None: the config's, or 2 under the paper's preset (D.4).
        learning_rate: Peak rate; None: that of the config's stage 2.
        retrieved: Past items before each prompt (OPPU's k); while training, only items before the one asked.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    epochs: int | None = None
    learning_rate: float | None = None
    retrieved: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "epochs")
        check_counts(self, "retrieved", least=0)
        check_numbers(self, "learning_rate")


class LoraP:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label = name, label
        shape = LoraShape(options.rank, options.alpha, options.dropout)
        personal = PersonalLoraOptions(shape, options.epochs, options.learning_rate, options.retrieved)
        self.stage2 = PersonalLora(setting, name, personal)

    def fit(self, others: Sequence[User]) -> None:
        """There is no stage 1."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's LoRA."""
        return self.stage2.adapt(users)

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers with each user's LoRA in it."""
        return self.stage2.predict(asks, done)

    def cost(self) -> Cost:
        """The user's LoRA."""
        return self.stage2.cost()


make = LoraP
