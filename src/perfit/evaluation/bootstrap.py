"""The bootstrap: whole users, or queries, drawn with replacement; every interval and p-value is of such draws.

Every metric is written as a function of sums over queries, so that one set of resamples serves all methods and all
metrics, macro-F1 and RMSE included, and differences of any two methods are paired by construction.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from perfit.errors import ConfigError
from perfit.evaluation.score import mean_errors
from perfit.tasks.task import Task

RESAMPLES = 10_000
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
    by_query: Mapping[str, Mapping[str, float]],
    predictions: Mapping[str, str],
    golds: Mapping[str, str],
) -> Summed:
    """A metric of ``score`` as sums, queries in the order of ``golds``; ``by_query`` are ``metrics_by_query``'s."""
    if metric == "macro_f1":
        labels = np.array(task.labels)
        found = np.array([predictions[query].strip() for query in golds])[:, None] == labels
        wanted = np.array([gold.strip() for gold in golds.values()])[:, None] == labels
        return Summed(metric, np.hstack([found & wanted, found, wanted]).astype(np.float64))
    if metric == "rmse":
        errors = mean_errors(task, by_query, predictions, golds)
        return Summed(metric, np.array([[errors[query]] for query in golds], dtype=np.float64) ** 2)
    return Summed(metric, np.array([[by_query[query][metric]] for query in golds], dtype=np.float64))


def draws(groups: int, resamples: int, seed: int, *, columns: int = 1) -> Iterator[Floats]:
    """How often each group is drawn in each resample, as many resamples at a time as fit into memory.

    Args:
        groups: How many there are to draw from; each resample draws as many.
        resamples: Number of samples.
        seed: Of the draws: the same draws for the same groups, whatever is computed from them.
        columns: Numbers that are computed of each resample, where those are more than the groups.

    Returns:
        Blocks [resamples of the block, groups]; none where there are fewer than two groups.

    Raises:
        ConfigError: ``resamples`` is below 1.
    """
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples!r}; use at least 1, better 10000")
    return _blocks(groups, resamples, seed, max(1, _CELLS // max(groups, columns, 1)))


def _blocks(groups: int, resamples: int, seed: int, step: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for start in range(0, resamples if groups > 1 else 0, step):
        size = min(step, resamples - start)
        yield generator.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(np.float64)


def resampled(
    measured: Mapping[Key, Summed], groups: Sequence[Hashable], *, resamples: int = RESAMPLES, seed: int = 0
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
    place: dict[Hashable, int] = {}
    index = np.array([place.setdefault(group, len(place)) for group in groups])
    ends = np.cumsum([one.parts.shape[1] for one in measured.values()])
    blocks = draws(len(place), resamples, seed, columns=int(ends[-1]) if len(ends) else 1)
    if len(place) < 2 or not measured:
        return {key: np.empty(0) for key in measured}
    parts = np.hstack([one.parts for one in measured.values()])
    sums = np.zeros((len(place), parts.shape[1]))
    np.add.at(sums, index, parts)
    counts = np.bincount(index).astype(np.float64)
    drawn: dict[Key, list[Floats]] = {key: [] for key in measured}
    for block in blocks:
        total, many = block @ sums, block @ counts
        for (key, one), end in zip(measured.items(), ends, strict=True):
            drawn[key].append(one.value(total[:, end - one.parts.shape[1] : end], many))
    return {key: np.concatenate(values) for key, values in drawn.items()}


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
