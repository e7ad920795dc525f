"""Do δ-vectors foretell training? Trained shifts against δ-vectors, layer by layer and user by user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from perfit.analysis.collective import cosine_table, cosines
from perfit.analysis.deltas import Array, DeltaVectors
from perfit.analysis.extra import extra
from perfit.analysis.recipe import BARE, HISTORY
from perfit.analysis.subspace import centred
from perfit.edits.shift import Shift
from perfit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Overlap:
    """One edited layer: what training put there beside what the history does there.

    Attributes:
        layer: The layer.
        users: Users with both a δ-vector and a personal shift.
        collective_cosine: Between the mean δ and the mean trained change of the bare states, users' own included.
        first_energy / second_energy: Share of the δ-vectors' energy in the row space of the collective shift's R, and of
            the users' own R (each user's δ in the own R).
        first_chance / second_chance: r / d, the same for a random subspace.
        personal_cosine: Mean over users of the cosine between the personal part of δ and that of the trained change.
        personal_chance: The same between different users.
    """

    layer: int
    users: int
    collective_cosine: float
    first_energy: float
    first_chance: float
    second_energy: float
    second_chance: float
    personal_cosine: float
    personal_chance: float


def overlaps(
    deltas: DeltaVectors, collective: tuple[Shift, Shift], personal: Mapping[str, Shift], layers: Sequence[int]
) -> list[Overlap]:
    """Compare at each edited layer that was measured.

    Trained changes are those of the users' mean bare states: Φ(h) − h with the collective and the own shift.

    Args:
        deltas: Measured on the base the shifts belong to.
        collective: Both shared shifts, [layers, r, d].
        personal: By user id, the own second shift [layers, r, d].
        layers: The edited layers, in the shifts' order.

    Raises:
        ConfigError: No user has both, or no edited layer was measured.
    """
    places = [place for place, user in enumerate(deltas.users) if user in personal]
    measured = [layer for layer in layers if layer in deltas.recipe.layers]
    if len(places) < 3 or not measured:
        raise ConfigError(
            f"run: {len(places)} users and {len(measured)} edited layers were measured too; comparing needs at least 3 "
            "users and one layer"
        )
    found = []
    for layer in measured:
        at = list(layers).index(layer)
        vectors = deltas.delta(layer)[places]
        bare = torch.from_numpy(deltas.states(BARE, layer)[places]).float()
        first = _at(collective[0], at)
        own = [_at(personal[deltas.users[place]], at) for place in places]
        moved = first(bare)
        ends = torch.stack([shift(row[None])[0] for shift, row in zip(own, moved, strict=True)])
        changes: Array = (ends - bare).double().numpy()
        table = cosine_table(centred(vectors), centred(changes))
        users, width = vectors.shape
        energy = (vectors**2).sum(axis=1)
        seconds = [_energy_in(shift.R, vector[None]) for shift, vector in zip(own, vectors, strict=True)]
        found.append(
            Overlap(
                layer=layer,
                users=users,
                collective_cosine=float(cosines(vectors.mean(0)[None], changes.mean(0)[None])[0]),
                first_energy=_energy_in(first.R, vectors) / float(energy.sum()),
                first_chance=first.R.shape[0] / width,
                second_energy=float(np.mean(np.array(seconds) / energy)),
                second_chance=own[0].R.shape[0] / width,
                personal_cosine=float(np.trace(table)) / users,
                personal_chance=float(table.sum() - np.trace(table)) / (users * (users - 1)),
            )
        )
    return found


def _at(shift: Shift, layer: int) -> Shift:
    return Shift(*(tensor[layer].float().cpu() for tensor in shift.tensors().values()))


def _energy_in(R: Tensor, vectors: Array) -> float:
    """Energy of the vectors inside the row space of R [r, d]."""
    return float(((vectors @ R.double().numpy().T) ** 2).sum())


@dataclass(frozen=True, slots=True)
class GainCorrelation:
    """Spearman correlation over users of |personal δ| and what the personal shift gained over the collective one.

    Attributes:
        layer: Where δ was measured.
        kind: What stood before the query: "history", or a control, whose δ knows nothing of the user but the queries.
        users: N.
        correlation: −1 to 1; positive: users who stand farther from the collective shift gain more.
        p: Two-sided, by permuting users.
    """

    layer: int
    kind: str
    users: int
    correlation: float
    p: float


def gain_correlation(
    deltas: DeltaVectors,
    gains: Mapping[str, float],
    layer: int,
    kind: str = HISTORY,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> GainCorrelation:
    """Correlate |δ − mean δ| with the users' gains (positive: the personal shift is better).

    Raises:
        ConfigError: Fewer than 3 users have both.
    """
    rankdata = extra("scipy.stats").rankdata
    places = [place for place, user in enumerate(deltas.users) if user in gains]
    if len(places) < 3:
        raise ConfigError(f"gains: {len(places)} of the measured users have one; a correlation needs at least 3")
    sizes = rankdata(np.linalg.norm(centred(deltas.delta(layer, kind)), axis=1)[places])
    gained = rankdata([gains[deltas.users[place]] for place in places])
    if np.ptp(sizes) == 0 or np.ptp(gained) == 0:
        return GainCorrelation(layer, kind, len(places), 0.0, 1.0)

    def correlation(values: Array) -> float:
        return float(np.corrcoef(sizes, values)[0, 1])

    own, chance = correlation(gained), np.random.default_rng(seed)
    larger = sum(abs(correlation(chance.permutation(gained))) >= abs(own) - 1e-12 for _ in range(draws))
    return GainCorrelation(layer, kind, len(places), own, (1 + larger) / (1 + draws))
