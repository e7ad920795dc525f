"""What a user's history says about a query: BM25 over past items, and prompts that begin with what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, MissingExtraError
from perfit.tasks.encode import text_ids
from perfit.tasks.task import Example, Task
from perfit.words import count_words, terms

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HistoryIndex:
    """BM25 over one user's past items, in the task's retrieval templates.

    Documents are the items as a prompt shows them, answer included; words are what blanks separate, case kept, and in
    scripts without blanks overlapping pairs of characters (``perfit.words.terms``); the question holds its instruction words (k1 1.5, b 0.75). Words of more than half of the documents weigh a quarter of
    the mean idf, which is negative where nearly all words are such: in a history of one or two items, say.

    Args:
        task: Brings the templates.
        user: Whose history is searched.

    Raises:
        ConfigError: The task has no retrieval templates.
        DataError: A past item lacks a field.

    Source: the OPPU protocol (BM25Okapi), which the paper's section 3.1 and Appendix B.1 follow.
    """

    def __init__(self, task: Task, user: User):
        if not task.retrieval_item or not task.retrieval_query:
            raise ConfigError(f"task {task.name!r} has no retrieval_item and retrieval_query; give it both templates")
        self.task, self.user = task, user
        self._words = [terms(task.retrieval_document(item)) for item in user.history]
        self._index: tuple[int, Any] | None = None

    def top(self, query: Query | HistoryItem, k: int, *, before: int | None = None) -> list[HistoryItem]:
        """The ``k`` past items nearest to a query, best first; of equals the later one.

        Args:
            query: A query, or a past item that is asked like one (stage 2 with retrieval).
            k: How many; fewer come when the history is shorter.
            before: Only the first so many items of the history may be found: for a past item at index i, ``before=i``
                hides it and all later ones, and their words count nowhere.

        Raises:
            ConfigError: ``k`` or ``before`` is negative.
            DataError: The query lacks the task's marker, or a past item its field.
            MissingExtraError: rank-bm25 is not installed.
        """
        if k < 0 or (before is not None and before < 0):
            raise ConfigError(f"k is {k} and before is {before}; neither may be negative")
        visible = len(self._words) if before is None else min(before, len(self._words))
        if not visible or not k:
            return []
        scores = self._built(visible).get_scores(terms(_question(self.task, query)))
        # rank_bm25's own get_top_n leaves equals in whatever order its sort has.
        order = sorted(range(visible), key=lambda i: (-float(scores[i]), -i))
        return [self.user.history[i] for i in order[:k]]

    def _built(self, visible: int) -> Any:
        """The index of the first so many items; the last one made is kept."""
        if self._index is None or self._index[0] != visible:
            self._index = visible, _okapi()(self._words[:visible], k1=1.5, b=0.75, epsilon=0.25)
        return self._index[1]


def _question(task: Task, query: Query | HistoryItem) -> str:
    if isinstance(query, Query):
        return task.retrieval_question(query)
    head, _, tail = task.retrieval_query.partition("{input}")
    field = task.body_field or task.history_answer
    return head + task.field_of(query, field) + tail


def _okapi() -> Any:
    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        raise MissingExtraError("retrieval", "rank-bm25") from None
    return BM25Okapi


@dataclass(frozen=True, slots=True)
class HistoryPrompt:
    """A prompt that begins with past items.

    Attributes:
        example: History and instruction are its head, so that ``encode`` shortens neither.
        items: Those that stand in it, best first.
        shortened: Whether items were left out, or the one that stayed lost words, to fit.
    """

    example: Example
    items: tuple[HistoryItem, ...]
    shortened: bool


def prompt_with_history(
    task: Task,
    query: Query | HistoryItem,
    items: Sequence[HistoryItem],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    chat_template: bool = False,
    answer_room: int = 0,
    training: bool = False,
    best_last: bool = False,
) -> HistoryPrompt:
    """A query's (or past item's) prompt with past items before it: items best first, an empty line, the prompt.

    What does not fit goes from the history, never from the query, its instruction or its closing cue: the least
    relevant item first; the last one left loses the ends of its texts, then goes too.

    Args:
        task: Brings the templates.
        query: What is asked.
        items: Past items, best first, as ``HistoryIndex.top`` gives them.
        tokenizer: Counts the tokens.
        max_length: Most tokens of prompt and answer room together.
        chat_template: Whether the prompt will be a turn of the tokenizer's chat template.
        answer_room: Tokens kept free for the answer.
        training: Cut a query's article to ``task.query_words``, as stage 1 does.
        best_last: Show the items in the reverse of their order: those given newest first stand in order of time.

    Raises:
        DataError: The query lacks the marker, or an item a field.

    Source: the OPPU protocol; the paper's Figure 10.
    """
    bare = task.query_example(query, training=training) if isinstance(query, Query) else task.history_example(query)

    def joined(documents: Sequence[str]) -> str:
        shown = reversed(documents) if best_last else documents
        return "".join(shown) + "\n" if documents else ""

    def fits(documents: Sequence[str]) -> bool:
        return (
            len(text_ids(joined(documents) + bare.prompt, tokenizer, chat_template, bare.turns))
            <= max_length - answer_room
        )

    kept = fitting(task, items, fits)
    example = replace(bare, head=joined(kept.documents) + bare.head)
    return HistoryPrompt(example, tuple(items[: len(kept.documents)]), kept.shortened)


@dataclass(frozen=True, slots=True)
class Fitting:
    """Documents of the first past items, as many as fit, and whether anything was lost."""

    documents: tuple[str, ...]
    shortened: bool


def fitting(task: Task, items: Sequence[HistoryItem], fits: Callable[[Sequence[str]], bool]) -> Fitting:
    """The documents of as many leading items as fit; a first one too long alone loses the ends of its texts."""
    documents = [task.retrieval_document(item) for item in items]
    if documents and fits(documents):
        return Fitting(tuple(documents), shortened=False)
    count, too_many_items = 0, len(documents)
    while too_many_items - count > 1:  # a longer history is a longer prompt
        middle = (count + too_many_items) // 2
        count, too_many_items = (middle, too_many_items) if fits(documents[:middle]) else (count, middle)
    if count:
        return Fitting(tuple(documents[:count]), shortened=True)
    if not documents:
        return Fitting((), shortened=False)

    def short(words: int) -> str:
        return replace(task, retrieval_words=words).retrieval_document(items[0])

    fit, too_many = 0, max(count_words(text) for text in items[0].fields.values())
    if task.retrieval_words is not None:
        too_many = min(too_many, task.retrieval_words)
    while too_many - fit > 1:
        middle = (fit + too_many) // 2
        fit, too_many = (middle, too_many) if fits([short(middle)]) else (fit, middle)
    return Fitting((short(fit),) if fit else (), shortened=True)
