"""Angles between planted collective shifts."""

from __future__ import annotations

import numpy as np
import pytest
from planted import USERS, WIDTH, noise

from perfit.analysis.tasks_together import tasks_together


def test_planted_angles_come_back() -> None:
    x, y = np.eye(WIDTH)[0], np.eye(WIDTH)[1]
    found = tasks_together(
        {
            "a": 5 * x + noise(1, size=0.1),
            "b": 5 * (x + y) / np.sqrt(2) + noise(2, size=0.1, users=9),
            "c": -5 * y + noise(3, size=0.1),
        }
    )
    assert found.tasks == ("a", "b", "c")
    assert [found.angle(0, 1), found.angle(0, 2), found.angle(1, 2)] == pytest.approx([45, 90, 135], abs=1)
    assert found.explained[0] == pytest.approx([1, 0.5, 0], abs=0.01)
    assert {name: len(users) for name, users in found.coordinates.items()} == {"a": USERS, "b": 9, "c": USERS}
    # The three lie in one plane, so both coordinates tell all about their lengths.
    assert np.linalg.norm(found.coordinates["b"].mean(axis=0)) == pytest.approx(5, abs=0.05)
