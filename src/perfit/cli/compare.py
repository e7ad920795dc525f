"""``perfit compare``."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.cli.ending import ERROR, say_error
from perfit.cli.given import form_of_dates, parse_settings
from perfit.cli.options import (
    BASE,
    CONFIG,
    DATA,
    DATES,
    JSON,
    OTHERS,
    PRESET,
    TASK,
    USERS,
    VERBOSE,
    opens_a_base,
)
from perfit.cli.show import Screen, as_json, no_loading_bars, one_line, print_grid, say, table
from perfit.errors import ConfigError
from perfit.events import Answered, ComparisonBegun, Event, StageBegun, TrialBegun, TrialEnded, Warned
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.comparison.bench import Bench, Source
    from perfit.comparison.folder import ComparisonFolder
    from perfit.comparison.plan import Plan
    from perfit.pages.section import Section


@opens_a_base
def compare(
    data: DATA,
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison.")],
    methods: Annotated[
        str, typer.Option(help="Separated by commas, or all; perfit[retrieved=2] is a variant; see docs/compare.md.")
    ],
    base: BASE = DEFAULT_BASE,
    task: TASK = None,
    dates: DATES = "iso",
    collective: Annotated[
        Path | None, typer.Option(help="A run whose collective shift takes the place of stage 1 in PerFit's methods.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Separated by commas; each method in which there is chance runs with each.")
    ] = "0",
    against: Annotated[str | None, typer.Option(help="Method that gains and significance refer to.")] = None,
    others: OTHERS = None,
    users: USERS = None,
    queries: Annotated[int | None, typer.Option(help="Only the first so many queries of each user.")] = None,
    history: Annotated[int | None, typer.Option(help="Only the latest so many history items of each user.")] = None,
    pool: Annotated[int | None, typer.Option(help="Only the first so many other users.")] = None,
    pool_seed: Annotated[int | None, typer.Option(help="Draw them at random with this seed instead.")] = None,
    preset: PRESET = "small",
    config: CONFIG = None,
    set_: Annotated[list[str], typer.Option("--set", help="One setting of all methods: --set stage2.epochs=2.")] = [],  # noqa: B006
    option: Annotated[list[str], typer.Option("--option", help="One method's option: --option lora-p.rank=4.")] = [],  # noqa: B006
    metric: Annotated[
        list[str], typer.Option("--metric", help="A metric of your own beside the task's: package.module:function.")
    ] = [],  # noqa: B006
    answers: Annotated[
        str,
        typer.Option(
            help="free: what a model says; sampled: drawn as in the paper; labels: among them; expected: ratings' mean."
        ),
    ] = "free",
    workers: Annotated[int, typer.Option(help="Processes at a time; each loads the base and takes its cores.")] = 1,
    how: HowToOpen = USUAL,
    allow_leaks: Annotated[bool, typer.Option(help="Compare although the audit finds answers in the data.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and its parameters, and stop.")
    ] = False,
    verbose: VERBOSE = False,
    json: JSON = False,
) -> None:
    """Compare methods on the same users: scores, significance, parameters, bytes and seconds; repeat to resume."""
    from perfit.comparison.bench import Source
    from perfit.comparison.folder import ComparisonFolder
    from perfit.comparison.plan import Plan, Selection
    from perfit.comparison.render import write_table
    from perfit.comparison.results import load_results
    from perfit.comparison.runner import run
    from perfit.comparison.sections import sections
    from perfit.comparison.table import make_table
    from perfit.device import choose_device
    from perfit.evaluation.own_metrics import metrics_of
    from perfit.fitting import check_leaks
    from perfit.methods.registry import methods_for

    if workers < 1:
        raise ConfigError(f"--workers: {workers} is not possible; give at least 1")
    (named, variants), numbers = _methods(methods), _seeds(seeds)
    options = variants | _options(option)
    own = metrics_of(metric)
    screen = Screen(quiet=json, verbose=verbose)
    source = Source(
        data=data,
        base=base,
        others=others,
        task=task,
        # Chosen once: every process opens the same, and only this one says so.
        how=replace(how, device=choose_device(how.device, screen)),
        preset=preset,
        settings=parse_settings(config, set_),
        selection=Selection(users, queries, history, pool, pool_seed),
        answers=answers,
        dates=form_of_dates(dates),
        collective=collective,
    )
    no_loading_bars()
    bench = source.open()
    for note in bench.notes:
        screen(Warned(note))
    plan = Plan(tuple(methods_for(bench.task, answers)) if named is None else named, numbers, options, against)
    check_leaks(bench.data, bench.task, allow_leaks, screen)
    if dry_run:
        _show_plan(bench, plan, ComparisonFolder(out), json)
        return
    with _Shown(screen, parallel=workers > 1) as shown:
        records = run(bench, plan, out, workers=workers, reopen=partial(_reopen, source), listener=shown)
    folder = ComparisonFolder(out)
    with screen.counting("scoring", sum(r.status == "done" for r in records.values()), "trials") as advance:
        results = load_results(folder, lambda method: advance(1, method), own)
    finished = make_table(results, against)
    write_table(finished, out)
    if json:
        as_json(finished.as_dict())
    else:
        for section in sections(finished):
            show_section(section)
        screen.say(f"tables: {out}/table.*; next: {shlex.join(['perfit', 'report', str(out)])}")
    failed = sum(record.status == "failed" for record in records.values())
    if failed:
        say_error(f"{failed} of {len(records)} trials failed; the same command tries them again")
        raise typer.Exit(ERROR)


def _reopen(source: Source) -> Bench:
    """The same bench in another process, as quietly."""
    no_loading_bars()
    return source.open()


def _methods(text: str) -> tuple[tuple[str, ...] | None, dict[str, dict[str, Any]]]:
    """Names of methods and variants' options, None for all that fit the task: a wrong one must show before the base is loaded."""
    from perfit.comparison.variants import settings_of, split_names
    from perfit.methods.registry import METHODS, maker_of

    if text.strip() == "all":
        return None, {}
    names, options = tuple(split_names(text)), {}
    for name in names:
        method, pairs = settings_of(name)
        if maker_of(method) is None:
            raise ConfigError(f"--methods: {method!r} is unknown; choose from {', '.join(METHODS)}, or all")
        if wrong := [pair for pair in pairs if "=" not in pair]:
            raise ConfigError(f"--methods: {name}: {wrong[0]!r} is no option; write {method}[name=value,name=value]")
        if pairs:
            options[name] = _checked(method, parse_settings(None, pairs))
    if not names:
        raise ConfigError("--methods: none is given; name at least one, such as base,perfit")
    return names, options


