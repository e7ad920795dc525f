"""Who is like whom: users around the collective shift, neighbours in the personal part, and tests of both."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfit.analysis.collective import cosine_table
from perfit.analysis.deltas import Array
from perfit.analysis.extra import extra
from perfit.analysis.subspace import centred
from perfit.errors import ConfigError

FEWEST = 3
"""Users that a retrieval among them needs at least."""


def from_the_collective(vectors: Array) -> list[int]:
    """Places of users, nearest to the collective shift first (Figures 11-14: nearest, middle, farthest)."""
    distances = np.linalg.norm(centred(vectors), axis=1)
    return [int(place) for place in np.argsort(distances, kind="stable")]


def neighbours(vectors: Array, place: int, count: int = 5) -> list[tuple[int, float]]:
    """Users most like the one at ``place``, with the cosine between their personal parts, best first.

    Raises:
        ConfigError: There is no such user.
    """
    if not 0 <= place < len(vectors):
        raise ConfigError(f"place is {place}; there are users 0 to {len(vectors) - 1}")
    personal = centred(vectors)
    likeness = cosine_table(personal[place : place + 1], personal)[0]
    order = [int(other) for other in np.argsort(-likeness, kind="stable") if other != place]
    return [(other, float(likeness[other])) for other in order[:count]]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Whether one half of a user finds the other half among all users.

    Attributes:
        users: N.
        top1: How often the other half is nearest; by chance 1 / N.
        top1_chance: 1 / N.
        auc: How often the other half is nearer than another user's half; by chance 0.5.
        p: How often as large an ``auc`` comes of pairing halves at random.
    """

    users: int
    top1: float
    top1_chance: float
    auc: float
    p: float


def halves_retrieval(first: Array, second: Array, *, draws: int = 1000, seed: int = 0) -> Retrieval:
    """Look up each user's first half [users, d] among all second halves, and the other way round, by personal cosine."""
    usable = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    table = cosine_table(centred(first[usable]), centred(second[usable]))
    users = len(table)
    if users < FEWEST:
        raise ConfigError(f"users: {users} have two halves; a retrieval among them needs at least {FEWEST}")
    # beaten[i, j]: how likely j as the right answer to i beats another; both ways of looking are averaged.
    ranks = [_beats(side) for side in (table, table.T)]
    beaten = (ranks[0] + ranks[1].T) / 2
    tops = np.mean([(side.argmax(axis=1) == np.arange(users)).mean() for side in (table, table.T)])
    own = float(np.trace(beaten)) / users
    chance, rows = np.random.default_rng(seed), np.arange(users)
    better = sum(beaten[rows, chance.permutation(users)].mean() >= own - 1e-12 for _ in range(draws))
    return Retrieval(users, float(tops), 1 / users, own, (1 + int(better)) / (1 + draws))


def _beats(table: Array) -> Array:
    """[i, j]: share of the other columns that column j beats in row i, ties counted half."""
    found: Array = (extra("scipy.stats").rankdata(table, axis=1) - 1) / (table.shape[1] - 1)
    return found


@dataclass(frozen=True, slots=True)
class Recovery:
    """How well the personal part recovers a known trait.

    Attributes:
        classes: Different values of the trait.
        nearest: How often a user's nearest neighbour has the same value.
        nearest_chance: The same for a neighbour drawn at random.
        p: How often shuffled traits agree as well.
        clusters: Adjusted Rand index of as many Ward clusters as classes; 0 by chance, 1 when they are the classes.
    """

    classes: int
    nearest: float
    nearest_chance: float
    p: float
    clusters: float


def recovery(vectors: Array, trait: Sequence[Hashable], *, draws: int = 2000, seed: int = 0) -> Recovery:
    """Compare neighbours and clusters of the personal part of [users, d] with a known trait, one value a user."""
    values = np.unique([str(value) for value in trait], return_inverse=True)[1]
    if len(values) != len(vectors) or len(values) < 3:
        raise ConfigError(f"trait: {len(values)} values for {len(vectors)} users; give one each, for at least 3")
    personal = centred(vectors)
    likeness = cosine_table(personal, personal)
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(axis=1)
    own = float((values[nearest] == values).mean())
    chance = np.random.default_rng(seed)
    shuffled = [chance.permutation(values) for _ in range(draws)]
    better = sum(float((mixed[nearest] == mixed).mean()) >= own - 1e-12 for mixed in shuffled)
    same = values[:, None] == values[None, :]
    expected = float((same.sum() - len(values)) / (len(values) * (len(values) - 1)))
    classes = int(values.max()) + 1
    hierarchy = extra("scipy.cluster.hierarchy")
    unit = personal / np.maximum(np.linalg.norm(personal, axis=1, keepdims=True), 1e-30)
    found = hierarchy.fcluster(hierarchy.linkage(unit, "ward"), classes, "maxclust")
    return Recovery(classes, own, expected, (1 + better) / (1 + draws), adjusted_rand(values, found))


def adjusted_rand(a: Sequence[Any] | NDArray[Any], b: Sequence[Any] | NDArray[Any]) -> float:
    """Agreement of two partitions: 1 when equal, about 0 by chance (Hubert and Arabie 1985)."""
    table = np.zeros((len(set(a)), len(set(b))))
    np.add.at(table, (np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1]), 1)
    pairs = [float((counts * (counts - 1) / 2).sum()) for counts in (table, table.sum(axis=1), table.sum(axis=0))]
    expected = pairs[1] * pairs[2] / (len(a) * (len(a) - 1) / 2)
    most = (pairs[1] + pairs[2]) / 2
    return 1.0 if most == expected else (pairs[0] - expected) / (most - expected)


def likeness_correlation(vectors: Array, likeness: Array, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Spearman correlation over pairs of users between personal cosine and a known likeness [users, users], and its p.

    The p-value comes of permuting users (Mantel's test), for pairs of the same user are not independent.
    """
    rankdata = extra("scipy.stats").rankdata
    pairs = np.triu_indices(len(vectors), 1)
    personal = centred(vectors)
    found = rankdata(cosine_table(personal, personal)[pairs])

    def correlation(order: NDArray[np.int64]) -> float:
        known = rankdata(likeness[np.ix_(order, order)][pairs])
        if np.ptp(known) == 0 or np.ptp(found) == 0:
            return 0.0
        return float(np.corrcoef(found, known)[0, 1])

    chance = np.random.default_rng(seed)
    own = correlation(np.arange(len(vectors)))
    better = sum(correlation(chance.permutation(len(vectors))) >= own - 1e-12 for _ in range(draws))
    return own, (1 + better) / (1 + draws)
