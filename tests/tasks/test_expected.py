"""The rating that probabilities expect: by hand, and that it is what makes each error least."""

from __future__ import annotations

import math

import pytest

from perfit.tasks.expected import Expected

LABELS = ("3", "1", "5", "2.5")  # in no order, not evenly apart


def of(*probabilities: float) -> Expected:
    return Expected.of(LABELS, [math.log(p) if p else -math.inf for p in probabilities])


@pytest.mark.parametrize(
    ("probabilities", "median", "mean"),
    [
        ((0.1, 0.6, 0.3, 0.0), 1, 0.3 + 0.6 + 1.5),
        ((0.3, 0.2, 0.3, 0.2), 3, 0.9 + 0.2 + 1.5 + 0.5),  # 1 and 2.5 hold .4 together
        ((0.2, 0.1, 0.7, 0.0), 5, 0.6 + 0.1 + 3.5),
        ((0.0, 0.5, 0.5, 0.0), 1, 3),  # any number between is as good: the smallest
        ((0.0, 0.0, 0.0, 1.0), 2.5, 2.5),
    ],
)
def test_median_and_mean_by_hand(probabilities: tuple[float, ...], median: float, mean: float) -> None:
    found = of(*probabilities)
    assert (found.median, found.mean) == (median, pytest.approx(mean))


def test_what_is_no_rating_changes_nothing() -> None:
    whole = of(0.1, 0.6, 0.3, 0.0)
    part = of(0.0001, 0.0006, 0.0003, 0.0)
    assert (part.median, part.mean) == (whole.median, pytest.approx(whole.mean))
    far = Expected.of(LABELS, [-2000.0, -2001.0, -2003.0, -2000.5])
    assert 1 < far.mean < 5


def test_each_makes_its_own_error_least() -> None:
    weights = dict(zip(map(float, LABELS), (0.2, 0.45, 0.25, 0.1), strict=True))
    found = of(*weights.values())
    absolute = {x / 20: sum(p * abs(x / 20 - n) for n, p in weights.items()) for x in range(20, 101)}
    squared = {x / 20: sum(p * (x / 20 - n) ** 2 for n, p in weights.items()) for x in range(20, 101)}
    assert found.median == min(absolute, key=absolute.__getitem__)
    assert abs(found.mean - min(squared, key=squared.__getitem__)) <= 0.025


def test_as_text_and_back() -> None:
    assert Expected(4, 3.71423456).text() == "median 4 mean 3.71423"
    assert Expected.read(" median 2.5 mean 3.71423\n") == Expected(2.5, 3.71423)
    for other in ("4", "median 4", "median 4 mean", "mean 4 median 3", "median e mean 4", "the median 4 mean 4", ""):
        assert Expected.read(other) is None
