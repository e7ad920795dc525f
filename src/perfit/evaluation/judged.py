"""A method's answers and what they are worth: the one way from answers to scores, of evaluations and of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from types import MappingProxyType

from perfit.data.schema import User
from perfit.evaluation.aggregate import Aggregate, aggregate
from perfit.evaluation.best_floor import MEAN_OF_USERS
from perfit.evaluation.score import Scores, metrics_by_query, pool
from perfit.tasks.task import Task

FORMAT_FAILURES = "format failures"


@dataclass(frozen=True)
class Judged:
    """One method's answers with one seed, scored.

    Attributes:
        predictions: By query id.
        by_query: Every metric that has a value per query, by query id and metric.
        scores: The same, pooled.
        users: The primary metric by user.
        seed: Of the training; 0 where there is one training alone.
        seconds: What answering took; 0 where that is kept elsewhere.
    """

    predictions: Mapping[str, str]
    by_query: Mapping[str, Mapping[str, float]]
    scores: Scores
    users: Aggregate
    seed: int = 0
    seconds: float = 0.0


def judged(
    task: Task,
    predictions: Mapping[str, str],
    golds: Mapping[str, str],
    users: Sequence[User],
    *,
    seed: int = 0,
    seconds: float = 0.0,
    own: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> Judged:
    """Score a method's answers.

    Args:
        task: Says what an answer is worth.
        predictions: By query id.
        golds: Of the same queries.
        users: Whose queries these are.
        seed, seconds: As in ``Judged``.
        own: Values of metrics of one's own, by metric and query, beside the task's.

    Raises:
        DataError: The ids disagree, there is none, or a gold is no answer of the task.
        MissingExtraError: scikit-learn or rouge_score is not installed (extra "eval").
    """
    by_query = {
        query: {**measured, **{name: values[query] for name, values in own.items()}}
        for query, measured in metrics_by_query(task, predictions, golds).items()
    }
    scores = pool(task, by_query, predictions, golds)
    return Judged(predictions, by_query, scores, aggregate(scores.per_query, users), seed, seconds)


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the sample standard deviation where there are two or more."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per seed."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    def text(self, digits: int = 3) -> str:
        """Mean, and standard deviation where it is known."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"

    def rate(self) -> str:
        """The same of a share, in per cent."""
        mean = f"{self.mean:.1%}"
        return mean if self.std is None else f"{mean} ± {self.std:.1%}"


def columns(seeds: Sequence[Judged]) -> dict[str, Spread]:
    """What a table says of a method: the task's metrics, "mean of users", "format failures".

    Args:
        seeds: The method with each of its seeds, one or more.
    """
    found = {name: Spread.of([one.scores.metrics[name] for one in seeds]) for name in seeds[0].scores.metrics}
    found[MEAN_OF_USERS] = Spread.of([one.users.mean_of_users for one in seeds])
    found[FORMAT_FAILURES] = Spread.of([one.scores.format_failure_rate for one in seeds])
    return found


def column_text(name: str, value: Spread) -> str:
    """A cell of one of ``columns``."""
    return value.rate() if name == FORMAT_FAILURES else value.text()


def values_by_query(seeds: Sequence[Judged], metric: str) -> dict[str, float]:
    """A metric that has a value per query, by query id, the mean over seeds."""
    return {query: fmean(one.by_query[query][metric] for one in seeds) for query in seeds[0].by_query}
