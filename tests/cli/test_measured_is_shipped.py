"""What a table measures is what a run ships: ``compare --methods perfit`` against ``train`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import SETTINGS, House, Outcome, Perfit
from safetensors.torch import load_file
from small_base import TASK_RECORD, dataset, write_task

from perfit.data.jsonl import write_jsonl
from perfit.durable.tensors import read_tensors
from perfit.store.shifts import ShiftStore

# Enough training for users to differ, and a strength between the two ends.
MORE = ("--set", "init=loreft", "--set", "stage1.learning_rate=0.02", "--set", "stage2.learning_rate=0.02")


@pytest.fixture
def place(base: Path, tmp_path: Path) -> House:
    write_jsonl(dataset(("anna", "ben", "cleo")), tmp_path / "data.jsonl")
    return House(tmp_path / "data.jsonl", write_task(tmp_path / "task.yaml"), base, tmp_path / "out")


def good(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(
    ("pool", "strength", "retrieved", "held_out", "stop"),
    [
        ("others", "1.0", 0, 0, ""),
        ("all", "0.6", 0, 0, ""),
        ("all", "0.6", 2, 0, ""),
        ("all", "0.6", 0, 0.3, ""),
        ("others", "1.0", 0, 0, "\n"),
    ],
)
def test_a_comparison_and_a_run_have_the_same_shifts_and_answers(
    place: House, perfit: Perfit, pool: str, strength: str, retrieved: int, held_out: float, stop: str
) -> None:
    if stop:
        place.task.write_text(json.dumps(TASK_RECORD | {"stop": stop}))
    common = ("--task", place.task, "--base", place.base, *SETTINGS, *MORE)
    settings = {"stage1_users": pool, "strength": strength, "retrieved": retrieved, "held_out": held_out}
    how = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    good(perfit("compare", place.data, *common, *how, "--methods", "perfit", "--seeds", "0", "--out", place.run / "c"))
    good(perfit("train", place.data, *common, *how, "--run", place.run / "r"))
    good(perfit("evaluate", place.data, "--run", place.run / "r", "--methods", "personal"))

    (kept,) = (place.run / "c").glob("shared/*/*/collective.safetensors")
    ours, theirs = load_file(place.run / "r" / "collective.safetensors"), load_file(kept)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    store = ShiftStore.open(place.run / "r" / "personal.sqlite")
    shipped = {user: store.get(user) for user in store.users()}
    users = [read_tensors(path, mend="") for path in sorted((place.run / "c").glob("**/users/*.safetensors"))]
    measured = {one.notes["user"]: one for one in users if one is not None}
    assert len(shipped) == len(measured) == 3
    assert held_out or all(one.meta["strength"] == float(strength) for one in shipped.values())
    for user, one in shipped.items():
        assert all(torch.equal(one.tensors[n], measured[user].tensors[n]) for n in ("R", "D", "b"))
        assert one.meta["strength"] == measured[user].notes["strength"]

    (trial,) = (place.run / "c").glob("**/predictions.jsonl")
    answers = {
        path: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (trial, place.run / "r" / "predictions" / "personal.jsonl")
    }
    said = [
        {(one["user"], one["query"]): one["prediction"] for one in lines if "user" in one} for lines in answers.values()
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 6
