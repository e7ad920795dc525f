"""``POST /v1/chat/completions``: a conversation, tokenised by the base's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from perfit.data.schema import Query, Turn
from perfit.serving.body import Body
from perfit.serving.faults import RefusedError
from perfit.serving.gateway import Gateway, asked_for
from perfit.serving.keys import Tenant
from perfit.serving.responding import answered
from perfit.serving.shapes import ChatShape
from perfit.serving.task_prompt import check_task_prompts, task_prompt
from perfit.serving.wanted import COMMON, IGNORED, NEUTRAL, Usual, Wanted
from perfit.tasks.encode import Encoded
from perfit.tasks.plain_text import chat_ids
from perfit.words import composed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_DEFAULT_TOKENS = 256
_MOST_TURNS = 512
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_FIELDS = (*COMMON, "messages", "top_logprobs", "max_completion_tokens")


async def chat(gateway: Gateway, tenant: Tenant, request: Request, content: bytes) -> Response:
    """Answer the last turn of a conversation: as the run's task does where it is a chat, else by the base's template alone.

    Raises:
        RefusedError: A field is impossible, or the user is not the tenant's.
        UnknownUserError: The user has no shift.
        ConfigError: The base has no chat template, or the conversation does not fit it.
    """
    body = Body(content)
    body.only(_FIELDS, ignored=IGNORED, neutral=NEUTRAL)
    wanted = Wanted.read(body, gateway)
    asked = asked_for(tenant, body.optional_text("user"), body.flag("personalize", True))
    turns = turns_of(body)
    check_template(gateway)
    usual = Usual.of_task(gateway) if gateway.perfit.task.chat else Usual(_DEFAULT_TOKENS)
    return await answered(
        gateway, request, asked, wanted, ChatShape(gateway.tokens), lambda: conversation_prompt(gateway, turns), usual
    )


def check_template(gateway: Gateway) -> None:
    """Refuse conversations where they cannot be made a prompt.

    Raises:
        RefusedError: The base has no chat template, or the run's chats stand behind past items.
    """
    if not gateway.perfit.backbone.tokenizer.chat_template:
        raise RefusedError(
            400,
            "messages: this base has no chat template; ask by /v1/completions or /v1/tasks/answer",
            param="messages",
            code="no_chat_template",
        )
    if gateway.perfit.task.chat:
        check_task_prompts(gateway)


def conversation_prompt(gateway: Gateway, turns: Sequence[Turn]) -> Encoded:
    """The tokens of a conversation: as the run's task makes them where it is a chat, else by the base's template alone.

    Raises:
        DataError, ConfigError: It does not fit the task or the base.
    """
    if gateway.perfit.task.chat:
        return task_prompt(gateway, query_of(turns))
    ids = chat_ids(turns[-1].content, gateway.perfit.backbone.tokenizer, turns[:-1])
    return Encoded(tuple(ids), (), False)


def query_of(turns: Sequence[Turn]) -> Query:
    """Turns, the last one the user's, as a query of a task that is a chat."""
    return Query("prompt", turns[-1].content, turns=tuple(turns[:-1]))


def turns_of(body: Body) -> list[Turn]:
    """The turns of a request, the last one the user's.

    Raises:
        RefusedError: One is none, the system's is not the first, or the last is another's.
    """
    turns = [_turn(place, message) for place, message in enumerate(body.listed("messages", most=_MOST_TURNS))]
    for place, turn in enumerate(turns[1:], start=1):
        if turn.role == "system":  # no training has one there (data/conversation.py)
            where = f"messages[{place}].role"
            raise RefusedError(
                400,
                f"{where}: the system's message stands behind others; put it first, and all of it there",
                param=where,
            )
    if turns[-1].role != "user":
        raise RefusedError(400, "messages: the last one is not the user's; end with the user's", param="messages")
    return turns


def _turn(place: int, message: Any) -> Turn:
    where = f"messages[{place}]"
    if not isinstance(message, dict):
        raise RefusedError(400, f"{where}: is no object; give role and content", param=where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RefusedError(
            400, f"{where}.role: is not possible; give one of {', '.join(_ROLES)}", param=f"{where}.role"
        )
    for name in ("tool_calls", "function_call", "audio"):
        if message.get(name):
            raise RefusedError(400, f"{where}.{name}: is not supported here; leave it out", param=f"{where}.{name}")
    content = _text(message.get("content"))
    if content is None:
        raise RefusedError(400, f"{where}.content: must be a text, or parts of type text", param=f"{where}.content")
    return Turn(_ROLES[role], composed(content))  # in the form that training has it


def _text(content: Any) -> str | None:
    """A text, or the text of its parts; None where there is another kind of part."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    return "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
