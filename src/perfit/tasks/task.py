"""What a task is: prompts, the answer, the labels and the metrics, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perfit.data.schema import HistoryItem, Query
from perfit.errors import DataError


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its answer, before tokens. The model sees ``prompt + " " + answer + eos``.

    The prompt is ``head + body + tail``; only ``body`` (the user's text) may be shortened, so that neither the
    instruction nor the closing cue ("category:") is ever lost.
    """

    id: str
    head: str
    body: str
    tail: str
    answer: str | None

    @property
    def prompt(self) -> str:
        """The whole prompt text."""
        return self.head + self.body + self.tail


@dataclass(frozen=True)
class Task:
    """A personalisation task.

    Attributes:
        name: e.g. "news_categorize".
        lamp_id: The evaluator's name, e.g. "LaMP_2N"; None for tasks of one's own.
        kind: "label" (one of ``labels``), "rating" (a number of ``labels``) or "text" (free text).
        prompt: Template with one ``{input}``: stage 1 on queries and every evaluation.
        history_prompt: Template over a history item's fields, e.g. ``... article: {text} category:`` (stage 2).
        history_answer: Name of the history field that holds the answer.
        marker: In LaMP question strings the article begins after this text; None takes the whole input.
        labels: The full label list, for label and rating tasks.
        max_new_tokens: Generation limit.
        retrieval_item / retrieval_query: Templates for retrieval over the history (``{field}`` / ``{input}``).
    """

    name: str
    lamp_id: str | None
    kind: Literal["label", "rating", "text"]
    prompt: str
    history_prompt: str
    history_answer: str
    marker: str | None = None
    labels: tuple[str, ...] = ()
    max_new_tokens: int = 200
    retrieval_item: str = ""
    retrieval_query: str = ""
