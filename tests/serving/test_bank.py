"""A slot is its key's as long as it is pinned, and nobody's when it is free."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from served_world import random_shift

from perfit.edits.shift import Shift
from perfit.serving.bank import ResidentBank

WIDTH = 32


def bank(slots: int = 3, rank: int = 3) -> ResidentBank:
    return ResidentBank(slots, 2, rank, WIDTH)


def held(one: ResidentBank, slot: int) -> Shift:
    return one.bank.get(slot)


def test_slot_0_and_free_slots_are_the_identity() -> None:
    one, x = bank(), torch.randn(2, 5, WIDTH)
    for slot in range(4):
        assert torch.equal(held(one, slot)(x), x)
    one.pin("a", random_shift(1))
    one.unpin("a")
    assert one.wipe(lambda key: key == "a") == 1
    assert all(not tensor.any() for tensor in one.bank.shift.tensors().values())
    assert "a" not in one


def test_the_least_recently_used_leaves_and_never_one_in_use() -> None:
    one = bank(2)
    one.pin("a", random_shift(1))
    one.pin("b", random_shift(2))
    one.unpin("a")
    one.unpin("b")
    one.pin("a", None)
    slot = one.pin("c", random_shift(3))
    assert "b" not in one
    assert (one.loads, one.evictions, one.pinned, len(one)) == (3, 1, 2, 2)
    assert torch.equal(held(one, slot).W, random_shift(3).W)
    with pytest.raises(LookupError, match="in use"):
        one.pin("d", random_shift(4))
    with pytest.raises(LookupError, match="in use"):
        one.wipe(lambda key: True)
    one.unpin("a")
    one.pin("d", random_shift(4))
    assert "a" not in one


def test_what_is_not_resident_must_be_given() -> None:
    with pytest.raises(LookupError, match="not resident"):
        bank().pin("a", None)


def test_a_smaller_rank_is_the_same_map() -> None:
    one, small, x = bank(1, rank=7), random_shift(5), torch.randn(2, 4, WIDTH)
    one.pin("big", random_shift(6, rank=7))
    one.unpin("big")
    slot = one.pin("small", small)  # nothing of the seven rows of before is left below its three
    torch.testing.assert_close(held(one, slot)(x), small(x))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_whatever_comes_and_goes_a_pinned_key_has_its_own_numbers(orders: list[tuple[int, bool]]) -> None:
    one, shifts, pins = bank(3), {n: random_shift(n) for n in range(6)}, dict.fromkeys(range(6), 0)
    for key, comes in orders:
        if comes and (key in one or sum(count > 0 for count in pins.values()) < 3):
            one.pin(key, shifts[key])
            pins[key] += 1
        elif not comes and pins[key]:
            one.unpin(key)
            pins[key] -= 1
        for name, resident in one._resident.items():
            assert isinstance(name, int)
            assert torch.equal(held(one, resident.slot).W, shifts[name].W)
            assert resident.users == pins[name]
        used = {resident.slot for resident in one._resident.values()}
        assert all(not one.bank.shift.W[slot].any() for slot in range(4) if slot not in used)
