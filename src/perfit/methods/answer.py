"""Greedy answers to asks: unedited, or batch by batch while something of the method's own is at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from perfit.backbone.generate import Decoding, generate
from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.methods.method import Ask, Done
from perfit.methods.unedited import UNEDITED_AT, unedited
from perfit.plan import IDENTITY

Tokens = tuple[int, ...]
_BATCHES = Decoding()


def answer(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    limit: int,
    done: Done,
    during: Callable[[Sequence[int]], AbstractContextManager[None]] = lambda batch: nullcontext(),
) -> list[str]:
    """The base's answer to each prompt, in order.

    Args:
        backbone: The base, in whatever state the method has put it.
        prompts: Token ids.
        limit: Most new tokens.
        done: Called with the number of prompts finished.
        during: Entered for each batch with the indices of its rows in their order; all rows are padded on the left.

    Raises:
        ConfigError: A prompt and its answer do not fit the base.
    """
    if not prompts:
        return []
    check_room(backbone, max(map(len, prompts)), limit)
    untouched = unedited(backbone)
    texts = [""] * len(prompts)
    for batch in batches([len(prompt) for prompt in prompts]):
        # The rows are sorted as ``generate`` sorts them, and it gets room for all: it keeps them together, in this order.
        decoding = Decoding(
            max_new_tokens=limit, batch_rows=len(batch), batch_tokens=len(batch) * len(prompts[batch[0]])
        )
        with during(batch):
            rows = [prompts[i] for i in batch]
            answers = generate(backbone, rows, [IDENTITY] * len(batch), untouched, UNEDITED_AT, decoding, done)
        for index, text in zip(batch, answers, strict=True):
            texts[index] = text
    return texts


def batches(lengths: Sequence[int], tokens: int = _BATCHES.batch_tokens) -> list[list[int]]:
    """Indices of the rows of each batch, longest first; at most ``tokens`` with padding, and at least one row."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    begin = 0
    while begin < len(order):
        rows = max(min(tokens // lengths[order[begin]], _BATCHES.batch_rows), 1)
        found.append(order[begin : begin + rows])
        begin += rows
    return found


def by_user(asks: Sequence[Ask]) -> list[list[int]]:
    """Indices of each user's asks, users in the order in which they first ask."""
    groups: dict[str, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask.user.id, []).append(index)
    return list(groups.values())
