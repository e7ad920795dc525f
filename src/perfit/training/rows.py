"""What every runner of a training step agrees on: tokenised examples in, one loss per row out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from perfit.backbone.padding import common_length
from perfit.edits.edit_plan import TwoStageShift
from perfit.errors import DataError

if TYPE_CHECKING:
    from perfit.training.lead import Lead

Slots = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One training example as tokens: the loss is on the answer alone, its closing eos included.

    Raises:
        DataError: Prompt or answer has no tokens: there would be nothing to edit or to learn, and a mean over nothing.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.answer_ids:
            raise DataError(
                f"a training row has {len(self.prompt_ids)} prompt and {len(self.answer_ids)} answer tokens",
                remedy="leave out rows without prompt or answer",
            )

    @property
    def input_ids(self) -> tuple[int, ...]:
        """What the model reads: prompt and answer, without the last answer token, which is only predicted."""
        return (*self.prompt_ids, *self.answer_ids[:-1])


class Runner(Protocol):
    """One way to run training steps. All runners give equal losses and gradients; they differ in what they redo."""

    def prepare(self, rows: Sequence[TokenRow], done: Any = None) -> list[Any]:
        """Whatever can be computed once per row; ``done(n)`` is called as rows get ready."""
        ...

    def width(self, item: Any) -> int:
        """Tokens a step runs for this item."""
        ...

    def lead(self, item: Any) -> int:
        """Tokens before them that a step runs once for all items of one owner."""
        ...

    def lead_bytes(self) -> int:
        """Bytes that one owner's lead keeps until the end of its owner's forwards."""
        ...

    def run_lead(self, owners: Sequence[Slots], shift: TwoStageShift) -> Lead:
        """The leads of some owners, for ``answer_loss``; its ``backward`` comes after that of all their losses."""
        ...

    def step_bytes(self, item: Any) -> int:
        """Bytes that a step lays out for this item beside the tokens it runs."""
        ...

    def size(self, row: TokenRow) -> int:
        """Bytes that preparing this row will hold."""
        ...

    def answer_loss(
        self, items: Sequence[Any], slots: Sequence[Slots], shift: TwoStageShift, lead: Lead | None = None
    ) -> Tensor:
        """Negative log-likelihood summed over each row's answer tokens, [rows], fp32, differentiable in the shift.

        Args:
            items: What ``prepare`` gave.
            slots: (collective slot, personal slot) of each.
            shift: Both banks.
            lead: That of the items' owners; without it, leads run within.
        """
        ...


def label_places(starts: Sequence[int], answers: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Where answers are predicted: rows [n], columns [n] and labels [n]; ``starts`` is each row's last prompt token."""
    rows = [row for row, answer in enumerate(answers) for _ in answer]
    columns = [start + step for start, answer in zip(starts, answers, strict=True) for step in range(len(answer))]
    labels = [token for answer in answers for token in answer]
    return tuple(torch.tensor(values, dtype=torch.long, device=device) for values in (rows, columns, labels))


def row_loss(logits: Tensor, labels: Tensor, rows: Tensor, count: int) -> Tensor:
    """Cross entropy of logits [n, vocabulary] summed per row, [count], in fp32."""
    nll = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return torch.zeros(count, device=nll.device).index_add(0, rows, nll)


def common_prefix(rows: Sequence[TokenRow]) -> tuple[int, ...]:
    """Longest run of tokens that all prompts begin with."""
    return rows[0].prompt_ids[: common_length([row.prompt_ids for row in rows])] if rows else ()
