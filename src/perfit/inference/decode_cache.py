"""Keys and values of a batch while it is answered: room is claimed ahead, finished rows leave."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from perfit.backbone.prefix_cache import KeysValues

_MORE = 32  # tokens of room claimed at a time


class DecodeCache:
    """Answers what transformers asks of a cache, without copying what is there at each new token.

    Attributes:
        seen: Tokens before those that run now, padding included.
    """

    is_compileable = False

    def __init__(self) -> None:
        self.seen = 0
        self._kept: dict[int, KeysValues] = {}

    def seed(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Begin with keys and values [rows, heads, p, size] of one layer; all layers have the same p."""
        self.seen = keys.shape[2]
        self._kept[layer] = (_roomier(keys), _roomier(values))

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> KeysValues:
        """All keys and values of a layer, those of the tokens that run now at the end."""
        end = self.seen + key.shape[2]
        kept = self._kept.get(layer_idx)
        if kept is None:
            kept = (_roomier(key), _roomier(value))
        elif kept[0].shape[2] < end:
            kept = (_roomier(kept[0], end - kept[0].shape[2]), _roomier(kept[1], end - kept[1].shape[2]))
        self._kept[layer_idx] = kept
        kept[0][:, :, self.seen : end] = key
        kept[1][:, :, self.seen : end] = value
        return kept[0][:, :, :end], kept[1][:, :, :end]

    def advance(self, tokens: int) -> None:
        """The forward of so many tokens is over."""
        self.seen += tokens

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows alone."""
        self._kept = {i: (k.index_select(0, rows), v.index_select(0, rows)) for i, (k, v) in self._kept.items()}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that came before, padding included."""
        return self.seen

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Index of the first token that runs now."""
        return self.seen

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Length and offset of all keys a mask must cover."""
        return self.seen + query_length, 0


def _roomier(t: Tensor, more: int = 0) -> Tensor:
    rows, heads, length, size = t.shape
    out = t.new_zeros(rows, heads, length + more + _MORE, size)
    out[:, :, :length] = t
    return out
