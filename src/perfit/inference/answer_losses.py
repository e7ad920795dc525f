"""Losses of answers that are not trained on: one whole forward per row, for users of any number in one batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.training.rows import TokenRow


def answer_losses(
    backbone: Backbone,
    rows: Sequence[TokenRow],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    batch_tokens: int,
) -> list[float]:
    """Negative log-likelihood summed over each row's answer tokens, in the order of the rows.

    Args:
        backbone: The base.
        rows: Prompts and answers.
        slots: (collective slot, personal slot) of each row.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited.
        batch_tokens: Most tokens of one forward, padding included.
    """
    keeps = "logits_to_keep" in inspect.signature(type(backbone.model).forward).parameters
    losses = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].input_ids), i))
    begin = 0
    while begin < len(order):
        batch = order[begin : begin + max(batch_tokens // len(rows[order[begin]].input_ids), 1)]
        begin += len(batch)
        # Padding stands in front, so that answers are the last tokens of all rows and need the only logits.
        ids, mask, starts = left_padded([rows[i].input_ids for i in batch], backbone.device)
        prompts = [len(rows[i].prompt_ids) for i in batch]
        plan = EditPlan.for_prompts(
            positions, prompts, [slots[i] for i in batch], starts=starts, device=backbone.device
        )
        longest = max(len(rows[i].answer_ids) for i in batch)
        with torch.no_grad():
            logits = backbone.logits(ids, mask, plan, shift, **({"logits_to_keep": longest} if keeps else {}))
        for row, i in enumerate(batch):
            answer = torch.tensor(rows[i].answer_ids, device=logits.device)
            own = logits[row, -len(answer) :].float()
            losses[i] = float(torch.nn.functional.cross_entropy(own, answer, reduction="sum"))
    return losses
