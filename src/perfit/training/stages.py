"""The two stages of Algorithm 1, as uses of the one loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.shift import Init, Shift, ShiftBank, new_shift
from perfit.errors import PerfitError
from perfit.events import Listener, MemoryUsed, Resumed, StageBegun, nobody
from perfit.training.checkpoint import load_loop, save_loop
from perfit.training.choose import choose_runner
from perfit.training.evidence import Evidence
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Learner, Trained
from perfit.training.loop import Loop
from perfit.training.rows import TokenRow
from perfit.training.schedule import total_steps
from perfit.training.summary import RowSummary

COLLECTIVE = "collective"
_CHECKPOINT_SECONDS = 20.0


def fresh_shifts(config: PerFitConfig, hidden_size: int) -> tuple[Shift, Shift]:
    """Both shared shifts at the start of stage 1, [layers, r, d] each (Algorithm 1, line 1)."""
    generator = torch.Generator().manual_seed(config.seed)
    init: Init = "loreft" if config.init == "loreft" else "identity"
    first = new_shift((len(config.layers), config.collective_rank, hidden_size), init=init, generator=generator)
    second = new_shift((len(config.layers), config.personal_rank, hidden_size), init=init, generator=generator)
    return first, second


def bank_of(shifts: Sequence[Shift], device: torch.device | str) -> ShiftBank:
    """A bank whose slots 1, 2, … hold these shifts."""
    layers, rank, width = shifts[0].R.shape
    bank = ShiftBank.empty(len(shifts), layers, rank, width, device=device)
    for slot, shift in enumerate(shifts, start=1):
        bank.put(slot, shift)
    return bank


def _drive(
    loop: Loop,
    learners: Sequence[Learner],
    *,
    checkpoint: Path | None,
    context: Mapping[str, Any],
    before_save: Callable[[], None] | None,
    budget: float,
    listener: Listener,
) -> Iterator[Trained]:
    saved = time.monotonic()

    def after_step() -> None:
        nonlocal saved
        # A finished learner is in no checkpoint: where nothing makes its result durable first, the last one stays.
        through = before_save is None and not loop.active
        if checkpoint is not None and not through and time.monotonic() - saved > _CHECKPOINT_SECONDS:
            if before_save is not None:
                before_save()
            save_loop(loop, checkpoint, context=dict(context))
            saved = time.monotonic()

    if checkpoint is not None and load_loop(loop, checkpoint, learners, context=dict(context)):
        listener(
            Resumed(
                learners=len(loop.active),
                taken=loop.taken,
                rows_done=loop.rows_done(learners),
            )
        )
    yield from loop.run(learners, after_step)
    if loop.peak:
        listener(MemoryUsed(loop.peak, budget))


def train_collective(
    backbone: Backbone,
    rows: Sequence[TokenRow],
    config: PerFitConfig,
    *,
    checkpoint: Path | None = None,
    context: Mapping[str, Any] = {},
    listener: Listener = nobody,
    home: FrozenHome | None = None,
) -> tuple[Shift, Shift]:
    """Stage 1: both shared shifts on all other users' rows (Algorithm 1, lines 4-13).

    Raises:
        PerfitError: There are no rows, or training diverged.
    """
    if not rows:
        raise PerfitError("stage 1 has nothing to train on: no other users, or none with the data of stage1_data")
    first, second = fresh_shifts(config, backbone.hidden_size)
    collective, personal = bank_of([first], backbone.device), bank_of([second], backbone.device)
    chosen = choose_runner(backbone, config, RowSummary.of([rows]), listener, home=home)
    loop = Loop(
        chosen.runner,
        TwoStageShift(config.layers, collective, personal),
        [collective, personal],
        lambda slot: (slot, slot),
        config.stage1,
        seed=config.seed,
        step_tokens=config.step_tokens,
        memory=chosen.memory,
        listener=listener,
    )
    learner = Learner(COLLECTIVE, rows, [first, second])
    listener(StageBegun(stage=1, rows=len(rows), rows_total=len(rows) * config.stage1.epochs))
    done = list(
        _drive(
            loop,
            [learner],
            checkpoint=checkpoint,
            context=context,
            before_save=None,
            budget=chosen.memory.total,
            listener=listener,
        )
    )
    if done[0].problem is not None:
        raise PerfitError(f"stage 1 stopped: {done[0].problem}; a smaller stage1.learning_rate may help")
    return done[0].shifts[0], done[0].shifts[1]


def train_personal(
    backbone: Backbone,
    users: Mapping[str, Sequence[TokenRow]],
    collective: tuple[Shift, Shift],
    config: PerFitConfig,
    *,
    checkpoint: Path | None = None,
    context: Mapping[str, Any] = {},
    before_save: Callable[[], None] = lambda: None,
    listener: Listener = nobody,
    home: FrozenHome | None = None,
) -> Iterator[Trained]:
    """Stage 2: each user's own second shift, from the shared one, on the user's rows (Algorithm 1, lines 14-23).

    Args:
        users: Rows of each user, in a fixed order; rows may be made when they are asked for.
        collective: Both shared shifts; the first stays as it is.
        config: With ``held_out``, each user's strength is found in a trial before the training; see ``evidence``.
        before_save: Called before each checkpoint, to make finished users durable first.
        home: Where frozen parts are kept between runs.
    """
    slots = max(min(config.users_together, len(users)), 1)
    chosen = choose_runner(backbone, config, RowSummary.of(users.values()), listener, slots=slots, home=home)
    evidence = Evidence(config.held_out, config.strength, config.strength_prior) if config.held_out else None
    personal = ShiftBank.empty(slots, *collective[1].R.shape, device=backbone.device)
    loop = Loop(
        chosen.runner,
        TwoStageShift(config.layers, bank_of([collective[0]], backbone.device), personal),
        [personal],
        lambda slot: (1, slot),
        config.stage2,
        seed=config.seed,
        step_tokens=config.step_tokens,
        memory=chosen.memory,
        evidence=evidence,
        listener=listener,
    )
    learners = [Learner(name, rows, [collective[1]]) for name, rows in users.items()]
    sizes = [len(rows) for rows in users.values()]
    tried = [evidence.earlier(size) for size in sizes] if evidence is not None else []
    steps = sum(total_steps(size, config.stage2) for size in sizes) + sum(total_steps(n, loop.trial) for n in tried)
    listener(
        StageBegun(
            stage=2,
            rows=sum(sizes),
            users=len(users),
            rows_total=sum(sizes) * config.stage2.epochs + sum(tried),
            steps=steps,
        )
    )
    yield from _drive(
        loop,
        learners,
        checkpoint=checkpoint,
        context=context,
        before_save=before_save,
        budget=chosen.memory.total,
        listener=listener,
    )
