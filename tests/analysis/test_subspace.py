"""Planted ranks are found, and noise is not taken for structure."""

from __future__ import annotations

import numpy as np
import pytest
from planted import USERS, WIDTH, direction, noise, of_rank

from perfit.analysis.subspace import basis, centred, explained, null_like, rank_for, rank_table


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_a_planted_rank_is_found(rank: int) -> None:
    vectors = of_rank(rank)
    assert rank_for(vectors, 0.999) == rank
    assert rank_for(vectors + noise(size=1e-3), 0.999) == rank
    # Equal energy in every direction: a share of it needs that share of the directions.
    assert rank_for(vectors, 0.8) == int(np.ceil(0.8 * rank - 1e-9))


def test_a_collective_shift_adds_one_rank_that_centring_takes_away() -> None:
    vectors = of_rank(3) + 50 * direction()
    assert rank_for(vectors, 0.95) == 1
    assert rank_for(centred(vectors), 0.999) == 3


def test_the_table_sets_structure_apart_from_few_users() -> None:
    rows = {(row.share, row.centred): row for row in rank_table(of_rank(4) + 0.05 * noise())}
    for is_centred in (False, True):
        row = rows[0.9, is_centred]
        assert (row.r, row.users) == (4, USERS)
        assert row.of_d == pytest.approx(4 / WIDTH)
        assert row.of_smaller == pytest.approx(4 / USERS)
        assert row.gaussian > 3 * row.r
        assert row.permuted > 3 * row.r


def test_noise_has_the_rank_of_its_null() -> None:
    for row in rank_table(noise(5)):
        assert abs(row.r - row.gaussian) <= 1.5
        assert abs(row.r - row.permuted) <= 1.5


def test_nulls_are_centred_where_the_vectors_are() -> None:
    # Uncentred, what all share is one direction of the vectors and of their permutation; centred, it is gone from both.
    uncentred, taken_off = (
        next(row for row in rank_table(noise(5) + 50 * direction()) if (row.share, row.centred) == (0.95, is_centred))
        for is_centred in (False, True)
    )
    assert uncentred.permuted == pytest.approx(1)
    assert taken_off.permuted == pytest.approx(taken_off.r, abs=1.5)


def test_a_few_large_dimensions_are_no_subspace_of_users() -> None:
    # Two dimensions carry nearly everything, independently: low rank, but no lower than with values permuted.
    vectors = noise(6)
    vectors[:, :2] *= 50
    row = next(row for row in rank_table(vectors) if row.share == 0.95 and not row.centred)
    assert row.r == 2
    assert row.permuted == pytest.approx(2)
    assert row.gaussian > 20


def test_the_permuted_null_keeps_every_dimension() -> None:
    vectors = noise(7) + direction()
    null = null_like(vectors, "permuted", np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(null, axis=0), np.sort(vectors, axis=0))
    assert not np.array_equal(null, vectors)


def test_the_basis_is_orthonormal_turned_to_the_mean_and_keeps_users_without_nan() -> None:
    vectors = noise(8) - 3 * direction()
    vectors[4] = np.nan
    found = basis(vectors, 5)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(5), atol=1e-10)
    assert found.coordinates.shape == (USERS - 1, 5)
    assert (found.coordinates.mean(axis=0) >= 0).all()
    assert found.directions[0] @ direction() == pytest.approx(-1, abs=0.02)
    kept = np.delete(vectors, 4, 0)
    np.testing.assert_allclose(found.shares[0], explained(kept)[0])
    for turned in (kept, -kept):  # whichever way the decomposition turns a direction
        there = basis(turned, 5)
        np.testing.assert_allclose(there.coordinates, turned @ there.directions.T, atol=1e-10)
        np.testing.assert_allclose(there.coordinates, found.coordinates, atol=1e-10)


def test_no_energy_is_no_rank() -> None:
    assert rank_for(np.zeros((5, 7)), 0.9) == 0
    assert basis(np.zeros((5, 7)), 2).shares.tolist() == [0, 0]
