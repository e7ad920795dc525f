"""What ends an answer, and a row's own chance: what every way to make answers has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from perfit.backbone.model import Backbone


def end_tokens(backbone: Backbone, stop: Sequence[str]) -> frozenset[int]:
    """Tokens that end an answer: the base's own, and the control tokens among ``stop``.

    A control token's name never stands in a text: the token itself is what ends the answer.
    """
    tokenizer: Any = backbone.tokenizer
    own: Any = backbone.model.generation_config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id} - {None}
    if stop:
        ends |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.content in stop}
    return frozenset(ends)


def chance_of(seed: int, prompt: Sequence[int]) -> torch.Generator:
    """Random numbers that depend on the seed and the row's own prompt alone, never on the rows beside it."""
    text = " ".join(map(str, [seed, *prompt]))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
