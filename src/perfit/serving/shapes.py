"""Answers in OpenAI's forms: chat and completions, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perfit.serving.asking import Gathered
from perfit.serving.engine import Event, Token
from perfit.serving.token_texts import TokenTexts


class Shape(Protocol):
    """One of the two forms."""

    @property
    def whole(self) -> str:
        """Name of the object that holds whole answers."""
        ...

    @property
    def chunk(self) -> str:
        """Name of the object that holds a part of one."""
        ...

    @property
    def prefix(self) -> str:
        """What ids begin with."""
        ...

    def choice(self, index: int, answer: Gathered, logprobs: bool) -> dict[str, Any]:
        """A whole answer."""
        ...

    def opening(self, index: int) -> dict[str, Any] | None:
        """What a stream says of an answer before its first token, if anything."""
        ...

    def part(self, index: int, event: Event, logprobs: bool, offset: int) -> dict[str, Any]:
        """What an event adds; ``offset``: how many letters were before it."""
        ...


@dataclass(frozen=True)
class ChatShape:
    """``chat.completion``."""

    texts: TokenTexts
    whole: str = "chat.completion"
    chunk: str = "chat.completion.chunk"
    prefix: str = "chatcmpl-"

    def choice(self, index: int, answer: Gathered, logprobs: bool) -> dict[str, Any]:
        """See ``Shape``."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.tokens) if logprobs else None,
            "finish_reason": answer.end.reason if answer.end is not None else None,
        }

    def opening(self, index: int) -> dict[str, Any] | None:
        """See ``Shape``."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def part(self, index: int, event: Event, logprobs: bool, offset: int) -> dict[str, Any]:
        """See ``Shape``."""
        found = self._chunk(index, {"content": event.text} if event.text or isinstance(event, Token) else {})
        if isinstance(event, Token):
            found["logprobs"] = self._logprobs([event]) if logprobs else None
        else:
            found["finish_reason"] = event.reason
        return found

    def _chunk(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        content = [
            self.texts.entry(token.id, token.logprob)
            | {"top_logprobs": [self.texts.entry(other, logprob) for other, logprob in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}


@dataclass(frozen=True)
class TextShape:
    """``text_completion``."""

    texts: TokenTexts
    whole: str = "text_completion"
    chunk: str = "text_completion"
    prefix: str = "cmpl-"

    def choice(self, index: int, answer: Gathered, logprobs: bool) -> dict[str, Any]:
        """See ``Shape``."""
        return {
            "index": index,
            "text": answer.text,
            "logprobs": self._logprobs(answer.tokens, 0) if logprobs else None,
            "finish_reason": answer.end.reason if answer.end is not None else None,
        }

    def opening(self, index: int) -> dict[str, Any] | None:
        """See ``Shape``."""
        return None

    def part(self, index: int, event: Event, logprobs: bool, offset: int) -> dict[str, Any]:
        """See ``Shape``."""
        token = isinstance(event, Token)
        return {
            "index": index,
            "text": event.text,
            "logprobs": self._logprobs([event], offset) if isinstance(event, Token) and logprobs else None,
            "finish_reason": None if token else event.reason,  # type: ignore[union-attr]
        }

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "tokens": [self.texts(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{self.texts(other): logprob for other, logprob in token.top} for token in tokens],
            "text_offset": offsets,
        }
