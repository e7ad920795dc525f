"""Greedy answers while something of a method's own changes the base row by row: rows keep their places to the end.

``backbone.generate`` may gather rows anew, or run what they share once; a change that belongs to rows would get lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from transformers import DynamicCache

from perfit.backbone.generate import left_padded
from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.methods.answer import Tokens, batches
from perfit.methods.method import Done
from perfit.methods.tuning import head_on


def likeliest(logits: Tensor) -> Tensor:
    """The most likely token [rows] of logits [rows, vocabulary]."""
    return logits.argmax(-1)


@torch.no_grad()
def greedy(
    backbone: Backbone, prompts: Sequence[Tokens], limit: int, choose: Callable[[Tensor], Tensor] = likeliest
) -> list[str]:
    """The text after each prompt of one batch, padded on the left.

    Args:
        backbone: The base, in whatever state the method has put it.
        prompts: Token ids.
        limit: Most new tokens.
        choose: The next tokens [rows] from logits [rows, vocabulary] in fp32.
    """
    ids, mask, _ = left_padded(prompts, backbone.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache, stops = DynamicCache(config=backbone.model.config), _stops(backbone)
    answers: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    for _ in range(limit):
        with head_on(backbone, lambda states: states[:, -1:].contiguous()):
            out = backbone.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
        chosen = choose(out.logits[:, -1].float())
        for row, token in enumerate(chosen.tolist()):
            going[row] = going[row] and token not in stops
            if going[row]:
                answers[row].append(token)
        if not any(going):
            break
        ids = chosen.unsqueeze(1)
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        positions = positions[:, -1:] + 1
    return [backbone.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in answers]


def answer_changed(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    limit: int,
    done: Done,
    during: Callable[[Sequence[int]], AbstractContextManager[None]],
) -> list[str]:
    """The answer to each prompt, in order, batch by batch.

    Args:
        backbone: The base.
        prompts: Token ids.
        limit: Most new tokens.
        done: Called with the number of prompts finished.
        during: What changes the base for a batch, from the indices of its rows in their order.

    Raises:
        ConfigError: A prompt and its answer do not fit the base.
    """
    if not prompts:
        return []
    check_room(backbone, max(map(len, prompts)), limit)
    texts = [""] * len(prompts)
    for batch in batches([len(prompt) for prompt in prompts]):
        with during(batch):
            answers = greedy(backbone, [prompts[i] for i in batch], limit)
        for index, text in zip(batch, answers, strict=True):
            texts[index] = text
        done(len(batch))
    return texts


def _stops(backbone: Backbone) -> set[int]:
    own = backbone.model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), backbone.tokenizer.eos_token_id} - {None}
