"""δ-vectors of many users, and their files: what was measured, and nothing derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perfit.analysis.recipe import BARE, HISTORY, Recipe
from perfit.durable.folder import Folder, Kind
from perfit.durable.identity import digest_of
from perfit.durable.tensors import read_tensors, write_tensors
from perfit.errors import ConfigError, DamagedError
from perfit.private import private_folder

_AGAIN = "analyse again in another folder"
_TENSORS = "deltas.safetensors"
DELTAS = Kind(
    holds="δ-vectors of other",
    manifest="recipe.json",
    version=2,  # both files with a checksum, and bound to each other
    busy="another process analyses here",
    other="choose another folder",
    mend=_AGAIN,
    again=_AGAIN,
    missing=f"not found; {_AGAIN}",
)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class DeltaVectors:
    """Mean last-token states of users, by kind of prompt.

    Attributes:
        task: Name of the task.
        group: "test" or "stage1": which users they are.
        users: Ids, in order.
        recipe: How they were made.
        means: [users, kinds, 2, layers, d] fp32: mean over a user's even and odd queries; kinds as ``recipe.kinds``.
        counts: [users, kinds, 2]: queries in each mean.
        notes: The base's name and identity, versions, what had to be shortened.
    """

    task: str
    group: str
    users: tuple[str, ...]
    recipe: Recipe
    means: Tensor
    counts: Tensor
    notes: Mapping[str, Any]

    @property
    def hidden_size(self) -> int:
        """Width d of the residual stream."""
        return int(self.means.shape[-1])

    def states(self, kind: str, layer: int, half: int | None = None) -> Array:
        """Mean states [users, d] of one kind of prompt; of the queries of one half, or all. NaN where a user has none.

        Raises:
            KeyError: The kind or layer was not measured.
        """
        place, at = self._place(kind), self._layer(layer)
        means = self.means[:, place, :, at].double()
        weights = self.counts[:, place].double()
        if half is not None:
            weights = weights * torch.tensor([half == 0, half == 1])
        total = (means.nan_to_num() * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True)
        found: Array = total.numpy()
        return found

    def delta(self, layer: int, kind: str = HISTORY, half: int | None = None) -> Array:
        """δ-vectors [users, d]: mean state after this kind of text minus the bare query's (paper, section 3.1)."""
        return self.states(kind, layer, half) - self.states(BARE, layer, half)

    def two_halves(self) -> int:
        """How many users have two δ-vectors that share nothing: at least two queries and two past items."""
        return int((self.counts[:, self._place("half")] > 0).all(dim=1).sum()) if self.has("half") else 0

    def has(self, kind: str) -> bool:
        """Whether this kind of prompt was measured."""
        return kind in self.recipe.kinds

    def _place(self, kind: str) -> int:
        if not self.has(kind):
            raise KeyError(f"{kind} was not measured; there are {', '.join(self.recipe.kinds)}")
        return self.recipe.kinds.index(kind)

    def _layer(self, layer: int) -> int:
        if layer not in self.recipe.layers:
            raise KeyError(f"layer {layer} was not measured; there are {list(self.recipe.layers)}")
        return self.recipe.layers.index(layer)

    def record(self) -> dict[str, Any]:
        """What ``recipe.json`` holds."""
        return {
            "format": DELTAS.version,
            "task": self.task,
            "group": self.group,
            "recipe": self.recipe.as_dict(),
            "kinds": list(self.recipe.kinds),
            "users": list(self.users),
            **self.notes,
        }

    def save(self, folder: Path) -> None:
        """Write ``deltas.safetensors`` and, last, ``recipe.json``."""
        private_folder(folder)
        record = self.record()
        write_tensors(folder / _TENSORS, {"means": self.means, "counts": self.counts}, {"of": digest_of(record)})
        Folder(folder, DELTAS).write(record)

    @classmethod
    def load(cls, folder: Path) -> DeltaVectors:
        """The inverse of ``save``.

        Raises:
            StoreError: A file is missing, damaged, of another format, or the two do not belong together.
        """
        record = Folder(folder, DELTAS).read()
        kept = read_tensors(folder / _TENSORS, mend=_AGAIN)
        if kept is None or kept.notes.get("of") != digest_of(record):
            raise DamagedError(f"{folder}: its δ-vectors are missing, or not those of its recipe; {_AGAIN}")
        try:
            recipe = Recipe.from_dict(record["recipe"])
            known = ("format", "task", "group", "recipe", "kinds", "users")
            notes = {name: value for name, value in record.items() if name not in known}
            users = tuple(map(str, record["users"]))
            found = cls(
                record["task"], record["group"], users, recipe, kept.tensors["means"], kept.tensors["counts"], notes
            )
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise DamagedError(f"{folder}: a value is missing or wrong; {_AGAIN}") from error
        shape = (len(users), len(recipe.kinds), 2)
        if tuple(found.counts.shape) != shape or tuple(found.means.shape[:4]) != (*shape, len(recipe.layers)):
            raise DamagedError(f"{folder}: its δ-vectors are of another shape than its recipe says; {_AGAIN}")
        return found
