"""What is counted as done never passes what there is to do, wherever training was stopped."""

from __future__ import annotations

import pytest
from learners import learner, new_loop

from perfit.config import StageConfig
from perfit.events import Event, Stepped
from perfit.training.evidence import Evidence
from perfit.training.loop import Loop


@pytest.mark.parametrize(("evidence", "trials"), [(None, 0), (Evidence(share=0.3, strength=0.75, prior=1.0), 13)])
def test_rows_done_are_those_that_ran_at_every_step(evidence: Evidence | None, trials: int) -> None:
    # Batches are shuffled: with 9 rows in batches of 4 the one of a single row may come first.
    config = StageConfig(epochs=3, batch_size=4, learning_rate=1e-2)
    learners = [learner(name, count) for name, count in (("a", 9), ("b", 6), ("c", 1), ("d", 4))]
    ran = 0

    def count(event: Event) -> None:
        nonlocal ran
        ran += event.rows if isinstance(event, Stepped) else 0

    loop: Loop = new_loop(config, 2, listener=count, evidence=evidence)
    seen = []
    for _ in loop.run(learners, lambda: seen.append((loop.rows_done(learners), ran))):
        pass
    assert len(seen) > 9
    assert all(told == really for told, really in seen)
    assert seen[-1][0] == 3 * 20 + trials
