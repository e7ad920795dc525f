"""Bootstrap and tests, against their definitions and scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.data.schema import Query, User
from perfit.errors import ConfigError
from perfit.evaluation.aggregate import compare
from perfit.evaluation.bootstrap import Summed, bootstrap_p, interval, resampled, summed
from perfit.evaluation.score import metrics_by_query, pool, score
from perfit.evaluation.significance import holm, wilcoxon_p
from perfit.tasks import get_task

NEWS, RATING, TITLE = get_task("2N"), get_task("3"), get_task("5")
ANSWERS = {
    "label": st.sampled_from([*NEWS.labels[:3], "none of them"]),
    "rating": st.sampled_from(["1", "2", "5", "seven", "4.5"]),
    "text": st.sampled_from(["a cat", "the cat sat", "", "a dog sat"]),
}
GOLDS = {"label": NEWS.labels[:3], "rating": RATING.labels, "text": ("a cat sat", "the dog")}


def measured(task, predictions, golds):  # type: ignore[no-untyped-def]
    rows = metrics_by_query(task, predictions, golds)
    names = pool(task, rows, predictions, golds).metrics
    return {name: summed(task, name, rows, predictions, golds) for name in names}


@pytest.mark.parametrize("task", [NEWS, RATING, TITLE], ids=["label", "rating", "text"])
@settings(max_examples=30)
@given(data=st.data())
def test_sums_give_the_scores_of_every_metric_on_any_resample(task, data) -> None:  # type: ignore[no-untyped-def]
    size = data.draw(st.integers(1, 6))
    golds = {str(n): data.draw(st.sampled_from(GOLDS[task.kind])) for n in range(size)}
    predictions = {query: data.draw(ANSWERS[task.kind]) for query in golds}
    drawn = data.draw(st.lists(st.sampled_from(sorted(golds)), min_size=1, max_size=8))
    counts = np.array([drawn.count(query) for query in golds], dtype=float)
    again = {f"{query}/{n}": query for n, query in enumerate(drawn)}
    wanted = score(
        task,
        {name: predictions[query] for name, query in again.items()},
        {name: golds[query] for name, query in again.items()},
    )
    for name, one in measured(task, predictions, golds).items():
        value = one.value(counts @ one.parts, counts.sum())
        assert value == pytest.approx(wanted.metrics[name], abs=1e-12), name


def test_the_interval_over_users_is_that_of_compare() -> None:
    chance = np.random.default_rng(3)
    users = [
        User(f"u{n}", (), tuple(Query(f"{n}/{m}", "x", "y") for m in range(chance.integers(1, 6)))) for n in range(9)
    ]
    owner = [user.id for user in users for _ in user.queries]
    mine = {query.id: float(chance.integers(0, 2)) for user in users for query in user.queries}
    other = {query: float(chance.integers(0, 2)) for query in mine}
    parts = {
        name: Summed("accuracy", np.array([[value] for value in values.values()]))
        for name, values in (("mine", mine), ("other", other))
    }
    drawn = resampled(parts, owner, resamples=400, seed=5)
    wanted = compare(mine, other, users, higher_is_better=True, resamples=400, seed=5)
    low, high = interval(drawn["mine"] - drawn["other"])
    assert (low, high) == (pytest.approx(wanted.gain.low), pytest.approx(wanted.gain.high))


def test_resamples_in_parts_are_those_of_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"a": Summed("accuracy", np.arange(5.0)[:, None])}
    whole = resampled(parts, range(5), resamples=50)["a"]
    monkeypatch.setattr("perfit.evaluation.bootstrap._CELLS", 35)
    assert np.array_equal(resampled(parts, range(5), resamples=50)["a"], whole)
    assert len(whole) == 50
    assert 0 <= whole.min() < whole.max() <= 4


def test_one_group_leaves_nothing_to_resample() -> None:
    parts = {"a": Summed("accuracy", np.ones((3, 1)))}
    assert len(resampled(parts, ["anna"] * 3)["a"]) == 0
    assert interval(np.empty(0)) == (None, None)
    assert bootstrap_p(np.empty(0)) is None
    with pytest.raises(ConfigError, match="resamples is 0"):
        resampled(parts, range(3), resamples=0)


@pytest.mark.parametrize(
    ("gains", "p"),
    [
        ([0.0] * 99, 1.0),
        ([0.1] * 99, 0.02),
        ([-0.1] * 99, 0.02),
        ([0.1] * 89 + [-0.1] * 10, 2 * 11 / 100),
        ([0.1, -0.1], 1.0),
    ],
)
def test_the_bootstrap_p_counts_the_smaller_side(gains: list[float], p: float) -> None:
    assert bootstrap_p(np.array(gains)) == pytest.approx(p)


def test_wilcoxon_is_scipys_without_the_equal_pairs() -> None:
    from scipy import stats

    gains = [0.3, -0.1, 0.2, 0.5, 0.05, 0.4, -0.02, 0.6]
    assert wilcoxon_p([*gains, 0.0, 1e-17]) == pytest.approx(stats.wilcoxon(gains).pvalue)
    # By hand: ranks of the negative ones are 1 and 3 of 8; exact two-sided p = 2 · P(W <= 4) = 2 · 7 / 2^8.
    assert wilcoxon_p(gains) == pytest.approx(14 / 256)
    assert wilcoxon_p([0.0, 0.0]) == 1.0
    assert wilcoxon_p([1.0]) is None


def test_rounding_breaks_no_tie() -> None:
    assert wilcoxon_p([0.1 + 0.2, -0.3, 0.3, 0.3]) == wilcoxon_p([0.3, -0.3, 0.3, 0.3])


def test_a_real_difference_is_found_and_no_difference_is_not() -> None:
    chance = np.random.default_rng(0)
    noise = chance.normal(size=(40, 1))
    parts = {
        "same": Summed("accuracy", noise + 0.01 * chance.normal(size=(40, 1))),
        "other": Summed("accuracy", noise),
        "better": Summed("accuracy", noise + 0.2 + 0.1 * chance.normal(size=(40, 1))),
    }
    drawn = resampled(parts, range(40), resamples=2000)
    small, large = (bootstrap_p(drawn[name] - drawn["other"]) for name in ("better", "same"))
    assert small is not None
    assert large is not None
    assert small < 0.01 < 0.05 < large


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.0, 0.02]) == [0.0, 0.02]  # as small as a p-value of ranks gets: a test like any other
    assert holm([]) == []


def test_sums_of_expected_ratings_square_the_errors_of_their_means() -> None:
    task, golds = get_task("3"), {"a": "5", "b": "2", "c": "4"}
    told = {"a": "median 4 mean 3.5", "b": "median 2 mean 2.25", "c": "3"}
    rows = metrics_by_query(task, told, golds)
    for metric, value in score(task, told, golds).metrics.items():
        one = summed(task, metric, rows, told, golds)
        assert one.value(one.parts.sum(0), np.array(3)) == pytest.approx(value)
