"""Generation for many owners at once: edited at the prompt, untouched afterwards."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import DataError
from perfit.inference.decode import Scores, decode
from perfit.inference.decoding import Decoding
from perfit.inference.label_set import most_tokens
from perfit.stop_strings import stops, until_stop


def generate(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    decoding: Decoding,
    done: Callable[[int], None] = lambda rows: None,
) -> list[str]:
    """The text that follows each prompt, special tokens left out, in the order of ``prompts``.

    Args:
        prompts: Token ids of each prompt.
        slots: (collective slot, personal slot) of each prompt; every row may have another owner.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited.
        decoding: How tokens are chosen.
        done: Called with the number of prompts finished.
    """
    tokenizer, within = backbone.tokenizer, decoding.within
    own: Any = backbone.model.generation_config
    eos = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    ends = {*(eos if isinstance(eos, list) else [eos]), tokenizer.eos_token_id} - {None}
    if decoding.stop:  # a control token's name never stands in a text: the token itself is what ends the answer
        ends |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.content in decoding.stop}
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise DataError("the prompt has no tokens", record=f"prompt {number}", remedy="give a text")
    texts = [""] * len(prompts)

    def text_of(tokens: Sequence[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    # Equal prompts of different users side by side: what they share is computed once.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i]), i))
    begin = 0
    while begin < len(order):
        rows = max(min(decoding.batch_tokens // len(prompts[order[begin]]), decoding.batch_rows), 1)
        batch = order[begin : begin + rows]
        asked, owners = [prompts[i] for i in batch], [slots[i] for i in batch]
        if decoding.beams > 1:
            answers = _beams(backbone, asked, owners, shift, positions, decoding, sorted(ends))
            done(len(batch))
        else:
            answers = decode(
                backbone,
                asked,
                owners,
                shift,
                positions,
                limit=most_tokens(within, asked, decoding.max_new_tokens),
                stops=sorted(ends),
                scores=_sampler(asked, decoding) if decoding.sample else None,
                within=None if within is None else [within(prompt) for prompt in asked],
                through_with=(lambda tokens: stops(text_of(tokens), decoding.stop)) if decoding.stop else None,
                done=done,
            )
        for index, tokens in zip(batch, answers, strict=True):
            texts[index] = (
                until_stop(text_of(tokens), decoding.stop)
                if within is None
                else within(prompts[index]).texts[tuple(tokens)]
            )
        begin += rows
    return texts


@torch.no_grad()
def _beams(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    decoding: Decoding,
    stops: Sequence[int],
) -> list[list[int]]:
    """Beam search by transformers."""
    from transformers import GenerationConfig

    pad = backbone.tokenizer.pad_token_id
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        num_beams=decoding.beams,
        eos_token_id=list(stops),
        pad_token_id=pad if pad is not None else next(iter(stops), 0),
    )
    ids, mask, starts = left_padded(prompts, backbone.device)
    plan = EditPlan.for_prompts(positions, list(map(len, prompts)), slots, starts=starts, device=backbone.device)
    # Transformers fills whatever is unset from the model's own settings, and a base that brings, say, a repetition
    # penalty would not be decoded greedily. They are kept out of a copy, which shares all but its attributes.
    bare = copy.copy(backbone.model)
    bare.generation_config = GenerationConfig()
    out = running(
        lambda: bare.generate(input_ids=ids, attention_mask=mask, generation_config=settings),
        backbone.edits(plan, shift),
        backbone.head_on(),
    )
    return [_until(tokens, stops) for tokens in out[:, ids.shape[1] :].tolist()]


def _sampler(prompts: Sequence[Sequence[int]], decoding: Decoding) -> Scores:
    """Sampling as scores of the logits, so that greedy choice among them draws from the wanted distribution.

    Adding Gumbel noise and taking the largest is sampling. Each row's noise depends on the seed and its own prompt
    alone, so no row's answer changes with the rows beside it, which one generator for a batch could not promise.
    """
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers = LogitsProcessorList(
        [
            TemperatureLogitsWarper(float(decoding.temperature)),
            TopKLogitsWarper(decoding.top_k),
            TopPLogitsWarper(float(decoding.top_p)),
        ]
    )
    texts = [" ".join(map(str, [decoding.seed, *prompt])) for prompt in prompts]
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") for text in texts]
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]

    def scores(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        warped: torch.Tensor = warpers(None, logits)
        noise = torch.stack(
            [torch.empty(logits.shape[1]).exponential_(generator=sources[row]) for row in rows.tolist()]
        )
        return warped - noise.log().to(warped)

    return scores


def _until(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The tokens before the first stop: what follows it is padding, whatever id that has."""
    for place, token in enumerate(tokens):
        if token in stops:
            return list(tokens[:place])
    return list(tokens)
