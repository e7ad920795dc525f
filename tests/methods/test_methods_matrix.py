"""Every method on the families of the behaviour matrix: rows of a batch equal rows alone, and the base stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from families import NAMES
from method_world import ALL, ANNA, BEN, CLEO, asks, assert_untouched, modules, ready, setting, weights

from perfit.methods.registry import METHODS


def joint(name: str) -> bool:
    return METHODS[name].joint


# Methods that reach into the base run on every family; the others go through code that other tests run on all of them.
REACHING = ("style-vector", "cos", "lofit")
CASES = [(name, family) for name in ALL for family in (NAMES if name in REACHING else NAMES[:1])]
CASES += [("oppu", family) for family in ("gpt2", "neox", "opt")]


@pytest.mark.parametrize(("name", "family"), CASES)
def test_rows_of_many_users_in_one_batch_answer_as_each_would_alone(name: str, family: str, tmp_path: Path) -> None:
    before, shape = weights(family), modules(family)
    method = ready(name, setting(tmp_path, family), [ANNA, BEN])
    asked = asks(ANNA, BEN)
    asked = [asked[0], asked[2], asked[1], asked[3]]
    told: list[int] = []
    together = method.predict(asked, told.append)
    assert sum(told) == len(asked)
    assert together[:2] == [method.predict([ask])[0] for ask in asked[:2]]
    assert method.predict([]) == []
    assert_untouched(family, before, shape)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("base", "rag-2", "rag-4") and not joint(name)])
def test_adapting_one_user_never_changes_another(name: str, tmp_path: Path) -> None:
    alone, many = (replace(setting(tmp_path / part), shared=tmp_path) for part in ("alone", "many"))
    expected = ready(name, alone, [BEN]).predict(asks(BEN))
    assert ready(name, many, [ANNA, BEN]).predict(asks(ANNA, BEN))[2:] == expected


@pytest.mark.parametrize("name", ["lora-p", "perfit"])
def test_a_user_who_comes_later_changes_nobody(name: str, tmp_path: Path) -> None:
    expected = ready(name, setting(tmp_path), [BEN]).predict(asks(BEN))
    assert ready(name, setting(tmp_path), [CLEO, BEN]).predict(asks(BEN, CLEO))[:2] == expected
