"""Stage 2 handed over as it is kept: everybody once, strength beside the shift, and before each checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import WIDTH, tiny
from learners import some_rows

from perfit.config import PerFitConfig, StageConfig
from perfit.edits.shift import Shift
from perfit.events import Event, Resumed, Skipped, Stepped
from perfit.store.payload import StoredShift
from perfit.training import fit_users as module
from perfit.training import stages
from perfit.training.fit_users import fit_users
from perfit.training.learner import Trained
from perfit.training.stages import fresh_shifts, train_personal

STAGE = StageConfig(epochs=2, batch_size=4, learning_rate=3e-2)
CONFIG = PerFitConfig(
    layers=(1, 2), positions="l2", collective_rank=3, personal_rank=2, stage2=STAGE, strength=0.4, dtype="float32"
)
ROWS: Mapping[str, Any] = {"ann": some_rows(5, "ann"), "nobody": [], "ben": some_rows(3, "ben")}
SHARED = fresh_shifts(CONFIG, WIDTH)


class Kept:
    """What was handed over, call by call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.through: dict[str, Trained] = {}
        self.shifts: dict[str, StoredShift] = {}

    def __call__(self, through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
        self.calls.append([one.name for one in through])
        self.through |= {one.name: one for one in through}
        self.shifts |= shifts


def test_everybody_comes_once_and_each_shift_has_its_strength_beside_it() -> None:
    kept = Kept()
    fit_users(tiny("llama"), ROWS, SHARED, CONFIG, kept)
    assert kept.calls == [["nobody", "ben", "ann"]]
    assert kept.through["nobody"].problem == "has nothing to train on (empty history)"
    assert sorted(kept.shifts) == ["ann", "ben"]
    for one in train_personal(tiny("llama"), ROWS, SHARED, CONFIG):
        if one.problem is None:
            stored = kept.shifts[one.name]
            assert torch.equal(stored.tensors["R"], one.shifts[0].R)
            assert torch.equal(stored.tensors["D"], one.shifts[0].D)
            assert stored.meta == {"steps": one.steps, "losses": list(one.losses), "problem": None, "strength": 0.4}


def test_users_who_are_through_are_handed_over_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FLUSH_USERS", 1)
    kept = Kept()
    fit_users(tiny("llama"), ROWS, SHARED, CONFIG, kept)
    assert kept.calls == [["nobody"], ["ben"], ["ann"]]


def test_who_is_in_no_checkpoint_was_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    whole, kept, events = Kept(), Kept(), 0

    def die_in_step(event: Event) -> None:
        nonlocal events
        events += isinstance(event, Stepped)
        if events == 4:  # after the checkpoint of the third, in which ben is through
            raise KeyboardInterrupt

    options: dict[str, Any] = {"checkpoint": tmp_path / "personal.safetensors", "context": {"of": "this"}}
    fit_users(tiny("llama"), ROWS, SHARED, CONFIG, whole)
    with pytest.raises(KeyboardInterrupt):
        fit_users(tiny("llama"), ROWS, SHARED, CONFIG, kept, listener=die_in_step, **options)
    assert sorted(kept.shifts) == ["ben"]
    fit_users(tiny("llama"), ROWS, SHARED, CONFIG, kept, **options)
    assert [name for call in kept.calls for name in call] == ["nobody", "ben", "ann"]
    for name, stored in whole.shifts.items():
        assert all(torch.equal(stored.tensors[one], kept.shifts[name].tensors[one]) for one in ("R", "D", "b"))


def test_with_other_resources_those_under_way_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    events: list[dict[str, Any]] = []

    def die(event: Event) -> None:
        if isinstance(event, Stepped) and len([e for e in events if isinstance(e, Stepped)]) == 2:
            raise KeyboardInterrupt
        events.append(event)

    path, rows = tmp_path / "personal.safetensors", {"ann": ROWS["ann"]}
    with pytest.raises(KeyboardInterrupt):
        fit_users(tiny("llama"), rows, SHARED, CONFIG, Kept(), checkpoint=path, listener=die)
    for config, resumed in ((CONFIG.with_options(step_tokens=40), False), (CONFIG, True)):
        again: list[dict[str, Any]] = []
        fit_users(tiny("llama"), rows, SHARED, config, Kept(), checkpoint=path.with_name("x"), listener=again.append)
        assert not any(isinstance(event, Resumed) for event in again)
        copy = tmp_path / f"{resumed}.safetensors"
        copy.write_bytes(path.read_bytes())
        fit_users(tiny("llama"), rows, SHARED, config, Kept(), checkpoint=copy, listener=again.append)
        assert any(isinstance(event, Resumed) for event in again) is resumed


def test_a_strength_found_by_the_history_is_kept_instead_of_the_usual_one() -> None:
    for prior, expected in ((-1e6, 0.0), (1e6, 0.6)):
        kept, config = Kept(), replace(CONFIG, held_out=0.3, strength=0.6, strength_prior=prior)
        fit_users(tiny("llama"), ROWS, SHARED, config, kept)
        assert {user: shift.meta["strength"] for user, shift in kept.shifts.items()} == dict.fromkeys(
            ("ann", "ben"), expected
        )


def test_a_shift_that_no_store_takes_is_its_user_s_problem_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stages.train_personal

    def grown(*args: Any, **more: Any) -> Any:
        for one in real(*args, **more):
            if one.name == "ann":
                own = one.shifts[0]
                one = replace(one, shifts=(Shift(own.R, own.W * 1e6, own.b),))
            yield one

    monkeypatch.setattr(module, "train_personal", grown)
    kept = Kept()
    events: list[dict[str, Any]] = []
    fit_users(tiny("llama"), ROWS, SHARED, CONFIG, kept, listener=events.append)
    assert sorted(kept.shifts) == ["ben"]
    assert kept.through["ann"].problem
    assert [e.learner for e in events if isinstance(e, Skipped)] == ["nobody", "ann"]
