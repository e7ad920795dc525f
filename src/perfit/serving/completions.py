"""``POST /v1/completions``: what follows a text, such as a task's whole prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfit.serving.body import Body
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway, asked_for
from perfit.serving.keys import Tenant
from perfit.serving.responding import answered
from perfit.serving.shapes import TextShape
from perfit.serving.wanted import COMMON, IGNORED, NEUTRAL, Usual, Wanted
from perfit.tasks.encode import Encoded
from perfit.tasks.plain_text import plain_ids
from perfit.words import composed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_FIELDS = (*COMMON, "prompt")


async def completions(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """Continue a prompt. Limit and stops are the task's where the request names none, repetition control is the task's: a
    task's prompt is answered as ``PerFit.generate`` answers it.

    Raises:
        RefusedError: A field is impossible, or the user is not the tenant's.
        UnknownUserError: The user has no shift.
        ConfigError: The prompt does not fit the base.
    """
    body = Body(content)
    body.only(_FIELDS, ignored=IGNORED, neutral=NEUTRAL)
    wanted = Wanted.read(body, gateway)
    asked = asked_for(tenant, body.optional_text("user"), body.flag("personalize", True))
    text = prompt_text(body)
    return await answered(
        gateway,
        request,
        asked,
        wanted,
        TextShape(gateway.tokens),
        lambda: continued_prompt(gateway, text),
        Usual.of_task(gateway),
    )


def continued_prompt(gateway: Gateway, text: str) -> Encoded:
    """The tokens of a text that is gone on with."""
    return Encoded(tuple(plain_ids(composed(text), gateway.perfit.backbone.tokenizer, front=True)), (), False)


def prompt_text(body: Body) -> str:
    """The one prompt: a text, or a list of one text.

    Raises:
        RefusedError: There is none, or there are several.
    """
    value = body.fields.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise RefusedError(400, "prompt: must be one text; send other prompts as requests of their own", param="prompt")
    return value
