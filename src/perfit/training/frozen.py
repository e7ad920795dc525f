"""The frozen runner: what no edit can change is computed once per row and kept.

Two parts of a forward never change while shifts train (attention is causal, the base is frozen): everything up to the
output of the first edited layer, and, when only the last prompt tokens are edited, the keys and values of all tokens
before them at every layer. A step then runs the layers above the first edit, on the edited tokens and the answer only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.section import ConstantPrefix, Sections
from perfit.plan import EditPlan, TwoStageShift
from perfit.positions import Positions
from perfit.training.rows import Slots, TokenRow, label_places, padded, row_loss
from perfit.training.shelf import Shelf


@dataclass(frozen=True, slots=True)
class FrozenRow:
    """One row with its frozen part.

    Attributes:
        row: The tokens.
        start: Index of the first token that a step runs.
        states: [t, d] output of the first edited layer, not yet edited, for the tokens that a step runs and that are
            not part of the shared prefix.
        prefix: [2, layers above, heads, p, head size] keys and values of the row's own tokens before ``start``.
    """

    row: TokenRow
    start: int
    states: Tensor
    prefix: Tensor | None


class FrozenRunner:
    """Runs steps on frozen parts; see ``Runner``.

    Args:
        backbone: The base.
        positions: Which prompt tokens are edited.
        layers: Edited layers.
        shared: Tokens that every prompt begins with; their part is computed once for all rows.
        batch_tokens: Size of one batch of the frozen pass.
        memory: Bytes of one ``prepare`` kept in memory; more go to a memory-mapped file.
    """

    def __init__(
        self,
        backbone: Backbone,
        positions: Positions,
        layers: Sequence[int],
        *,
        shared: Sequence[int] = (),
        batch_tokens: int = 4096,
        memory: float = math.inf,
    ):
        backbone.check_layers(tuple(layers))
        self.backbone, self.positions, self.batch_tokens, self.memory = backbone, positions, batch_tokens, memory
        self.sections = Sections(backbone)
        self.first = min(layers)
        self.above = range(self.first + 1, len(backbone.layers))
        self.shared = tuple(shared)
        self._shared_below: dict[int, tuple[Tensor, Tensor]] = {}
        self._shared_states: Tensor | None = None
        self._shared_above: Tensor | None = None

    @property
    def reach(self) -> int | None:
        """Last prompt tokens that a step runs; None when it runs the whole prompt."""
        return self.positions.suffix_reach

    def _start(self, row: TokenRow) -> int:
        if self.reach is None:
            return 0
        return max(len(row.prompt_ids) - self.reach, 0)

    def _prefix(self, row: TokenRow) -> int:
        """Shared tokens usable by this row: at least one own token must run below, none of it inside the window."""
        limit = self._start(row) if self.reach is not None else len(row.prompt_ids) - 1
        return len(self.shared) if len(self.shared) <= limit else 0

    def width(self, item: FrozenRow) -> int:
        """Tokens from the row's start on."""
        return len(item.row.input_ids) - item.start

    def _prefix_numbers(self) -> int:
        """Keys and values of one token at all layers above the first edit."""
        config = self.backbone.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(len(self.above) * 2 * heads * head_size)

    def step_bytes(self, item: FrozenRow) -> int:
        """Keys and values before the row's start, shared ones included: a step lays them out for every row."""
        return item.start * self._prefix_numbers() * self.backbone.dtype.itemsize

    def size(self, row: TokenRow) -> int:
        """Bytes of states, and of keys and values, at the base's precision."""
        start, shared = self._start(row), self._prefix(row)
        kept = max(start - shared, 0) * self._prefix_numbers() if self.reach is not None else 0
        numbers = kept + (len(row.input_ids) - max(start, shared)) * self.backbone.hidden_size
        return int(numbers * self.backbone.dtype.itemsize)

    @torch.no_grad()
    def _share(self) -> None:
        """The shared tokens' keys and values at every layer, and their states where steps need them."""
        if not self.shared or self._shared_states is not None:
            return
        device = self.backbone.device
        ids = torch.tensor([self.shared], device=device)
        mask = torch.ones_like(ids)
        positions = torch.arange(len(self.shared), device=device).unsqueeze(0)
        cache = ConstantPrefix(record=True)
        where: dict[str, Any] = {"attention_mask": mask, "position_ids": positions, "cache": cache}
        states = self.sections.run(0, self.first + 1, tokens=ids, **where)
        if self.reach is not None and len(self.above):
            self.sections.run(self.above.start, self.above.stop, states=states, **where)
        assert cache.recorded is not None
        self._shared_states = states[0]
        self._shared_below = {i: kv for i, kv in cache.recorded.items() if i <= self.first}
        if self.reach is not None and len(self.above):
            self._shared_above = _stack(cache.recorded, self.above)[:, :, 0]

    @torch.no_grad()
    def prepare(self, rows: Sequence[TokenRow], done: Any = None) -> list[FrozenRow]:
        """The frozen pass over some rows, in batches of equal length as far as it goes."""
        self._share()
        out: list[FrozenRow | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: (self._prefix(rows[i]), -len(rows[i].input_ids), i))
        shelf = Shelf(sum(map(self.size, rows)), self.memory)
        for batch in self._batches(order, rows):
            for index, item in zip(batch, self._freeze([rows[i] for i in batch], shelf), strict=True):
                out[index] = item
            if done is not None:
                done(len(batch))
        return [item for item in out if item is not None]

    def _batches(self, order: Sequence[int], rows: Sequence[TokenRow]) -> Iterable[list[int]]:
        batch: list[int] = []
        for index in order:
            # Longest first: the first row of a batch sets its width.
            if batch:
                widest = len(rows[batch[0]].input_ids) - self._prefix(rows[batch[0]])
                other_prefix = self._prefix(rows[index]) != self._prefix(rows[batch[0]])
                if other_prefix or (len(batch) + 1) * widest > self.batch_tokens:
                    yield batch
                    batch = []
            batch.append(index)
        if batch:
            yield batch

    def _freeze(self, rows: Sequence[TokenRow], shelf: Shelf) -> list[FrozenRow]:
        device, shared = self.backbone.device, self._prefix(rows[0])
        ids, mask = padded([row.input_ids[shared:] for row in rows], device)
        count, width = ids.shape
        below = {i: tuple(t.expand(count, -1, -1, -1) for t in kv) for i, kv in self._shared_below.items()}
        cache = ConstantPrefix(
            {i: kv[0] for i, kv in below.items()} if shared else None,
            {i: kv[1] for i, kv in below.items()} if shared else None,
            shared,
        )
        full = torch.cat([mask.new_ones(count, shared), mask], dim=1)
        positions = (shared + torch.arange(width, device=device)).expand(count, -1)
        states = self.sections.run(
            0, self.first + 1, tokens=ids, attention_mask=full, position_ids=positions, cache=cache
        )
        starts = [self._start(row) for row in rows]
        kept: list[Tensor | None] = [None] * count
        own = [start - shared for start in starts]
        if self.reach is not None and len(self.above) and max(own) > 0:
            longest = max(own)
            over = None
            if shared:
                assert self._shared_above is not None
                over = self._shared_above.unsqueeze(2).expand(-1, -1, count, -1, -1, -1)
            upper = ConstantPrefix(
                {i: over[0, n] for n, i in enumerate(self.above)} if over is not None else None,
                {i: over[1, n] for n, i in enumerate(self.above)} if over is not None else None,
                shared,
                record=True,
            )
            self.sections.run(
                self.above.start,
                self.above.stop,
                states=states[:, :longest],
                attention_mask=full[:, : shared + longest],
                position_ids=positions[:, :longest],
                cache=upper,
            )
            assert upper.recorded is not None
            stacked = _stack(upper.recorded, self.above)
            kept = [shelf.keep(stacked[:, :, row, :, :n]) if n > 0 else None for row, n in enumerate(own)]
        return [
            FrozenRow(
                row=row,
                start=start,
                states=shelf.keep(states[index, max(start - shared, 0) : len(row.input_ids) - shared]),
                prefix=kept[index],
            )
            for index, (row, start) in enumerate(zip(rows, starts, strict=True))
        ]

    def answer_loss(self, items: Sequence[FrozenRow], slots: Sequence[Slots], shift: TwoStageShift) -> Tensor:
        """See ``Runner.answer_loss``."""
        device = self.backbone.device
        widths = [self.width(item) for item in items]
        count, width = len(items), max(widths)
        states = torch.zeros(count, width, self.backbone.hidden_size, dtype=self.backbone.dtype, device=device)
        mask = torch.zeros(count, width, dtype=torch.long)
        for index, item in enumerate(items):
            own = item.states.shape[0]
            if own < widths[index]:
                assert self._shared_states is not None
                states[index, : widths[index] - own] = self._shared_states[item.start :]
            states[index, widths[index] - own : widths[index]] = item.states
            mask[index, : widths[index]] = 1
        starts = [item.start for item in items]
        positions = torch.tensor(starts).unsqueeze(1) + torch.arange(width)
        cache = self._prefix_cache(items)
        before = torch.zeros(count, cache.length, dtype=torch.long)
        for index, start in enumerate(starts):
            before[index, cache.length - start :] = 1
        lengths = [len(item.row.prompt_ids) for item in items]
        where = [[p - start for p in self.positions.of(n)] for n, start in zip(lengths, starts, strict=True)]
        plan = EditPlan.build(where, slots, device)
        states = shift.edit(states, self.first, plan)
        with self.backbone.editing(plan, shift):
            final = self.sections.run(
                self.first + 1,
                len(self.backbone.layers),
                states=states,
                attention_mask=torch.cat([before, mask], dim=1).to(device),
                position_ids=positions.to(device),
                cache=cache,
                finish=True,
            )
        last = [n - 1 - start for n, start in zip(lengths, starts, strict=True)]
        rows, columns, labels = label_places(last, [item.row.answer_ids for item in items], device)
        return row_loss(self.sections.head(final[rows, columns]), labels, rows, count)

    def _prefix_cache(self, items: Sequence[FrozenRow]) -> ConstantPrefix:
        longest = max(item.start for item in items)
        if not longest or not len(self.above):
            return ConstantPrefix(apart=bool(len(self.above)) and self.reach is not None)
        example = next((item.prefix for item in items if item.prefix is not None), self._shared_above)
        assert example is not None
        _, above, heads, _, size = example.shape
        # On the base's device: kept parts may lie on the CPU.
        shape = (2, above, len(items), heads, longest, size)
        both = torch.zeros(shape, dtype=example.dtype, device=self.backbone.device)
        for index, item in enumerate(items):
            own = 0 if item.prefix is None else item.prefix.shape[3]
            if item.prefix is not None:
                both[:, :, index, :, longest - own :] = item.prefix
            if item.start > own:
                assert self._shared_above is not None
                both[:, :, index, :, longest - item.start : longest - own] = self._shared_above
        return ConstantPrefix(
            {i: both[0, n] for n, i in enumerate(self.above)},
            {i: both[1, n] for n, i in enumerate(self.above)},
            longest,
            apart=True,
        )


def _stack(recorded: dict[int, tuple[Tensor, Tensor]], layers: Iterable[int]) -> Tensor:
    """Recorded keys and values as one tensor [2, layers, rows, heads, t, head size]."""
    chosen = [recorded[i] for i in layers]
    return torch.stack([torch.stack([kv[part] for kv in chosen]) for part in (0, 1)])
