"""``POST /v1/tasks/answer``: a user's text asked by the run's own task, as ``PerFit`` asks it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from perfit.inference.answers import prompts_of
from perfit.serving.asking import Gathered
from perfit.serving.body import Body
from perfit.serving.engine import Request as EngineRequest
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Flight, Gateway, asked_for, in_thread
from perfit.serving.keys import Tenant
from perfit.serving.responding import RECEIPT
from perfit.serving.wanted import Usual, check_model
from perfit.tasks.expected import Expected
from perfit.training.examples import RowMaker

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_FIELDS = ("model", "user", "personalize", "input")
EXACT = "labels"
"""Of the engine's name in receipts of label tasks: exact scores of all labels, by ``PerFit.score_labels``."""


async def answer_task(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """The task's answer: for labels and ratings the most probable one with every label's probability, else a text.

    Raises:
        RefusedError: A field is impossible, or the user is not the tenant's.
        UnknownUserError: The user has no shift.
        ConfigError: The run puts past items before a prompt, which are not kept here.
    """
    body = Body(content)
    body.only(_FIELDS)
    check_model(body, gateway)
    asked = asked_for(tenant, body.optional_text("user"), body.flag("personalize", True))
    text = body.text("input")
    if gateway.perfit.config.retrieved:
        raise RefusedError(
            400,
            "input: this run puts past items before each prompt, which a server does not have; use /v1/completions with "
            "the whole prompt",
            code="unsupported_run",
        )
    flight = Flight(gateway, asked)
    try:
        await flight.take_off()
        prompt = await in_thread(lambda: _prompt(gateway, text))
        scored = bool(gateway.perfit.task.labels)
        if scored:
            found = await in_thread(lambda: _scored(gateway, flight, text))
            gateway.metrics.tokens(len(prompt), 0, 0)
        else:
            found = {"answer": await _written(gateway, flight, request, prompt)}
        return _response(gateway, flight, found, len(prompt), EXACT if scored else None)
    finally:
        flight.end()


def _prompt(gateway: Gateway, text: str) -> tuple[int, ...]:
    perfit = gateway.perfit
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    return prompts_of(maker, [perfit.query(text)], None)[0]


def _scored(gateway: Gateway, flight: Flight, text: str) -> dict[str, Any]:
    """The labels, most probable first, in a call that knows this version alone."""
    perfit, name = gateway.people.alone(flight.version)
    scores = perfit.score_labels([text], [name], listener=lambda event: None)[0]
    task = perfit.task
    order = sorted(range(len(task.labels)), key=lambda place: -float(scores[place]))
    found: dict[str, Any] = {
        "answer": task.labels[order[0]],
        "labels": [{"label": task.labels[n], "probability": math.exp(float(scores[n]))} for n in order],
    }
    if task.kind == "rating":
        expected = Expected.of(task.labels, scores.tolist())
        found["expected"] = {"median": expected.median, "mean": expected.mean}
    return found


async def _written(gateway: Gateway, flight: Flight, request: Request, prompt: tuple[int, ...]) -> str:
    usual = Usual.of_task(gateway)
    flight.ask(
        EngineRequest(
            id="",
            prompt=prompt,
            max_new_tokens=min(usual.limit, gateway.room(len(prompt))),
            stop=usual.stop,
            repetition_penalty=usual.repetition_penalty,
            no_repeat_ngram=usual.no_repeat_ngram,
        )
    )
    answer = Gathered("", [])
    async for numbered in flight.events(request.is_disconnected):
        answer.add(numbered.event)
    gateway.metrics.tokens(len(prompt), 0, len(answer.tokens))
    return answer.text.strip()


def _response(gateway: Gateway, flight: Flight, found: dict[str, Any], tokens: int, engine: str | None) -> Response:
    from starlette.responses import JSONResponse

    note = flight.note(tokens, engine)
    receipt = note.signed(gateway.notebook.key)
    body = {
        "object": "task.answer",
        "model": gateway.name,
        "task": gateway.perfit.task.name,
        **found,
        "perfit": {"receipt": receipt, **note.as_dict()},
    }
    return JSONResponse(body, headers={RECEIPT: receipt})
