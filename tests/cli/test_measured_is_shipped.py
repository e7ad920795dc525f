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
    ("pool", "strength", "retrieved", "stop"),
    [("others", "1.0", 0, ""), ("all", "0.6", 0, ""), ("all", "0.6", 2, ""), ("others", "1.0", 0, "\n")],
)
def test_a_comparison_and_a_run_have_the_same_shifts_and_answers(
    place: House, perfit: Perfit, pool: str, strength: str, retrieved: int, stop: str
) -> None:
    if stop:
        place.task.write_text(json.dumps(TASK_RECORD | {"stop": stop}))
    common = ("--task", place.task, "--base", place.base, *SETTINGS, *MORE)
    how = ("--set", f"stage1_users={pool}", "--set", f"strength={strength}", "--set", f"retrieved={retrieved}")
    good(perfit("compare", place.data, *common, *how, "--methods", "perfit", "--seeds", "0", "--out", place.run / "c"))
    good(perfit("train", place.data, *common, *how, "--run", place.run / "r"))
    good(perfit("evaluate", place.data, "--run", place.run / "r", "--methods", "personal"))

    (kept,) = (place.run / "c").glob("shared/*/*/collective.safetensors")
    ours, theirs = load_file(place.run / "r" / "collective.safetensors"), load_file(kept)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    store = ShiftStore.open(place.run / "r" / "personal.sqlite")
    shipped = [store.get(user) for user in sorted(store.users())]
    measured = [load_file(path) for path in sorted((place.run / "c").glob("**/users/*.safetensors"))]
    assert len(shipped) == len(measured) == 3
    assert all(one.meta["strength"] == float(strength) for one in shipped)
    for one in shipped:
        assert any(all(torch.equal(one.tensors[n], other[n]) for n in ("R", "D", "b")) for other in measured)

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
