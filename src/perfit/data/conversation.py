"""Conversations in a record: what was said before, the user's message, and the assistant's reply.

``{"messages": [{"role": "system" | "user" | "assistant", "content": ...}, ...]}``, as chat services keep them. The last
user message and the reply to it are an item's texts ``message`` and ``reply``; the earlier ones are its ``turns``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from perfit.data.saying import kind_of, shown_name
from perfit.data.schema import Turn

ROLES = ("system", "user", "assistant")
MESSAGES, MESSAGE, REPLY = "messages", "message", "reply"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation up to a user's message, and the reply, where there is one."""

    turns: tuple[Turn, ...]
    message: str
    reply: str | None


def conversation(messages: object, fault: Callable[[str, str], Exception]) -> Conversation:
    """A list of messages as records and callers give it.

    Args:
        messages: The list.
        fault: Makes the exception of what is wrong and what to do about it; neither says what anybody wrote.

    Raises:
        Exception: What ``fault`` made: it is no list of messages with roles and texts, or does not end with a user's
            message or the reply to one.
    """
    if not isinstance(messages, list | tuple) or not messages:
        found = "an empty list" if isinstance(messages, list | tuple) else kind_of(messages)
        raise fault(f"messages are {found}", "give a list of {'role': ..., 'content': ...}")
    said = tuple(_turn(raw, place, fault) for place, raw in enumerate(messages))
    for place, turn in enumerate(said):
        if turn.role == "system" and place:
            raise fault(f"messages[{place}] is of the system and stands behind others", "put it first")
    reply = said[-1].content if said[-1].role == "assistant" else None
    asked = said[:-1] if reply is not None else said
    if not asked or asked[-1].role != "user":
        raise fault(
            "the messages end with no user's message, nor with the reply to one",
            "end a history item with the assistant's reply, and what is asked with the user's message",
        )
    return Conversation(asked[:-1], asked[-1].content, reply)


def messages_of(turns: Sequence[Turn], *last: Turn) -> list[dict[str, str]]:
    """Turns as a record's list of messages; the inverse of ``conversation``."""
    return [{"role": turn.role, "content": turn.content} for turn in (*turns, *last)]


def _turn(raw: object, place: int, fault: Callable[[str, str], Exception]) -> Turn:
    where = f"messages[{place}]"
    if not isinstance(raw, Mapping):
        raise fault(f"{where} is {kind_of(raw)}", "write a record with role and content")
    for name in raw:
        if name not in ("role", "content"):
            raise fault(f"{where} has the unknown field {shown_name(str(name))}", "known here: role, content")
    role, content = raw.get("role"), raw.get("content")
    if role not in ROLES:
        raise fault(f"the role of {where} is none of {', '.join(ROLES)}", "name one of them")
    if not isinstance(content, str):
        raise fault(f"the content of {where} is {kind_of(content)}, not text", "write it as text")
    return Turn(role, content)
