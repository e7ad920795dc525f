"""How far a user's own shift may act, by what a trial on the earlier history says of the later one.

Before a user trains on the whole history, one epoch on its earlier part is a trial, and the later part is asked with
several strengths. What they gain there over the shared shift, in nats, is held against a prior: above 0 it speaks for
the usual strength, and evidence has to outweigh it to take a user lower, down to 0, where the user is left alone; below
0 it speaks for leaving everybody alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from perfit.edits.shift import Shift, ShiftBank, blended

_STEPS = 3


@dataclass(frozen=True)
class Evidence:
    """The rule.

    Attributes:
        share: Of each history, how much of its newest part is held out of the trial.
        strength: The usual strength, which nobody exceeds.
        prior: How many nats of evidence it takes to outweigh the usual strength altogether; below 0, to earn any.
    """

    share: float
    strength: float
    prior: float

    def earlier(self, rows: int) -> int:
        """How many of so many rows, in time order, the trial trains on; 0 where there are too few for one."""
        return rows - min(max(round(rows * self.share), 1), rows - 1) if rows > 1 else 0

    def strengths(self) -> list[float]:
        """What is tried: from 0, the shared shift, to the usual strength."""
        return [self.strength * step / _STEPS for step in range(_STEPS + 1)]

    def without_trial(self) -> float:
        """The strength of who has too few rows for a trial: the prior alone decides."""
        return self.choose([0.0] * (_STEPS + 1))

    def choose(self, losses: Sequence[float]) -> float:
        """The strength that evidence and prior favour.

        Args:
            losses: Negative log-likelihood of all held-out answers, in nats, for each of ``strengths``.

        Returns:
            One of them; where a loss is not finite, 0.
        """
        if not all(map(math.isfinite, losses)):
            return 0.0
        # The prior falls like a parabola from the usual strength to 0: small steps down are cheap, the last ones are not.
        worth = [losses[0] - loss + self.prior * (1 - (1 - step / _STEPS) ** 2) for step, loss in enumerate(losses)]
        return self.strengths()[max(range(len(worth)), key=lambda step: (worth[step], step))]


def strengths_bank(shared: Shift, own: Shift, evidence: Evidence) -> ShiftBank:
    """A bank whose slots 1, 2, … hold a user's own shift with each of the strengths, [layers, 2 r, d]."""
    shared = Shift(*(tensor.to(own.R.device) for tensor in shared.tensors().values()))  # kept on the CPU, as files are
    shifts = [blended(shared, own, strength) for strength in evidence.strengths()]
    layers, rank, width = shifts[0].R.shape
    bank = ShiftBank.empty(len(shifts), layers, rank, width, device=own.R.device)
    for slot, shift in enumerate(shifts, start=1):
        bank.put(slot, shift)
    return bank
