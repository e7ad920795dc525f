"""How an answer is wanted: the fields that chat and completions share."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfit.serving.body import Body
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway

MOST_ANSWERS, MOST_LOGPROBS = 8, 20

COMMON = (
    *("model", "user", "personalize", "max_tokens", "temperature", "top_p", "seed", "stop", "n", "logprobs", "stream"),
    *("stream_options", "show_prompt"),
)
IGNORED = ("metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
NEUTRAL: Mapping[str, Any] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
}


@dataclass(frozen=True)
class Usual:
    """What holds of an answer where its request says nothing.

    Attributes:
        limit: Most tokens, as far as there is room.
        stop: Texts that end it.
        repetition_penalty, no_repeat_ngram: As of ``Decoding``; no request says anything of them.
    """

    limit: int
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    @classmethod
    def of_task(cls, gateway: Gateway) -> Usual:
        """As ``PerFit.generate`` answers the run's task."""
        task = gateway.perfit.task
        return cls(gateway.answer_limit, task.stop, task.repetition_penalty, task.no_repeat_ngram)


@dataclass(frozen=True)
class Wanted:
    """How an answer is wanted.

    Attributes:
        max_tokens: Most tokens; None leaves it to the route.
        temperature: 0, as when not given, takes the most probable token.
        top_p: Smallest share of probability that is sampled from.
        seed: Of sampling; a new one each time when not given.
        stop: Texts that end an answer; None leaves it to the route.
        n: How many answers.
        logprobs: Whether each token's log-probability is told.
        top_logprobs: And of how many others at its place.
        stream: Whether tokens are sent as they come.
        include_usage: Whether a stream ends with the usage.
        show_prompt: Whether the prompt is told as the base reads it.
    """

    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] | None
    n: int
    logprobs: bool
    top_logprobs: int
    stream: bool
    include_usage: bool
    show_prompt: bool

    @classmethod
    def read(cls, body: Body, gateway: Gateway) -> Wanted:
        """From a request.

        Raises:
            RefusedError: A field is impossible, or the model is another.
        """
        check_model(body, gateway)
        temperature = body.number("temperature", 0.0, 0.0, 2.0)
        seed = body.whole("seed", None, -(2**63), 2**63 - 1)
        if seed is None:
            seed = secrets.randbits(31) if temperature else 0
        options = body.mapping("stream_options")
        stream = body.flag("stream", False)
        if options and not stream:
            raise RefusedError(
                400, "stream_options: goes with stream: true alone; leave it out", param="stream_options"
            )
        logprobs, top = _logprobs(body)
        named = body.whole("max_tokens", None, 1, 1 << 20)
        longest = named if named is not None else body.whole("max_completion_tokens", None, 1, 1 << 20)
        return cls(
            max_tokens=longest,
            temperature=temperature,
            top_p=body.number("top_p", 1.0, 0.0, 1.0, above=True),
            seed=seed,
            stop=body.stops(),
            n=body.whole("n", 1, 1, MOST_ANSWERS) or 1,
            logprobs=logprobs,
            top_logprobs=top,
            stream=stream,
            include_usage=options.get("include_usage") is True,
            show_prompt=body.flag("show_prompt", False),
        )

    def limit(self, default: int, room: int) -> int:
        """Most tokens of an answer: what was asked for, or the route's default as far as there is room.

        Raises:
            RefusedError: So many do not fit.
        """
        if self.max_tokens is None:
            return min(default, room)
        if self.max_tokens > room:
            raise RefusedError(
                400,
                f"max_tokens: {self.max_tokens} after this prompt is more than the base's positions; give at most {room}",
                param="max_tokens",
                code="context_length_exceeded",
            )
        return self.max_tokens


def check_model(body: Body, gateway: Gateway) -> None:
    """Refuse another model than the one that is served.

    Raises:
        RefusedError: 404.
    """
    name = body.optional_text("model")
    if name is not None and name not in (gateway.name, "perfit"):
        raise RefusedError(
            404, f"model: is not served here; ask for {gateway.name!r}", param="model", code="model_not_found"
        )


def _logprobs(body: Body) -> tuple[bool, int]:
    """Chat says true and, beside it, how many others; completions say how many."""
    value = body.fields.get("logprobs")
    if isinstance(value, int) and not isinstance(value, bool):
        return True, body.whole("logprobs", 0, 0, MOST_LOGPROBS) or 0
    wanted = body.flag("logprobs", False)
    top = body.whole("top_logprobs", 0, 0, MOST_LOGPROBS) or 0
    if top and not wanted:
        raise RefusedError(400, "top_logprobs: goes with logprobs: true alone; give both", param="top_logprobs")
    return wanted, top
