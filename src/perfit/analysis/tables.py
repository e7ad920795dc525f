"""Everything derived from δ-vectors, as tidy tables: one row an observation, one column a variable."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from perfit.analysis.collective import collective_shift, compare_control, cosines
from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.extra import extra
from perfit.analysis.neighbours import FEWEST, from_the_collective, halves_retrieval, neighbours
from perfit.analysis.recipe import BARE, CONTROLS, HISTORY
from perfit.analysis.subspace import basis, centred, complete, rank_table
from perfit.analysis.suggest import layer_scores, suggest
from perfit.analysis.tasks_together import tasks_together
from perfit.durable.files import write_atomically
from perfit.errors import ConfigError
from perfit.private import private_folder

Row = dict[str, Any]
Tables = dict[str, list[Row]]
COMPONENTS = 5
_NEIGHBOURS = 5


def focus_layer(deltas: DeltaVectors) -> int:
    """The layer that tables and figures of one layer show: the middle of the base (16 of 32 in the paper), or the
    measured one nearest to it."""
    middle = int(deltas.notes["base"]["n_layers"]) // 2
    return min(deltas.recipe.layers, key=lambda layer: (abs(layer - middle), layer))


def check_together(many: Sequence[DeltaVectors]) -> None:
    """Refuse δ-vectors that cannot stand in one table.

    Raises:
        ConfigError: There are none, two share task and group, or they come from different bases or layers.
    """
    if not many:
        raise ConfigError("there are no δ-vectors here yet; give users' data to measure")
    for one in many[1:]:
        if one.notes["base"]["identity"] != many[0].notes["base"]["identity"]:
            raise ConfigError(f"{one.task} and {many[0].task} were measured on different bases; use a folder per base")
        if one.recipe.layers != many[0].recipe.layers:
            raise ConfigError(f"{one.task} and {many[0].task} were measured at different layers; use a folder for each")
    names = [(one.task, one.group) for one in many]
    if len(set(names)) != len(names):
        raise ConfigError(f"{names} names a task and group twice; compare each once")


def tables_of(many: Sequence[DeltaVectors], done: Callable[[int], None] = lambda layers: None) -> Tables:
    """All tables of one or several tasks on one base; see docs/analysis.md for their columns.

    Args:
        many: δ-vectors by task and group.
        done: Called with a number of layers finished; each task and group has all its layers.

    Raises:
        ConfigError: They do not belong together.
    """
    check_together(many)
    tables: Tables = {}

    def add(name: str, rows: Iterable[Row]) -> None:
        tables.setdefault(name, []).extend(rows)

    for one in many:
        for layer in one.recipe.layers:
            for name, rows in _of_layer(one, layer).items():
                add(name, rows)
            done(1)
        if one.two_halves() >= FEWEST:
            add("suggestion", _suggestion(one))
    tests = [one for one in many if one.group == "test"]
    if len(tests) > 1:
        for layer in tests[0].recipe.layers:
            add("tasks", _tasks(tests, layer))
    return tables


def _of_layer(one: DeltaVectors, layer: int) -> Tables:
    at: Row = {"task": one.task, "group": one.group, "layer": layer}
    vectors = one.delta(layer)
    found = basis(vectors, COMPONENTS)
    tables: Tables = {
        "ranks": [at | asdict(row) for row in rank_table(vectors)],
        "collective": [at | asdict(collective_shift(vectors))],
        "coordinates": [
            at | {"user": user, "component": component, "value": float(value)}
            for user, row in zip(one.users, found.coordinates, strict=True)
            for component, value in enumerate(row)
        ],
        "users": _users(one, layer, at),
    }
    controls = [name for name in CONTROLS if one.has(name)]
    tables["controls"] = [
        at | {"kind": name} | asdict(compare_control(vectors, one.delta(layer, name))) for name in controls
    ]
    tables["control_coordinates"] = [
        at | {"kind": name, "component": component, "mean_abs": float(value)}
        for name in (HISTORY, *controls)
        for component, value in enumerate(np.abs(complete(one.delta(layer, name)) @ found.directions.T).mean(axis=0))
    ]
    if one.two_halves() >= FEWEST:
        halves = {
            name: (one.delta(layer, name, 0), one.delta(layer, name, 1)) for name in ("half", "random") if one.has(name)
        }
        halves[BARE] = (one.states(BARE, layer, 0), one.states(BARE, layer, 1))
        tables["halves"] = [at | {"kind": name} | asdict(halves_retrieval(*pair)) for name, pair in halves.items()]
    return tables


def _users(one: DeltaVectors, layer: int, at: Row) -> list[Row]:
    vectors = one.delta(layer)
    distances = np.linalg.norm(centred(vectors), axis=1)
    likeness = cosines(vectors, np.broadcast_to(vectors.mean(axis=0), vectors.shape))
    order = from_the_collective(vectors)
    rows = []
    for place, user in enumerate(one.users):
        near = neighbours(vectors, place, _NEIGHBOURS)
        rows.append(
            at
            | {
                "user": user,
                "distance": float(distances[place]),
                "cosine": float(likeness[place]),
                "order": order.index(place),
                "neighbours": [one.users[other] for other, _ in near],
                "neighbour_cosines": [cosine for _, cosine in near],
            }
        )
    return rows


def _suggestion(one: DeltaVectors) -> list[Row]:
    found = suggest(one, layer_scores(one))
    ranks = {"collective_rank": found.collective_rank, "personal_rank": found.personal_rank}
    return [
        {"task": one.task, "group": one.group, **asdict(score), "suggested": score.layer in found.layers, **ranks}
        for score in found.scores
    ]


def _tasks(tests: Sequence[DeltaVectors], layer: int) -> list[Row]:
    found = tasks_together({one.task: one.delta(layer) for one in tests})
    return [
        {
            "layer": layer,
            "task": a,
            "other": b,
            "cosine": float(found.cosines[i, j]),
            "angle": found.angle(i, j),
            "explained": float(found.explained[i, j]),
        }
        for i, a in enumerate(found.tasks)
        for j, b in enumerate(found.tasks)
    ]


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table as ``<name>.parquet``, each in one step.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    arrow, parquet = extra("pyarrow"), extra("pyarrow.parquet")
    private_folder(folder)
    for name, rows in tables.items():
        content = io.BytesIO()
        parquet.write_table(arrow.Table.from_pylist(rows), content)
        write_atomically(folder / f"{name}.parquet", content.getvalue())
