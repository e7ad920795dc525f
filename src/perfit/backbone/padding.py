"""Rows of unequal length as one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def padded(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids [rows, t] padded on the right with 0, and their mask."""
    width = max(map(len, sequences))
    ids = torch.tensor([[*s, *([0] * (width - len(s)))] for s in sequences], device=device)
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences], device=device)
    return ids, mask


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """Prompts [rows, t] padded on the left with 0, their mask, and where each begins."""
    width = max(map(len, prompts))
    starts = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[0] * start + list(p) for start, p in zip(starts, prompts, strict=True)], device=device)
    mask = torch.tensor([[0] * start + [1] * len(p) for start, p in zip(starts, prompts, strict=True)], device=device)
    return ids, mask, starts


def places(mask: Tensor) -> Tensor:
    """Which token of its own row each one is, [rows, t], as position ids; 0 on padding in front."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that all sequences begin with."""
    if not sequences:
        return 0
    low, high = min(map(tuple, sequences)), max(map(tuple, sequences))
    return next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
