"""One table or figure from its registry entry to its outcome, and how far all of them are."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perfit.errors import StoreError
from perfit.experiments.cell_runs import SILENT, Watch
from perfit.experiments.cells import slots, tasks_at
from perfit.experiments.claims import judge
from perfit.experiments.hardware import hardware
from perfit.experiments.outcome import Outcome, OutcomeRow, Value, counted, outcomes, read_outcome
from perfit.experiments.paper.entry import Entry
from perfit.experiments.paper.registry import entries
from perfit.experiments.scale import Choices, Scale
from perfit.experiments.scores import Scored
from perfit.experiments.world import World

RESULTS = "results"


def results_folder(choices: Choices) -> Path:
    """Where outcomes of one scale lie."""
    return choices.out / RESULTS / choices.scale.name


def reproduce(entry: Entry, world: World, words: str = "", watch: Watch = SILENT, *, runs: bool = True) -> Outcome:
    """Run what is missing of an entry, and save what came of it.

    Args:
        entry: The table or figure.
        world: What is opened; the same one for several entries shares bases and data.
        words: What was given on the command line beside the entry's name.
        watch: Who is told.
        runs: Of a comparison that was stopped, False says what is there so far; what else was not run stays unsaid.

    Raises:
        StoreError: Nothing is to be run, and the entry is no comparison and was not run before.
    """
    if not runs and entry.kind != "compare":
        return outcome_of(entry, world.choices)
    watch.say(f"{entry.name}: {entry.title}")
    began = time.perf_counter()
    parts = _run(entry, world, watch, runs)
    parts.setdefault("seconds", _seconds(entry, world.choices, parts["done"], time.perf_counter() - began))
    figure = parts.pop("figure", None)
    stopped = parts.pop("stopped", ())
    missing = parts.pop("missing")
    missing = missing if isinstance(missing, dict) else counted(missing)
    missing |= {why: missing.get(why, 0) for why in stopped}
    outcome = Outcome(
        entry=entry.name,
        title=entry.title,
        scale=world.choices.scale.name,
        command=" ".join(["perfit reproduce", entry.name, words]).strip(),
        base=_bases(entry, world),
        data=_data(entry, world),
        hardware=hardware(world.choices.how.device),
        missing=missing,
        **{name: value for name, value in parts.items() if name != "measures"},
        figures=_save_figure(entry, figure, parts, world),
    )
    return read_outcome(outcome.save(results_folder(world.choices)))


def _run(entry: Entry, world: World, watch: Watch, runs: bool) -> dict[str, Any]:
    if entry.kind == "compare":
        from perfit.experiments.comparing import compare_entry

        return compare_entry(entry, world, watch, runs)
    if entry.kind == "abilities":
        from perfit.experiments.abilities.entry import abilities_entry

        parts = abilities_entry(entry, world, watch)
    elif entry.kind == "analysis":
        from perfit.experiments.analysing import analyse

        parts = analyse(entry, world, watch)
    elif entry.kind == "search":
        from perfit.experiments.searching import search_entry

        parts = search_entry(entry, world, watch)
    elif entry.kind == "space":
        from perfit.experiments.searching import space_entry

        parts = space_entry(entry)
    else:
        from perfit.experiments.data_sizes import data_entry

        parts = data_entry(entry, world)
    measures = parts["measures"]
    tasks = tasks_at(entry, world.choices.scale)
    nothing = Scored({}, {}, parts["users"])
    return {
        "rows": (_measured_row(entry, measures),),
        "columns": tuple(measures),
        "queries": {},
        "claims": tuple(asdict(judge(claim, nothing, measures, parts["users"], tasks)) for claim in entry.claims),
        "notes": entry.notes,
        **parts,
    }


def _seconds(entry: Entry, choices: Choices, done: int, seconds: float) -> float:
    """What it took: this call's time, or where nothing was left to do, that of the call that did it."""
    path = results_folder(choices) / f"{entry.name}.json"
    before = read_outcome(path) if path.is_file() else None
    return before.seconds if before is not None and before.done == done else round(seconds, 1)


