"""A list of tokens as text that can be shown: pieces of whole characters, each with how many tokens it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_UNFINISHED = "\ufffd"
_LONGEST = 16  # tokens of one piece: what never becomes a whole character is shown as what it is


@dataclass(frozen=True)
class TokenPiece:
    """Some letters of a text, and the tokens that make them.

    Attributes:
        text: The letters, blanks included; names of special tokens are shown.
        tokens: How many tokens they are; more than one where a character is made of several.
    """

    text: str
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"text": self.text, "tokens": self.tokens}


def token_pieces(tokenizer: Any, tokens: Sequence[int]) -> list[TokenPiece]:
    """The pieces of some tokens, in their order; all texts joined are what the tokens say."""
    found: list[TokenPiece] = []
    before: list[int] = []
    piece: list[int] = []
    for place, token in enumerate(tokens):
        piece.append(token)
        # Behind what stands before it: alone, many tokenizers leave its blank out.
        text = _text(tokenizer, [*before, *piece])[len(_text(tokenizer, before)) :]
        if text.endswith(_UNFINISHED) and len(piece) < _LONGEST and place + 1 < len(tokens):
            continue
        found.append(TokenPiece(text, len(piece)))
        before, piece = piece, []
    return found


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
