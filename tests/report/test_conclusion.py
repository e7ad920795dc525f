"""What a report says first: who is best, what is sure, who was helped, and the floor, for scores of both directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from perfit.comparison.table import Row, Table
from perfit.evaluation.judged import Spread
from perfit.methods.registry import METHODS
from perfit.report.conclusion import of_comparison, of_run
from perfit.report.families import FAMILIES, family_of, front

EFFECT = {
    "against": "collective",
    "helped": 3,
    "left_alone": 2,
    "n_users": 9,
    "harmed": {"users": 4},
    "noise": {"sentence": "the gain can be told from noise"},
}


def metrics(**more: Any) -> dict[str, Any]:
    pooled = {"floor: linear": 0.25, "collective": 0.5, "personal": 0.375}
    methods = {name: {"primary": "mae", "per_user": {"pooled": value}} for name, value in pooled.items()}
    return {"methods": methods, **more}


def test_a_run_says_whom_it_helped_then_noise_then_the_floor() -> None:
    floor = {"metric": "mae", "floor": "floor_linear", "floor_value": 0.25, "method": "personal", "value": 0.375}
    other = floor | {"metric": "mean of users", "gain": 0.5}
    found = metrics(effect=EFFECT, best_floors=[other, floor | {"gain": -0.125}])
    assert of_run(found, found["methods"]) == [
        "Personal shifts help 3 of 9 users, harm 4 and leave 2 as they were: mae 0.500 with the collective shift alone, "
        "0.375 with each user's own.",
        "the gain can be told from noise.",
        "The best answer without a model: linear, 0.250; personal is 0.125 worse.",
    ]


def test_an_evaluation_without_personal_shifts_names_the_best_in_the_metrics_direction() -> None:
    found = metrics(effect=None)
    assert of_run(found, found["methods"]) == ["floor: linear has the best mae of 3 methods: 0.250."]


def test_the_front_is_what_no_smaller_or_equal_one_beats() -> None:
    points = [(10, 0.5), (0, 0.3), (10, 0.6), (0, 0.4), (20, 0.6), (30, 0.7), (40, 0.2)]
    assert front(points, higher_is_better=True) == [3, 2, 5]
    assert front(points, higher_is_better=False) == [1, 6]


def test_kinds_of_methods_variants_and_strangers() -> None:
    assert family_of("perfit") == family_of("perfit[layers=5]") == FAMILIES[0] == "shift"
    assert [family_of(name) for name in ("oppu", "rag-4", "floor-mean", "base")] == [
        "LoRA",
        "prompt",
        "reference",
        "reference",
    ]
    assert family_of("somebody.elses:Method") == "other"
    assert {name for name in METHODS if family_of(name) == "other"} == set()


def test_a_floor_that_is_best_is_what_perfit_is_held_against() -> None:
    scores = {"floor-linear": ("Linear", 0.5), "perfit": ("PerFit", 0.75), "base": ("Base", 1.0)}
    rows = tuple(
        Row(name, label, (0,), None, metrics={"mae": Spread(value, None)}) for name, (label, value) in scores.items()
    )
    table = Table("ratings", "mae", "a base", 10, 20, 40, (0,), None, "free", rows)
    assert of_comparison(table) == [
        "Linear has the best mae of 3 methods: 0.500.",
        "The best answer without a model: Linear, 0.500; PerFit is 0.250 worse.",
    ]
    assert of_comparison(replace(table, rows=rows[::2]))[1:] == []
    better = (replace(rows[0], metrics={"mae": Spread(2.0, None)}), *rows[1:])
    assert of_comparison(replace(table, rows=better))[1:] == [
        "The best answer without a model: Linear, 2.000; PerFit is 1.250 better."
    ]
