"""``perfit report`` on a comparison and on a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import SETTINGS, House, Perfit
from small_base import dataset, person

from perfit.data import read_dataset
from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset
from perfit.evaluation.written import read_metrics
from perfit.report.from_run import from_run
from perfit.run import RunDirectory


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [query.input for user in dataset(("anna", "ben")).users for query in user.queries]


def test_a_comparison(house: House, tmp_path: Path, perfit: Perfit, texts: list[str]) -> None:
    out = tmp_path / "out"
    compare = ("compare", house.data, "--task", house.task, "--base", house.base, *SETTINGS, "--out", out)
    assert perfit(*compare, "--methods", "floor-user-majority,floor-nearest,base", "--against", "base").code == 0
    done = perfit("report", out, "--against", "floor-nearest")
    assert done.code == 0, done.err
    assert f"page: {out / 'report.html'}" in done.out
    page = (out / "report.html").read_text()
    assert any(text in page for text in texts)
    assert "against Nearest past item" in page
    told = json.loads(perfit("report", out, "--no-texts", "--page", tmp_path / "bare.html", "--json").out)
    assert told["page"] == str(tmp_path / "bare.html")
    assert not any(text in (tmp_path / "bare.html").read_text() for text in texts)
    for more, message in (
        (("--against", "oppu"), "against: oppu is not compared"),
        (("--data", house.data), "leave --data out"),
    ):
        refused = perfit("report", out, *more)
        assert refused.code == 2
        assert message in refused.err


def test_a_run_that_was_evaluated(house: House, tmp_path: Path, perfit: Perfit, texts: list[str]) -> None:
    refused = perfit("report", house.run)
    if refused.code:  # no test before this one evaluated it
        assert "perfit evaluate" in refused.err
    assert perfit("evaluate", house.data, "--run", house.run).code == 0
    assert perfit("report", house.run).code == 0
    page = (house.run / "report.html").read_text()
    assert "give --data to see texts" in page
    assert not any(text in page for text in texts)
    assert {"scores.svg", "gains.svg"} <= {path.name for path in (house.run / "figures").iterdir()}
    assert perfit("report", house.run, "--data", house.data).code == 0
    page = (house.run / "report.html").read_text()
    assert any(text in page for text in texts)
    write_jsonl(Dataset((person("anna", queries=1),)), tmp_path / "part.jsonl")
    for more, message, code in (
        (("--data", tmp_path / "part.jsonl"), "lacks 3 evaluated queries", 1),
        (("--against", "base"), "leave it out", 2),
    ):
        refused = perfit("report", house.run, *more)
        assert refused.code == code
        assert message in refused.err


def test_a_run_brings_its_users_and_an_older_evaluation_says_what_it_lacks(house: House, perfit: Perfit) -> None:
    done = perfit("evaluate", house.data, "--run", house.run, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    run = RunDirectory(Path(house.run))
    found = from_run(run)
    assert [(p.history, p.gain, p.outcome) for p in found.points] == [
        (u["history"], u["gain"], u["outcome"]) for u in told["effect"]["users"]
    ]
    assert list(found.sections[0].notes) == told["summary"]
    assert any(note.startswith("personal against collective") for note in found.sections[0].notes)
    strength = found.points[0].strength
    assert strength is not None
    assert f"every user has strength {strength:g}: no figure of gains against it" in found.notes
    metrics = read_metrics(run)
    older = {key: value for key, value in metrics.items() if key not in ("effect", "nll", "summary", "sha256")}
    run.write_record("metrics.json", older)
    older_found = from_run(run)
    assert older_found.points == []
    (note,) = [note for note in older_found.notes if "earlier perfit" in note]
    assert "NLL, harm, answers changed and strengths are missing" in note
    with_data = from_run(run, read_dataset(Path(house.data)))
    assert [(p.history, p.strength) for p in with_data.points] == [(p.history, None) for p in found.points]
    assert [p.gain for p in with_data.points] == pytest.approx([p.gain for p in found.points])


def test_a_folder_of_neither_kind(tmp_path: Path, perfit: Perfit) -> None:
    refused = perfit("report", tmp_path)
    assert refused.code == 1
    assert "neither a comparison" in refused.err


def test_a_missing_extra_is_named(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    assert perfit("evaluate", house.data, "--run", house.run).code == 0
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused = perfit("report", house.run)
    assert refused.code == 1
    assert "perfit[report]" in refused.err
