"""How sure a difference between methods is: paired tests over users and over queries, and what many tests ask of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perfit.evaluation.bootstrap import Floats
from perfit.extras import import_extra

_EQUAL = 1e-9


@dataclass(frozen=True)
class Difference:
    """A method against another in one metric; gains are positive where the method is better.

    Attributes:
        gain: Difference of the pooled values.
        low / high: 95 % interval of the gain over resampled users; None with fewer than two users.
        p_users / p_queries: Two-sided bootstrap p-values, drawing users or queries.
        wilcoxon_users / wilcoxon_queries: Two-sided p-values of Wilcoxon's signed-rank test on the users' means and on
            the queries' values; None for metrics without a value per query (macro-F1, RMSE).
    """

    gain: float
    low: float | None
    high: float | None
    p_users: float | None
    p_queries: float | None
    wilcoxon_users: float | None = None
    wilcoxon_queries: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def wilcoxon_p(gains: Sequence[float] | Floats) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test; equal pairs are dropped, and 1 when all are equal.

    Raises:
        MissingExtraError: scipy is not installed (extra "eval").
    """
    values = np.asarray(gains, dtype=np.float64)
    if len(values) < 2:
        return None
    differing = values[np.abs(values) > _EQUAL]
    if not len(differing):
        return 1.0
    stats = import_extra("scipy.stats", "scipy")
    # Rounding makes equal sizes of unequal bits; ranks must see them as ties.
    return float(stats.wilcoxon(differing.round(12)).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment for testing several methods at once; None stays None and counts as no test."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[place] = highest
    return adjusted


def wilson(count: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson's score interval): true to small numbers, and never below 0 or above 1."""
    z = 1.959964
    middle, reach = (
        count / of + z * z / (2 * of),
        z * math.sqrt(count / of * (1 - count / of) / of + (z / (2 * of)) ** 2),
    )
    return max((middle - reach) / (1 + z * z / of), 0.0), min((middle + reach) / (1 + z * z / of), 1.0)
