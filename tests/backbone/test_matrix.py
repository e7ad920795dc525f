"""The rest of the behaviour matrix: cached chunks and continuation, rows repeated for beams, checkpointing; each family
with left and right padding in fp32 and bf16, against rows that run alone without padding or cache."""

from __future__ import annotations

import itertools
from functools import cache, partial

import pytest
import torch
from families import NAMES, VOCABULARY, alone, gradients, learnable, padded_batch, picked, random_shift, tiny
from torch import Tensor
from transformers import DynamicCache

from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan
from perfit.edits.positions import Positions

PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2))
LENGTHS = (9, 4, 12, 2)
RULE = "f2+l3"
LAYERS = (1, 2)
CHUNK = 5
FOLLOW = 2

matrix = pytest.mark.parametrize("family", NAMES)
sides = pytest.mark.parametrize("side", ["left", "right"])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@cache
def prompts() -> list[list[int]]:
    g = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in LENGTHS]


@cache
def continuations() -> list[list[int]]:
    g = torch.Generator().manual_seed(4)
    return [torch.randint(3, VOCABULARY, (FOLLOW,), generator=g).tolist() for _ in LENGTHS]


def plan_for(starts: list[int]) -> EditPlan:
    return EditPlan.for_prompts(Positions.parse(RULE), LENGTHS, PAIRS, starts=starts)


def distance(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).float().norm() / expected.float().norm())


def allowed(dtype: torch.dtype) -> float:
    return 1e-4 if dtype == torch.float32 else 0.05


@matrix
@sides
@dtypes
@torch.no_grad()
def test_chunked_prefill_and_continuation_from_the_cache(family: str, side: str, dtype: torch.dtype) -> None:
    backbone, shift = tiny(family, dtype), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    follow = torch.tensor(continuations())
    every = torch.cat([ids, follow], 1)
    seen = torch.cat([mask, torch.ones_like(follow)], 1)
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    past = DynamicCache(config=backbone.model.config)
    width = ids.shape[1]
    cuts = [*range(0, width, CHUNK), *range(width, width + FOLLOW + 1)]
    parts = []
    edits = backbone.edits(plan_for(starts), shift)
    for begin, end in itertools.pairwise(cuts):
        forward = partial(
            backbone.model,
            every[:, begin:end],
            attention_mask=seen[:, :end],
            position_ids=positions[:, begin:end],
            past_key_values=past,
            use_cache=True,
        )
        parts.append(running(forward, edits).logits)
    got = torch.cat(parts, 1)
    for row, (prompt, more, pair, start) in enumerate(zip(prompts(), continuations(), PAIRS, starts, strict=True)):
        expected = alone(backbone, [*prompt, *more], shift, pair, picked(RULE, len(prompt)))
        mine = torch.cat([got[row, start : start + len(prompt)], got[row, width:]])
        # A window that slides over padding indices is shorter in right-padded continuations; the prompt is not.
        if side == "right" and family in ("mistral", "gemma2", "gemma3"):
            mine, expected = mine[: len(prompt)], expected[: len(prompt)]
        assert distance(mine, expected) < allowed(dtype)


@matrix
@sides
@dtypes
@torch.no_grad()
def test_rows_repeated_for_beams_belong_to_the_same_user(family: str, side: str, dtype: torch.dtype) -> None:
    backbone, shift = tiny(family, dtype), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    plan = plan_for(starts)
    beams = 3
    many = backbone.logits(ids.repeat_interleave(beams, 0), mask.repeat_interleave(beams, 0), plan, shift)
    for row, (prompt, pair, start) in enumerate(zip(prompts(), PAIRS, starts, strict=True)):
        expected = alone(backbone, prompt, shift, pair, picked(RULE, len(prompt)))
        for beam in range(beams):
            mine = many[row * beams + beam, start : start + len(prompt)]
            assert distance(mine, expected) < allowed(dtype)


@matrix
@sides
def test_checkpointed_gradients_in_bf16_equal_plain_ones(family: str, side: str) -> None:
    backbone, shift = tiny(family, torch.bfloat16), learnable(random_shift(LAYERS))
    ids, mask, starts = padded_batch(prompts(), side)
    plan, model = plan_for(starts), backbone.model
    inputs = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "use_cache": False}

    def loss(logits: Tensor) -> Tensor:
        return torch.stack(
            [
                logits[row, s : s + n].float().square().mean()
                for row, (s, n) in enumerate(zip(starts, LENGTHS, strict=True))
            ]
        ).sum()

    def run() -> list[Tensor]:
        return running(lambda: gradients(loss(model(ids, **inputs).logits), shift), backbone.edits(plan, shift))

    expected = run()
    model.gradient_checkpointing_enable()
    model.train()
    try:
        got = run()
    finally:
        model.gradient_checkpointing_disable()
        model.eval()
    assert max(float(g.abs().max()) for g in expected) > 0
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
