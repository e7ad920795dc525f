"""Answers out of a given set, by their tokens: what runs to score them all, and what may come next to choose one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfit.errors import ConfigError
from perfit.tasks.encode import label_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class LabelSet:
    """The answers that a prompt may get.

    Attributes:
        answers: Each one's tokens, the closing eos included.
        texts: Each one's text; none where answers are only scored.
    """

    answers: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, answers: Sequence[Sequence[int]], texts: Sequence[str] = ()) -> LabelSet:
        """These answers.

        Raises:
            ConfigError: There is no answer, one has no tokens, or two have the same.
        """
        kept = tuple(tuple(answer) for answer in answers)
        if not kept or not all(kept):
            raise ConfigError("labels: every label needs at least one token; give labels that are not empty")
        if len(set(kept)) != len(kept):
            raise ConfigError("labels: two labels have the same tokens; give labels that the tokenizer tells apart")
        return cls(kept, tuple(texts))

    @property
    def longest(self) -> int:
        """Tokens of the longest answer, its eos included."""
        return max(map(len, self.answers))

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of an answer."""
        return self.texts[self.answers.index(tuple(tokens))]

    # To score all: the first token of every answer is scored by the prompt itself, the last one never runs. An answer
    # whose tokens begin another's ("science", "science fiction") is scored on that one's path.

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """Token sequences to run after the prompt, none of which begins another."""
        # In sorted order a sequence is followed by those that it begins.
        inner = sorted({answer[:-1] for answer in self.answers} - {()})
        return tuple(path for path, after in zip(inner, [*inner, ()][1:], strict=True) if after[: len(path)] != path)

    @cached_property
    def path_of(self) -> tuple[int, ...]:
        """Per answer the index of its path; -1 where the prompt alone scores it."""
        runs = [answer[:-1] for answer in self.answers]
        return tuple(
            next(i for i, path in enumerate(self.paths) if path[: len(run)] == run) if run else -1 for run in runs
        )

    def read(self, path: int) -> list[tuple[int, int, int]]:
        """What is read off a path: (column, token, label)."""
        return [
            (column, answer[column + 1], label)
            for label, (answer, own) in enumerate(zip(self.answers, self.path_of, strict=True))
            if own == path
            for column in range(len(answer) - 1)
        ]

    # To choose one token by token.

    @cached_property
    def following(self) -> Mapping[tuple[int, ...], tuple[int, ...]]:
        """What may come after the tokens said so far, rising; nothing is there after a whole answer."""
        following: dict[tuple[int, ...], set[int]] = {}
        for answer in self.answers:
            for said in range(len(answer)):
                following.setdefault(answer[:said], set()).add(answer[said])
        return {said: tuple(sorted(after)) for said, after in following.items()}

    def take(self, said: list[int], token: int) -> bool:
        """Add a chosen token to those said; where only one answer goes on like this, add its rest and return True.

        The rest need not run: a label that its first token tells from all others costs one forward.
        """
        said.append(token)
        whole = list(said)
        while len(after := self.following.get(tuple(whole), ())) == 1:
            whole += after
        if after:
            return False
        said[:] = whole
        return True


Within = Callable[[Sequence[int]], LabelSet]
"""The answers that a prompt (token ids) may get."""


def labels_after(labels: Sequence[str], tokenizer: PreTrainedTokenizerBase, chat_template: bool) -> Within:
    """A task's labels as the answers of its prompts; calling it raises as ``LabelSet.of``."""

    # A label's tokens may depend on what they follow; in a task's prompts that is one and the same token.
    @cache
    def after(last: int) -> LabelSet:
        return LabelSet.of(label_ids(labels, tokenizer, last, chat_template), labels)

    return lambda prompt: after(prompt[-1])


def by_label_set(prompts: Sequence[Sequence[int]], within: Within) -> Iterator[tuple[LabelSet, list[int]]]:
    """Each set of answers, and the numbers of the prompts that may get them: those that end with the same token."""
    for last in dict.fromkeys(prompt[-1] for prompt in prompts):
        yield within((last,)), [row for row, prompt in enumerate(prompts) if prompt[-1] == last]


def only(scores: Tensor, answers: Sequence[LabelSet], said: Sequence[Sequence[int]]) -> Tensor:
    """Scores [rows, vocabulary] with minus infinity for whatever continues none of a row's answers.

    Args:
        scores: Of the next token of each row; they stay as they are.
        answers: Of each row.
        said: The tokens of each row after its prompt; rows with a whole answer have nothing left.
    """
    places = [
        (row, token)
        for row, (own, tokens) in enumerate(zip(answers, said, strict=True))
        for token in own.following.get(tuple(tokens), ())
    ]
    rows, allowed = torch.tensor(places, dtype=torch.long, device=scores.device).view(-1, 2).unbind(1)
    kept = torch.full_like(scores, -torch.inf)
    kept[rows, allowed] = scores[rows, allowed]
    return kept


def most_tokens(within: Within | None, prompts: Sequence[Sequence[int]], limit: int) -> int:
    """Most new tokens after any of the prompts: ``limit``, or as many as the longest answer has."""
    return limit if within is None else max(within(prompt).longest for prompt in prompts)
