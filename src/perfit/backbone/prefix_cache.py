"""Keys and values of tokens that came before the ones that run: shared by many rows, and each row's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perfit.edits.edit_plan import SlotGroups

KeysValues = tuple[Tensor, Tensor]
BEFORE = "_perfit_before"


@dataclass(frozen=True)
class Before:
    """What came before at one layer.

    Attributes:
        own: Keys and values of each row, [rows, heads, p, size].
        shared: Keys and values of groups of rows, [groups, heads, s, size].
        groups: Which rows belong to which group; None when one group holds all rows.
    """

    own: KeysValues | None = None
    shared: KeysValues | None = None
    groups: SlotGroups | None = None

    def joined(self, key: Tensor, value: Tensor) -> KeysValues:
        """Shared, own and new keys and values in one tensor each, [rows, heads, s + p + t, size]."""
        parts: list[KeysValues] = []
        if self.shared is not None:
            rows = key.shape[0]
            spread = [
                t.expand(rows, -1, -1, -1) if self.groups is None else t.index_select(0, self.groups.group)
                for t in self.shared
            ]
            parts.append((spread[0], spread[1]))
        if self.own is not None:
            parts.append(self.own)
        parts.append((key, value))
        return torch.cat([k for k, _ in parts], dim=2), torch.cat([v for _, v in parts], dim=2)


class KeysTakenError(Exception):
    """Ends a forward of which only keys and values were wanted; ``Sections.run`` raises and catches it."""


class PrefixCache:
    """Answers what transformers asks of a cache; what a forward adds is not kept for the next one.

    The order is shared tokens, own tokens, then those that run. A row's own tokens are right-aligned: padding stands
    before them, so that distances between own and running tokens are the true ones (sliding windows).

    Args:
        own: By layer index, keys and values [rows, heads, p, size].
        shared: By layer index, keys and values [groups, heads, s, size]; they may carry gradients.
        groups: Which rows belong to which group; None when one group holds all rows.
        apart: Hang what came before on the new keys instead of joining them, for ``prefix_attention``.
        record: Keep the keys and values of the tokens that run now, in ``recorded``.
        last: End the forward once the keys and values of this layer are recorded.
    """

    is_compileable = False

    def __init__(
        self,
        own: Mapping[int, KeysValues] | None = None,
        shared: Mapping[int, KeysValues] | None = None,
        groups: SlotGroups | None = None,
        *,
        apart: bool = False,
        record: bool = False,
        last: int | None = None,
    ):
        self.own, self.shared, self.groups = own or {}, shared or {}, groups
        self.apart, self.last = apart, last
        self.recorded: dict[int, KeysValues] | None = {} if record else None
        self.length = sum(next(iter(kv.values()))[0].shape[2] for kv in (self.own, self.shared) if kv)

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> KeysValues:
        """What came before, followed by the tokens that run now."""
        if self.recorded is not None:
            self.recorded[layer_idx] = (key, value)
        if layer_idx == self.last:
            raise KeysTakenError
        if not self.length:
            return key, value
        before = Before(self.own.get(layer_idx), self.shared.get(layer_idx), self.groups)
        if not self.apart:
            return before.joined(key, value)
        setattr(key, BEFORE, before)
        return key, value

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that came before, padding included."""
        return self.length

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Index of the first token that runs now."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Length and offset of all keys a mask must cover."""
        return self.length + query_length, 0
