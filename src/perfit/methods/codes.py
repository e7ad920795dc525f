"""Shifts by code: a bank of directions that everybody shares, and a few numbers for each user.

    D(c) = D₀ + Σₖ cₖ Dₖ,   b(c) = b₀ + Σₖ cₖ bₖ,   φ_c(x) = x + R₀ᵀ(D(c) x + b(c))

R₀, D₀ and b₀ are the shared second shift's; a code of zeros is that shift, and strength a is the code times a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import Shift, ShiftBank
from perfit.events import Listener
from perfit.training.choose import choose_runner
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow
from perfit.training.stages import bank_of
from perfit.training.summary import RowSummary


@dataclass
class Directions:
    """What codes mix.

    Attributes:
        shared: The shared second shift, [layers, r, d].
        D: [K, layers, r, d].
        b: [K, layers, r].
    """

    shared: Shift
    D: Tensor
    b: Tensor

    @classmethod
    def none_yet(cls, shared: Shift, count: int) -> Directions:
        """So many directions that change nothing."""
        return cls(shared, shared.R.new_zeros(count, *shared.D.shape), shared.b.new_zeros(count, *shared.b.shape))

    def bank(self, codes: Tensor) -> ShiftBank:
        """The shifts of some codes [n, K] in slots 1 to n, differentiable in codes and directions."""
        owners = codes.shape[0]
        D = self.shared.D + torch.einsum("nk,klrd->nlrd", codes, self.D)
        b = self.shared.b + torch.einsum("nk,klr->nlr", codes, self.b)
        R = self.shared.R.expand(owners + 1, *self.shared.R.shape)
        nothing = torch.zeros_like(D[:1]), torch.zeros_like(b[:1])
        return ShiftBank(Shift(R, R + torch.cat([nothing[0], D]), torch.cat([nothing[1], b])))


@dataclass(frozen=True)
class CodedOwners:
    """Owners whose second shift is that of their code.

    Attributes:
        first: The shared first shift, [layers, r, d].
        directions: What the codes mix.
        codes: [K] by owner.
    """

    first: Shift
    directions: Directions
    codes: Mapping[str, Tensor]

    def rows_of(
        self, users: Sequence[str], backbone: Backbone, layers: tuple[int, ...]
    ) -> tuple[TwoStageShift, list[tuple[int, int]]]:
        """As ``Owners.rows_of``."""
        slot = {user: place for place, user in enumerate(dict.fromkeys(users), start=1)}
        bank = self.directions.bank(torch.stack([self.codes[user] for user in slot]).to(self.directions.D))
        return TwoStageShift(layers, bank_of([self.first], backbone.device), bank), [(1, slot[user]) for user in users]


class CodedLoss:
    """Losses of rows under their owners' codes, by perfit's own engine: states below the edits are computed once.

    Args:
        backbone: The base.
        config: Layers, positions, lengths, engine.
        first: The shared first shift, [layers, r, d].
        owned: (owner's number, row) of every row that will be asked for.
        listener: Hears what was planned.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: PerFitConfig,
        first: Shift,
        owned: Sequence[tuple[int, TokenRow]],
        listener: Listener,
    ):
        rows = [row for _, row in owned]
        runner: Runner = choose_runner(backbone, config, RowSummary.of([rows]), listener).runner
        items = runner.prepare(rows)
        if any(runner.lead(item) for item in items):  # edits at the first tokens: what goes before them is not constant
            runner = PlainRunner(backbone, Positions.parse(config.positions))
            items = runner.prepare(rows)
        self._runner, self._layers, self._first = runner, config.layers, bank_of([first], backbone.device)
        self._of = {id(row): (owner, item) for (owner, row), item in zip(owned, items, strict=True)}
        self._held = rows  # while they live, their ids are theirs

    def __call__(self, rows: Sequence[TokenRow], directions: Directions, codes: Tensor) -> Tensor:
        """Negative log-likelihood of each row's answer, [rows], fp32.

        Args:
            rows: Some of the rows given at the start, the same objects.
            directions: The directions.
            codes: Of all owners, [owners, K].
        """
        found = [self._of[id(row)] for row in rows]
        owners = sorted({owner for owner, _ in found})
        slot = {owner: place for place, owner in enumerate(owners, start=1)}
        shift = TwoStageShift(self._layers, self._first, directions.bank(codes[owners]))
        return self._runner.answer_loss([item for _, item in found], [(1, slot[owner]) for owner, _ in found], shift)
