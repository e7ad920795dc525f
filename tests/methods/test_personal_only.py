"""Methods without a stage 1: a user who could not be adapted to is answered by the base, whatever a shift begins as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from method_world import ANNA, asks, make, setting

from perfit.errors import ConfigError


@pytest.mark.parametrize("name", ["reft-p", "reft-c+p", "perfit-stage-2"])
def test_a_user_who_failed_gets_the_bases_answers_not_those_of_a_shift_at_its_start(name: str, tmp_path: Path) -> None:
    where = setting(tmp_path, init="loreft")
    nobody = replace(ANNA, id="nobody", history=())
    method = make(name, where)
    method.fit([])
    assert method.adapt([ANNA, nobody]) == {"nobody": "has nothing to train on (empty history)"}
    ours, theirs = method.predict(asks(ANNA, nobody)), make("base", where).predict(asks(ANNA, nobody))
    assert ours[2:] == theirs[2:]
    assert ours[:2] != theirs[:2]


@pytest.mark.parametrize("name", ["reft-p", "reft-c+p", "perfit-stage-2"])
@pytest.mark.parametrize("option", ["strength", "held_out", "strength_prior"])
def test_how_far_from_a_shared_shift_is_no_option_where_there_is_none(name: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{option} says how far a user goes from a shared shift"):
        make(name, setting(tmp_path), **{option: 0.5})


@pytest.mark.parametrize("option", ["strength", "held_out", "strength_prior"])
def test_nor_where_nobody_goes_from_it(option: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"{option} says how far a user goes from a shared shift, and nobody does here"
    ):
        make("perfit-stage-1", setting(tmp_path), **{option: 0.5})
