"""The cells of an entry: which method is trained and asked with which seed on what, and where that lies on disk."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.plan import Trial
from perfit.config import small_preset
from perfit.experiments.layers import scaled
from perfit.experiments.paper.entry import Entry, Row
from perfit.experiments.scale import PROTOCOL, Scale
from perfit.experiments.world import Place, World
from perfit.methods.registry import METHODS
from perfit.tasks import get_task

_STAGE1 = "perfit-stage-1"


@dataclass(frozen=True)
class Slot:
    """One cell as the registry knows it, before any base or data is opened."""

    row: Row
    task: str
    seed: int


@dataclass(frozen=True)
class Cell:
    """One unit of work: a trial in a comparison's folder.

    Attributes:
        slot: What it is of.
        place, folder: Where.
        trial: The method's variant and the seed.
        options: The method's.
        needs: The cell whose stage 1 its users stand on.
    """

    slot: Slot
    place: Place
    folder: ComparisonFolder
    trial: Trial
    options: Mapping[str, Any]
    needs: Cell | None = None

    def record(self) -> TrialRecord:
        """How far it is."""
        return self.folder.record(self.trial) if self.folder.exists() else TrialRecord()


def tasks_at(entry: Entry, scale: Scale) -> tuple[str, ...]:
    """The tasks of an entry that a scale runs."""
    tasks = entry.smoke_tasks or entry.tasks if scale.name == "smoke" else entry.tasks
    return tuple(task for task in tasks if not scale.tasks or task in scale.tasks)


def seeds_at(entry: Entry, scale: Scale) -> int:
    """How many seeds."""
    if scale.name == "smoke":
        return entry.smoke_seeds
    return entry.seeds if scale.seeds is None else min(entry.seeds, scale.seeds)


def slots(entry: Entry, scale: Scale) -> list[Slot]:
    """All cells of a comparison, task by task; a method without chance has one seed, one that does not fit a task none."""
    found = []
    for task in tasks_at(entry, scale):
        kind = get_task(task).kind
        for row in entry.rows:
            maker = METHODS[row.method or ""]
            if kind in maker.kinds and (row.task is None or row.task == task):
                seeds = range(seeds_at(entry, scale) if maker.seeded else 1)
                found += [Slot(row, task, seed) for seed in seeds]
    return found


def cell_of(slot: Slot, entry: Entry, world: World) -> Cell | str:
    """Where a slot's work lies, or why it can lie nowhere.

    Raises:
        PerfitError: Data, base or a setting is unusable.
    """
    row, task = slot.row, slot.task
    paper = row.base or entry.bases[0]
    base = world.choices.base_of(paper)
    if base is None:
        return f"nothing stands for {paper} at this scale; give --base {paper}=..."
    for needed in (task, row.stage1):
        if needed is not None and world.data_of(needed) is None:
            return f"no data of {needed}"
    place = _place(row, task, base, world)
    if row.stage1 is not None:
        return _on_another_stage_1(slot, base, world)
    return _cell(slot, place, world, _options(row, task, entry, base, world))


def _place(row: Row, task: str, base: str, world: World) -> Place:
    settings: dict[str, Any] = {}
    if row.practical == "pool":
        settings = {"stage1_users": "all", "stage1_data": "both"}
    pool = row.pool
    if row.pool_share is not None:
        # Of as many as the other rows learn from: a part of the pool is a part of the scale's.
        whole = min(len(world.dataset(task).others), world.choices.scale.pool or sys.maxsize)
        pool = max(1, round(row.pool_share * whole))
    return Place(base, task, tuple(sorted(settings.items())), pool, row.pool_seed if pool is not None else None)


def _options(row: Row, task: str, entry: Entry, base: str, world: World) -> dict[str, Any]:
    backbone = world.base(base).backbone
    options = {**world.choices.scale.options.get(row.method or "", {}), **row.options}
    if "layers" in options:
        depth = len(backbone.layers)
        own = entry.own_layers and max(options["layers"]) < depth
        options["layers"] = tuple(options["layers"]) if own else scaled(options["layers"], depth)
    if row.practical == "strength":
        practical = small_preset(len(backbone.layers), get_task(task).kind)
        options |= {name: getattr(practical, name) for name in ("strength", "held_out", "strength_prior")}
    return options


def _cell(slot: Slot, place: Place, world: World, options: Mapping[str, Any], named: str | None = None) -> Cell:
    method = slot.row.method or ""
    name = variant(method, {k: v for k, v in options.items() if k in slot.row.options or k in PROTOCOL})
    folder = world.folder(place, METHODS[method].version)
    return Cell(slot, place, folder, Trial(named or name, slot.seed), options)


def _on_another_stage_1(slot: Slot, base: str, world: World) -> Cell:
    """Stage 2 of one task on stage 1 of another: layers, positions and ranks are those of stage 1's task."""
    row = slot.row
    source_row = Row(label=row.label, method=_STAGE1)
    source_place = Place(base, row.stage1 or "")
    source = _cell(Slot(source_row, row.stage1 or "", slot.seed), source_place, world, {})
    place = Place(base, slot.task)
    if row.stage1 == slot.task:
        return _cell(slot, place, world, {})
    config = world.bench(source_place).config
    shape = {name: getattr(config, name) for name in ("layers", "positions", "collective_rank", "personal_rank")}
    key = source.folder.path.name.rpartition("-")[2]
    made = _cell(slot, place, world, shape, f"{row.method}[stage1={row.stage1}-{key[:8]}]")
    return Cell(slot, place, made.folder, made.trial, shape, needs=source)


def variant(method: str, options: Mapping[str, Any]) -> str:
    """A method's name with its options, as ``perfit compare`` writes it."""
    parts = [f"{name}={_text(value)}" for name, value in sorted(options.items())]
    return f"{method}[{','.join(parts)}]" if parts else method


def _text(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value)
