"""``perfit analyze``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.cli.analysis_tables import show_analysis
from perfit.cli.given import first_users, load_data
from perfit.cli.options import BASE, DATES, JSON, TASK, opens_a_base
from perfit.cli.show import Screen, as_json, no_loading_bars, say
from perfit.errors import ConfigError
from perfit.events import Warned
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.analysis.recipe import Recipe
    from perfit.backbone.fingerprint import BaseIdentity
    from perfit.backbone.model import Backbone
    from perfit.data.schema import Dataset, User
    from perfit.tasks.task import Task


@opens_a_base
def analyze(
    data: Annotated[
        Path | None, typer.Argument(help="Users' data to measure; without it the report on --out is written again.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the analysis; several tasks may share one.")] = Path(
        "runs/analysis"
    ),
    task: TASK = None,
    dates: DATES = "iso",
    base: BASE = DEFAULT_BASE,
    groups: Annotated[
        str, typer.Option(help="Which users: test, stage1 or both, separated by commas.")
    ] = "test,stage1",
    users: Annotated[int | None, typer.Option(help="Only the first so many users of a group.")] = None,
    queries: Annotated[int | None, typer.Option(help="Only each user's first so many queries.")] = None,
    layers: Annotated[str, typer.Option(help="Layers to read: all, or such as 4-12 or 3,7,11.")] = "all",
    items: Annotated[int, typer.Option(help="Past items put before a query.")] = 4,
    history_tokens: Annotated[int, typer.Option(help="Most tokens of those items.")] = 512,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Also measure what is not the own history (test users).")
    ] = True,
    batch_tokens: Annotated[int, typer.Option(help="Most tokens of one forward; less takes less memory.")] = 4096,
    seed: Annotated[int, typer.Option(help="Seed of random text and word order.")] = 0,
    run: Annotated[list[Path], typer.Option("--run", help="A trained run to compare with; may be repeated.")] = [],  # noqa: B006
    show_layer: Annotated[int | None, typer.Option(help="Layer of one-layer figures; the middle if not given.")] = None,
    texts: Annotated[
        bool, typer.Option("--texts/--no-texts", help="Show excerpts of users' texts in the page.")
    ] = True,
    estimate: Annotated[bool, typer.Option("--estimate", help="Print the cost and stop.")] = False,
    how: HowToOpen = USUAL,
    json: JSON = False,
) -> None:
    """See what users' own texts do inside a model, before anything is trained (docs/analysis.md)."""
    chosen = [name.strip() for name in groups.split(",") if name.strip()]
    if not chosen or set(chosen) - {"test", "stage1"}:
        raise ConfigError(f"--groups: {groups} is not possible; give test, stage1 or test,stage1")
    if batch_tokens < 1:
        raise ConfigError(f"--batch-tokens: {batch_tokens} is not possible; give at least 1")
    screen = Screen(quiet=json)
    if data is None and estimate:
        raise ConfigError("--estimate: give the data whose measuring is to be estimated")
    if not estimate:
        _check_report(run)
    measurements: list[_Measurement] = []
    if data is not None:
        dataset = load_data(data, None, task, None, dates)
        for note in dataset.notes:
            screen(Warned(note))
        people = {name: _able(dataset, name, users, screen) for name in chosen}
        from perfit.opening import open_base

        no_loading_bars()
        opened = open_base(base, how)
        backbone = opened.backbone
        from perfit.analysis.recipe import HISTORY, VARIANTS, Recipe
        from perfit.backbone.room import positions_of
        from perfit.tasks import get_task

        the_task = get_task(dataset.task or "")
        read = parse_layers(layers, len(backbone.layers))
        backbone.check_layers(read)
        if show_layer is not None and show_layer not in read:
            raise ConfigError(
                f"--show-layer: {show_layer} will not be measured; give one of {', '.join(map(str, read))}"
            )
        room = history_tokens + _QUERY_TOKENS
        room = min(room, positions_of(backbone) or room)
        for group, able in people.items():
            kinds = VARIANTS if controls and group == "test" else (HISTORY,)
            recipe = Recipe(read, items, history_tokens, queries, kinds, room, seed)
            measurements.append(
                _Measurement(backbone, opened.identity, the_task, able, recipe, group, batch_tokens, out, screen)
            )
        costs = {one.group: one.cost() for one in measurements}
        if estimate:
            if json:
                as_json(costs)
            return
    from perfit.analysis.folder import alone_in, write_report

    with alone_in(out) if measurements or out.is_dir() else nullcontext():
        for one in measurements:
            one.make(texts)
        with screen.counting("statistics", 0, "layers") as advance:
            tables, layer = write_report(out, runs=run, layer=show_layer, start=screen.expect, done=advance)
    if json:
        as_json({"out": str(out), "layer": layer, "tables": {n: r for n, r in tables.items() if n not in _LONG}})
        return
    show_analysis(tables, layer)
    say(f"page: {out / 'index.html'}; tables and figures: {out}")


