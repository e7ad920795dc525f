"""Tokens that end an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfit.backbone.model import Backbone


def end_tokens(backbone: Backbone, stop: Sequence[str] = ()) -> frozenset[int]:
    """The base's own ends, those of its generation settings and its tokenizer, and control tokens named as stop strings.

    A control token's name never stands in a text: the token itself is what ends the answer.
    """
    own: Any = backbone.model.generation_config.eos_token_id
    ends = {*(own if isinstance(own, list) else [own]), backbone.tokenizer.eos_token_id} - {None}
    if stop:
        ends |= {number for number, token in backbone.tokenizer.added_tokens_decoder.items() if token.content in stop}
    return frozenset(ends)
