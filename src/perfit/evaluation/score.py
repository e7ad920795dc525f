"""Scores of predictions, with the semantics of the LaMP evaluator that OPPU and the paper use."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from statistics import fmean
from typing import Any

from perfit.errors import ConfigError, DataError
from perfit.extras import import_extra
from perfit.tasks.expected import Expected
from perfit.tasks.task import Task, as_number
from perfit.words import composed, mostly_latin, other_letters, tokens, visible

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "accuracy": True,
    "macro_f1": True,
    "mae": False,
    "rmse": False,
    "rouge1": True,
    "rougeL": True,
    "rouge1_recall": True,
    "rougeL_recall": True,
    "exact_match": True,
    "format_failure_rate": False,
}
"""The direction of every metric of perfit's."""
_OWN: dict[str, bool] = {}


_PROTOCOL_WORD = re.compile("[a-z0-9]")


@dataclass(frozen=True)
class Scores:
    """What a method reached on a set of queries; all values are pooled over the queries, none is a percentage.

    Attributes:
        task: Name of the task.
        n: Number of queries.
        metrics: All metrics of the task's kind.
        format_failure_rate: Share of predictions that are no answer at all: outside the label set; no number, or one
            outside the ratings; empty text. A method can score low for this reason alone (paper, Table 3, base row).
        primary: Name of the metric in ``per_query``.
        per_query: The primary metric of each query: 0 or 1, absolute error, or ROUGE.
    """

    task: str
    n: int
    metrics: Mapping[str, float]
    format_failure_rate: float
    primary: str
    per_query: Mapping[str, float]

    @property
    def higher_is_better(self) -> bool:
        """The direction of the primary metric."""
        return HIGHER_IS_BETTER[self.primary]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def score(task: Task, predictions: Mapping[str, str], golds: Mapping[str, str]) -> Scores:
    """Score predictions by query id against golds by query id.

    Both are stripped, composed (NFC: one spelling of "é") and, of the same number, one rating; nothing else is repaired.

    * label: exact match with a label; accuracy, and macro F1 over the *full* label list, so that a label absent from
      the data counts as 0 (as the LaMP evaluator does).
    * rating: the prediction as a number; where it is none, the end of the scale farther from the gold. MAE and RMSE. Of
      an expected rating (``tasks.expected``) MAE takes the median and RMSE the mean.
    * text: ROUGE-1 and ROUGE-L F-measure without stemming, and exact match. The mean over queries is the plain one;
      the reference prints the middle value of a bootstrap, which is close to it but random.
      ``*_recall`` are the formulas of the paper's Table 7, which its reference code does not compute.
      rouge_score's own words are Latin letters without accents and digits. Where most letters of the gold are of
      another script, words are what Unicode says (``perfit.words.tokens``: characters in scripts without blanks), and
      where it has neither letters nor digits, its characters. Letters of other scripts in a Latin gold stay unseen, as
      in the protocol; a warning counts such golds.

    Raises:
        DataError: The ids disagree, there is none, or a gold is no answer of the task.
        MissingExtraError: scikit-learn or rouge_score is not installed (extra "eval").
    """
    return pool(task, metrics_by_query(task, predictions, golds), predictions, golds)


