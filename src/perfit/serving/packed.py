"""The edits of one forward whose tokens stand in one row, pieces of many requests one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.edits.edit_plan import SlotGroups
from perfit.edits.shift import ShiftBank


@dataclass(frozen=True)
class Slots:
    """Where one request's shifts lie.

    Attributes:
        first: In the bank of first shifts.
        second: In the bank of second shifts: the user's own, or the shared one.
        shared: In the bank of second shifts: the shared one, where ``strength`` is less than 1.
        strength: How far from the shared second shift (0) to ``second`` (1).
    """

    first: int = 0
    second: int = 0
    shared: int = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Piece:
    """The tokens of one request that run now.

    Attributes:
        start: How many tokens of the request came before.
        count: How many run.
        edited: Positions of the request's prompt that are edited, ascending.
        slots: Whose shifts.
    """

    start: int
    count: int
    edited: Sequence[int]
    slots: Slots


class PackedEdits:
    """Which of the packed tokens are edited, and by which slots; made anew for each forward.

    Args:
        pieces: In the order in which their tokens stand.
        layers: Edited layers.
        first, second: The banks.
    """

    def __init__(self, pieces: Sequence[Piece], layers: tuple[int, ...], first: ShiftBank, second: ShiftBank):
        self._layers, self._first, self._second = layers, first, second
        places, slots, begin = [], [], 0
        for piece in pieces:
            here = [position - piece.start for position in piece.edited]
            mine = [begin + place for place in here if 0 <= place < piece.count]
            places += mine
            slots += [piece.slots] * len(mine)
            begin += piece.count
        self.any = bool(places)
        if not self.any:  # as in every step that no prompt is part of
            return
        device = first.shift.R.device
        self._places = torch.tensor(places, dtype=torch.long, device=device)
        self._groups = [
            SlotGroups.of([one.first for one in slots], device),
            SlotGroups.of([one.second for one in slots], device),
        ]
        self._shared: SlotGroups | None = None
        if any(one.strength != 1 for one in slots):
            self._shared = SlotGroups.of([one.shared for one in slots], device)
            self._strength = torch.tensor([one.strength for one in slots], device=device)[:, None, None]

    def edit(self, hidden: Tensor, layer: int) -> Tensor:
        """The output of one layer with its edits; new states, or ``hidden`` itself when nothing is edited.

        Args:
            hidden: [1, tokens, d], any float dtype.
            layer: One of the edited layers.
        """
        if not self.any:
            return hidden
        place = self._layers.index(layer)
        first, second = self._groups
        x = hidden[0].index_select(0, self._places).unsqueeze(1).to(self._first.shift.R.dtype)
        one = first.delta(self._first.at(place, first.slots), x)
        two = second.delta(self._second.at(place, second.slots), x + one)
        if self._shared is not None:
            other = self._shared.delta(self._second.at(place, self._shared.slots), x + one)
            two = self._strength * two + (1 - self._strength) * other
        change = (one + two).squeeze(1).to(hidden.dtype)
        return hidden.index_add(1, self._places, change.unsqueeze(0))
