"""Which (row, position) of a forward gets which slots: the one thing every runner shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank

IDENTITY = (0, 0)


@dataclass(frozen=True)
class SlotGroups:
    """Rows of a batch gathered by slot, so that each slot's matrices are used once and never copied per row.

    Attributes:
        slots: [g] distinct slots.
        members: [g, m] rows of each; short groups repeat their own first row, never another slot's.
        group, place: [rows] where each row stands in ``members``.
        in_order: Whether the rows already stand group by group, all groups of one size.
    """

    slots: Tensor
    members: Tensor
    group: Tensor
    place: Tensor
    in_order: bool

    @classmethod
    def of(cls, slots: Sequence[int], device: torch.device | str = "cpu") -> SlotGroups:
        """Group rows by their slot."""
        rows_of: dict[int, list[int]] = {}
        place = []
        for row, slot in enumerate(slots):
            rows = rows_of.setdefault(slot, [])
            place.append(len(rows))
            rows.append(row)
        widest = max(map(len, rows_of.values()), default=0)
        order = {slot: index for index, slot in enumerate(rows_of)}
        members = [rows + rows[:1] * (widest - len(rows)) for rows in rows_of.values()]
        return cls(
            slots=torch.tensor(list(rows_of), dtype=torch.long, device=device),
            members=torch.tensor(members, dtype=torch.long, device=device).reshape(len(rows_of), widest),
            group=torch.tensor([order[slot] for slot in slots], dtype=torch.long, device=device),
            place=torch.tensor(place, dtype=torch.long, device=device),
            in_order=[row for rows in members for row in rows] == list(range(len(place))),
        )

    @classmethod
    def of_owners(cls, slots: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> SlotGroups:
        """Group rows by both slots; ``slots`` of the result number the pairs in order of appearance."""
        number = {pair: n for n, pair in enumerate(dict.fromkeys(slots))}
        return cls.of([number[pair] for pair in slots], device)

    def firsts(self) -> list[int]:
        """The first row of each group."""
        first: list[int] = self.members[:, 0].tolist()
        return first

    def gather(self, x: Tensor) -> Tensor:
        """Rows [rows, ...] by group, [g, m, ...]; a view where they stand in that order already."""
        g, m = self.members.shape
        if self.in_order:
            return x.view(g, m, *x.shape[1:])
        return x.index_select(0, self.members.flatten()).view(g, m, *x.shape[1:])

    def scatter(self, x: Tensor) -> Tensor:
        """The inverse of ``gather``: [g, m, ...] to [rows, ...], the repeated members left out."""
        g, m = self.members.shape
        flat = x.reshape(g * m, *x.shape[2:])
        return flat if self.in_order else flat.index_select(0, self.group * m + self.place)

    def delta(self, shift: Shift, x: Tensor) -> Tensor:
        """Each row's intervention vector.

        Args:
            shift: Shifts of ``self.slots``: R, W [g, r, d], b [g, r].
            x: [rows, p, d].

        Returns:
            [rows, p, d] in the shift's dtype.
        """
        _, p, d = x.shape
        if len(self.slots) == 1:
            return Shift(shift.R[0], shift.W[0], shift.b[0]).delta(x)
        grouped = self.gather(x).reshape(len(self.slots), -1, d)
        return self.scatter(shift.delta(grouped).view(len(self.slots), -1, p, d))


@dataclass(frozen=True)
class EditPlan:
    """The edits of one batch, in the coordinates of its padded rows.

    Attributes:
        positions: [rows, p] edited positions; -1 marks a row with fewer.
        slots: Per row its (collective slot, personal slot); (0, 0) is the untouched base.
        groups: The rows grouped by collective slot and by personal slot.
        first, last: The smallest and largest edited position, so that a step after the prompt costs nothing.
    """

    positions: Tensor
    slots: tuple[tuple[int, int], ...]
    groups: tuple[SlotGroups, SlotGroups]
    first: int
    last: int

    @classmethod
    def build(
        cls,
        where: Sequence[Sequence[int]],
        slots: Sequence[tuple[int, int]],
        device: torch.device | str = "cpu",
    ) -> EditPlan:
        """A plan from explicit positions per row. Rows of the untouched base get no position at all."""
        kept = [() if pair == IDENTITY else tuple(row) for row, pair in zip(where, slots, strict=True)]
        width = max(map(len, kept), default=0)
        padded = [[*row, *([-1] * (width - len(row)))] for row in kept]
        flat = [position for row in kept for position in row]
        return cls(
            positions=torch.tensor(padded, dtype=torch.long, device=device).reshape(len(kept), width),
            slots=tuple(slots),
            groups=(
                SlotGroups.of([pair[0] for pair in slots], device),
                SlotGroups.of([pair[1] for pair in slots], device),
            ),
            first=min(flat, default=0),
            last=max(flat, default=-1),
        )

    @classmethod
    def for_prompts(
        cls,
        rule: Positions,
        lengths: Sequence[int],
        slots: Sequence[tuple[int, int]],
        *,
        starts: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> EditPlan:
        """A plan for padded prompts.

        Args:
            rule: Which prompt tokens are edited.
            lengths: Prompt tokens of each row, without padding and without answer.
            slots: (collective slot, personal slot) of each row.
            starts: Where each row's prompt begins in its padded row; zeros (right padding) when not given.
        """
        begin = starts if starts is not None else [0] * len(lengths)
        where = [[start + i for i in rule.of(n)] for start, n in zip(begin, lengths, strict=True)]
        return cls.build(where, slots, device)

    def repeated(self, times: int) -> EditPlan:
        """The plan of a batch whose every row is repeated ``times`` in place (beams, several samples)."""
        if times == 1:
            return self
        where = [[p for p in row if p >= 0] for row in self.positions.tolist() for _ in range(times)]
        return EditPlan.build(where, [pair for pair in self.slots for _ in range(times)], self.positions.device)


@dataclass
class TwoStageShift:
    """Φ = φ_personal ∘ φ_collective (paper, Eq. 1) at some layers, for batches whose rows have different owners.

    Attributes:
        layers: Edited layers: the output of the base's decoder layer with this zero-based index.
        collective, personal: Banks over ``len(layers)`` layers.
    """

    layers: tuple[int, ...]
    collective: ShiftBank
    personal: ShiftBank

    def edit(self, hidden: Tensor, layer: int, plan: EditPlan, offset: int = 0) -> Tensor:
        """Edit the output of one layer.

        Args:
            hidden: [rows, t, d] states of positions offset .. offset + t − 1, any float dtype.
            layer: Index of the decoder layer that put them out; it must be one of ``layers``.
            plan: Where and for whom.
            offset: Positions that came before in this sequence (KV cache, chunked prefill).

        Returns:
            New states of the same shape and dtype; ``hidden`` itself when nothing in it is edited.
        """
        _, length, width = hidden.shape
        if plan.last < offset or plan.first >= offset + length:
            return hidden
        local = plan.positions - offset
        inside = (plan.positions >= 0) & (local >= 0) & (local < length)
        index = torch.where(inside, local, 0).unsqueeze(-1).expand(-1, -1, width)
        x = hidden.gather(1, index).to(self.collective.shift.R.dtype)
        place = self.layers.index(layer)
        collective, personal = plan.groups
        first = collective.delta(self.collective.at(place, collective.slots), x)
        second = personal.delta(self.personal.at(place, personal.slots), x + first)
        change = torch.where(inside.unsqueeze(-1), first + second, 0.0).to(hidden.dtype)
        return hidden.scatter_add(1, index, change)
