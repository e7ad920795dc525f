"""``GET /v1/map``: users as points of a plane, those near each other whose shifts change states alike; no text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfit.edits.shift import Shift, from_stored
from perfit.errors import UnknownUserError
from perfit.serving.gateway import Gateway, in_thread
from perfit.serving.keys import Tenant
from perfit.strength import strength_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_POINTS = 300
_ROWS_AT_ONCE = 2048
_NOTHING = 1e-6  # of what there is: below it two shifts differ by rounding


@dataclass(frozen=True)
class UserMap:
    """Shifts as points.

    Attributes:
        places: [users + 1, 2], the shared second shift first; the farthest coordinate is 1 from the middle.
        held: How much of all that they differ in the plane shows, from 0 to 1.
    """

    places: Tensor
    held: float


def user_map(shared: Shift, own: Sequence[tuple[Shift, float]]) -> UserMap:
    """The plane in which shifts differ most, by how they act: R, W and b may differ where Rᵀ((W − R)x + b) does not.

    Args:
        shared: The collective second shift, [layers, r, d].
        own: Each user's own, of any rank, and its strength.
    """
    strength = torch.tensor([1.0, *(one for _, one in own)], dtype=torch.float64)
    alike = _likeness([shared, *(shift for shift, _ in own)])
    # What acts is strength · own + (1 − strength) · shared.
    acting = torch.diag(strength)
    acting[:, 0] += 1 - strength
    alike = acting @ alike @ acting.T
    largest = float(alike.diagonal().max())
    middle = alike - alike.mean(0, keepdim=True)
    middle = middle - middle.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(middle)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    total = float(values.sum())
    places = torch.zeros(len(strength), 2, dtype=torch.float64)
    if total <= _NOTHING * largest:
        return UserMap(places, 1.0)
    shown = min(2, len(values))
    places[:, :shown] = vectors[:, :shown] * values[:shown].sqrt()
    # Which way an axis points is chance; so that it is the same each time, its farthest point is on the positive side.
    far = places.gather(0, places.abs().argmax(0, keepdim=True))
    places = places * torch.where(far < 0, -1.0, 1.0)
    return UserMap(places / places.abs().max(), float(values[:shown].sum()) / total)


def _likeness(shifts: Sequence[Shift]) -> Tensor:
    """Inner products of the maps x ↦ Rᵀ((W − R)x + b), summed over layers, [shifts, shifts]."""
    number = torch.repeat_interleave(
        torch.arange(len(shifts)), torch.tensor([shift.R.shape[-2] for shift in shifts])
    )  # whose each row is
    found = torch.zeros(len(shifts), len(shifts), dtype=torch.float64)
    for layer in range(shifts[0].R.shape[0]):
        R = torch.cat([shift.R[layer] for shift in shifts])
        D = torch.cat([torch.cat([shift.D[layer], shift.b[layer, :, None]], dim=1) for shift in shifts])
        for begin in range(0, len(R), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            product = ((R[rows] @ R.T) * (D[rows] @ D.T)).double()
            summed = torch.zeros(len(product), len(shifts), dtype=torch.float64).index_add_(1, number, product)
            found.index_add_(0, number[rows], summed)
    return found


async def show_map(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """``GET /v1/map``: of those the key may act for, the first three hundred; of others not even how many there are."""
    from starlette.responses import JSONResponse

    return JSONResponse(await in_thread(lambda: _drawn(gateway, tenant), gateway.tending))


def _drawn(gateway: Gateway, tenant: Tenant) -> dict[str, Any]:
    users = [user for user in gateway.perfit.users() if tenant.acts_for(user)]
    there: list[str] = []
    own: list[tuple[Shift, float]] = []
    for user in users[:MOST_POINTS]:
        try:
            stored = gateway.people.stored(user)
        except UnknownUserError:  # erased since they were listed
            continue
        there.append(user)
        own.append((from_stored(stored.tensors), strength_of(stored.meta)))
    drawn = user_map(gateway.people.shared.shifts[1], own)
    # Plus nothing, for no minus zero.
    collective, *places = [{"x": round(x, 4) + 0.0, "y": round(y, 4) + 0.0} for x, y in drawn.places.tolist()]
    return {
        "object": "map",
        "points": [{"user": user, **place} for user, place in zip(there, places, strict=True)],
        "collective": collective,
        "held": round(drawn.held, 4),
        "more": len(users) > MOST_POINTS,
    }
