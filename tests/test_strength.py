"""Users' own shifts with a strength, in banks."""

from __future__ import annotations

import pytest
import torch

from perfit.edits.shift import Shift, blended, new_shift
from perfit.errors import DamagedError
from perfit.strength import bank_with_strengths, strength_of


def shifts(count: int) -> list[Shift]:
    generator = torch.Generator().manual_seed(2)
    return [new_shift((2, 3, 16), init="loreft", generator=generator) for _ in range(count)]


def delta(shift: Shift, x: torch.Tensor) -> torch.Tensor:
    return shift.delta(x)


def test_whole_shifts_stand_in_the_bank_as_they_are() -> None:
    shared, one, two = shifts(3)
    bank = bank_with_strengths(shared, [(one, 1.0), (two, 1.0)], "cpu")
    assert bank.rank == 3
    for slot, shift in enumerate((shared, one, two), start=1):
        assert all(torch.equal(t, shift.tensors()[name]) for name, t in bank.get(slot).tensors().items())


def test_each_user_has_a_strength_of_their_own_and_the_shared_one_stays() -> None:
    shared, one, two, three = shifts(4)
    bank = bank_with_strengths(shared, [(one, 0.25), (two, 1.0), (three, 0.0)], "cpu")
    x = torch.randn(2, 4, 16)
    expected = [shared, blended(shared, one, 0.25), two, shared]
    for slot, shift in enumerate(expected, start=1):
        torch.testing.assert_close(delta(bank.get(slot), x), delta(shift, x), rtol=1e-4, atol=1e-5)


def test_an_old_shift_acts_whole_and_a_strange_strength_is_refused() -> None:
    assert strength_of({}) == 1.0
    assert strength_of({"strength": 0.5}) == 0.5
    for value in (-0.1, 1.5, "1", None, True, float("nan")):
        with pytest.raises(DamagedError, match="strength"):
            strength_of({"strength": value})
