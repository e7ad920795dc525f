"""Made-up δ-vectors whose structure is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
USERS, WIDTH = 40, 64


def noise(seed: int = 0, users: int = USERS, size: float = 1.0) -> Array:
    """Independent normal numbers [users, WIDTH], each row about ``size`` long."""
    found: Array = np.random.default_rng(seed).standard_normal((users, WIDTH)) * size / np.sqrt(WIDTH)
    return found


def direction(seed: int = 1) -> Array:
    """A unit vector."""
    vector: Array = np.random.default_rng(seed).standard_normal(WIDTH)
    return vector / np.linalg.norm(vector)


def of_rank(rank: int, seed: int = 2, users: int = USERS) -> Array:
    """Equal energy in ``rank`` directions, no mean."""
    chance = np.random.default_rng(seed)
    left = np.linalg.qr(chance.standard_normal((users, rank)))[0]
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    right = np.linalg.qr(chance.standard_normal((WIDTH, rank)))[0]
    found: Array = left @ right.T * np.sqrt(users)
    return found
