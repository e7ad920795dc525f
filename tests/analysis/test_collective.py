"""A planted collective direction is found, its share is right, controls are told apart, and noise stays silent."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from planted import USERS, direction, noise

from perfit.analysis.collective import collective_shift, compare_control, cosines


@pytest.mark.parametrize("size", [0.5, 1.0, 3.0])
def test_a_planted_direction_is_found_with_its_share(size: float) -> None:
    found = collective_shift(noise() + size * direction())
    # |mean|² is size² and the noise of the mean's own.
    assert found.share == pytest.approx((size**2 + 1 / USERS) / (size**2 + 1), abs=0.06)
    assert found.p < 0.001
    assert found.chance == pytest.approx(1 / USERS, rel=0.2)
    assert found.norm == pytest.approx(size, abs=0.2)
    assert found.personal_norm == pytest.approx(1, abs=0.1)
    assert found.cosine == pytest.approx(size**2 / (np.sqrt(size**2 + 1) * np.sqrt(size**2 + 1 / USERS)), abs=0.1)


def test_noise_has_no_collective_shift() -> None:
    ps = [collective_shift(noise(seed), draws=400).p for seed in range(40)]
    assert 0.3 < np.mean(ps) < 0.7
    assert np.mean(np.array(ps) < 0.05) <= 0.15


def test_two_opposite_groups_share_nothing() -> None:
    signs = np.where(np.arange(USERS) % 2, 1.0, -1.0)[:, None]
    found = collective_shift(noise() * 0.2 + signs * direction())
    assert found.share < 0.01
    assert found.p > 0.5


def test_no_vectors_at_all() -> None:
    assert collective_shift(np.zeros((4, 3))).p == 1.0


def test_a_control_with_the_same_history_effect_is_seen() -> None:
    # Query noise is in both; the control has the collective shift too, but not the user's own part.
    query, own = noise(1, size=1.0), noise(2, size=1.0)
    history, other = 3 * direction() + query + own, 3 * direction() + query
    found = compare_control(history, other)
    assert found.collective_cosine == pytest.approx(1, abs=0.02)
    assert found.personal_cosine == pytest.approx(1 / np.sqrt(2), abs=0.06)
    assert abs(found.chance) < 0.06
    assert found.p < 0.001
    assert found.difference_p > 0.05


def test_a_control_that_shares_nothing_is_seen() -> None:
    found = compare_control(3 * direction(1) + noise(1), 3 * direction(9) + noise(2))
    assert abs(found.collective_cosine) < 0.4
    assert abs(found.personal_cosine) < 0.06
    assert found.p > 0.01
    assert found.difference_p < 0.001
    assert found.ratio == pytest.approx(1, abs=0.1)


def test_a_control_by_hand() -> None:
    own = np.array([[3.0, 1.0], [0.0, 2.0], [1.0, -1.0]])
    control = np.array([[1.0, 0.5], [0.5, 1.0], [0.0, 0.0]])
    found = compare_control(own, control, draws=600)
    lengths = [np.mean([np.hypot(*vector) for vector in vectors]) for vectors in (own, control)]
    assert (found.norm, found.ratio) == pytest.approx((lengths[1], lengths[1] / lengths[0]))
    a, b = own - own.mean(axis=0), control - control.mean(axis=0)
    table = [[x @ y / (np.hypot(*x) * np.hypot(*y)) for y in b] for x in a]
    assert found.personal_cosine == pytest.approx(np.mean([table[i][i] for i in range(3)]))
    assert found.chance == pytest.approx(np.mean([table[i][j] for i in range(3) for j in range(3) if i != j]))
    orders = list(permutations(range(3)))
    as_good = [sum(table[i][order[i]] for i in range(3)) >= np.trace(table) - 1e-9 for order in orders]
    assert found.p == pytest.approx(np.mean(as_good), abs=0.06)


def test_a_control_that_pairs_as_well_in_any_order_proves_nothing() -> None:
    same = np.ones((5, 3))  # all alike: nothing personal
    assert compare_control(same, same, draws=50).p == 1.0


def test_users_without_a_control_are_left_out() -> None:
    control = noise(2)
    control[3:] = np.nan
    assert compare_control(control.copy(), control).personal_cosine == pytest.approx(1)


def test_cosines_of_nothing_are_zero() -> None:
    assert cosines(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [0]
