"""Users that train together end as each would alone, whatever the company, the order and the batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from families import WIDTH, random_bank, tiny
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from learners import (
    HEAD,
    LAYERS,
    RULE,
    assert_same,
    learner,
    new_loop,
    off_orthonormal,
    runner,
    some_rows,
    start_shift,
    train,
    train_naively,
)
from torch import Tensor

from perfit.config import StageConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank, new_shift
from perfit.events import Finished, Skipped, Stepped
from perfit.training.frozen import FrozenRunner
from perfit.training.lead import Lead
from perfit.training.learner import Learner, Trained
from perfit.training.loop import Loop
from perfit.training.memory import MemoryBudget
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, Slots, TokenRow
from perfit.training.schedule import epoch_batches

CONFIG = StageConfig(epochs=3, batch_size=4, learning_rate=1e-2)
SIZES = {"a": 1, "b": 3, "c": 5, "d": 9, "e": 17, "f": 40}


@cache
def alone(name: str, rule: str = RULE) -> Trained:
    """The measure: this user by itself, in one slot, by the plain runner."""
    loop = new_loop(CONFIG, 1, runner("plain", rule=rule), step_tokens=10_000)
    return train(loop, [learner(name, SIZES[name])])[name]


@cache
def frozen() -> Runner:
    return runner("frozen")


@pytest.mark.parametrize("name", ["b", "d"])
@pytest.mark.parametrize("kind", ["plain", "frozen"])
def test_a_user_alone_equals_a_hand_written_trainer(name: str, kind: str) -> None:
    who = learner(name, SIZES[name])
    got = train(new_loop(CONFIG, 1, runner(kind)), [who])[name]
    expected = train_naively(who, CONFIG)
    assert got.steps == 3 * math.ceil(SIZES[name] / 4)
    for key, t in got.shifts[0].tensors().items():
        torch.testing.assert_close(t, expected.tensors()[key], rtol=5e-4, atol=5e-4)
    moved = max(float((t - start_shift().tensors()[key]).abs().max()) for key, t in got.shifts[0].tensors().items())
    assert moved > 1e-2


@given(
    st.permutations(sorted(SIZES)),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 60, 300, 10_000]),
)
@settings(max_examples=12, phases=[phase for phase in Phase if phase is not Phase.shrink])  # minutes when it fails
def test_users_together_equal_each_alone(order: list[str], count: int, slots: int, step_tokens: int) -> None:
    chosen = order[:count]
    together = train(
        new_loop(CONFIG, slots, frozen(), step_tokens=step_tokens), [learner(name, SIZES[name]) for name in chosen]
    )
    assert sorted(together) == sorted(chosen)
    for name in chosen:
        assert_same(together[name], alone(name))
        assert off_orthonormal(together[name].shifts[0].R) < 1e-5


WIDE = StageConfig(epochs=1, batch_size=32, learning_rate=1e-2)
HISTORIES = (1, 7, 150, 1000)


@cache
def wide_alone(count: int, rule: str) -> Trained:
    """A user of so many items alone, by the plain runner."""
    who = learner(f"u{count}", count)
    return train(new_loop(WIDE, 1, runner("plain", rule=rule), step_tokens=10_000), [who])[who.name]


@given(
    st.permutations(HISTORIES),
    st.integers(2, len(HISTORIES)),
    st.integers(1, 4),
    st.sampled_from([200, 3000]),
    st.sampled_from([RULE, "f2+l3"]),
    st.sampled_from([math.inf, 100_000]),
)
@settings(max_examples=4, phases=[phase for phase in Phase if phase is not Phase.shrink])
def test_histories_of_one_to_a_thousand_items_train_together_as_alone(
    order: list[int], count: int, slots: int, step_tokens: int, rule: str, memory: float
) -> None:
    chosen = order[:count]
    plan = MemoryBudget(0, 0, 0, 0, math.inf, memory)
    loop = new_loop(WIDE, slots, runner("frozen", rule=rule), step_tokens=step_tokens, memory=plan)
    together = train(loop, [learner(f"u{n}", n) for n in chosen])
    for n in chosen:
        assert_same(together[f"u{n}"], wide_alone(n, rule))


def test_the_plain_runner_trains_users_together_alike() -> None:
    together = train(new_loop(CONFIG, 3, runner("plain")), [learner(name, SIZES[name]) for name in "dbca"])
    for name in "abcd":
        assert_same(together[name], alone(name))


@pytest.mark.parametrize("rule", ["f2+l3", "all"])
def test_rules_with_edits_at_the_front_train_alike(rule: str) -> None:
    learners = [learner(name, SIZES[name]) for name in "cab"]
    together = train(new_loop(CONFIG, 2, runner("frozen", rule=rule)), learners)
    for who in learners:
        assert_same(together[who.name], train(new_loop(CONFIG, 1, runner("plain", rule=rule)), [who])[who.name])


def test_losses_fall_and_are_means_per_answer_token() -> None:
    got = alone("d")
    assert len(got.losses) == CONFIG.epochs
    assert got.losses[-1] < got.losses[0]
    # One epoch in one batch is the loss of the start.
    who = learner("d", 9)
    one = StageConfig(epochs=1, batch_size=9)
    first = train(new_loop(one, 1), [who])["d"].losses[0]
    how = runner("plain")
    loop = new_loop(one, 1, how)
    loop.trained[0].put(1, who.start[0])
    with torch.no_grad():
        nll = how.answer_loss(how.prepare(who.rows), [(1, 1)] * 9, loop.shift)
    assert first == pytest.approx(float(nll.sum()) / sum(len(row.answer_ids) for row in who.rows), rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_R_stays_orthonormal_after_every_step(seed: int) -> None:
    loop = new_loop(replace(CONFIG, learning_rate=0.1, weight_decay=5.0), 3, frozen())
    seen = []
    for _ in loop.run(
        [learner(f"{n}{seed}", n) for n in (3, 9, 5, 2)],
        lambda: seen.append(off_orthonormal(loop.trained[0].shift.R.detach())),
    ):
        pass
    assert len(seen) > 6
    assert max(seen) < 1e-5


def test_the_collective_shift_and_slot_0_keep_every_bit() -> None:
    loop = new_loop(CONFIG, 2, frozen())
    constant = {name: t.clone() for name, t in loop.shift.collective.shift.tensors().items()}
    identity = {name: t[0].detach().clone() for name, t in loop.shift.personal.shift.tensors().items()}
    train(loop, [learner("c", 5), learner("b", 3)])
    assert all(torch.equal(t, constant[name]) for name, t in loop.shift.collective.shift.tensors().items())
    assert all(torch.equal(t[0], identity[name]) for name, t in loop.shift.personal.shift.tensors().items())


def test_the_start_handed_in_is_not_written_to() -> None:
    start = start_shift()
    train(new_loop(CONFIG, 2, frozen()), [learner("c", 5, start), learner("b", 3, start)])
    assert all(torch.equal(t, start_shift().tensors()[name]) for name, t in start.tensors().items())


class Recorder:
    """Notes whose rows run together, and may spoil the loss of some rows."""

    def __init__(self, inner: Runner, factor: dict[TokenRow, float] | None = None):
        self.inner, self.factor = inner, factor or {}
        self.calls: list[tuple[int, int]] = []
        self.prepared: list[int] = []

    def prepare(self, rows: Sequence[TokenRow], done: Any = None) -> list[Any]:
        self.prepared.append(len(rows))
        return [(row, item) for row, item in zip(rows, self.inner.prepare(rows, done), strict=True)]

    def width(self, item: Any) -> int:
        return self.inner.width(item[1])

    def lead(self, item: Any) -> int:
        return self.inner.lead(item[1])

    def lead_bytes(self) -> int:
        return self.inner.lead_bytes()

    def run_lead(self, owners: Sequence[Slots], shift: TwoStageShift) -> Lead:
        return self.inner.run_lead(owners, shift)

    def step_bytes(self, item: Any) -> int:
        return self.inner.step_bytes(item[1])

    def size(self, row: TokenRow) -> int:
        return self.inner.size(row)

    def answer_loss(
        self, items: Sequence[Any], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None = None
    ) -> Tensor:
        self.calls.append((len(items), max(map(self.width, items))))
        loss = self.inner.answer_loss([item for _, item in items], slots, shift, lead)
        return loss * torch.tensor([self.factor.get(row, 1.0) for row, _ in items])


def test_no_forward_lays_out_more_than_its_share_of_the_memory() -> None:
    inner = runner()
    how = Recorder(inner)
    rows = learner("d", SIZES["d"]).rows
    most = max(inner.step_bytes(item) for item in inner.prepare(rows))
    train(
        new_loop(CONFIG, 3, how, memory=MemoryBudget(0, 0, 0, 0, most * 2, math.inf)),
        [learner(name, SIZES[name]) for name in "bcd"],
    )
    assert 1 < max(rows for rows, _ in how.calls) <= CONFIG.batch_size
    assert max(rows for rows, _ in how.calls) <= 4  # two of the largest, and some rows are shorter


@pytest.mark.parametrize("step_tokens", [1, 40, 100, 10_000])
def test_no_forward_is_larger_than_step_tokens_but_for_a_single_row(step_tokens: int) -> None:
    how = Recorder(runner("plain"))
    train(new_loop(CONFIG, 3, how, step_tokens=step_tokens), [learner(name, SIZES[name]) for name in "bcd"])
    assert all(rows == 1 or rows * width <= step_tokens for rows, width in how.calls)
    if step_tokens == 10_000:
        assert max(rows for rows, _ in how.calls) > CONFIG.batch_size, "users share a forward"


def events_of(loop: Loop, learners: Sequence[Learner]) -> tuple[dict[str, Trained], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    loop.listener = events.append
    return train(loop, learners), events


@pytest.mark.parametrize(("budget", "most"), [(1.0, 1), (math.inf, 3)])
def test_users_wait_until_there_is_memory(budget: float, most: int) -> None:
    learners = [learner(name, SIZES[name]) for name in "bcd"]
    done, events = events_of(new_loop(CONFIG, 3, frozen(), memory=MemoryBudget(0, 0, 0, 0, math.inf, budget)), learners)
    assert max(e.learners for e in events if isinstance(e, Stepped)) == most
    for name in "bcd":
        assert_same(done[name], alone(name))


def test_the_memory_budget_is_never_exceeded_by_two() -> None:
    learners = [learner(name, SIZES[name]) for name in "bcda"]
    size = {who.name: sum(frozen().size(row) for row in who.rows) for who in learners}
    budget = size["b"] + size["c"]
    loop = new_loop(CONFIG, 4, frozen(), memory=MemoryBudget(0, 0, 0, 0, math.inf, budget))
    held: list[list[str]] = []
    for _ in loop.run(learners, lambda: held.append([p.learner.name for p in loop.active])):
        pass
    assert ["b", "c"] in held
    assert all(len(names) <= 1 or sum(size[n] for n in names) <= budget for names in held)


def test_a_user_without_rows_is_skipped_and_said_so() -> None:
    done, events = events_of(new_loop(CONFIG, 2, frozen()), [learner("b", 3), learner("none", 0), learner("c", 5)])
    assert done["none"].problem == "has nothing to train on (empty history)"
    assert done["none"].shifts == ()
    assert done["none"].steps == 0
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["none"]
    assert sorted(e.learner for e in events if isinstance(e, Finished)) == ["b", "c"]
    assert_same(done["b"], alone("b"))
    assert_same(done["c"], alone("c"))


def poisoned(value: float) -> Shift:
    start = start_shift()
    start.W[0, 0, 0] = value
    return start


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("kind", ["plain", "frozen"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_user_whose_shift_is_not_finite_leaves_the_others_as_alone(slots: int, kind: str, value: float) -> None:
    learners = [learner("b", 3), learner("bad", 9, poisoned(value)), learner("c", 5), learner("a", 1)]
    done, events = events_of(new_loop(CONFIG, slots, runner(kind)), learners)
    assert done["bad"].problem == "its loss or gradient is not finite at step 1"
    assert done["bad"].shifts == ()
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["bad"]
    for name in "abc":
        assert_same(done[name], alone(name))


@pytest.mark.parametrize("rule", [RULE, "f2+l3"])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_user_whose_loss_breaks_midway_leaves_the_others_as_alone(factor: float, rule: str) -> None:
    bad = learner("d", SIZES["d"])
    # One row of nine: it comes in some step of the first epoch.
    how = Recorder(runner(rule=rule), {bad.rows[4]: factor})
    done, _ = events_of(new_loop(CONFIG, 2, how), [learner("b", 3), bad, learner("c", 5), learner("a", 1)])
    problem = done["d"].problem or ""
    assert problem.startswith("its loss or gradient is not finite at step ")
    assert int(problem.rsplit(maxsplit=1)[1]) <= 3, "it stops in the first epoch, not at the end"
    for name in "abc":
        assert_same(done[name], alone(name, rule))


class Spoilt(torch.autograd.Function):
    """Gives a loss or its gradient a value that is not finite, the other as it is."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, add: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return loss + add

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0], None, None


