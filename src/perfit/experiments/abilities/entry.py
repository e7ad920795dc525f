"""Tables 17 and 18: base against collective against personal, on general tasks and on neutral text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from perfit.comparison.plan import Trial
from perfit.errors import PerfitError, StoreError
from perfit.experiments.abilities.divergence import divergences
from perfit.experiments.abilities.harness import harness_scores
from perfit.experiments.abilities.local import AVERAGE, local_scores
from perfit.experiments.cell_runs import Watch, run_cells, why_failed
from perfit.experiments.cells import Cell, Slot
from perfit.experiments.outcome import OutcomeRow, Value
from perfit.experiments.paper.entry import Entry, Row
from perfit.experiments.world import Place, World
from perfit.inference.edited import Edited
from perfit.methods.method import Ask, Setting
from perfit.methods.personal_shift import PersonalShift
from perfit.methods.registry import METHODS, make_method
from perfit.methods.two_stage import TwoStage
from perfit.pseudo_users import BASE, COLLECTIVE

DIVERGENCE = "divergence"
_USERS = 10


def abilities_entry(entry: Entry, world: World, watch: Watch) -> dict[str, Any]:
    """Train what is missing, and measure every row; the parts of an ``Outcome``."""
    rows: list[OutcomeRow] = []
    measures: dict[str, float] = {}
    missing: list[str] = []
    users: dict[str, int] = {}
    paper = world.choices.scale.name == "paper"
    for base in dict.fromkeys(row.base or entry.bases[0] for row in entry.rows):
        mine = [row for row in entry.rows if (row.base or entry.bases[0]) == base]
        task = mine[0].task or entry.tasks[0]
        try:
            edited, owners = _personal(base, task, world, watch)
        except PerfitError as error:
            missing += [str(error)] * len(mine)
            rows += [OutcomeRow(row.label, _printed(entry, row, str(error))) for row in mine]
            continue
        users[task] = len(owners)
        prefix = mine[0].label.rpartition(" ")[0]
        groups = [(row.label, [BASE] if row.method == "base" else owners, False) for row in mine]
        groups.append((f"{prefix} collective".strip(), [COLLECTIVE], True))
        for label, many, extra in groups:
            watch.say(f"  {label}: general abilities of {len(many)} owners")
            row = _measured(entry, label, edited, many, extra, paper)
            rows.append(row)
            measures |= {f"{label}/{name}": v.mean for name, v in row.values.items() if v.mean is not None}
    columns = tuple(dict.fromkeys(name for row in rows for name in row.values))
    return {
        "columns": columns,
        "rows": tuple(rows),
        "measures": measures,
        "users": users,
        "missing": missing,
        "done": len(entry.rows) - len(missing),
        "cells": len(entry.rows),
    }


def _personal(base: str, task: str, world: World, watch: Watch) -> tuple[Edited, list[str]]:
    """A base with the shifts of the first users of a task, trained as PerFit of the other tables is."""
    where = world.choices.base_of(base)
    if where is None:
        raise PerfitError(f"nothing stands for {base} at this scale; give --base {base}=...")
    place = Place(where, task)
    bench = world.bench(place)
    cell = Cell(
        Slot(Row("PerFit", "perfit"), task, 0),
        place,
        world.folder(place, METHODS["perfit"].version),
        Trial("perfit", 0),
        {},
    )
    run_cells([cell], world, watch)
    if cell.record().status != "done":
        raise StoreError(f"perfit on {task}: {why_failed(cell)}")
    setting = Setting(
        backbone=bench.backbone,
        identity=bench.identity,
        task=bench.task,
        config=bench.config.with_options(seed=0),
        seed=0,
        folder=cell.folder.trial_folder(cell.trial) / "work",
        shared=cell.folder.path / "shared" / "seed-0",
    )
    method = make_method("perfit", setting)
    assert isinstance(method, TwoStage)
    own = method.stage2
    assert isinstance(own, PersonalShift)
    people = bench.bare_users()[: world.choices.scale.measured_users or _USERS]
    asked = {user.id: user.queries[0] for user in bench.data.users}
    edited, owners = own.edited([Ask(user, asked[user.id]) for user in people])
    return edited, [owner for owner in owners if owner not in (BASE, COLLECTIVE)]


def _measured(entry: Entry, label: str, edited: Edited, owners: Sequence[str], extra: bool, paper: bool) -> OutcomeRow:
    """Means over owners, and their spread."""
    per_owner = []
    for owner in owners:
        scores = {f"local {name}": value for name, value in local_scores(edited, owner).items()}
        if paper and entry.harness:
            scores |= _named(entry, harness_scores(edited, owner, entry.harness))
        per_owner.append({**scores, DIVERGENCE: divergences(edited, [owner])[owner]})
    values = {}
    for name in per_owner[0] if per_owner else ():
        many = [one[name] for one in per_owner]
        values[name] = Value(entry.printed(label, name), fmean(many), stdev(many) if len(many) > 1 else None)
    for name in _columns(entry):
        if name not in values:
            values[name] = Value(
                entry.printed(label, name), None, why="runs at the paper scale, with lm-eval and its data"
            )
    return OutcomeRow(label, values, extra)


def _named(entry: Entry, found: dict[str, float]) -> dict[str, float]:
    """The harness's names as the paper's columns, and their mean."""
    columns = [name for name in _columns(entry) if name != AVERAGE]
    named = {column: found[task] for column, task in zip(columns, entry.harness, strict=True) if task in found}
    return {**named, AVERAGE: fmean(named.values())} if len(named) == len(columns) else named


def _columns(entry: Entry) -> list[str]:
    return list(dict.fromkeys(name for one in entry.numbers for name in one.values))


def _printed(entry: Entry, row: Row, why: str) -> dict[str, Value]:
    return {name: Value(entry.printed(row.label, name), None, why=why) for name in _columns(entry)}
