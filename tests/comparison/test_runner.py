"""Trials fail alone, go on after kill -9 with the same numbers, and never see an answer."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stubs

from perfit.comparison import runner, trial
from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.plan import Plan, Selection, Trial
from perfit.comparison.results import load_results
from perfit.comparison.table import make_table
from perfit.durable.ledger import Ledger
from perfit.durable.records import write_record, write_records
from perfit.errors import ConfigError, DamagedError, StoreError
from perfit.events import Answered, Event, TrialBegun

PLAN = Plan(("base", "oppu", "perfit"), (0, 1), against="oppu")
BENCH = stubs.bench()


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_GROUP_QUERIES", 3)  # two users each
    monkeypatch.setattr(trial, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # slow with all of torch in memory


def compare(out: Path, plan: Plan = PLAN, watch: Callable[[dict[str, Any]], None] = lambda e: None, **more: Any) -> Any:
    return runner.run(BENCH, plan, out, maker=stubs.make, listener=watch, **more)


def numbers(out: Path) -> dict[str, Any]:
    """All that a comparison found, but for seconds, starts and memory."""
    found: dict[str, Any] = {str(path.relative_to(out)): path.read_text() for path in out.rglob("predictions.jsonl")}
    for path in sorted(out.rglob("trial.json")):
        record = json.loads(path.read_text())
        found[str(path.relative_to(out))] = {k: record[k] for k in ("status", "problems", "cost", "failure")}
    return found


def answered_users(folder: ComparisonFolder, one: Trial) -> list[str]:
    lines = (folder.trial_folder(one) / "predictions.jsonl").read_text().splitlines()
    return list(dict.fromkeys(json.loads(line)["user"] for line in lines))


def log(out: Path, method: str, seed: int = 0) -> list[Any]:
    path = ComparisonFolder(out).trial_folder(Trial(method, seed)) / "work" / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_query_has_a_prediction_and_every_trial_its_record(tmp_path: Path) -> None:
    records = compare(tmp_path)
    assert {record.status for record in records.values()} == {"done"}
    folder = ComparisonFolder(tmp_path)
    asked = {query.id for user in BENCH.data.users for query in user.queries}
    for one in PLAN.trials():
        assert set(folder.predictions(one)) == asked
        assert set(folder.predictions(one).values()) <= set(BENCH.task.labels)  # stripped
    record = records[Trial("oppu", 0)]
    assert answered_users(folder, Trial("oppu", 0)) == list(stubs.NAMES)
    assert record.label == "OPPU"
    assert record.cost == {"collective_parameters": 100, "personal_parameters": 10, "user_bytes": 20}
    assert record.peak_bytes > 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("README.md", "plan.json", "queries.jsonl", "trials", "shared", ".lock")
    }


def test_a_comparison_killed_at_any_event_ends_with_the_same_numbers(tmp_path: Path) -> None:
    events: list[Any] = []
    plan = Plan(("base", "perfit"))
    compare(tmp_path / "whole", plan, events.append)
    wanted = numbers(tmp_path / "whole")
    kinds = set()
    for place in range(0, len(events), 3):
        out = tmp_path / str(place)
        count = 0

        def die(event: Event, last: int = place) -> None:
            nonlocal count
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        child = os.fork()
        if child == 0:
            compare(out, plan, die)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        kinds.add(events[place].kind)
        compare(out, plan)
        assert numbers(out) == wanted, events[place]
    assert {"answered", "finished"} <= kinds
    repeated = log(tmp_path / "0", "base")
    assert [what for what, _ in repeated] == ["fit", *["adapt"] * 6, *["predict"] * 3]


def test_only_the_group_that_was_cut_off_is_answered_again(tmp_path: Path) -> None:
    class StoppedError(BaseException):
        pass

    answered = 0

    def stop(event: Event) -> None:
        nonlocal answered
        answered += isinstance(event, Answered)
        if answered == 6:  # in the second group of four queries
            raise StoppedError

    plan = Plan(("perfit",))
    with pytest.raises(StoppedError):
        compare(tmp_path, plan, stop)
    folder, one = ComparisonFolder(tmp_path), Trial("perfit", 0)
    record = folder.record(one)
    assert (record.status, answered_users(folder, one), record.starts) == ("running", ["anna", "ben"], 1)
    table = make_table(load_results(ComparisonFolder(tmp_path)), resamples=10)
    assert table.rows[0].problem == "not finished; 2 of 6 users answered"
    assert table.rows[0].metrics == {}
    seen: list[Any] = []
    compare(tmp_path, plan, seen.append)
    assert next(event for event in seen if isinstance(event, TrialBegun)).rows_done == 4
    sizes = [len(whom) for what, whom in log(tmp_path, "perfit") if what == "predict"]
    assert sizes == [4, 4, 4, 4]  # the first group was asked once, the second twice
    record = ComparisonFolder(tmp_path).record(Trial("perfit", 0))
    assert (record.status, record.starts) == ("done", 2)


@pytest.mark.parametrize("kept", ["all of the second group", "a part of its last line", "two of its lines", "none"])
def test_answers_are_added_line_by_line_and_a_kill_before_they_are_noted_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    plan, one = Plan(("perfit",)), Trial("perfit", 0)
    compare(tmp_path / "whole", plan)
    wanted = (ComparisonFolder(tmp_path / "whole").trial_folder(one) / "predictions.jsonl").read_bytes()

    class StoppedError(BaseException):
        pass

    folder = ComparisonFolder(tmp_path / "killed")
    save, append = ComparisonFolder.save_record, Ledger.append

    def add(self: Ledger, records: Sequence[Mapping[str, Any]]) -> None:
        append(self, records)
        if len(self.records) == 8:
            raise StoppedError

    def note(self: ComparisonFolder, trial: Trial, record: TrialRecord) -> None:
        if not self.predictions(trial):  # nothing is noted from the first answer on
            save(self, trial, record)

    with monkeypatch.context() as patch:
        patch.setattr(ComparisonFolder, "save_record", note)
        patch.setattr(Ledger, "append", add)
        with pytest.raises(StoppedError):
            compare(folder.path, plan)
    assert folder.record(one).status == "running"
    path = folder.trial_folder(one) / "predictions.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 8  # four of the group that was not noted
    cut = {"all of the second group": lines, "two of its lines": lines[:6], "none": lines[:4]}
    path.write_bytes(b"".join(cut.get(kept, [*lines[:7], lines[7][:-9]])))
    compare(folder.path, plan)
    assert path.read_bytes() == wanted
    assert folder.record(one).status == "done"


def test_a_finished_comparison_is_not_run_again_and_takes_more_methods_and_seeds(tmp_path: Path) -> None:
    compare(tmp_path, Plan(("base",)))
    compare(tmp_path, Plan(("base",)))
    assert len(log(tmp_path, "base")) == 10
    compare(tmp_path, Plan(("perfit", "base"), (2,)))
    plan = ComparisonFolder(tmp_path).plan()
    assert (list(plan["methods"]), plan["seeds"]) == (["base", "perfit"], [0, 2])
    assert len(log(tmp_path, "base")) == 10


def test_a_method_without_chance_keeps_to_the_seed_it_ran_with(tmp_path: Path) -> None:
    assert list(compare(tmp_path, Plan(("base", "perfit"), (5,)))) == [Trial("base", 5), Trial("perfit", 5)]
    records = compare(tmp_path, Plan(("base", "perfit"), (0, 1)))
    assert list(records) == [Trial("base", 5), Trial("perfit", 0), Trial("perfit", 1)]
    results = load_results(ComparisonFolder(tmp_path))
    assert [trial.seed for trial in results.records if trial.method == "base"] == [5]
    base, perfit = make_table(results, "base", resamples=10).rows
    assert (base.seeds, base.problem, perfit.seeds, perfit.problem) == ((5,), None, (0, 1, 5), None)
    # Where one began with this seed and another is finished, the finished one counts.
    failing = Plan(("floor-majority",), options={"floor-majority": {"fails": "fit"}})
    assert compare(tmp_path / "failed", failing)[Trial("floor-majority", 0)].status == "failed"
    folder = ComparisonFolder(tmp_path / "failed")
    again = replace(failing, seeds=(4,))
    assert folder.trials(again) == [Trial("floor-majority", 0)]
    folder.trial_folder(Trial("floor-majority", 4)).mkdir()
    folder.save_record(Trial("floor-majority", 4), trial.TrialRecord(status="done"))
    assert folder.trials(failing) == [Trial("floor-majority", 4)]


@pytest.mark.parametrize("where", ["fit", "adapt", "predict"])
def test_a_method_that_raises_is_a_row_that_says_why(tmp_path: Path, where: str) -> None:
    plan = Plan(("base", "lofit", "cos", "unmade"), options={"lofit": {"fails": where}, "cos": {"breaks": where}})
    records = compare(tmp_path, plan)
    assert [record.status for record in records.values()] == ["done", "failed", "failed", "failed"]
    rows = make_table(load_results(ComparisonFolder(tmp_path)), resamples=10).rows
    assert rows[0].metrics
    assert rows[1].problem == f"failed: no {where} today"
    assert rows[2].problem is not None
    assert rows[2].problem.startswith("failed: RuntimeError at ")
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("trial.json"))
    assert rows[3].problem == "failed: rank: 0 is not possible; give at least 1"


def test_failed_trials_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(("lofit",))
    monkeypatch.setattr(stubs.Stub, "cost", lambda self: 1 / 0)
    assert compare(tmp_path, plan)[Trial("lofit", 0)].status == "failed"
    monkeypatch.undo()
    assert compare(tmp_path, plan)[Trial("lofit", 0)].status == "done"


def test_answers_of_the_wrong_number_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stubs.Stub, "predict", lambda self, asks, done: ["work"])
    (record,) = compare(tmp_path, Plan(("lofit",))).values()
    assert record.failure["error"] == "lofit gave 1 answers to 4 queries"


def test_users_without_an_adaptation_are_counted(tmp_path: Path) -> None:
    users = (replace(BENCH.data.users[0], history=()), *BENCH.data.users[1:])
    bench = replace(BENCH, data=replace(BENCH.data, users=users))
    runner.run(bench, Plan(("lofit",)), tmp_path, maker=stubs.make)
    (row,) = make_table(load_results(ComparisonFolder(tmp_path)), resamples=10).rows
    assert row.not_adapted == 1


def test_a_comparison_whose_labels_were_all_chosen_greedily_is_not_gone_on_with(tmp_path: Path) -> None:
    bench = replace(BENCH, answers="labels")
    runner.run(bench, Plan(("base",)), tmp_path, maker=stubs.make)
    runner.run(bench, Plan(("lofit",)), tmp_path, maker=stubs.make)
    before = {name: part for name, part in ComparisonFolder(tmp_path).plan().items() if name != "labels"}
    write_record(tmp_path / "plan.json", before)
    with pytest.raises(StoreError, match=r"other choice among labels .* choose another --out"):
        runner.run(bench, Plan(("lofit",)), tmp_path, maker=stubs.make)


def test_another_comparison_is_refused(tmp_path: Path) -> None:
    compare(tmp_path, Plan(("base", "lofit"), options={"lofit": {"rank": 1}}))
    with pytest.raises(StoreError, match="holds lofit with other options"):
        compare(tmp_path, Plan(("lofit",), options={"lofit": {"rank": 2}}))
    with pytest.raises(StoreError, match="other data"):
        runner.run(stubs.bench(("anna", "ben")), Plan(("base",)), tmp_path, maker=stubs.make)
    with pytest.raises(StoreError, match="other answers; choose"):
        runner.run(replace(BENCH, answers="labels"), Plan(("base",)), tmp_path, maker=stubs.make)
    with ComparisonFolder(tmp_path).locked(), pytest.raises(StoreError, match="another comparison runs here"):
        compare(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds no comparison"):
        compare(tmp_path / "other")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StoreError, match="choose another --out"):
        compare(file)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("config", {"config": BENCH.config.with_options(personal_rank=5)}),
        ("task", {"task": replace(BENCH.task, prompt=f"Please. {BENCH.task.prompt}")}),
        ("base", {"identity": replace(BENCH.identity, weights="others")}),
        ("data", {"data": replace(BENCH.data, others=BENCH.data.others[:-1])}),
        ("data", {"selection": Selection(queries=1)}),
    ],
)
def test_a_comparison_that_differs_in_any_part_is_refused_and_leaves_the_first_as_it_was(
    part: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    compare(tmp_path, Plan(("base",)))
    before = (tmp_path / "plan.json").read_bytes(), numbers(tmp_path)
    with pytest.raises(StoreError, match=f"other {part}; choose"):
        runner.run(replace(BENCH, **changes), Plan(("base",)), tmp_path, maker=stubs.make)
    assert before == ((tmp_path / "plan.json").read_bytes(), numbers(tmp_path))


@pytest.mark.parametrize("less", [{"memory_gib": 0.5}, {"users_together": 1}, {"step_tokens": 9}])
def test_a_comparison_killed_for_memory_goes_on_with_less(less: dict[str, Any], tmp_path: Path) -> None:
    compare(tmp_path, Plan(("base",)))
    plan = ComparisonFolder(tmp_path).plan()
    smaller = replace(BENCH, config=BENCH.config.with_options(**less))
    records = runner.run(smaller, Plan(("base", "oppu")), tmp_path, maker=stubs.make)
    assert [(record.status, record.starts) for record in records.values()] == [("done", 1), ("done", 1)]
    after = ComparisonFolder(tmp_path).plan()
    assert after["resources"] == plan["resources"] | less
    assert after["config"] == plan["config"]
    assert plan["resources"].keys().isdisjoint(plan["config"])


def test_a_folder_of_before_there_were_checksums_is_refused(tmp_path: Path) -> None:
    compare(tmp_path, Plan(("base",)))
    plan = json.loads((tmp_path / "plan.json").read_text())
    del plan["sha256"]
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"format": 1}))
    with pytest.raises(
        StoreError, match=r"format 1 of an earlier perfit is not 2; .* or compare again in another folder"
    ):
        compare(tmp_path, Plan(("lofit",)))


def files_of(out: Path) -> list[Path]:
    trial = ComparisonFolder(out).trial_folder(Trial("oppu", 1))
    return [out / "plan.json", out / "queries.jsonl", trial / "trial.json", trial / "predictions.jsonl"]


def test_no_flipped_byte_of_a_comparison_is_silent(tmp_path: Path) -> None:
    compare(tmp_path)
    wanted, said = load_results(ComparisonFolder(tmp_path)), []
    for path in files_of(tmp_path):
        whole = path.read_bytes()
        for place in [*range(0, len(whole) - 1, max(len(whole) // 15, 1)), len(whole) - 2, len(whole) - 1]:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            try:
                found = load_results(ComparisonFolder(tmp_path))
            except DamagedError as error:
                said.append(str(error))
                continue
            # Blanks between the parts of an indented file say nothing.
            assert found == wanted, (path, place)
        path.write_bytes(whole)
    assert len(said) > 40
    assert all(len(line.splitlines()) == 1 for line in said)
    assert not any(query.input in line for line in said for user in wanted.users for query in user.queries)


def test_files_of_another_trial_or_comparison_are_refused(tmp_path: Path) -> None:
    compare(tmp_path / "one")
    runner.run(replace(BENCH, answers="labels"), PLAN, tmp_path / "two", maker=stubs.make)
    _, queries, record, predictions = files_of(tmp_path / "one")
    base = ComparisonFolder(tmp_path / "one").trial_folder(Trial("base", 0))
    for path, other in (
        (predictions, base / "predictions.jsonl"),
        (record, base / "trial.json"),
        (queries, tmp_path / "two" / "queries.jsonl"),
        (predictions, tmp_path / "two" / predictions.relative_to(tmp_path / "one")),
    ):
        whole = path.read_bytes()
        path.write_bytes(other.read_bytes())
        with pytest.raises(DamagedError, match=path.name):
            load_results(ComparisonFolder(tmp_path / "one"))
        path.write_bytes(whole)
    lines = predictions.read_bytes().splitlines(keepends=True)
    predictions.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DamagedError, match="not of the queries that were asked"):
        load_results(ComparisonFolder(tmp_path / "one"))


def test_sealed_files_of_wrong_values_are_one_line(tmp_path: Path) -> None:
    compare(tmp_path)
    folder, one = ComparisonFolder(tmp_path), Trial("oppu", 1)
    plan, queries, record, predictions = files_of(tmp_path)
    planned, told = folder.plan(), json.loads(record.read_text())
    del told["sha256"]
    changes: list[tuple[Path, Callable[[], None], str]] = [
        (
            plan,
            lambda: write_record(plan, {k: v for k, v in planned.items() if k != "against"}),
            "'against' is missing",
        ),
        (plan, lambda: write_record(plan, planned | {"seeds": 3}), "'seeds' is missing or wrong"),
        (record, lambda: write_record(record, told | {"starts": "3"}), "of another type"),
        (record, lambda: write_record(record, told | {"odd": 3}), "missing or wrong"),
        (predictions, lambda: write_records(predictions, [{"user": "anna"}], folder.of(one)), "missing or wrong"),
        (queries, lambda: write_records(queries, [{"user": "anna", "query": 1}], folder.of()), "missing or wrong"),
    ]
    for path, change, said in changes:
        whole = path.read_bytes()
        change()
        with pytest.raises(DamagedError, match=f"{path.name}.*{said}"):
            load_results(folder)
        path.write_bytes(whole)
    load_results(folder)


def test_predictions_that_were_lost_are_made_again(tmp_path: Path) -> None:
    compare(tmp_path)
    folder, one = ComparisonFolder(tmp_path), Trial("oppu", 1)
    wanted = folder.predictions(one)
    (folder.trial_folder(one) / "predictions.jsonl").unlink()
    folder.save_record(one, replace(folder.record(one), status="running"))
    compare(tmp_path)
    assert folder.predictions(one) == wanted


def test_methods_are_told_what_answers_may_be(tmp_path: Path) -> None:
    seen = []

    def maker(name: str, setting: Any, options: Any) -> Any:
        seen.append(setting.answers)
        return stubs.make(name, setting, options)

    runner.run(replace(BENCH, answers="labels"), Plan(("base",)), tmp_path, maker=maker)
    assert "labels" in seen
    table = make_table(load_results(ComparisonFolder(tmp_path)), resamples=10)
    assert table.answers == "labels"
    assert "answers: each method's choice among the task's 3 labels, not free text" in table.notes


def test_a_kill_before_the_plan_is_written_is_no_other_comparison(tmp_path: Path) -> None:
    for name in ("README.md", "queries.jsonl", ".plan.json.0123456789abcdef.part"):
        (tmp_path / name).write_text("half")
    compare(tmp_path, Plan(("base",), against="base"))
    assert len(ComparisonFolder(tmp_path).queries()) == 6
    compare(tmp_path, Plan(("lofit",)))
    assert ComparisonFolder(tmp_path).plan()["against"] == "base"  # said once


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    compare(tmp_path, Plan(("base",)))
    (tmp_path / "trials" / "base" / "seed-0" / "trial.json").write_text('{"odd": 1}')
    with pytest.raises(StoreError, match=r"trial\.json.*delete"):
        load_results(ComparisonFolder(tmp_path))
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(StoreError, match=r"plan\.json.*JSON"):
        load_results(ComparisonFolder(tmp_path))
    with pytest.raises(StoreError, match=r"is .* a folder of perfit compare"):
        load_results(ComparisonFolder(tmp_path / "none"))


def test_ids_are_never_paths_and_texts_lie_in_two_files_only(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    compare(out)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    text = BENCH.data.users[0].queries[0].input
    holding = {path.name for path in out.rglob("*") if path.is_file() and text in path.read_text()}
    assert holding == {"queries.jsonl"}


def test_several_workers_find_the_same_numbers_and_one_that_dies_takes_none_with_it(tmp_path: Path) -> None:
    plan = Plan(("oppu", "dying"))
    events: list[Any] = []
    arguments = {"maker": make_or_die, "workers": 2, "reopen": partial(stubs.bench)}
    records = runner.run(BENCH, plan, tmp_path / "many", listener=events.append, **arguments)  # type: ignore[arg-type]
    assert [record.status for record in records.values()] == ["done", "failed"]
    failure = records[Trial("dying", 0)].failure
    assert failure is not None
    assert failure["error"].startswith("its process ended with SIGKILL")
    assert sum(isinstance(event, Answered) for event in events) == 12
    runner.run(BENCH, Plan(("oppu",)), tmp_path / "one", maker=make_or_die)
    many, one = (ComparisonFolder(tmp_path / name).predictions(Trial("oppu", 0)) for name in ("many", "one"))
    assert many == one
    with pytest.raises(ConfigError, match="reopen"):
        runner.run(BENCH, plan, tmp_path / "bad", maker=make_or_die, workers=2)


def make_or_die(name: str, setting: Any, options: Any) -> Any:
    """In a process of its own: stubs, and one that is killed."""
    if name == "dying":
        os.kill(os.getpid(), signal.SIGKILL)
    # No group of this process is as small as those of the tests.
    made = stubs.make(name, setting, options)
    made.predict = lambda asks, done: [done(1) or "work" for _ in asks]  # type: ignore[method-assign]
    return made


def test_the_forecast_takes_the_same_method_before_the_mean() -> None:
    records = {
        Trial("a", 0): trial.TrialRecord(status="done", seconds={"fit": 10.0}),
        Trial("b", 0): trial.TrialRecord(),
    }
    forecast = runner.Forecast(records)
    assert forecast.seconds([Trial("a", 1), Trial("b", 0)]) == 20
    forecast.learn(Trial("b", 0), 30)
    assert forecast.seconds([Trial("a", 1), Trial("b", 1), Trial("c", 0)]) == 10 + 30 + 20
    assert runner.Forecast({}).seconds([Trial("a", 0)]) is None


def test_parameters_are_shown_before_anything_runs() -> None:
    found = runner.preview(BENCH, Plan(("base", "oppu", "unmade")), stubs.make)
    assert [(one.collective_parameters, one.problem) for one in found[:2]] == [(0, None), (100, None)]
    assert found[2].problem == "rank: 0 is not possible; give at least 1"
    assert runner.reference_cost(BENCH, Plan(("base",)), stubs.make) == {
        "collective_parameters": 100,
        "personal_parameters": 10,
    }


@pytest.mark.parametrize(("answers", "left"), [("free", "median 4"), ("labels", "median 4 mean 3.7")])
def test_a_task_s_stops_end_free_answers_of_every_method(answers: str, left: str, tmp_path: Path) -> None:
    told = {query.id: " median 4 mean 3.7" for user in BENCH.data.users for query in user.queries}
    plan = Plan(("oppu",), (0,), {"oppu": {"answers": told}})
    bench = replace(BENCH, task=replace(BENCH.task, stop=("mean",)), answers=answers)
    runner.run(bench, plan, tmp_path, maker=stubs.make, listener=lambda event: None)
    said = ComparisonFolder(tmp_path).predictions(Trial("oppu", 0))
    assert set(said.values()) == {left}
