"""The prompts whose last states are compared: the bare query, and the same query after this or that text."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfit.analysis.recipe import BARE, Recipe
from perfit.backbone.tokenizer_turn import TURN
from perfit.data.schema import Query, User
from perfit.errors import DataError
from perfit.retrieval import HistoryIndex, fitting
from perfit.tasks.encode import encode
from perfit.tasks.plain_text import plain_ids
from perfit.tasks.task import Task
from perfit.words import shuffled

LOSSES = ("queries shortened", "histories shortened", "other users' histories too short")
"""What ``PromptMaker.counts`` counts; of histories, also those of ``half``."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        tokens: All of it.
        kind: Place of its kind in ``Recipe.kinds``.
        half: 0 for even queries of the user, 1 for odd ones.
    """

    tokens: tuple[int, ...]
    kind: int
    half: int


class PromptMaker:
    """Makes the prompts of users, one user at a time.

    Text before a query is tokenised apart from it, so that all kinds end in the same query tokens, and controls have
    exactly as many tokens as what they stand for (``shuffled``: as many words).

    Args:
        task: Brings the templates.
        tokenizer: The base's.
        users: Users with at least one query and one past item; the one after each lends the history of ``other``.
        recipe: What is made.
    """

    def __init__(self, task: Task, tokenizer: Any, users: Sequence[User], recipe: Recipe):
        self.task, self.tokenizer, self.users, self.recipe = task, tokenizer, users, recipe
        with TURN:
            front = tokenizer.encode("", add_special_tokens=True)
        self._front = [token for token in front if token != tokenizer.eos_token_id or len(front) == 1]
        held_back = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        self._plain = [token for token in range(len(tokenizer)) if token not in held_back]
        self.counts: Counter[str] = Counter()

    def of(self, place: int) -> list[Prompt]:
        """All prompts of the user at ``place``.

        Raises:
            DataError: A query or past item lacks what the task needs; the message names user and record.
        """
        user, other = self.users[place], self.users[(place + 1) % len(self.users)]
        try:
            own, lender = HistoryIndex(self.task, user), HistoryIndex(self.task, other)
            halves = [HistoryIndex(self.task, replace(user, history=user.history[parity::2])) for parity in (0, 1)]
            prompts: list[Prompt] = []
            for number, query in enumerate(user.queries[: self.recipe.queries]):
                prompts += self._of_query(user, query, number % 2, own, lender, halves[number % 2])
        except DataError as error:
            raise DataError(str(error), record=f"user {user.id}") from error
        return prompts

    def _of_query(
        self, user: User, query: Query, half: int, own: HistoryIndex, lender: HistoryIndex, split: HistoryIndex
    ) -> list[Prompt]:
        question = self._question(query)
        text = self._found(own, query)
        before = self._tokens(text)
        made: dict[str, list[int]] = {BARE: []}
        kinds = [name for name in self.recipe.variants if name != "half" or len(user.history) > 1]
        for name in kinds:
            chance = random.Random(f"{self.recipe.seed}|{name}|{user.id}|{query.id}")
            if name == "history":
                made[name] = before
            elif name == "random":
                made[name] = chance.choices(self._plain, k=len(before))
            elif name == "other":
                made[name] = self._as_long(lender, query, len(before))
            elif name == "shuffled":
                made[name] = self._tokens(shuffled(text, chance) + "\n\n")
            else:
                made[name] = self._tokens(self._found(split, query))
        front = self._front if question[: len(self._front)] == self._front else []
        rest = question[len(front) :]
        return [
            Prompt((*front, *made[name], *rest), kind, half)
            for kind, name in enumerate(self.recipe.kinds)
            if name in made
        ]

    def _question(self, query: Query) -> list[int]:
        example = self.task.query_example(Query(query.id, query.input))
        room = self.recipe.max_length - self.recipe.history_tokens
        encoded = encode(example, self.tokenizer, max_length=room, with_answer=False)
        self.counts[LOSSES[0]] += encoded.truncated
        return list(encoded.prompt_ids)

    def _found(self, index: HistoryIndex, query: Query) -> str:
        """The items found, best first, and an empty line, within the recipe's tokens."""

        def fits(documents: Sequence[str]) -> bool:
            return len(self._tokens("".join(documents) + "\n")) <= self.recipe.history_tokens

        kept = fitting(self.task, index.top(query, self.recipe.items), fits)
        self.counts[LOSSES[1]] += kept.shortened
        return "".join(kept.documents) + "\n"

    def _as_long(self, lender: HistoryIndex, query: Query, length: int) -> list[int]:
        """The end of as many of the lender's items as make up ``length`` tokens."""
        documents = [self.task.retrieval_document(item) for item in lender.top(query, len(lender.user.history))]
        for count in range(min(self.recipe.items, len(documents)), len(documents) + 1):
            tokens = self._tokens("".join(documents[:count]) + "\n")
            if len(tokens) >= length:
                return tokens[-length:]
        self.counts[LOSSES[2]] += 1
        return tokens

    def _tokens(self, text: str) -> list[int]:
        return plain_ids(text, self.tokenizer)
