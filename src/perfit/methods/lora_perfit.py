"""LoRA-C below, PerFit's personal shift on top: the hybrids of Table 12 (paper, E.3).

LoRA-C (all) changes every layer, LoRA-C (partial) only the layers that PerFit edits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.data.schema import User
from perfit.methods.adapters import LoraShape
from perfit.methods.collective_lora import CollectiveLora, CollectiveLoraOptions
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.perfit_config import Options as PerFitOptions
from perfit.methods.personal_shift import PersonalStage
from perfit.methods.work import Work
from perfit.pseudo_users import BASE
from perfit.shift import parameter_count


@dataclass(frozen=True)
class Options:
    """Options of the hybrids.

    Attributes:
        partial: The LoRA changes only the edited layers.
        rank, alpha, dropout: Of the collective LoRA on q, k and v.
        collective_epochs, collective_learning_rate: Of the LoRA; None as LoRA-C's.
        layers, positions, personal_rank, personal_epochs, personal_learning_rate: Of the shifts; None as PerFit's.
    """

    partial: bool = False
    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    collective_epochs: int | None = None
    collective_learning_rate: float | None = None
    layers: tuple[int, ...] | None = None
    positions: str | None = None
    personal_rank: int | None = None
    personal_epochs: int | None = None
    personal_learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "collective_epochs")
        check_numbers(self, "collective_learning_rate")


class LoraPerFit:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label = name, label
        self.config = PerFitOptions(
            layers=options.layers,
            positions=options.positions,
            personal_rank=options.personal_rank,
            personal_epochs=options.personal_epochs,
            personal_learning_rate=options.personal_learning_rate,
            strength=1.0,  # there is no shared second shift to go back to
        ).config(setting)
        lora = CollectiveLoraOptions(
            LoraShape(options.rank, options.alpha, options.dropout),
            options.collective_epochs,
            options.collective_learning_rate,
            self.config.layers if options.partial else None,
        )
        self.stage1 = CollectiveLora(setting, lora)
        work = Work(setting.folder, setting, name, options, below=self.stage1.work)
        self.stage2 = PersonalStage(setting, self.config, work)

    def fit(self, others: Sequence[User]) -> None:
        """Train the LoRA, or take LoRA-C's."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's shift on the base with the LoRA in it."""
        return self.stage2.adapt(users, self.stage2.alone(), self.stage1.at_work())

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with the LoRA and each row's own shift."""
        return self.stage2.predict(asks, self.stage2.alone(), BASE, done, self.stage1.at_work())

    def cost(self) -> Cost:
        """The LoRA, and the user's shift."""
        width = self.stage2.setting.backbone.hidden_size
        personal = parameter_count(len(self.config.layers), self.config.personal_rank, width)
        return Cost(self.stage1.parameters, personal, 2 * personal)


make = LoraPerFit
