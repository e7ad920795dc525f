"""The shifts that a version names, read, held against its digests, and bounded before they come near a base."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from perfit.edits.shift import Shift, from_stored
from perfit.errors import BaseModelError, DamagedError
from perfit.serving.engine import Shifts
from perfit.serving.version import ShiftVersion
from perfit.store.collective_file import Collective
from perfit.store.digest import shift_digest

# A shift comes from a file that anybody may have made: one of enormous numbers would overflow a base in half precision.
MOST_STRETCH = 100.0  # of one layer: the Frobenius norm of W − R; shifts as they are trained stay below 10
MOST_OFFSET = 10_000.0  # the norm of b
_COLLECTIVES = 8


@dataclass(frozen=True)
class Loaded:
    """The shifts of one version, fp32 on the CPU, [layers, r, d] each.

    Attributes:
        first: The collective first shift.
        shared: The collective second shift, which the user's own stands in for.
        own: The user's own second shift; None for the collective alone.
    """

    version: ShiftVersion
    first: Shift
    shared: Shift
    own: Shift | None


class Loader:
    """Loads versions for an engine; for one thread.

    Args:
        shifts: Where from.
        layers: Number of edited layers.
        hidden_size: Width of the base.
    """

    def __init__(self, shifts: Shifts, layers: int, hidden_size: int):
        self._shifts, self._layers, self._width = shifts, layers, hidden_size
        self._collectives: OrderedDict[str, Collective] = OrderedDict()

    def load(self, version: ShiftVersion) -> Loaded:
        """The shifts of a version, and nobody else's.

        Raises:
            UnknownUserError: The version is not there any more.
            StoreError: What is there is damaged, or is not what the version names.
            BaseModelError: It does not fit the base.
        """
        first, shared = self._collective(version.collective).shifts
        own = None
        if version.personal is not None:
            stored = self._shifts.personal(version)
            if shift_digest(stored.tensors) != version.personal:
                raise DamagedError(
                    "a user's shift is not the one that was asked for; ask again with the present version"
                )
            own = self._checked(stored.tensors)
        return Loaded(version, first, shared, own)

    def _collective(self, digest: str) -> Collective:
        kept = self._collectives.get(digest)
        if kept is None:
            kept = self._shifts.collective(digest)
            if hashlib.sha256(kept.file).hexdigest() != digest:
                raise DamagedError("the collective shift is not the one that was asked for; restore it or train again")
            for shift in kept.shifts:
                self._check(shift.tensors() | {"D": shift.D})
            self._collectives[digest] = kept
            if len(self._collectives) > _COLLECTIVES:
                self._collectives.popitem(last=False)
        self._collectives.move_to_end(digest)
        return kept

    def _checked(self, tensors: Mapping[str, Tensor]) -> Shift:
        self._check(tensors)
        return from_stored(tensors)

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        layers, _, width = tensors["R"].shape
        if (layers, width) != (self._layers, self._width):
            raise BaseModelError(
                f"this shift is for {layers} layers of width {width}, this engine edits {self._layers} of {self._width}"
            )
        check_bounded(tensors)


def check_bounded(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a shift whose numbers could harm whoever is served beside it.

    Args:
        tensors: ``D`` [layers, r, d] and ``b`` [layers, r]; others must be finite.

    Raises:
        DamagedError: They are not finite, or larger than any training makes them.
    """
    wide = {name: tensor.detach().float() for name, tensor in tensors.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in wide.values()):
        raise DamagedError("a shift holds numbers that are not finite; personalise the user again")
    for name, norms, most in (
        ("W - R", wide["D"].flatten(1).norm(dim=1), MOST_STRETCH),
        ("b", wide["b"].norm(dim=1), MOST_OFFSET),
    ):
        if float(norms.max()) > most:
            raise DamagedError(
                f"a shift's {name} has norm {float(norms.max()):.3g}, more than {most:g}; personalise the user again"
            )
