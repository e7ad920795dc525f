"""How far a method is above the best of the floors: the number a headline may quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from perfit.evaluation.score import higher_is_better
from perfit.tasks.task import Task

MEAN_OF_USERS = "mean of users"


@dataclass(frozen=True)
class AboveFloor:
    """One metric of a method against the floor that is best in it.

    Attributes:
        metric: Its name; "mean of users" is that of the task's primary metric.
        floor: The best floor's name.
        floor_value / value: The floor's, and the method's.
        gain: How much better the method is; negative where the floor is better.
    """

    metric: str
    floor: str
    floor_value: float
    method: str
    value: float
    gain: float

    @property
    def direction(self) -> int:
        """1 where the method is better, -1 where the floor is, 0 where three digits do not tell."""
        return (self.gain > 0.0005) - (self.gain < -0.0005)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def line(self) -> str:
        """In words."""
        size = f"{abs(self.gain):.3f}"
        place = {1: f"{size} better", 0: "level with it", -1: f"{size} worse"}[self.direction]
        return f"best floor in {self.metric}: {self.floor.removeprefix('floor: ')} {self.floor_value:.3f}; {self.method} is {place}"


def headline_metrics(task: Task) -> list[str]:
    """What a method is held against the floors in: the task's primary metric, of ratings RMSE too, and the mean of users."""
    return [task.primary_metric, *(["rmse"] if task.kind == "rating" else []), MEAN_OF_USERS]


def above_floors(
    values: Mapping[str, Mapping[str, float]], floors: Sequence[str], method: str, primary: str, metrics: Sequence[str]
) -> list[AboveFloor]:
    """A method against the best floor of each metric; of equal floors the first.

    Args:
        values: By method or floor: its metrics, "mean of users" among them.
        floors: Those of them that are floors; none gives nothing.
        method: The one that is held against them.
        primary: The metric that "mean of users" is of.
        metrics: Which are compared.
    """
    found = []
    for metric in metrics if floors else ():
        sign = 1 if higher_is_better(primary if metric == MEAN_OF_USERS else metric) else -1
        best = max(floors, key=lambda floor: sign * values[floor][metric])
        floor_value, value = values[best][metric], values[method][metric]
        found.append(AboveFloor(metric, best, floor_value, method, value, sign * (value - floor_value)))
    return found
