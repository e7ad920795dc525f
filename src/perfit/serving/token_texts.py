"""Tokens as the API shows them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenTexts:
    """The text of single tokens.

    Args:
        tokenizer: Whose.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        @lru_cache(maxsize=1 << 16)
        def text_of(token: int) -> str:
            return str(tokenizer.decode([token]))

        self._text_of = text_of

    def __call__(self, token: int) -> str:
        """What a token adds to a text; a sign of replacement where it is a part of a character."""
        return self._text_of(token)

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        """A token in the form of chat's logprobs."""
        text = self(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
