"""Every row of a step runs once, within the limits, and with as little padding as cuts allow."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from perfit.training.chunks import Limits, Piece, chunks

pieces = st.lists(
    st.builds(Piece, st.integers(0, 4), st.integers(1, 30), st.integers(0, 50)),
    min_size=1,
    max_size=25,
)
limits = st.builds(Limits, st.integers(1, 200), st.sampled_from([40.0, 300.0, float("inf")]), st.integers(0, 40))


def padded(rows: list[int], work: list[Piece]) -> int:
    return len(rows) * max(work[row].width for row in rows)


@given(pieces, limits)
def test_every_row_runs_once_and_within_the_limits(work: list[Piece], most: Limits) -> None:
    out = chunks(work, most)
    assert sorted(row for rows in out for row in rows) == list(range(len(work)))
    for rows in out:
        if len(rows) > 1:
            assert padded(rows, work) <= most.tokens
            assert len(rows) * max(work[row].bytes for row in rows) <= most.bytes


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(8, 60), st.integers(0, 20))
def test_cuts_cost_least(widths: list[int], tokens: int, overhead: int) -> None:
    work = [Piece(0, width) for width in widths]
    most = Limits(tokens, float("inf"), overhead)
    got = sum(padded(rows, work) + overhead for rows in chunks(work, most))
    best = float("inf")
    order = sorted(range(len(widths)), key=lambda row: -widths[row])
    for cuts in product([False, True], repeat=len(widths) - 1):
        rows, total, fits = [order[0]], 0, True
        parts = []
        for cut, row in zip(cuts, order[1:], strict=True):
            if cut:
                parts.append(rows)
                rows = []
            rows.append(row)
        parts.append(rows)
        for part in parts:
            total += padded(part, work) + overhead
            fits &= len(part) == 1 or padded(part, work) <= tokens
        if fits:
            best = min(best, total)
    assert got == best


def test_rows_of_one_width_are_not_cut() -> None:
    assert [len(rows) for rows in chunks([Piece(n % 3, 8) for n in range(30)], Limits(1536, float("inf")))] == [30]
