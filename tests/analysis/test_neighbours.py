"""Planted clusters, likenesses and halves are found; noise gives chance."""

from __future__ import annotations

import numpy as np
import pytest
from planted import USERS, WIDTH, Array, direction, noise

from perfit.analysis.neighbours import (
    adjusted_rand,
    from_the_collective,
    halves_retrieval,
    likeness_correlation,
    neighbours,
    recovery,
)
from perfit.errors import ConfigError

CLASSES = [place % 4 for place in range(USERS)]


def clustered(size: float) -> Array:
    centres = np.random.default_rng(3).standard_normal((4, WIDTH)) / np.sqrt(WIDTH)
    found: Array = size * centres[CLASSES] + noise() + 5 * direction()
    return found


def test_planted_clusters_are_recovered_beside_a_collective_shift() -> None:
    found = recovery(clustered(3.0), CLASSES)
    assert found.classes == 4
    assert found.nearest > 0.95
    assert found.nearest_chance == pytest.approx(9 / 39)
    assert found.p < 0.001
    assert found.clusters > 0.9


def test_no_clusters_are_found_in_noise() -> None:
    found = [recovery(noise(seed), CLASSES, draws=200) for seed in range(20)]
    assert np.mean([one.nearest for one in found]) == pytest.approx(9 / 39, abs=0.06)
    assert abs(np.mean([one.clusters for one in found])) < 0.05
    assert np.mean([one.p < 0.05 for one in found]) <= 0.2


def test_neighbours_are_of_the_same_class_best_first() -> None:
    found = neighbours(clustered(4.0), 5, 3)
    assert [CLASSES[place] for place, _ in found] == [CLASSES[5]] * 3
    assert all(place != 5 for place, _ in found)
    assert sorted((cosine for _, cosine in found), reverse=True) == [cosine for _, cosine in found]


def test_users_in_order_from_the_collective_shift() -> None:
    vectors = noise(size=0.1) + direction()
    vectors[7] = direction() * 9
    vectors[3] = np.delete(vectors, [3, 7], 0).mean(axis=0)
    order = from_the_collective(vectors)
    assert order[-1] == 7
    assert sorted(order) == list(range(USERS))


def test_halves_of_one_user_find_each_other() -> None:
    own = noise(1)
    found = halves_retrieval(own + noise(2, size=0.7), own + noise(3, size=0.7) + 4 * direction())
    assert found.auc > 0.95
    assert found.top1 > 0.7
    assert found.top1_chance == 1 / USERS
    assert found.p < 0.01


def test_halves_of_noise_do_not() -> None:
    found = [halves_retrieval(noise(seed), noise(100 + seed), draws=200) for seed in range(20)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([one.p < 0.05 for one in found]) <= 0.2


def test_users_with_one_half_are_left_out() -> None:
    first, second = noise(1), noise(1)
    second[0] = np.nan
    found = halves_retrieval(first, second)
    assert (found.users, found.auc, found.top1) == (USERS - 1, 1.0, 1.0)
    with pytest.raises(ConfigError, match="at least 3"):
        halves_retrieval(first[:2], second[:2])


def test_a_known_likeness_is_recovered_and_an_unrelated_one_is_not() -> None:
    same = (np.array(CLASSES)[:, None] == np.array(CLASSES)[None, :]).astype(float)
    correlation, p = likeness_correlation(clustered(3.0), same, draws=300)
    assert correlation > 0.5
    assert p < 0.01
    correlation, p = likeness_correlation(noise(), same, draws=300)
    assert abs(correlation) < 0.1
    assert p > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_rand_is_scikit_learns(seed: int) -> None:
    from sklearn.metrics import adjusted_rand_score

    chance = np.random.default_rng(seed)
    a, b = chance.integers(0, 4, 30), chance.integers(0, 3, 30)
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(a, a) == 1


def test_wrong_places_and_traits_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are users 0 to 39"):
        neighbours(noise(), 40)
    with pytest.raises(ConfigError, match="one each"):
        recovery(noise(), CLASSES[:-1])
