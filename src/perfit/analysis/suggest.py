"""Which layers and ranks δ-vectors suggest, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfit.analysis.collective import collective_shift
from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.neighbours import halves_retrieval
from perfit.analysis.subspace import centred, complete, rank_for


@dataclass(frozen=True, slots=True)
class LayerScore:
    """One layer's reasons.

    Attributes:
        layer: The layer.
        score: share · (2 auc − 1): high where users share a direction and still can be told apart.
        share: Energy of the collective shift.
        auc: How well a user's two halves find each other; 0.5 by chance.
    """

    layer: int
    score: float
    share: float
    auc: float


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Where to edit, and with what ranks.

    Attributes:
        layers: The best layers, in order of depth.
        collective_rank / personal_rank: Directions that hold 0.8 of the δ-vectors' energy, with the collective shift in
            it and without, at the best layer; at most half the users, beyond which a rank says nothing.
        scores: All layers.
    """

    layers: tuple[int, ...]
    collective_rank: int
    personal_rank: int
    scores: tuple[LayerScore, ...]


def layer_scores(deltas: DeltaVectors, *, draws: int = 200) -> list[LayerScore]:
    """Score every measured layer; needs the kind "half"."""
    scores = []
    for layer in deltas.recipe.layers:
        share = collective_shift(deltas.delta(layer), draws=1).share
        auc = halves_retrieval(deltas.delta(layer, "half", 0), deltas.delta(layer, "half", 1), draws=draws).auc
        scores.append(LayerScore(layer, share * (2 * auc - 1), share, auc))
    return scores


def suggest(deltas: DeltaVectors, scores: Sequence[LayerScore], count: int = 2) -> Suggestion:
    """The ``count`` layers with the highest scores. A rule of thumb: docs/analysis.md holds it against a layer sweep."""
    best = sorted(scores, key=lambda one: (-one.score, one.layer))[:count]
    vectors = complete(deltas.delta(best[0].layer))
    most = max(1, len(vectors) // 2)
    ranks = [min(rank_for(part, 0.8), most) for part in (vectors, centred(vectors))]
    return Suggestion(tuple(sorted(one.layer for one in best)), ranks[0], ranks[1], tuple(scores))
