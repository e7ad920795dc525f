"""Greedy answers while something of a method's own changes the base row by row: rows keep their places to the end.

``inference.generate`` may gather rows anew, or run what they share once; a change that belongs to rows would get lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.room import check_room
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.inference.batches import Tokens, batches
from perfit.inference.label_set import Answers, Within, most_tokens, only


@torch.no_grad()
def greedy(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    limit: int,
    scores: Callable[[Tensor], Tensor] = lambda logits: logits,
    within: Sequence[Answers] | None = None,
    changes: Changes = NOTHING,
) -> list[str]:
    """The text after each prompt of one batch, padded on the left.

    Args:
        backbone: The base.
        prompts: Token ids.
        limit: Most new tokens; no less than the longest answer of ``within`` has.
        scores: Turns logits [rows, vocabulary] in fp32 into scores whose largest wins.
        within: The answers that each row may give; None leaves it free.
        changes: What the method does to the base's states, in all forwards of this batch.
    """
    ids, mask, _ = left_padded(prompts, backbone.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, stops = DynamicCache(config=backbone.model.config), _stops(backbone)
    answers: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    last = backbone.head_on(lambda states: states[:, -1:].contiguous())
    for _ in range(limit):
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
        call = partial(backbone.model, **inputs, use_cache=True)
        ranked = scores(running(call, changes, last).logits[:, -1].float())
        chosen = (ranked if within is None else only(ranked, within, answers)).argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            if within is not None:
                going[row] = going[row] and not within[row].take(answers[row], token)
                continue
            going[row] = going[row] and token not in stops
            if going[row]:
                answers[row].append(token)
        if not any(going):
            break
        ids = chosen.unsqueeze(1)
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        positions = positions[:, -1:] + 1
    if within is not None:
        return [own.texts[tuple(tokens)] for own, tokens in zip(within, answers, strict=True)]
    return [backbone.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in answers]


def answer_changed(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    limit: int,
    done: Callable[[int], None],
    during: Callable[[Sequence[int]], Changes],
    within: Within | None = None,
) -> list[str]:
    """The answer to each prompt, in order, batch by batch.

    Args:
        backbone: The base.
        prompts: Token ids.
        limit: Most new tokens.
        done: Called with the number of prompts finished.
        during: What the method does in the forwards of a batch, from the indices of its rows in their order.
        within: The answers a prompt may get; None for any text.

    Raises:
        ConfigError: A prompt and its answer do not fit the base.
    """
    if not prompts:
        return []
    limit = most_tokens(within, prompts, limit)
    check_room(backbone, max(map(len, prompts)), limit)
    texts = [""] * len(prompts)
    for batch in batches([len(prompt) for prompt in prompts]):
        rows = [prompts[i] for i in batch]
        own = None if within is None else list(map(within, rows))
        answers = greedy(backbone, rows, limit, within=own, changes=during(batch))
        for index, text in zip(batch, answers, strict=True):
            texts[index] = text
        done(len(batch))
    return texts


def _stops(backbone: Backbone) -> set[int]:
    own = backbone.model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), backbone.tokenizer.eos_token_id} - {None}
