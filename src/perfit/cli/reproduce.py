"""``perfit reproduce``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.cli.ending import ERROR, say_error
from perfit.cli.given import dtype_setting, parse_settings
from perfit.cli.options import CONFIG, JSON, opens_a_base
from perfit.cli.show import Screen, as_json, no_loading_bars, say, table
from perfit.errors import ConfigError
from perfit.events import Event, TrialBegun, TrialEnded
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.experiments.outcome import Outcome
    from perfit.experiments.scale import Choices

_PAGE = Path("docs/reproduction.md")


@opens_a_base
def reproduce(
    what: Annotated[
        str, typer.Argument(help="A table or figure such as table4, all, list, or page (docs/reproduction.md).")
    ],
    scale: Annotated[
        str, typer.Option(help="smoke: seconds, made-up data; small: small bases, real sets; paper: its own size.")
    ] = "small",
    out: Annotated[Path, typer.Option("--out", help="Folder of cells, results and figures.")] = Path("runs/reproduce"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with a folder a task: movie_tagging, news_categorize, ...")
    ] = None,
    base: Annotated[
        list[str], typer.Option("--base", help="What stands for the paper's bases; or NAME=BASE for one of them.")
    ] = [],  # noqa: B006
    tasks: Annotated[str | None, typer.Option(help="Only these of an entry's tasks, separated by commas.")] = None,
    users: Annotated[int | None, typer.Option(help="Only the first so many users.")] = None,
    queries: Annotated[int | None, typer.Option(help="Only the first so many queries of each user.")] = None,
    history: Annotated[int | None, typer.Option(help="Only the latest so many history items of each user.")] = None,
    pool: Annotated[int | None, typer.Option(help="Only the first so many other users.")] = None,
    seeds: Annotated[int | None, typer.Option(help="At most so many seeds.")] = None,
    trials: Annotated[int | None, typer.Option(help="At most so many trials of a search.")] = None,
    answers: Annotated[
        str | None, typer.Option(help="free or sampled, the paper's way; small and smoke answer freely without it.")
    ] = None,
    config: CONFIG = None,
    set_: Annotated[list[str], typer.Option("--set", help="One setting of all cells: --set stage2.epochs=2.")] = [],  # noqa: B006
    how: HowToOpen = USUAL,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="At the paper's scale: check data and parameters, estimate cost, and stop."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Run nothing: say what is there so far.")] = False,
    json: JSON = False,
) -> None:
    """Run the paper's tables and figures again: our numbers beside the paper's; repeat to go on (docs/reproduction.md)."""
    from perfit.experiments.paper.registry import entries, entry_of
    from perfit.experiments.scale import Choices, scale_of

    if what == "page":
        _write_page(out, json)
        return
    names = list(entries()) if what in ("all", "list") else [entry_of(what).name]
    chosen = scale_of(scale).with_changes(
        users=users,
        queries=queries,
        history=history,
        pool=pool,
        seeds=seeds,
        trials=trials,
        answers=answers,
        measured_users=users,
        measured_queries=queries,
        tasks=None if tasks is None else tuple(part.strip() for part in tasks.split(",") if part.strip()),
    )
    choices = Choices(chosen, out, data, _bases(base), how, parse_settings(config, set_) | dtype_setting(how))
    if what == "list":
        _list(choices, json)
        return
    if dry_run:
        _dry_run(names, choices, json)
        return
    _run(names, choices, json, runs=not show)


def _bases(given: Sequence[str]) -> dict[str, str]:
    """By the paper's name of a base what stands for it; "" for all of them."""
    from perfit.experiments.paper.bases import PAPER_BASES

    found = {}
    for text in given:
        name, sign, where = text.partition("=")
        named = bool(sign) and name in PAPER_BASES
        found[name if named else ""] = where if named else text
    return found


def _run(names: Sequence[str], choices: Choices, json: bool, *, runs: bool) -> None:
    from perfit.experiments.cell_runs import Watch
    from perfit.experiments.page import section
    from perfit.experiments.paper.registry import entries
    from perfit.experiments.reproduce import reproduce as run_entry
    from perfit.experiments.reproduce import results_folder
    from perfit.experiments.world import World

    no_loading_bars()
    screen, world = Screen(quiet=json), World(choices)
    watch = Watch(screen.say, partial(_heard, screen))
    found: list[Outcome] = []
    for name in names:
        outcome = run_entry(entries()[name], world, _words(), watch, runs=runs)
        found.append(outcome)
        screen.say(f"{name}: {outcome.done} of {outcome.cells} cells done")
        if len(names) == 1 and not json:
            for line in section(outcome).splitlines():
                say(line)
    screen.close()
    if json:
        as_json([_plain(one) for one in found])
    else:
        say(f"results: {results_folder(choices)}")
    missing = sum(one.cells - one.done for one in found)
    if missing:
        say_error(f"{missing} of {sum(one.cells for one in found)} cells are missing; the results say why")
        if any(one.cells and not one.done for one in found) or choices.scale.name == "smoke":
            raise typer.Exit(ERROR)


