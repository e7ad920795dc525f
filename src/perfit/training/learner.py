"""Who trains: before, during and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perfit.edits.shift import Shift
from perfit.training.rows import TokenRow


@dataclass(frozen=True)
class Learner:
    """Someone who trains: a user, or the collective of stage 1.

    Attributes:
        name: The user's id; data, used for the order of rows and in events.
        rows: Training rows.
        start: Shifts to start from, one per trained bank: [layers, r, d].
    """

    name: str
    rows: Sequence[TokenRow]
    start: Sequence[Shift]


@dataclass
class Progress:
    """A learner in training: its slot, its next step, and its losses per epoch as (sum, tokens).

    In a trial, ``earlier`` is the number of rows it trains on, else 0; ``strength`` is what a trial found.
    """

    learner: Learner
    slot: int
    step: int = 0
    losses: list[list[float]] = field(default_factory=list)
    earlier: int = 0
    strength: float | None = None
    rows: list[TokenRow] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """A learner's end: its shifts (one per trained bank), or why there are none.

    Attributes:
        losses: Mean training loss per answer token, per epoch.
        strength: How far its shift may act, by the evidence of its history; None where nobody looked, or where it was
            read back from a run, whose store has it.
    """

    name: str
    shifts: tuple[Shift, ...]
    losses: tuple[float, ...]
    steps: int
    problem: str | None = None
    strength: float | None = None
