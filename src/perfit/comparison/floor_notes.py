"""What a comparison says about its floors: which is best, and who is above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfit.evaluation.best_floor import AboveFloor, above_floors
from perfit.methods.floors import PREFIX


def floor_notes(
    values: Mapping[str, Mapping[str, float]], labels: Mapping[str, str], primary: str, metrics: Sequence[str]
) -> list[str]:
    """One line a metric; none where no floor is compared, or nothing else.

    Args:
        values: By method: its metrics, the mean over seeds.
        labels: By method, as it is printed.
        primary: The metric that "mean of users" is of.
        metrics: Which are told.
    """
    floors = [name for name in values if name.startswith(PREFIX)]
    rivals = [name for name in values if name not in floors]
    if not floors or not rivals:
        return []
    found = {name: above_floors(values, floors, name, primary, metrics) for name in rivals}
    return [_line([found[name][place] for name in rivals], labels) for place in range(len(metrics))]


def _line(against: Sequence[AboveFloor], labels: Mapping[str, str]) -> str:
    first, ranked = against[0], sorted(against, key=lambda one: -one.gain)
    words = {1: "better", 0: "level with it", -1: "worse"}
    groups = {words[sign]: [one for one in ranked if one.direction == sign] for sign in words}
    said = [f"{word}: {_sizes(group, labels)}" for word, group in groups.items() if group]
    return f"best floor in {first.metric}: {labels[first.floor]} {first.floor_value:.3f}; {'; '.join(said)}"


def _sizes(group: Sequence[AboveFloor], labels: Mapping[str, str]) -> str:
    return ", ".join(labels[one.method] + (f" by {abs(one.gain):.3f}" if one.direction else "") for one in group)
