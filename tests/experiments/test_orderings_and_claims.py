"""Orders against scipy's, and claims that are seen, not seen, and cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from perfit.experiments.claims import MISSING, NOT_SEEN, SEEN, UNKNOWN, judge
from perfit.experiments.orderings import kendall, ordering
from perfit.experiments.paper.entry import Claim
from perfit.experiments.scores import Score, Scored

COLUMN = "movie_tagging.accuracy"


def scored(users: int = 20, column: str = COLUMN, **means: tuple[float, float]) -> Scored:
    """Rows by label, each with a mean and the spread of its samples."""
    chance = np.random.default_rng(0)
    samples = {(label, column): mean + spread * chance.standard_normal(400) for label, (mean, spread) in means.items()}
    scores = {(label, column): Score(mean, None, None, None, (mean,), 1) for label, (mean, _) in means.items()}
    return Scored(scores, samples, {"movie_tagging": users})


def above(better: str, worse: str, column: str = COLUMN) -> Claim:
    return Claim("a is better", 1, "above", (better,), (worse,), (column,))


def verdict(claim: Claim, found: Scored, **measures: float) -> str:
    return judge(claim, found, measures, found.users, ["movie_tagging", "product_rating"]).verdict


def test_tau_is_scipys_ties_included() -> None:
    from scipy.stats import kendalltau

    chance = np.random.default_rng(3)
    ours, printed = chance.integers(0, 4, (30, 7)).astype(float), chance.integers(0, 5, 7).astype(float)
    wanted = [kendalltau(row, printed).statistic for row in ours]
    assert kendall(ours, printed) == pytest.approx(np.array(wanted), nan_ok=True)


def test_an_order_has_an_interval_and_needs_three_rows() -> None:
    printed, ours = {"a": 0.1, "b": 0.2, "c": 0.3}, {"a": 1.0, "b": 3.0, "c": 2.0}
    samples = {name: np.array([value, value + (5 if name == "c" else 0)]) for name, value in ours.items()}
    found = ordering("x", ["a", "b", "c"], printed, ours, samples)
    assert found is not None
    assert (found.tau, found.rows) == (pytest.approx(1 / 3), 3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.high <= 1
    assert ordering("x", ["a", "b"], printed, ours, samples) is None
    assert ordering("x", ["a", "b", "c"], printed, {"a": 1.0, "b": 1.0, "c": 1.0}, {}).tau is None  # type: ignore[union-attr]


def test_what_is_clear_is_seen_or_not_and_what_is_not_clear_is_not_told() -> None:
    found = scored(a=(0.7, 0.01), b=(0.5, 0.01), c=(0.69, 0.2))
    assert verdict(above("a", "b"), found) == SEEN
    assert verdict(above("b", "a"), found) == NOT_SEEN
    assert verdict(above("a", "c"), found) == UNKNOWN
    assert verdict(above("a", "nobody"), found) == MISSING


def test_with_few_users_nothing_is_told() -> None:
    assert verdict(above("a", "b"), scored(9, a=(0.7, 0.01), b=(0.5, 0.01))) == UNKNOWN


def test_of_errors_the_lower_is_better() -> None:
    column = "product_rating.mae"
    found = scored(column=column, a=(0.2, 0.01), b=(0.5, 0.01))
    found = Scored(found.scores, found.samples, {"product_rating": 20})
    assert verdict(above("a", "b", column), found) == SEEN


def test_near_needs_the_whole_interval_within_the_margin() -> None:
    found = scored(a=(0.50, 0.001), b=(0.505, 0.001), c=(0.9, 0.001), d=(0.5, 0.1))

    def near(label: str) -> str:
        return verdict(Claim("alike", 1, "near", (label,), ("b",), (COLUMN,), 0.02), found)

    assert (near("a"), near("c"), near("d")) == (SEEN, NOT_SEEN, UNKNOWN)


def test_the_worst_part_decides_and_parts_are_said() -> None:
    found = scored(a=(0.7, 0.01), b=(0.5, 0.01), c=(0.9, 0.01))
    judged = judge(Claim("best", 1, "above", ("a",), ("b", "c"), (COLUMN,)), found, {}, found.users, ["movie_tagging"])
    assert (judged.verdict, judged.parts) == (NOT_SEEN, {SEEN: 1, NOT_SEEN: 1})
    assert len(judged.details) == 1


def test_columns_that_nobody_wanted_are_said_and_not_missing() -> None:
    found = scored(a=(0.7, 0.01), b=(0.5, 0.01))
    claim = Claim("best", 1, "above", ("a",), ("b",), (COLUMN, "news_headline.rouge1"))
    judged = judge(claim, found, {}, found.users, ["movie_tagging"])
    assert (judged.verdict, judged.details) == (SEEN, ("1 of 2 columns were run",))


def test_a_measure_lies_below_or_above_its_bound() -> None:
    found = scored(a=(0.7, 0.01))

    def told(**bound: float) -> str:
        return verdict(
            Claim("low", 1, "measured", measures=("movie_tagging.r",), **bound), found, **{"movie_tagging.r": 3.0}
        )

    assert (told(below=4.0), told(below=3.0), told(above=2.0)) == (SEEN, NOT_SEEN, SEEN)
    assert verdict(Claim("low", 1, "measured", measures=("movie_tagging.x",), below=1.0), found) == MISSING


def test_a_bound_that_so_few_users_cannot_reach_is_not_told() -> None:
    """One direction of twelve users is eight hundredths of what there could be: no number of theirs is below three."""
    claim = Claim("low rank", 1, "measured", measures=("movie_tagging.ratio",), below=0.03, fewest=100)
    judged = judge(claim, scored(99), {"movie_tagging.ratio": 0.08}, {"movie_tagging": 99}, ["movie_tagging"])
    assert judged.verdict == "cannot be told"
    assert "takes 100 users" in judged.details[0]
    assert (
        judge(claim, scored(100), {"movie_tagging.ratio": 0.08}, {"movie_tagging": 100}, ["movie_tagging"]).verdict
        == "not seen"
    )
