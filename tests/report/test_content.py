"""What is chosen for a report, and how names are kept apart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from small_base import TASK

from perfit.data.schema import Query, User
from perfit.report.content import disagreements, failures
from perfit.report.figures import _short, _spread_out

USERS = [
    User("anna", (), tuple(Query(f"a{n}", f"text {n}", "work") for n in range(5))),
    User("ben", (), (Query("b0", "other", "family"), Query("b1", "same", "travel"))),
]
GOLDS = {query.id: query.gold or "" for user in USERS for query in user.queries}


def test_the_first_of_every_user_comes_before_the_second_of_one() -> None:
    answers = {"good": GOLDS, "bad": dict.fromkeys(GOLDS, "nothing") | {"b1": "travel"}}
    values = {"good": dict.fromkeys(GOLDS, 1.0), "bad": dict.fromkeys(GOLDS, 0.0) | {"b1": 1.0}}
    found = disagreements(TASK, USERS, answers, values, higher_is_better=True)
    assert [one.user for one in found] == ["anna", "ben", "anna", "anna"]  # three of anna's five; b1 is agreed on
    assert [(answer.text, answer.methods, answer.failure) for answer in found[1].answers] == [
        ("family", ("good",), False),
        ("nothing", ("bad",), True),
    ]


def test_equal_answers_stand_once_and_the_better_first_in_either_direction() -> None:
    answers = {"a": {"b1": "x", **GOLDS}, "b": GOLDS, "c": GOLDS | {"b1": "work"}}
    values = {
        "a": dict.fromkeys(GOLDS, 0.0),
        "b": dict.fromkeys(GOLDS, 0.0),
        "c": dict.fromkeys(GOLDS, 0.0) | {"b1": 2.0},
    }
    (one,) = disagreements(TASK, USERS[1:], answers, values, higher_is_better=False)
    assert [answer.methods for answer in one.answers] == [("a", "b"), ("c",)]


def test_failures_are_the_most_frequent_first_with_different_examples() -> None:
    answers = {"good": GOLDS, "bad": dict(zip(GOLDS, ["?", "?", "??", "", "work", "!", "!!"], strict=True))}
    (one,) = failures(TASK, {"good": 0.0, "bad": 6 / 7}, answers, texts=True)
    assert one.examples == ("?", "??", "")
    assert failures(TASK, {"bad": 0.5}, answers, texts=False)[0].examples == ()


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_names_are_spread_out_in_order_and_inside(values: list[float]) -> None:
    step = 1 / max(len(values), 12)
    placed = _spread_out(values, step, 0.0, 1.0)
    order = sorted(range(len(values)), key=lambda index: values[index])
    heights = [placed[index] for index in order]
    assert all(above - below >= step - 1e-9 for below, above in pairwise(heights))
    assert heights[0] >= step / 2 - 1e-9
    assert heights[-1] <= 1 - step / 2 + 1e-9


def test_short_numbers() -> None:
    assert [_short(n) for n in (0, 100, 1000, 2_500_000, 1e9)] == ["0", "100", "1k", "2.5M", "1B"]
