"""Many requests at once, each edited by its own user's shifts, on transformers' continuous batching."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.edits.shift import Shift
from perfit.errors import BaseModelError
from perfit.serving.answer import Answer, choose, not_finite
from perfit.serving.bank import ResidentBank
from perfit.serving.block_keys import Edits
from perfit.serving.continuous import Pages, Paging
from perfit.serving.engine import Stats
from perfit.serving.loading import Loaded
from perfit.serving.packed import PackedEdits, Piece, Slots
from perfit.serving.version import ShiftVersion

_COLLECTIVES = 8  # of several runs on one base, resident beside the requests' own


@dataclass
class _Row:
    answer: Answer
    slots: Slots
    pinned: tuple[tuple[ResidentBank, Hashable], ...]
    begun: bool = False


class Batched:
    """Answers many requests together, a forward a step.

    Args:
        backbone: The base; it is shared with a copy that runs, and stays as it is.
        layers: Edited layers.
        ranks: Largest rank of a first and of a second shift.
        resident: How many users' shifts stay resident; at least what one batch needs.
        paging: How much at a time.
    """

    name = "transformers"

    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...],
        ranks: tuple[int, int],
        *,
        resident: int = 256,
        paging: Paging | None = None,
    ):
        paging = paging if paging is not None else Paging()
        self.layers, self._pages = layers, Pages(backbone, paging)
        size = (len(layers), backbone.hidden_size, backbone.device)
        # Each request in flight needs one first shift, and one or two second ones: no request ever waits for a slot.
        self._firsts = ResidentBank(paging.rows + _COLLECTIVES, size[0], ranks[0], *size[1:])
        self._seconds = ResidentBank(
            max(resident, paging.rows) + paging.rows + _COLLECTIVES, size[0], ranks[1], *size[1:]
        )
        self._most = paging.rows
        self._rows: dict[str, _Row] = {}

    @property
    def capacity(self) -> int:
        """Tokens of prompt and answer that one request may have."""
        return self._pages.capacity

    def room(self) -> bool:
        """Whether another request may begin."""
        return len(self._rows) < self._most

    def holds(self, version: ShiftVersion) -> bool:
        """Whether its shifts are resident and need not be loaded."""
        return all(key in bank for bank, key in self._needs(version))

    def begin(self, answer: Answer, loaded: Loaded | None) -> None:
        """Take a request in; ``loaded`` may be None where ``holds`` is True.

        Raises:
            BaseModelError: Its shifts are of a larger rank than there is room for.
        """
        request = answer.request
        slots, pinned = (Slots(), ()) if request.who is None else self._pinned(request.who, loaded)
        self._rows[request.id] = _Row(answer, slots, pinned)
        self._pages.add(request.id, request.prompt, edits_of(answer))

    @torch.no_grad()
    def step(self) -> None:
        """One forward of whatever is in flight."""
        running = self._pages.prepare()
        if not running:
            return
        rows = [self._rows[one.id] for one in running]
        pieces = [
            Piece(one.start, one.count, row.answer.edited, row.slots) for one, row in zip(running, rows, strict=True)
        ]
        edits = PackedEdits(pieces, self.layers, self._firsts.bank, self._seconds.bank)
        backbone = self._pages.backbone
        changes = {backbone.output_of(layer): partial(edits.edit, layer=layer) for layer in self.layers}
        for one, row in zip(running, rows, strict=True):
            if not row.begun:  # what was there already counts when it begins, not when it comes back
                row.begun, row.answer.cached = True, one.start
        asked = [self._rows[request].answer for request in self._pages.asked()]

        def next_tokens(logits: Tensor) -> Sequence[int]:
            return choose(logits, asked)

        unsound = self._pages.forward(changes if edits.any else {}, next_tokens)
        for request in unsound:
            self._rows[request].answer.finish("error", not_finite())
        for request in [one.id for one in running if self._rows[one.id].answer.finished]:
            self._leave(request, keep=request not in unsound)

    def end(self, answer: Answer) -> None:
        """Leave a request that is in flight."""
        if self._rows.get(answer.request.id) is not None:
            self._leave(answer.request.id)

    def forget(self, tenant: str, user: str) -> int:
        """Wipe the shifts of a user who has no request in flight, and every page that nobody uses now."""
        wiped = self._seconds.wipe(
            lambda key: isinstance(key, ShiftVersion) and (key.tenant, key.user) == (tenant, user)
        )
        self._pages.wipe()
        return wiped

    def reset(self) -> None:
        """Leave everything, after a fault."""
        for request in list(self._rows):
            self._leave(request, keep=False)
        self._pages.reset()

    def stats(self) -> Stats:
        """How the bank stands."""
        banks = (self._firsts, self._seconds)
        return Stats(
            slots=sum(bank.bank.slots - 1 for bank in banks),
            resident=sum(map(len, banks)),
            pinned=sum(bank.pinned for bank in banks),
            loads=sum(bank.loads for bank in banks),
            evictions=sum(bank.evictions for bank in banks),
        )

    def _leave(self, request: str, *, keep: bool = True) -> None:
        row = self._rows.pop(request)
        for bank, key in row.pinned:
            bank.unpin(key)
        self._pages.end(request, keep=keep)

    def _needs(self, version: ShiftVersion) -> list[tuple[ResidentBank, Hashable]]:
        """What a version's rows use, in the order first, second, shared."""
        needed: list[tuple[ResidentBank, Hashable]] = [(self._firsts, version.collective)]
        if version.personal is not None:
            needed.append((self._seconds, version))
        if version.personal is None or version.strength != 1:
            needed.append((self._seconds, version.collective))
        return needed

    def _pinned(
        self, version: ShiftVersion, loaded: Loaded | None
    ) -> tuple[Slots, tuple[tuple[ResidentBank, Hashable], ...]]:
        pinned: list[tuple[ResidentBank, Hashable]] = []
        slots: list[int] = []
        try:
            for bank, key in self._needs(version):
                slots.append(bank.pin(key, None if loaded is None else self._part(bank, key, loaded)))
                pinned.append((bank, key))
        except BaseException:
            for bank, key in pinned:
                bank.unpin(key)
            raise
        strength = 1.0 if version.personal is None else version.strength
        return Slots(slots[0], slots[1], slots[-1] if strength != 1 else 0, strength), tuple(pinned)

    def _part(self, bank: ResidentBank, key: Hashable, loaded: Loaded) -> Shift:
        shift = loaded.first if bank is self._firsts else loaded.own if key == loaded.version else loaded.shared
        assert shift is not None
        if shift.R.shape[-2] > bank.bank.rank:
            raise BaseModelError(
                f"this shift has rank {shift.R.shape[-2]}, this engine has room for {bank.bank.rank}; open it for that rank"
            )
        return shift


def edits_of(answer: Answer) -> Edits:
    """What decides the keys and values of an answer's prompt, beside its tokens."""
    who = answer.request.who
    if who is None:
        return Edits(answer.request.tenant, "", ())
    return Edits(who.tenant, who.digest, answer.edited)
