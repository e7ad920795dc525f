"""A metric of one's own: a function of one answer and its gold, averaged over the queries like any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perfit.errors import ConfigError
from perfit.evaluation.score import HIGHER_IS_BETTER, direct
from perfit.own import address_of, load

ENTRY_POINTS = "perfit.metrics"


@dataclass(frozen=True)
class Metric:
    """A metric that has a value per query.

    Attributes:
        name: Of its column.
        worth: Its value for a prediction and the gold answer, both without blanks around them.
    """

    name: str
    worth: Callable[[str, str], float]

    def of(self, prediction: str, gold: str) -> float:
        """The value.

        Raises:
            ConfigError: The function failed, or gave no number; neither answer is quoted.
        """
        try:
            value = float(self.worth(prediction.strip(), gold.strip()))
        except Exception as error:
            raise ConfigError(f"metric: {self.name} failed on an answer ({type(error).__name__}); mend it") from error
        if not math.isfinite(value):
            raise ConfigError(f"metric: {self.name} gave {value} for an answer; give a finite number")
        return value


def metrics_of(names: Sequence[str]) -> tuple[Metric, ...]:
    """Metrics by name.

    Args:
        names: ``package.module:function``, or entry points of the group "perfit.metrics". A function whose attribute
            ``higher_is_better`` is False is one of errors.

    Raises:
        ConfigError: One cannot be imported, is no function, or its name is a metric of perfit's.
    """
    found: list[Metric] = []
    for name in names:
        if (place := address_of(name, ENTRY_POINTS)) is None:
            raise ConfigError(f"metric: {name!r} is unknown; write package.module:function")
        worth = load(place, "metric")
        column = name.rpartition(":")[2]
        if not callable(worth):
            raise ConfigError(f"metric: {place} is no function of a prediction and a gold answer")
        if column in HIGHER_IS_BETTER or column in (one.name for one in found):
            raise ConfigError(f"metric: {column} is another metric's name; call it otherwise")
        direct(column, bool(getattr(worth, "higher_is_better", True)))
        found.append(Metric(column, worth))
    return tuple(found)


def own_values(
    metrics: Sequence[Metric], predictions: Mapping[str, str], golds: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """What each gives, by metric and query id.

    Raises:
        ConfigError: One fails.
    """
    return {
        metric.name: {query: metric.of(predictions[query], gold) for query, gold in golds.items()} for metric in metrics
    }
