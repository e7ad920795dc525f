"""Exact log-probabilities of all labels after a prompt: the prompt runs once, and only the labels' own tokens after it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.inference.decode_cache import DecodeCache
from perfit.inference.prefill import prefilled

_BATCH_TOKENS = 16384  # of prompts in one forward, and of prompts repeated per label in the next
_BATCH_ROWS = 64
_ANSWER_TOKENS = (
    8192  # where each prompt has an answer of its own, which may be long: logits of all its tokens are held
)


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

    def read(self, path: int) -> list[tuple[int, int, int]]:
        """What is read off a path: (column, token, label)."""
        return [
            (column, answer[column + 1], label)
            for label, (answer, own) in enumerate(zip(self.answers, self.path_of, strict=True))
            if own == path
            for column in range(len(answer) - 1)
        ]


@torch.no_grad()
def label_log_probs(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    trie: LabelTrie,
    *,
    best_only: bool = False,
    batch_tokens: int = _BATCH_TOKENS,
    batch_rows: int = _BATCH_ROWS,
    done: Callable[[int], None] = lambda rows: None,
) -> Tensor:
    """Log-probability of every label, its closing eos included, after each prompt: [prompts, labels], fp32.

    Equals the sum of the log-probabilities in a forward of its own per prompt and label. A prompt's keys and values
    are repeated per path, and paths of one length run side by side, so that this holds for every family: no mask is
    needed that a family might not know.

    Args:
        backbone: The base.
        prompts: Token ids of each prompt.
        slots: (collective slot, personal slot) of each prompt; every row may have another owner.
        shift: The banks the slots point into.
        positions: Which prompt tokens are edited; labels never are.
        trie: The labels.
        best_only: Leave out, at minus infinity, labels that cannot be the most probable: those whose first token alone
            is less probable than a whole other label.
        batch_tokens: Most tokens, padding and kept ones included, of one forward.
        batch_rows: Most prompts of one forward.
        done: Called with the number of prompts finished.
    """
    scores = torch.empty(len(prompts), len(trie.answers))
    for batch in _batches(prompts, batch_tokens, batch_rows):
        asked = _Asked.of(backbone, [prompts[i] for i in batch], [slots[i] for i in batch], shift, positions)
        found = asked.best(trie, batch_tokens) if best_only else asked.all(trie, batch_tokens)
        scores[batch] = found.cpu()
        done(len(batch))
    return scores


@torch.no_grad()
def answer_log_probs(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    *,
    batch_tokens: int = _ANSWER_TOKENS,
    batch_rows: int = _BATCH_ROWS,
    done: Callable[[int], None] = lambda rows: None,
) -> list[float]:
    """Log-probability of one answer, its closing eos included, after each prompt, in the order of the prompts.

    Args:
        backbone, prompts, slots, shift, positions, batch_tokens, batch_rows, done: As in ``label_log_probs``.
        answers: Token ids of each prompt's answer, at least one.
    """
    found = [0.0] * len(prompts)
    for batch in _batches(prompts, batch_tokens, batch_rows):
        asked = _Asked.of(backbone, [prompts[i] for i in batch], [slots[i] for i in batch], shift, positions)
        trie = LabelTrie.of(list(dict.fromkeys(tuple(answers[i]) for i in batch)))
        number = {answer: place for place, answer in enumerate(trie.answers)}
        own = [number[tuple(answers[i])] for i in batch]
        for i, value in zip(batch, asked.chosen(trie, own, batch_tokens).tolist(), strict=True):
            found[i] = value
        done(len(batch))
    return found


def _batches(prompts: Sequence[Sequence[int]], batch_tokens: int, batch_rows: int) -> Iterator[list[int]]:
    """Row numbers of each forward; equal prompts of different users stand side by side: what they share is computed once."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i]), i))
    begin = 0
    while begin < len(order):
        rows = max(min(batch_tokens // len(prompts[order[begin]]), batch_rows), 1)
        yield order[begin : begin + rows]
        begin += rows


@dataclass(frozen=True)
class _Asked:
    """Prompts that have run.

    Attributes:
        mask: [rows, width], 0 on the padding in front.
        cache: Their keys and values.
        log_probs: [rows, vocabulary] of the first token after them.
    """

    backbone: Backbone
    mask: Tensor
    cache: DecodeCache
    log_probs: Tensor

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        prompts: Sequence[Sequence[int]],
        slots: Sequence[tuple[int, int]],
        shift: TwoStageShift,
        positions: Positions,
    ) -> _Asked:
        ids, mask, starts = left_padded(prompts, backbone.device)
        plan = EditPlan.for_prompts(positions, list(map(len, prompts)), slots, starts=starts, device=backbone.device)
        reach = positions.suffix_reach
        cache = (None if reach is None else prefilled(backbone, prompts, reach)) or DecodeCache()
        keeps = "logits_to_keep" in inspect.signature(type(backbone.model).forward).parameters
        seen = cache.seen
        logits = running(
            lambda: backbone.model(
                input_ids=ids[:, seen:],
                attention_mask=mask,
                position_ids=_position_ids(mask)[:, seen:],
                past_key_values=cache,
                use_cache=True,
                **({"logits_to_keep": 1} if keeps else {}),
            ).logits[:, -1],
            backbone.edits(plan, shift),
            backbone.head_on(),
        )
        cache.advance(ids.shape[1] - seen)
        return cls(backbone, mask, cache, logits.float().log_softmax(-1))

    def all(self, trie: LabelTrie, batch_tokens: int) -> Tensor:
        """Scores of all labels, [rows, labels]."""
        scores = self._opening(trie)
        self._add(
            scores, [(row, path) for row in range(len(scores)) for path in range(len(trie.paths))], trie, batch_tokens
        )
        return scores

    def chosen(self, trie: LabelTrie, labels: Sequence[int], batch_tokens: int) -> Tensor:
        """Score of one label after each prompt, [rows]."""
        scores = self._opening(trie)
        self._add(
            scores, [(r, trie.path_of[n]) for r, n in enumerate(labels) if trie.path_of[n] >= 0], trie, batch_tokens
        )
        return scores[torch.arange(len(labels), device=scores.device), torch.tensor(labels, device=scores.device)]

    def best(self, trie: LabelTrie, batch_tokens: int) -> Tensor:
        """Scores of the labels that may be the most probable, minus infinity elsewhere, [rows, labels].

        Each prompt's likeliest opening runs first; then whatever else its score does not rule out.
        """
        opening = self._opening(trie)
        scores = opening.clone()
        path_of = torch.tensor(trie.path_of, device=opening.device)
        first = [(row, path) for row, path in enumerate(path_of[opening.argmax(1)].tolist()) if path >= 0]
        self._add(scores, first, trie, batch_tokens)
        ran = path_of.expand(len(scores), -1) == -1
        for row, path in first:
            ran[row] |= path_of == path
        reached = scores.masked_fill(~ran, -torch.inf).amax(1, keepdim=True)
        open_labels = (~ran & (opening >= reached)).nonzero().tolist()
        second = sorted({(row, trie.path_of[label]) for row, label in open_labels})
        self._add(scores, second, trie, batch_tokens)
        for row, path in second:
            ran[row] |= path_of == path
        return scores.masked_fill(~ran, -torch.inf)

    def _opening(self, trie: LabelTrie) -> Tensor:
        """Log-probability of each label's first token, [rows, labels]: at least the whole label's."""
        return self.log_probs[:, [answer[0] for answer in trie.answers]].clone()

    def _add(self, scores: Tensor, pairs: Sequence[tuple[int, int]], trie: LabelTrie, batch_tokens: int) -> None:
        """Run some paths after some prompts and add what they say of their labels to ``scores``."""
        for length in sorted({len(trie.paths[path]) for _, path in pairs}):
            alike = [pair for pair in pairs if len(trie.paths[pair[1]]) == length]
            size = max(batch_tokens // (self.mask.shape[1] + length), 1)
            for begin in range(0, len(alike), size):
                self._add_alike(scores, alike[begin : begin + size], trie, length)

    def _add_alike(self, scores: Tensor, pairs: Sequence[tuple[int, int]], trie: LabelTrie, length: int) -> None:
        width, device = self.mask.shape[1], self.mask.device
        index = torch.tensor([row for row, _ in pairs], device=device)
        cache = copy.copy(self.cache)
        cache.keep(index)
        whole = torch.cat([self.mask[index], self.mask.new_ones(len(pairs), length)], dim=1)
        logits = running(
            lambda: self.backbone.model(
                input_ids=torch.tensor([trie.paths[path] for _, path in pairs], device=device),
                attention_mask=whole,
                position_ids=_position_ids(whole)[:, width:],
                past_key_values=cache,
                use_cache=True,
            ).logits.float(),
            self.backbone.head_on(),
        )
        read = [(n, row, *entry) for n, (row, path) in enumerate(pairs) for entry in trie.read(path)]
        place, row, column, token, label = (torch.tensor(part, device=device) for part in zip(*read, strict=True))
        found = logits[place, column, token] - logits.logsumexp(-1)[place, column]
        scores.index_put_((row, label), found, accumulate=True)


def _position_ids(mask: Tensor) -> Tensor:
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
