"""The frozen pass: what no edit can change, computed once per row.

Two parts of a forward never change while shifts train (attention is causal, the base is frozen): everything up to the
output of the first edited layer, and, when only the last prompt tokens are edited, the keys and values of all tokens
before them at every layer. What all prompts begin with is computed once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import padded
from perfit.backbone.prefix_cache import KeysValues, PrefixCache
from perfit.backbone.section import Sections
from perfit.edits.positions import Positions
from perfit.training.chunks import Limits, Piece, chunks
from perfit.training.rows import TokenRow


@dataclass(frozen=True, slots=True)
class FrozenRow:
    """One row with its frozen part.

    Attributes:
        row: The tokens.
        start: Index of the first token that a step runs.
        shared: Tokens of the shared prefix that the row begins with, or 0.
        states: [t, d] output of the first edited layer, not yet edited, for the tokens that a step runs.
        prefix: [2, layers above, heads, p, head size] keys and values of the row's own tokens before ``start``; None
            when there are none, or when they are computed again at each step.
        before: [p, d] output of the first edited layer for those tokens, from which they are computed again.
    """

    row: TokenRow
    start: int
    shared: int
    states: Tensor
    prefix: Tensor | None = None
    before: Tensor | None = None


def edited_within(positions: Positions, count: int) -> tuple[int, ...]:
    """A long prompt's edits among its first ``count`` tokens; a row is only the same there if its own are these."""
    return tuple(p for p in positions.of(10 * count + 1000) if p < count)