def _plain(one: Outcome) -> dict[str, Any]:
    """An outcome with names of tasks, bases and columns as values, not as keys."""
    tasks = sorted({*one.data, *one.users})
    return {
        "entry": one.entry,
        "title": one.title,
        "scale": one.scale,
        "command": one.command,
        "bases": [{"name": name, "stands": where} for name, where in one.base.items()],
        "data": [
            {"task": task, "digest": one.data.get(task), "users": one.users.get(task), "queries": one.queries.get(task)}
            for task in tasks
        ],
        "rows": [
            {
                "label": row.label,
                "extra": row.extra,
                "values": [{"column": column, **value.__dict__} for column, value in row.values.items()],
            }
            for row in one.rows
        ],
        "orderings": list(one.orderings),
        "claims": [{name: claim[name] for name in ("says", "line", "verdict", "details")} for claim in one.claims],
        "done": one.done,
        "cells": one.cells,
        "missing": [{"why": why, "cells": count} for why, count in one.missing.items()],
        "seconds": one.seconds,
        "hardware": one.hardware,
        "notes": list(one.notes),
        "figures": list(one.figures),
    }


def _words() -> str:
    """What stands after the entry's name, so that a result says the command that made it; paths as they were given."""
    words = sys.argv[1:]
    after = words[words.index("reproduce") + 2 :] if "reproduce" in words else []
    left_out = {"--json", "--show", "--out", "--data"}
    kept: list[str] = []
    skip = False
    for word in after:
        if skip:
            skip = False
        elif word in ("--out", "--data"):
            skip = True
        elif word.partition("=")[0] not in left_out:
            kept.append(word)
    return shlex.join([*kept, "--data", "FOLDER"] if "--data" in after else kept)


def _list(choices: Choices, json: bool) -> None:
    from perfit.experiments.reproduce import states

    found = states(choices)
    if json:
        as_json(
            [
                {
                    "entry": s.entry.name,
                    "title": s.entry.title,
                    "needs": s.needs,
                    "done": s.done,
                    "cells": s.cells,
                    "left": s.left,
                }
                for s in found
            ]
        )
        return
    rows = [
        [s.entry.name, s.entry.title, s.needs, f"{s.done} of {s.cells}", "?" if s.left is None else f"{s.left:.0f}"]
        for s in found
    ]
    table(["entry", "what", "needs", "done", "seconds to go"], rows, title=f"scale {choices.scale.name}")


def _dry_run(names: Sequence[str], choices: Choices, json: bool) -> None:
    from perfit.experiments.cost import Accelerator
    from perfit.experiments.dry_run import SAME, dry_run

    if choices.scale.name != "paper":
        raise ConfigError(f"--dry-run: checks the paper's own size, not {choices.scale.name}; give --scale paper")
    found = dry_run(names, choices, Accelerator())
    if json:
        plain = [one.__dict__ for one in (*found.parameters, *found.data)]
        as_json({"checks": plain, "cells": found.cells, "gpu_hours": found.hours, "memory_gib": found.gib})
    else:
        for title, checks in (("parameters", found.parameters), ("data against Table 6", found.data)):
            equal = sum(one.verdict == SAME for one in checks)
            say(f"{title}: {equal} of {len(checks)} equal to what the paper prints")
            for one in checks:
                if one.verdict != SAME:
                    say(
                        f"  {one.what}: {one.printed:g} printed on line {one.line}, {one.ours:g} here: {one.verdict} {one.why}".rstrip()
                    )
        if not found.data:
            say("data: none was given (--data FOLDER); cost is from Table 6's own sizes")
        say(
            f"{found.cells} cells, about {found.hours:.0f} hours of {found.gpu.name} at {found.gpu.tflops:g} TFLOP/s reached, "
            f"{found.gib:.0f} GiB at most (an estimate; nothing was measured)"
        )
    if found.wrong:
        say_error(f"{len(found.wrong)} numbers are not the paper's")
        raise typer.Exit(ERROR)


def _write_page(out: Path, json: bool) -> None:
    from perfit.durable.files import write_atomically
    from perfit.experiments.page import page

    folder = Path("docs/reproduction")
    if not folder.is_dir():
        raise ConfigError(f"page: {folder} is not here; run it where the repository is")
    write_atomically(_PAGE, page(folder).encode())
    if json:
        as_json({"page": str(_PAGE)})
    else:
        say(f"page: {_PAGE}")


def _heard(screen: Screen, event: Event) -> None:
    """Of all that happens, what begins and what fails."""
    if isinstance(event, TrialBegun):
        screen.say(f"    {event.method}, seed {event.seed}")
    elif isinstance(event, TrialEnded) and event.error is not None:
        screen.say(f"    {event.method}, seed {event.seed} failed: {event.error}")
