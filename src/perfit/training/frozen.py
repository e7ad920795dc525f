"""The frozen runner: steps on frozen parts, only through the layers and tokens that an edit can reach.

With edits at the last prompt tokens only ("l7"), a step runs those tokens and the answer; everything before them is a
constant. With edits at the first tokens too ("f7+l7"), the tokens that all prompts begin with run once per user and
step (``Lead``), edited with the user's shift, and the user's rows attend to them, in whatever forwards they run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.prefix_cache import KeysValues, PrefixCache
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, SlotGroups, TwoStageShift
from perfit.edits.positions import Positions
from perfit.training.frozen_cache import FrozenCache, FrozenHome
from perfit.training.frozen_pass import FrozenPass, FrozenRow
from perfit.training.lead import Lead
from perfit.training.memory import logit_bytes, token_bytes
from perfit.training.rows import Slots, TokenRow, label_places, row_loss
from perfit.training.shelf import Shelf


class FrozenRunner:
    """Runs steps on frozen parts; see ``Runner``.

    Args:
        backbone: The base.
        positions: Which prompt tokens are edited.
        layers: Edited layers.
        shared: Tokens that prompts begin with; their part is computed once for all rows, or once per user and step.
        batch_tokens: Size of one batch of the frozen pass.
        memory: Bytes of one ``prepare`` kept in memory; more go to a memory-mapped file.
        keep_prefix: Keep keys and values of own tokens before the window; False computes them again at each step.
        apart: Attend through ``prefix_attention``; False joins what came before for the base's own attention.
        home: Where frozen parts are kept between runs; nowhere when not given.
    """

    def __init__(
        self,
        backbone: Backbone,
        positions: Positions,
        layers: Sequence[int],
        *,
        shared: Sequence[int] = (),
        batch_tokens: int = 2048,
        memory: float = math.inf,
        keep_prefix: bool = True,
        apart: bool = True,
        home: FrozenHome | None = None,
    ):
        backbone.check_layers(tuple(layers))
        self.backbone, self.positions, self.memory, self.apart = backbone, positions, memory, apart
        how: dict[str, Any] = {"batch_tokens": batch_tokens, "keep_prefix": keep_prefix}
        self.frozen = FrozenPass(backbone, positions, layers, shared=shared, **how)
        self.cache: FrozenCache | None = None
        if home is not None:
            known = home.known_prefix(self.frozen)
            if known:
                self.frozen = FrozenPass(backbone, positions, layers, shared=known, **how)
            self.cache = FrozenCache(home, self.frozen)
        # Attention of a family's own may count distances in columns: nothing may stand between tokens then.
        self._window = attention_window(backbone) if apart else 0

    def width(self, item: FrozenRow) -> int:
        """Tokens from the row's start on."""
        return len(item.row.input_ids) - item.start

    def lead(self, item: FrozenRow) -> int:
        """Shared tokens that run again in each step, once for all rows of one owner."""
        return 0 if self.frozen.suffix_only or not len(self.frozen.above) else item.shared

    def lead_bytes(self) -> int:
        """What one owner's lead keeps until the step's gradients went back through it."""
        shared = len(self.frozen.shared)
        kept = 2 * 4 * self.frozen.prefix_numbers()  # fp32: keys, values and their gradients
        return shared * (token_bytes(self.backbone, len(self.frozen.above)) + kept)

    def run_lead(self, owners: Sequence[Slots], shift: TwoStageShift) -> Lead:
        """See ``Runner.run_lead``."""
        return Lead(owners, self._edited_lead(owners, shift))

    def step_bytes(self, item: FrozenRow) -> int:
        """Keys and values before the row's start, which a step lays out, and what backward keeps of its tokens."""
        laid_out = (item.start - item.shared) * self.frozen.prefix_numbers() * self.backbone.dtype.itemsize
        tokens = self.width(item) * token_bytes(self.backbone, len(self.frozen.above))
        return laid_out + tokens + len(item.row.answer_ids) * logit_bytes(self.backbone)

    def size(self, row: TokenRow) -> int:
        """Bytes of the frozen part, at the base's precision."""
        return self.frozen.size(row)

    def prepare(self, rows: Sequence[TokenRow], done: Any = None) -> list[FrozenRow]:
        """Frozen parts of some rows, in batches of like length; equal rows have one part."""
        found = {row: item for row in dict.fromkeys(rows) if (item := self._cached(row)) is not None}
        new = [row for row in dict.fromkeys(rows) if row not in found]
        if done is not None and len(rows) > len(new):
            done(len(rows) - len(new))
        size = sum(map(self.size, new))
        with self.cache.shelf(size) if self.cache and new else nullcontext() as shelf:
            if shelf is None:
                shelf = Shelf(size, self.memory)
            for batch in self.frozen.run(new):
                for index, item in batch:
                    found[new[index]] = shelf.keep_row(item)
                if done is not None:
                    done(len(batch))
        return [found[row] for row in rows]

    def _cached(self, row: TokenRow) -> FrozenRow | None:
        return self.cache.take(row) if self.cache is not None else None

    def answer_loss(
        self, items: Sequence[FrozenRow], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None = None
    ) -> Tensor:
        """See ``Runner.answer_loss``."""
        # Rows with and without the shared prefix have different things before them.
        kinds: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            kinds.setdefault(item.shared, []).append(index)
        if len(kinds) == 1:
            return self._loss(items, slots, shift, lead)
        parts = [self._loss([items[i] for i in rows], [slots[i] for i in rows], shift, lead) for rows in kinds.values()]
        order = torch.tensor([i for rows in kinds.values() for i in rows], device=parts[0].device)
        return torch.cat(parts)[order.argsort()]

    def _loss(
        self, items: Sequence[FrozenRow], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None
    ) -> Tensor:
        device = self.backbone.device
        widths = [self.width(item) for item in items]
        count, width = len(items), max(widths)
        states = torch.zeros(count, width, self.backbone.hidden_size, dtype=self.backbone.dtype, device=device)
        mask = torch.zeros(count, width, dtype=torch.long)
        for index, item in enumerate(items):
            states[index, : widths[index]] = item.states
            mask[index, : widths[index]] = 1
        starts = [item.start for item in items]
        positions = torch.tensor(starts).unsqueeze(1) + torch.arange(width)
        cache = self._before(items, slots, shift, lead)
        before = torch.zeros(count, cache.length, dtype=torch.long)
        shared = items[0].shared if cache.shared else 0
        before[:, :shared] = 1
        for index, start in enumerate(starts):
            before[index, cache.length - (start - shared) :] = 1
        lengths = [len(item.row.prompt_ids) for item in items]
        where = [
            [p - start for p in self.positions.of(n) if p >= start] for n, start in zip(lengths, starts, strict=True)
        ]
        plan = EditPlan.build(where, slots, device)
        first = self.frozen.first
        states = shift.edit(states, first, plan)
        final = running(
            lambda: self.frozen.sections.run(
                first + 1,
                len(self.backbone.layers),
                states=states,
                attention_mask=torch.cat([before, mask], dim=1).to(device),
                position_ids=positions.to(device),
                cache=cache,
                finish=True,
            ),
            self.backbone.edits(plan, shift),
        )
        last = [n - 1 - start for n, start in zip(lengths, starts, strict=True)]
        rows, columns, labels = label_places(last, [item.row.answer_ids for item in items], device)
        return row_loss(self.frozen.sections.head(final[rows, columns]), labels, rows, count)

    def _before(
        self, items: Sequence[FrozenRow], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None
    ) -> PrefixCache:
        """What came before the tokens that run: the shared prefix, and each row's own tokens, right-aligned."""
        if not len(self.frozen.above):
            return PrefixCache(apart=self.apart)
        shared = items[0].shared
        if not self.frozen.suffix_only:
            if not shared:
                return PrefixCache(apart=self.apart)
            groups = SlotGroups.of_owners(slots, self.backbone.device)
            if lead is not None:
                edited = lead.of(slots, groups)
            else:
                edited = self._edited_lead([slots[i] for i in groups.firsts()], shift)
            return PrefixCache(shared=edited, groups=groups, apart=self.apart)
        self.frozen.share()
        longest = max(item.start - shared for item in items)
        widest = max(map(self.width, items))
        if shared + longest + widest <= self._window:
            own = self._own(items, longest, 0)
            return PrefixCache(own, self.frozen.shared_above if shared else None, apart=self.apart)
        # Padding between shared and own tokens would make their distances wrong for a sliding window.
        return PrefixCache(self._own(items, longest + shared, shared), apart=self.apart)

    def _own(self, items: Sequence[FrozenRow], longest: int, shared: int) -> dict[int, KeysValues] | None:
        """Keys and values of own tokens, the shared ones before them if asked for, [rows, heads, longest, size]."""
        if not longest:
            return None
        prefixes: list[Tensor | None] = [item.prefix for item in items]
        if not self.frozen.keep_prefix:
            prefixes = self.frozen.prefixes([item.before for item in items], items[0].shared)
        above = self.frozen.above
        example = next((t for t in prefixes if t is not None), None)
        heads, size = (
            (example.shape[2], example.shape[4])
            if example is not None
            else self.frozen.shared_above[above.start][0].shape[1::2]
        )
        # On the base's device: kept parts may lie on the CPU.
        shape = (2, len(above), len(items), heads, longest, size)
        both = torch.zeros(shape, dtype=self.backbone.dtype, device=self.backbone.device)
        for index, prefix in enumerate(prefixes):
            own = 0 if prefix is None else prefix.shape[3]
            if prefix is not None:
                both[:, :, index, :, longest - own :] = prefix
            if shared:
                for n, layer in enumerate(above):
                    for part, t in enumerate(self.frozen.shared_above[layer]):
                        both[part, n, index, :, longest - own - shared : longest - own] = t[0]
        return {layer: (both[0, n], both[1, n]) for n, layer in enumerate(above)}

    def _edited_lead(self, owners: Sequence[Slots], shift: TwoStageShift) -> dict[int, KeysValues]:
        """Keys and values of the shared tokens, edited with each owner's shift, [owners, heads, s, size]; with graph."""
        self.frozen.share()
        assert self.frozen.shared_states is not None
        device, count, above = self.backbone.device, len(self.frozen.shared), self.frozen.above
        plan = EditPlan.build([self.frozen.shared_edits] * len(owners), owners, device)
        states = shift.edit(self.frozen.shared_states.expand(len(owners), -1, -1), self.frozen.first, plan)
        cache = PrefixCache(apart=self.apart, record=True, last=above.stop - 1)
        running(
            lambda: self.frozen.sections.run(
                above.start,
                above.stop,
                states=states,
                attention_mask=torch.ones(len(owners), count, dtype=torch.long, device=device),
                position_ids=torch.arange(count, device=device).expand(len(owners), -1),
                cache=cache,
            ),
            self.backbone.edits(plan, shift),
        )
        assert cache.recorded is not None
        return cache.recorded


def attention_window(backbone: Backbone) -> float:
    """The smallest distance at which some layer of a base stops attending; infinite where none does."""
    config = backbone.model.config.get_text_config()
    found = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((value for value in found if isinstance(value, int) and value > 0), default=math.inf)
