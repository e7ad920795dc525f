from __future__ import annotations

import pytest
import torch
from families import WIDTH, random_bank
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import back_to_orthonormal, off_orthonormal
from torch import Tensor

from perfit.edits.shift import ShiftBank
from perfit.training.optimiser import SlotAdamW


class Twin:
    """One slot by torch's own AdamW and clip_grad_norm_, R without decay and made orthonormal by thin QR."""

    def __init__(self, banks: list[ShiftBank], slot: int, weight_decay: float, clip: float):
        self.tensors = {
            (i, name): t[slot].detach().clone().requires_grad_(True)
            for i, bank in enumerate(banks)
            for name, t in bank.shift.tensors().items()
        }
        R = [t for (_, name), t in self.tensors.items() if name == "R"]
        rest = [t for (_, name), t in self.tensors.items() if name != "R"]
        self.clip = clip
        self.optimiser = torch.optim.AdamW(
            [{"params": R, "weight_decay": 0.0}, {"params": rest, "weight_decay": weight_decay}], betas=(0.9, 0.999)
        )

    def step(self, gradients: dict[tuple[int, str], Tensor], rate: float) -> None:
        for key, t in self.tensors.items():
            t.grad = gradients[key].clone()
        torch.nn.utils.clip_grad_norm_(list(self.tensors.values()), self.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        old = {key: t.detach().clone() for key, t in self.tensors.items()}
        self.optimiser.step()
        with torch.no_grad():
            for key, t in self.tensors.items():
                if key[1] == "R":
                    t.copy_(back_to_orthonormal(old[key], t))


def gradients_for(banks: list[ShiftBank], g: torch.Generator, sizes: list[float]) -> None:
    """Random gradients, slot s of every bank scaled by ``sizes[s]``."""
    for bank in banks:
        for t in bank.shift.tensors().values():
            scale = torch.tensor(sizes).view(-1, *([1] * (t.dim() - 1)))
            t.grad = torch.randn(t.shape, generator=g) * scale


def own_gradients(banks: list[ShiftBank], slot: int) -> dict[tuple[int, str], Tensor]:
    return {
        (i, n): t.grad[slot] for i, b in enumerate(banks) for n, t in b.shift.tensors().items() if t.grad is not None
    }


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("clip", [0.3, 1e9])
def test_a_slot_equals_torchs_adamw_and_clip(count: int, clip: float) -> None:
    banks = [random_bank(3, 2, 3 + i, seed=i) for i in range(count)]
    optimiser = SlotAdamW(banks, weight_decay=0.1, clip=clip)
    twins = {slot: Twin(banks, slot, 0.1, clip) for slot in (1, 2, 3)}
    g = torch.Generator().manual_seed(0)
    steps = {1: 0, 2: 0, 3: 0}
    for turn in range(12):
        # Slots of wildly different gradients, stepping at different times with different rates.
        gradients_for(banks, g, [0.0, 1e-3, 1.0, 1e4 if turn % 2 else 0.1])
        moving = [slot for slot in (3, 1, 2) if (turn + slot) % 3]
        rates = [1e-2 / slot * (1 + turn % 2) for slot in moving]
        for slot, rate in zip(moving, rates, strict=True):
            steps[slot] += 1
            twins[slot].step(own_gradients(banks, slot), rate)
        optimiser.step(moving, [steps[slot] for slot in moving], rates)
    for slot, twin in twins.items():
        for (i, name), t in twin.tensors.items():
            torch.testing.assert_close(banks[i].shift.tensors()[name][slot], t, rtol=1e-4, atol=1e-5)


def test_slots_that_do_not_step_keep_every_bit() -> None:
    bank = random_bank(4, 2, 3, seed=0)
    optimiser = SlotAdamW([bank], weight_decay=0.1, clip=0.3)
    before = {name: t.detach().clone() for name, t in bank.shift.tensors().items()}
    gradients_for([bank], torch.Generator().manual_seed(0), [1.0] * 5)
    optimiser.step([3, 1], [1, 1], [0.1, 0.1])
    for name, t in bank.shift.tensors().items():
        assert torch.equal(t[[0, 2, 4]], before[name][[0, 2, 4]])
        assert not torch.equal(t[1], before[name][1])
        assert not torch.equal(t[3], before[name][3])
    assert all(not m[[0, 2, 4]].any() and m[[1, 3]].any() for m in (*optimiser.first, *optimiser.second))


def test_a_reset_slot_starts_like_a_new_one() -> None:
    bank = random_bank(2, 1, 3, seed=0)
    optimiser = SlotAdamW([bank], weight_decay=0.0, clip=1.0)
    gradients_for([bank], torch.Generator().manual_seed(0), [1.0] * 3)
    optimiser.step([1, 2], [1, 1], [0.1, 0.1])
    optimiser.reset(1)
    assert all(not m[1].any() and m[2].any() for m in (*optimiser.first, *optimiser.second))


def test_norms_are_per_slot_over_all_banks() -> None:
    banks = [random_bank(2, 1, 3, seed=0), random_bank(2, 1, 2, seed=1)]
    optimiser = SlotAdamW(banks, weight_decay=0.0, clip=1.0)
    gradients_for(banks, torch.Generator().manual_seed(0), [0.0, 1.0, 10.0])
    for slot, norm in zip((2, 1), optimiser.gradient_norms([2, 1]), strict=True):
        flat = torch.cat([t.flatten() for t in own_gradients(banks, slot).values()])
        torch.testing.assert_close(norm, flat.norm())
    optimiser.zero_grad()
    assert optimiser.gradient_norms([1, 2]).tolist() == [0.0, 0.0]


@given(st.integers(1, 8), st.floats(1e-5, 1.0), st.integers(0, 999))
@settings(max_examples=15)
def test_R_is_orthonormal_after_every_step(rank: int, rate: float, seed: int) -> None:
    bank = random_bank(2, 2, rank, seed=seed)
    optimiser = SlotAdamW([bank], weight_decay=1e-2, clip=0.3)
    g = torch.Generator().manual_seed(seed)
    for step in range(1, 6):
        gradients_for([bank], g, [0.0, 1.0, 100.0])
        optimiser.step([1, 2], [step, step], [rate, rate])
        assert off_orthonormal(bank.shift.R.detach()) < 1e-5


def test_even_a_very_large_decay_does_not_act_on_R() -> None:
    bank = random_bank(1, 1, 3, seed=0)
    optimiser = SlotAdamW([bank], weight_decay=9.0, clip=1.0)
    before = {name: t.detach().clone() for name, t in bank.shift.tensors().items()}
    gradients_for([bank], torch.Generator().manual_seed(0), [0.0, 0.0])
    optimiser.step([1], [1], [0.1])
    torch.testing.assert_close(bank.shift.R[1], before["R"][1], rtol=0, atol=1e-6)
    torch.testing.assert_close(bank.shift.W[1], before["W"][1] * 0.1)
    torch.testing.assert_close(bank.shift.b[1], before["b"][1] * 0.1)


def test_decay_does_not_bend_the_direction_R_moves_in() -> None:
    # A retraction hides plain shrinking of R; the direction of its step does not.
    ends = []
    for decay in (0.0, 9.0):
        bank = random_bank(1, 1, 3, seed=0)
        optimiser = SlotAdamW([bank], weight_decay=decay, clip=1.0)
        gradients_for([bank], torch.Generator().manual_seed(0), [0.0, 1.0])
        optimiser.step([1], [1], [0.1])
        ends.append(bank.shift.R[1].detach().clone())
    assert torch.equal(*ends)
    assert ends[0].shape == (1, 3, WIDTH)
