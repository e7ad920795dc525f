"""Answer a batch of prompts token by token: rows that are through leave, and only the prompt is ever edited."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded, places
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.inference.decode_cache import DecodeCache
from perfit.inference.label_set import LabelSet, only
from perfit.inference.prefill import prefilled

_LEAVE = 0.25  # share of rows that are through before the others are gathered anew

Said = tuple[int, int | None]
"""The number of a row and its next token; None once, where the row is through."""


@dataclass(frozen=True)
class Choice:
    """How each row's next token is chosen, and what ends a row.

    Attributes:
        limit: Most new tokens.
        stops: Tokens that end an answer, and are no part of it.
        control: Changes logits [rows, vocabulary], given each row's tokens so far, its prompt included.
        scores: Turns such logits of some rows, given by number [rows], into scores whose largest wins.
        within: The answers that each row may give; None leaves it free. Then the answer's eos is part of it.
        through_with: Whether a row (its number, its tokens so far) ends with its last token, which stays part of it.
    """

    limit: int
    stops: Collection[int] = ()
    control: Callable[[Tensor, Sequence[Sequence[int]]], Tensor] | None = None
    scores: Callable[[Tensor, Tensor], Tensor] | None = None
    within: Sequence[LabelSet] | None = None
    through_with: Callable[[int, Sequence[int]], bool] | None = None


def decode(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    choice: Choice,
    done: Callable[[int], None] = lambda rows: None,
) -> list[list[int]]:
    """The tokens that follow each prompt, as ``edited_steps`` says them."""
    return collected(len(prompts), edited_steps(backbone, prompts, slots, shift, positions, choice, done))


def collected(rows: int, said: Iterable[Said]) -> list[list[int]]:
    """The tokens of each of so many rows."""
    answers: list[list[int]] = [[] for _ in range(rows)]
    for row, token in said:
        if token is not None:
            answers[row].append(token)
    return answers


@torch.no_grad()
def edited_steps(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    choice: Choice,
    done: Callable[[int], None] = lambda rows: None,
) -> Iterator[Said]:
    """What rows say whose prompts their owners' shifts edit, as it comes.

    Args:
        backbone: The base.
        prompts: Token ids of each row.
        slots: (collective slot, personal slot) of each row.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited.
        choice: Of the tokens.
        done: Called with the number of rows that got through.
    """
    width, lengths = max(map(len, prompts)), list(map(len, prompts))
    starts = [width - length for length in lengths]
    plan = EditPlan.for_prompts(positions, lengths, slots, starts=starts, device=backbone.device)
    reach = positions.suffix_reach
    cache = prefilled(backbone, prompts, reach) if reach is not None else None
    edits = backbone.edits(plan, shift)
    yield from steps(backbone, prompts, choice, done, at_prompt=edits, cache=cache)


@torch.no_grad()
def steps(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    choice: Choice,
    done: Callable[[int], None] = lambda rows: None,
    *,
    at_prompt: Changes = NOTHING,
    always: Changes = NOTHING,
    cache: DecodeCache | None = None,
    leave: bool = True,
) -> Iterator[Said]:
    """What rows say, as it comes.

    Args:
        backbone, prompts, choice, done: As for ``edited_steps``.
        at_prompt: Changes of the prompts' forward.
        always: Changes of all forwards.
        cache: Holds the beginnings of the prompts, padded on the left, when they have run already.
        leave: Whether rows that are through leave the batch; what belongs to rows by their places needs them to stay.
    """
    cache, device, count, limit = cache or DecodeCache(), backbone.device, len(prompts), choice.limit
    ids, mask, _ = left_padded(prompts, device)
    width = ids.shape[1]
    room = torch.zeros(count, width + limit, dtype=mask.dtype, device=device)
    room[:, :width] = mask
    first = places(mask)[:, cache.seen :]
    logits = _forward(backbone, ids[:, cache.seen :], room[:, :width], first, cache, at_prompt, always)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(count)  # which prompt each row of the batch is
    going = [True] * count
    lengths = torch.tensor(list(map(len, prompts)), device=device)
    for step in range(limit):
        chosen = _chosen(logits, rows, prompts, answers, choice)
        through = 0
        for place, (row, token) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
            if not going[place]:
                continue
            before, own = len(answers[row]), answers[row]
            if choice.within is not None:
                ended = choice.within[row].take(own, token)
            elif not (ended := token in choice.stops):
                own.append(token)
            for new in own[before:]:
                yield row, new
            if not ended and choice.through_with is not None:
                ended = choice.through_with(row, own)
            if ended:
                yield row, None
            going[place] = not ended
            through += ended
        if through:
            done(through)
        left = sum(going)
        if not left or step + 1 == limit:
            done(left)
            yield from ((row, None) for place, row in enumerate(rows.tolist()) if going[place])
            break
        if leave and left <= (1 - _LEAVE) * len(going):
            keep = torch.tensor([place for place, stays in enumerate(going) if stays])
            rows, on_device = rows[keep], keep.to(device)
            room, lengths, chosen = room[on_device], lengths[on_device], chosen[on_device]
            cache.keep(on_device)
            going = [True] * left
        room[:, width + step] = 1
        seen = room[:, : width + step + 1]
        logits = _forward(backbone, chosen.unsqueeze(1), seen, (lengths + step).unsqueeze(1), cache, always)


def _chosen(
    logits: Tensor,
    rows: Tensor,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    choice: Choice,
) -> Tensor:
    """The next token of some rows, [rows]."""
    numbers = rows.tolist()
    if choice.control is not None:
        logits = choice.control(logits, [[*prompts[row], *answers[row]] for row in numbers])
    if choice.scores is not None:
        logits = choice.scores(logits, rows)
    if choice.within is not None:
        logits = only(logits, [choice.within[row] for row in numbers], [answers[row] for row in numbers])
    return logits.argmax(-1)


def _forward(
    backbone: Backbone, ids: Tensor, mask: Tensor, where: Tensor, cache: DecodeCache, *changes: Changes
) -> Tensor:
    """Logits [rows, vocabulary] after the last token, fp32."""
    out = running(
        lambda: backbone.model(
            input_ids=ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True
        ),
        *changes,
        backbone.head_on_last(),
    )
    cache.advance(ids.shape[1])
    logits: Tensor = out.logits[:, -1].float()
    return logits
