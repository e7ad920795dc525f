"""A row's own random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def chance_of(seed: int, prompt: Sequence[int]) -> torch.Generator:
    """Random numbers that depend on the seed and the row's own prompt alone, never on the rows beside it."""
    text = " ".join(map(str, [seed, *prompt]))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
