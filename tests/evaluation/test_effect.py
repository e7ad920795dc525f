"""What was done to whom, on values made by hand."""

from __future__ import annotations

import json

import pytest

from perfit.data.schema import HistoryItem, Query, User
from perfit.evaluation.effect import Effect, UserNll, changed, effect_of

SIZES = {"up": 4, "down": 2, "same": 1, "surer": 1, "doubting": 3, "barely": 2}
USERS = [
    User(name, (HistoryItem("1", {}),), tuple(Query(f"{name}{n}", "x") for n in range(size)))
    for name, size in SIZES.items()
] + [User("silent")]
REFERENCE = {query.id: 0.5 for user in USERS for query in user.queries}
VALUES = REFERENCE | {"up0": 1.0, "up1": 0.75, "up2": 0.25, "down1": 0.25}
# Per token: what the reference has is 2 for all; more than 2.02 is harm.
NLL_REFERENCE = {name: UserNll(2.0 * 5, 5) for name in SIZES}
NLL = NLL_REFERENCE | {
    "up": UserNll(2.01 * 5, 5),
    "surer": UserNll(1.9 * 5, 5),
    "doubting": UserNll(2.03 * 5, 5),
    "barely": UserNll(2.015 * 5, 5),
}
STRENGTHS = {"up": 0.75, "down": 0.5, "same": 0.0, "surer": 0.25, "doubting": 1.0, "barely": 0.0}


def effect(*, upward: bool = True, nll: bool = True, **more: object) -> Effect:
    return effect_of(
        VALUES,
        REFERENCE,
        USERS,
        higher_is_better=upward,
        metric="accuracy",
        against="collective",
        answers_changed=0.25,
        history={user.id: len(user.history) for user in USERS},
        nll=NLL if nll else None,
        nll_reference=NLL_REFERENCE if nll else None,
        strengths=STRENGTHS,
        **more,  # type: ignore[arg-type]
    )


def outcomes(found: Effect) -> dict[str, str]:
    return {one.user: one.outcome for one in found.users}


def test_harmed_is_who_loses_in_the_metric_or_more_than_one_per_cent_in_nll() -> None:
    found = effect()
    assert outcomes(found) == {
        "up": "helped",  # its NLL is half a per cent worse
        "down": "harmed",
        "same": "left_alone",
        "surer": "helped",
        "doubting": "harmed",
        "barely": "left_alone",
    }
    assert {one.user for one in found.users if one.worse} == {"up", "down", "doubting", "barely"}
    assert (found.helped, found.harmed.users, found.left_alone, found.worse.users) == (2, 2, 2, 4)
    assert (found.harmed.share, found.worse.share) == pytest.approx((2 / 6, 4 / 6))
    assert found.strength_zero == 2


def test_the_shares_interval_is_wilsons() -> None:
    found = effect().harmed
    # 2 of 6, by R: prop.test(2, 6, correct = FALSE).
    assert (found.low, found.high) == pytest.approx((0.0967714, 0.7000067), abs=1e-6)


def test_without_nll_the_metric_alone_decides() -> None:
    found = effect(nll=False)
    assert outcomes(found) | {"up": "", "down": ""} == dict.fromkeys(SIZES, "left_alone") | {"up": "", "down": ""}
    assert (found.helped, found.harmed.users, found.worse.users) == (1, 1, 1)
    assert found.users[0].nll is None


def test_where_lower_is_better_signs_turn_and_those_of_nll_do_not() -> None:
    found = effect(upward=False)
    assert outcomes(found) == {
        "up": "harmed",
        "down": "helped",
        "same": "left_alone",
        "surer": "helped",
        "doubting": "harmed",
        "barely": "left_alone",
    }
    assert [one.gain for one in found.users][:2] == pytest.approx([-0.125, 0.125])
    assert found.worst_tenth == pytest.approx(-0.125)
    assert found.gain.value == pytest.approx(-0.25 / 13)
    assert "the loss of -0.019 in accuracy cannot be told from noise" in found.noise.sentence


def test_the_worst_tenth_is_rounded_up_and_a_mean() -> None:
    assert (effect().worst_tenth, effect().worst_tenth_users) == (pytest.approx(-0.125), 1)
    users = [User(str(n), (), (Query(f"q{n}", "x"),)) for n in range(21)]
    values = {f"q{n}": [0.0, 0.4, 0.7, 1.0][min(n, 3)] for n in range(21)}
    found = effect_of(
        values,
        dict.fromkeys(values, 0.9),
        users,
        higher_is_better=True,
        metric="rougeL",
        against="base",
        answers_changed=1.0,
        history=dict.fromkeys((user.id for user in users), 0),
    )
    assert found.worst_tenth_users == 3
    assert found.worst_tenth == pytest.approx((-0.9 - 0.5 - 0.2) / 3)
    assert found.strength_zero is None


def test_answers_change_where_more_than_blanks_differ() -> None:
    assert changed({"a": " x ", "b": "y", "c": "Z", "d": "w"}, {"a": "x", "b": "x", "c": "z", "d": "w"}) == 0.5


def test_the_lines_and_the_json_say_it_all() -> None:
    lines = effect().lines("personal")
    assert lines[0] == "personal against collective: helps 2 users, harms 2, leaves 2; gain in accuracy +0.019"
    assert lines[1] == (
        "harmed (accuracy worse, or NLL more than 1% worse): 33.3% of users (95 % interval 9.7% to 70.0%); worse by any "
        "amount: 66.7%; mean gain of the worst tenth (1): -0.125"
    )
    assert lines[2] == "answers that changed: 25.0% of 13; 2 users have strength 0"
    told = json.loads(json.dumps(effect().as_dict()))
    assert told["harmed"] == pytest.approx({"users": 2, "share": 1 / 3, "low": 0.0967714, "high": 0.7000067}, abs=1e-6)
    assert told["users"][4]["nll"] == pytest.approx(2.03)