class FrozenPass:
    """Computes frozen parts in batches.

    Args:
        backbone: The base.
        positions: Which prompt tokens are edited.
        layers: Edited layers.
        shared: Tokens that prompts begin with; a row that does not, or that is edited there in a way of its own, runs
            without.
        batch_tokens: Size of one batch.
        keep_prefix: Keep keys and values of own tokens; otherwise the states to compute them from.
    """

    def __init__(
        self,
        backbone: Backbone,
        positions: Positions,
        layers: Sequence[int],
        *,
        shared: Sequence[int] = (),
        batch_tokens: int = 2048,
        keep_prefix: bool = True,
    ):
        self.backbone, self.positions, self.batch_tokens = backbone, positions, batch_tokens
        self.keep_prefix = keep_prefix
        self.sections = Sections(backbone)
        self.first = min(layers)
        self.above = range(self.first + 1, len(backbone.layers))
        self.shared = tuple(shared)
        self.shared_edits = edited_within(positions, len(self.shared))
        self._prefix_numbers: int | None = None
        self.shared_states: Tensor | None = None
        self.shared_above: dict[int, KeysValues] = {}
        self._shared_below: dict[int, KeysValues] = {}

    @property
    def suffix_only(self) -> bool:
        """Whether all tokens before the edited ones are constants at every layer."""
        return self.positions.suffix_reach is not None

    def shared_of(self, row: TokenRow) -> int:
        """Shared tokens usable by this row: at least one own token must run, and no edit of its own stand in them."""
        count, length = len(self.shared), len(row.prompt_ids)
        if not count or row.prompt_ids[:count] != self.shared:
            return 0
        if self.suffix_only:
            return count if count <= self._window(row) else 0
        own = tuple(p for p in self.positions.of(length) if p < count)
        return count if count < length and own == self.shared_edits else 0

    def _window(self, row: TokenRow) -> int:
        reach = self.positions.suffix_reach
        assert reach is not None
        return max(len(row.prompt_ids) - reach, 0)

    def start_of(self, row: TokenRow) -> int:
        """Index of the first token that a step runs."""
        return self._window(row) if self.suffix_only else self.shared_of(row)

    @torch.no_grad()
    def prefix_numbers(self) -> int:
        """Keys and values of one token at all layers above the first edit."""
        if self._prefix_numbers is None and not len(self.above):
            self._prefix_numbers = 0
        elif self._prefix_numbers is None:
            # Run and counted: families name their key heads in ways of their own (Falcon has one of 71).
            device, dtype = self.backbone.device, self.backbone.dtype
            cache = PrefixCache(record=True, last=self.above.stop - 1)
            one = torch.ones(1, 1, dtype=torch.long, device=device)
            self.sections.run(
                self.above.start,
                self.above.stop,
                states=torch.zeros(1, 1, self.backbone.hidden_size, dtype=dtype, device=device),
                attention_mask=one,
                position_ids=one - 1,
                cache=cache,
            )
            self._prefix_numbers = sum(t.numel() for both in (cache.recorded or {}).values() for t in both)
        return self._prefix_numbers

    def size(self, row: TokenRow) -> int:
        """Bytes of a row's frozen part, at the base's precision."""
        start, shared, width = self.start_of(row), self.shared_of(row), self.backbone.hidden_size
        per_own = self.prefix_numbers() if self.keep_prefix else width
        own = (start - shared) * per_own if len(self.above) else 0
        return int((own + (len(row.input_ids) - start) * width) * self.backbone.dtype.itemsize)

    @torch.no_grad()
    def share(self) -> None:
        """The shared tokens' keys and values at every layer, or their states where edits change what is above."""
        if not self.shared or self.shared_states is not None:
            return
        device = self.backbone.device
        ids = torch.tensor([self.shared], device=device)
        positions = torch.arange(len(self.shared), device=device).unsqueeze(0)
        below, above = PrefixCache(record=True), PrefixCache(record=True, last=self.above.stop - 1)
        where: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "position_ids": positions}
        states = self.sections.run(0, self.first + 1, tokens=ids, cache=below, **where)
        if self.suffix_only and len(self.above):
            self.sections.run(self.above.start, self.above.stop, states=states, cache=above, **where)
        assert below.recorded is not None
        assert above.recorded is not None
        self._shared_below, self.shared_above = below.recorded, above.recorded
        self.shared_states = states[0]

    @torch.no_grad()
    def run(self, rows: Sequence[TokenRow]) -> Iterator[list[tuple[int, FrozenRow]]]:
        """Frozen parts of some rows with their numbers, batch by batch; their tensors are views of a batch."""
        self.share()
        by_shared: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_shared.setdefault(self.shared_of(row), []).append(index)
        limits = Limits(self.batch_tokens, math.inf)
        for shared, members in by_shared.items():
            pieces = [Piece(0, len(rows[index].input_ids) - shared) for index in members]
            for chunk in chunks(pieces, limits):
                batch = [members[place] for place in chunk]
                yield list(zip(batch, self._freeze([rows[i] for i in batch]), strict=True))

    def _freeze(self, rows: Sequence[TokenRow]) -> list[FrozenRow]:
        device, shared = self.backbone.device, self.shared_of(rows[0])
        ids, mask = padded([row.input_ids[shared:] for row in rows], device)
        count, width = ids.shape
        positions = (shared + torch.arange(width, device=device)).expand(count, -1)
        states = self.sections.run(
            0,
            self.first + 1,
            tokens=ids,
            attention_mask=torch.cat([mask.new_ones(count, shared), mask], dim=1),
            position_ids=positions,
            cache=PrefixCache(shared=self._shared_below if shared else None),
        )
        starts = [self.start_of(row) for row in rows]
        own = [start - shared for start in starts]
        before = [states[index, :n] if n and len(self.above) else None for index, n in enumerate(own)]
        kept: Sequence[Tensor | None] = [None] * count
        if self.keep_prefix:
            kept = self.prefixes(before, shared)
        return [
            FrozenRow(
                row=row,
                start=start,
                shared=shared,
                states=states[index, start - shared : len(row.input_ids) - shared],
                prefix=kept[index],
                before=None if self.keep_prefix else before[index],
            )
            for index, (row, start) in enumerate(zip(rows, starts, strict=True))
        ]

    @torch.no_grad()
    def prefixes(self, before: Sequence[Tensor | None], shared: int) -> list[Tensor | None]:
        """Keys and values of own tokens, [2, layers above, heads, p, head size] each, from their states [p, d].

        Args:
            before: The states that leave the first edited layer, per row; None where there are none.
            shared: Tokens of the shared prefix before them.
        """
        own = [0 if t is None else t.shape[0] for t in before]
        longest, count, device = max(own), len(before), self.backbone.device
        if not longest:
            return [None] * count
        states = torch.zeros(count, longest, self.backbone.hidden_size, dtype=self.backbone.dtype, device=device)
        mask = torch.zeros(count, shared + longest, dtype=torch.long)
        mask[:, :shared] = 1
        for index, t in enumerate(before):
            if t is not None:
                states[index, : own[index]] = t
            mask[index, shared : shared + own[index]] = 1
        cache = PrefixCache(shared=self.shared_above if shared else None, record=True, last=self.above.stop - 1)
        self.sections.run(
            self.above.start,
            self.above.stop,
            states=states,
            attention_mask=mask.to(device),
            position_ids=(shared + torch.arange(longest, device=device)).expand(count, -1),
            cache=cache,
        )
        assert cache.recorded is not None
        recorded = [cache.recorded[i] for i in self.above]
        stacked = torch.stack([torch.stack([kv[part] for kv in recorded]) for part in (0, 1)])
        return [stacked[:, :, row, :, :n] if n else None for row, n in enumerate(own)]
