"""The best floor and who is above it, in words."""

from __future__ import annotations

from perfit.comparison.floor_notes import floor_notes

LABELS = {"floor-linear": "Linear", "floor-mean": "Mean", "perfit": "PerFit", "base": "Base", "oppu": "OPPU"}
VALUES = {
    "floor-mean": {"mae": 0.9, "rmse": 0.95, "mean of users": 0.8},
    "floor-linear": {"mae": 0.72, "rmse": 1.0, "mean of users": 0.81},
    "base": {"mae": 1.25, "rmse": 3.0, "mean of users": 1.0},
    "oppu": {"mae": 0.7199, "rmse": 0.9, "mean of users": 0.7},
    "perfit": {"mae": 0.7, "rmse": 0.94, "mean of users": 0.79},
}


def test_the_best_floor_of_each_metric_is_held_against_every_method() -> None:
    assert floor_notes(VALUES, LABELS, "mae", ["mae", "rmse", "mean of users"]) == [
        "best floor in mae: Linear 0.720; better: PerFit by 0.020; level with it: OPPU; worse: Base by 0.530",
        "best floor in rmse: Mean 0.950; better: OPPU by 0.050, PerFit by 0.010; worse: Base by 2.050",
        "best floor in mean of users: Mean 0.800; better: OPPU by 0.100, PerFit by 0.010; worse: Base by 0.200",
    ]


def test_where_more_is_better_the_greatest_floor_is_the_best() -> None:
    values = {name: {"accuracy": numbers["mae"]} for name, numbers in VALUES.items()}
    (line,) = floor_notes(values, LABELS, "accuracy", ["accuracy"])
    assert line.startswith("best floor in accuracy: Mean 0.900; better: Base by 0.350; worse: OPPU by 0.180, PerFit")


def test_without_a_floor_or_a_rival_nothing_is_said() -> None:
    rivals = {name: values for name, values in VALUES.items() if not name.startswith("floor-")}
    assert floor_notes(rivals, LABELS, "mae", ["mae"]) == []
    assert floor_notes({"floor-mean": VALUES["floor-mean"]}, LABELS, "mae", ["mae"]) == []
