"""The base's answers, and asks in batches and by user."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.backbone.generate import Decoding
from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.backbone.within import Within, most_tokens
from perfit.data.schema import User
from perfit.methods.method import Ask, Done
from perfit.methods.said import said
from perfit.methods.unedited import UNEDITED_AT, unedited
from perfit.plan import IDENTITY

Tokens = tuple[int, ...]
_USUAL = Decoding()


def answer(
    backbone: Backbone, prompts: Sequence[Tokens], limit: int, done: Done, within: Within | None = None
) -> list[str]:
    """The base's answer to each prompt, in order.

    Args:
        backbone: The base, the same for all rows.
        prompts: Token ids.
        limit: Most new tokens.
        done: Called with the number of prompts finished.
        within: As for ``said``.

    Raises:
        ConfigError: A prompt and its answer do not fit the base.
    """
    if not prompts:
        return []
    check_room(backbone, max(map(len, prompts)), most_tokens(within, prompts, limit))
    return said(backbone, prompts, [IDENTITY] * len(prompts), unedited(backbone), UNEDITED_AT, limit, within, done)


def batches(lengths: Sequence[int], tokens: int = _USUAL.batch_tokens) -> list[list[int]]:
    """Indices of the rows of each batch, longest first; at most ``tokens`` with padding, and at least one row."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    begin = 0
    while begin < len(order):
        rows = max(min(tokens // lengths[order[begin]], _USUAL.batch_rows), 1)
        found.append(order[begin : begin + rows])
        begin += rows
    return found


def users_of(asks: Sequence[Ask]) -> dict[str, User]:
    """Who asks, each once, by id."""
    return {ask.user.id: ask.user for ask in asks}


def by_user(asks: Sequence[Ask]) -> list[list[int]]:
    """Indices of each user's asks, users in the order in which they first ask."""
    groups: dict[str, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask.user.id, []).append(index)
    return list(groups.values())
