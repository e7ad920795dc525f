"""``perfit analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.cli.show import Screen, as_json, no_loading_bars, table
from perfit.cli.train import BASE, DEVICE, JSON, REVISION, TASK, at_revision, first_users
from perfit.errors import ConfigError

if TYPE_CHECKING:
    from perfit.analysis.tables import Tables
    from perfit.data.schema import Dataset, User


def analyze(
    data: Annotated[
        Path | None, typer.Argument(help="Users' data to measure; without it the report on --out is written again.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the analysis; several tasks may share one.")] = Path(
        "runs/analysis"
    ),
    task: TASK = None,
    base: Annotated[str, typer.Option(help="Base model: a path, a hub id, or pypi:<packaged>.")] = BASE,
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
    device: DEVICE = "cpu",
    revision: REVISION = None,
    layers_path: Annotated[
        str | None, typer.Option(help="Dotted path of the decoder layers, e.g. model.layers, if not found.")
    ] = None,
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
    if data is not None:
        from perfit.cli.train import load_data

        dataset = load_data(data, None, task, None)
        for note in dataset.notes:
            screen({"event": "warning", "text": note})
        options = {
            "items": items,
            "history_tokens": history_tokens,
            "queries": queries,
            "seed": seed,
        }
        backbone = _backbone(base, device, revision, layers_path)
        groups_ = {name: _able(dataset, name, users, screen) for name in chosen}
        costs = _measure(
            backbone, dataset, groups_, layers, options, controls, batch_tokens, out, texts, estimate, screen
        )
        if estimate:
            if json:
                as_json(costs)
            return
    from perfit.analysis.folder import write_report

    with screen.counting("statistics", 0, "layers") as advance:
        tables, layer = write_report(out, runs=run, layer=show_layer, start=screen.expect, done=advance)
    if json:
        as_json({"out": str(out), "layer": layer, "tables": {n: r for n, r in tables.items() if n not in _LONG}})
        return
    _show(tables, layer)
    print(f"page: {out / 'index.html'}; tables and figures: {out}")


_QUERY_TOKENS = 1024
_LONG = ("coordinates", "control_coordinates", "users", "gains")


def _backbone(base: str, device: str, revision: str | None, layers_path: str | None) -> Any:
    from perfit.backbone.load import load_base
    from perfit.backbone.model import Backbone
    from perfit.precision import resolve_dtype

    no_loading_bars()
    loaded = load_base(base, dtype=resolve_dtype("auto", device), device=device, **at_revision(revision))
    return Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)


def _able(dataset: Dataset, group: str, count: int | None, screen: Screen) -> list[User]:
    """The users of a group that have what a δ-vector needs, limited as asked; says who is left out."""
    from perfit.analysis.extract import able

    people = dataset.users if group == "test" else dataset.others
    usable = able(people)
    if len(usable) < len(people):
        text = f"left out: {len(people) - len(usable)} {group} users without a query or without a history"
        screen({"event": "warning", "text": text})
    return list(first_users(tuple(usable), count))


def _measure(
    backbone: Any,
    dataset: Dataset,
    people: dict[str, list[User]],
    layers: str,
    options: dict[str, Any],
    controls: bool,
    batch_tokens: int,
    out: Path,
    texts: bool,
    estimate_only: bool,
    screen: Screen,
) -> dict[str, Any]:
    from perfit.analysis.extract import estimate, extract
    from perfit.analysis.folder import place_of, save_texts
    from perfit.analysis.recipe import HISTORY, VARIANTS, Recipe
    from perfit.backbone.room import positions_of
    from perfit.tasks import get_task

    the_task = get_task(dataset.task or "")
    costs = {}
    for group, users in people.items():
        if not users:
            screen({"event": "warning", "text": f"no {group} users to measure"})
            continue
        kinds = VARIANTS if controls and group == "test" else (HISTORY,)
        room = options["history_tokens"] + _QUERY_TOKENS
        length = min(room, positions_of(backbone) or room)
        recipe = Recipe(parse_layers(layers, len(backbone.layers)), variants=kinds, max_length=length, **options)
        backbone.check_layers(recipe.layers)
        cost = estimate(backbone, the_task, users, recipe, batch_tokens)
        costs[group] = {"prompts": cost.prompts, "tokens": cost.tokens, "seconds": round(cost.seconds, 1)}
        if not screen.quiet:
            screen.console.print(
                f"{the_task.name}, {group}: {len(users)} users, {cost.prompts} prompts, about {cost.tokens:,} tokens and "
                f"{_duration(cost.seconds)}"
            )
        if estimate_only:
            continue
        folder = place_of(out, the_task.name, group)
        with screen.counting(f"{the_task.name}, {group}", cost.prompts, "prompts") as advance:

            def done(prompts: int, before: bool, advance: Any = advance) -> None:
                if before:
                    screen.already(prompts)
                else:
                    advance(prompts)

            extract(backbone, the_task, users, recipe, group=group, folder=folder, batch_tokens=batch_tokens, done=done)
        if texts:
            save_texts(folder, the_task, users)
        else:
            (folder / "texts.json").unlink(missing_ok=True)
    return costs


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


def _show(tables: Tables, layer: int) -> None:
    here = {name: [row for row in rows if row.get("layer", layer) == layer] for name, rows in tables.items()}
    table(
        ["task, users", "N", "share", "r", "r/d", "r/min(N,d)", "r, random", "r, permuted", "r, centred", "permuted"],
        [
            [
                f"{row['task']}, {row['group']}",
                str(row["users"]),
                f"{row['share']}",
                str(row["r"]),
                f"{row['of_d']:.4f}",
                f"{row['of_smaller']:.4f}",
                f"{row['gaussian']:.1f}",
                f"{row['permuted']:.1f}",
                str(own["r"]),
                f"{own['permuted']:.1f}",
            ]
            for row in here["ranks"]
            if not row["centred"]
            for own in here["ranks"]
            if own["centred"] and all(own[name] == row[name] for name in ("task", "group", "share"))
        ],
        title=f"directions that explain a share of the variance, layer {layer}",
    )
    table(
        ["task, users", "N", "shared energy", "by chance", "p", "|mean|", "rms personal", "cosine to others"],
        [
            [
                f"{row['task']}, {row['group']}",
                str(row["users"]),
                *(f"{row[name]:.3f}" for name in ("share", "chance")),
                f"{row['p']:.4f}",
                *(f"{row[name]:.2f}" for name in ("norm", "personal_norm", "cosine")),
            ]
            for row in here["collective"]
        ],
        title=f"\ncollective shift, layer {layer}",
    )
    if here.get("controls"):
        table(
            [
                "task, in place of the history",
                "|δ| / own",
                "cos collective",
                "cos personal",
                "p",
                "own − it: shared",
                "p ",
            ],
            [
                [
                    f"{row['task']}, {row['kind']}",
                    *(f"{row[name]:.2f}" for name in ("ratio", "collective_cosine", "personal_cosine")),
                    f"{row['p']:.4f}",
                    f"{row['difference_share']:.3f}",
                    f"{row['difference_p']:.4f}",
                ]
                for row in here["controls"]
            ],
            title=f"\ncontrols, layer {layer}",
        )
    if here.get("halves"):
        table(
            ["task, what is compared", "N", "nearest is same author", "by chance", "AUC", "p"],
            [
                [
                    f"{row['task']}, {_HALVES[row['kind']]}",
                    str(row["users"]),
                    *(f"{row[name]:.3f}" for name in ("top1", "top1_chance", "auc")),
                    f"{row['p']:.4f}",
                ]
                for row in here["halves"]
            ],
            title=f"\ntwo halves of each user's history and queries, layer {layer}",
        )
    _show_rest(tables, here)


_HALVES = {"half": "own history", "random": "random text", "bare": "query alone"}


def _show_rest(tables: Tables, here: Tables) -> None:
    if here.get("tasks"):
        table(
            ["collective shifts of", "and", "cosine", "angle"],
            [
                [row["task"], row["other"], f"{row['cosine']:.2f}", f"{row['angle']:.0f}°"]
                for row in here["tasks"]
                if row["task"] < row["other"]
            ],
            title="\ntasks",
        )
    for row in tables.get("overlaps", []):
        print(
            f"\n{row['task']}, edited layer {row['layer']}, {row['users']} users: collective cosine "
            f"{row['collective_cosine']:.2f}; δ energy in R {row['first_energy']:.2f} (chance {row['first_chance']:.2f}), in "
            f"the user's R {row['second_energy']:.2f} ({row['second_chance']:.2f}); personal cosine "
            f"{row['personal_cosine']:.2f} (other users {row['personal_chance']:.2f})"
        )
    for row in tables.get("gain_correlation", []):
        print(
            f"{row['task']}, layer {row['layer']}: rank correlation of |personal δ| and gain {row['correlation']:+.2f}, "
            f"p {row['p']:.3f}, {row['users']} users"
        )
    for name in dict.fromkeys((row["task"], row["group"]) for row in tables.get("suggestion", [])):
        rows = [row for row in tables["suggestion"] if (row["task"], row["group"]) == name and row["suggested"]]
        print(
            f"\n{name[0]}, suggested to try: layers {', '.join(str(row['layer']) for row in rows)}, collective rank "
            f"{rows[0]['collective_rank']}, personal rank {rows[0]['personal_rank']}"
        )
