"""Users near, in the middle and far, in numbers: who stands where, what is counted, and nothing that names anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perfit.data.schema import HistoryItem, Query, User
from perfit.experiments.cases import case_columns, case_rows, cases_of, measures_of
from perfit.experiments.paper.registry import entry_of
from perfit.experiments.reproduce import reproduce
from perfit.experiments.world import World

TASK = "scholarly_title"
TITLES = {
    "a": ("One, two: three",),
    "b": ("Four five", "Six - seven eight"),
    "c": ("Nine",),
    "d": ("Ten", "Eleven"),
    "e": ("x",),
    "f": ("y!",),
}


def author(name: str) -> User:
    history = tuple(
        HistoryItem(f"{name}-{n}", {"title": title, "abstract": "text"}) for n, title in enumerate(TITLES[name])
    )
    query = Query(
        f"q-{name}", f"Generate a title for the following abstract of a paper: {'word ' * len(TITLES[name])}", "t"
    )
    return User(name, history, (query,))


USERS = {name: author(name) for name in TITLES}


def deltas(sizes: dict[str, float]) -> Any:
    """Users on two axes around the mean: the size is the distance to it."""
    ends = np.array([[size, 0.0] for size in sizes.values()] + [[-size, 0.0] for size in sizes.values()])
    return SimpleNamespace(users=[*sizes, *sizes], delta=lambda layer: ends)


def test_each_stands_by_its_distance_and_is_counted() -> None:
    cases = cases_of(TASK, deltas({"c": 5.0, "a": 1.0, "b": 3.0}), 0, USERS)
    assert [(one.group, one.number) for one in cases] == [
        ("near", 1), ("near", 2), ("middle", 1), ("middle", 2), ("far", 1), ("far", 2),
    ]  # fmt: skip
    near, middle, far = cases[0], cases[2], cases[4]
    assert (near.distance, middle.distance, far.distance) == pytest.approx((1 / 3, 1.0, 5 / 3))
    assert (near.punctuation, near.words, near.asked, near.history) == (2.0, 3.0, 1.0, 1.0)
    assert (middle.punctuation, middle.words, middle.asked, middle.history) == (0.5, 3.0, 2.0, 2.0)
    assert measures_of(TASK, cases)[f"{TASK}.punctuation_near_minus_middle"] == 1.5
    rows = case_rows({TASK: cases})
    assert [row.label for row in rows][:4] == ["Closest #1", "Closest #2", "Closest, mean", "Intermediate #1"]
    assert set(rows[0].values) == set(case_columns({TASK: cases}))
    assert rows[5].values[f"{TASK}.punctuation"].mean == 0.5


def test_the_entry_has_a_row_a_user_and_names_nobody(smoke: World, tmp_path: Path) -> None:
    world = World(replace(smoke.choices, scale=smoke.choices.scale.with_changes(tasks=(TASK,))))
    outcome = reproduce(entry_of("figures10-14"), world)
    labels = [row.label for row in outcome.rows]
    assert labels == [f"{group}{end}" for group in ("Closest", "Intermediate", "Farthest") for end in (" #1", ", mean")]
    nearest, farthest = (outcome.rows[place].values[f"{TASK}.distance"].mean for place in (0, 4))
    assert nearest is not None
    assert farthest is not None
    assert nearest < farthest
    said = json.dumps([row.label for row in outcome.rows] + list(outcome.columns))
    data = world.dataset(TASK)
    assert not any(user.id in said for user in (*data.users, *data.others))
