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
        lead: Tokens that run once for all of its owner's rows in one forward.
        bytes: What a forward lays out for it beside its tokens.
    """

    owner: int
    width: int
    lead: int = 0
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

    Rows with a lead stay together by owner, so that the lead runs once. Others are sorted by width and cut where
    padding would cost more than another forward.
    """
    led = [i for i, piece in enumerate(pieces) if piece.lead]
    return [
        *_by_owner(pieces, led, limits),
        *_by_width(pieces, [i for i, p in enumerate(pieces) if not p.lead], limits),
    ]


def _fits(pieces: Sequence[Piece], rows: Sequence[int], lead: int, limits: Limits) -> bool:
    widest, most = max(pieces[row].width for row in rows), max(pieces[row].bytes for row in rows)
    return len(rows) * widest + lead <= limits.tokens and len(rows) * most <= limits.bytes


def _by_owner(pieces: Sequence[Piece], rows: Sequence[int], limits: Limits) -> list[list[int]]:
    owned: dict[int, list[int]] = {}
    for row in rows:
        owned.setdefault(pieces[row].owner, []).append(row)

    def widest(members: Sequence[int]) -> int:
        return max(pieces[row].width for row in members)

    out: list[list[int]] = []
    owners = 0
    for members in sorted(owned.values(), key=lambda members: (-widest(members), pieces[members[0]].owner)):
        members.sort(key=lambda row: (-pieces[row].width, row))
        together = [*out[-1], *members] if out else []
        lead = max(pieces[row].lead for row in members)
        if together and _fits(pieces, together, (owners + 1) * lead, limits):
            out[-1], owners = together, owners + 1
            continue
        # An owner with more rows than fit runs the lead more than once.
        size = max((limits.tokens - lead) // widest(members), 1)
        most = max(pieces[row].bytes for row in members)
        size = size if size * most <= limits.bytes else max(int(limits.bytes / most), 1)
        out += [members[begin : begin + size] for begin in range(0, len(members), size)]
        owners = 1
    return out


def _by_width(pieces: Sequence[Piece], rows: Sequence[int], limits: Limits) -> list[list[int]]:
    """Cuts that make tokens with padding, plus the overhead of each forward, least."""
    order = sorted(rows, key=lambda row: (-pieces[row].width, pieces[row].owner, row))
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
