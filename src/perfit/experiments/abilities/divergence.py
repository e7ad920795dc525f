"""How far a user's shift moves the next token of text that has nothing to do with the user."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.experiments.abilities.likelihood import next_tokens
from perfit.inference.edited import Edited
from perfit.pseudo_users import BASE
from perfit.tasks.plain_text import plain_ids

NEUTRAL = (
    "Water boils at a hundred degrees, and freezes at",
    "The first month of the year is",
    "In the morning the baker opened the shop and",
    "A triangle has three sides, a square has",
    "The library is open from nine until",
    "After the rain the streets were",
    "She closed the window because it was",
    "The recipe needs flour, sugar and",
)
"""Beginnings of sentences that no user wrote."""


def divergences(edited: Edited, owners: Sequence[str], texts: Sequence[str] = NEUTRAL) -> dict[str, float]:
    """Mean Kullback-Leibler divergence in nats of each owner's next-token distribution from the base's: 0 for the base.

    Raises:
        UnknownUserError: An owner has no shift.
    """
    contexts = [plain_ids(text, edited.backbone.tokenizer, front=True) for text in texts]
    base = next_tokens(edited, BASE, contexts)
    found = {}
    for owner in owners:
        own = next_tokens(edited, owner, contexts)
        found[owner] = float((own.exp() * (own - base)).sum(-1).clamp(min=0).mean())
    return found
