"""Answers of an engine as HTTP: one JSON object, or server-sent events as the tokens come."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from perfit.serving.asking import ClientGoneError, Gathered, gathered
from perfit.serving.engine import Request as EngineRequest
from perfit.serving.faults import RefusedError, log_fault, refused
from perfit.serving.gateway import Asked, Flight, Gateway, in_thread
from perfit.serving.shapes import Shape
from perfit.serving.token_pieces import token_pieces
from perfit.serving.wanted import Usual, Wanted
from perfit.tasks.encode import Encoded

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

LOG = logging.getLogger("perfit.serving")
RECEIPT = "x-perfit-receipt"
_READ_SECONDS = 60.0


async def answered(
    gateway: Gateway,
    request: Request,
    asked: Asked,
    wanted: Wanted,
    shape: Shape,
    prompt_of: Callable[[], Encoded],
    usual: Usual,
) -> Response:
    """Answer one prompt for one person.

    Args:
        gateway: The server.
        request: The HTTP request.
        asked: Who is asked for.
        wanted: How.
        shape: The form of the answer.
        prompt_of: Makes the prompt's tokens, in a thread of its own.
        usual: What holds where the request does not say.

    Raises:
        RefusedError: There is no place, something does not fit, or the answer was cut off.
        UnknownUserError: The user has no shift.
        ConfigError: The prompt is impossible.
    """
    flight = Flight(gateway, asked, request.state.trace, wanted.n)
    handed_over = False
    try:
        await flight.take_off()
        encoded = await in_thread(prompt_of)
        prompt = encoded.prompt_ids
        if not prompt:
            raise RefusedError(400, "prompt: has no tokens; give a text", param="prompt", code="invalid_value")
        flight.ask(
            EngineRequest(
                id="",
                prompt=prompt,
                max_new_tokens=wanted.limit(usual.limit, gateway.room(len(prompt))),
                temperature=wanted.temperature,
                top_p=wanted.top_p,
                seed=wanted.seed,
                stop=usual.stop if wanted.stop is None else wanted.stop,
                repetition_penalty=usual.repetition_penalty,
                no_repeat_ngram=usual.no_repeat_ngram,
                n_logprobs=wanted.top_logprobs,
            )
        )
        told: dict[str, Any] = {"shortened": encoded.truncated}
        if wanted.show_prompt:
            told |= await in_thread(lambda: shown_prompt(gateway, prompt))
        response = await _respond(request, flight, shape, wanted, told)
        handed_over = wanted.stream
        return response
    finally:
        if not handed_over:
            flight.end()


def shown_prompt(gateway: Gateway, prompt: Sequence[int]) -> dict[str, Any]:
    """A prompt as the base reads it, for whoever sent it: its pieces in order, each with how many tokens it is."""
    pieces = token_pieces(gateway.perfit.backbone.tokenizer, prompt)
    return {"prompt": [piece.as_dict() for piece in pieces]}


async def _respond(request: Request, flight: Flight, shape: Shape, wanted: Wanted, told: dict[str, Any]) -> Response:
    from starlette.responses import JSONResponse

    assert flight.receipt is not None
    receipt = flight.receipt.signed(flight.gateway.notebook.key)
    head: dict[str, Any] = {
        "id": f"{shape.prefix}{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": flight.gateway.name,
        "system_fingerprint": flight.gateway.people.base[:16],
    }
    mine = {"receipt": receipt, **flight.receipt.as_dict(), **told}
    headers = {RECEIPT: receipt}
    if wanted.stream:
        parts = _parts(request, flight, shape, wanted, head | {"object": shape.chunk}, mine)

        def over() -> None:
            flight.end()
            flight.trace.end(200)

        return streamed(parts, headers, over)
    answers = [Gathered("", []) for _ in range(flight.answers)]
    async for numbered in flight.events(request.is_disconnected):
        answers[numbered.choice].add(numbered.event)
    usage = _usage(flight, answers)
    choices = [shape.choice(index, answer, wanted.logprobs) for index, answer in enumerate(answers)]
    return JSONResponse(
        head | {"object": shape.whole, "choices": choices, "usage": usage, "perfit": mine}, headers=headers
    )


async def _parts(
    request: Request, flight: Flight, shape: Shape, wanted: Wanted, head: dict[str, Any], mine: dict[str, Any]
) -> AsyncIterator[bytes]:
    """The events of a stream; a fault in the middle is its last one."""
    answers = [Gathered("", []) for _ in range(flight.answers)]
    try:
        for index in range(flight.answers):
            if (opening := shape.opening(index)) is not None:
                yield _event(head | {"choices": [opening]})
        async for numbered in flight.events(request.is_disconnected):
            answer = answers[numbered.choice]
            part = shape.part(numbered.choice, numbered.event, wanted.logprobs, len(answer.text))
            answer.add(numbered.event)
            more = {"perfit": mine} if answer.end is not None else {}
            if numbered.event.text or wanted.logprobs or answer.end is not None:
                yield _event(head | {"choices": [part]} | more)
        usage = _usage(flight, answers)
        if wanted.include_usage:
            yield _event(head | {"choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"
    except ClientGoneError:
        flight.trace.end(499)
    except Exception as error:
        fault = refused(error)
        log_fault(LOG, head["id"], "a stream", fault, error)
        flight.trace.end(fault.status)
        yield _event(fault.as_dict())


def _usage(flight: Flight, answers: list[Gathered]) -> dict[str, Any]:
    prompt, cached, new = gathered(answers)
    flight.gateway.metrics.tokens(prompt, cached, new)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def streamed(parts: AsyncIterator[bytes], headers: dict[str, str], end: Callable[[], None]) -> Response:
    """A response of server-sent events; ``end`` is called once it is over, also where it never began.

    Whoever leaves a part unread for a minute is taken for gone: they would keep a place that others wait for.
    """
    from starlette.responses import StreamingResponse

    class Streamed(StreamingResponse):
        """The same, and what was held for it is let go whatever became of it."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def sent(message: Any) -> None:
                async with asyncio.timeout(_READ_SECONDS):
                    await send(message)

            try:
                await super().__call__(scope, receive, sent)
            finally:
                end()

    return Streamed(parts, media_type="text/event-stream", headers={"cache-control": "no-store", **headers})
