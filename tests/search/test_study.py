"""The study: what is proposed, resumed, pruned, refused and written. Trials are a formula here."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_base import TASK, dataset
from sqlalchemy import event
from sqlalchemy.engine import Engine

from perfit.config import PerFitConfig
from perfit.errors import ConfigError, DamagedError, MissingExtraError, PerfitError, StoreError
from perfit.search import study as study_module
from perfit.search.holdout import hold_out
from perfit.search.space import Choice, Range, Space
from perfit.search.study import SearchPlan, SearchResult, TrialRow, search
from perfit.search.trial import Material, TrialResult

SPACE: Space = {
    "personal_rank": Choice((4, 8, 16)),
    "layers": Choice(((1,), (1, 2))),
    "epochs": Choice((2, 4, 6)),
    "stage2.learning_rate": Range(1e-4, 1e-2, log=True),
}
MATERIAL = Material(None, TASK, hold_out(dataset(), 0.2), "loss")  # type: ignore[arg-type]
PLAN = SearchPlan(trials=5, space=SPACE, config=PerFitConfig(), context="data A")


def formula(config: PerFitConfig) -> float:
    return abs(config.personal_rank - 8) + len(config.layers) + config.stage2.learning_rate


@pytest.fixture(autouse=True, scope="module")
def quick_database() -> Iterator[None]:
    """These studies need not outlast a power cut; waiting for the disk would be most of the time."""

    def connected(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


class Trials:
    """Stands for ``run_trial``: counts, reports, and fails where it is told to."""

    def __init__(self) -> None:
        self.configs: list[PerFitConfig] = []
        self.stop_at: int | None = None
        self.fail: Callable[[PerFitConfig], bool] = lambda config: False

    def __call__(self, material: Material, config: PerFitConfig, *, report: Any, listener: Any) -> TrialResult:
        if self.stop_at == len(self.configs):
            raise KeyboardInterrupt
        self.configs.append(config)
        if self.fail(config):
            raise PerfitError("stage 1 stopped")
        report(0, formula(config) + 1)
        report(1, formula(config))
        return TrialResult(formula(config), formula(config) + 1, 0)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    stand_in = Trials()
    monkeypatch.setattr(study_module, "run_trial", stand_in)
    return stand_in


def bare(result: SearchResult) -> list[TrialRow]:
    return [replace(row, seconds=0.0, number=place) for place, row in enumerate(result.trials)]


def test_the_best_trial_is_written_as_a_config_that_training_reads(trials: Trials, tmp_path: Path) -> None:
    from perfit.cli.given import parse_settings

    told: list[int] = []
    result = search(MATERIAL, PLAN, tmp_path / "s", done=lambda row: told.append(row.number))
    assert told == list(range(5))
    assert [formula(config) for config in trials.configs] == [row.score for row in result.trials]
    assert len({json.dumps(row.settings) for row in result.trials}) == 5
    best = result.best
    assert best is not None
    assert best.score == min(map(formula, trials.configs))
    settings = parse_settings(tmp_path / "s" / "best.yaml", [])
    config = PerFitConfig().with_options(**settings)
    assert config == trials.configs[best.number]
    assert set(yaml.safe_load((tmp_path / "s" / "best.yaml").read_text())) == set(PerFitConfig().as_dict())
    assert config.stage1.epochs == config.stage2.epochs in (2, 4, 6)
    assert (tmp_path / "s" / "best.yaml").read_text().startswith(f"# trial {best.number} of 5: loss ")


@pytest.mark.parametrize(("sampler", "stopped_at"), [("random", 0), ("random", 3), ("tpe", 4)])
def test_a_stopped_search_comes_to_the_same_trials(
    trials: Trials, tmp_path: Path, sampler: str, stopped_at: int
) -> None:
    plan = replace(PLAN, sampler=sampler)
    whole = search(MATERIAL, plan, tmp_path / "whole")
    trials.configs.clear()
    trials.stop_at = stopped_at
    with pytest.raises(KeyboardInterrupt):
        search(MATERIAL, plan, tmp_path / "stopped")
    trials.stop_at = None
    assert bare(search(MATERIAL, plan, tmp_path / "stopped")) == bare(whole)
    assert len(trials.configs) == 5  # nothing twice
    trials.configs.clear()
    assert bare(search(MATERIAL, plan, tmp_path / "stopped")) == bare(whole)
    assert trials.configs == []
    longer = search(MATERIAL, replace(plan, trials=6), tmp_path / "stopped")
    assert bare(longer)[:5] == bare(whole)
    assert len(trials.configs) == 1


def test_another_seed_proposes_others(trials: Trials, tmp_path: Path) -> None:
    one, other = (search(MATERIAL, replace(PLAN, seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert [row.settings for row in one.trials] != [row.settings for row in other.trials]


def test_settings_that_were_tried_are_not_trained_again(trials: Trials, tmp_path: Path) -> None:
    plan = replace(PLAN, space={"personal_rank": Choice((4, 8))}, trials=5)
    result = search(MATERIAL, plan, tmp_path)
    assert len(trials.configs) == 2
    assert {row.settings["personal_rank"]: row.score for row in result.trials} == {4: 6.001, 8: 2.001}
    assert len(result.trials) == 5


def test_a_failed_trial_is_kept_and_the_search_goes_on(trials: Trials, tmp_path: Path) -> None:
    trials.fail = lambda config: config.personal_rank == 8
    result = search(MATERIAL, replace(PLAN, trials=6), tmp_path)
    states = {row.state for row in result.trials}
    assert states == {"complete", "failed"}
    assert all((row.problem == "stage 1 stopped") == (row.settings["personal_rank"] == 8) for row in result.trials)
    assert result.best is not None
    assert result.best.settings["personal_rank"] != 8
    assert bare(search(MATERIAL, replace(PLAN, trials=6), tmp_path)) == bare(result)  # failures are not tried again


def test_a_search_without_a_finished_trial_says_why(trials: Trials, tmp_path: Path) -> None:
    trials.fail = lambda config: True
    with pytest.raises(PerfitError, match=r"no trial of 5 finished \(stage 1 stopped\)"):
        search(MATERIAL, PLAN, tmp_path)
    assert not (tmp_path / "best.yaml").exists()


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("spoilt", [math.nan, math.inf])
def test_a_score_that_is_not_finite_fails_the_trial_alone(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: float, prune: bool
) -> None:
    def run(material: Material, config: PerFitConfig, *, report: Any, listener: Any) -> TrialResult:
        found = trials(material, config, report=report, listener=listener)
        return replace(found, score=spoilt) if config.personal_rank == 8 else found

    monkeypatch.setattr(study_module, "run_trial", run)
    plan = replace(PLAN, trials=6, prune=prune)
    result = search(MATERIAL, plan, tmp_path)
    assert {row.settings["personal_rank"] for row in result.trials if row.state == "failed"} == {8}
    assert all("not finite" in (row.problem or "") for row in result.trials if row.state == "failed")
    assert result.best is not None
    assert bare(search(MATERIAL, plan, tmp_path)) == bare(result)


@pytest.mark.parametrize("name", ["what?x=1", "100%25", "a#b", "two words"])
def test_the_study_lies_in_its_folder_whatever_that_is_called(trials: Trials, tmp_path: Path, name: str) -> None:
    search(MATERIAL, PLAN, tmp_path / name)
    assert (tmp_path / name / "study.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    trials.configs.clear()
    search(MATERIAL, PLAN, tmp_path / name)
    assert trials.configs == []


def test_pruning_ends_trials_behind_the_median(trials: Trials, tmp_path: Path) -> None:
    plan = replace(PLAN, prune=True, trials=9)
    result = search(MATERIAL, plan, tmp_path)
    pruned = [row for row in result.trials if row.state == "pruned"]
    finished = [row.score for row in result.ranked()]
    assert pruned
    assert all(row.number >= 4 for row in pruned)  # the first ones have no median
    assert min(row.score or 0 for row in pruned) > sorted(score or 0 for score in finished)[0]
    assert not any(row.state == "pruned" for row in search(MATERIAL, replace(PLAN, trials=9), tmp_path / "all").trials)
    assert bare(search(MATERIAL, plan, tmp_path)) == bare(result)


def test_a_pruned_trial_has_the_last_score_it_came_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun: list[PerFitConfig] = []

    def trial(material: Material, config: PerFitConfig, *, report: Any, listener: Any) -> TrialResult:
        begun.append(config)
        first, second = (2.0, 1.0) if len(begun) < 6 else (1.9, 1.5)
        report(0, first)
        report(1, second)
        return TrialResult(second, first, 0)

    monkeypatch.setattr(study_module, "run_trial", trial)
    last = search(MATERIAL, replace(PLAN, prune=True, trials=6), tmp_path).trials[-1]
    assert (last.state, last.score, last.collective) == ("pruned", 1.5, 1.9)


def test_higher_scores_win_where_higher_is_better(trials: Trials, tmp_path: Path) -> None:
    result = search(replace(MATERIAL, score="metric"), PLAN, tmp_path)
    assert result.best is not None
    assert result.score == "accuracy"
    assert result.best.score == max(row.score or 0 for row in result.trials)


def test_a_folder_of_another_search_is_refused(trials: Trials, tmp_path: Path) -> None:
    search(MATERIAL, PLAN, tmp_path)
    for other, said in (
        (replace(PLAN, context="data B"), "another base, task or data"),
        (replace(PLAN, sampler="tpe"), "another sampler"),
        (replace(PLAN, space={"personal_rank": Choice((4, 8))}), "another space"),
        (replace(PLAN, config=PerFitConfig(positions="l5")), "another config"),
    ):
        with pytest.raises(StoreError, match=said):
            search(MATERIAL, other, tmp_path)
    path = tmp_path / "search.json"
    whole = path.read_text()
    path.write_text("{")
    with pytest.raises(DamagedError, match="cannot be read as JSON; restore it, or choose another folder"):
        search(MATERIAL, PLAN, tmp_path)
    path.write_text(whole.replace('"random"', '"rendom"'))
    with pytest.raises(DamagedError, match="checksum differs"):
        search(MATERIAL, PLAN, tmp_path)
    old = {name: value for name, value in json.loads(whole).items() if name not in ("sha256", "format")}
    path.write_text(json.dumps(old))
    with pytest.raises(
        StoreError, match=r"format none of an earlier perfit is not 2; .* or search again in another folder"
    ):
        search(MATERIAL, PLAN, tmp_path)


def test_how_much_runs_at_once_is_no_other_search(trials: Trials, tmp_path: Path) -> None:
    search(MATERIAL, replace(PLAN, trials=2), tmp_path)
    less = PerFitConfig(memory_gib=1.5, users_together=3, step_tokens=99)
    assert len(search(MATERIAL, replace(PLAN, trials=3, config=less), tmp_path).trials) == 3
    assert len(trials.configs) == 3


@pytest.mark.parametrize("change", ["score", "settings", "state", "number"])
def test_no_changed_trial_of_a_study_is_taken_for_its_own(trials: Trials, tmp_path: Path, change: str) -> None:
    trials.fail = lambda config: config.personal_rank == 4
    found = search(MATERIAL, PLAN, tmp_path)
    best = found.best
    assert best is not None
    database = sqlite3.connect(tmp_path / "study.sqlite")
    with database:
        if change == "state":
            failed = next(row.number for row in found.trials if row.state == "failed")
            database.execute("update trials set state = 'COMPLETE' where number = ?", (failed,))
        elif change == "number":
            database.execute("update trials set number = number + 10 where number = ?", (best.number,))
        else:
            ((key, value),) = database.execute(
                "select trial_user_attribute_id, value_json from trial_user_attributes join trials using (trial_id) "
                "where key = 'found' and number = ?",
                (best.number,),
            )
            record = json.loads(value)
            if change == "score":
                record["score"] /= 2
            else:
                record["settings"]["personal_rank"] += 8
            ask = "update trial_user_attributes set value_json = ? where trial_user_attribute_id = ?"
            database.execute(ask, (json.dumps(record), key))
    database.close()
    with pytest.raises(DamagedError, match=r"study\.sqlite: trial \d+ is .*; restore it or remove") as caught:
        search(MATERIAL, PLAN, tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_study_and_a_second_process_are_refused(trials: Trials, tmp_path: Path) -> None:
    from filelock import FileLock

    search(MATERIAL, PLAN, tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(StoreError, match="another process"):
        search(MATERIAL, PLAN, tmp_path)
    (tmp_path / "study.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="cannot be opened as a study"):
        search(MATERIAL, PLAN, tmp_path)


def test_impossible_plans_are_refused(tmp_path: Path) -> None:
    for change, said in (({"trials": 0}, "trials: 0"), ({"sampler": "grid"}, "choose from random, tpe")):
        with pytest.raises(ConfigError, match=said):
            replace(PLAN, **change)
    with pytest.raises(ConfigError, match="score: 'luck'"):
        search(replace(MATERIAL, score="luck"), PLAN, tmp_path)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"perfit\[search\]"):
        search(MATERIAL, PLAN, tmp_path)
