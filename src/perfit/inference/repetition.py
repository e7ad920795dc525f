"""What was said is said less easily again: transformers' own rules, on each row's prompt and answer without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def repetition_of(penalty: float, ngram: int) -> Repetition | None:
    """What makes repeated tokens' scores smaller; None where nothing does."""
    return None if penalty == 1 and not ngram else Repetition(penalty, ngram)


class Repetition:
    """Scores of the next tokens, those that repeat made smaller.

    Args:
        penalty: Positive scores of tokens that the prompt or the answer holds are divided by it, negative ones multiplied
            (Keskar et al., 2019); 1 leaves them.
        ngram: So many tokens in a row never come twice in prompt and answer; 0 allows them.
    """

    def __init__(self, penalty: float, ngram: int):
        from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

        rules: list[Any] = [RepetitionPenaltyLogitsProcessor(float(penalty))] if penalty != 1 else []
        self._rules = LogitsProcessorList([*rules, *([NoRepeatNGramLogitsProcessor(ngram)] if ngram else [])])

    def __call__(self, scores: Tensor, said: Sequence[Sequence[int]]) -> Tensor:
        """Scores [rows, vocabulary], given the tokens of each row so far, its prompt included."""
        # Row by row: together they would be padded, and the padding counts as said.
        rows = [
            self._rules(torch.tensor([list(tokens)], device=scores.device), scores[row : row + 1])
            for row, tokens in enumerate(said)
        ]
        return torch.cat(rows)
