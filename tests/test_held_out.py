"""Each user's strength by the own history, as a run keeps it: never by queries, never another user's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_base import CONFIG, TASK, dataset, person, write_base

from perfit.data.schema import Dataset
from perfit.personalizer import PerFit

NAMES = ("anna", "ben", "cleo", "dan", "eva", "finn")
DATA = dataset(NAMES)
TRIED = CONFIG.with_options(held_out=0.3, strength=0.75, **{"stage1.learning_rate": 1e-3, "stage2.learning_rate": 5e-2})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def strengths(perfit: PerFit, data: Dataset, run: Path | None = None) -> dict[str, float]:
    perfit.fit(data, run=run)
    return {user: perfit.strength_of(user) for user in perfit.users()}


def test_users_differ_and_their_queries_decide_nothing(base: Path, tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(base, TRIED, task=TASK)
    found = strengths(perfit, DATA, tmp_path / "run")
    assert set(found) == set(NAMES)
    assert set(found.values()) <= {0.0, 0.25, 0.5, 0.75}
    assert len(set(found.values())) > 1
    shifts = {user: perfit.shift_of(user) for user in NAMES}
    wrong = {"work": "travel", "travel": "family", "family": "work"}
    others = [
        replace(user, queries=tuple(replace(q, gold=wrong[str(q.gold)]) for q in user.queries)) for user in DATA.users
    ]
    assert strengths(perfit, replace(DATA, users=tuple(others))) == found
    assert all(torch.equal(perfit.shift_of(user).D, shifts[user].D) for user in NAMES)


def test_the_held_out_part_trains_in_the_end(base: Path) -> None:
    perfit = PerFit.from_pretrained(base, TRIED, task=TASK)
    perfit.fit(DATA)
    tried = {user: perfit.shift_of(user) for user in NAMES}
    PerFit.fit(perfit := PerFit.from_pretrained(base, replace(TRIED, held_out=0.0), task=TASK), DATA)
    assert all(torch.equal(perfit.shift_of(user).D, tried[user].D) for user in NAMES)


def test_a_user_who_comes_later_has_the_strength_of_coming_at_once(base: Path) -> None:
    perfit = PerFit.from_pretrained(base, TRIED, task=TASK)
    late = person("gus")
    found = strengths(perfit, replace(DATA, users=(*DATA.users, late)))
    shared = perfit.collective
    assert shared is not None
    perfit.personalize(late)
    assert perfit.strength_of("gus") == found["gus"]
    assert perfit.strength_of("anna") == found["anna"]
