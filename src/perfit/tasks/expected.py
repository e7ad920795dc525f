"""A rating as numbers that labels' probabilities expect: the median for absolute errors, the mean for squared ones."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_HALF = 0.5 - 1e-9  # rounding alone must not move the median on
_FORM = re.compile(r"median (-?[0-9.e+-]+) mean (-?[0-9.e+-]+)")


@dataclass(frozen=True, slots=True)
class Expected:
    """Both numbers of one answer.

    Attributes:
        median: The smallest rating that half of the probability does not exceed; it makes the absolute error least.
        mean: It makes the squared error least.
    """

    median: float
    mean: float

    @classmethod
    def of(cls, labels: Sequence[str], log_probs: Sequence[float]) -> Expected:
        """Of the ratings' log-probabilities, which need not sum to 1: what is no rating is left out.

        Args:
            labels: The ratings, in any order.
            log_probs: Of each, at least one above minus infinity.
        """
        most = max(log_probs)
        weights = sorted((float(label), math.exp(p - most)) for label, p in zip(labels, log_probs, strict=True))
        total = math.fsum(weight for _, weight in weights)
        below, median = 0.0, weights[-1][0]
        for number, weight in weights:
            below += weight / total
            if below >= _HALF:
                median = number
                break
        return cls(median, math.fsum(number * weight for number, weight in weights) / total)

    @classmethod
    def read(cls, text: str) -> Expected | None:
        """From an answer's text; None where it is another kind of answer."""
        found = _FORM.fullmatch(text.strip())
        try:
            return None if found is None else cls(float(found[1]), float(found[2]))
        except ValueError:
            return None

    def text(self) -> str:
        """As answers are written: ``median 4 mean 3.7142``."""
        return f"median {self.median:g} mean {self.mean:.6g}"
