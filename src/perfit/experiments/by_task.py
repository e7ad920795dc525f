"""Entries that are measured task by task; a task that cannot be is missing, and the others stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfit.errors import PerfitError
from perfit.experiments.cells import tasks_at
from perfit.experiments.paper.entry import Entry
from perfit.experiments.world import World


def by_task(entry: Entry, world: World, measure: Callable[[str], tuple[dict[str, float], int]]) -> dict[str, Any]:
    """What an entry's tasks measure, by ``task.quantity``.

    Args:
        entry: The entry.
        world: Where it is run.
        measure: A task's numbers by quantity, and how many users they are of.
    """
    measures: dict[str, float] = {}
    missing, users = [], {}
    tasks = tasks_at(entry, world.choices.scale)
    for task in tasks:
        try:
            found, users[task] = measure(task)
        except PerfitError as error:
            missing.append(str(error))
        else:
            measures |= {f"{task}.{name}": value for name, value in found.items()}
    return {"measures": measures, "users": users, "missing": missing, "done": len(users), "cells": len(tasks)}