def _checked(method: str, values: dict[str, Any]) -> dict[str, Any]:
    """Options of a method, refused where they are wrong."""
    from perfit.methods.options import make_options
    from perfit.methods.registry import maker_of

    if (maker := maker_of(method)) is not None:
        make_options(method, maker.options(), {**maker.fixed, **values})
    return values


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--seeds: {text!r} is not possible; give whole numbers such as 0,1,2") from None


def _options(pairs: list[str]) -> dict[str, dict[str, Any]]:
    """Options by method, from ``method.name=value``; they are checked before the base is loaded."""
    from perfit.methods.registry import METHODS, maker_of

    options: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        place, equals, value = pair.partition("=")
        method, found, name = place.rpartition(".")
        if not found or not equals:
            raise ConfigError(f"--option {pair}: write method.name=value, such as --option lora-p.rank=4")
        if maker_of(method) is None:
            raise ConfigError(f"--option {pair}: {method!r} is no method; choose from {', '.join(METHODS)}")
        options.setdefault(method, {}).update(parse_settings(None, [f"{name}={value}"]))
    return {method: _checked(method, values) for method, values in options.items()}


class _Shown:
    """Turns a comparison's events into lines and bars."""

    def __init__(self, screen: Screen, parallel: bool):
        self.screen, self.parallel = screen, parallel
        self.trials = self.queries = self.done_before = 0
        self.bar = ExitStack()
        self.advance: Any = None

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *stop: object) -> None:
        self.bar.close()
        self.screen.close()

    def __call__(self, event: Event) -> None:
        match event:
            case ComparisonBegun():
                self.trials, self.queries = event.todo, event.queries
                there = event.trials - event.todo
                self.screen.say(f"{event.todo} trials of {event.queries} queries to do, {there} done before")
            case TrialBegun():
                left = "" if event.left is None else f", about {_duration(event.left)} left for all"
                self.screen.say(f"[{event.number}/{self.trials}] {event.method}, seed {event.seed}{left}")
                self.done_before = event.rows_done
            case Answered():
                if self.advance is None:
                    self._count()
                self.advance(event.rows)
            case TrialEnded():
                if not self.parallel:
                    self._close()
                said = "done" if event.error is None else f"failed: {event.error}"
                self.screen.say(f"{event.method}, seed {event.seed}: {said}")
            case _:
                if isinstance(event, StageBegun):
                    self._close()
                self.screen(event)

    def _count(self) -> None:
        total = self.queries * self.trials if self.parallel else self.queries
        self.advance = self.bar.enter_context(self.screen.counting("answering", total, "queries"))
        if not self.parallel:
            self.screen.already(self.done_before)

    def _close(self) -> None:
        self.bar.close()
        self.advance = None


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _show_plan(bench: Bench, plan: Plan, folder: ComparisonFolder, json: bool) -> None:
    """What would run: parameters per stage, and how far each trial is."""
    from perfit.comparison.runner import preview

    base = bench.parameters()
    previews = preview(bench, plan)
    records = {trial: folder.record(trial) for trial in folder.trials(plan)}
    states = {trial: record.status if record.starts else "to do" for trial, record in records.items()}
    if json:
        trials = [{"method": t.method, "seed": t.seed, "status": status} for t, status in states.items()]
        as_json({"methods": [one.__dict__ for one in previews], "trials": trials, "base_parameters": base})
        return
    rows = []
    for one in previews:
        mine = [f"{trial.seed} {status}" for trial, status in states.items() if trial.method == one.method]
        counts = [f"{n:,} ({n / base:.4%})" if n else "" for n in (one.collective_parameters, one.personal_parameters)]
        rows.append([one.method, *counts, ", ".join(mine), one.problem or ""])
    table(["method", "collective parameters", "personal parameters", "seeds", "problem"], rows, title="to run")
    data = bench.data
    items = sum(len(user.history) for user in data.users)
    asked = sum(len(user.queries) for user in data.users)
    say(f"{len(data.users)} users with {items} history items and {asked} queries, {len(data.others)} other users")


def show_section(section: Section) -> None:
    """Print one section: the best bold and the second best underlined on a terminal, else with * and '."""
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    style = {0: "", 1: "bold", 2: "underline"}
    mark = {0: "", 1: "" if terminal else "*", 2: "" if terminal else "'"}
    grid = Table(
        title=Text(one_line(section.title)), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for index, name in enumerate(section.header):
        words = index == 0 or name == "problem"
        grid.add_column(
            Text(one_line(name)), justify="left" if words else "right", no_wrap=name != "problem", overflow="fold"
        )
    for row in section.rows:
        grid.add_row(*(Text(one_line(cell.text) + mark[cell.place], style=style[cell.place]) for cell in row))
    print_grid(grid)
    legend = () if terminal or not any(c.place for row in section.rows for c in row) else ("* best, ' second best",)
    for line in (*legend, *section.notes):
        say(line)
    say()
