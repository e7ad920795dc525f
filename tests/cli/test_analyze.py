"""``perfit analyze`` on a tiny base: measures, writes, resumes, and says clearly what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import House, Perfit

from perfit.cli.analyze import parse_layers
from perfit.errors import ConfigError

FEW = ("--items", "2", "--history-tokens", "60", "--batch-tokens", "512")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_base import dataset

    from perfit.data.jsonl import write_jsonl

    path = tmp_path_factory.mktemp("data") / "users.jsonl"
    write_jsonl(dataset(("anna", "ben", "cleo", "dora"), queries=4), path)
    return path


def test_it_measures_writes_everything_and_goes_on(perfit: Perfit, house: House, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "analysis"
    arguments = ("analyze", many, "--task", house.task, "--base", house.base, "--out", out, *FEW, "--run", house.run)
    done = perfit(*arguments)
    assert done.code == 2, "ben and anna alone are too few to compare with the run"
    assert "comparing needs at least 3 users" in done.err
    assert "folders, test: 4 users, 96 prompts, about" in done.err
    assert "folders, stage1: 3 users" in done.err
    done = perfit(*arguments[:-2])
    assert done.code == 0, done.err
    assert done.err.splitlines()[:2] == ["folders, test: measured before", "folders, stage1: measured before"]
    for part in ("directions that explain", "collective shift, layer 1", "controls, layer 1", "suggested to try"):
        assert part in done.out
    assert {path.name for path in out.iterdir()} == {".lock", "README.md", "figures", "folders", "index.html", "tables"}
    assert {path.stem for path in (out / "figures").iterdir()} == {
        "observations",
        "layers",
        "cases",
        "controls",
        "halves",
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "anna" in page
    assert "<script src" not in page
    again = perfit("analyze", "--out", out, "--json", "--show-layer", "0")
    assert again.code == 0, again.err
    content = json.loads(again.out)
    assert content["layer"] == 0
    assert {row["group"] for row in content["tables"]["ranks"]} == {"test", "stage1"}
    other = perfit(*arguments[:-2], "--users", "2")
    assert other.code == 1
    assert "other users or settings" in other.err


def test_the_estimate_measures_nothing(perfit: Perfit, house: House, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    arguments = ("--task", house.task, "--base", house.base, "--out", out, "--groups", "test", "--estimate", "--json")
    done = perfit("analyze", many, *arguments, *FEW)
    assert done.code == 0, done.err
    assert json.loads(done.out)["test"]["prompts"] == 4 * 4 * 6
    assert not out.exists()


def test_a_single_query_each_has_a_report_without_halves(
    perfit: Perfit, house: House, many: Path, tmp_path: Path
) -> None:
    arguments = ("--task", house.task, "--base", house.base, "--out", tmp_path, "--groups", "test", "--layers", "1")
    done = perfit("analyze", many, *arguments, "--queries", "1", *FEW)
    assert done.code == 0, done.err
    assert "controls, layer 1" in done.out
    assert "two halves" not in done.out


def test_users_texts_can_be_left_out(perfit: Perfit, house: House, many: Path, tmp_path: Path) -> None:
    arguments = ("--task", house.task, "--base", house.base, "--out", tmp_path, "--groups", "test", "--no-controls")
    done = perfit("analyze", many, *arguments, "--no-texts", "--layers", "1-2", *FEW)
    assert done.code == 0, done.err
    assert not (tmp_path / "folders" / "test" / "texts.json").exists()
    word = many.read_text(encoding="utf-8").split('"text": "')[1].split('"')[0]
    assert word not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--groups", "all"], "--groups: all"),
        (["--layers", "x"], "--layers: 'x'"),
        (["--layers", "7"], "7 is not a layer"),
        (["--users", "0"], "--users: 0"),
        (["--queries", "0"], "queries is 0"),
        (["--items", "0"], "items is 0"),
        (["--batch-tokens", "0"], "--batch-tokens: 0"),
        (["--history-tokens", "2000"], "max_length is 1024"),
    ],
)
def test_impossible_options_are_said(
    perfit: Perfit, house: House, many: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = perfit("analyze", many, "--task", house.task, "--base", house.base, "--out", tmp_path, *arguments)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_an_empty_folder_has_no_report(perfit: Perfit, tmp_path: Path) -> None:
    done = perfit("analyze", "--out", tmp_path)
    assert (done.code, "no δ-vectors here yet" in done.err) == (2, True)
    done = perfit("analyze", "--out", tmp_path, "--estimate")
    assert (done.code, "--estimate: give the data" in done.err) == (2, True)


@pytest.mark.parametrize(("text", "layers"), [("all", (0, 1, 2, 3)), ("1-3", (1, 2, 3)), ("3,0-1", (0, 1, 3))])
def test_layers_are_read(text: str, layers: tuple[int, ...]) -> None:
    assert parse_layers(text, 4) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "2,2", "3-1"])
def test_other_layers_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--layers"):
        parse_layers(text, 4)


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--run", "missing"), "missing", 1),
        (("--show-layer", "9"), "--show-layer: 9 will not be measured; give one of 0, 1", 2),
    ],
)
def test_what_the_report_would_refuse_is_refused_before_anything_is_measured(
    perfit: Perfit, house: House, many: Path, tmp_path: Path, more: tuple[str, ...], said: str, code: int
) -> None:
    out = tmp_path / "none"
    done = perfit("analyze", many, "--task", house.task, "--base", house.base, "--out", out, *FEW, *more)
    assert done.code == code
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not out.exists()
