"""Whether a gain can be told from noise with this many users, and how many would be needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfit.evaluation.aggregate import Interval

FEWEST = 6  # users; of five alike a sign test says p = .06
_EQUAL = 1e-9
_REACH = 1.96 + 0.84  # standard errors: 95 % sure, in four of five such evaluations


@dataclass(frozen=True)
class Noise:
    """What the observed spread over users says of a gain.

    Attributes:
        told: Whether the gain can be told from noise: its 95 % interval over users leaves out 0, and users are enough.
        sign_test_p: Two-sided p-value of as many users being better and worse; None where nobody differs.
        users_needed: Where it cannot be told, about how many users would show a gain of this size in four of five
            evaluations, were their spread the one observed; None where it can be told, or nothing can be said.
        sentence: All of it in words.
    """

    told: bool
    sign_test_p: float | None
    users_needed: int | None
    sentence: str


def noise_of(sums: Sequence[float], counts: Sequence[int], gain: Interval, what: str) -> Noise:
    """Judge the pooled gain of users.

    Args:
        sums: Each user's gains, summed over the queries; positive is better.
        counts: Each user's queries.
        gain: ``sum(sums) / sum(counts)`` with its interval over users.
        what: Name of the metric.
    """
    users = len(sums)
    p = sign_test(sum(s > _EQUAL for s in sums), sum(s < -_EQUAL for s in sums))
    told = users >= FEWEST and gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
    needed = None if told else _needed(sums, counts, gain.value)
    return Noise(told, p, needed, _sentence(gain, what, users, told, p, needed))


def sign_test(better: int, worse: int) -> float | None:
    """Two-sided p-value that users are as often better as worse, ties left out; None where there are only ties."""
    n = better + worse
    if not n:
        return None
    tail = sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2.0**n
    return min(1.0, 2 * tail)


def _needed(sums: Sequence[float], counts: Sequence[int], gain: float) -> int | None:
    users = len(sums)
    if users < 2 or abs(gain) <= _EQUAL:
        return None
    # Users have unlike numbers of queries: the spread is that of a ratio's linearised residuals.
    each = np.asarray(counts, dtype=np.float64)
    spread = float(np.std((np.asarray(sums) - gain * each) / each.mean(), ddof=1))
    wanted = (_REACH * spread / gain) ** 2
    return _rounded(max(wanted, users + 1, FEWEST))


def _rounded(number: float) -> int:
    """Up to two digits: more is not known."""
    size = 10.0 ** max(math.floor(math.log10(number)) - 1, 0)
    return int(math.ceil(number / size) * size)


def _sentence(gain: Interval, what: str, users: int, told: bool, p: float | None, needed: int | None) -> str:
    if abs(gain.value) <= _EQUAL:
        return f"there is no gain in {what} to be told from noise: the difference over {users} users is 0"
    noun = "gain" if gain.value > 0 else "loss"
    bounds = "" if gain.low is None else f"95 % interval {gain.low:+.3f} to {gain.high:+.3f} over "
    tested = "" if p is None else f", sign test p {'< .001' if p < 0.001 else f'= {p:.3f}'}"
    verdict = "can" if told else "cannot"
    text = f"the {noun} of {gain.value:+.3f} in {what} {verdict} be told from noise ({bounds}{users} users{tested})"
    return text if needed is None else f"{text}; about {needed:,} users would be needed"
