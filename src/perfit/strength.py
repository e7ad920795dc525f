"""How far a user's answers go from the shared shift towards the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from perfit.edits.shift import Shift, ShiftBank, blended
from perfit.errors import DamagedError
from perfit.training.stages import bank_of


def strength_of(meta: Mapping[str, Any]) -> float:
    """The strength kept with a user's shift, from 0 to 1; whole where none was kept.

    Raises:
        DamagedError: It is no number from 0 to 1.
    """
    value = meta.get("strength", 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DamagedError("a user's strength is not a number from 0 to 1; personalise the user again")
    return float(value)


def bank_with_strengths(shared: Shift, own: Sequence[tuple[Shift, float]], device: torch.device | str) -> ShiftBank:
    """The shared shift in slot 1, and users' own from slot 2 on, each with its strength.

    Of the rank of the shifts where all act whole, of twice that otherwise.
    """
    if all(strength == 1 for _, strength in own):
        return bank_of([shared, *(shift for shift, _ in own)], device)
    return bank_of([blended(shared, shift, strength) for shift, strength in [(shared, 1.0), *own]], device)
