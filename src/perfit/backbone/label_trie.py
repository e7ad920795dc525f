"""Exact log-probabilities of all labels after a prompt: the prompt runs once, and only the labels' own tokens after it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.generate import contiguous_head, left_padded
from perfit.backbone.model import Backbone
from perfit.errors import ConfigError
from perfit.plan import EditPlan, TwoStageShift
from perfit.positions import Positions

_BATCH_TOKENS = 16384  # of prompts in one forward, and of prompts repeated per label in the next
_BATCH_ROWS = 64


@dataclass(frozen=True)
class LabelTrie:
    """The token sequences of all labels, and what must run to score them.

    The first token of every label is scored by the prompt itself, the last one never runs. A label whose tokens begin
    another label's ("science", "science fiction") is scored on that one's path.

    Attributes:
        answers: Each label's tokens, the closing eos included.
        paths: Token sequences to run after the prompt, none of which begins another.
        path_of: Per label the index of its path; -1 where the prompt alone scores it.
    """

    answers: tuple[tuple[int, ...], ...]
    paths: tuple[tuple[int, ...], ...]
    path_of: tuple[int, ...]

    @classmethod
    def of(cls, answers: Sequence[Sequence[int]]) -> LabelTrie:
        """A trie of these labels.

        Raises:
            ConfigError: There is no label, one has no tokens, or two have the same.
        """
        kept = tuple(tuple(answer) for answer in answers)
        if not kept or not all(kept):
            raise ConfigError("labels: every label needs at least one token; give labels that are not empty")
        if len(set(kept)) != len(kept):
            raise ConfigError("labels: two labels have the same tokens; give labels that the tokenizer tells apart")
        # In sorted order a sequence is followed by those that it begins.
        inner = sorted({answer[:-1] for answer in kept} - {()})
        paths = tuple(path for path, after in zip(inner, [*inner, ()][1:], strict=True) if after[: len(path)] != path)

        def place(answer: tuple[int, ...]) -> int:
            run = answer[:-1]
            return next(i for i, path in enumerate(paths) if path[: len(run)] == run) if run else -1

        return cls(kept, paths, tuple(map(place, kept)))

    def steps(self, length: int) -> tuple[list[int], list[tuple[int, int, int, int]]]:
        """The paths of one length, and what is read off them: (place among them, column, token, label)."""
        chosen = [i for i, path in enumerate(self.paths) if len(path) == length]
        read = [
            (chosen.index(path), column, answer[column + 1], label)
            for label, (answer, path) in enumerate(zip(self.answers, self.path_of, strict=True))
            if path in chosen
            for column in range(len(answer) - 1)
        ]
        return chosen, read


def label_log_probs(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    trie: LabelTrie,
    *,
    batch_tokens: int = _BATCH_TOKENS,
    batch_rows: int = _BATCH_ROWS,
    done: Callable[[int], None] = lambda rows: None,
) -> Tensor:
    """Log-probability of every label, its closing eos included, after each prompt: [prompts, labels], fp32.

    Equals the sum of the log-probabilities in a forward of its own per prompt and label. The prompt's keys and values
    are repeated per path, and paths of one length run side by side, so that this holds for every family: no mask is
    needed that a family might not know.

    Args:
        prompts: Token ids of each prompt.
        slots: (collective slot, personal slot) of each prompt; every row may have another owner.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited; labels never are.
        trie: The labels.
        batch_tokens: Most tokens, padding and kept ones included, of one forward.
        batch_rows: Most prompts of one forward.
        done: Called with the number of prompts finished.
    """
    scores = torch.empty(len(prompts), len(trie.answers))
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    begin = 0
    while begin < len(order):
        rows = max(min(batch_tokens // len(prompts[order[begin]]), batch_rows), 1)
        batch = order[begin : begin + rows]
        chosen = [prompts[i] for i in batch]
        ids, mask, starts = left_padded(chosen, backbone.device)
        plan = EditPlan.for_prompts(
            positions, [len(p) for p in chosen], [slots[i] for i in batch], starts=starts, device=backbone.device
        )
        with torch.no_grad(), contiguous_head(backbone.model):
            first, cache = _prompts(backbone, ids, mask, plan, shift)
            found = _score(backbone, first, cache, mask, trie, batch_tokens)
        scores[batch] = found.cpu()
        done(len(batch))
        begin += rows
    return scores


def _prompts(backbone: Backbone, ids: Tensor, mask: Tensor, plan: EditPlan, shift: TwoStageShift) -> tuple[Tensor, Any]:
    """Logits [rows, vocabulary] after the prompts, and their keys and values."""
    some: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(type(backbone.model).forward).parameters:
        some["logits_to_keep"] = 1
    with backbone.editing(plan, shift):
        out = backbone.model(
            input_ids=ids, attention_mask=mask, position_ids=_position_ids(mask), use_cache=True, **some
        )
    return out.logits[:, -1].float(), out.past_key_values


def _score(backbone: Backbone, first: Tensor, cache: Any, mask: Tensor, trie: LabelTrie, batch_tokens: int) -> Tensor:
    rows, width = mask.shape
    opening = torch.tensor([answer[0] for answer in trie.answers], device=mask.device)
    scores = first[:, opening] - first.logsumexp(-1, keepdim=True)
    for length in sorted(set(map(len, trie.paths))):
        chosen, read = trie.steps(length)
        tokens = torch.tensor([trie.paths[i] for i in chosen], device=mask.device)
        place, column, token, label = (torch.tensor(part, device=mask.device) for part in zip(*read, strict=True))
        size = max(batch_tokens // (len(chosen) * (width + length)), 1)
        for begin in range(0, rows, size):
            group = torch.arange(begin, min(begin + size, rows), device=mask.device)
            index = group.repeat_interleave(len(chosen))
            whole = torch.cat([mask[index], torch.ones(len(index), length, dtype=mask.dtype, device=mask.device)], 1)
            logits = backbone.model(
                input_ids=tokens.repeat(len(group), 1),
                attention_mask=whole,
                position_ids=_position_ids(whole)[:, width:],
                past_key_values=_rows_of(cache, index),
                use_cache=True,
            ).logits.float()
            logits = logits.unflatten(0, (len(group), len(chosen)))
            found = logits[:, place, column, token] - logits.logsumexp(-1)[:, place, column]
            scores[group] = scores[group].index_add(1, label, found)
    return scores


def _position_ids(mask: Tensor) -> Tensor:
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def _rows_of(cache: Any, index: Tensor) -> Any:
    """A cache of these rows, some of them several times; the given one stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(index)
    return chosen
