"""Running cells: place by place, what is there already left alone; a cell that fails leaves the others alone."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from perfit.comparison.plan import Plan
from perfit.comparison.runner import run
from perfit.errors import PerfitError, StoreError
from perfit.events import Listener, nobody
from perfit.experiments.cells import Cell, Slot, cell_of, slots
from perfit.experiments.paper.entry import Entry
from perfit.experiments.world import World
from perfit.failures import describe_failure
from perfit.fitting import check_leaks
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.method import Setting


@dataclass(frozen=True)
class Watch:
    """Who is told: a line at each new piece of work, and the events of comparisons and trainings."""

    say: Callable[[str], None] = lambda line: None
    listener: Listener = nobody


SILENT = Watch()


@dataclass(frozen=True, eq=False)
class Placed:
    """A slot with its cell, or why it has none."""

    slot: Slot
    cell: Cell | None
    why: str | None = None


def placed(entry: Entry, world: World) -> list[Placed]:
    """All cells of a comparison entry; what cannot be placed says why."""
    found = []
    for slot in slots(entry, world.choices.scale):
        try:
            cell = cell_of(slot, entry, world)
        except PerfitError as error:
            cell = str(error)
        found.append(Placed(slot, None, cell) if isinstance(cell, str) else Placed(slot, cell))
    return found


def run_cells(cells: Iterable[Cell], world: World, watch: Watch) -> list[str]:
    """Run what is not done, stage 1 that others stand on first; each place's methods together, so that they share theirs.

    Returns:
        Why places, or cells on another task's stage 1, could not be run at all; the others are.
    """
    wanted = {(cell.folder.path, cell.trial): cell for cell in cells}
    needed = {(c.needs.folder.path, c.needs.trial): c.needs for c in wanted.values() if c.needs is not None}
    stopped = []
    for group in _by_place([*needed.values(), *(c for c in wanted.values() if c.needs is None)]):
        stopped.append(guarded(partial(_run, group, world, watch)))
    standing = [cell for cell in wanted.values() if cell.needs is not None and cell.record().status != "done"]
    for cell in standing:
        stopped.append(guarded(partial(_run_standing, cell, world, watch)))
    return [why for why in stopped if why is not None]


def _run_standing(cell: Cell, world: World, watch: Watch) -> None:
    _run([_standing(cell, world)], world, watch)


def _by_place(cells: Iterable[Cell]) -> list[list[Cell]]:
    groups: dict[tuple[Path, int], list[Cell]] = {}
    for cell in cells:
        if cell.record().status != "done":
            groups.setdefault((cell.folder.path, cell.trial.seed), []).append(cell)
    return list(groups.values())


def _run(cells: list[Cell], world: World, watch: Watch) -> None:
    place, folder = cells[0].place, cells[0].folder
    methods = {cell.trial.method: dict(cell.options) for cell in cells}
    plan = Plan(tuple(methods), (cells[0].trial.seed,), {name: options for name, options in methods.items() if options})
    bench = world.bench(place)
    gc.freeze()  # what is loaded by now stays; the runner collects after each trial
    watch.say(f"  {place.task} on {place.base}: {len(cells)} cells to do")
    check_leaks(bench.data, bench.task, True, watch.listener)
    run(bench, plan, folder.path, listener=watch.listener)


def _standing(cell: Cell, world: World) -> Cell:
    """A cell on another task's stage 1, with where that lies."""
    assert cell.needs is not None
    return replace(cell, options={**cell.options, "collective": str(collective_of(cell.needs, world).resolve())})


def collective_of(cell: Cell, world: World) -> Path:
    """The file of a finished stage 1.

    Raises:
        StoreError: It is not there.
    """
    bench = world.bench(cell.place)
    setting = Setting(
        backbone=bench.backbone,
        identity=bench.identity,
        task=bench.task,
        config=bench.config.with_options(seed=cell.trial.seed),
        seed=cell.trial.seed,
        folder=cell.folder.trial_folder(cell.trial) / "work",
        shared=cell.folder.path / "shared" / f"seed-{cell.trial.seed}",
    )
    path = CollectiveStage(setting, setting.seeded()).work.path / "collective.safetensors"
    if not path.is_file():
        failure = cell.record().failure or {"error": "it was not trained"}
        raise StoreError(f"stage 1 of {cell.place.task} is missing ({failure['error']}); run the entry again")
    return path


def why_failed(cell: Cell) -> str:
    """Why a cell is not done."""
    record = cell.record()
    if record.failure is not None:
        return str(record.failure["error"])
    return "not run yet" if not record.starts else "not finished"


def guarded(what: Callable[[], Any]) -> str | None:
    """Run something; None, or in one line why it failed."""
    try:
        what()
    except PerfitError as error:
        return str(error)
    except Exception as error:
        return str(describe_failure(error)["error"])
    return None
