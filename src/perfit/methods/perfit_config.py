"""PerFit's own settings as options of a method: whatever is not given is the config's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from perfit.config import PerFitConfig
from perfit.methods.method import Setting


@dataclass(frozen=True)
class Options:
    """Options of PerFit and of the methods made from its parts; None: the setting's config.

    Attributes:
        layers, positions: Where is edited.
        collective_rank, personal_rank: Ranks of both shifts (Table 9's LRank and ULRank).
        init: "identity" or "loreft".
        collective_epochs, personal_epochs: Of the two stages.
        collective_learning_rate, personal_learning_rate: Peak rates.
        retrieved: Past items before each prompt of both stages; while training, only items before the one asked.
        strength: How far a user's own shift goes from the shared one, from 0 to 1; of PerFit alone.
        held_out, strength_prior: How each user's strength is found by the own history; of PerFit alone.
        collective: A stage 1 trained elsewhere, on another task perhaps: a run's folder, or a ``collective.safetensors``;
            of PerFit and PerFit@Stage-1. Layers and ranks must be its own.
    """

    layers: tuple[int, ...] | None = None
    positions: str | None = None
    collective_rank: int | None = None
    personal_rank: int | None = None
    init: str | None = None
    collective_epochs: int | None = None
    personal_epochs: int | None = None
    collective_learning_rate: float | None = None
    personal_learning_rate: float | None = None
    retrieved: int | None = None
    strength: float | None = None
    held_out: float | None = None
    strength_prior: float | None = None
    collective: str | None = None

    def __post_init__(self) -> None:
        PerFitConfig().with_options(**self._given())  # what no config can have is refused before anything is loaded

    def config(self, setting: Setting) -> PerFitConfig:
        """The setting's config with these values and the setting's seed.

        Raises:
            ConfigError: A value is impossible.
        """
        return setting.seeded().with_options(**self._given())

    def _given(self) -> dict[str, Any]:
        """What was given, by the config's names."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "collective"}
        return {_IN_CONFIG.get(name, name): value for name, value in values.items() if value is not None}


_IN_CONFIG = {
    "collective_epochs": "stage1.epochs",
    "personal_epochs": "stage2.epochs",
    "collective_learning_rate": "stage1.learning_rate",
    "personal_learning_rate": "stage2.learning_rate",
}