class Spoiling(Recorder):
    """Spoils one row's loss or gradient."""

    def __init__(self, row: TokenRow, add: float, factor: float):
        super().__init__(runner())
        self.row, self.add, self.scale = row, add, factor

    def answer_loss(
        self, items: Sequence[Any], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None = None
    ) -> Tensor:
        loss = super().answer_loss(items, slots, shift, lead)
        add, factor = (
            torch.tensor([value if row == self.row else usual for row, _ in items])
            for value, usual in ((self.add, 0.0), (self.scale, 1.0))
        )
        spoilt: Tensor = Spoilt.apply(loss, add, factor)  # type: ignore[no-untyped-call]
        return spoilt


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_a_user_is_out_when_either_its_loss_or_its_gradient_is_not_finite(part: str, value: float) -> None:
    bad = learner("d", SIZES["d"])
    how = Spoiling(bad.rows[4], value if part == "loss" else 0.0, value if part == "gradient" else 1.0)
    done = train(new_loop(CONFIG, 2, how), [learner("b", 3), bad, learner("c", 5)])
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in bad.rows]
    batches = epoch_batches(lengths, CONFIG, seed=0, learner="d", epoch=0)
    (place,) = (number for number, batch in enumerate(batches, start=1) if 4 in batch)
    assert done["d"].problem == f"its loss or gradient is not finite at step {place}"
    for name in "bc":
        assert_same(done[name], alone(name))


