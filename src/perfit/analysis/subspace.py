"""Observation 1: how few directions hold the δ-vectors (paper, section 3.2, Tables 1 and 5), against chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perfit.analysis.deltas import Array

SHARES = (0.8, 0.85, 0.9, 0.95)
Null = Literal["gaussian", "permuted"]


def complete(vectors: Array) -> Array:
    """The rows without NaN: users who have the vector."""
    found: Array = vectors[np.isfinite(vectors).all(axis=1)]
    return found


def centred(vectors: Array) -> Array:
    """What is each user's own: the vectors [users, d] minus their mean, the collective shift."""
    found: Array = vectors - vectors.mean(axis=0)
    return found


def explained(vectors: Array) -> Array:
    """Cumulative share of energy in the first 1, 2, ... singular directions of [users, d]; all zeros for no energy."""
    users, d = vectors.shape
    gram = vectors @ vectors.T if users <= d else vectors.T @ vectors  # its eigenvalues are the squared singular values
    energy = np.linalg.eigvalsh(gram)[::-1].clip(min=0)
    total = energy.sum()
    shares: Array = np.cumsum(energy) / total if total > 0 else np.zeros_like(energy)
    return shares


def rank_for(vectors: Array, share: float) -> int:
    """Fewest directions that hold ``share`` of the energy of [users, d]."""
    return _rank_at(explained(vectors), share)


def _rank_at(shares: Array, share: float) -> int:
    return int(np.searchsorted(shares, share - 1e-12) + 1) if shares[-1:] > 0 else 0


def null_like(vectors: Array, kind: Null, chance: np.random.Generator) -> Array:
    """A matrix of equal size without structure between users.

    Args:
        vectors: [users, d].
        kind: "gaussian": independent normal numbers. "permuted": each dimension's own values in random order over
            users, which keeps every dimension's mean and spread, the few very large ones included.
        chance: The random numbers.
    """
    if kind == "gaussian":
        return chance.standard_normal(vectors.shape)
    found: Array = chance.permuted(vectors, axis=0)
    return found


@dataclass(frozen=True, slots=True)
class RankRow:
    """One cell of Tables 1 and 5.

    Attributes:
        share: Of the variance that is to be explained.
        centred: Whether the collective shift was taken off first. The paper's numbers only make sense uncentred.
        users: N.
        r: Fewest directions.
        of_d: r / d.
        of_smaller: r / min(N, d), the paper's "ratio".
        gaussian, permuted: Mean r of null matrices of equal size.
    """

    share: float
    centred: bool
    users: int
    r: int
    of_d: float
    of_smaller: float
    gaussian: float
    permuted: float


def rank_table(vectors: Array, *, shares: Sequence[float] = SHARES, draws: int = 10, seed: int = 0) -> list[RankRow]:
    """Ranks of δ-vectors [users, d], uncentred and centred, beside those of null matrices of equal size."""
    vectors = complete(vectors)
    users, d = vectors.shape
    rows = []
    for is_centred in (False, True):
        prepare = centred if is_centred else np.asarray
        chance = np.random.default_rng(seed)
        own = explained(prepare(vectors))
        nulls = {
            kind: [explained(prepare(null_like(vectors, kind, chance))) for _ in range(draws)]
            for kind in ("gaussian", "permuted")
        }
        for share in shares:
            r = _rank_at(own, share)
            means = {kind: float(np.mean([_rank_at(one, share) for one in many])) for kind, many in nulls.items()}
            rows.append(RankRow(share, is_centred, users, r, r / d, r / min(users, d), **means))
    return rows


@dataclass(frozen=True, slots=True)
class Basis:
    """Singular directions of δ-vectors, each turned so that the users' mean coordinate is not negative.

    Attributes:
        directions: [components, d], orthonormal rows.
        coordinates: [users, components].
        shares: [components], each direction's share of the energy.
    """

    directions: Array
    coordinates: Array
    shares: Array


def basis(vectors: Array, components: int = 5) -> Basis:
    """Coordinates of δ-vectors [users, d] in their own uncentred SVD basis (Figures 2, 7 and 8)."""
    vectors = complete(vectors)
    _, values, directions = np.linalg.svd(vectors, full_matrices=False)
    coordinates = vectors @ directions.T
    signs = np.where(coordinates.mean(axis=0) < 0, -1.0, 1.0)
    energy = values**2
    shares = energy / energy.sum() if energy.sum() > 0 else energy
    return Basis((directions.T * signs).T[:components], (coordinates * signs)[:, :components], shares[:components])
