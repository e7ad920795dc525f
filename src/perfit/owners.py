"""Whose shifts there are at one moment: what one call sees from its beginning to its end, whatever others train meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perfit.backbone.model import Backbone
from perfit.edits.edit_plan import IDENTITY, TwoStageShift
from perfit.edits.shift import Shift, ShiftBank, from_stored
from perfit.errors import StoreError
from perfit.pseudo_users import BASE, COLLECTIVE, PSEUDO_USERS
from perfit.store.collective_file import Collective
from perfit.store.personal import PersonalShifts
from perfit.strength import bank_with_strengths, strength_of
from perfit.training.stages import bank_of


@dataclass(frozen=True)
class Owners:
    """A collective shift and the personal ones that stand on it; replaced as one, never a part at a time.

    Attributes:
        shared: Both shared shifts; None before stage 1.
        personal: The users' own.
    """

    shared: Collective | None = None
    personal: PersonalShifts = field(default_factory=PersonalShifts)

    @property
    def collective(self) -> tuple[Shift, Shift] | None:
        """Both shared shifts, [layers, r, d] each, once there are any."""
        return self.shared.shifts if self.shared is not None else None

    def rows_of(
        self, users: Sequence[str], backbone: Backbone, layers: tuple[int, ...]
    ) -> tuple[TwoStageShift, list[tuple[int, int]]]:
        """Banks that hold the shifts of these users, and each row's slots in them.

        Raises:
            UnknownUserError: A user has no shift.
            StoreError: There is no collective shift yet, or a user's is damaged.
        """
        device = backbone.device
        named = list(dict.fromkeys(user for user in users if user not in PSEUDO_USERS))
        if self.collective is None and any(user != BASE for user in users):
            raise StoreError("there is no collective shift yet; call fit first, load a run, or ask for 'base'")
        if self.collective is None:
            empty = ShiftBank.empty(0, len(layers), 1, backbone.hidden_size, device=device)
            return TwoStageShift(layers, empty, empty), [IDENTITY] * len(users)
        first, second = self.collective
        own = [(from_stored(kept.tensors), strength_of(kept.meta)) for kept in map(self.personal.stored, named)]
        personal = bank_with_strengths(second, own, device)
        place = {BASE: IDENTITY, COLLECTIVE: (1, 1)} | {user: (1, n) for n, user in enumerate(named, start=2)}
        return TwoStageShift(layers, bank_of([first], device), personal), [place[user] for user in users]
