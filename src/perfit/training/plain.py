"""The plain runner: the whole model, every token, every step, edits by hooks. Slow, short, and the measure of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import padded
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.training.lead import Lead
from perfit.training.memory import logit_bytes, token_bytes
from perfit.training.rows import Slots, TokenRow, label_places, row_loss


class PlainRunner:
    """Runs steps through ``backbone.logits``; see ``Runner``."""

    def __init__(self, backbone: Backbone, positions: Positions):
        self.backbone, self.positions = backbone, positions

    def prepare(self, rows: Sequence[TokenRow], done: Any = None) -> list[TokenRow]:
        """Nothing is computed ahead."""
        if done is not None:
            done(len(rows))
        return list(rows)

    def width(self, item: TokenRow) -> int:
        """The whole sequence runs."""
        return len(item.input_ids)

    def lead(self, item: TokenRow) -> int:
        """Nothing runs for several items at once."""
        return 0

    def lead_bytes(self) -> int:
        """Nothing is kept for it."""
        return 0

    def run_lead(self, owners: Sequence[Slots], shift: TwoStageShift) -> Lead:
        """Nobody has one."""
        return Lead((), {})

    def step_bytes(self, item: TokenRow) -> int:
        """What backward keeps of its tokens, and logits of all of them."""
        layers = len(self.backbone.layers)
        return self.width(item) * (token_bytes(self.backbone, layers) + logit_bytes(self.backbone))

    def size(self, row: TokenRow) -> int:
        """Nothing but the tokens is held."""
        return 0

    def answer_loss(
        self, items: Sequence[TokenRow], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None = None
    ) -> Tensor:
        """See ``Runner.answer_loss``."""
        device = self.backbone.device
        ids, mask = padded([item.input_ids for item in items], device)
        lengths = [len(item.prompt_ids) for item in items]
        plan = EditPlan.for_prompts(self.positions, lengths, slots, device=device)
        logits = self.backbone.logits(ids, mask, plan, shift)
        rows, columns, labels = label_places([n - 1 for n in lengths], [item.answer_ids for item in items], device)
        return row_loss(logits[rows, columns], labels, rows, len(items))
