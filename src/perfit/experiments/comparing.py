"""Entries that compare methods: run their cells, and say what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import variance
from typing import Any

from perfit.comparison.folder import TrialRecord
from perfit.evaluation.bootstrap import bootstrap_p
from perfit.experiments.cell_runs import Placed, Watch, placed, run_cells, why_failed
from perfit.experiments.cells import tasks_at
from perfit.experiments.claims import judge
from perfit.experiments.orderings import ordering
from perfit.experiments.outcome import OutcomeRow, Value, counted
from perfit.experiments.paper.entry import METRICS, Entry, Row
from perfit.experiments.scores import Scored, score_rows
from perfit.experiments.world import World


def compare_entry(entry: Entry, world: World, watch: Watch, runs: bool = True) -> dict[str, Any]:
    """Run what is missing of a comparison, or nothing; the parts of its ``Outcome``."""
    cells = placed(entry, world)
    if not runs:
        return parts_of(entry, cells, world)
    stopped = run_cells([one.cell for one in cells if one.cell is not None], world, watch)
    return {**parts_of(entry, cells, world), "stopped": stopped}


def parts_of(entry: Entry, cells: Sequence[Placed], world: World) -> dict[str, Any]:
    """What is there of a comparison, whether it is finished or not."""
    tasks = tasks_at(entry, world.choices.scale)
    columns = [f"{task}.{metric}" for task in tasks for metric in METRICS[task]]
    scored = score_rows(cells, world)
    records = {one: one.cell.record() for one in cells if one.cell is not None}
    rows = [_row(entry, row, columns, scored, cells, records) for row in entry.rows]
    measures: dict[str, float] = {}
    if entry.against is not None:
        rows.append(_p_row(entry, columns, scored))
    if entry.spread == "variance":
        rows.append(_variance_row(entry, columns, scored))
        measures = {name: value.mean for name, value in rows[-1].values.items() if value.mean is not None}
    labels = [row.label for row in entry.rows if not row.extra]
    orders = [
        ordering(
            column,
            labels,
            {label: number for label in labels if (number := entry.printed(label, column)) is not None},
            {
                label: score.mean
                for (label, where), score in scored.scores.items()
                if where == column and score.mean is not None
            },
            {label: values for (label, where), values in scored.samples.items() if where == column},
        )
        for column in columns
    ]
    missing = [why for one in cells if (why := _why(one, records)) is not None]
    return {
        "columns": tuple(columns),
        "rows": tuple(rows),
        "orderings": tuple(asdict(one) for one in orders if one is not None),
        "claims": tuple(asdict(judge(claim, scored, measures, scored.users, tasks)) for claim in entry.claims),
        "users": dict(scored.users),
        "queries": dict(scored.queries),
        "done": len(cells) - len(missing),
        "cells": len(cells),
        "missing": counted(missing),
        "seconds": _seconds(records.values()),
        "notes": (*entry.notes, *_scaled(entry, cells, world)),
    }


def _row(
    entry: Entry,
    row: Row,
    columns: Sequence[str],
    scored: Scored,
    cells: Sequence[Placed],
    records: Mapping[Placed, TrialRecord],
) -> OutcomeRow:
    values = {}
    for column in columns:
        score, printed = scored.scores.get((row.label, column)), entry.printed(row.label, column)
        if score is not None:
            values[column] = Value(
                printed, score.mean, score.std, score.low, score.high, len(score.seeds), score.of, score.why
            )
        elif printed is not None:
            values[column] = Value(printed, None, why="the method does not answer this kind of task", seeds=0, of=0)
    mine = [records[one] for one in cells if one.slot.row is row and one in records and records[one].status == "done"]
    cost = mine[0].cost if mine else {}
    return OutcomeRow(
        row.label,
        values,
        row.extra,
        _seconds(mine),
        cost.get("collective_parameters"),
        cost.get("personal_parameters"),
    )


def _p_row(entry: Entry, columns: Sequence[str], scored: Scored) -> OutcomeRow:
    """p of the first row against the reference: a paired bootstrap over users, seeds averaged first."""
    first, values = entry.rows[0].label, {}
    for column in columns:
        a, b = scored.samples.get((first, column)), scored.samples.get((entry.against or "", column))
        p = None if a is None or b is None else bootstrap_p(a - b)
        values[column] = Value(entry.printed("p", column), p, why=None if p is not None else "a cell is missing")
    return OutcomeRow("p", values)


def _variance_row(entry: Entry, columns: Sequence[str], scored: Scored) -> OutcomeRow:
    """The sample variance over the paper's rows; nothing where one of them is missing."""
    labels, values = [row.label for row in entry.rows if not row.extra], {}
    for column in columns:
        means = [scored.scores[label, column].mean for label in labels if (label, column) in scored.scores]
        whole = [one for one in means if one is not None]
        found = variance(whole) if len(whole) == len(labels) > 1 else None
        values[column] = Value(
            entry.printed("variance", column), found, why=None if found is not None else "a cell is missing"
        )
    return OutcomeRow("variance", values)


def _why(one: Placed, records: Mapping[Placed, TrialRecord]) -> str | None:
    if one.cell is None:
        return one.why
    return None if records[one].status == "done" else why_failed(one.cell)


def _seconds(records: Any) -> float:
    return round(sum(sum(record.seconds.values()) for record in records), 1)


def _scaled(entry: Entry, cells: Sequence[Placed], world: World) -> list[str]:
    """Lines on layers that stand elsewhere than in the paper."""
    said: dict[str, None] = {}
    for one in cells:
        if one.cell is None:
            continue
        depth = len(world.base(one.cell.place.base).backbone.layers)
        layers = one.cell.options.get("layers")
        asked = one.slot.row.options.get("layers")
        if asked is not None and layers is not None and list(asked) != list(layers) and len(asked) < 9:
            said[f"{one.slot.row.label}: layers {list(asked)} of 32 are {list(layers)} of {depth}"] = None
    if world.choices.scale.preset == "paper":
        for task in tasks_at(entry, world.choices.scale):
            for base in {one.cell.place.base for one in cells if one.cell is not None}:
                depth = len(world.base(base).backbone.layers)
                if depth != 32:
                    said[f"{task}: Table 9's layers are {list(world.settings_of(task, base)['layers'])} of {depth}"] = (
                        None
                    )
    else:
        said["settings: the small preset's ranks, rates, layers and positions; the paper's pool and full strength"] = (
            None
        )
    return list(said)
