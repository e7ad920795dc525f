"""From users to training rows: which records train which stage, and their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from perfit.config import PerFitConfig
from perfit.data.schema import Query, User
from perfit.errors import DataError
from perfit.tasks.encode import Encoded, encode
from perfit.tasks.task import Example, Task
from perfit.training.rows import TokenRow


class RowMaker:
    """Turns records into rows for one task, tokenizer and config, and counts what it had to shorten or leave out."""

    def __init__(self, task: Task, tokenizer: Any, config: PerFitConfig):
        self.task, self.tokenizer, self.config = task, tokenizer, config
        self.counts: Counter[str] = Counter()

    def _row(self, example: Example, user: User) -> TokenRow:
        try:
            encoded = encode(
                example, self.tokenizer, max_length=self.config.max_length, chat_template=self.config.chat_template
            )
        except DataError as error:
            raise DataError(str(error), record=f"user {user.id}") from error
        self.counts["rows"] += 1
        self.counts["shortened prompts"] += encoded.truncated
        return TokenRow(encoded.prompt_ids, encoded.answer_ids)

    def history_rows(self, user: User) -> list[TokenRow]:
        """One row per past item, in the stage-2 template."""
        return [self._row(self.task.history_example(item), user) for item in user.history]

    def query_rows(self, user: User) -> list[TokenRow]:
        """One row per query with a known answer; others are counted as left out."""
        known = [query for query in user.queries if query.gold is not None]
        self.counts["queries without an answer, left out"] += len(user.queries) - len(known)
        return [self._row(self.task.query_example(query, training=True), user) for query in known]

    def collective_rows(self, others: Sequence[User]) -> list[TokenRow]:
        """Rows of stage 1, as ``stage1_data`` says."""
        rows: list[TokenRow] = []
        for user in others:
            if self.config.stage1_data in ("queries", "both"):
                rows += self.query_rows(user)
            if self.config.stage1_data in ("history", "both"):
                rows += self.history_rows(user)
        return rows

    def prompt(self, query: Query, *, answer_room: int = 0) -> Encoded:
        """A query's prompt for generation: the same tokens that training on it would use."""
        encoded = encode(
            self.task.query_example(Query(query.id, query.input, None, query.date)),
            self.tokenizer,
            max_length=self.config.max_length,
            chat_template=self.config.chat_template,
            with_answer=False,
            answer_room=answer_room,
        )
        self.counts["shortened prompts"] += encoded.truncated
        return encoded

    def warnings(self) -> list[str]:
        """Counted losses, one line each, for printing."""
        return [f"{count} {what}" for what, count in self.counts.items() if count and what != "rows"]
