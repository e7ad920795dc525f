"""``perfit search``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.cli.given import dtype_setting, load_data, make_config, parse_memory, parse_settings
from perfit.cli.options import (
    BASE,
    DATA,
    DATES,
    FROZEN_CACHE,
    JSON,
    MEMORY,
    OTHERS,
    TASK,
    USERS,
    opens_a_base,
    words_again,
)
from perfit.cli.show import Screen, as_json, no_loading_bars, say, table
from perfit.errors import ConfigError
from perfit.events import Event, StageBegun, Stepped, Warned
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.search.study import SearchResult, TrialRow

_SHOWN = 10


@opens_a_base
def search(
    data: DATA,
    out: Annotated[Path, typer.Option("--out", help="Folder of the search.")],
    trials: Annotated[
        int, typer.Option(help="Trials in all; repeat the command to go on, with more to add some.")
    ] = 20,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of what to search (docs/search.md); the paper's Table 8 if not given."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="random or tpe.")] = "random",
    prune: Annotated[bool, typer.Option("--prune", help="End trials early that fall behind the median.")] = False,
    score: Annotated[
        str, typer.Option(help="loss per answer token, or the task's metric on generated answers.")
    ] = "loss",
    judges: Annotated[
        str,
        typer.Option(
            help="Whose latest history judges: users, or others, those with most of it, and no user takes part."
        ),
    ] = "users",
    held_out: Annotated[float, typer.Option(help="Latest share of each history that trials are judged by.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the proposals.")] = 0,
    task: TASK = None,
    dates: DATES = "iso",
    base: BASE = DEFAULT_BASE,
    others: OTHERS = None,
    preset: Annotated[
        str, typer.Option(help="small or paper: where settings that are not searched come from.")
    ] = "small",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings that are fixed.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="One fixed setting, e.g. --set positions=l7.")] = [],  # noqa: B006
    users: USERS = None,
    how: HowToOpen = USUAL,
    memory: MEMORY = None,
    frozen_cache: FROZEN_CACHE = None,
    allow_leaks: Annotated[bool, typer.Option(help="Search although the audit finds answers in the data.")] = False,
    json: JSON = False,
) -> None:
    """Search settings on users' held-out history, never on their queries; repeat the command to resume after a stop."""
    from perfit.tasks.lamp_2n import NEWS_CATEGORIZE

    fixed = parse_settings(config, set_) | parse_memory(memory) | dtype_setting(how)
    make_config(preset, NEWS_CATEGORIZE, fixed, 1)
    if judges not in ("users", "others"):
        raise ConfigError(f"--judges: {judges!r} is not possible; choose users or others")
    from perfit.search.space import read_space, table_8, without
    from perfit.search.study import SearchPlan, check_extra
    from perfit.search.study import search as run_search

    check_extra()
    own_space = None if space is None else read_space(space)
    dataset = load_data(data, others, task, users, dates)
    from perfit.fitting import check_leaks
    from perfit.opening import open_base
    from perfit.personalizer import PerFit
    from perfit.pseudo_users import check_ids
    from perfit.search.holdout import hold_out, others_as_users
    from perfit.search.trial import Material
    from perfit.tasks import get_task
    from perfit.training.examples import answer_limit
    from perfit.training.frozen_cache import FrozenHome

    the_task = get_task(dataset.task or "")
    screen = Screen(quiet=json)
    check_ids(dataset.users)
    check_leaks(dataset, the_task, allow_leaks, screen)
    if judges == "others":
        dataset = others_as_users(dataset)
    held = hold_out(dataset, held_out)
    for note in dataset.notes:
        screen(Warned(note))
    if held.left_out:
        screen(Warned(f"{held.left_out} users with fewer than two past items take no part"))
    no_loading_bars()
    opened = open_base(base, how.or_else(dtype=str(fixed.get("dtype", "auto"))))
    backbone = opened.backbone
    depth, width = len(backbone.layers), backbone.hidden_size
    start = make_config(preset, the_task, fixed, depth, width)
    answer_limit(the_task, backbone.tokenizer, start.chat_template)  # refuses labels that could never be answered
    belonging = PerFit(backbone, the_task, start, opened.identity).belonging
    plan = SearchPlan(
        trials=trials,
        space=without(
            own_space if own_space is not None else table_8(len(backbone.layers), backbone.hidden_size), list(fixed)
        ),
        config=start,
        sampler=sampler,
        prune=prune,
        seed=seed,
        context=f"{belonging.context(held.data)} {dataset.fingerprint()} {held_out}",
    )
    home = FrozenHome(frozen_cache if frozen_cache is not None else out / "frozen", opened.identity.as_dict())
    with screen.counting("search", trials, "trials") as advance:
        shown = _Progress(advance)
        result = run_search(
            Material(backbone, the_task, held, score, home), plan, out, done=shown.trial, listener=shown.event
        )
    if json:
        as_json(_plain(result, out))
        return
    _show(result)
    assert result.best is not None
    screen.say(f"best settings: {out / 'best.yaml'}")
    same = {
        "--task": task,
        "--base": None if base == DEFAULT_BASE else base,
        "--others": others,
        "--config": out / "best.yaml",
        "--revision": how.revision,
        "--layers-path": how.layers_path,
        "--quantization": how.quantization,
    }
    given = [word for name, value in same.items() if value is not None for word in (name, str(value))]
    words = [str(data), *given, *words_again(how)]
    screen.say(f"next: perfit train {shlex.join(words)} --run RUN")


class _Progress:
    """The search's bar, with what its running trial is at."""

    def __init__(self, advance: Any):
        self.advance = advance
        self.number, self.stage, self.rows, self.total = 0, 0, 0, 0

    def trial(self, row: TrialRow) -> None:
        self.number = row.number + 1
        self.advance(1, "")

    def event(self, event: Event) -> None:
        if isinstance(event, StageBegun):
            self.stage, self.rows, self.total = event.stage, 0, event.rows_total
        elif isinstance(event, Stepped):
            self.rows += event.rows
            self.advance(0, f"trial {self.number}: stage {self.stage}, {self.rows}/{self.total} items")


def _show(result: SearchResult) -> None:
    """The best trials, and how the others ended."""
    ranked = result.ranked()
    names = list(ranked[0].settings)
    rows = [
        [
            str(row.number),
            *(_text(row.settings[name]) for name in names),
            f"{row.score:.4f}",
            "" if row.collective is None else f"{row.collective:.4f}",
            f"{row.seconds:.1f}",
        ]
        for row in ranked[:_SHOWN]
    ]
    table(["trial", *names, result.score, "collective", "seconds"], rows, title="held-out history, best first")
    ends = {state: sum(row.state == state for row in result.trials) for state in ("complete", "pruned", "failed")}
    say(", ".join(f"{count} {state}" for state, count in ends.items()))
    for row in result.trials:
        if row.problem is not None:
            say(f"trial {row.number} failed: {row.problem}")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ";".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(result: SearchResult, out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    best = result.best
    return {
        "score": result.score,
        "best": None if best is None else asdict(best),
        "trials": [asdict(row) for row in result.trials],
        "config": str(out / "best.yaml"),
    }