_QUERY_TOKENS = 1024
_LONG = ("coordinates", "control_coordinates", "users", "gains")


def _check_report(runs: list[Path]) -> None:
    """Refuse before anything is measured what the report would stumble over at the end.

    Raises:
        MissingExtraError: A library of the extra is not installed.
        StoreError: A ``--run`` is none, or damaged.
    """
    from perfit.analysis.extra import extra
    from perfit.run import RunDirectory

    for module in ("jinja2", "matplotlib", "plotly", "pyarrow", "scipy"):
        extra(module)
    for path in runs:
        RunDirectory(path).manifest()


def _able(dataset: Dataset, group: str, count: int | None, screen: Screen) -> list[User]:
    """The users of a group that have what a δ-vector needs, limited as asked; says who is left out."""
    from perfit.analysis.extract import able

    people = dataset.users if group == "test" else dataset.others
    usable = able(people)
    if len(usable) < len(people):
        text = f"left out: {len(people) - len(usable)} {group} users without a query or without a history"
        screen(Warned(text))
    return list(first_users(tuple(usable), count))


@dataclass(frozen=True)
class _Measurement:
    """One group of users to measure: its cost is said first."""

    backbone: Backbone
    identity: BaseIdentity
    task: Task
    users: list[User]
    recipe: Recipe
    group: str
    batch_tokens: int
    out: Path
    screen: Screen

    @property
    def folder(self) -> Path:
        from perfit.analysis.folder import task_folder

        return task_folder(self.out, self.task.name, self.group)

    def cost(self) -> dict[str, float]:
        """Say what measuring takes; nothing when it is done or there is nobody."""
        from perfit.analysis.extract import estimate

        name = f"{self.task.name}, {self.group}"
        if not self.users or (self.folder / "recipe.json").exists():
            why = "nobody to measure" if not self.users else "measured before"
            self.screen(Warned(f"{name}: {why}"))
            return {"prompts": 0, "tokens": 0, "seconds": 0.0}
        cost = estimate(self.backbone, self.task, self.users, self.recipe, self.batch_tokens)
        self.screen.say(
            f"{name}: {len(self.users)} users, {cost.prompts} prompts, about {cost.tokens:,} tokens and "
            f"{_duration(cost.seconds)}"
        )
        return {"prompts": cost.prompts, "tokens": cost.tokens, "seconds": round(cost.seconds, 1)}

    def make(self, texts: bool) -> None:
        """Measure, going on where a stop left it."""
        from perfit.analysis.excerpts import save_texts
        from perfit.analysis.extract import extract

        if not self.users:
            return
        prompts = sum(len(user.queries[: self.recipe.queries]) for user in self.users) * len(self.recipe.kinds)
        with self.screen.counting(f"{self.task.name}, {self.group}", prompts, "prompts") as advance:

            def done(count: int, before: bool) -> None:
                if before:
                    self.screen.already(count)
                else:
                    advance(count)

            found = extract(
                self.backbone,
                self.task,
                self.users,
                self.recipe,
                group=self.group,
                folder=self.folder,
                batch_tokens=self.batch_tokens,
                identity=self.identity,
                done=done,
                listener=self.screen,
            )
        for what, count in found.notes["shortened"].items():
            if count:
                self.screen(Warned(f"{count} {what}"))
        if texts:
            save_texts(self.folder, self.task, self.users)
        else:
            (self.folder / "texts.json").unlink(missing_ok=True)


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Layers named as "all", "4-12", "3,7,11" or a mixture.

    Raises:
        ConfigError: It is none of these.
    """
    if text.strip() == "all":
        return tuple(range(count))
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        raise ConfigError(f"--layers: {text!r} is not possible; give all, 4-12, or 3,7,11") from None
    if not found or len(set(found)) != len(found):
        raise ConfigError(f"--layers: {text!r} must name at least one layer, each once")
    return tuple(sorted(found))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
