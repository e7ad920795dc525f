"""Losses of a batch against rows alone, in every family."""

from __future__ import annotations

import pytest
import torch
from families import NAMES, VOCABULARY, alone, picked, random_shift, tiny

from perfit.edits.edit_plan import EditPlan
from perfit.edits.positions import Positions
from perfit.inference.answer_losses import answer_losses
from perfit.training.rows import TokenRow

PAIRS = [(1, 1), (0, 0), (1, 3), (2, 2), (1, 0)]
SIZES = [(9, 2), (4, 5), (12, 1), (2, 3), (9, 4)]


@pytest.mark.parametrize("batch_tokens", [1, 30, 1000])
@pytest.mark.parametrize("family", NAMES)
def test_each_row_has_the_loss_it_has_alone(family: str, batch_tokens: int) -> None:
    backbone, shift = tiny(family), random_shift((1, 2))
    g = torch.Generator().manual_seed(4)
    rows = [
        TokenRow(*(tuple(torch.randint(3, VOCABULARY, (n,), generator=g).tolist()) for n in size)) for size in SIZES
    ]
    found = answer_losses(backbone, rows, PAIRS, shift, Positions.parse("f2+l3"), batch_tokens)
    for row, pair, loss in zip(rows, PAIRS, found, strict=True):
        prompt = len(row.prompt_ids)
        with torch.no_grad():
            logits = alone(backbone, row.input_ids, shift, pair, picked("f2+l3", prompt))[prompt - 1 :]
        log_probs = logits.double().log_softmax(-1).gather(1, torch.tensor(row.answer_ids)[:, None])
        assert loss == pytest.approx(-float(log_probs.sum()), rel=1e-4, abs=1e-4)


def test_a_bf16_base_is_measured_in_fp32() -> None:
    backbone, shift, rule = tiny("llama", torch.bfloat16), random_shift((1, 2)), Positions.parse("l3")
    row = TokenRow((5, 9, 7, 30), tuple(range(40, 60)))
    (found,) = answer_losses(backbone, [row], [(1, 2)], shift, rule, 1000)
    plan = EditPlan.for_prompts(rule, [4], [(1, 2)])
    ids = torch.tensor([row.input_ids])
    with torch.no_grad():
        logits = backbone.logits(ids, torch.ones_like(ids), plan, shift)[0, 3:].double()
    expected = -logits.log_softmax(-1).gather(1, torch.tensor(row.answer_ids)[:, None]).sum()
    assert found == pytest.approx(float(expected), rel=1e-6)
