"""Observation 2: how much of the δ-vectors all users share, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfit.analysis.deltas import Array
from perfit.analysis.subspace import centred, complete


@dataclass(frozen=True, slots=True)
class CollectiveShift:
    """What users share.

    Attributes:
        users: N.
        share: N |mean|² / Σ |δ|²: the energy that one vector for all explains; the rest is personal.
        chance: Mean of the same share when every user's vector is turned by a random sign; about 1 / N.
        p: How often a random turning shares as much (one-sided, never 0).
        norm: |mean δ|.
        personal_norm: Root mean square of |δ − mean δ|.
        cosine: Mean cosine between a user's δ and the mean δ of all others.
    """

    users: int
    share: float
    chance: float
    p: float
    norm: float
    personal_norm: float
    cosine: float


def collective_shift(vectors: Array, *, draws: int = 2000, seed: int = 0) -> CollectiveShift:
    """The collective part of δ-vectors [users, d], tested against sign-flipped users.

    Were there no common direction, each δ would be as likely as its opposite: flipping users' signs would change
    nothing.
    """
    vectors = complete(vectors)
    users = len(vectors)
    gram = vectors @ vectors.T
    total = float(np.trace(gram))
    if not total:
        return CollectiveShift(users, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)

    def share(signs: Array) -> Array:
        found: Array = np.einsum("ni,ij,nj->n", signs, gram, signs) / (users * total)
        return found

    own = float(share(np.ones((1, users)))[0])
    flipped = share(np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, users)))
    p = (1 + int((flipped >= own - 1e-12).sum())) / (1 + draws)
    mean = vectors.mean(axis=0)
    personal = float(np.sqrt((centred(vectors) ** 2).sum(axis=1).mean()))
    others = (vectors.sum(axis=0) - vectors) / max(users - 1, 1)
    cosine = float(cosines(vectors, others).mean())
    return CollectiveShift(users, own, float(flipped.mean()), p, float(np.linalg.norm(mean)), personal, cosine)


def cosines(a: Array, b: Array) -> Array:
    """Cosine of each row of a with the same row of b; 0 where one has no length."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    found: Array = np.divide((a * b).sum(axis=-1), norms, out=np.zeros_like(norms), where=norms > 0)
    return found


@dataclass(frozen=True, slots=True)
class Control:
    """δ-vectors of a control against those of the own history, for the same users and queries.

    Attributes:
        norm: Mean |δ| of the control.
        ratio: The same over that of the own history.
        collective_cosine: Between both collective shifts: near 1, the shared direction says nothing about whose text it is.
        personal_cosine: Mean over users of the cosine between both personal parts: near 1, what looks personal comes
            from the query (or the place of the text), not from the history.
        chance: The same between different users.
        p: How often pairing users at random gives as large a ``personal_cosine``.
        difference_share: Energy shared by all in (own − control), as ``CollectiveShift.share``.
        difference_p: Its test.
    """

    norm: float
    ratio: float
    collective_cosine: float
    personal_cosine: float
    chance: float
    p: float
    difference_share: float
    difference_p: float


def compare_control(own: Array, control: Array, *, draws: int = 2000, seed: int = 0) -> Control:
    """Own-history δ-vectors [users, d] beside a control's."""
    both = complete(np.concatenate([own, control], axis=1))
    own, control = both[:, : own.shape[1]], both[:, own.shape[1] :]
    norms = [float(np.linalg.norm(vectors, axis=1).mean()) for vectors in (own, control)]
    table = cosine_table(centred(own), centred(control))
    users = len(own)
    paired = float(np.trace(table)) / users
    crossed = float(table.sum() - np.trace(table)) / max(users * (users - 1), 1)
    p = _pairing_p(table, draws, seed)
    difference = collective_shift(own - control, draws=draws, seed=seed)
    means = cosines(own.mean(axis=0)[None], control.mean(axis=0)[None])
    ratio = norms[1] / norms[0] if norms[0] else 0.0
    return Control(norms[1], ratio, float(means[0]), paired, crossed, p, difference.share, difference.p)


def cosine_table(a: Array, b: Array) -> Array:
    """Cosines [len(a), len(b)] of all rows with all rows; 0 where one has no length."""
    norms = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    found: Array = np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 0)
    return found


def _pairing_p(table: Array, draws: int, seed: int) -> float:
    """How often a random pairing of rows and columns has a diagonal sum as large as the true one."""
    chance = np.random.default_rng(seed)
    rows = np.arange(len(table))
    own = np.trace(table)
    better = sum(table[rows, chance.permutation(len(table))].sum() >= own - 1e-12 for _ in range(draws))
    return (1 + int(better)) / (1 + draws)
