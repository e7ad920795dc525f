"""Whose shifts act, and how far: every row its owner's own, with its owner's own strength."""

from __future__ import annotations

from dataclasses import replace

import torch
from families import tiny
from small_base import CONFIG

from perfit.edits.shift import Shift, blended, from_stored, new_shift, to_stored
from perfit.owners import Owners
from perfit.store.collective_file import Collective, encode_collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts

STRENGTHS = {"anna": 0.25, "ben": 1.0, "cleo": 0.0, "dora": 0.6}


def some(rank: int, seed: int) -> Shift:
    return new_shift((2, rank, 32), init="loreft", generator=torch.Generator().manual_seed(seed))


def owners(strengths: dict[str, float]) -> Owners:
    personal = PersonalShifts()
    personal.put_stored(
        (user, StoredShift(to_stored(some(3, seed)), {"strength": strength}))
        for seed, (user, strength) in enumerate(strengths.items())
    )
    return Owners(Collective.of_file(encode_collective((some(4, 50), some(3, 51)))), personal)


def test_each_row_has_its_own_owners_shift_and_strength() -> None:
    found = owners(STRENGTHS)
    assert found.collective is not None
    _, second = found.collective
    asked = ["dora", "base", "anna", "cleo", "collective", "ben", "dora"]
    shift, slots = found.rows_of(asked, tiny("llama"), CONFIG.layers)
    x = torch.randn(2, 5, 32)
    for user, (first, own) in zip(asked, slots, strict=True):
        assert first == (0 if user == "base" else 1)
        got = shift.personal.get(own).delta(x)
        if user == "base":
            assert not got.any()
            continue
        wanted = second
        if user in STRENGTHS:
            kept = from_stored(found.personal.stored(user).tensors)
            wanted = blended(second, kept, STRENGTHS[user])
        torch.testing.assert_close(got, wanted.delta(x), rtol=1e-4, atol=1e-5)


def test_no_two_of_these_users_are_answered_alike() -> None:
    found = owners(STRENGTHS | {"ella": 0.9})
    shift, slots = found.rows_of([*STRENGTHS, "ella"], tiny("llama"), CONFIG.layers)
    x = torch.randn(2, 5, 32)
    deltas = [shift.personal.get(own).delta(x) for _, own in slots]
    assert all(not torch.allclose(a, b, atol=1e-2) for i, a in enumerate(deltas) for b in deltas[:i])


def test_whole_shifts_keep_their_rank() -> None:
    whole = owners(dict.fromkeys(STRENGTHS, 1.0))
    assert whole.rows_of(list(STRENGTHS), tiny("llama"), CONFIG.layers)[0].personal.rank == 3
    assert replace(whole, shared=None).collective is None
