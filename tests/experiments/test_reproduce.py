"""Entries at the smoke scale: cells keyed by what decides them, shared, resumed, and missing ones shown as missing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from smoke_choices import choices_in

from perfit.data.jsonl import write_jsonl
from perfit.events import Event, StageBegun, TrialBegun
from perfit.experiments import smoke_base
from perfit.experiments.cell_runs import SILENT, Watch, placed, run_cells, why_failed
from perfit.experiments.cells import Cell, cell_of, slots
from perfit.experiments.outcome import Outcome, read_outcome
from perfit.experiments.paper.registry import entry_of
from perfit.experiments.reproduce import outcome_of, reproduce, results_folder, states
from perfit.experiments.smoke_data import smoke_dataset
from perfit.experiments.world import Place, World
from perfit.methods import registry


def run(name: str, world: World) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    return reproduce(entry_of(name), world, watch=Watch(listener=events.append)), events


def again(world: World, **changes: Any) -> World:
    """A new world in the same folder."""
    return World(replace(world.choices, **changes))


def folder_of(world: World, name: str = "table4", row: str = "PerFit") -> Path:
    slot = next(one for one in slots(entry_of(name), world.choices.scale) if one.row.label == row)
    cell = cell_of(slot, entry_of(name), world)
    assert not isinstance(cell, str)
    return cell.folder.path


def test_a_table_has_its_rows_the_papers_numbers_and_ours(smoke: World) -> None:
    outcome, _ = run("table4", smoke)
    assert (outcome.done, outcome.cells, outcome.missing) == (7, 7, {})
    rows = {row.label: row for row in outcome.rows}
    assert list(rows)[:5] == ["PerFit", "@Stage-1", "@Stage-2 (C+P)", "@Stage-2 (P)", "ref. LoRA-P"]
    value = rows["PerFit"].values["news_categorize.accuracy"]
    assert value.printed == 0.818
    assert value.mean is not None
    assert value.seeds == value.of == 1
    assert rows["PerFit, practical pool"].extra
    assert rows["PerFit"].collective_parameters == 2 * (2 * 8 * 64 + 8)
    assert [order["column"] for order in outcome.orderings] == ["news_categorize.accuracy", "news_categorize.macro_f1"]
    assert outcome_of(entry_of("table4"), smoke.choices) == outcome


def test_a_stage_1_that_several_entries_use_trains_once(smoke: World) -> None:
    run("table4", smoke)
    stage1 = {path: path.stat().st_mtime_ns for path in smoke.choices.out.rglob("collective.safetensors")}
    outcome, events = run("table12", again(smoke))
    begun = [event.method for event in events if isinstance(event, TrialBegun)]
    assert "perfit" not in begun
    assert "lora-c-all+perfit-p" in begun
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stage1.items())
    assert outcome.done == outcome.cells


def test_a_second_call_runs_nothing_and_says_the_same(smoke: World) -> None:
    first, _ = run("table4", smoke)
    second, events = run("table4", again(smoke))
    assert [event for event in events if isinstance(event, TrialBegun | StageBegun)] == []
    assert second == first


@pytest.mark.parametrize("what", ["settings", "data", "base", "version"])
def test_another_base_data_setting_or_version_is_another_cell(
    what: str, smoke: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("table4", smoke)
    other, before = again(smoke), folder_of(smoke)
    if what == "settings":
        other = again(smoke, settings={"stage2.learning_rate": 2e-3})
    elif what == "data":
        data = smoke_dataset("news_categorize")
        changed = replace(data.users[0], history=data.users[0].history[:-1])
        write_jsonl(replace(data, users=(changed, *data.users[1:])), tmp_path / "news_categorize.jsonl")
        other = again(smoke, data=tmp_path)
    elif what == "base":
        other = again(smoke, bases={"": "smoke:llama-3.2-1b"})
    else:
        raised = replace(registry.METHODS["perfit"], version=2)
        monkeypatch.setitem(registry.METHODS, "perfit", raised)
    assert folder_of(other) != before
    cells = [one.cell for one in placed(entry_of("table4"), other) if one.slot.row.label == "PerFit"]
    assert [cell.record().status for cell in cells if cell is not None] == ["running"]  # a new record, never begun
    assert all(cell.record().starts == 0 for cell in cells if cell is not None)


def test_resources_make_no_other_cell(smoke: World) -> None:
    assert folder_of(again(smoke, settings={"users_together": 1})) == folder_of(smoke)


def test_a_cell_that_fails_is_missing_and_there_is_no_mean_over_the_rest(tmp_path: Path) -> None:
    world = World(choices_in(tmp_path))
    entry = replace(entry_of("table10"), tasks=("news_categorize",))
    cells = placed(entry, world)
    run_cells([one.cell for one in cells if one.cell is not None and one.slot.seed == 0], world, SILENT)
    broken = next(one.cell for one in cells if one.slot.row.label == "PerFit" and one.slot.seed == 1)
    assert broken is not None
    where = broken.folder.trial_folder(broken.trial) / "work"
    where.parent.mkdir(parents=True)
    where.write_text("in the way")
    outcome = reproduce(entry, world)
    value = outcome.rows[0].values["news_categorize.accuracy"]
    assert (value.mean, value.std, value.seeds, value.of) == (None, None, 1, 2)
    assert value.why is not None
    assert outcome.done == outcome.cells - 1
    p = next(row for row in outcome.rows if row.label == "p")
    assert p.values["news_categorize.accuracy"].mean is None
    assert outcome.claims[0]["verdict"] == "missing"


def test_two_seeds_have_a_spread_and_a_p(smoke: World) -> None:
    outcome, _ = run("table10", smoke)
    assert outcome.rows[0].values["news_categorize.accuracy"].std is not None
    p = next(row for row in outcome.rows if row.label == "p").values["news_categorize.accuracy"]
    assert p.printed == 0.026
    assert p.mean is not None
    assert 0 < p.mean <= 1


def test_groups_of_collective_users_are_drawn_apart(smoke: World) -> None:
    outcome, _ = run("table15", smoke)
    pools = [
        {user.id for user in smoke.bench(Place("smoke:llama-2-7b", "news_categorize", (), 3, seed)).pool()}
        for seed in range(5)
    ]
    assert all(len(pool) == 3 for pool in pools)
    assert len({frozenset(pool) for pool in pools}) > 1
    assert (
        next(row for row in outcome.rows if row.label == "variance").values["news_categorize.accuracy"].mean is not None
    )


def test_a_share_of_a_part_of_the_pool_is_a_share_of_that_part(smoke: World) -> None:
    everybody = len(smoke.dataset("news_categorize").others)
    part = World(replace(smoke.choices, scale=smoke.choices.scale.with_changes(pool=4)))
    sizes = {}
    for name, world in (("all", smoke), ("part", part)):
        cells = [one.cell for one in placed(entry_of("table15"), world) if one.slot.row.pool_share is not None]
        sizes[name] = {cell.place.pool for cell in cells if cell is not None}
    assert everybody > 4
    assert sizes == {"all": {round(everybody / 2)}, "part": {2}}


def test_stage_2_stands_on_another_tasks_stage_1(tmp_path: Path) -> None:
    world = World(choices_in(tmp_path, "news_categorize", "movie_tagging"))
    entry = entry_of("table16")
    cells = [one.cell for one in placed(entry, world) if one.slot.row.stage1 == "movie_tagging"]
    crossed = next(cell for cell in cells if cell is not None and cell.place.task == "news_categorize")
    assert crossed.needs is not None
    assert crossed.needs.place.task == "movie_tagging"
    run_cells([crossed], world, SILENT)
    assert crossed.record().status == "done", why_failed(crossed)
    shared = crossed.folder.path / "shared" / "seed-0"
    taken = list(shared.glob("collective-shift-*/collective.safetensors"))
    source = list(crossed.needs.folder.path.glob("shared/seed-0/collective-shift-*/collective.safetensors"))
    from safetensors.torch import load_file

    ours, theirs = load_file(taken[0]), load_file(source[0])
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_tiny_base_cut_off_while_it_was_written_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(folder: Path, name: str, texts: list[str]) -> Path:
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smoke_base, "write_base", cut_off)
        with pytest.raises(KeyboardInterrupt):
            World(choices_in(tmp_path)).base("smoke:llama-2-7b")
    assert len(World(choices_in(tmp_path)).base("smoke:llama-2-7b").backbone.layers) == smoke_base.DEPTH
    assert [path.name for path in (tmp_path / "smoke" / "bases").iterdir()] == ["llama-2-7b"]


def test_a_folder_that_was_moved_goes_on_with_stage_1_of_another_task(tmp_path: Path) -> None:
    """Where stage 1 lies decides nothing, nor how long it took: what was not finished elsewhere is finished here."""

    def world(out: str) -> World:
        choices = choices_in(tmp_path / out, "news_categorize", "movie_tagging")
        given = tmp_path / "one" / "smoke"
        return World(replace(choices, data=given / "data", bases={"": str(given / "bases" / "llama-2-7b")}))

    def crossed(world: World) -> Cell:
        cells = [one.cell for one in placed(entry_of("table16"), world) if one.slot.row.stage1 == "movie_tagging"]
        return next(cell for cell in cells if cell is not None and cell.place.task == "news_categorize")

    first = World(choices_in(tmp_path / "one", "news_categorize"))
    first.base("smoke:llama-2-7b")  # writes data and base
    before = crossed(world("one"))
    run_cells([before], world("one"), SILENT)
    assert before.record().status == "done", why_failed(before)
    answers = before.folder.predictions(before.trial)
    shutil.copytree(tmp_path / "one" / "cells", tmp_path / "two" / "cells")
    after = crossed(world("two"))
    shutil.rmtree(after.folder.trial_folder(after.trial))
    assert run_cells([after], world("two"), SILENT) == []
    assert after.record().status == "done", why_failed(after)
    assert after.folder.predictions(after.trial) == answers
    assert "tmp" not in json.dumps(after.folder.plan()["methods"])
    keys = [{path.name for path in cell.folder.path.glob("shared/seed-0/*")} for cell in (before, after)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("name", ["table1", "table6", "table8", "table9", "table18", "figure9", "figure15"])
def test_other_kinds_of_entries_run(name: str, smoke: World) -> None:
    world = again(smoke)
    if name == "table18":
        world = World(replace(smoke.choices, scale=smoke.choices.scale.with_changes(tasks=("movie_tagging",))))
    outcome, _ = run(name, world)
    assert outcome.done == outcome.cells > 0, outcome.missing
    assert any(value.mean is not None for row in outcome.rows for value in row.values.values())
    for figure in outcome.figures:
        assert (results_folder(world.choices) / figure).read_text().startswith("<?xml")
    if name == "table1":
        measured = {column.partition(".")[2].partition("_")[0] for column in outcome.rows[0].values}
        assert measured == {"r", "permille"}  # Table 5 prints ratios
    again_outcome, _ = run(name, World(world.choices))
    assert again_outcome == outcome


def test_figures_of_comparisons_are_drawn(smoke: World) -> None:
    outcome, _ = run(
        "figure6", World(replace(smoke.choices, scale=smoke.choices.scale.with_changes(tasks=("movie_tagging",))))
    )
    assert outcome.figures == ("figures/figure6.svg",)
    assert any("layers [0] of 32" in note or "are [0] of 4" in note for note in outcome.notes)


def test_no_users_text_or_id_is_in_a_result(smoke: World) -> None:
    run("table4", smoke)
    run("figure9", smoke)
    data = smoke_dataset("news_categorize")
    for path in results_folder(smoke.choices).rglob("*.json"):
        said = path.read_text()
        assert not any(user.id in said for user in (*data.users, *data.others))
        assert not any(query.input in said for user in data.users for query in user.queries)


def test_states_say_what_is_needed_done_and_left(smoke: World) -> None:
    run("table4", smoke)
    found = {state.entry.name: state for state in states(smoke.choices)}
    assert len(found) == 27
    assert (found["table4"].done, found["table4"].cells, found["table4"].left) == (7, 7, 0.0)
    assert found["table14"].done == 0
    assert (found["table14"].left or 0) > 0
    assert "smoke:llama-2-7b" in found["table4"].needs


def test_data_that_are_not_there_are_missing_cells(tmp_path: Path) -> None:
    choices = replace(choices_in(tmp_path, "news_categorize", "tweet_paraphrase"), data=tmp_path / "data")
    (tmp_path / "data").mkdir()
    write_jsonl(smoke_dataset("news_categorize"), tmp_path / "data" / "news_categorize.jsonl")
    outcome, _ = run("table12", World(choices))
    assert outcome.missing == {"no data of tweet_paraphrase": 5}
    assert (outcome.done, outcome.cells) == (5, 10)


def test_a_damaged_result_is_one_line(smoke: World, tmp_path: Path) -> None:
    from perfit.errors import StoreError

    run("table8", smoke)
    path = results_folder(smoke.choices) / "table8.json"
    content = json.loads(path.read_text())
    (tmp_path / "table8.json").write_text(json.dumps({name: v for name, v in content.items() if name != "rows"}))
    with pytest.raises(StoreError, match="delete it and run the entry again"):
        read_outcome(tmp_path / "table8.json")
