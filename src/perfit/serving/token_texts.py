"""Tokens as the API shows them."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNFINISHED = "\ufffd"
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # how SentencePiece names a token that is one byte


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
        self._tokenizer = tokenizer

    def __call__(self, token: int) -> str:
        """What a token adds to a text; of a part of a character, ``bytes:`` and its bytes, which tell it from others."""
        text = self._text_of(token)
        if _UNFINISHED not in text:
            return text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.bytes_of(token))

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token; those of a whole answer, joined, are its text."""
        text = self._text_of(token)
        if _UNFINISHED not in text:
            return text.encode()
        name = str(self._tokenizer.convert_ids_to_tokens(token))
        if _BYTE.fullmatch(name):
            return bytes([int(name[3:5], 16)])
        known = _bytes_by_letter()
        if all(letter in known for letter in name):
            return bytes(known[letter] for letter in name)
        return text.encode()

    def entry(self, token: int, logprob: float) -> dict[str, Any]:
        """A token in the form of chat's logprobs."""
        return {"token": self(token), "logprob": logprob, "bytes": list(self.bytes_of(token))}


@cache
def _bytes_by_letter() -> dict[str, int]:
    """The letters by which tokenizers of bytes name them."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {str(letter): int(byte) for byte, letter in bytes_to_unicode().items()}
