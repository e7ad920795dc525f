"""One answer while it is made: which token comes next, what it adds to the text, and whether it ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.edits.positions import Positions
from perfit.errors import BaseModelError
from perfit.inference.chance import chance_of
from perfit.inference.ends import end_tokens
from perfit.inference.growing_text import GrowingText
from perfit.inference.repetition import repetition_of
from perfit.serving.engine import Finished, Handle, Reason, Request, Times, Token


class Answer:
    """A request, its tokens so far, and where they go.

    Args:
        handle: Whom its events are told.
        backbone: The base, for its tokenizer and its end tokens.

    Attributes:
        edited: Positions of the prompt that are edited.
        cached: Tokens of the prompt that need not be computed; engines set it.
        finished: Whether ``Finished`` was told.
    """

    def __init__(self, handle: Handle, backbone: Backbone):
        self.request = handle.request
        self.edited = edited_positions(self.request)
        self.cached = 0
        self.finished = False
        self._handle = handle
        self._submitted = time.time_ns()
        self._begun: int | None = None
        self._first: int | None = None
        self._ends = end_tokens(backbone, self.request.stop)
        self._chance = chance_of(self.request.seed, self.request.prompt) if self.request.temperature else None
        self._repetition = repetition_of(self.request.repetition_penalty, self.request.no_repeat_ngram)
        self._text = GrowingText(backbone.tokenizer, self.request.stop)

    @property
    def tokens(self) -> list[int]:
        """The answer so far, end tokens left out."""
        return self._text.tokens

    @property
    def plain(self) -> bool:
        """Whether the next token is simply the most probable one."""
        return self._chance is None and self._repetition is None

    def begin(self) -> None:
        """The engine takes it in."""
        self._begun = time.time_ns()

    def take(self, token: int, logprob: float, top: tuple[tuple[int, float], ...] = ()) -> bool:
        """Append a token; True where the answer is finished with it."""
        if self._first is None:
            self._first = time.time_ns()
        if token in self._ends:
            self.finish("stop")
            return True
        self._handle.put(Token(token, self._text.take(token), logprob, top))
        if self._text.ended:
            self.finish("stop")
        elif len(self.tokens) == self.request.max_new_tokens:
            self.finish("length")
        return self.finished

    def finish(self, reason: Reason, problem: Exception | None = None) -> None:
        """Tell the end; nothing can be told after it."""
        if self.finished:
            return
        self.finished = True
        self._handle.put(
            Finished(
                reason,
                text=self._text.rest(),
                prompt_tokens=len(self.request.prompt),
                new_tokens=len(self.tokens),
                cached_tokens=self.cached,
                edited=self.edited,
                problem=problem,
                times=Times(self._submitted, self._begun, self._first, time.time_ns()),
            )
        )

    def score(self, logits: Tensor) -> Tensor:
        """Scores of the vocabulary, the largest of which is the next token: logits [vocabulary], fp32 on the CPU."""
        if self._repetition is not None:
            logits = self._repetition(logits.unsqueeze(0), [[*self.request.prompt, *self.tokens]])[0]
        if self._chance is None:
            return logits
        warm = logits / self.request.temperature
        if self.request.top_p < 1:
            ordered, order = warm.softmax(-1).sort(descending=True, stable=True)
            beyond = ordered.cumsum(-1) - ordered >= self.request.top_p  # the most probable always stays
            warm = warm.masked_fill(beyond[order.argsort()], -torch.inf)
        # Gumbel noise and the largest of all is sampling; the noise is this request's alone, whoever is served beside it.
        noise = torch.empty(len(logits)).exponential_(generator=self._chance)
        return warm - noise.log()


def choose(logits: Tensor, answers: Sequence[Answer]) -> list[int]:
    """Choose and take the next token of each answer.

    Args:
        logits: [answers, vocabulary] after the last token of each, fp32.
        answers: Those not finished.

    Returns:
        The tokens. An answer whose logits are not finite ends in an error, its token means nothing, and no other
        answer is touched.
    """
    sound = logits.isfinite().all(-1)
    logits = logits.masked_fill(~sound.unsqueeze(-1), 0.0)
    chosen = logits.argmax(-1)
    for row, answer in enumerate(answers):
        if not answer.plain:
            chosen[row] = answer.score(logits[row].cpu()).argmax()
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    wanted = max(answer.request.n_logprobs for answer in answers)
    best = logprobs.topk(min(wanted, logits.shape[-1]))
    places, values = best.indices.tolist(), best.values.tolist()
    tokens: list[int] = chosen.tolist()
    for row, (answer, fine, logprob) in enumerate(zip(answers, sound.tolist(), own.tolist(), strict=True)):
        if fine:
            count = answer.request.n_logprobs
            top = tuple(zip(places[row][:count], values[row][:count], strict=True))
            answer.take(tokens[row], logprob, top)
        else:
            answer.finish("error", not_finite())
    return tokens


def not_finite() -> BaseModelError:
    """What an answer ends with whose numbers went out of bounds."""
    return BaseModelError(
        "the base gives numbers that are not finite with this user's shift; personalise the user again"
    )


def edited_positions(request: Request) -> tuple[int, ...]:
    """Positions of a request's prompt that are edited; none for the base.

    Raises:
        ConfigError: The version's positions are no rule.
    """
    if request.who is None:
        return ()
    return Positions.parse(request.who.positions).of(len(request.prompt))
