"""How sure a difference between methods is: paired bootstrap and Wilcoxon tests, over users and over queries.

Every metric is written as a function of sums over queries, so that one set of resamples serves all methods and all
metrics, macro-F1 and RMSE included, and differences of any two methods are paired by construction.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from perfit.errors import ConfigError
from perfit.evaluation.score import mean_errors
from perfit.extras import import_extra
from perfit.tasks.task import Task

_CELLS = 4_000_000  # of the groups x resamples table held in memory at a time
_EQUAL = 1e-9
Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Summed:
    """One metric of one set of predictions as sums over queries.

    Attributes:
        metric: Its name.
        parts: [queries, k] what is summed: the metric itself (k = 1); the squared error for "rmse"; for "macro_f1"
            of C labels the hits, then the answers, then the golds of each label (k = 3C).
    """

    metric: str
    parts: Floats

    def value(self, sums: Floats, counts: Floats) -> Floats:
        """The metric of sums [..., k] over counts [...] queries."""
        if self.metric == "macro_f1":
            hits, answers, golds = np.split(sums, 3, axis=-1)
            both = answers + golds
            per_label: Floats = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
            averaged: Floats = per_label.mean(axis=-1)
            return averaged
        mean: Floats = sums[..., 0] / counts
        return np.sqrt(mean) if self.metric == "rmse" else mean


def summed(
    task: Task,
    metric: str,
    rows: Mapping[str, Mapping[str, float]],
    predictions: Mapping[str, str],
    golds: Mapping[str, str],
) -> Summed:
    """A metric of ``score`` as sums, queries in the order of ``golds``; ``rows`` are ``metrics_by_query``'s."""
    if metric == "macro_f1":
        labels = np.array(task.labels)
        found = np.array([predictions[query].strip() for query in golds])[:, None] == labels
        wanted = np.array([gold.strip() for gold in golds.values()])[:, None] == labels
        return Summed(metric, np.hstack([found & wanted, found, wanted]).astype(np.float64))
    if metric == "rmse":
        errors = mean_errors(task, rows, predictions, golds)
        return Summed(metric, np.array([[errors[query]] for query in golds], dtype=np.float64) ** 2)
    return Summed(metric, np.array([[rows[query][metric]] for query in golds], dtype=np.float64))


def resampled(
    measured: Mapping[Key, Summed], groups: Sequence[Hashable], *, resamples: int = 10_000, seed: int = 0
) -> dict[Key, Floats]:
    """Values of each metric on bootstrap samples that draw whole groups with replacement.

    Args:
        measured: Metrics on the same queries, in the same order.
        groups: Per query what is drawn: its user (a user's queries are not independent), or the query itself.
        resamples: Number of samples.
        seed: Of the draws.

    Returns:
        [resamples] per key, on the same samples; empty arrays where there are fewer than two groups.

    Raises:
        ConfigError: ``resamples`` is below 1.
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples!r}; use at least 1, better 10000")
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(group, len(place)) for group in groups])
    if len(place) < 2 or not measured:
        return {key: np.empty(0) for key in measured}
    parts = np.hstack([one.parts for one in measured.values()])
    sums = np.zeros((len(place), parts.shape[1]))
    np.add.at(sums, index, parts)
    counts = np.bincount(index).astype(np.float64)
    ends = np.cumsum([one.parts.shape[1] for one in measured.values()])
    generator = np.random.default_rng(seed)
    drawn: dict[Key, list[Floats]] = {key: [] for key in measured}
    step = max(1, _CELLS // max(len(place), parts.shape[1]))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = generator.multinomial(len(place), np.full(len(place), 1 / len(place)), size=size).astype(np.float64)
        total, many = draws @ sums, draws @ counts
        for (key, one), end in zip(measured.items(), ends, strict=True):
            drawn[key].append(one.value(total[:, end - one.parts.shape[1] : end], many))
    return {key: np.concatenate(values) for key, values in drawn.items()}


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


def interval(samples: Floats, confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Percentile bounds of bootstrap samples; None where there are none."""
    if not len(samples):
        return None, None
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_p(gains: Floats) -> float | None:
    """Two-sided p-value of resampled gains: twice the smaller share of samples on one side of 0, 0 itself on both.

    One is added to count and number, so that p is never 0 (Davison and Hinkley 1997, section 4.2).
    """
    if not len(gains):
        return None
    sides = [int((gains <= _EQUAL).sum()), int((gains >= -_EQUAL).sum())]
    return min(1.0, 2 * (1 + min(sides)) / (len(gains) + 1))


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
