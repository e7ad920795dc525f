"""Shifts built from δ-vectors overlap with them, random ones do not; planted gains correlate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import deltas_of
from planted import USERS, WIDTH, Array, direction, noise

from perfit.analysis.subspace import centred
from perfit.analysis.trained import gain_correlation, overlaps
from perfit.edits.shift import Shift
from perfit.errors import ConfigError


def adding(vector: Array, rank: int = 1) -> Shift:
    """A shift [1, rank, d] that adds ``vector`` to every state."""
    rows = np.concatenate([vector[None], np.random.default_rng(0).standard_normal((rank - 1, WIDTH))])
    R = torch.from_numpy(np.linalg.qr(rows.T)[0].T.copy())
    b = R @ torch.from_numpy(vector)
    return Shift(R[None].float(), R[None].float(), b[None].float())


def nothing(rank: int = 1, seed: int = 5) -> Shift:
    R = torch.from_numpy(np.linalg.qr(np.random.default_rng(seed).standard_normal((WIDTH, rank)))[0].T.copy()).float()
    return Shift(R[None], R[None].clone(), torch.zeros(1, rank))


def test_shifts_that_do_what_the_history_does_overlap_with_it() -> None:
    vectors = 4 * direction() + noise()
    deltas = deltas_of({1: {"history": vectors}})
    own = centred(vectors)
    personal = {user: adding(own[place]) for place, user in enumerate(deltas.users)}
    (found,) = overlaps(deltas, (adding(vectors.mean(axis=0)), nothing()), personal, [1])
    assert found.users == USERS
    assert found.collective_cosine == pytest.approx(1, abs=1e-4)
    assert found.personal_cosine == pytest.approx(1, abs=1e-4)
    assert abs(found.personal_chance) < 0.1
    assert found.first_energy == pytest.approx(4**2 / (4**2 + 1), abs=0.05)
    assert found.first_chance == found.second_chance == 1 / WIDTH


def test_unrelated_shifts_overlap_by_chance_only() -> None:
    deltas = deltas_of({0: {"history": noise(1)}, 1: {"history": noise(1)}})
    stacked = [Shift(*(torch.cat([t, t]) for t in nothing(8, seed).tensors().values())) for seed in range(USERS)]
    personal = dict(zip(deltas.users, stacked, strict=True))
    for found in overlaps(deltas, (stacked[0], stacked[1]), personal, [0, 1]):
        assert found.first_energy == pytest.approx(8 / WIDTH, abs=0.06)
        assert found.second_energy == pytest.approx(8 / WIDTH, abs=0.06)
        assert found.collective_cosine == 0


def test_layers_and_users_that_were_not_measured_are_left_out_or_refused() -> None:
    deltas = deltas_of({1: {"history": noise()}})
    personal = {user: nothing() for user in deltas.users[:5]}
    double = Shift(*(torch.cat([t, t]) for t in nothing().tensors().values()))
    (found,) = overlaps(deltas, (double, double), personal | {"stranger": nothing()}, [1, 7])
    assert (found.layer, found.users) == (1, 5)
    with pytest.raises(ConfigError, match="1 users"):
        overlaps(deltas, (double, double), {deltas.users[0]: nothing()}, [1])
    with pytest.raises(ConfigError, match="0 edited layers"):
        overlaps(deltas, (double, double), personal, [7])


def test_a_planted_gain_correlates_and_noise_does_not() -> None:
    sizes = np.linspace(0.5, 3, USERS)
    vectors = noise() / np.linalg.norm(noise(), axis=1, keepdims=True) * sizes[:, None] + direction()
    deltas = deltas_of({1: {"history": vectors}})
    gains = {user: float(size) for user, size in zip(deltas.users, sizes, strict=True)}
    found = gain_correlation(deltas, gains, 1)
    assert found.correlation > 0.9
    assert found.p < 0.01
    backwards = gain_correlation(deltas, {user: -gain for user, gain in gains.items()}, 1)
    assert backwards.correlation == pytest.approx(-found.correlation)
    chance = np.random.default_rng(0)
    ps = [
        gain_correlation(deltas, dict(zip(deltas.users, chance.normal(size=USERS), strict=True)), 1, draws=200).p
        for _ in range(20)
    ]
    assert np.mean(np.array(ps) < 0.05) <= 0.2
    assert gain_correlation(deltas, dict.fromkeys(deltas.users, 0.0), 1).p == 1.0
    with pytest.raises(ConfigError, match="at least 3"):
        gain_correlation(deltas, {"stranger": 1.0}, 1)
