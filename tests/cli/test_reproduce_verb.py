"""``perfit reproduce`` as it is typed, and pools drawn in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import House, Perfit

from perfit.run import RunDirectory

SMOKE = ("--scale", "smoke", "--tasks", "news_categorize", "--device", "cpu")


def test_a_table_is_printed_and_kept(perfit: Perfit, tmp_path: Path) -> None:
    done = perfit("reproduce", "table12", *SMOKE, "--out", tmp_path)
    assert done.code == 0
    assert "| LoRA-C (all) + PerFit-P |" in done.out
    assert "0.818" in done.out
    kept = json.loads((tmp_path / "results" / "smoke" / "table12.json").read_text())
    assert kept["command"] == "perfit reproduce table12 --scale smoke --tasks news_categorize --device cpu"
    assert str(tmp_path) not in json.dumps(kept)
    listed = perfit("reproduce", "list", *SMOKE, "--out", tmp_path, "--json")
    states = {one["entry"]: one for one in json.loads(listed.out)}
    assert (states["table12"]["done"], states["table12"]["cells"], states["table12"]["left"]) == (5, 5, 0.0)
    assert states["table2"]["done"] == 0


def test_the_papers_size_is_checked_without_weights(perfit: Perfit, tmp_path: Path) -> None:
    done = perfit("reproduce", "all", "--scale", "paper", "--dry-run", "--out", tmp_path)
    assert done.code == 0
    assert "parameters: 52 of 60 equal" in done.out
    assert done.out.count("the paper's slip") == 8
    assert "hours of" in done.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("table7",), "'table7' is no table or figure here"),
        (("table4", "--scale", "large"), "scale: 'large' is not possible; choose smoke, small or paper"),
        (("table4", "--dry-run"), "--dry-run: checks the paper's own size, not small"),
        (("table4", "--tasks", "movies"), "tasks: 'movies' is none of the paper's"),
        (("table4", "--users", "0"), "users: 0 is not possible"),
        (("page",), "page: docs/reproduction is not here"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], said: str, perfit: Perfit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = perfit("reproduce", *words, "--out", tmp_path / "out")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_data_that_nobody_named_are_missing_and_that_is_a_fault(perfit: Perfit, tmp_path: Path) -> None:
    done = perfit("reproduce", "table1", "--scale", "small", "--out", tmp_path)
    assert done.code == 1
    assert "3 of 3 cells are missing" in done.err


def test_training_draws_a_pool_of_its_own(house: House, perfit: Perfit, tmp_path: Path) -> None:
    data = []
    for name, words in (("first", ()), ("drawn", ("--pool-seed", "3")), ("same", ("--pool-seed", "3"))):
        done = perfit(*house.train, "--pool", "1", *words, "--run", tmp_path / name)
        assert done.code == 0, done.err
        data.append(RunDirectory(tmp_path / name).manifest()["data"])
    assert data[1] == data[2] != data[0]
    refused = perfit(*house.train, "--pool-seed", "1", "--run", tmp_path / "none")
    assert (refused.code, "and pool, how many to draw" in refused.err) == (2, True)
