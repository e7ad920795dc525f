"""``POST /v1/answers/score``: how probable a given answer is for somebody, token by token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from perfit.data.schema import Query
from perfit.errors import DataError
from perfit.inference.answer_losses import answer_token_log_probs
from perfit.serving.body import Body
from perfit.serving.chat import check_template, conversation_prompt, turns_of
from perfit.serving.completions import continued_prompt, prompt_text
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Flight, Gateway, asked_for, in_thread
from perfit.serving.keys import Tenant
from perfit.serving.responding import RECEIPT
from perfit.serving.task_prompt import check_task_prompts, task_prompt
from perfit.serving.token_pieces import token_pieces
from perfit.serving.wanted import check_model
from perfit.tasks.encode import label_ids
from perfit.tasks.plain_text import plain_ids
from perfit.training.rows import TokenRow
from perfit.words import composed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from perfit.tasks.encode import Encoded

_FIELDS = ("model", "user", "personalize", "input", "messages", "prompt", "answer")
_WAYS = ("input", "messages", "prompt")
EXACT = "tokens"
"""Of the engine's name in receipts: one exact forward over prompt and answer."""


async def score_answer(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """Log-probabilities of an answer's tokens: after a task's ``input``, after ``messages``, or behind a ``prompt``.

    Raises:
        RefusedError: A field is impossible, or the user is not the tenant's.
        UnknownUserError: The user has no shift.
        ConfigError, DataError: Prompt and answer do not fit the base.
    """
    from starlette.responses import JSONResponse

    body = Body(content)
    body.only(_FIELDS)
    check_model(body, gateway)
    asked = asked_for(tenant, body.optional_text("user"), body.flag("personalize", True))
    answer = composed(body.text("answer"))
    prompt_of, goes_on = _prompt(body, gateway)
    flight = Flight(gateway, asked, request.state.trace)
    try:
        await flight.take_off()
        encoded = await in_thread(prompt_of)
        row = await in_thread(lambda: _row(gateway, encoded, answer, goes_on))
        began = time.time_ns()
        scored = await in_thread(lambda: _scored(gateway, flight, row), gateway.scoring)
        flight.trace.scored(began, len(row.prompt_ids))
        flight.check()
        gateway.metrics.tokens(len(row.prompt_ids), 0, 0)
        note = flight.note(len(row.prompt_ids), EXACT)
        receipt = note.signed(gateway.notebook.key)
        mine = {"receipt": receipt, **note.as_dict(), "shortened": encoded.truncated}
        whole = {"object": "answer.score", "model": gateway.name, **scored, "perfit": mine}
        return JSONResponse(whole, headers={RECEIPT: receipt})
    finally:
        flight.end()


def _prompt(body: Body, gateway: Gateway) -> tuple[Callable[[], Encoded], bool | None]:
    """What makes the prompt, and how an answer follows it: None as the end of a text, else whether under a template."""
    given = [name for name in _WAYS if body.fields.get(name) is not None]
    if len(given) != 1:
        raise RefusedError(400, f"input: give one of {', '.join(_WAYS)}", param="input", code="invalid_value")
    if given == ["prompt"]:
        text = prompt_text(body)
        return lambda: continued_prompt(gateway, text), None
    if given == ["messages"]:
        turns = turns_of(body)
        check_template(gateway)
        return lambda: conversation_prompt(gateway, turns), True
    check_task_prompts(gateway)
    query: Query = gateway.perfit.query(body.text("input"))
    return lambda: task_prompt(gateway, query), gateway.perfit.config.chat_template


def _row(gateway: Gateway, encoded: Encoded, answer: str, chat: bool | None) -> TokenRow:
    """Prompt and answer as training has them; what goes on behind a text has no end token."""
    tokenizer, prompt = gateway.perfit.backbone.tokenizer, encoded.prompt_ids
    if not prompt:
        raise RefusedError(400, "prompt: has no tokens; give a text", param="prompt", code="invalid_value")
    try:
        ids = (
            tuple(plain_ids(answer, tokenizer))
            if chat is None
            else label_ids((answer,), tokenizer, prompt[-1], chat)[0]
        )
    except DataError:
        ids = ()
    if not ids:
        raise RefusedError(400, "answer: has no tokens; give a text", param="answer", code="invalid_value")
    room = gateway.room(len(prompt))
    if len(ids) > room:
        raise RefusedError(
            400,
            f"answer: {len(ids)} tokens after this prompt are more than the base's positions; give at most {room}",
            param="answer",
            code="context_length_exceeded",
        )
    return TokenRow(tuple(prompt), ids)


def _scored(gateway: Gateway, flight: Flight, row: TokenRow) -> dict[str, Any]:
    """The tokens in a call that knows this version alone; a character of several tokens is one, with their sum."""
    perfit, name = gateway.people.alone(flight.version)
    edited = perfit.edited()
    ((_, shift, slots),) = edited.groups([name])
    (found,) = answer_token_log_probs(perfit.backbone, [row], slots, shift, edited.positions, len(row.input_ids))
    tokens, place = [], 0
    for piece in token_pieces(perfit.backbone.tokenizer, row.answer_ids):
        tokens.append(piece.as_dict() | {"logprob": sum(found[place : place + piece.tokens])})
        place += piece.tokens
    return {"tokens": tokens, "logprob": sum(found)}
