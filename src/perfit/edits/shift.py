"""The shift φ(x) = x + Rᵀ(Wx + b − Rx) (paper, Eq. 2), and a bank of them with a leading slot axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from perfit.errors import ConfigError

Init = Literal["identity", "loreft"]


@dataclass
class Shift:
    """Parameters of one shift or of a stack of them; every tensor may carry the same leading axes.

    Attributes:
        R: [..., r, d], rows orthonormal: R Rᵀ = I.
        W: [..., r, d].
        b: [..., r].
    """

    R: Tensor
    W: Tensor
    b: Tensor

    @property
    def D(self) -> Tensor:
        """W − R, [..., r, d]: the form that is applied and stored, one product instead of two."""
        return self.W - self.R

    def delta(self, x: Tensor) -> Tensor:
        """The intervention vector Rᵀ((W − R)x + b) for x [..., n, d]; computed and returned in the shift's dtype."""
        low = x.to(self.R.dtype) @ self.D.mT + self.b.unsqueeze(-2)
        change: Tensor = low @ self.R
        return change

    def __call__(self, x: Tensor) -> Tensor:
        """φ(x) for x [..., n, d], in x's dtype."""
        moved: Tensor = x + self.delta(x)
        return moved.to(x.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """R, W and b by name."""
        return {"R": self.R, "W": self.W, "b": self.b}

    def numel(self) -> int:
        """How many numbers it holds: 2rd + r per shift."""
        return self.R.numel() + self.W.numel() + self.b.numel()


def parameter_count(layers: int, rank: int, hidden_size: int, *, bias: bool = True) -> int:
    """Parameters of one stage: layers · (2·r·d + r). The paper's percentages leave the bias out (Tables 2 and 3)."""
    return layers * (2 * rank * hidden_size + (rank if bias else 0))


def retract(X: Tensor) -> Tensor:
    """The row-orthonormal factor of X [..., r, d] with positive triangular diagonal, batched (Cholesky QR).

    Continuous in X and the identity on matrices that are row-orthonormal already. Matrices whose Gram matrix is too
    ill-conditioned for Cholesky go through Householder QR instead.
    """
    factor, info = torch.linalg.cholesky_ex(X @ X.mT)
    Q: Tensor = torch.linalg.solve_triangular(factor, X, upper=False)
    # One more round takes the error from cond² · eps to eps.
    factor, again = torch.linalg.cholesky_ex(Q @ Q.mT)
    Q = torch.linalg.solve_triangular(factor, Q, upper=False)
    bad = (info != 0) | (again != 0)
    if bool(bad.any()):
        Q = torch.where(bad[..., None, None], thin_qr(torch.nan_to_num(X)), Q)
    return Q


def tangent(R: Tensor, step: Tensor) -> Tensor:
    """The part of a step [..., r, d] that keeps R Rᵀ = I to first order: step − sym(step Rᵀ) R.

    The rest would only be undone by the retraction, and by QR not without turning R's rows: a descending step could
    climb.
    """
    product = step @ R.mT
    kept: Tensor = step - ((product + product.mT) / 2) @ R
    return kept


def thin_qr(X: Tensor) -> Tensor:
    """The same factor as ``retract`` by thin Householder QR of Xᵀ; differentiable, and the twin that tests compare."""
    Q, T = torch.linalg.qr(X.mT, mode="reduced")
    sign = torch.where(T.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(X.dtype)
    rows: Tensor = (Q * sign.unsqueeze(-2)).mT
    return rows


def new_shift(
    shape: Sequence[int],
    *,
    init: Init = "identity",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Shift:
    """A fresh shift of ``shape`` (..., r, d): R random row-orthonormal.

    Args:
        init: "identity" starts at φ(x) = x exactly (W = R, b = 0); "loreft" draws W and b as LoReFT does
            (uniform in ±1/√d), so that φ starts as a random map.
        generator: Source of randomness on the CPU, so that all devices start alike.

    Raises:
        ConfigError: r > d, or an unknown init.
    """
    *lead, rank, width = shape
    if rank > width:
        raise ConfigError(f"rank: {rank} is larger than the hidden size {width}; choose at most {width}")
    R = thin_qr(torch.randn(*lead, rank, width, generator=generator, dtype=torch.float32))
    if init == "identity":
        W, b = R.clone(), torch.zeros(*lead, rank)
    elif init == "loreft":
        bound = width**-0.5
        W = (torch.rand(*lead, rank, width, generator=generator) * 2 - 1) * bound
        b = (torch.rand(*lead, rank, generator=generator) * 2 - 1) * bound
    else:
        raise ConfigError(f"init: {init!r} is unknown; choose identity or loreft")
    return Shift(*(tensor.to(device, dtype) for tensor in (R, W, b)))


class ShiftBank:
    """Shifts of many owners for all edited layers: R, W [slots, layers, r, d], b [slots, layers, r].

    Slot 0 is the identity and stays it; the others are given out by whoever holds the bank. Shifts are fp32
    whatever the base's dtype.
    """

    def __init__(self, shift: Shift):
        self.shift = shift

    @classmethod
    def empty(
        cls, slots: int, layers: int, rank: int, hidden_size: int, *, device: torch.device | str = "cpu"
    ) -> ShiftBank:
        """A bank of identity shifts with ``slots`` slots beside slot 0."""
        one = new_shift((1, layers, rank, hidden_size), generator=torch.Generator().manual_seed(0), device=device)
        return cls(Shift(*(t.repeat(slots + 1, *([1] * (t.dim() - 1))) for t in one.tensors().values())))

    @property
    def slots(self) -> int:
        """Number of slots, the identity included."""
        return self.shift.R.shape[0]

    @property
    def layers(self) -> int:
        """Number of edited layers."""
        return self.shift.R.shape[1]

    @property
    def rank(self) -> int:
        """Rank r of every shift."""
        return self.shift.R.shape[2]

    def get(self, slot: int) -> Shift:
        """A copy of one slot: [layers, r, d]."""
        return Shift(*(t[slot].detach().clone() for t in self.shift.tensors().values()))

    @torch.no_grad()
    def put(self, slot: int, shift: Shift) -> None:
        """Write one slot; slot 0 is refused, for it is the identity of every row without a user."""
        if slot == 0:
            raise ValueError("slot 0 is the identity and cannot be written")
        for mine, theirs in zip(self.shift.tensors().values(), shift.tensors().values(), strict=True):
            mine[slot] = theirs.to(mine)

    def at(self, layer: int, slots: Tensor) -> Shift:
        """Shifts of some slots at one edited layer (by its place in the bank): [len(slots), r, d]."""
        return Shift(*(t[:, layer].index_select(0, slots) for t in self.shift.tensors().values()))


@dataclass
class AffineEdit:
    """x ↦ x + Uᵀ(Vx + c): one map of rank r1 + r2 that equals both stages. U, V: [..., r1+r2, d], c: [..., r1+r2]."""

    U: Tensor
    V: Tensor
    c: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The edited x [..., n, d]."""
        low = x.to(self.U.dtype) @ self.V.mT + self.c.unsqueeze(-2)
        return (x + low @ self.U).to(x.dtype)


def fold(first: Shift, second: Shift) -> AffineEdit:
    """Both stages as one affine map: φ₂(φ₁(x)) = x + [R₁; R₂]ᵀ([D₁; D₂(I + R₁ᵀD₁)]x + [b₁; b₂ + D₂R₁ᵀb₁])."""
    D1, D2 = first.D, second.D
    V2 = D2 + (D2 @ first.R.mT) @ D1
    c2 = second.b + ((D2 @ first.R.mT) @ first.b.unsqueeze(-1)).squeeze(-1)
    return AffineEdit(
        U=torch.cat([first.R, second.R], dim=-2), V=torch.cat([D1, V2], dim=-2), c=torch.cat([first.b, c2], dim=-1)
    )


def from_stored(tensors: Mapping[str, Tensor], *, device: torch.device | str = "cpu") -> Shift:
    """A shift from its stored form R, D = W − R, b in any dtype; R is made orthonormal again in fp32.

    D is stored instead of W because bf16 keeps a small difference far better than the difference of two large
    numbers: a shift near the identity stays near it.
    """
    R = retract(tensors["R"].to(device, torch.float32))
    return Shift(R=R, W=R + tensors["D"].to(device, torch.float32), b=tensors["b"].to(device, torch.float32))


def to_stored(shift: Shift) -> dict[str, Tensor]:
    """The stored form of a shift: R, D = W − R, b, detached on the CPU."""
    return {name: t.detach().cpu().contiguous() for name, t in (("R", shift.R), ("D", shift.D), ("b", shift.b))}


def blended(shared: Shift, own: Shift, strength: float) -> Shift:
    """The map x + (1 − a) δ_shared(x) + a δ_own(x): from the shared shift towards a user's own, as one of rank 2r.

    Its R holds both bases, which are orthonormal each and not together: it is for use, not for training.

    Args:
        shared, own: [..., r, d].
        strength: a, from 0 (the shared shift) to 1 (the user's own).
    """
    R = torch.cat([shared.R, own.R], dim=-2)
    D = torch.cat([(1 - strength) * shared.D, strength * own.D], dim=-2)
    return Shift(R, R + D, torch.cat([(1 - strength) * shared.b, strength * own.b], dim=-1))