def _measured_row(entry: Entry, measures: Mapping[str, float]) -> OutcomeRow:
    """What was measured beside what is printed; what nobody measured is missing."""
    label = entry.rows[0].label
    printed = {name: value for one in entry.numbers for name, value in one.values.items()}
    claimed = [name for claim in entry.claims for name in claim.measures]  # shown as missing where nobody measured it
    names = list(dict.fromkeys([*printed, *claimed, *measures]))
    return OutcomeRow(
        label,
        {
            name: Value(printed.get(name), measures.get(name), why=None if name in measures else "not measured")
            for name in names
        },
    )


def _bases(entry: Entry, world: World) -> dict[str, str]:
    found = {}
    for name in entry.bases:
        where = world.choices.base_of(name)
        if where is not None and entry.kind != "space":
            found[name] = f"{where} ({world.base(where).identity.digest[:12]})"
    return found


def _data(entry: Entry, world: World) -> dict[str, str]:
    return {
        task: world.dataset(task).fingerprint()[:12]
        for task in tasks_at(entry, world.choices.scale)
        if entry.kind != "space" and world.data_of(task) is not None
    }


def _save_figure(entry: Entry, figure: Any, parts: Mapping[str, Any], world: World) -> tuple[str, ...]:
    if figure is None and entry.figure is not None:
        from perfit.experiments.figures import figure_of

        figure = figure_of(entry, {row.label: row for row in parts["rows"]}, tasks_at(entry, world.choices.scale))
    if figure is None:
        return ()
    drawn = replace(figure, name=entry.name)
    drawn.save(results_folder(world.choices) / "figures")
    return (f"figures/{drawn.name}.svg",)


@dataclass(frozen=True)
class State:
    """How far an entry is.

    Attributes:
        entry: It.
        needs: Tasks and bases.
        done, cells: Units of work, as of the last run; before one, none of what the registry counts.
        left: Seconds still to go, by what units of the same kind took here; None where none was run.
    """

    entry: Entry
    needs: str
    done: int
    cells: int
    left: float | None


def states(choices: Choices, names: Iterable[str] | None = None) -> list[State]:
    """How far every entry is, without opening a base."""
    known = {one.entry: one for one in outcomes(results_folder(choices), entries())}
    pace: dict[str, list[float]] = {}
    for one in known.values():
        if one.done and one.seconds:
            pace.setdefault(entries()[one.entry].kind, []).append(one.seconds / one.done)
    found = []
    for name in names or entries():
        entry = entries()[name]
        outcome = known.get(name)
        cells = outcome.cells if outcome is not None else _cells(entry, choices.scale)
        done = outcome.done if outcome is not None else 0
        paces = pace.get(entry.kind)
        left = 0.0 if done == cells else None if not paces else (cells - done) * sum(paces) / len(paces)
        found.append(State(entry, needs_of(entry, choices), done, cells, left))
    return found


def _cells(entry: Entry, scale: Scale) -> int:
    if entry.kind == "compare":
        return len(slots(entry, scale))
    return {"space": 1, "abilities": len(entry.rows)}.get(entry.kind, len(tasks_at(entry, scale)))


def needs_of(entry: Entry, choices: Choices) -> str:
    """Data and bases, in one line; a base that nothing stands for is marked."""
    if entry.kind == "space":
        return "nothing"
    bases = [choices.base_of(name) or f"{name} (nothing stands for it)" for name in entry.bases]
    return f"{', '.join(tasks_at(entry, choices.scale))}; {', '.join(dict.fromkeys(bases))}"


def outcome_of(entry: Entry, choices: Choices) -> Outcome:
    """What came of an entry.

    Raises:
        StoreError: It was not run at this scale.
    """
    path = results_folder(choices) / f"{entry.name}.json"
    if not path.is_file():
        raise StoreError(f"{path}: not found; run perfit reproduce {shlex.quote(entry.name)} first")
    return read_outcome(path)
