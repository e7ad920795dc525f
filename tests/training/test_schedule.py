from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learners import naive_rate

from perfit.config import StageConfig
from perfit.training.schedule import epoch_batches, learning_rate, stable_random, steps_per_epoch, total_steps

stages = st.builds(
    StageConfig,
    epochs=st.integers(1, 5),
    batch_size=st.integers(1, 20),
    warmup=st.floats(0, 0.9),
    group_by_length=st.booleans(),
)
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=200)


@given(st.integers(1, 300), stages)
def test_steps_are_counted_with_the_last_short_batch(rows: int, config: StageConfig) -> None:
    batches = epoch_batches([1] * rows, config, seed=0, learner="u", epoch=0)
    assert len(batches) == steps_per_epoch(rows, config.batch_size)
    assert total_steps(rows, config) == len(batches) * config.epochs


@given(st.integers(1, 200), stages)
def test_the_rate_rises_to_the_peak_falls_and_is_never_zero(total: int, config: StageConfig) -> None:
    rates = [learning_rate(step, total, config) for step in range(total)]
    warm = int(total * config.warmup)
    assert all(0 < rate <= config.learning_rate for rate in rates)
    assert rates[warm] == max(rates) == config.learning_rate
    assert rates[: warm + 1] == sorted(rates[: warm + 1])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    # Straight lines: equal differences on either side of the peak.
    for side in (rates[: warm + 1], rates[warm:]):
        steps = [b - a for a, b in pairwise(side)]
        assert all(step == pytest.approx(steps[0], abs=1e-12) for step in steps)
    assert rates[-1] == pytest.approx(config.learning_rate / max(total - warm, 1))


def test_known_rates() -> None:
    config = StageConfig(learning_rate=1.0, warmup=0.2)
    got = [learning_rate(step, 10, config) for step in range(10)]
    assert got == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert got == pytest.approx([naive_rate(step, 10, 1.0, 0.2) for step in range(10)])
    assert learning_rate(0, 1, config) == 1.0


@given(lengths, stages, st.integers(0, 9), st.integers(0, 4))
def test_each_row_comes_once_an_epoch(rows: list[int], config: StageConfig, seed: int, epoch: int) -> None:
    batches = epoch_batches(rows, config, seed=seed, learner="u", epoch=epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    assert all(0 < len(batch) <= config.batch_size for batch in batches)
    assert batches == epoch_batches(rows, config, seed=seed, learner="u", epoch=epoch)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_differs_by_learner_epoch_and_seed(grouped: bool) -> None:
    config = StageConfig(batch_size=4, group_by_length=grouped)
    rows = [1 + i % 7 for i in range(40)]
    base = epoch_batches(rows, config, seed=0, learner="u", epoch=0)
    assert base != epoch_batches(rows, config, seed=1, learner="u", epoch=0)
    assert base != epoch_batches(rows, config, seed=0, learner="v", epoch=0)
    assert base != epoch_batches(rows, config, seed=0, learner="u", epoch=1)


def test_grouped_batches_hold_rows_of_like_length() -> None:
    rows = [(7 * i) % 100 for i in range(100)]

    def spread(grouped: bool) -> int:
        config = StageConfig(batch_size=5, group_by_length=grouped)
        batches = epoch_batches(rows, config, seed=0, learner="u", epoch=0)
        return sum(max(rows[i] for i in b) - min(rows[i] for i in b) for b in batches)

    assert spread(True) < 0.15 * spread(False)


def test_rows_are_sorted_inside_groups_of_fifty_batches_only() -> None:
    # 400 different lengths in pairs: sorted all together every pair would be of neighbours.
    config = StageConfig(batch_size=2)
    batches = epoch_batches(range(400), config, seed=0, learner="u", epoch=0)
    apart = [max(batch) - min(batch) for batch in batches]
    assert 2 < sum(apart) / len(apart) < 8


def test_no_length_comes_first() -> None:
    config, rows = StageConfig(batch_size=4), list(range(40))
    first = [epoch_batches(rows, config, seed=0, learner="u", epoch=epoch)[0] for epoch in range(30)]
    assert len({max(batch) for batch in first}) > 5


def test_names_that_join_alike_are_still_different() -> None:
    assert stable_random(0, "a", "bc").random() != stable_random(0, "ab", "c").random()
    assert stable_random(1, "a").random() == stable_random(1, "a").random()
