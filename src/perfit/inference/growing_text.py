"""An answer's text while its tokens come: what can be shown of it already, and where it ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from perfit.stop_strings import begun, stops, until_stop

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")  # how SentencePiece names a token that is one byte
_UNFINISHED = "\ufffd"


def text_of(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of an answer's tokens, special ones left out."""
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=True)
    return text


class GrowingText:
    """The text of one answer, piece by piece: all pieces joined are the answer of ``generate``.

    A piece is held back while it may still change: half a character, the beginning of a stop string. A tokenizer that
    takes blanks away afterwards (``clean_up_tokenization_spaces``, where it acts) gives its text at the end.

    Args:
        tokenizer: Of the base.
        stop: Texts that end the answer and are no part of it.

    Attributes:
        tokens: What was taken.
        ended: Whether a stop string is complete.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()):
        self.tokens: list[int] = []
        self.ended = False
        self._tokenizer, self._stop = tokenizer, stop
        self._waits = _rewrites(tokenizer)
        self._shown = ""

    def take(self, token: int) -> str:
        """Append a token that is no end; what can be shown with it, often nothing."""
        self.tokens.append(token)
        self.ended = stops(text_of(self._tokenizer, self.tokens), self._stop)
        if self.ended or self._waits:
            return ""
        text = text_of(self._tokenizer, self.tokens[: self._settled()]).rstrip(_UNFINISHED)
        return self._show(text[: len(text) - begun(text, self._stop)])

    def rest(self) -> str:
        """What was held back, when the answer is through."""
        return self._show(until_stop(text_of(self._tokenizer, self.tokens), self._stop))

    def _show(self, text: str) -> str:
        if not text.startswith(self._shown):
            return ""
        piece, self._shown = text[len(self._shown) :], text
        return piece

    def _settled(self) -> int:
        """Tokens before the bytes at the end: while more bytes may come, even whole characters of theirs may change."""
        names = getattr(self._tokenizer, "convert_ids_to_tokens", None)
        count = len(self.tokens)
        while names is not None and count and _BYTE.fullmatch(names(self.tokens[count - 1]) or ""):
            count -= 1
        return count


def _rewrites(tokenizer: Any) -> bool:
    """Whether the text of some tokens may differ from the beginning of the text of more."""
    if getattr(tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False):
        return True
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    return bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)) and type(model).__name__ != "BPE"
