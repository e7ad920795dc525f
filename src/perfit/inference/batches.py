"""Which rows run together."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.inference.decoding import Decoding

Tokens = tuple[int, ...]
_USUAL = Decoding()


def batches(lengths: Sequence[int], tokens: int = _USUAL.batch_tokens) -> list[list[int]]:
    """Indices of the rows of each batch, longest first; at most ``tokens`` with padding, and at least one row."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    begin = 0
    while begin < len(order):
        rows = max(min(tokens // lengths[order[begin]], _USUAL.batch_rows), 1)
        found.append(order[begin : begin + rows])
        begin += rows
    return found
