"""Which rows of a step run in one forward: like widths together, within a budget of tokens and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """One row of a step.

    Attributes:
        owner: Number of its learner.
        width: Tokens that run for it.
        bytes: What a forward lays out for it beside its tokens.
    """

    owner: int
    width: int
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Most tokens and bytes of one forward; a single row may exceed them.

    Attributes:
        overhead: What starting one more forward costs, in tokens.
    """

    tokens: int
    bytes: float
    overhead: int = 32


def chunks(pieces: Sequence[Piece], limits: Limits) -> list[list[int]]:
    """Split the rows of a step into forwards; every row is in exactly one.

    Rows are sorted by width and cut so that tokens with padding, plus the overhead of each forward, are least.
    """
    order = sorted(range(len(pieces)), key=lambda row: (-pieces[row].width, pieces[row].owner, row))
    widths = [pieces[row].width for row in order]
    count = len(order)
    # best[end]: least cost of the rows before ``end``, and where their last forward begins.
    best: list[tuple[float, int]] = [(0.0, 0)] + [(float("inf"), 0)] * count
    for begin in range(count):
        most = 0
        for end in range(begin + 1, count + 1):
            most = max(most, pieces[order[end - 1]].bytes)
            size = end - begin
            if size > 1 and (size * widths[begin] > limits.tokens or size * most > limits.bytes):
                break
            # Only cuts between different widths, or forced ones, can be best.
            if end < count and widths[end] == widths[end - 1]:
                more = (size + 1) * max(most, pieces[order[end]].bytes)
                if (size + 1) * widths[begin] <= limits.tokens and more <= limits.bytes:
                    continue
            cost = best[begin][0] + size * widths[begin] + limits.overhead
            if cost < best[end][0]:
                best[end] = (cost, begin)
    out: list[list[int]] = []
    end = count
    while end:
        begin = best[end][1]
        out.append(order[begin:end])
        end = begin
    return out[::-1]
