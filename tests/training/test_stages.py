"""The two stages of Algorithm 1 on a tiny base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from families import WIDTH, tiny
from learners import (
    LAYERS,
    assert_bitwise,
    assert_same,
    back_to_orthonormal,
    naive_loss,
    naive_rate,
    off_orthonormal,
    some_rows,
    train_naively,
)

from perfit.config import PerFitConfig, StageConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.shift import Shift, ShiftBank, new_shift
from perfit.errors import PerfitError
from perfit.events import Event, Planned, Prepared, Resumed, StageBegun, Stepped
from perfit.training import stages
from perfit.training.frozen import FrozenRunner
from perfit.training.learner import Learner, Trained
from perfit.training.plain import PlainRunner
from perfit.training.rows import TokenRow
from perfit.training.schedule import epoch_batches
from perfit.training.stages import bank_of, choose_runner, fresh_shifts, train_collective, train_personal
from perfit.training.summary import RowSummary

STAGE = StageConfig(epochs=2, batch_size=4, learning_rate=1e-2)
CONFIG = PerFitConfig(
    layers=LAYERS,
    positions="l3",
    collective_rank=4,
    personal_rank=3,
    stage1=STAGE,
    stage2=STAGE,
    users_together=2,
    step_tokens=100,
    init="loreft",
)
USERS = {"a": 5, "b": 3, "c": 9}


def users() -> dict[str, Sequence[TokenRow]]:
    return {name: some_rows(count, name) for name, count in USERS.items()}


def same_bits(a: Shift, b: Shift) -> bool:
    return all(torch.equal(t, b.tensors()[name]) for name, t in a.tensors().items())


@pytest.fixture(scope="module")
def shared() -> tuple[Shift, Shift]:
    return train_collective(tiny("llama"), some_rows(10, "others"), CONFIG)


def personal(shared: tuple[Shift, Shift], config: PerFitConfig = CONFIG, **kw: Any) -> dict[str, Trained]:
    return {t.name: t for t in train_personal(tiny("llama"), users(), shared, config, **kw)}


def test_stage_1_equals_a_hand_written_trainer_of_both_shifts(shared: tuple[Shift, Shift]) -> None:
    rows = some_rows(10, "others")
    starts = fresh_shifts(CONFIG, WIDTH)
    tensors = [t.clone().requires_grad_(True) for shift in starts for t in shift.tensors().values()]
    R, rest = [tensors[0], tensors[3]], [tensors[i] for i in (1, 2, 4, 5)]
    optimiser = torch.optim.AdamW([{"params": R, "weight_decay": 0.0}, {"params": rest, "weight_decay": 1e-2}])
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
    for step in range(6):
        epoch, place = divmod(step, 3)
        batch = epoch_batches(lengths, STAGE, seed=0, learner=stages.COLLECTIVE, epoch=epoch)[place]
        banks = [ShiftBank(Shift(*(torch.stack([t, t]) for t in tensors[i : i + 3]))) for i in (0, 3)]
        losses = [naive_loss(rows[i], TwoStageShift(LAYERS, *banks), (1, 1)) for i in batch]
        optimiser.zero_grad()
        (torch.stack(losses).sum() / sum(len(rows[i].answer_ids) for i in batch)).backward()
        torch.nn.utils.clip_grad_norm_(tensors, 0.3)
        for group in optimiser.param_groups:
            group["lr"] = naive_rate(step, 6, 1e-2, 0.1)
        old = [t.detach().clone() for t in R]
        optimiser.step()
        with torch.no_grad():
            for before, t in zip(old, R, strict=True):
                t.copy_(back_to_orthonormal(before, t))
    got = [t for shift in shared for t in shift.tensors().values()]
    for mine, expected in zip(got, tensors, strict=True):
        torch.testing.assert_close(mine, expected.detach(), rtol=5e-4, atol=5e-4)


def test_stage_2_equals_a_hand_written_trainer_of_the_personal_shift(shared: tuple[Shift, Shift]) -> None:
    done = personal(shared)
    for name, rows in users().items():
        expected = train_naively(Learner(name, rows, [shared[1]]), STAGE, collective=bank_of([shared[0]], "cpu"))
        for key, t in done[name].shifts[0].tensors().items():
            torch.testing.assert_close(t, expected.tensors()[key], rtol=5e-4, atol=5e-4)


def test_stage_2_leaves_both_shared_shifts_alone_and_gives_one_shift_a_user(shared: tuple[Shift, Shift]) -> None:
    before = [Shift(*(t.clone() for t in shift.tensors().values())) for shift in shared]
    done = personal(shared)
    assert sorted(done) == sorted(USERS)
    assert all(same_bits(a, b) for a, b in zip(shared, before, strict=True))
    for trained in done.values():
        assert len(trained.shifts) == 1
        assert trained.shifts[0].R.shape == (2, 3, WIDTH)
        assert not same_bits(trained.shifts[0], shared[1])
        assert off_orthonormal(trained.shifts[0].R) < 1e-5


def test_stage_1_moves_both_shifts(shared: tuple[Shift, Shift]) -> None:
    for start, end in zip(fresh_shifts(CONFIG, WIDTH), shared, strict=True):
        assert not torch.equal(start.R, end.R)
        assert not torch.equal(start.W, end.W)
        assert not torch.equal(start.b, end.b)
        assert off_orthonormal(end.R) < 1e-5


@pytest.mark.parametrize(
    "change", [{"engine": "plain"}, {"users_together": 1}, {"step_tokens": 1}, {"memory_gib": 0.75}]
)
def test_engine_and_batching_do_not_change_the_users(shared: tuple[Shift, Shift], change: dict[str, Any]) -> None:
    usual, other = personal(shared), personal(shared, CONFIG.with_options(**change))
    for name in USERS:
        assert_same(other[name], usual[name])


def test_the_config_chooses_the_runner() -> None:
    backbone, rows = tiny("llama"), RowSummary.of([some_rows(3, 0)])
    assert isinstance(choose_runner(backbone, CONFIG, rows).runner, FrozenRunner)
    assert isinstance(choose_runner(backbone, CONFIG.with_options(engine="frozen"), rows).runner, FrozenRunner)
    assert isinstance(choose_runner(backbone, CONFIG.with_options(engine="plain"), rows).runner, PlainRunner)


class KilledError(Exception):
    pass


def kill_at(step: int) -> Any:
    """An emitter that ends the run at a step, as a kill between two steps would."""
    seen = []

    def listener(event: Event) -> None:
        if isinstance(event, Stepped):
            seen.append(event)
            if len(seen) == step:
                raise KilledError

    return listener


@pytest.mark.parametrize("step", [2, 5])
def test_stage_1_killed_and_resumed_ends_with_the_same_bits(
    shared: tuple[Shift, Shift], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.safetensors", "context": {"stage": 1}}
    rows = some_rows(10, "others")
    with pytest.raises(KilledError):
        train_collective(tiny("llama"), rows, CONFIG, listener=kill_at(step), **options)
    events: list[dict[str, Any]] = []
    again = train_collective(tiny("llama"), rows, CONFIG, listener=events.append, **options)
    assert [e.learners for e in events if isinstance(e, Resumed)] == [1]
    assert sum(isinstance(e, Stepped) for e in events) == 6 - (step - 1)
    assert all(same_bits(a, b) for a, b in zip(again, shared, strict=True))


@pytest.mark.parametrize("step", [2, 4, 7])
def test_stage_2_killed_and_resumed_ends_with_the_same_bits(
    shared: tuple[Shift, Shift], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    usual = personal(shared)
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    options: dict[str, Any] = {"checkpoint": tmp_path / "c.safetensors", "context": {"stage": 2}}
    pending: dict[str, Trained] = {}
    durable: dict[str, Trained] = {}
    options["before_save"] = lambda: durable.update(pending)
    killed = train_personal(tiny("llama"), users(), shared, CONFIG, listener=kill_at(step), **options)
    with pytest.raises(KilledError):
        pending.update((trained.name, trained) for trained in killed)
    rest = personal(shared, **options)
    assert sorted({**durable, **rest}) == sorted(USERS)
    assert not set(durable) & set(rest), "a user made durable is not trained again"
    for name, trained in {**durable, **rest}.items():
        assert_bitwise(trained, usual[name])


def test_stage_1_without_rows_is_refused() -> None:
    with pytest.raises(PerfitError, match="stage 1 has nothing to train on"):
        train_collective(tiny("llama"), [], CONFIG)


def test_stage_1_that_diverges_says_so() -> None:
    config = CONFIG.with_options(**{"stage1.learning_rate": 1e38, "stage1.clip": float("inf")})
    with pytest.raises(PerfitError, match=r"stage 1 stopped: .* not finite .*; a smaller stage1\.learning_rate"):
        train_collective(tiny("llama"), some_rows(10, "others"), config)


def test_stage_2_without_users_ends_at_once(shared: tuple[Shift, Shift]) -> None:
    assert list(train_personal(tiny("llama"), {}, shared, CONFIG)) == []


def test_stages_say_what_they_are_about_to_do(shared: tuple[Shift, Shift]) -> None:
    events: list[dict[str, Any]] = []
    personal(shared, listener=events.append)
    plans = [e.text for e in events if isinstance(e, Planned)]
    assert [text.split()[0] for text in plans] == ["memory", "cpu", "frozen"]
    assert events[3] == StageBegun(stage=2, rows=17, users=3, rows_total=34, steps=12)
    assert sum(e.rows for e in events if isinstance(e, Stepped)) == 34
    assert sum(e.rows for e in events if isinstance(e, Prepared)) == 17


def test_starts_depend_on_the_seed() -> None:
    first, second = fresh_shifts(CONFIG, WIDTH)
    assert same_bits(first, fresh_shifts(CONFIG, WIDTH)[0])
    assert not same_bits(first, fresh_shifts(CONFIG.with_options(seed=1), WIDTH)[0])
    assert first.R.shape == (2, 4, WIDTH)
    assert second.R.shape == (2, 3, WIDTH)
    identity = fresh_shifts(CONFIG.with_options(init="identity"), WIDTH)[0]
    assert torch.equal(identity.W, identity.R)
    assert not identity.b.any()


def test_a_bank_holds_shifts_from_slot_1_on() -> None:
    shifts = [new_shift((2, 3, WIDTH), init="loreft") for _ in range(3)]
    bank = bank_of(shifts, "cpu")
    assert bank.slots == 4
    assert all(same_bits(bank.get(slot), shift) for slot, shift in enumerate(shifts, start=1))


def test_stage_1_killed_right_after_its_last_step_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    rows, path = some_rows(10, "others"), tmp_path / "stage1.safetensors"
    whole = train_collective(tiny("llama"), rows, CONFIG, checkpoint=path, context={"run": "x"})
    again = train_collective(tiny("llama"), rows, CONFIG, checkpoint=path, context={"run": "x"})
    for mine, theirs in zip(whole, again, strict=True):
        assert all(torch.equal(t, theirs.tensors()[name]) for name, t in mine.tensors().items())