def test_who_came_later_keeps_its_own_count_of_steps_when_an_earlier_one_breaks() -> None:
    bad = learner("e", SIZES["e"])
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in bad.rows]
    row = bad.rows[epoch_batches(lengths, CONFIG, seed=0, learner="e", epoch=0)[-1][0]]
    # "a" is through after three steps and "c" begins beside one that breaks in its fifth.
    done = train(new_loop(CONFIG, 2, Spoiling(row, float("nan"), 1.0)), [bad, learner("a", 1), learner("c", 5)])
    assert done["e"].problem == "its loss or gradient is not finite at step 5"
    for name in "ac":
        assert_same(done[name], alone(name))


@pytest.mark.parametrize("tensor", ["R", "W", "b"])
def test_a_shift_that_its_last_step_breaks_is_no_result_and_the_others_are_as_alone(tensor: str) -> None:
    loop, steps = new_loop(CONFIG, 2), dict[int, int]()
    step = loop.optimiser.step

    def break_last(slots: Sequence[int], counts: Sequence[int], rates: Sequence[float]) -> None:
        step(slots, counts, rates)
        for progress, count in zip(loop.active, counts, strict=True):
            if progress.learner.name == "d" and count == 9:
                loop.trained[0].shift.tensors()[tensor].data[progress.slot, -1, 0].view(-1)[-1] = float("inf")
                steps[progress.slot] = count

    loop.optimiser.step = break_last  # type: ignore[method-assign]
    done, events = events_of(loop, [learner("b", 3), learner("d", 9), learner("c", 5)])
    assert steps
    assert done["d"].problem == "its shift is not finite after step 9"
    assert done["d"].shifts == ()
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["d"]
    assert sorted(e.learner for e in events if isinstance(e, Finished)) == ["b", "c"]
    for name in "bc":
        assert_same(done[name], alone(name))


