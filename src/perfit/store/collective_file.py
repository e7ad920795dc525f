"""Both shared shifts as named tensors: the one form in which runs and comparisons keep stage 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from perfit.shift import Shift

_STAGES = ("first", "second")


def collective_tensors(shifts: tuple[Shift, Shift]) -> dict[str, Tensor]:
    """``first.R/D/b`` and ``second.R/D/b``, [layers, r, d] and [layers, r], in fp32: stage 2 starts from them."""
    from perfit.shift import to_stored

    return {
        f"{stage}.{name}": tensor
        for stage, shift in zip(_STAGES, shifts, strict=True)
        for name, tensor in to_stored(shift).items()
    }


def collective_shifts(tensors: Mapping[str, Tensor], *, device: Any = "cpu") -> tuple[Shift, Shift]:
    """The inverse of ``collective_tensors``, R orthonormal again.

    Raises:
        KeyError: A tensor is missing.
    """
    from perfit.shift import from_stored

    first, second = (
        from_stored({name: tensors[f"{stage}.{name}"] for name in ("R", "D", "b")}, device=device) for stage in _STAGES
    )
    return first, second
