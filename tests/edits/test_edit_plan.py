from __future__ import annotations

import pytest
import torch
from families import WIDTH, dense, learnable, picked, random_bank, random_shift, two_shifts
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.edits.edit_plan import EditPlan, SlotGroups, TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift

pairs = st.sampled_from([(0, 0), (1, 0), (0, 2), (1, 1), (1, 3), (2, 1), (2, 2)])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 999))
def test_grouped_rows_equal_a_loop_over_rows(slots: list[int], p: int, seed: int) -> None:
    bank = random_bank(5, 1, 3, seed)
    x = torch.randn(len(slots), p, WIDTH, generator=torch.Generator().manual_seed(seed))
    groups = SlotGroups.of(slots)
    got = groups.delta(bank.at(0, groups.slots), x)
    for row, slot in enumerate(slots):
        mine = bank.get(slot)
        expected = torch.stack([dense(v, [(mine.R[0], mine.W[0], mine.b[0])]) - v for v in x[row]])
        torch.testing.assert_close(got[row], expected, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_short_groups_are_filled_with_rows_of_their_own_slot(slots: list[int]) -> None:
    groups = SlotGroups.of(slots)
    for slot, members in zip(groups.slots.tolist(), groups.members.tolist(), strict=True):
        assert {slots[row] for row in members} == {slot}
    for row in range(len(slots)):
        assert groups.members[groups.group[row], groups.place[row]] == row
    assert sorted(set(groups.members.flatten().tolist())) == list(range(len(slots)))


@pytest.mark.parametrize("slots", [[1, 2, 2, 2, 3], [2, 2, 1, 3, 3], [3, 1, 2, 1]])
@pytest.mark.parametrize("bad", range(4))
def test_a_row_of_nan_reaches_no_other_slot(slots: list[int], bad: int) -> None:
    bank = random_bank(3, 1, 3, 0)
    for t in bank.shift.tensors().values():
        t.requires_grad_(True)
    x = torch.randn(len(slots), 2, WIDTH)
    x[bad] = float("nan")
    groups = SlotGroups.of(slots)
    out = groups.delta(bank.at(0, groups.slots), x)
    assert torch.isfinite(out[[row for row in range(len(slots)) if row != bad]]).all()
    out.sum().backward()
    for t in bank.shift.tensors().values():
        assert t.grad is not None
        assert torch.isfinite(t.grad[[s for s in range(4) if s != slots[bad]]]).all()


@pytest.mark.parametrize("rule", ["f2+l3", "l3", "f2", "all", "-1,-4"])
@pytest.mark.parametrize("side", ["left", "right"])
@given(st.lists(st.tuples(st.integers(1, 9), pairs), min_size=1, max_size=6))
@settings(max_examples=15)
def test_a_plan_names_the_prompt_tokens_of_padded_rows(
    rule: str, side: str, rows: list[tuple[int, tuple[int, int]]]
) -> None:
    lengths = [n for n, _ in rows]
    starts = [max(lengths) - n for n in lengths] if side == "left" else None
    plan = EditPlan.for_prompts(Positions.parse(rule), lengths, [pair for _, pair in rows], starts=starts)
    every = []
    for row, (n, pair) in enumerate(rows):
        begin = starts[row] if starts else 0
        expected = [] if pair == (0, 0) else [begin + i for i in picked(rule, n)]
        assert [p for p in plan.positions[row].tolist() if p != -1] == expected
        every += expected
    assert (plan.first, plan.last) == (min(every, default=0), max(every, default=-1))


def test_a_repeated_plan_repeats_each_row_in_place() -> None:
    plan = EditPlan.for_prompts(Positions.parse("l2"), [3, 1, 2], [(1, 1), (0, 0), (1, 2)], starts=[0, 2, 1])
    twice = plan.repeated(2)
    assert twice.slots == ((1, 1), (1, 1), (0, 0), (0, 0), (1, 2), (1, 2))
    assert torch.equal(twice.positions, plan.positions.repeat_interleave(2, 0))
    assert plan.repeated(1) is plan


def naive(hidden: torch.Tensor, shift: TwoStageShift, layer: int, plan: EditPlan, offset: int = 0) -> torch.Tensor:
    out = hidden.clone()
    for row, pair in enumerate(plan.slots):
        stages = two_shifts(shift, layer, pair)
        for p in plan.positions[row].tolist():
            if p >= 0 and offset <= p < offset + hidden.shape[1] and pair != (0, 0):
                out[row, p - offset] = dense(hidden[row, p - offset], stages)
    return out


@given(st.lists(st.tuples(st.integers(1, 9), pairs), min_size=1, max_size=6), st.integers(0, 999))
@settings(max_examples=40)
def test_an_edit_touches_the_planned_tokens_and_no_other_bit(
    rows: list[tuple[int, tuple[int, int]]], seed: int
) -> None:
    shift = random_shift((1, 3), seed)
    lengths = [n for n, _ in rows]
    width = max(lengths)
    plan = EditPlan.for_prompts(
        Positions.parse("f1+l2"), lengths, [p for _, p in rows], starts=[width - n for n in lengths]
    )
    hidden = torch.randn(len(rows), width, WIDTH, generator=torch.Generator().manual_seed(seed))
    before = hidden.clone()
    for layer in shift.layers:
        got = shift.edit(hidden, layer, plan)
        torch.testing.assert_close(got, naive(hidden, shift, layer, plan), rtol=1e-4, atol=1e-4)
        touched = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, where in enumerate(plan.positions.tolist()):
            touched[row, [p for p in where if p >= 0]] = True
        assert torch.equal(got[~touched], before[~touched])
        assert torch.equal(hidden, before)


@given(st.integers(1, 12))
def test_edits_by_chunks_equal_the_edit_of_the_whole(size: int) -> None:
    shift = random_shift((2,))
    lengths, width = [12, 5, 3, 8], 12
    plan = EditPlan.for_prompts(
        Positions.parse("f2+l3"), lengths, [(1, 1), (0, 0), (2, 3), (1, 2)], starts=[width - n for n in lengths]
    )
    hidden = torch.randn(4, width, WIDTH)
    whole = shift.edit(hidden, 2, plan)
    parts = [shift.edit(hidden[:, i : i + size], 2, plan, offset=i) for i in range(0, width, size)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_after_the_last_edited_position_the_states_come_back_untouched() -> None:
    shift = random_shift((0,))
    plan = EditPlan.for_prompts(Positions.parse("l2"), [4, 3], [(1, 1), (1, 2)])
    step = torch.randn(2, 1, WIDTH)
    assert shift.edit(step, 0, plan, offset=4) is step
    assert shift.edit(step, 0, plan, offset=3) is not step
    front = torch.randn(2, 1, WIDTH)
    assert shift.edit(front, 0, plan, offset=0) is front


def test_a_batch_of_the_base_alone_is_handed_through() -> None:
    shift = random_shift((0,))
    plan = EditPlan.for_prompts(Positions.parse("all"), [4, 3], [(0, 0), (0, 0)])
    hidden = torch.randn(2, 4, WIDTH)
    assert shift.edit(hidden, 0, plan) is hidden


def test_the_second_stage_sees_what_the_first_put_out() -> None:
    shift = random_shift((0,))
    plan = EditPlan.for_prompts(Positions.parse("all"), [1], [(1, 2)])
    x = torch.randn(1, 1, WIDTH)
    first, second = (
        Shift(*(t[0] for t in bank.get(slot).tensors().values()))
        for bank, slot in ((shift.collective, 1), (shift.personal, 2))
    )
    torch.testing.assert_close(shift.edit(x, 0, plan), second(first(x)), rtol=1e-5, atol=1e-5)
    swapped = first(second(x))
    assert (shift.edit(x, 0, plan) - swapped).abs().max() > 1e-2


def test_bf16_states_stay_bf16_and_unplanned_rows_keep_their_bits() -> None:
    shift = random_shift((0,))
    plan = EditPlan.for_prompts(Positions.parse("l2"), [4, 3], [(1, 1), (0, 0)])
    hidden = torch.randn(2, 4, WIDTH).bfloat16()
    got = shift.edit(hidden, 0, plan)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got[1], hidden[1])
    assert torch.equal(got[0, :2], hidden[0, :2])
    torch.testing.assert_close(got, naive(hidden, shift, 0, plan), rtol=2e-2, atol=2e-2)


def test_nan_in_one_users_states_reaches_no_other_users_gradient() -> None:
    shift = learnable(random_shift((0,)))
    plan = EditPlan.for_prompts(Positions.parse("l2"), [4, 3, 4], [(1, 1), (2, 2), (2, 3)])
    hidden = torch.randn(3, 4, WIDTH)
    hidden[0] = float("nan")
    shift.edit(hidden, 0, plan).sum().backward()
    for t in shift.personal.shift.tensors().values():
        assert t.grad is not None
        assert torch.isfinite(t.grad[2:]).all()
    for t in shift.collective.shift.tensors().values():
        assert t.grad is not None
        assert torch.isfinite(t.grad[2]).all()
