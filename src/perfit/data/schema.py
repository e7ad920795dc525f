"""Users, what they wrote before (history), and what is asked for them now (queries)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation: who spoke ("system", "user" or "assistant"), and what."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One past item of a user, e.g. an article with the category the user gave it.

    Attributes:
        id: Unique within its user.
        fields: Named texts, e.g. ``{"text": ..., "category": ...}``; which is the answer is the task's business.
        date: When it happened, as written in the source; ``perfit.data.dates`` says what is understood.
        turns: What was said before, where the item is the end of a conversation (``perfit.data.conversation``).
        unread: Fields of the source that hold no text, as (name, what it is): ``(("tags", "a list"),)``.
    """

    id: str
    fields: Mapping[str, str]
    date: str | None = None
    unread: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One question asked for a user. ``gold`` is the wanted answer, or None when it is not known; ``turns`` is what was
    said before, where the question is the end of a conversation."""

    id: str
    input: str
    gold: str | None = None
    date: str | None = None
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """One user: history oldest first, and queries."""

    id: str
    history: tuple[HistoryItem, ...] = ()
    queries: tuple[Query, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Everything a run reads: the stage-1 pool and the users to personalise for.

    Attributes:
        users: Users who get a personal shift (stage 2) and whose queries are evaluated ("test users").
        others: Users who train the collective shift (stage 1).
        task: Name of the task when the source names it, e.g. "news_categorize".
        source: Where it came from, for manifests and messages.
    """

    users: tuple[User, ...]
    others: tuple[User, ...] = ()
    task: str | None = None
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    def fingerprint(self) -> str:
        """SHA-256 over all records in order; equal data gives equal values whatever the file format."""
        digest = hashlib.sha256()
        for group in (self.users, self.others):
            digest.update(b"|group|")
            for user in group:
                record = [
                    user.id,
                    [[item.id, sorted(item.fields.items()), item.date, *_said(item.turns)] for item in user.history],
                    [[query.id, query.input, query.gold, query.date, *_said(query.turns)] for query in user.queries],
                ]
                digest.update(json.dumps(record, ensure_ascii=False).encode())
        return digest.hexdigest()


def _said(turns: tuple[Turn, ...]) -> list[list[list[str]]]:
    """Turns for a fingerprint; nothing where there are none, so that texts alone keep theirs."""
    return [[[turn.role, turn.content] for turn in turns]] if turns else []
