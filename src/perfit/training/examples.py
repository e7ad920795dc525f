"""From users to training rows: which records train which stage, and their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from perfit.config import PerFitConfig
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError
from perfit.retrieval import HistoryIndex, prompt_with_history
from perfit.tasks.encode import Encoded, encode, longest_label
from perfit.tasks.task import Example, Task
from perfit.training.rows import TokenRow


class RowMaker:
    """Turns records into rows for one task, tokenizer and config, and counts what it had to shorten or leave out."""

    def __init__(self, task: Task, tokenizer: Any, config: PerFitConfig):
        self.task, self.tokenizer, self.config = task, tokenizer, config
        self.counts: Counter[str] = Counter()
        self._index: HistoryIndex | None = None
        self.answer_room = min(answer_limit(task, tokenizer, config.chat_template), config.max_length // 2)

    def _rows(self, records: Iterable[Any], make: Callable[[Any], Example], user: User) -> list[TokenRow]:
        try:
            return [self._row(make(record)) for record in records]
        except DataError as error:
            raise DataError(str(error), record=f"user {user.id}") from error

    def _row(self, example: Example) -> TokenRow:
        encoded = self._encode(example, with_answer=True)
        self.counts["rows"] += 1
        return TokenRow(encoded.prompt_ids, encoded.answer_ids)

    def _encode(self, example: Example, *, with_answer: bool) -> Encoded:
        # The same room for the answer in training and generation: over-long prompts are cut at the same place.
        encoded = encode(
            example,
            self.tokenizer,
            max_length=self.config.max_length,
            chat_template=self.config.chat_template,
            with_answer=with_answer,
            answer_room=self.answer_room,
        )
        self.counts["shortened prompts"] += encoded.truncated
        return encoded

    def history_rows(self, user: User) -> list[TokenRow]:
        """One row per past item, in the stage-2 template, behind the nearest ``retrieved`` of the items before it."""
        k = self.config.retrieved
        if not k:
            return self._rows(user.history, self.task.history_example, user)
        places = range(len(user.history))
        return self._rows(places, lambda n: self.with_history(user, user.history[n], k, before=n), user)

    def query_rows(self, user: User) -> list[TokenRow]:
        """One row per query with a known answer; others are counted as left out."""
        known = [query for query in user.queries if query.gold is not None]
        self.counts["queries without an answer, left out"] += len(user.queries) - len(known)
        k = self.config.retrieved
        if not k:
            return self._rows(known, lambda query: self.task.query_example(query, training=True), user)
        return self._rows(known, lambda query: self.with_history(user, query, k, training=True), user)

    def collective_rows(self, others: Sequence[User]) -> list[TokenRow]:
        """Rows of stage 1, as ``stage1_data`` says; users without queries give their history in any case."""
        rows: list[TokenRow] = []
        for user in others:
            if self.config.stage1_data in ("queries", "both"):
                rows += self.query_rows(user)
            if self.config.stage1_data in ("history", "both") or not user.queries:
                rows += self.history_rows(user)
        return rows

    def prompt(self, query: Query, asker: User | None = None) -> Encoded:
        """A query's prompt for generation: the tokens that training on it would use, but for ``query_words``.

        Args:
            query: What is asked; its answer is not looked at.
            asker: Who asks; needed where past items go before it.

        Raises:
            ConfigError: There are to be past items, and nobody who has them.
        """
        if not self.config.retrieved:
            return self._encode(self.task.query_example(without_answer(query)), with_answer=False)
        if asker is None:
            raise ConfigError(
                f"retrieved is {self.config.retrieved}: past items go before every prompt, and no history was given; give "
                "who asks with their histories (askers=, on the command line --histories)"
            )
        return self._encode(self.with_history(asker, query, self.config.retrieved), with_answer=False)

    def with_history(
        self, user: User, asked: Query | HistoryItem, k: int, *, before: int | None = None, training: bool = False
    ) -> Example:
        """A query's or past item's example behind the ``k`` nearest of the user's past items, as many as fit.

        Args:
            user: Whose history is searched.
            asked: The query, or a past item asked like one.
            k: How many.
            before: As ``HistoryIndex.top`` has it.
            training: With the query's known answer, its text cut as stage 1 does.
        """
        if self._index is None or self._index.user is not user:
            self._index = HistoryIndex(self.task, user)
        return self.behind(asked, self._index.top(asked, k, before=before), training=training)

    def behind(
        self,
        asked: Query | HistoryItem,
        items: Sequence[HistoryItem],
        *,
        max_length: int | None = None,
        best_last: bool = False,
        training: bool = False,
    ) -> Example:
        """A query's or past item's example behind as many of these items as fit, the first ones kept."""
        found = prompt_with_history(
            self.task,
            without_answer(asked) if isinstance(asked, Query) and not training else asked,
            items,
            self.tokenizer,
            max_length=max_length if max_length is not None else self.config.max_length,
            chat_template=self.config.chat_template,
            answer_room=self.answer_room,
            best_last=best_last,
            training=training,
        )
        self.counts["prompts with less history than asked for"] += found.shortened
        return found.example

    def warnings(self) -> list[str]:
        """Counted losses, one line each, for printing."""
        return [f"{count} {what}" for what, count in self.counts.items() if count and what != "rows"]


def without_answer(query: Query) -> Query:
    """An answer that is to be predicted is never looked at."""
    return replace(query, gold=None)


def answer_limit(task: Task, tokenizer: Any, chat_template: bool = False) -> int:
    """Tokens an answer may take: the task's limit, or for labels the longest one with room to see it end.

    A label task scores exact matches, so that whatever runs past its longest label is wrong already.

    Raises:
        ConfigError: The task's limit is below its longest label, which could never be an answer; or its prompts are
            turns of a chat template, which is not to be used.
    """
    if task.chat and not chat_template:
        raise ConfigError(
            f"chat_template is False; prompts of task {task.name!r} are turns of a chat: set chat_template to true"
        )
    if not task.labels:
        return task.max_new_tokens
    longest = longest_label(task.labels, task.prompt.replace("{input}", ""), tokenizer, chat_template)
    if longest > task.max_new_tokens:
        raise ConfigError(
            f"max_new_tokens is {task.max_new_tokens}, but the longest label of task {task.name!r} has {longest} tokens "
            f"for this base and could never be answered; set max_new_tokens to at least {longest}"
        )
    return min(longest + 3, task.max_new_tokens)
