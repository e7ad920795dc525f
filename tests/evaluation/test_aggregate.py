"""From queries to users."""

from __future__ import annotations

import json

import numpy as np
import pytest

from perfit.data.schema import Query, User
from perfit.errors import ConfigError, DataError
from perfit.evaluation import bootstrap as module
from perfit.evaluation.aggregate import aggregate, compare

USERS = [
    User("a", queries=(Query("a1", "x"), Query("a2", "x"), Query("a3", "x"))),
    User("b", queries=(Query("b1", "x"),)),
    User("none"),
    User("c", queries=(Query("c1", "x"),)),
]
MINE = {"a1": 1.0, "a2": 1.0, "a3": 0.0, "b1": 0.0, "c1": 1.0}
OTHER = {"a1": 0.0, "a2": 1.0, "a3": 0.0, "b1": 1.0, "c1": 1.0}


def test_pooled_and_by_user() -> None:
    result = aggregate(MINE, USERS)
    assert (result.n_users, result.n_queries) == (3, 5)
    assert result.pooled == pytest.approx(3 / 5)
    assert result.mean_of_users == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert [(user.user, user.n) for user in result.users] == [("a", 3), ("b", 1), ("c", 1)]
    assert json.loads(json.dumps(result.as_dict()))["users"][0]["mean"] == pytest.approx(2 / 3)


def test_who_is_helped_and_who_is_harmed() -> None:
    result = compare(MINE, OTHER, USERS, higher_is_better=True)
    assert (result.helped, result.harmed, result.equal) == (1, 1, 1)
    assert result.gain.value == pytest.approx(0.0)
    assert result.gain_of_users.value == pytest.approx((1 / 3 - 1 + 0) / 3)
    assert json.loads(json.dumps(result.as_dict()))["gain"]["value"] == result.gain.value


def test_the_direction_turns_gain_and_counts() -> None:
    better = {**OTHER, "a1": 5.0}
    higher = compare(better, OTHER, USERS, higher_is_better=True)
    lower = compare(better, OTHER, USERS, higher_is_better=False)
    assert (higher.helped, higher.harmed, lower.helped, lower.harmed) == (1, 0, 0, 1)
    assert higher.gain.value == -lower.gain.value == pytest.approx(1.0)


def test_equal_values_in_another_order_are_equal() -> None:
    users = [User("a", queries=tuple(Query(str(i), "x") for i in range(3)))]
    values = {"0": 0.1, "1": 0.3, "2": 0.7}, {"0": 0.7, "1": 0.1, "2": 0.3}
    assert sum(values[0][query] - values[1][query] for query in "012") != 0
    for mine, other in (values, values[::-1]):  # rounding leaves a trace above 0 one way and below it the other
        result = compare(mine, other, users, higher_is_better=True)
        assert (result.helped, result.harmed, result.equal) == (0, 0, 1)


def many(seed: int = 0) -> tuple[list[User], dict[str, float], dict[str, float]]:
    generator = np.random.default_rng(seed)
    users = [User(f"u{i}", queries=tuple(Query(f"u{i}.{j}", "x") for j in range(1 + i % 7))) for i in range(60)]
    ids = [query.id for user in users for query in user.queries]
    other = {query: float(generator.normal()) for query in ids}
    return users, {query: value + 0.2 + float(generator.normal()) for query, value in other.items()}, other


def test_the_interval_is_a_percentile_bootstrap_over_users() -> None:
    users, mine, other = many()
    result = compare(mine, other, users, higher_is_better=True, resamples=4000)
    sums = [sum(mine[q.id] - other[q.id] for q in user.queries) for user in users]
    counts = [len(user.queries) for user in users]
    generator = np.random.default_rng(99)
    picks = generator.integers(0, len(users), size=(4000, len(users)))
    low, high = np.quantile(np.array(sums)[picks].sum(1) / np.array(counts)[picks].sum(1), [0.025, 0.975])
    assert result.gain.low == pytest.approx(low, abs=0.02)
    assert result.gain.high == pytest.approx(high, abs=0.02)
    assert result.gain.low is not None
    assert result.gain.low < result.gain.value


def test_the_interval_of_users_means_weighs_users_alike() -> None:
    users, mine, other = many()
    # Users with many queries gain far more, so that the two gains lie apart.
    mine = {query.id: mine[query.id] + len(user.queries) for user in users for query in user.queries}
    result = compare(mine, other, users, higher_is_better=True, resamples=4000)
    means = np.array([np.mean([mine[q.id] - other[q.id] for q in user.queries]) for user in users])
    picks = np.random.default_rng(99).integers(0, len(users), size=(4000, len(users)))
    low, high = np.quantile(means[picks].mean(1), [0.025, 0.975])
    assert (result.gain_of_users.low, result.gain_of_users.high) == pytest.approx((low, high), abs=0.05)
    assert result.gain.low is not None
    assert result.gain.low > result.gain_of_users.value


def test_seeds_and_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    users, mine, other = many()
    first = compare(mine, other, users, higher_is_better=True, resamples=500, seed=3)
    assert first == compare(mine, other, users, higher_is_better=True, resamples=500, seed=3)
    assert first.gain != compare(mine, other, users, higher_is_better=True, resamples=500, seed=4).gain
    monkeypatch.setattr(module, "_CELLS", 700)
    again = compare(mine, other, users, higher_is_better=True, resamples=500, seed=3)
    assert (again.gain.low, again.gain.high) == pytest.approx((first.gain.low, first.gain.high), abs=1e-12)


def test_one_user_gives_no_interval() -> None:
    result = compare({"b1": 1.0}, {"b1": 0.0}, USERS[1:2], higher_is_better=True)
    assert (result.gain.value, result.gain.low, result.gain.high) == (1.0, None, None)


def test_faults() -> None:
    with pytest.raises(DataError, match="1 queries of the users have no value and 1 values belong to no query"):
        aggregate({**{k: v for k, v in MINE.items() if k != "a1"}, "z": 1.0}, USERS)
    with pytest.raises(DataError, match="no queries"):
        aggregate({}, [User("a")])
    with pytest.raises(DataError, match="share an id"):
        aggregate(MINE, [*USERS, USERS[0]])
    with pytest.raises(ConfigError, match="confidence is 95"):
        compare(MINE, OTHER, USERS, higher_is_better=True, confidence=95)
    with pytest.raises(ConfigError, match="resamples is 0"):
        compare(MINE, OTHER, USERS, higher_is_better=True, resamples=0)
