"""What a task is: prompts, the answer, the labels and the metrics, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from perfit.data.schema import HistoryItem, Query, Turn
from perfit.errors import ConfigError, DataError
from perfit.shown import shown
from perfit.stop_strings import checked_stop, stops
from perfit.tasks.template import fill, slots
from perfit.words import composed, first_words

Kind = Literal["label", "rating", "text"]

METRICS: Mapping[str, tuple[str, ...]] = {
    "label": ("accuracy",),
    "rating": ("mae",),
    "text": ("rougeL", "rouge1", "rougeL_recall", "rouge1_recall", "exact_match"),
}
"""Per kind of task, the metrics that have a value per query; the first is the default."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its answer, before tokens. The model sees ``prompt + " " + answer + eos``.

    The prompt is ``head + body + tail``; only ``body`` (the user's text) may be shortened, so that neither the
    instruction nor the closing cue ("category:") is ever lost. Of a conversation, the prompt is the last turn, and
    ``turns`` is what was said before it.
    """

    id: str
    head: str
    body: str
    tail: str
    answer: str | None
    turns: tuple[Turn, ...] = ()

    @property
    def prompt(self) -> str:
        """The whole prompt text."""
        return self.head + self.body + self.tail


@dataclass(frozen=True)
class Task:
    """A personalisation task.

    Templates hold slots such as ``{text}``; any other brace is an ordinary character, and a brace in a user's text
    is never read as a slot.

    Attributes:
        name: e.g. "news_categorize".
        lamp_id: The evaluator's name, e.g. "LaMP_2N"; None for tasks of one's own.
        kind: "label" (one of ``labels``), "rating" (a number of ``labels``) or "text" (free text).
        prompt: Template with one ``{input}``: stage 1 on queries and every evaluation.
        history_prompt: Template over a history item's fields, e.g. ``... article: {text} category:`` (stage 2).
        history_answer: Name of the history field that holds the answer.
        history_input: The field of ``history_prompt`` that may be shortened; needed only when it has several.
        marker: In LaMP question strings the article begins after this text; None takes the whole input.
        labels: The full label list, for label and rating tasks.
        metric: The metric that counts per query; None takes the first of ``METRICS[kind]``.
        max_new_tokens: Generation limit.
        stop: Texts that end an answer and are no part of it.
        repetition_penalty / no_repeat_ngram: As of ``Decoding``; 1 and 0 leave repetition alone.
        retrieval_item / retrieval_query: Templates for retrieval over the history (``{field}`` / ``{input}``).
        chat: Whether records may be ends of conversations: prompts are turns of the base's chat template.
        query_words: Stage-1 articles are cut to so many words; None never cuts. Evaluation is not cut.
        history_words: Stage-2 history texts are cut to so many words; None never cuts. Answers are not cut.
        retrieval_words: History texts put into a prompt by retrieval are cut to so many words; None never cuts.

    Raises:
        ConfigError: A field has an impossible value.

    Source: prompts and word limits are the OPPU protocol's, which the paper follows (Appendix D).
    """

    name: str
    lamp_id: str | None
    kind: Kind
    prompt: str
    history_prompt: str
    history_answer: str
    marker: str | None = None
    labels: tuple[str, ...] = ()
    max_new_tokens: int = 200
    retrieval_item: str = ""
    retrieval_query: str = ""
    history_input: str | None = None
    metric: str | None = None
    query_words: int | None = 768
    history_words: int | None = 768
    retrieval_words: int | None = 368
    stop: tuple[str, ...] = ()
    chat: bool = False
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("name is empty; give the task a name such as 'news_categorize'")
        if self.kind not in get_args(Kind):
            raise ConfigError(f"kind is {self.kind!r}; use one of {', '.join(get_args(Kind))}")
        self._check_templates()
        self._check_labels()
        object.__setattr__(self, "stop", checked_stop(self.stop))
        check_repetition(self.repetition_penalty, self.no_repeat_ngram)
        for label in self.labels:
            if stops(label, self.stop):
                raise ConfigError(
                    f"stop is {list(self.stop)!r}; the label {label!r} holds one and could never be answered"
                )
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            allowed = ", ".join(METRICS[self.kind])
            raise ConfigError(f"metric is {self.metric!r}; a task of kind {self.kind!r} can use: {allowed}")
        if self.marker == "":
            raise ConfigError("marker is ''; leave it out (None) to take the whole input")
        if not _is_count(self.max_new_tokens):
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens!r}; use a whole number of at least 1")
        for field in ("query_words", "history_words", "retrieval_words"):
            value = getattr(self, field)
            if value is not None and not _is_count(value):
                raise ConfigError(f"{field} is {value!r}; use a whole number of at least 1, or None for no limit")

    def _check_templates(self) -> None:
        if slots(self.prompt) != ["input"]:
            raise ConfigError(f"prompt is {self.prompt!r}; it must hold {{input}} once and no other slot")
        if self.retrieval_query and slots(self.retrieval_query) != ["input"]:
            raise ConfigError(
                f"retrieval_query is {self.retrieval_query!r}; it must hold {{input}} once and no other slot"
            )
        if not self.history_answer:
            raise ConfigError("history_answer is ''; name the history field that holds the answer")
        fields = slots(self.history_prompt)
        if self.history_answer in fields:
            raise ConfigError(
                f"history_prompt is {self.history_prompt!r}; it shows the model the answer; "
                f"take {{{self.history_answer}}} out"
            )
        if len(set(fields)) != len(fields):
            raise ConfigError(f"history_prompt is {self.history_prompt!r}; use each field once")
        if not fields and self.kind != "text":
            raise ConfigError(
                f"history_prompt is {self.history_prompt!r}; it needs a field in braces, such as {{text}}"
            )
        if self.history_input is None and len(fields) > 1:
            raise ConfigError(
                f"history_input is None; name the field that may be shortened, one of {', '.join(fields)}"
            )
        if self.history_input is not None and self.history_input not in fields:
            raise ConfigError(
                f"history_input is {self.history_input!r}; history_prompt has {', '.join(fields) or 'no field'}; "
                "use one of its fields"
            )

    def _check_labels(self) -> None:
        if self.kind == "text":
            if self.labels:
                raise ConfigError(f"labels has {len(self.labels)} entries; a task of kind 'text' takes none")
            return
        if len(self.labels) < 2:
            raise ConfigError(f"labels is {list(self.labels)!r}; a task of kind {self.kind!r} needs at least two")
        for label in self.labels:
            if not label or label != label.strip():
                raise ConfigError(f"labels holds {label!r}; labels are not empty and have no space around them")
        if self.kind == "rating" and any(as_number(label) is None for label in self.labels):
            raise ConfigError(f"labels is {list(self.labels)!r}; labels of kind 'rating' are numbers")
        if len(self._spellings) != len(self.labels):
            raise ConfigError(f"labels is {list(self.labels)!r}; name each label once, in one spelling")

    @property
    def primary_metric(self) -> str:
        """Name of the metric that has one value per query."""
        return self.metric or METRICS[self.kind][0]

    @property
    def body_field(self) -> str | None:
        """The history field that becomes the body of a stage-2 example; None when its prompt has no field."""
        return self.history_input or next(iter(slots(self.history_prompt)), None)

    @cached_property
    def _spellings(self) -> dict[str | float | None, str]:
        """The task's own spelling by what is equal: a rating's number, a label's composed form."""
        return {self._same(label): label for label in self.labels}

    def _same(self, answer: str) -> str | float | None:
        return as_number(answer) if self.kind == "rating" else composed(answer)

    def spelled(self, answer: str) -> str | None:
        """An answer as this task spells it, blanks around it aside; None when it is none of its answers.

        A rating is the label of the same number ("4.0" and "4" are one), a label the one of the same composed form
        (an accent may be a sign of its own), free text its composed form (NFC). Whatever learns, scores, counts or
        audits takes answers from here, so that one value has one spelling.
        """
        text = composed(answer).strip()
        return (text or None) if self.kind == "text" else self._spellings.get(self._same(text))

    def article(self, query: Query) -> str:
        """The user's text inside a query, in its composed form: what follows the marker's first occurrence.

        Raises:
            DataError: The marker is missing (the message names the query, never its text).
        """
        if self.marker is None:
            return composed(query.input)
        _, found, article = query.input.partition(self.marker)
        if not found:
            raise DataError(
                f"the input lacks the marker {self.marker!r} of task {self.name!r}",
                record=f"query {query.id}",
                remedy="use the LaMP question string, or choose the task this question belongs to",
            )
        return composed(article)

    def query_example(self, query: Query, *, training: bool = False) -> Example:
        """The prompt of a query: stage 1 (``training=True``, cut to ``query_words``) and evaluation (not cut).

        Raises:
            DataError: The marker is missing, or the gold answer is unusable.
        """
        article = self.article(query)
        if training:
            article = first_words(article, self.query_words)
        head, _, tail = self.prompt.partition("{input}")
        answer = None if query.gold is None else self.check_gold(query.gold, f"query {query.id}")
        return Example(query.id, head, article, tail, answer, self._turns(query, "query"))

    def history_example(self, item: HistoryItem) -> Example:
        """The stage-2 example of one past item, its text cut to ``history_words``; the answer is never cut.

        Raises:
            DataError: A field is missing, or the answer is unusable.
        """
        answer = self.answer_of(item)
        body_field = self.body_field
        if body_field is None:
            return Example(item.id, self.history_prompt, "", "", answer, self._turns(item, "history item"))
        head, _, tail = self.history_prompt.partition(f"{{{body_field}}}")

        def value(name: str) -> str:
            return first_words(self.field_of(item, name), self.history_words)

        turns = self._turns(item, "history item")
        return Example(item.id, fill(head, value), value(body_field), fill(tail, value), answer, turns)

    def _turns(self, record: Query | HistoryItem, what: str) -> tuple[Turn, ...]:
        if record.turns and not self.chat:
            raise DataError(
                f"it is the end of a conversation, and task {self.name!r} reads texts alone",
                record=f"{what} {record.id}",
                remedy="choose the task 'chat', or one of your own with chat: true",
            )
        return tuple(Turn(turn.role, composed(turn.content)) for turn in record.turns)

    def answer_of(self, item: HistoryItem) -> str:
        """The answer a past item holds, as the task spells it.

        Raises:
            DataError: The field is missing, or its value is no answer of this task.
        """
        return self.check_gold(self.field_of(item, self.history_answer), f"history item {item.id}")

    def check_gold(self, gold: str, record: str) -> str:
        """The gold answer of ``record`` (e.g. "query 17") as the task spells it, if it is one this task can have.

        Raises:
            DataError: It is empty, or outside the label set; the message names the record only.
        """
        if not gold.strip():
            raise DataError("the answer is empty", record=record, remedy="give an answer or leave the record out")
        answer = self.spelled(gold)
        if answer is None and self.kind == "rating":
            raise DataError(
                f"the answer is not one of the ratings {', '.join(self.labels)}",
                record=record,
                remedy="correct the record, or use a task with its own ratings",
            )
        if answer is None:
            raise DataError(
                f"the answer is not one of the {len(self.labels)} labels of task {self.name!r}",
                record=record,
                remedy="correct the record, or use a task with its own label list",
            )
        return answer

    def field_of(self, item: HistoryItem, name: str) -> str:
        """One field of a history item, in its composed form.

        Raises:
            DataError: The item has no such field.
        """
        try:
            return composed(item.fields[name])
        except KeyError:
            if (kind := dict(item.unread).get(name)) is not None:
                raise DataError(
                    f"the field {name!r} is {kind}, not text",
                    record=f"history item {item.id}",
                    remedy="write it as text",
                ) from None
            raise DataError(
                f"the field {name!r} is missing (fields: {', '.join(sorted(item.fields)) or 'none'})",
                record=f"history item {item.id}",
                remedy=f"task {self.name!r} needs it; choose the task these items belong to",
            ) from None

    def retrieval_document(self, item: HistoryItem) -> str:
        """A past item as retrieval indexes it and puts it into a prompt, answer included; its fields are cut.

        Raises:
            DataError: A field is missing.
        """

        def value(name: str) -> str:
            text = self.field_of(item, name)
            if self.labels and name == self.history_answer:
                text = self.spelled(text) or text
            return first_words(text, self.retrieval_words)

        return fill(self.retrieval_item, value)

    def retrieval_question(self, query: Query) -> str:
        """The text with which retrieval searches the history for a query (instruction words included).

        Raises:
            DataError: The marker is missing.
        """
        head, _, tail = self.retrieval_query.partition("{input}")
        return head + self.article(query) + tail


def as_number(text: str) -> float | None:
    """The number a text states, or None; "nan" and "inf" are none, though Python reads them as numbers."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def check_repetition(penalty: object, ngram: object) -> None:
    """Refuse what is no repetition control.

    Raises:
        ConfigError: It is.
    """
    if not isinstance(penalty, int | float) or isinstance(penalty, bool) or not 0 < penalty < math.inf:
        raise ConfigError(
            f"repetition_penalty: {shown(repr(penalty))} is not possible; give a number above 0, such as 1.2 (1 is off)"
        )
    if (ngram != 0 and not _is_count(ngram)) or isinstance(ngram, bool):
        raise ConfigError(
            f"no_repeat_ngram: {shown(repr(ngram))} is not possible; give a whole number of at least 1 (0 is off)"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
