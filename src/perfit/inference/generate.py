"""Generation for many owners at once: edited at the prompt, untouched afterwards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import DataError
from perfit.inference.batches import batches
from perfit.inference.chance import chance_of
from perfit.inference.decode import Choice, decode, edited_steps
from perfit.inference.decoding import Decoding
from perfit.inference.ends import end_tokens
from perfit.inference.growing_text import GrowingText, text_of
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
        backbone: The base.
        prompts: Token ids of each prompt.
        slots: (collective slot, personal slot) of each prompt; every row may have another owner.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited.
        decoding: How tokens are chosen.
        done: Called with the number of prompts finished.
    """
    texts = [""] * len(prompts)
    for places in _batches(prompts, decoding):
        asked, owners = [prompts[i] for i in places], [slots[i] for i in places]
        batch = _Batch(backbone, asked, owners, shift, positions, decoding)
        for i, text in zip(places, batch.texts(done), strict=True):
            texts[i] = text
    return texts


def stream(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    decoding: Decoding,
) -> Iterator[tuple[int, str]]:
    """The texts of ``generate`` in pieces, as they come: (number of the prompt, what its text goes on with).

    Beams and given answers are known at their end only: each is one piece.

    Args:
        backbone, prompts, slots, shift, positions, decoding: As for ``generate``.
    """
    for places in _batches(prompts, decoding):
        asked, owners = [prompts[i] for i in places], [slots[i] for i in places]
        for row, piece in _Batch(backbone, asked, owners, shift, positions, decoding).pieces():
            if piece:
                yield places[row], piece


def choice_of(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    through_with: Callable[[int, Sequence[int]], bool] | None = None,
) -> Choice:
    """How the tokens after some prompts are chosen, and what ends them; ``through_with`` finds stop strings."""
    within, tokenizer = decoding.within, backbone.tokenizer
    if decoding.stop and through_with is None:

        def through_with(row: int, tokens: Sequence[int]) -> bool:
            return stops(text_of(tokenizer, tokens), decoding.stop)

    return Choice(
        limit=most_tokens(within, prompts, decoding.max_new_tokens),
        stops=end_tokens(backbone, decoding.stop),
        control=decoding.repetition,
        scores=_sampler(prompts, decoding) if decoding.sample else None,
        within=None if within is None else list(map(within, prompts)),
        through_with=through_with,
    )


def finished(
    backbone: Backbone, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], decoding: Decoding
) -> list[str]:
    """The text of each prompt's tokens."""
    if decoding.within is not None:
        return [decoding.within(prompt).text_of(said) for prompt, said in zip(prompts, answers, strict=True)]
    return [until_stop(text_of(backbone.tokenizer, tokens), decoding.stop) for tokens in answers]


def _batches(prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise DataError("the prompt has no tokens", record=f"prompt {number}", remedy="give a text")
    return batches(prompts, decoding.batch_tokens, decoding.batch_rows)


@dataclass(frozen=True)
class _Batch:
    """Prompts that run together; fields as the arguments of ``generate``."""

    backbone: Backbone
    prompts: Sequence[Sequence[int]]
    slots: Sequence[tuple[int, int]]
    shift: TwoStageShift
    positions: Positions
    decoding: Decoding

    def pieces(self) -> Iterator[tuple[int, str]]:
        """What the rows say, as it comes."""
        decoding = self.decoding
        if decoding.beams > 1 or decoding.within is not None:
            yield from enumerate(self.texts(lambda rows: None))
            return
        growing = [GrowingText(self.backbone.tokenizer, decoding.stop) for _ in self.prompts]
        choice = choice_of(self.backbone, self.prompts, decoding, lambda row, tokens: growing[row].ended)
        for row, token in edited_steps(self.backbone, self.prompts, self.slots, self.shift, self.positions, choice):
            yield row, growing[row].rest() if token is None else growing[row].take(token)

    def texts(self, done: Callable[[int], None]) -> list[str]:
        """The rows' answers."""
        if self.decoding.beams > 1:
            answers = self._beams()
            done(len(self.prompts))
        else:
            choice = choice_of(self.backbone, self.prompts, self.decoding)
            answers = decode(self.backbone, self.prompts, self.slots, self.shift, self.positions, choice, done)
        return finished(self.backbone, self.prompts, answers, self.decoding)

    @torch.no_grad()
    def _beams(self) -> list[list[int]]:
        """Beam search by transformers."""
        from transformers import GenerationConfig, LogitsProcessorList

        backbone, decoding = self.backbone, self.decoding
        pad, ends = backbone.tokenizer.pad_token_id, sorted(end_tokens(backbone, decoding.stop))
        settings = GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            num_beams=decoding.beams,
            eos_token_id=ends,
            pad_token_id=pad if pad is not None else next(iter(ends), 0),
        )
        ids, mask, starts = left_padded(self.prompts, backbone.device)
        lengths = list(map(len, self.prompts))
        plan = EditPlan.for_prompts(self.positions, lengths, self.slots, starts=starts, device=backbone.device)
        # Transformers fills whatever is unset from the model's own settings, and a base that brings, say, a repetition
        # penalty would not be decoded greedily. They are kept out of a copy, which shares all but its attributes.
        bare = copy.copy(backbone.model)
        bare.generation_config = GenerationConfig()
        rules: Any = LogitsProcessorList()
        if (repetition := decoding.repetition) is not None:
            # Transformers would take the padding in front for something said.
            rules.append(lambda said, scores: repetition(scores, _unpadded(said.tolist(), starts)))
        out = running(
            lambda: bare.generate(
                input_ids=ids, attention_mask=mask, generation_config=settings, logits_processor=rules
            ),
            backbone.edits(plan, self.shift),
            backbone.head_on(),
        )
        return [_until(tokens, ends) for tokens in out[:, ids.shape[1] :].tolist()]


def _sampler(
    prompts: Sequence[Sequence[int]], decoding: Decoding
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
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
    sources = [chance_of(decoding.seed, prompt) for prompt in prompts]

    def scores(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        warped: torch.Tensor = warpers(None, logits)
        noise = torch.stack(
            [torch.empty(logits.shape[1]).exponential_(generator=sources[row]) for row in rows.tolist()]
        )
        return warped - noise.log().to(warped)

    return scores


def _unpadded(rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Sequence[int]]:
    """Rows without the padding in front; as many in a row belong to one start as there are beams."""
    beams = len(rows) // len(starts)
    return [row[starts[number // beams] :] for number, row in enumerate(rows)]


def _until(tokens: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The tokens before the first stop: what follows it is padding, whatever id that has."""
    for place, token in enumerate(tokens):
        if token in stops:
            return list(tokens[:place])
    return list(tokens)