@pytest.mark.parametrize("factor", [1e4, 1e-4])
def test_a_user_with_other_gradients_does_not_change_the_others(factor: float) -> None:
    other = learner("d", SIZES["d"])
    how = Recorder(runner(), dict.fromkeys(other.rows[::2], factor))
    done = train(new_loop(CONFIG, 4, how), [learner("b", 3), other, learner("c", 5), learner("e", 17)])
    for name in "bce":
        assert_same(done[name], alone(name))


def test_each_user_has_its_own_schedule() -> None:
    loop = new_loop(replace(CONFIG, warmup=0.4), 3, frozen())
    rates: dict[int, list[float]] = {}
    step = loop.optimiser.step

    def note(slots: Sequence[int], counts: Sequence[int], given: Sequence[float]) -> None:
        for slot, rate in zip(slots, given, strict=True):
            rates.setdefault(slot, []).append(rate)
        step(slots, counts, given)

    loop.optimiser.step = note  # type: ignore[method-assign]
    train(loop, [learner("b", 3), learner("d", 9), learner("e", 17)])
    assert sorted(map(len, rates.values())) == [3, 9, 15]
    for mine in rates.values():
        total, warm = len(mine), int(0.4 * len(mine))
        assert mine[warm] == pytest.approx(1e-2)
        assert mine[-1] == pytest.approx(1e-2 / (total - warm))


