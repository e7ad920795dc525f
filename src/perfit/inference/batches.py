"""Which rows run together."""

from __future__ import annotations

from collections.abc import Sequence

Tokens = tuple[int, ...]
BATCH_TOKENS = 16384
BATCH_ROWS = 64


def batches(
    rows: Sequence[Sequence[int]], batch_tokens: int = BATCH_TOKENS, batch_rows: int | None = BATCH_ROWS
) -> list[list[int]]:
    """Numbers of the rows of each batch, longest first; equal ones side by side, for what they share is computed once.

    Args:
        rows: Token ids, at least one each.
        batch_tokens: Most tokens of a batch, padding included; a longer row is a batch of its own.
        batch_rows: Most rows of a batch; None for any number.
    """
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), tuple(rows[i]), i))
    found: list[list[int]] = []
    begin = 0
    while begin < len(order):
        fit = max(batch_tokens // len(rows[order[begin]]), 1)
        found.append(order[begin : begin + (fit if batch_rows is None else min(fit, batch_rows))])
        begin += len(found[-1])
    return found
