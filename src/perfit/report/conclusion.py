"""What a report found, in words: the lines beside its first figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfit.comparison.sections import FEW_USERS, p_value, signed
from perfit.comparison.table import Row, Table
from perfit.evaluation.best_floor import AboveFloor, above_floors
from perfit.evaluation.score import higher_is_better
from perfit.methods.floors import PREFIX

_SURE = 0.05
_OWN = "perfit"


def of_comparison(table: Table) -> list[str]:
    """The best method, what is sure against the reference, what PerFit did, and the best floor."""
    primary = table.primary
    done = [row for row in table.rows if row.metrics]
    if not done:
        return []
    sign = 1 if higher_is_better(primary) else -1
    best = max(done, key=lambda row: sign * row.metrics[primary].mean)
    rivals = [row for row in done if table.rank(primary).get(row.name) == 1] or [best]
    names = ", ".join(row.label for row in rivals)
    verb = "has" if len(rivals) == 1 else "have"
    lines = [
        f"{names} {verb} the best {primary} of {len(done)} methods: {best.metrics[primary].mean:.3f}{_interval(best, primary)}."
    ]
    own = next((row for row in done if row.name == _OWN), None)
    if table.against is not None:
        lines += _against(table, done, own)
    if own is not None and own.effect is not None:
        effect = own.effect
        lines.append(
            f"{own.label} helps {effect.helped} of {effect.n_users} users and harms {effect.harmed.users}, against "
            f"{_label(table, effect.against)}."
        )
    lines += _floor(done, best, own, primary)
    missing = sum(row.problem is not None for row in table.rows)
    return lines + ([f"{missing} of {len(table.rows)} methods lack results; the tables say why."] if missing else [])


def _interval(row: Row, metric: str) -> str:
    low, high = row.intervals.get(metric, (None, None))
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def _label(table: Table, name: str | None) -> str:
    return next((row.label for row in table.rows if row.name == name), str(name))


def _against(table: Table, done: Sequence[Row], own: Row | None) -> list[str]:
    primary, reference = table.primary, _label(table, table.against)
    tested = [row for row in done if row.differences]
    sure = [row for row in tested if row.p_holm is not None and row.p_holm < _SURE]
    better = sum(row.differences[primary].gain > 0 for row in sure)
    lines = []
    if tested:
        few = f" With only {table.n_users} users such p come out too small." if table.n_users < FEW_USERS else ""
        lines.append(
            f"Against {reference}, of {len(tested)} methods {better} are better and {len(sure) - better} worse beyond chance (p "
            f"below {_SURE:g}, adjusted for testing all).{few}"
        )
    if own is not None and own.differences:
        found = own.differences[primary]
        bounds = "" if found.low is None else f", 95 % interval {signed(found.low)} to {signed(found.high)}"
        p = "" if own.p_holm is None else f", adjusted p {p_value(own.p_holm)}"
        lines.append(f"{own.label} gains {signed(found.gain)} in {primary} over {reference}{bounds}{p}.")
    return lines


def _floor(done: Sequence[Row], best: Row, own: Row | None, primary: str) -> list[str]:
    """The best method against the best floor; where that is the best of all, PerFit against it."""
    floors = [row.name for row in done if row.name.startswith(PREFIX)]
    held = best if best.name not in floors else own
    if not floors or held is None:
        return []
    labels = {row.name: row.label for row in done}
    values = {row.name: {name: value.mean for name, value in row.metrics.items()} for row in done}
    (found,) = above_floors(values, floors, held.name, primary, [primary])
    return [_sentence(found, labels[found.floor], held.label)]


def _sentence(found: AboveFloor, floor: str, method: str) -> str:
    size = f"{abs(found.gain):.3f}"
    place = {1: f"{size} better", 0: "level with it", -1: f"{size} worse"}[found.direction]
    return f"The best answer without a model: {floor}, {found.floor_value:.3f}; {method} is {place}."


def of_run(metrics: Mapping[str, Any], methods: Mapping[str, Any]) -> list[str]:
    """What the personal shifts did to whom, whether that can be told from noise, and the best floor.

    Args:
        metrics: What ``metrics.json`` holds.
        methods: Its methods, by the label a report prints.
    """
    effect = metrics.get("effect")
    primary = next(iter(methods.values()))["primary"]
    if effect is None:
        sign = 1 if higher_is_better(primary) else -1
        best = max(methods, key=lambda name: sign * methods[name]["per_user"]["pooled"])
        value = methods[best]["per_user"]["pooled"]
        return [f"{best} has the best {primary} of {len(methods)} methods: {value:.3f}."]
    personal, reference = (methods[name]["per_user"]["pooled"] for name in ("personal", effect["against"]))
    lines = [
        f"Personal shifts help {effect['helped']} of {effect['n_users']} users, harm {effect['harmed']['users']} and leave "
        f"{effect['left_alone']} as they were: {primary} {reference:.3f} with the {effect['against']} shift alone, "
        f"{personal:.3f} with each user's own.",
        f"{str(effect['noise']['sentence']).rstrip('.')}.",
    ]
    for one in metrics.get("best_floors", []):
        if one["metric"] == primary and one["method"] == "personal":
            found = AboveFloor(**one)
            lines.append(_sentence(found, found.floor.removeprefix("floor_"), "personal"))
    return lines
