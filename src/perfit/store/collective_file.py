"""Both shared shifts at rest: the one form in which runs and comparisons keep stage 1."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from perfit.durable.tensors import from_bytes, to_bytes
from perfit.edits.shift import Shift, from_stored, to_stored

_STAGES = ("first", "second")


@dataclass(frozen=True)
class Collective:
    """Both shared shifts and their file form.

    Attributes:
        file: The bytes of ``collective.safetensors``.
        shifts: [layers, r, d] each, fp32, on the CPU.
    """

    file: bytes
    shifts: tuple[Shift, Shift]

    @classmethod
    def of_file(cls, content: bytes) -> Collective:
        """Read back from a file, so that every later use has the same numbers.

        Raises:
            KeyError, ValueError, RuntimeError: It is no such file.
        """
        return cls(content, collective_shifts(from_bytes(content)))

    @classmethod
    def of_shifts(cls, shifts: tuple[Shift, Shift]) -> Collective:
        """These very shifts, with the file they would be kept in."""
        return cls(encode_collective(shifts), shifts)

    @property
    def digest(self) -> str:
        """SHA-256 over the tensors alone: a comparison's file says beside them how long they took."""
        return hashlib.sha256(to_bytes(from_bytes(self.file))).hexdigest()


def encode_collective(shifts: tuple[Shift, Shift]) -> bytes:
    """Both shared shifts as the bytes of ``collective.safetensors``."""
    return to_bytes(collective_tensors(shifts))


def collective_tensors(shifts: tuple[Shift, Shift]) -> dict[str, Tensor]:
    """``first.R/D/b`` and ``second.R/D/b``, [layers, r, d] and [layers, r], in fp32: stage 2 starts from them."""
    return {
        f"{stage}.{name}": tensor
        for stage, shift in zip(_STAGES, shifts, strict=True)
        for name, tensor in to_stored(shift).items()
    }


def collective_shifts(tensors: Mapping[str, Tensor]) -> tuple[Shift, Shift]:
    """The inverse of ``collective_tensors``, R orthonormal again.

    Raises:
        KeyError: A tensor is missing.
    """
    first, second = (from_stored({name: tensors[f"{stage}.{name}"] for name in ("R", "D", "b")}) for stage in _STAGES)
    return first, second
