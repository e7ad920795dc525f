"""Stage 2 of a comparison on the collective shift of a run that was given: as ``perfit train --collective`` does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_base import CONFIG, TASK, dataset

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.results import load_results
from perfit.comparison.runner import run
from perfit.comparison.table import make_table
from perfit.errors import StoreError
from perfit.evaluation.evaluate import evaluate
from perfit.personalizer import PerFit

DATA = dataset(("dora", "emil"), others=2)


def bench(scored: Path, given: Path | None, **changes: object) -> Bench:
    perfit = PerFit.from_pretrained(scored / "base", CONFIG.with_options(**changes), task=TASK)
    return Bench(DATA, TASK, perfit.backbone, perfit.identity, perfit.config, collective=given)


def test_answers_are_those_of_a_training_on_the_given_shift(scored: Path, tmp_path: Path) -> None:
    run(bench(scored, scored / "run"), Plan(("perfit-stage-1", "perfit", "lora-c")), tmp_path / "out")
    folder = ComparisonFolder(tmp_path / "out")
    perfit = PerFit.from_pretrained(scored / "base", CONFIG, task=TASK)
    perfit.fit(DATA, run=tmp_path / "run", collective=scored / "run", listener=lambda event: None)
    found = evaluate(perfit, DATA.users, with_nll=False, with_floors=False).methods
    assert folder.predictions(Trial("perfit-stage-1", 0)) == found["collective"].predictions
    assert folder.predictions(Trial("perfit", 0)) == found["personal"].predictions
    table = make_table(load_results(folder))
    assert any("is the collective shift of a run that was given" in note for note in table.notes)
    # Another stage 1, or none given, is another comparison.
    with pytest.raises(StoreError, match="holds a comparison with other collective; choose another --out"):
        run(bench(scored, None), Plan(("perfit",)), tmp_path / "out")
    other = PerFit.from_pretrained(scored / "base", CONFIG.with_options(seed=5), task=TASK)
    other.fit(DATA, run=tmp_path / "other", listener=lambda event: None)
    with pytest.raises(StoreError, match="holds a comparison with other collective"):
        run(bench(scored, tmp_path / "other"), Plan(("perfit",)), tmp_path / "out")


def test_a_variant_of_other_layers_cannot_stand_on_it_and_says_so(scored: Path, tmp_path: Path) -> None:
    plan = Plan(("perfit", "perfit[layers=1]"), options={"perfit[layers=1]": {"layers": (1,)}})
    run(bench(scored, scored / "run"), plan, tmp_path / "out")
    rows = {row.name: row.problem for row in make_table(load_results(ComparisonFolder(tmp_path / "out"))).rows}
    assert rows["perfit"] is None
    assert "its collective shift has layers (0, 1), not (1,); set layers to the same" in str(rows["perfit[layers=1]"])


def test_without_one_a_plan_says_nothing_of_it(scored: Path, tmp_path: Path) -> None:
    run(bench(scored, None), Plan(("base",)), tmp_path / "out")
    assert "collective" not in ComparisonFolder(tmp_path / "out").plan()
    with pytest.raises(StoreError, match="has personal_rank 3, not 2"):
        run(bench(scored, scored / "run", personal_rank=2), Plan(("base",)), tmp_path / "other")
