"""Rows and learners for training tests, and a naive trainer: one user, one row at a time, torch's own AdamW."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from families import VOCABULARY, WIDTH, alone, picked, random_bank, tiny
from torch import Tensor

from perfit.config import StageConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank, new_shift, thin_qr
from perfit.training.frozen import FrozenRunner
from perfit.training.learner import Learner, Trained
from perfit.training.loop import Loop
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow
from perfit.training.schedule import epoch_batches, steps_per_epoch, total_steps

HEAD = (5, 6, 7, 8, 9)
LAYERS = (1, 2)
RULE = "l3"
PERSONAL_RANK = 3


def some_rows(count: int, seed: object) -> list[TokenRow]:
    """Rows whose prompts all begin with ``HEAD``."""
    rnd = random.Random(str(seed))
    return [
        TokenRow(
            (*HEAD, *(rnd.randint(3, VOCABULARY - 1) for _ in range(rnd.randint(3, 15)))),
            (*(rnd.randint(3, VOCABULARY - 1) for _ in range(rnd.randint(1, 4))), 2),
        )
        for _ in range(count)
    ]


def start_shift(seed: int = 2) -> Shift:
    return new_shift((len(LAYERS), PERSONAL_RANK, WIDTH), generator=torch.Generator().manual_seed(seed))


def collective_bank() -> ShiftBank:
    return random_bank(1, len(LAYERS), 4, seed=1)


def runner(kind: str = "frozen", family: str = "llama", rule: str = RULE) -> Runner:
    backbone, positions = tiny(family), Positions.parse(rule)
    return (
        PlainRunner(backbone, positions) if kind == "plain" else FrozenRunner(backbone, positions, LAYERS, shared=HEAD)
    )


def new_loop(
    config: StageConfig, slots: int, how: Runner | None = None, *, step_tokens: int = 100, **kw: object
) -> Loop:
    """A stage-2 loop over the tiny Llama."""
    personal = ShiftBank.empty(slots, len(LAYERS), PERSONAL_RANK, WIDTH)
    return Loop(
        how if how is not None else runner(),
        TwoStageShift(LAYERS, collective_bank(), personal),
        [personal],
        lambda slot: (1, slot),
        config,
        seed=0,
        step_tokens=step_tokens,
        **kw,  # type: ignore[arg-type]
    )


def learner(name: str, count: int, start: Shift | None = None) -> Learner:
    return Learner(name, some_rows(count, name), [start if start is not None else start_shift()])


def train(loop: Loop, learners: Sequence[Learner]) -> dict[str, Trained]:
    return {trained.name: trained for trained in loop.run(learners)}


def assert_same(got: Trained, expected: Trained, tolerance: float = 2e-4) -> None:
    """Equal shifts, losses and steps."""
    assert (got.name, got.steps, got.problem) == (expected.name, expected.steps, expected.problem)
    torch.testing.assert_close(got.losses, expected.losses, rtol=1e-4, atol=1e-4)
    for a, b in zip(got.shifts, expected.shifts, strict=True):
        for name, t in a.tensors().items():
            torch.testing.assert_close(
                t, b.tensors()[name], rtol=tolerance, atol=tolerance, msg=lambda m: f"{got.name} {m}"
            )


def assert_bitwise(got: Trained, expected: Trained) -> None:
    assert got.losses == expected.losses
    for a, b in zip(got.shifts, expected.shifts, strict=True):
        assert all(torch.equal(t, b.tensors()[name]) for name, t in a.tensors().items())


def off_orthonormal(R: Tensor) -> float:
    return float((R @ R.mT - torch.eye(R.shape[-2])).abs().max())


def naive_loss(
    row: TokenRow, shift: TwoStageShift, pair: tuple[int, int], family: str = "llama", rule: str = RULE
) -> Tensor:
    """Negative log-likelihood of a row's answer, the row run alone."""
    n = len(row.prompt_ids)
    logits = alone(tiny(family), row.input_ids, shift, pair, picked(rule, n))
    logp = logits[n - 1 :].float().log_softmax(-1)
    return -torch.stack([logp[i, token] for i, token in enumerate(row.answer_ids)]).sum()


def naive_rate(step: int, total: int, peak: float, warmup: float) -> float:
    warm = int(total * warmup)
    return peak * (step + 1) / (warm + 1) if step < warm else peak * (total - step) / (total - warm)


def back_to_orthonormal(old: Tensor, new: Tensor) -> Tensor:
    """Where a step from ``old`` to ``new`` ends: its part along R Rᵀ = I, then thin QR."""
    S = (new - old) @ old.mT
    return thin_qr(new - 0.5 * (S + S.mT) @ old)


def train_naively(
    who: Learner, config: StageConfig, seed: int = 0, collective: ShiftBank | None = None, rule: str = RULE
) -> Shift:
    """One user's personal shift by clip_grad_norm_, torch.optim.AdamW and thin QR after each step."""
    R, W, b = (t.clone().requires_grad_(True) for t in who.start[0].tensors().values())
    decayed = {"params": [W, b], "weight_decay": config.weight_decay}
    optimiser = torch.optim.AdamW([{"params": [R], "weight_decay": 0.0}, decayed], lr=1.0)
    collective = collective if collective is not None else collective_bank()
    total = total_steps(len(who.rows), config)
    per_epoch = steps_per_epoch(len(who.rows), config.batch_size)
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in who.rows]
    for step in range(total):
        epoch, place = divmod(step, per_epoch)
        batch = epoch_batches(lengths, config, seed=seed, learner=who.name, epoch=epoch)[place]
        stacked = Shift(*(torch.stack([t, t]) for t in (R, W, b)))
        both = TwoStageShift(LAYERS, collective, ShiftBank(stacked))
        losses = [naive_loss(who.rows[i], both, (1, 1), rule=rule) for i in batch]
        tokens = sum(len(who.rows[i].answer_ids) for i in batch)
        optimiser.zero_grad()
        (torch.stack(losses).sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_([R, W, b], config.clip)
        for group in optimiser.param_groups:
            group["lr"] = naive_rate(step, total, config.learning_rate, config.warmup)
        old = R.detach().clone()
        optimiser.step()
        with torch.no_grad():
            R.copy_(back_to_orthonormal(old, R))
    return Shift(*(t.detach() for t in (R, W, b)))