def test_equal_rows_under_other_names_come_in_another_order() -> None:
    rows = learner("d", 9).rows
    done = train(new_loop(CONFIG, 2, frozen()), [Learner(name, rows, [start_shift()]) for name in ("x", "y")])
    assert not torch.equal(done["x"].shifts[0].W, done["y"].shifts[0].W)


def test_the_same_seed_gives_the_same_bits() -> None:
    a, b = (train(new_loop(CONFIG, 2, runner()), [learner(n, SIZES[n]) for n in "bcd"]) for _ in range(2))
    for name in "bcd":
        for key, t in a[name].shifts[0].tensors().items():
            assert torch.equal(t, b[name].shifts[0].tensors()[key])


def test_no_learners_end_at_once() -> None:
    assert train(new_loop(CONFIG, 2, frozen()), []) == {}


@pytest.mark.parametrize(("rule", "layers"), [("30", LAYERS), ("f2", (3,))], ids=["no edited token", "a last layer"])
def test_a_user_whose_loss_no_edit_can_reach_trains_as_in_company_and_as_plain(
    rule: str, layers: tuple[int, ...]
) -> None:
    start = new_shift((len(layers), 3, WIDTH), init="loreft", generator=torch.Generator().manual_seed(2))
    short = Learner("short", some_rows(3, 0), [start])
    # Another user's edits reach further: to token 30, or to a prompt that is edited to its end.
    prompt = tuple(range(3, 40)) if rule == "30" else (5,)
    far = Learner("far", [TokenRow(prompt, (7, 8, 2))], [start])

    def trained(kind: str, learners: list[Learner]) -> Trained:
        positions = Positions.parse(rule)
        how: Runner = PlainRunner(tiny("llama"), positions)
        if kind == "frozen":
            how = FrozenRunner(tiny("llama"), positions, layers, shared=HEAD)
        personal = ShiftBank.empty(2, len(layers), 3, WIDTH)
        shift = TwoStageShift(layers, random_bank(1, len(layers), 4, seed=1), personal)
        loop = Loop(how, shift, [personal], lambda slot: (1, slot), CONFIG, seed=0, step_tokens=1000)
        return train(loop, learners)["short"]

    expected = trained("plain", [short, far])
    for kind in ("plain", "frozen"):
        assert_same(trained(kind, [short]), expected, 1e-7)
        assert_same(trained(kind, [short, far]), expected, 1e-7)
