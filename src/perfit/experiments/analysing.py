"""Entries on δ-vectors: measured once a base and task, and read off in the paper's way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.extract import able, extract
from perfit.analysis.recipe import HISTORY, Recipe
from perfit.analysis.subspace import basis, complete, rank_table
from perfit.analysis.tables import Tables, focus_layer, tables_of
from perfit.analysis.tasks_together import tasks_together
from perfit.backbone.room import positions_of
from perfit.durable.identity import digest_of
from perfit.errors import PerfitError
from perfit.experiments.cases import Case, case_columns, case_rows, cases_of, measures_of
from perfit.experiments.cell_runs import Watch
from perfit.experiments.cells import tasks_at
from perfit.experiments.paper.entry import Entry
from perfit.experiments.world import World
from perfit.pages.drawing import Drawn
from perfit.tasks import get_task

_RANDOM = "random"


def analyse(entry: Entry, world: World, watch: Watch) -> dict[str, Any]:
    """Measure what is missing; measures by name, users by task, and the figure."""
    found, missing = {}, []
    base = world.choices.base_of(entry.bases[0])
    for task in tasks_at(entry, world.choices.scale):
        try:
            if base is None:
                raise PerfitError(f"nothing stands for {entry.bases[0]} at this scale; give --base")
            found[task] = deltas_of(task, base, entry.group or "test", world, watch)
        except PerfitError as error:
            missing.append(str(error))
    measures: dict[str, float] = {}
    figure, rows = None, {}
    if found and entry.part == "cases":
        cases = {task: _cases(task, one, world) for task, one in found.items()}
        measures = {name: value for task, mine in cases.items() for name, value in measures_of(task, mine).items()}
        rows = {"rows": case_rows(cases), "columns": case_columns(cases)}
    elif found:
        measures = _as_printed(entry, _measures(entry.part or "", found))
    if found:
        figure = _figure(entry.part or "", found)
    return {
        **rows,
        "measures": measures,
        "users": {task: len(one.users) for task, one in found.items()},
        "queries": {task: int(one.counts.sum()) // len(one.recipe.kinds) for task, one in found.items()},
        "missing": missing,
        "figure": figure,
        "done": len(found),
        "cells": len(tasks_at(entry, world.choices.scale)),
    }


def deltas_of(task: str, base: str, group: str, world: World, watch: Watch) -> DeltaVectors:
    """One task's δ-vectors on one base, measured or read back; with random text in the history's place beside them.

    Raises:
        PerfitError: There are no such users, or a record is unusable.
    """
    scale, opened = world.choices.scale, world.base(base)
    data = world.dataset(task)
    users = able(data.users if group == "test" else data.others)[: scale.measured_users]
    backbone = opened.backbone
    room = min(positions_of(backbone) or 1536, 1536)
    recipe = Recipe(
        tuple(range(len(backbone.layers))),
        history_tokens=min(512, room // 3),
        queries=scale.measured_queries,
        variants=(HISTORY, _RANDOM),
        max_length=room,
    )
    names = [user.id for user in users]
    key = digest_of(opened.identity.as_dict(), str(backbone.dtype), recipe.as_dict(), names, data.fingerprint())
    watch.say(f"  {task} on {base}: δ-vectors of {len(users)} users")
    return extract(
        backbone,
        get_task(task),
        users,
        recipe,
        group=group,
        folder=world.choices.out / "deltas" / f"{task}-{group}-{key[:16]}",
        identity=opened.identity,
    )


def _measures(part: str, found: Mapping[str, DeltaVectors]) -> dict[str, float]:
    measures: dict[str, float] = {}
    for task, one in found.items():
        layer = focus_layer(one)
        vectors = complete(one.delta(layer))
        if part == "ranks":
            measures |= _ranks(task, vectors)
        elif part == "observations":
            first = basis(vectors).coordinates[:, 0]
            measures[f"{task}.shift"] = float(abs(first.mean()) / (first.std() or 1.0))
        elif part == "controls":
            measures[f"{task}.random_of_history"] = _control(one, layer)
        elif part == "layers":
            measures[f"{task}.late_over_early"] = _late_over_early(one)
    if part == "tasks":
        measures |= _together(found)
    return measures


def _as_printed(entry: Entry, measures: dict[str, float]) -> dict[str, float]:
    """Without shares of directions in a unit that this table does not print."""
    printed = {_unit(name) for one in entry.numbers for name in one.values}
    units = {"ratio", "permille"} - printed if printed else set()
    return {name: value for name, value in measures.items() if _unit(name) not in units}


def _unit(name: str) -> str:
    return name.partition(".")[2].partition("_")[0]


def _ranks(task: str, vectors: Any) -> dict[str, float]:
    found = {}
    for row in rank_table(vectors, draws=1):
        if not row.centred:
            found[f"{task}.r_{row.share:g}"] = float(row.r)
            found[f"{task}.ratio_{row.share:g}"] = row.of_smaller
            found[f"{task}.permille_{row.share:g}"] = 1000 * row.of_smaller
    return found


def _control(one: DeltaVectors, layer: int) -> float:
    """Mean |coordinate| along the first direction: of random text, over that of the own history."""
    own = basis(one.delta(layer))
    random = complete(one.delta(layer, _RANDOM)) @ own.directions[0]
    size = float(np.abs(own.coordinates[:, 0]).mean())
    return float(np.abs(random).mean()) / size if size else 0.0


def _late_over_early(one: DeltaVectors) -> float:
    ranks = []
    for layer in one.recipe.layers:
        rows = rank_table(one.delta(layer), shares=(0.85,), draws=1)
        ranks.append(next(row.r for row in rows if not row.centred))
    depth = len(ranks)
    late = ranks[3 * depth // 4 : depth - 1] or ranks[-1:]
    return float(np.mean(late)) / max(float(np.mean(ranks[: depth // 2])), 1e-9)


def _cases(task: str, one: DeltaVectors, world: World) -> list[Case]:
    data = world.dataset(task)
    return cases_of(task, one, focus_layer(one), {user.id: user for user in (*data.users, *data.others)})


def _together(found: Mapping[str, DeltaVectors]) -> dict[str, float]:
    labels = ("movie_tagging", "news_categorize")
    texts = ("news_headline", "scholarly_title")
    layer = focus_layer(next(iter(found.values())))
    together = tasks_together({task: one.delta(layer) for task, one in found.items()})
    place = {task: number for number, task in enumerate(together.tasks)}
    if not all(task in place for task in labels):
        return {}
    alike = float(together.cosines[place[labels[0]], place[labels[1]]])
    mixed = [float(together.cosines[place[a], place[b]]) for a in labels for b in texts if b in place]
    pairs = {f"together.{a}~{b}": float(together.cosines[place[a], place[b]]) for a in place for b in place if a < b}
    return pairs | ({"together.labels_minus_mixed": alike - float(np.mean(mixed))} if mixed else {})


def _figure(part: str, found: Mapping[str, DeltaVectors]) -> Drawn | None:
    """The figure in the paper's form; None where the part is a table."""
    if part == "ranks":
        return None
    from perfit.analysis import figures

    many = list(found.values())
    layer, names = focus_layer(many[0]), list(found)
    if part == "tasks":
        return figures.tasks(many, layer)
    shown: Tables = tables_of(many)
    if part == "layers":
        return figures.layers_figure(shown, names)
    makers = {"observations": figures.observations, "controls": figures.controls, "cases": figures.cases}
    return makers[part](shown, names, layer)
