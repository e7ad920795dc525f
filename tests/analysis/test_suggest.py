"""The layer that holds a shared direction and tells users apart is suggested, with the planted rank."""

from __future__ import annotations

import numpy as np
from made import deltas_of
from planted import direction, noise, of_rank

from perfit.analysis.suggest import layer_scores, suggest


def test_the_planted_layer_and_ranks_are_suggested() -> None:
    own = of_rank(5)
    shared = 2 * direction()
    deltas = deltas_of(
        {
            0: {
                "history": shared + noise(1),
                "half": (shared + noise(1), shared + noise(2)),
            },  # shared, nothing personal
            1: {"history": shared + own, "half": (shared + own + noise(3), shared + own + noise(4))},
            2: {"history": own, "half": (own + noise(5), own + noise(6))},  # personal, nothing shared
        }
    )
    scores = layer_scores(deltas)
    found = suggest(deltas, scores, 1)
    assert found.layers == (1,)
    assert found.personal_rank == 4  # four of five equal directions hold 0.8
    assert found.collective_rank == 5  # the shared one holds 4 of 9, each own one 1 of 9
    assert scores[1].auc > 0.9
    assert abs(scores[0].auc - 0.5) < 0.15
    assert scores[2].share < 0.1
    assert suggest(deltas, scores, 2).layers == tuple(sorted(suggest(deltas, scores, 2).layers))
    assert np.isclose(scores[1].score, scores[1].share * (2 * scores[1].auc - 1))
