"""Exact log-probabilities of all labels after a prompt: the prompt runs once, and only the labels' own tokens after it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded, places
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.inference.batches import BATCH_ROWS, BATCH_TOKENS, batches
from perfit.inference.decode_cache import DecodeCache
from perfit.inference.label_set import LabelSet
from perfit.inference.prefill import prefilled

# Where each prompt has an answer of its own, which may be long: logits of all its tokens are held.
_ANSWER_TOKENS = BATCH_TOKENS // 2


@torch.no_grad()
def label_log_probs(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    positions: Positions,
    labels: LabelSet,
    *,
    best_only: bool = False,
    batch_tokens: int = BATCH_TOKENS,
    batch_rows: int = BATCH_ROWS,
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
        labels: The labels.
        best_only: Leave out, at minus infinity, labels that cannot be the most probable: those whose first token alone
            is less probable than a whole other label.
        batch_tokens: Most tokens, padding and kept ones included, of one forward.
        batch_rows: Most prompts of one forward.
        done: Called with the number of prompts finished.
    """
    scores = torch.empty(len(prompts), len(labels.answers))
    for batch in batches(prompts, batch_tokens, batch_rows):
        asked = _Asked.of(backbone, [prompts[i] for i in batch], [slots[i] for i in batch], shift, positions)
        found = asked.best(labels, batch_tokens) if best_only else asked.all(labels, batch_tokens)
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
    batch_rows: int = BATCH_ROWS,
    done: Callable[[int], None] = lambda rows: None,
) -> list[float]:
    """Log-probability of one answer, its closing eos included, after each prompt, in the order of the prompts.

    Args:
        backbone, prompts, slots, shift, positions, batch_tokens, batch_rows, done: As in ``label_log_probs``.
        answers: Token ids of each prompt's answer, at least one.
    """
    found = [0.0] * len(prompts)
    for batch in batches(prompts, batch_tokens, batch_rows):
        asked = _Asked.of(backbone, [prompts[i] for i in batch], [slots[i] for i in batch], shift, positions)
        labels = LabelSet.of(list(dict.fromkeys(tuple(answers[i]) for i in batch)))
        number = {answer: place for place, answer in enumerate(labels.answers)}
        own = [number[tuple(answers[i])] for i in batch]
        for i, value in zip(batch, asked.chosen(labels, own, batch_tokens).tolist(), strict=True):
            found[i] = value
        done(len(batch))
    return found


