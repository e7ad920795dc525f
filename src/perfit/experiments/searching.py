"""Table 9: the paper's random search, each task's judged by users who are in no reported table; and Table 8's space."""

from __future__ import annotations

from typing import Any

from perfit.durable.identity import digest_of
from perfit.errors import PerfitError
from perfit.experiments.by_task import by_task
from perfit.experiments.cell_runs import Watch
from perfit.experiments.paper.entry import Entry
from perfit.experiments.world import Place, World
from perfit.search.holdout import hold_out, others_as_users
from perfit.search.space import Space, table_8
from perfit.search.study import SearchPlan, search
from perfit.search.trial import Material

_SHARE = 0.2


def search_entry(entry: Entry, world: World, watch: Watch) -> dict[str, Any]:
    """Go on with every task's search; what the best trial of each chose, by ``task.setting``."""
    base = world.choices.base_of(entry.bases[0])

    def measure(task: str) -> tuple[dict[str, float], int]:
        if base is None:
            raise PerfitError(f"nothing stands for {entry.bases[0]} at this scale; give --base")
        return _search(task, base, world, watch, entry.trials or 20)

    return by_task(entry, world, measure)


def _search(task: str, base: str, world: World, watch: Watch, most: int) -> tuple[dict[str, float], int]:
    bench = world.bench(Place(base, task))
    backbone = bench.backbone
    held = hold_out(others_as_users(bench.data), _SHARE)
    trials = min(most, world.choices.scale.trials or 10**6)
    smoke = world.choices.scale.name == "smoke"
    space: Space = table_8(len(backbone.layers), backbone.hidden_size)
    fixed = {"positions", "epochs"} if smoke else set()
    space = {name: entry for name, entry in space.items() if name not in fixed}
    context = digest_of(bench.identity.as_dict(), bench.data.fingerprint(), task, _SHARE)
    plan = SearchPlan(trials=trials, space=space, config=bench.config, context=context)
    folder = world.choices.out / "searches" / f"{task}-{digest_of(context, plan.record('loss'))[:16]}"
    watch.say(f"  {task} on {base}: a search of {trials} trials")
    result = search(Material(backbone, bench.task, held, "loss"), plan, folder)
    best = result.best
    assert best is not None
    chosen: dict[str, Any] = {**bench.config.as_dict(), **best.settings}
    layers = [int(layer) for layer in chosen["layers"]]
    found = {
        "collective_rank": float(chosen["collective_rank"]),
        "personal_rank": float(chosen["personal_rank"]),
        "first_layer": float(layers[0]),
        "last_layer": float(layers[-1]),
        "epochs": float(chosen.get("epochs", bench.config.stage2.epochs)),
        "score": float(best.score or 0.0),
        "trials": float(len(result.trials)),
    }
    return found, len(held.data.users)


def space_entry(entry: Entry) -> dict[str, Any]:
    """Table 8 as our search has it on Llama-2-7B's depth and width."""
    space: Any = table_8(32, 4096)
    layers = [layer for values in space["layers"].values for layer in values]
    measures = {
        "layers.min": float(min(layers)),
        "layers.max": float(max(layers)),
        **{
            f"{name}.{end}": float(pick(space[name].values))
            for name in ("collective_rank", "personal_rank", "epochs")
            for end, pick in (("min", min), ("max", max))
        },
    }
    return {"measures": measures, "users": {}, "missing": [], "done": 1, "cells": 1}
