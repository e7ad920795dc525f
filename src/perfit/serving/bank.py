"""Shifts of the users who are served now, resident beside the base: a slot each, the least recently used leaves first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch

from perfit.edits.shift import Shift, ShiftBank


@dataclass
class _Resident:
    slot: int
    users: int = 0  # requests in flight that use it


class ResidentBank:
    """R, W [slots + 1, layers, r, d] and b, given out by key; for the one thread that owns the base.

    Slot 0 is the identity of every row that has no shift. A slot that is free holds zeros, which is the identity too: a
    slot that is used by mistake edits nothing, and never as somebody who was there before.

    Args:
        slots: How many shifts are resident at most.
        layers, rank, hidden_size: Their sizes; shifts of a smaller rank are filled up with zeros.
        device: Where the base computes.

    Attributes:
        loads, evictions: Since the beginning.
    """

    def __init__(self, slots: int, layers: int, rank: int, hidden_size: int, device: torch.device | str = "cpu"):
        made = torch.zeros(slots + 1, layers, rank, hidden_size, device=device)
        self.bank = ShiftBank(Shift(made, made.clone(), torch.zeros(slots + 1, layers, rank, device=device)))
        self.loads = self.evictions = 0
        self._free = list(range(slots, 0, -1))
        self._resident: OrderedDict[Hashable, _Resident] = OrderedDict()  # least recently used first

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is resident now."""
        return key in self._resident

    def __len__(self) -> int:
        """How many are resident."""
        return len(self._resident)

    @property
    def pinned(self) -> int:
        """How many are in use by requests in flight."""
        return sum(resident.users > 0 for resident in self._resident.values())

    def pin(self, key: Hashable, shift: Shift | None) -> int:
        """The slot of a shift, which stays in it until as many ``unpin`` were called.

        Args:
            key: What the shift is known by; it must change whenever the shift does.
            shift: [layers, r, d]; not read where the key is resident.

        Raises:
            LookupError: It is neither resident nor given, or every slot is in use.
        """
        resident = self._resident.get(key)
        if resident is None:
            if shift is None:
                raise LookupError("this shift is not resident")
            resident = self._resident[key] = _Resident(self._vacant())
            self._write(resident.slot, shift)
            self.loads += 1
        resident.users += 1
        self._resident.move_to_end(key)
        return resident.slot

    def unpin(self, key: Hashable) -> None:
        """One request less uses it; it stays resident until its slot is needed."""
        self._resident[key].users -= 1

    def wipe(self, chosen: Callable[[Hashable], bool]) -> int:
        """Zero the slots of chosen keys, none of which may be in use; how many there were."""
        going = [key for key in self._resident if chosen(key)]
        for key in going:
            if self._resident[key].users:
                raise LookupError("a shift in use cannot be wiped")
            self._drop(key)
        return len(going)

    def _vacant(self) -> int:
        if not self._free:
            oldest = next((key for key, resident in self._resident.items() if not resident.users), None)
            if oldest is None:
                raise LookupError("every slot is in use")
            self._drop(oldest)
            self.evictions += 1
        return self._free.pop()

    def _drop(self, key: Hashable) -> None:
        slot = self._resident.pop(key).slot
        for tensor in self.bank.shift.tensors().values():
            tensor[slot] = 0
        self._free.append(slot)

    def _write(self, slot: int, shift: Shift) -> None:
        rank = shift.R.shape[-2]
        for mine, theirs in zip(self.bank.shift.tensors().values(), shift.tensors().values(), strict=True):
            mine[slot, :, :rank] = theirs.to(mine)
