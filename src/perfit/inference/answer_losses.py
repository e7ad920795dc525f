"""Losses of answers that are not trained on: one whole forward per row, for users of any number in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.inference.batches import batches
from perfit.training.rows import TokenRow


@torch.no_grad()
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
    losses = [0.0] * len(rows)
    for place, own, answer in _read(backbone, rows, slots, shift, positions, batch_tokens):
        losses[place] = float(torch.nn.functional.cross_entropy(own, answer, reduction="sum"))
    return losses


@torch.no_grad()
def answer_token_log_probs(
    backbone: Backbone,
    rows: Sequence[TokenRow],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    batch_tokens: int,
) -> list[list[float]]:
    """Log-probability of each token of each row's answer after those before it; see ``answer_losses``."""
    found: list[list[float]] = [[] for _ in rows]
    for place, own, answer in _read(backbone, rows, slots, shift, positions, batch_tokens):
        found[place] = (-torch.nn.functional.cross_entropy(own, answer, reduction="none")).tolist()
    return found


def _read(
    backbone: Backbone,
    rows: Sequence[TokenRow],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    batch_tokens: int,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each row's place, the logits [answer, vocabulary] that foretell its answer, fp32, and the answer's tokens [answer]."""
    for batch in batches([row.input_ids for row in rows], batch_tokens, None):
        # Padding stands in front, so that answers are the last tokens of all rows and need the only logits.
        ids, mask, starts = left_padded([rows[i].input_ids for i in batch], backbone.device)
        prompts = [len(rows[i].prompt_ids) for i in batch]
        plan = EditPlan.for_prompts(
            positions, prompts, [slots[i] for i in batch], starts=starts, device=backbone.device
        )
        logits = running(
            partial(backbone.logits, ids, mask, plan, shift),
            backbone.head_on_last(max(len(rows[i].answer_ids) for i in batch)),
        )
        for row, i in enumerate(batch):
            answer = torch.tensor(rows[i].answer_ids, device=logits.device)
            yield i, logits[row, -len(answer) :].float(), answer
