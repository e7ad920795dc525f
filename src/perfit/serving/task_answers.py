"""``POST /v1/tasks/answer``: a user's text asked by the run's own task, as ``PerFit`` asks it."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from perfit.data.schema import Query
from perfit.serving.asking import Gathered
from perfit.serving.body import Body
from perfit.serving.chat import query_of, turns_of
from perfit.serving.engine import Request as EngineRequest
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Flight, Gateway, asked_for, in_thread
from perfit.serving.keys import Tenant
from perfit.serving.responding import RECEIPT, answered, shown_prompt
from perfit.serving.shapes import TextShape
from perfit.serving.task_prompt import check_task_prompts, task_prompt
from perfit.serving.wanted import Usual, Wanted
from perfit.tasks.expected import Expected

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_FIELDS = ("model", "user", "personalize", "input", "messages", "stream", "show_prompt")
EXACT = "labels"
"""Of the engine's name in receipts of label tasks: exact scores of all labels, by ``PerFit.score_labels``."""


async def answer_task(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """The task's answer: for labels and ratings the most probable one with every label's probability, else a text, which
    may be streamed in the form of completions.

    Raises:
        RefusedError: A field is impossible, or the user is not the tenant's.
        UnknownUserError: The user has no shift.
        ConfigError: The run puts past items before a prompt, which are not kept here.
    """
    body = Body(content)
    body.only(_FIELDS)
    asked = asked_for(tenant, body.optional_text("user"), body.flag("personalize", True))
    query = _query(gateway, body)
    check_task_prompts(gateway)
    scored = bool(gateway.perfit.task.labels)
    wanted = Wanted.read(body, gateway)
    if wanted.stream:
        if scored:
            raise RefusedError(400, "stream: labels are scored at once; leave it out", param="stream")
        return await answered(
            gateway,
            request,
            asked,
            wanted,
            TextShape(gateway.tokens),
            lambda: task_prompt(gateway, query),
            Usual.of_task(gateway),
        )
    flight = Flight(gateway, asked, request.state.trace)
    try:
        await flight.take_off()
        encoded = await in_thread(lambda: task_prompt(gateway, query))
        prompt = encoded.prompt_ids
        if scored:
            began = time.time_ns()
            found = await in_thread(lambda: _scored(gateway, flight, query), gateway.scoring)
            flight.trace.scored(began, len(prompt))
            flight.check()
            gateway.metrics.tokens(len(prompt), 0, 0)
        else:
            found = {"answer": await _written(gateway, flight, request, prompt)}
        told: dict[str, Any] = {"shortened": encoded.truncated}
        if wanted.show_prompt:
            told |= await in_thread(lambda: shown_prompt(gateway, prompt))
        return _response(gateway, flight, found, told, prompt, EXACT if scored else None)
    finally:
        flight.end()


def _query(gateway: Gateway, body: Body) -> Query:
    """What is asked: ``input``, or of a task that is a chat ``messages`` in its place.

    Raises:
        RefusedError: It is neither, or both.
    """
    if body.fields.get("messages") is None:
        return gateway.perfit.query(body.text("input"))
    if not gateway.perfit.task.chat:
        raise RefusedError(
            400, "messages: the task of this run reads texts alone; send input", param="messages", code="invalid_value"
        )
    if body.fields.get("input") is not None:
        raise RefusedError(400, "input: is given beside messages; give one of the two", param="input")
    return query_of(turns_of(body))


def _scored(gateway: Gateway, flight: Flight, query: Query) -> dict[str, Any]:
    """The labels, most probable first, in a call that knows this version alone."""
    perfit, name = gateway.people.alone(flight.version)
    scores = perfit.score_labels([query], [name], listener=lambda event: None)[0]
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


def _response(
    gateway: Gateway,
    flight: Flight,
    found: dict[str, Any],
    told: dict[str, Any],
    prompt: tuple[int, ...],
    engine: str | None,
) -> Response:
    from starlette.responses import JSONResponse

    note = flight.note(len(prompt), engine)
    receipt = note.signed(gateway.notebook.key)
    body = {
        "object": "task.answer",
        "model": gateway.name,
        "task": gateway.perfit.task.name,
        **found,
        "perfit": {"receipt": receipt, **note.as_dict(), **told},
    }
    return JSONResponse(body, headers={RECEIPT: receipt})