def metrics_by_query(
    task: Task, predictions: Mapping[str, str], golds: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Every metric that has a value per query, by query id and metric; ``score`` says what they mean and raises."""
    _check_ids(predictions, golds)
    if task.kind == "text":
        _warn_of_unseen(golds.values())
    return {
        query: _metrics_of_one(task, composed(predictions[query]).strip(), gold)
        for query, gold in _spelled(task, golds).items()
    }


def pool(
    task: Task,
    by_query: Mapping[str, Mapping[str, float]],
    predictions: Mapping[str, str],
    golds: Mapping[str, str],
) -> Scores:
    """The scores of what ``metrics_by_query`` measured of these predictions and golds."""
    golds = _spelled(task, golds)
    predictions = {query: predictions[query].strip() for query in golds}
    metrics = {name: fmean(one[name] for one in by_query.values()) for name in next(iter(by_query.values()))}
    if task.kind == "label":
        metrics["macro_f1"] = _macro_f1(task, predictions, golds)
    if task.kind == "rating":
        errors = mean_errors(task, by_query, predictions, golds)
        metrics["rmse"] = math.hypot(*errors.values()) / math.sqrt(len(by_query))
    return Scores(
        task=task.name,
        n=len(by_query),
        metrics=metrics,
        format_failure_rate=fmean(is_format_failure(task, prediction) for prediction in predictions.values()),
        primary=task.primary_metric,
        per_query={query: one[task.primary_metric] for query, one in by_query.items()},
    )


def mean_errors(
    task: Task, by_query: Mapping[str, Mapping[str, float]], predictions: Mapping[str, str], golds: Mapping[str, str]
) -> dict[str, float]:
    """What RMSE squares, by query: the absolute error, of an expected rating that of its mean."""
    errors = {}
    for query, one in by_query.items():
        expected = Expected.read(predictions[query])
        errors[query] = one["mae"] if expected is None else abs(expected.mean - float(task.spelled(golds[query]) or 0))
    return errors


def per_query(task: Task, prediction: str, gold: str) -> float:
    """The primary metric of one prediction: 0 or 1 for labels, absolute error for ratings, ROUGE-L for text.

    Raises:
        DataError: The gold is no answer of the task.
        MissingExtraError: rouge_score is not installed (extra "eval"; text only).
    """
    gold = task.check_gold(gold, "the gold answer")
    return _metrics_of_one(task, composed(prediction).strip(), gold)[task.primary_metric]


def is_format_failure(task: Task, prediction: str) -> bool:
    """Whether a prediction is no answer at all, whatever the gold (see ``Scores.format_failure_rate``)."""
    prediction = prediction.strip()
    if task.kind == "label":
        return task.spelled(prediction) is None
    if task.kind == "rating":
        value = _rating(prediction)
        low, high = _scale(task)
        return value is None or not low <= value <= high
    return not prediction


def higher_is_better(metric: str) -> bool:
    """The direction of a metric.

    Raises:
        ConfigError: There is no such metric.
    """
    if metric in _OWN:
        return _OWN[metric]
    if metric not in HIGHER_IS_BETTER:
        raise ConfigError(f"metric is {metric!r}; use one of {', '.join(HIGHER_IS_BETTER)}")
    return HIGHER_IS_BETTER[metric]


def direct(metric: str, higher: bool) -> None:
    """Say which direction of a metric of one's own is better."""
    _OWN[metric] = higher


def _check_ids(predictions: Mapping[str, str], golds: Mapping[str, str]) -> None:
    missing = [query for query in golds if query not in predictions]
    unknown = [query for query in predictions if query not in golds]
    faults = [
        f"{len(ids)} {fault} ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})"
        for ids, fault in ((missing, "queries without prediction"), (unknown, "predictions without gold"))
        if ids
    ]
    if faults:
        raise DataError("; ".join(faults), remedy="give exactly one prediction per gold")
    if not golds:
        raise DataError("there is nothing to score", remedy="give at least one gold answer")


def _spelled(task: Task, golds: Mapping[str, str]) -> dict[str, str]:
    return {query: task.check_gold(gold, f"query {query}") for query, gold in golds.items()}


def _warn_of_unseen(golds: Iterable[str]) -> None:
    unseen = sum(1 for gold in golds if mostly_latin(gold) and other_letters(gold))
    if unseen:
        warnings.warn(
            f"{unseen} gold answers have letters of other scripts beside Latin ones; the protocol's ROUGE does not see them",
            stacklevel=4,
        )


def _metrics_of_one(task: Task, prediction: str, gold: str) -> dict[str, float]:
    if task.kind == "label":
        return {"accuracy": float(task.spelled(prediction) == gold)}
    if task.kind == "rating":
        wanted = float(gold)
        value = _rating(prediction)
        if value is None:
            value = _farther_end(task, wanted)
        return {"mae": abs(value - wanted)}
    rouge = _rouge_scorer(_words_of(gold)).score(gold, prediction)
    return {
        "rouge1": float(rouge["rouge1"].fmeasure),
        "rougeL": float(rouge["rougeL"].fmeasure),
        "rouge1_recall": float(rouge["rouge1"].recall),
        "rougeL_recall": float(rouge["rougeL"].recall),
        "exact_match": float(prediction == gold),
    }


def _rating(prediction: str) -> float | None:
    expected = Expected.read(prediction)
    return as_number(prediction) if expected is None else expected.median


def _farther_end(task: Task, gold: float) -> float:
    low, high = _scale(task)
    return low if abs(low - gold) > abs(high - gold) else high


def _scale(task: Task) -> tuple[float, float]:
    values = [float(label) for label in task.labels]
    return min(values), max(values)


def _macro_f1(task: Task, predictions: Mapping[str, str], golds: Mapping[str, str]) -> float:
    metrics = import_extra("sklearn.metrics", "scikit-learn")
    index = {label: position for position, label in enumerate(task.labels)}
    wanted = [index[gold] for gold in golds.values()]
    found = [index.get(task.spelled(predictions[query]) or "", -1) for query in golds]
    return float(metrics.f1_score(wanted, found, labels=range(len(index)), average="macro", zero_division=0))


def _words_of(gold: str) -> Callable[[str], list[str]] | None:
    """How a gold answer and its predictions are split into words; None for the protocol's own way."""
    if mostly_latin(gold) and _PROTOCOL_WORD.search(gold.lower()):
        return None
    return tokens if tokens(gold) else visible


@cache
def _rouge_scorer(words: Callable[[str], list[str]] | None = None) -> Any:
    scorer = import_extra("rouge_score.rouge_scorer", "rouge_score").RougeScorer
    return scorer(["rouge1", "rougeL"], use_stemmer=False, tokenizer=None if words is None else _Words(words))


class _Words:
    """A tokenizer as rouge_score takes them."""

    def __init__(self, words: Callable[[str], list[str]]):
        self.tokenize = words
