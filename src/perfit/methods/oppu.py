"""OPPU: LoRA-C, then a fresh LoRA for each user on top of it (paper, D.3; Tan et al., 2024b).

The released code gathers training data outside its loop over users, so that user i is trained on the histories of
users 0 .. i. Here each user trains on their own history alone, as its paper says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.adapters import LoraShape
from perfit.methods.collective_lora import CollectiveLora, CollectiveLoraOptions
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.personal_lora import PersonalLora, PersonalLoraOptions


@dataclass(frozen=True)
class Options:
    """Options of OPPU.

    Attributes:
        rank, alpha, dropout: Of both LoRAs.
        collective_epochs, personal_epochs: None: those of the config's stages, or 3 and 2 under the paper's preset.
        collective_learning_rate, personal_learning_rate: Peak rates; None: those of the config's stages.
        retrieved: Past items before each prompt of stage 2; while training, only items before the one asked.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    collective_epochs: int | None = None
    personal_epochs: int | None = None
    collective_learning_rate: float | None = None
    personal_learning_rate: float | None = None
    retrieved: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "collective_epochs", "personal_epochs")
        check_counts(self, "retrieved", least=0)
        check_numbers(self, "collective_learning_rate", "personal_learning_rate")


class Oppu:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label = name, label
        shape = LoraShape(options.rank, options.alpha, options.dropout)
        collective = CollectiveLoraOptions(shape, options.collective_epochs, options.collective_learning_rate)
        personal = PersonalLoraOptions(
            shape, options.personal_epochs, options.personal_learning_rate, options.retrieved
        )
        self.stage1 = CollectiveLora(setting, collective)
        self.stage2 = PersonalLora(setting, name, personal, below=self.stage1)

    def fit(self, others: Sequence[User]) -> None:
        """Train the collective LoRA, or take LoRA-C's."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's LoRA on top."""
        return self.stage2.adapt(users)

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers with both LoRAs in it."""
        return self.stage2.predict(asks, done)

    def cost(self) -> Cost:
        """Both LoRAs."""
        return self.stage2.cost()


make = Oppu
