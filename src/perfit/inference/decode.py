"""Answer a batch of prompts token by token: rows that are through leave, and only the prompt is ever edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.inference.decode_cache import DecodeCache
from perfit.inference.label_set import Answers, only
from perfit.inference.prefill import prefilled

_LEAVE = 0.25  # share of rows that are through before the others are gathered anew

Scores = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def decode(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    *,
    limit: int,
    stops: Sequence[int],
    scores: Scores | None = None,
    within: Sequence[Answers] | None = None,
    through_with: Callable[[Sequence[int]], bool] | None = None,
    done: Callable[[int], None] = lambda rows: None,
) -> list[list[int]]:
    """The tokens that follow each prompt, up to and without the first stop; or one of its given answers, with its eos.

    Args:
        prompts: Token ids of each row.
        slots: (collective slot, personal slot) of each row.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited.
        limit: Most new tokens.
        stops: Tokens that end an answer.
        scores: Turns logits [rows, vocabulary] of some rows, given by number [rows], into scores whose largest wins.
        within: The answers that each row may give; None leaves it free.
        through_with: Whether a row's tokens so far end its answer, besides ``stops``; they stay part of it.
        done: Called with the number of rows that got through.
    """
    device, count = backbone.device, len(prompts)
    width = max(map(len, prompts))
    starts = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[0] * s + list(p) for s, p in zip(starts, prompts, strict=True)], device=device)
    mask = torch.tensor([[0] * s + [1] * len(p) for s, p in zip(starts, prompts, strict=True)], device=device)
    plan = EditPlan.for_prompts(positions, list(map(len, prompts)), slots, starts=starts, device=device)
    reach = positions.suffix_reach
    cache = prefilled(backbone, prompts, reach) if reach is not None else None
    cache = cache if cache is not None else DecodeCache()
    room = torch.zeros(count, width + limit, dtype=mask.dtype, device=device)
    room[:, :width] = mask
    where = (mask.cumsum(-1) - 1).clamp(min=0)
    edits = backbone.edits(plan, shift)
    logits = _forward(backbone, ids[:, cache.seen :], room[:, :width], where[:, cache.seen :], cache, edits)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(count)  # which prompt each row of the batch is
    going = [True] * count
    lengths = torch.tensor(list(map(len, prompts)), device=device)
    for step in range(limit):
        ranked = logits if scores is None else scores(logits, rows)
        if within is not None:
            ranked = only(ranked, [within[row] for row in rows.tolist()], [answers[row] for row in rows.tolist()])
        chosen = ranked.argmax(-1)
        through = 0
        for place, (row, token) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
            if not going[place]:
                continue
            if within is not None:
                ended = within[row].take(answers[row], token)
            elif not (ended := token in stops):
                answers[row].append(token)
                ended = through_with is not None and through_with(answers[row])
            going[place] = not ended
            through += ended
        if through:
            done(through)
        left = sum(going)
        if not left or step + 1 == limit:
            done(left)
            break
        if left <= (1 - _LEAVE) * len(going):
            keep = torch.tensor([place for place, stays in enumerate(going) if stays])
            rows, on_device = rows[keep], keep.to(device)
            room, lengths, chosen = room[on_device], lengths[on_device], chosen[on_device]
            cache.keep(on_device)
            going = [True] * left
        room[:, width + step] = 1
        seen = room[:, : width + step + 1]
        logits = _forward(backbone, chosen.unsqueeze(1), seen, (lengths + step).unsqueeze(1), cache)
    return answers


def _forward(
    backbone: Backbone, ids: Tensor, mask: Tensor, where: Tensor, cache: DecodeCache, edits: Changes = NOTHING
) -> Tensor:
    """Logits [rows, vocabulary] after the last token, fp32."""
    keeps: dict[str, Any] = {"logits_to_keep": 1} if _keeps_logits(backbone.model) else {}
    out = running(
        lambda: backbone.model(
            input_ids=ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True, **keeps
        ),
        edits,
        backbone.head_on(),
    )
    cache.advance(ids.shape[1])
    logits: Tensor = out.logits[:, -1].float()
    return logits


def _keeps_logits(model: Any) -> bool:
    supports = getattr(model, "_supports_logits_to_keep", None)
    return bool(supports and supports())
