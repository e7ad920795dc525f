"""``perfit search`` from data to a config that ``perfit train`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import House, Outcome, Perfit

FIXED = ("--set", "dtype=float32", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1", "--set", "max_length=256")


def good(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    return done


def options(house: House) -> tuple[str, ...]:
    return ("search", str(house.data), "--task", str(house.task), "--base", str(house.base), *FIXED)


def test_a_search_ends_in_settings_to_train_with(house: House, tmp_path: Path, perfit: Perfit) -> None:
    out = tmp_path / "search"
    shown = good(perfit(*options(house), "--out", out, "--trials", "2"))
    assert "2 complete, 0 pruned, 0 failed" in shown.out
    for name in ("collective_rank", "personal_rank", "layers", "positions", "loss", "collective"):
        assert name in shown.out
    assert "epochs" not in shown.out  # fixed
    assert f"--config {out / 'best.yaml'}" in shown.err
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "best.yaml",
        "frozen",
        "search.json",
        "study.sqlite",
    ]
    for path in out.iterdir():
        if path.is_file():
            assert b"river" not in path.read_bytes()  # a word of the users' notes
    told = json.loads(good(perfit(*options(house), "--out", out, "--trials", "3", "--json")).out)
    assert len(told["trials"]) == 3
    best = min(told["trials"], key=lambda row: row["score"])
    assert told["best"] == best
    train = ("train", house.data, "--task", house.task, "--base", house.base, "--config", out / "best.yaml")
    good(perfit(*train, "--run", tmp_path / "run"))
    config = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]
    assert {name: config[name] for name in best["settings"]} == best["settings"]


def test_a_space_of_ones_own_pruned_and_judged_by_the_metric(house: House, tmp_path: Path, perfit: Perfit) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("positions: [l3, f2+l3]\nstage2.learning_rate: {low: 1e-3, high: 3e-2, log: true}\n")
    ranks = ("--set", "collective_rank=8", "--set", "personal_rank=4")  # the preset's are too large for this base
    more = (*ranks, "--space", space, "--sampler", "tpe", "--prune", "--score", "metric", "--trials", "2")
    told = json.loads(good(perfit(*options(house), "--out", tmp_path / "s", *more, "--json")).out)
    assert told["score"] == "accuracy"
    assert set(told["best"]["settings"]) == {"positions", "stage2.learning_rate"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--trials", "0"), "trials: 0"),
        (("--sampler", "grid"), "sampler: 'grid'"),
        (("--score", "luck"), "score: 'luck'"),
        (("--held-out", "1"), "held_out: 1.0"),
        (("--space", "missing.yaml"), "missing.yaml"),
        (("--set", "layers=[77]", "--trials", "1"), "layers: 77"),
    ],
)
def test_faults_are_one_line(house: House, tmp_path: Path, perfit: Perfit, more: tuple[str, ...], said: str) -> None:
    refused = perfit(*options(house), "--out", tmp_path / "s", *more)
    assert refused.code == (1 if said == "missing.yaml" else 2)
    assert said in refused.err.strip().splitlines()[-1]


def test_others_may_judge_and_users_take_no_part(house: House, tmp_path: Path, perfit: Perfit) -> None:
    told = []
    for name, judges in (("u", "users"), ("o", "others")):
        more = ("--trials", "1", "--judges", judges, "--json", "--out", tmp_path / name)
        told.append(json.loads(good(perfit(*options(house), *more)).out)["best"]["score"])
    assert told[0] != told[1]
    refused = perfit(*options(house), "--judges", "me", "--out", tmp_path / "x")
    assert refused.code == 2
    assert "--judges: 'me' is not possible" in refused.err
