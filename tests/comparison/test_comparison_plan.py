"""Plans, selections and groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_base import TASK, dataset, person

from perfit.comparison.bench import check_data
from perfit.comparison.plan import Plan, Selection, Trial, groups
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError


def test_trials_go_seed_by_seed() -> None:
    plan = Plan(("a", "b"), (0, 7))
    assert plan.trials() == [Trial("a", 0), Trial("b", 0), Trial("a", 7), Trial("b", 7)]


def test_a_method_without_chance_runs_with_one_seed() -> None:
    plan = Plan(("base", "perfit"), (3, 7))
    assert plan.trials() == [Trial("base", 3), Trial("perfit", 3), Trial("perfit", 7)]
    ran = {"base": 9, "perfit": 7}
    assert plan.trials(ran) == [Trial("base", 9), Trial("perfit", 3), Trial("perfit", 7)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ()}, "methods: none"),
        ({"seeds": ()}, "seeds: none"),
        ({"methods": ("a", "a")}, "methods: a comes twice"),
        ({"seeds": (1, 1)}, "seeds: 1 comes twice"),
        ({"seeds": (-1,)}, "seeds: -1"),
        ({"methods": ("../a",)}, "cannot be a method's name"),
        ({"methods": ("a[x=../b]",)}, "cannot be a method's name"),
        ({"methods": ("a[x=1]b",)}, "cannot be a method's name"),
        ({"options": {"c": {}}}, "options: c is not compared"),
        ({"against": "c"}, "against: c is not compared; choose one of a, b"),
    ],
)
def test_impossible_plans_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**{"methods": ("a", "b"), **arguments})


def test_a_selection_keeps_the_latest_history_and_answered_queries() -> None:
    data = dataset(("anna", "ben"), others=3, history=5, queries=4)
    unanswered = User("zoe", data.users[0].history, (Query("z", "a text"),))
    data = type(data)((*data.users, unanswered), data.others)
    chosen, left_out = Selection(queries=3, history=2, pool=1).of(data)
    assert [user.id for user in chosen.users] == ["anna", "ben"]
    assert chosen.users[0].history == data.users[0].history[-2:]
    assert chosen.users[0].queries == data.users[0].queries[:3]
    assert [user.id for user in chosen.others] == ["other-0"]
    assert len(chosen.others[0].history) == 2
    assert left_out == {"queries without a known answer": 1, "users without an answered query": 1}
    with pytest.raises(ConfigError, match="history: 0"):
        Selection(history=0)


def test_groups_are_the_same_whatever_is_done_already() -> None:
    users = [person(str(n), queries=2) for n in range(5)]
    assert [[user.id for user in group] for group in groups(users, 3)] == [["0", "1"], ["2", "3"], ["4"]]
    assert [[user.id for user in group] for group in groups(users, 1)] == [[str(n)] for n in range(5)]


def test_a_history_with_an_answer_of_no_label_is_refused_before_any_method_begins() -> None:
    data = dataset(("anna",), others=1)
    other = data.others[0]
    items = (*other.history[:-1], HistoryItem("odd", {"text": "a note", "folder": "gossip"}))
    with pytest.raises(DataError, match=rf"user {other.id}.*history item odd"):
        check_data(replace(data, others=(replace(other, history=items),)), TASK)
    check_data(data, TASK)


def test_a_pool_may_be_drawn_and_one_that_is_not_is_what_it_was() -> None:
    data = dataset(("anna",), others=12)
    drawn = [Selection(pool=4, pool_seed=seed).of(data)[0].others for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 4
    assert "pool_seed" not in Selection(pool=4).as_dict()
    assert Selection(pool=4, pool_seed=0).as_dict()["pool_seed"] == 0
    with pytest.raises(ConfigError, match="pool_seed: 1 is not possible; give a number from 0, and pool"):
        Selection(pool_seed=1)
