"""A metric of one's own beside the task's, in evaluate and compare, in either direction; a wrong one is one line."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import SETTINGS, House, Perfit
from small_base import dataset

from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.own_values import keep_own_values, read_own_values
from perfit.comparison.plan import Trial
from perfit.durable.records import write_record
from perfit.erasure.comparison import ComparisonPlace
from perfit.errors import DamagedError
from perfit.evaluation.own_metrics import Metric
from perfit.evaluation.score import direct

MODULE = """
def spare(prediction, gold):
    return abs(ord(prediction[:1] or "a") - ord(gold[:1]))

spare.higher_is_better = False

def starts_alike(prediction, gold):
    return prediction[:1] == gold[:1]

def breaks(prediction, gold):
    raise RuntimeError(gold)

def endless(prediction, gold):
    return float("nan")

def accuracy(prediction, gold):
    return 1
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "measures_here.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "measures_here", raising=False)
    return tmp_path


OWN = ("--metric", "measures_here:spare", "--metric", "measures_here:starts_alike")


def test_compare_has_its_columns_gains_and_places(
    house: House, place: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        *("compare", house.data, "--task", house.task, "--base", house.base, *SETTINGS, "--out", "out"),
        *("--methods", "floor-majority,floor-nearest", "--against", "floor-majority"),
    ]
    done = perfit(*command, *OWN)
    assert done.code == 0, done.err
    rows = {row["method"]: row for row in csv.DictReader((place / "out" / "table.csv").open())}
    golds = {query.id: query.gold or "" for user in dataset(("anna", "ben")).users for query in user.queries}
    for name, row in rows.items():
        path = place / "out" / "trials" / name / "seed-0" / "predictions.jsonl"
        said = {line["query"]: line["prediction"] for line in map(json.loads, path.read_text().splitlines())}
        assert float(row["spare"]) == sum(abs(ord(said[q][:1]) - ord(golds[q][:1])) for q in golds) / len(golds)
        assert float(row["starts_alike"]) == sum(said[q][:1] == golds[q][:1] for q in golds) / len(golds)
    mine, theirs = rows["floor-nearest"], rows["floor-majority"]
    # An error that is smaller is a gain.
    assert float(mine["spare gain"]) == pytest.approx(float(theirs["spare"]) - float(mine["spare"]))
    assert float(mine["spare gain"]) != 0
    # The folder keeps what it gave, and no name that is imported; the function is not needed again.
    monkeypatch.setattr("perfit.own.import_module", lambda name: pytest.fail("a file has named it"))
    assert "spare" not in (place / "out" / "plan.json").read_text()
    assert "measures_here" not in (place / "out" / "own_metrics.json").read_text()
    before = (place / "out" / "table.csv").read_text()
    assert "spare" in perfit(*command).out
    assert (place / "out" / "table.csv").read_text() == before
    # A method that comes later has no values.
    later = perfit(*command[:-4], "--methods", "floor-user-majority")
    assert "spare: not of every method; give --metric again for its column" in later.out
    assert "spare" not in (place / "out" / "table.csv").read_text()
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert "spare" in perfit(*command, "--metric", "measures_here:spare").out
    assert "starts_alike" not in columns_of(place / "out")
    kept = json.loads((place / "out" / "own_metrics.json").read_text())["values"]
    assert {len(own) for own in kept.values()} == {1, 2}  # the other one is kept beside it, of those who have it
    assert place / "out" / "own_metrics.json" in [step.path for step in ComparisonPlace(place / "out").steps("anna")]


def columns_of(out: Path) -> list[str]:
    return list(csv.DictReader((out / "table.csv").open()).fieldnames or ())


def test_values_of_other_answers_or_another_comparison_are_not_taken(tmp_path: Path) -> None:
    folder = ComparisonFolder(tmp_path)
    folder.of = lambda trial=None: "this one"  # type: ignore[method-assign]
    trial, said = Trial("base", 0), {"a": "work", "b": "travel"}
    spare = Metric("spare", lambda prediction, gold: 0.0)
    direct("spare", False)
    keep_own_values(folder, [spare], {trial: {"spare": {"a": 1.0, "b": 2.0}}}, {trial: said})
    kept = read_own_values(folder)
    assert kept.of(trial, said) == {"spare": {"a": 1.0, "b": 2.0}}
    assert kept.of(trial, said | {"b": "family"}) == {}
    assert kept.of(Trial("base", 1), said) == {}
    assert kept.higher == {"spare": False}
    folder.of = lambda trial=None: "another"  # type: ignore[method-assign]
    with pytest.raises(DamagedError, match="is of another comparison; delete it"):
        read_own_values(folder)
    (tmp_path / "bad").mkdir()
    for bad in (
        {"higher": {"accuracy": True}},
        {"higher": {}},
        {"answers": {}},
        {"values": {"base": {"spare": {"a": "1"}}}},
    ):
        content = json.loads((tmp_path / "own_metrics.json").read_text())
        content.pop("sha256")
        write_record(tmp_path / "bad" / "own_metrics.json", content | {"of": "another"} | bad)
        damaged = ComparisonFolder(tmp_path / "bad")
        damaged.of = lambda trial=None: "another"  # type: ignore[method-assign]
        with pytest.raises(DamagedError, match="a value is missing or wrong; delete it"):
            read_own_values(damaged)


@pytest.mark.slow
def test_compare_has_its_columns_with_worker_processes(house: House, place: Path, perfit: Perfit) -> None:
    done = perfit(
        *("compare", house.data, "--task", house.task, "--base", house.base, *SETTINGS, "--out", "out"),
        *("--methods", "floor-majority,floor-nearest", "--workers", "2", *OWN),
    )
    assert done.code == 0, done.err
    assert {"spare", "starts_alike"} <= set(columns_of(place / "out"))


def test_evaluate_has_its_columns(house: House, place: Path, perfit: Perfit) -> None:
    shutil.copytree(house.run, place / "run")
    done = perfit("evaluate", house.data, "--run", "run", "--no-nll", *OWN)
    assert done.code == 0, done.err
    assert "spare" in done.out
    found = json.loads((place / "run" / "metrics.json").read_text())["methods"]["personal"]["metrics"]
    assert list(found) == ["accuracy", "spare", "starts_alike", "macro_f1"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("measures_here:none", "metric: measures_here has nothing of the name 'none'"),
        ("spare", "metric: 'spare' is unknown; write package.module:function"),
        ("measures_here:__name__", "is no function of a prediction and a gold answer"),
        ("measures_here:accuracy", "metric: accuracy is another metric's name; call it otherwise"),
        ("measures_here:breaks", "metric: breaks failed on an answer (RuntimeError); mend it"),
        ("measures_here:endless", "metric: endless gave nan for an answer; give a finite number"),
    ],
)
def test_what_is_none_is_one_line(house: House, place: Path, perfit: Perfit, name: str, says: str) -> None:
    done = perfit(
        *("compare", house.data, "--task", house.task, "--base", house.base, *SETTINGS, "--out", "out"),
        *("--methods", "floor-majority", "--metric", name),
    )
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err
    assert not any(label in done.err for label in ("'work'", "'family'", "'travel'"))