@torch.no_grad()
def changed_label_log_probs(
    backbone: Backbone,
    prompts: Sequence[Sequence[Sequence[int]]],
    labels: LabelSet,
    *,
    during: Callable[[Sequence[int]], Changes] = lambda rows: NOTHING,
    mixed: Callable[[Tensor], Tensor] = lambda logits: logits[0],
    best_only: bool = False,
    done: Callable[[int], None] = lambda rows: None,
) -> Tensor:
    """As ``label_log_probs``, while something of a method's own changes the base or its logits, at labels' tokens too.

    Args:
        backbone: The base.
        prompts: What runs for each row: as many prompts for one as for another, the longest of them first.
        labels: The labels.
        during: What the method does in a forward, from the numbers of its rows in their order; with several prompts a
            row, in each.
        mixed: Logits [prompts of a row, rows, ..., vocabulary] -> those that count, [rows, ..., vocabulary].
        best_only, done: As for ``label_log_probs``.
    """
    scores = torch.empty(len(prompts), len(labels.answers))
    copies = len(prompts[0]) if prompts else 1
    for batch in batches([row[0] for row in prompts], BATCH_TOKENS // copies, BATCH_ROWS):
        every = [prompts[row][turn] for turn in range(copies) for row in batch]

        def changes(rows: Sequence[int], batch: Sequence[int] = batch) -> Changes:
            return during([batch[row] for row in rows])

        asked = _Asked.ran(backbone, every, DecodeCache(), changes(range(len(batch))), _Way(changes, mixed, copies))
        found = asked.best(labels, BATCH_TOKENS) if best_only else asked.all(labels, BATCH_TOKENS)
        scores[batch] = found.cpu()
        done(len(batch))
    return scores


@dataclass(frozen=True)
class _Way:
    """What a method does while tokens of labels run, and to their logits; as in ``changed_label_log_probs``."""

    during: Callable[[Sequence[int]], Changes] = lambda rows: NOTHING
    mixed: Callable[[Tensor], Tensor] = lambda logits: logits[0]
    copies: int = 1

    def logits(self, found: Tensor) -> Tensor:
        """Of [copies · rows, ..., vocabulary], copy by copy."""
        return self.mixed(found.float().view(self.copies, -1, *found.shape[1:]))


@dataclass(frozen=True)
class _Asked:
    """Prompts that have run.

    Attributes:
        mask: [copies · rows, width], 0 on the padding in front.
        cache: Their keys and values.
        log_probs: [rows, vocabulary] of the first token after them.
        way: What is done to the base and its logits.
    """

    backbone: Backbone
    mask: Tensor
    cache: DecodeCache
    log_probs: Tensor
    way: _Way

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        prompts: Sequence[Sequence[int]],
        slots: Sequence[tuple[int, int]],
        shift: TwoStageShift,
        positions: Positions,
    ) -> _Asked:
        width, lengths = max(map(len, prompts)), list(map(len, prompts))
        starts = [width - length for length in lengths]
        plan = EditPlan.for_prompts(positions, lengths, slots, starts=starts, device=backbone.device)
        reach = positions.suffix_reach
        cache = (None if reach is None else prefilled(backbone, prompts, reach)) or DecodeCache()
        return cls.ran(backbone, prompts, cache, backbone.edits(plan, shift), _Way())

    @classmethod
    def ran(
        cls, backbone: Backbone, prompts: Sequence[Sequence[int]], cache: DecodeCache, changes: Changes, way: _Way
    ) -> _Asked:
        ids, mask, _ = left_padded(prompts, backbone.device)
        seen = cache.seen
        logits = running(
            lambda: backbone.model(
                input_ids=ids[:, seen:],
                attention_mask=mask,
                position_ids=places(mask)[:, seen:],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1],
            changes,
            backbone.head_on_last(),
        )
        cache.advance(ids.shape[1] - seen)
        return cls(backbone, mask, cache, way.logits(logits).log_softmax(-1), way)

    def all(self, labels: LabelSet, batch_tokens: int) -> Tensor:
        """Scores of all labels, [rows, labels]."""
        scores = self._opening(labels)
        self._add(
            scores,
            [(row, path) for row in range(len(scores)) for path in range(len(labels.paths))],
            labels,
            batch_tokens,
        )
        return scores

    def chosen(self, labels: LabelSet, own: Sequence[int], batch_tokens: int) -> Tensor:
        """Score of one label after each prompt, given by number, [rows]."""
        scores = self._opening(labels)
        pairs = [(row, labels.path_of[n]) for row, n in enumerate(own) if labels.path_of[n] >= 0]
        self._add(scores, pairs, labels, batch_tokens)
        return scores[torch.arange(len(own), device=scores.device), torch.tensor(own, device=scores.device)]

    def best(self, labels: LabelSet, batch_tokens: int) -> Tensor:
        """Scores of the labels that may be the most probable, minus infinity elsewhere, [rows, labels].

        Each prompt's likeliest opening runs first; then whatever else its score does not rule out.
        """
        opening = self._opening(labels)
        scores = opening.clone()
        path_of = torch.tensor(labels.path_of, device=opening.device)
        first = [(row, path) for row, path in enumerate(path_of[opening.argmax(1)].tolist()) if path >= 0]
        self._add(scores, first, labels, batch_tokens)
        ran = path_of.expand(len(scores), -1) == -1
        for row, path in first:
            ran[row] |= path_of == path
        reached = scores.masked_fill(~ran, -torch.inf).amax(1, keepdim=True)
        open_labels = (~ran & (opening >= reached)).nonzero().tolist()
        second = sorted({(row, labels.path_of[label]) for row, label in open_labels})
        self._add(scores, second, labels, batch_tokens)
        for row, path in second:
            ran[row] |= path_of == path
        return scores.masked_fill(~ran, -torch.inf)

    def _opening(self, labels: LabelSet) -> Tensor:
        """Log-probability of each label's first token, [rows, labels]: at least the whole label's."""
        return self.log_probs[:, [answer[0] for answer in labels.answers]].clone()

    def _add(self, scores: Tensor, pairs: Sequence[tuple[int, int]], labels: LabelSet, batch_tokens: int) -> None:
        """Run some paths after some prompts and add what they say of their labels to ``scores``."""
        for length in sorted({len(labels.paths[path]) for _, path in pairs}):
            alike = [pair for pair in pairs if len(labels.paths[pair[1]]) == length]
            size = max(batch_tokens // ((self.mask.shape[1] + length) * self.way.copies), 1)
            for begin in range(0, len(alike), size):
                self._add_alike(scores, alike[begin : begin + size], labels, length)

    def _add_alike(self, scores: Tensor, pairs: Sequence[tuple[int, int]], labels: LabelSet, length: int) -> None:
        width, device = self.mask.shape[1], self.mask.device
        copies, rows = self.way.copies, len(self.log_probs)
        index = torch.tensor([turn * rows + row for turn in range(copies) for row, _ in pairs], device=device)
        cache = copy.copy(self.cache)
        cache.keep(index)
        whole = torch.cat([self.mask[index], self.mask.new_ones(len(index), length)], dim=1)
        logits = running(
            lambda: (
                self.backbone.model(
                    input_ids=torch.tensor([labels.paths[path] for _, path in pairs] * copies, device=device),
                    attention_mask=whole,
                    position_ids=places(whole)[:, width:],
                    past_key_values=cache,
                    use_cache=True,
                ).logits
            ),
            self.way.during([row for row, _ in pairs]),
            self.backbone.head_on(),
        )
        logits = self.way.logits(logits)
        read = [(n, row, *entry) for n, (row, path) in enumerate(pairs) for entry in labels.read(path)]
        place, row, column, token, label = (torch.tensor(part, device=device) for part in zip(*read, strict=True))
        found = logits[place, column, token] - logits.logsumexp(-1)[place, column]
        scores.index_put_((row, label), found, accumulate=True)
