"""The paper's layers on other depths."""

from __future__ import annotations

import pytest

from perfit.experiments.layers import scaled


def test_the_papers_depth_changes_nothing() -> None:
    assert scaled([14, 15, 16], 32) == (14, 15, 16)


@pytest.mark.parametrize("depth", [2, 4, 16, 28, 30, 80])
def test_ends_stay_ends_and_all_stay_all(depth: int) -> None:
    assert (scaled([0], depth), scaled([31], depth)) == ((0,), (depth - 1,))
    assert set(scaled(range(32), depth)) <= set(range(depth))
    if depth <= 32:
        assert scaled(range(32), depth) == tuple(range(depth))


def test_neighbours_stay_neighbours_and_as_many() -> None:
    assert scaled([14, 15, 16], 30) == (13, 14, 15)
    assert scaled([14, 15, 16], 4) == (1, 2, 3)


def test_layers_apart_keep_their_places_and_order() -> None:
    assert scaled([7, 23], 16) == (3, 11)
    assert scaled([0, 5, 10, 15, 20, 25, 31], 4) == (0, 1, 2, 3)
