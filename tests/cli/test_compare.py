"""``perfit compare`` on a tiny base."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_line import SETTINGS, House, Outcome, Perfit
from small_base import LABELS, dataset, write_task

from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset, User


@pytest.fixture(scope="module")
def place(base: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Data and task, and a place for comparisons."""
    folder = tmp_path_factory.mktemp("place")
    write_jsonl(dataset(("anna", "ben")), folder / "data.jsonl")
    return House(folder / "data.jsonl", write_task(folder / "task.yaml"), base, folder / "out")


def arguments(place: House, *more: str | Path) -> list[str | Path]:
    return ["compare", place.data, "--task", place.task, "--base", place.base, *SETTINGS, *more]


def good(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


def test_one_command_one_table_and_again_at_once(place: House, perfit: Perfit) -> None:
    command = arguments(
        place, "--methods", "floor-user-majority,oppu,perfit", "--seeds", "3", "--against", "oppu",
        *("--option", "oppu.rank=2", "--out", place.run),
    )  # fmt: skip
    done = good(perfit(*command))
    for text in ("User majority", "OPPU", "PerFit", "accuracy", "less than OPPU", "95 % interval"):
        assert text in done.out, text
    assert "3 trials of 4 queries to do, 0 done before" in done.err
    assert "[3/3] perfit, seed 3, about" in done.err
    rows = {row["method"]: row for row in csv.DictReader((place.run / "table.csv").open())}
    # R, W and b of two layers and both shifts, of ranks 4 and 3, in a base of width 32.
    assert int(rows["perfit"]["personal_parameters"]) == 2 * (2 * 3 * 32 + 3)
    assert float(rows["perfit"]["personal_reduction"]) == 1 - 2 * (2 * 3 * 32 + 3) / int(
        rows["oppu"]["personal_parameters"]
    )
    assert rows["perfit"]["seeds"] == "3"
    tables = {name: (place.run / name).read_bytes() for name in ("table.json", "table.md", "table.tex", "table.csv")}
    again = good(perfit(*command))
    assert "0 trials of 4 queries to do, 3 done before" in again.err
    assert again.out == done.out
    assert {name: (place.run / name).read_bytes() for name in tables} == tables
    told = json.loads(good(perfit(*command, "--json")).out)
    assert told == json.loads(tables["table.json"])
    readme = (place.run / "README.md").read_text()
    for path in place.run.iterdir():
        assert f"`{path.name}" in readme, path
    words = dataset(("anna", "ben")).users[0].history[0].fields["text"]
    for path in (*place.run.rglob("*.json"), *place.run.rglob("events.jsonl")):
        assert words not in path.read_text()


def test_a_dry_run_shows_parameters_and_writes_nothing(place: House, tmp_path: Path, perfit: Perfit) -> None:
    command = arguments(place, "--methods", "base,perfit", "--out", tmp_path / "none", "--dry-run")
    shown = good(perfit(*command)).out
    assert "390 (" in shown
    assert "0 to do" in shown
    assert "2 users with 10 history items and 4 queries, 3 other users" in shown
    assert json.loads(good(perfit(*command, "--json")).out)["methods"][1]["personal_parameters"] == 390
    assert not (tmp_path / "none").exists()


def test_a_part_of_the_data_is_said_to_be_one(place: House, tmp_path: Path, perfit: Perfit) -> None:
    part = ("--users", "1", "--queries", "1", "--history", "2", "--pool", "1")
    shown = good(perfit(*arguments(place, "--methods", "floor-majority,base", *part, "--out", tmp_path / "out"))).out
    assert "folders: 1 users, 1 queries" in shown
    assert "a part of the data: users 1, queries 1, history 2, pool 1" in shown


def test_answers_may_be_labels_alone(place: House, tmp_path: Path, perfit: Perfit) -> None:
    command = arguments(place, "--methods", "base,rag-1", "--out", tmp_path / "out")
    done = good(perfit(*command, "--answers", "labels"))
    assert "answers: each method's choice among the task's 3 labels, not free text" in done.out
    predictions = [*(tmp_path / "out").rglob("predictions.jsonl")]
    said = [json.loads(line)["prediction"] for path in predictions for line in path.read_text().splitlines()]
    assert len(said) == 8
    assert set(said) <= set(LABELS)
    assert json.loads((tmp_path / "out" / "table.json").read_text())["answers"] == "labels"
    refused = perfit(*command)
    assert refused.code == 1
    assert "holds a comparison with other answers; choose another --out" in refused.err


def test_a_failing_method_is_a_row_and_exit_code_1(place: House, tmp_path: Path, perfit: Perfit) -> None:
    done = perfit(*arguments(place, "--methods", "floor-user-mean,floor-user-majority", "--out", tmp_path / "out"))
    assert done.code == 1
    assert "failed: floor-user-mean: does not fit task 'folders'" in " ".join(done.out.split())
    assert "1 of 2 trials failed; the same command tries them again" in done.err
    assert "User majority" in done.out
    assert "Traceback" not in done.err


def test_without_other_users_stage_1_learns_from_histories_and_says_so(
    place: House, tmp_path: Path, perfit: Perfit
) -> None:
    write_jsonl(Dataset(dataset(("anna", "ben")).users), tmp_path / "alone.jsonl")
    done = good(
        perfit("compare", tmp_path / "alone.jsonl", "--task", place.task, "--base", place.base, *SETTINGS,
               "--methods", "perfit", "--out", tmp_path / "out")
    )  # fmt: skip
    assert "histories of the users themselves" in done.err
    assert "PerFit" in done.out


def test_leaks_stop_a_comparison(place: House, tmp_path: Path, perfit: Perfit) -> None:
    data = dataset(("anna",))
    (anna,) = data.users
    told = User(
        "anna", anna.history, tuple(type(q)(q.id, anna.history[0].fields["text"], q.gold) for q in anna.queries)
    )
    write_jsonl(Dataset((told,), data.others), tmp_path / "leak.jsonl")
    command = ("compare", tmp_path / "leak.jsonl", "--task", place.task, "--base", place.base, *SETTINGS)
    assert perfit(*command, "--methods", "floor-majority", "--out", tmp_path / "out").code == 3
    good(perfit(*command, "--methods", "floor-majority", "--out", tmp_path / "out", "--allow-leaks"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--methods", "perfit,prefit"), "--methods: 'prefit' is unknown; choose from floor-majority"),
        (("--methods", ","), "--methods: none is given"),
        (("--methods", "base", "--seeds", "a"), "--seeds: 'a' is not possible"),
        (("--methods", "base", "--seeds", "0,0"), "seeds: 0 comes twice"),
        (("--methods", "base", "--against", "oppu"), "against: oppu is not compared"),
        (("--methods", "base", "--users", "0"), "users: 0 is not possible"),
        (("--methods", "base", "--workers", "0"), "--workers: 0"),
        (("--methods", "base", "--preset", "large"), "preset: 'large' is unknown"),
        (("--methods", "base", "--answers", "label"), "answers: 'label' is unknown; choose from free, sampled, labels"),
        (("--methods", "oppu", "--option", "oppu.rang=2"), "oppu: rang is not an option; it has"),
        (("--methods", "oppu", "--option", "rank=2"), "write method.name=value"),
        (("--methods", "oppu", "--option", "opu.rank=2"), "'opu' is no method"),
        (("--methods", "base", "--option", "oppu.rank=2"), "options: oppu is not compared"),
        (("--methods", "base", "--set", "no=1"), "no: no such setting"),
    ],
)
def test_mistakes_are_one_line(
    more: tuple[str, ...], message: str, place: House, tmp_path: Path, perfit: Perfit
) -> None:
    done = perfit(*arguments(place, *more, "--out", tmp_path / "out"))
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_variants_of_one_method_are_rows_of_their_own(place: House, tmp_path: Path, perfit: Perfit) -> None:
    wide = "perfit[personal_rank=2,layers=[0,1]]"
    methods = f"perfit-stage-1, perfit,{wide},perfit[strength=0]"
    command = arguments(place, "--methods", methods, "--out", tmp_path / "out")
    done = good(perfit(*command))
    assert f"PerFit{wide.removeprefix('perfit')}" in done.out
    told = json.loads((tmp_path / "out" / "table.json").read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["perfit-stage-1", "perfit", wide, "perfit[strength=0]"]
    said = {
        name: [json.loads(line)["prediction"] for line in path.read_text().splitlines() if "prediction" in line]
        for name in rows
        for path in (tmp_path / "out" / "trials" / name / "seed-0").rglob("predictions.jsonl")
    }
    assert said["perfit[strength=0]"] == said["perfit-stage-1"]
    assert len(said) == 4
    per_user = {name: row["costs"]["personal_parameters"] for name, row in rows.items()}
    assert per_user[wide] == 2 * (2 * 2 * 32 + 2) != per_user["perfit"]
    # Stage 1 of the same settings is trained once.
    assert len(list((tmp_path / "out" / "shared").glob("*/collective-shift-*"))) == 2
    assert good(perfit(*command)).out == done.out
    good(perfit("report", tmp_path / "out"))


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("perfit[strenght=0]", "strenght is not an option"),
        ("perfit[strength]", "'strength' is no option; write perfit[name=value"),
        ("perfit[strength=7]", "strength: 7"),
        ("perfect[strength=0]", "'perfect' is unknown"),
        ("perfit[strength=0],perfit[strength = 0]", "comes twice"),
    ],
)
def test_wrong_variants_are_one_line(methods: str, said: str, place: House, tmp_path: Path, perfit: Perfit) -> None:
    done = perfit(*arguments(place, "--methods", methods, "--out", tmp_path / "out"))
    assert done.code == 2
    assert said in done.err.splitlines()[-1]
