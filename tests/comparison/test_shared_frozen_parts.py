"""Methods of one comparison that train on the same rows compute their frozen parts once, and answer as if alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, TASK, dataset

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.runner import run
from perfit.personalizer import PerFit
from perfit.training.frozen_pass import FrozenPass

DATA = dataset(("dora", "emil"), others=2)
OTHER_RANK = "perfit[personal_rank=2]"
OTHER_LAYERS = "perfit[layers=1]"
PLAN = Plan(
    ("perfit", OTHER_RANK, OTHER_LAYERS),
    options={OTHER_RANK: {"personal_rank": 2}, OTHER_LAYERS: {"layers": (1,)}},
)


def bench(scored: Path) -> Bench:
    perfit = PerFit.from_pretrained(scored / "base", CONFIG.with_options(engine="frozen"), task=TASK)
    return Bench(DATA, TASK, perfit.backbone, perfit.identity, perfit.config)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each frozen pass, with the layer it goes up to."""
    seen: list[int] = []
    run_pass = FrozenPass.run

    def counting(self: FrozenPass, rows: Any) -> Any:
        seen.extend([self.first] * len(rows))
        return run_pass(self, rows)

    monkeypatch.setattr(FrozenPass, "run", counting)
    return seen


def test_the_second_finds_what_the_first_computed_and_other_layers_do_not(
    scored: Path, tmp_path: Path, computed: list[int]
) -> None:
    run(bench(scored), Plan(("perfit",)), tmp_path / "first")
    alone = len(computed)
    computed.clear()
    run(bench(scored), PLAN, tmp_path / "all")
    assert alone > 0
    assert computed.count(0) == alone
    assert computed.count(1) > 0


def test_answers_are_those_of_each_alone(scored: Path, tmp_path: Path) -> None:
    run(bench(scored), PLAN, tmp_path / "all")
    together = ComparisonFolder(tmp_path / "all")
    for method in PLAN.methods:
        options = {method: PLAN.options_of(method)} if PLAN.options_of(method) else {}
        run(bench(scored), Plan((method,), options=options), tmp_path / method)
        trial = Trial(method, 0)
        assert together.predictions(trial) == ComparisonFolder(tmp_path / method).predictions(trial)
