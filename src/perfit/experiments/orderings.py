"""Whether our rows stand in the paper's order: Kendall's rank correlation, and how sure it is with these users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfit.evaluation.bootstrap import Floats, interval

FEWEST = 3
"""Rows that an order needs at least."""


@dataclass(frozen=True)
class Ordering:
    """One column.

    Attributes:
        column: Its name.
        rows: How many rows are in both orders.
        tau: Kendall's tau-b of ours against the paper's; None where all of one are equal.
        low, high: 95 % interval over resampled users; None where there are no samples.
    """

    column: str
    rows: int
    tau: float | None
    low: float | None
    high: float | None


def kendall(ours: Floats, printed: Floats) -> Floats:
    """Tau-b of each sample of our values [samples, rows] against the printed ones [rows]; NaN where all are equal."""
    first, second = np.triu_indices(printed.shape[0], 1)
    theirs = np.sign(printed[first] - printed[second])
    mine = np.sign(ours[:, first] - ours[:, second])
    norm = np.sqrt((mine != 0).sum(axis=1) * float((theirs != 0).sum()))
    found: Floats = np.divide(mine @ theirs, norm, out=np.full(len(ours), np.nan), where=norm > 0)
    return found


def ordering(
    column: str,
    rows: Sequence[str],
    printed: Mapping[str, float],
    ours: Mapping[str, float],
    samples: Mapping[str, Floats],
) -> Ordering | None:
    """The order of one column; None where fewer than three rows have both numbers."""
    both = [row for row in rows if row in printed and row in ours]
    if len(both) < FEWEST:
        return None
    theirs = np.array([printed[row] for row in both])
    tau = float(kendall(np.array([[ours[row] for row in both]]), theirs)[0])
    drawn = [samples[row] for row in both if row in samples and len(samples[row])]
    low: float | None = None
    high: float | None = None
    if len(drawn) == len(both):
        many = kendall(np.stack(drawn, axis=1), theirs)
        low, high = interval(many[np.isfinite(many)])
    return Ordering(column, len(both), tau if np.isfinite(tau) else None, low, high)
