"""A trained run beside δ-vectors: its shifts at each edited layer, and what each user gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.recipe import HISTORY
from perfit.analysis.subspace import centred
from perfit.analysis.tables import Tables
from perfit.analysis.trained import gain_correlation, overlaps
from perfit.backbone.fingerprint import BaseIdentity
from perfit.belonging import open_store
from perfit.edits.shift import Shift, from_stored
from perfit.errors import BaseModelError, ConfigError, DamagedError
from perfit.evaluation.score import higher_is_better
from perfit.run import RunDirectory


def tables_of_run(path: str | Path, many: Sequence[DeltaVectors]) -> Tables:
    """The tables ``overlaps``, and where the run was evaluated ``gains`` and ``gain_correlation``.

    Args:
        path: A run of ``perfit train``; its base is not loaded.
        many: δ-vectors; those of the run's task and its users are compared.

    Raises:
        ConfigError: None of them is of the run's task and base, or they share no users or layers with the run.
        StoreError: The run is unfinished or damaged.
    """
    run = RunDirectory(path)
    manifest = run.manifest()
    identity, task, layers = manifest["base"]["identity"], manifest["task"]["name"], manifest["config"]["layers"]
    fitting = [
        one
        for one in many
        if (one.task, one.group) == (task, "test") and _same(one.notes["base"]["identity"], identity)
    ]
    if not fitting:
        raise ConfigError(
            f"--run: {path} trained {task} on another base, or its δ-vectors are not here; measure them first"
        )
    deltas = fitting[0]
    with open_store(run) as store:
        known = set(store.users())
        personal = {user: from_stored(store.get(user).tensors) for user in deltas.users if user in known}
    at = {"task": task, "run": str(path)}
    collective: tuple[Shift, Shift] = run.collective().shifts
    found = overlaps(deltas, collective, personal, layers)
    tables: Tables = {"overlaps": [at | asdict(one) for one in found]}
    gains = gains_of(run)
    if gains:
        layer = found[-1].layer
        sizes = np.linalg.norm(centred(deltas.delta(layer)), axis=1)
        tables["gains"] = [
            at | {"layer": layer, "user": user, "size": float(size), "gain": gains[user]}
            for user, size in zip(deltas.users, sizes, strict=True)
            if user in gains
        ]
        tables["gain_correlation"] = [
            at | {"edited": layer in layers} | asdict(gain_correlation(deltas, gains, layer, kind))
            for layer in deltas.recipe.layers
            for kind in (HISTORY, "other")
            if deltas.has(kind)
        ]
    return tables


def _same(measured: Mapping[str, Any], trained: Mapping[str, Any]) -> bool:
    try:
        return not BaseIdentity.from_dict(measured).differences(BaseIdentity.from_dict(trained))
    except (BaseModelError, AttributeError):  # measured before identities were what they are
        return False


def gains_of(run: RunDirectory) -> dict[str, float]:
    """By user: mean score of the personal shift minus that of the collective one, positive where it is better.

    Empty when the run was not evaluated with both.
    """
    if not (run.path / "metrics.json").is_file():
        return {}
    try:
        methods = run.read_record("metrics.json", "run perfit evaluate again")["methods"]
        if "personal" not in methods or "collective" not in methods:
            return {}
        sign = 1.0 if higher_is_better(methods["personal"]["primary"]) else -1.0
        means = [
            {row["user"]: float(row["mean"]) for row in methods[name]["per_user"]["users"]}
            for name in ("personal", "collective")
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{run.path}/metrics.json: a value is missing; run perfit evaluate again") from error
    return {user: sign * (mean - means[1][user]) for user, mean in means[0].items() if user in means[1]}
