"""Several tasks' δ-vectors in one space, and the angles between their collective shifts (Appendix B.6, Figure 16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perfit.analysis.collective import cosine_table
from perfit.analysis.deltas import Array
from perfit.analysis.subspace import basis, complete


@dataclass(frozen=True, slots=True)
class TasksTogether:
    """Tasks in one space.

    Attributes:
        tasks: Their names, in order.
        coordinates: By task, users' coordinates [users, 2] in the SVD basis of all δ-vectors together.
        cosines: [tasks, tasks] between collective shifts.
        explained: [tasks, tasks]: how much of the row task's energy the column task's collective direction holds.
    """

    tasks: tuple[str, ...]
    coordinates: Mapping[str, Array]
    cosines: Array
    explained: Array

    def angle(self, a: int, b: int) -> float:
        """Degrees between two collective shifts."""
        return float(np.degrees(np.arccos(np.clip(self.cosines[a, b], -1.0, 1.0))))


def tasks_together(vectors: Mapping[str, Array]) -> TasksTogether:
    """Compare tasks' δ-vectors, each [users, d], of one base and one layer."""
    whole = {task: complete(own) for task, own in vectors.items()}
    names = tuple(whole)
    found = basis(np.concatenate([whole[name] for name in names]), components=2)
    ends = np.cumsum([len(whole[name]) for name in names])
    parts = np.split(found.coordinates, ends[:-1])
    means = np.stack([whole[name].mean(axis=0) for name in names])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    units = np.divide(means, norms, out=np.zeros_like(means), where=norms > 0)
    explained = np.stack([((own @ units.T) ** 2).sum(axis=0) / max((own**2).sum(), 1e-30) for own in whole.values()])
    return TasksTogether(names, dict(zip(names, parts, strict=True)), cosine_table(means, means), explained)
