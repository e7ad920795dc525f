"""Answers out of a given set: at each step, only tokens that continue one of them may be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfit.errors import ConfigError


@dataclass(frozen=True)
class Answers:
    """The answers that a prompt may get.

    Attributes:
        texts: The text of each answer by its tokens, the closing eos included.
        following: What may come after the tokens said so far, rising; nothing is there after a whole answer.
    """

    texts: Mapping[tuple[int, ...], str]
    following: Mapping[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> Answers:
        """These answers, with their tokens.

        Raises:
            ConfigError: There is no answer, one has no tokens, or two have the same.
        """
        known = dict(zip(map(tuple, tokens), texts, strict=True))
        if not known or () in known:
            raise ConfigError("labels: every label needs at least one token; give labels that are not empty")
        if len(known) < len(texts):
            raise ConfigError("labels: two labels have the same tokens; give labels that the tokenizer tells apart")
        following: dict[tuple[int, ...], set[int]] = {}
        for answer in known:
            for said in range(len(answer)):
                following.setdefault(answer[:said], set()).add(answer[said])
        return cls(known, {said: tuple(sorted(after)) for said, after in following.items()})

    @property
    def longest(self) -> int:
        """Tokens of the longest answer, its eos included."""
        return max(map(len, self.texts))

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


Within = Callable[[Sequence[int]], Answers]
"""The answers that a prompt (token ids) may get."""


def only(scores: Tensor, answers: Sequence[Answers], said: Sequence[Sequence[int]]) -> Tensor:
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
