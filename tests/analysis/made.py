"""``DeltaVectors`` with chosen vectors in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from planted import Array, noise

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.recipe import VARIANTS, Recipe

BASE = {"name": "small", "dtype": "float32", "n_layers": 3, "identity": {"architecture": "Made"}}


def deltas_of(
    layers: Mapping[int, Mapping[str, Array | tuple[Array, Array]]],
    *,
    task: str = "folders",
    group: str = "test",
    variants: tuple[str, ...] = VARIANTS,
) -> DeltaVectors:
    """δ-vectors [users, d] by layer and kind, for both halves alike or each its own; kinds not named are noise."""
    first = next(iter(next(iter(layers.values())).values()))
    users, width = (first[0] if isinstance(first, tuple) else first).shape
    recipe = Recipe(layers=tuple(layers), variants=variants)
    means = np.zeros((users, len(recipe.kinds), 2, len(layers), width))
    bare = noise(99, users)
    for at, kinds in enumerate(layers.values()):
        for place, kind in enumerate(recipe.kinds):
            given = kinds.get(kind, noise(place, users) if place else np.zeros_like(bare))
            for half in (0, 1):
                means[:, place, half, at] = bare + (given[half] if isinstance(given, tuple) else given)
    counts = torch.full(means.shape[:3], 2)
    names = tuple(f"user-{place}" for place in range(users))
    return DeltaVectors(task, group, names, recipe, torch.from_numpy(means).float(), counts, {"base": BASE})
