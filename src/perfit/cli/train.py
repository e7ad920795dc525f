"""``perfit train``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.cli.given import dtype_setting, load_data, make_config, parse_memory, parse_settings, with_pool
from perfit.cli.options import (
    BASE,
    CONFIG,
    DATA,
    DATES,
    FROZEN_CACHE,
    JSON,
    MEMORY,
    OTHERS,
    PRESET,
    RUN,
    TASK,
    USERS,
    VERBOSE,
    opens_a_base,
    words_again,
)
from perfit.cli.show import Screen, as_json, no_loading_bars
from perfit.events import EventFile, Warned, tee
from perfit.events.trackers import TensorBoard, Tracker, check_tracker, open_tracker
from perfit.how_to_open import USUAL, HowToOpen


@opens_a_base
def train(
    data: DATA,
    run: RUN,
    task: TASK = None,
    base: BASE = DEFAULT_BASE,
    others: OTHERS = None,
    collective: Annotated[
        Path | None, typer.Option(help="Another run, whose collective shift takes the place of stage 1.")
    ] = None,
    dates: DATES = "iso",
    preset: PRESET = "small",
    config: CONFIG = None,
    set_: Annotated[list[str], typer.Option("--set", help="One setting, e.g. --set stage2.epochs=2.")] = [],  # noqa: B006
    users: USERS = None,
    pool: Annotated[int | None, typer.Option(help="Only the first so many other users.")] = None,
    pool_seed: Annotated[int | None, typer.Option(help="Draw them at random with this seed instead.")] = None,
    how: HowToOpen = USUAL,
    allow_leaks: Annotated[bool, typer.Option(help="Train although the audit finds answers in the data.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Also write TensorBoard logs to this folder.")] = None,
    track: Annotated[
        str | None, typer.Option(help="Also track the curves: tensorboard (in the run), wandb or trackio.")
    ] = None,
    memory: MEMORY = None,
    frozen_cache: FROZEN_CACHE = None,
    verbose: VERBOSE = False,
    json: JSON = False,
) -> None:
    """Train the collective shift and one personal shift per user; repeat the command to resume after a stop."""
    from perfit.tasks.lamp_2n import NEWS_CATEGORIZE

    if track is not None:
        check_tracker(track)
    settings = parse_settings(config, set_) | parse_memory(memory) | dtype_setting(how)
    make_config(preset, NEWS_CATEGORIZE, settings, 1)  # wrong settings show before the data is read
    dataset = with_pool(load_data(data, others, task, users, dates), pool, pool_seed)
    from perfit.opening import open_base
    from perfit.personalizer import PerFit
    from perfit.tasks import get_task

    the_task = get_task(dataset.task or "")
    screen = Screen(quiet=json, verbose=verbose)
    for note in dataset.notes:
        screen(Warned(note))
    no_loading_bars()
    opened = open_base(base, replace(how.or_else(dtype=str(settings.get("dtype", "auto"))), verify=True))
    depth, width = len(opened.backbone.layers), opened.backbone.hidden_size
    chosen = make_config(preset, the_task, settings, depth, width)
    perfit = PerFit(opened.backbone, the_task, chosen, opened.identity)
    trackers: list[Tracker] = [] if tensorboard is None else [TensorBoard(tensorboard)]
    if track is not None:
        named = Path(base).name if Path(base).exists() else base  # a path of this machine is nobody's business
        trackers.append(open_tracker(track, run, {"base": named, "task": the_task.name, **chosen.as_dict()}))
    try:
        results = perfit.fit(
            dataset,
            run=run,
            collective=collective,
            allow_leaks=allow_leaks,
            frozen_cache=frozen_cache,
            listener=tee([screen, EventFile(run / "events.jsonl"), *trackers]),
        )
    finally:
        screen.close()
        for tracker in trackers:
            tracker.close()
    skipped = [{"user": r.name, "problem": r.problem} for r in results if r.problem is not None]
    if json:
        as_json({"run": str(run), "trained": len(results) - len(skipped), "skipped": skipped})
    else:
        screen.say(f"{len(results) - len(skipped)} users trained, {len(skipped)} skipped; run: {run}")
        words = ["perfit", "evaluate", str(data), "--run", str(run), *words_again(how)]
        screen.say(f"next: {shlex.join(words)}")
