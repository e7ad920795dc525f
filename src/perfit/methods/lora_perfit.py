"""LoRA-C below, PerFit's personal shift on top: the hybrids of Table 12 (paper, E.3).

LoRA-C (all) changes every layer, LoRA-C (partial) only the layers that PerFit edits.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfit.methods.adapters import LoraShape
from perfit.methods.collective_lora import CollectiveLora, CollectiveLoraOptions
from perfit.methods.method import Setting
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.perfit_config import Options as PerFitOptions
from perfit.methods.personal_shift import ShiftMethod


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


def make(name: str, label: str, setting: Setting, options: Options) -> ShiftMethod:
    """See the module."""
    config = PerFitOptions(
        layers=options.layers,
        positions=options.positions,
        personal_rank=options.personal_rank,
        personal_epochs=options.personal_epochs,
        personal_learning_rate=options.personal_learning_rate,
    ).config(setting)
    lora = CollectiveLoraOptions(
        LoraShape(options.rank, options.alpha, options.dropout),
        options.collective_epochs,
        options.collective_learning_rate,
        config.layers if options.partial else None,
    )
    return ShiftMethod(name, label, setting, options, config, CollectiveLora(setting, lora))
