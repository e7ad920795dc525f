"""What a training must know of all rows before the first step, from one pass that keeps none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from perfit.training.rows import TokenRow

_SAMPLE = 256


@dataclass
class RowSummary:
    """All rows of all learners, seen once.

    Attributes:
        prefix: Tokens that all prompts begin with.
        prompts: How many prompts have which length.
        sample: The first rows.
        heaviest: Rows and prompt tokens of the learner with most prompt tokens.
    """

    prefix: tuple[int, ...] = ()
    prompts: Counter[int] = field(default_factory=Counter)
    sample: list[TokenRow] = field(default_factory=list)
    heaviest: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, learners: Iterable[Sequence[TokenRow]]) -> RowSummary:
        """Look at every row of every learner."""
        found = cls()
        first = True
        for rows in learners:
            tokens = count = 0
            for row in rows:
                ids = row.prompt_ids
                found.prefix = ids if first else found.prefix[: _common(found.prefix, ids)]
                first = False
                found.prompts[len(ids)] += 1
                tokens, count = tokens + len(ids), count + 1
                if len(found.sample) < _SAMPLE:
                    found.sample.append(row)
            found.heaviest = max(found.heaviest, (count, tokens), key=lambda pair: pair[1])
        return found

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.prompts.total()

    def spread(self, count: int) -> list[TokenRow]:
        """So many rows from the shortest to the middle one of the sample, on which an engine proves itself."""
        by_length = sorted(self.sample, key=lambda row: len(row.input_ids))
        middle = len(by_length) // 2
        return [by_length[middle * place // (count - 1)] for place in range(count)]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    # Most prompts agree in all of it: slices compare faster than tokens one by one.
    if a == b[: len(a)]:
        return len(a)
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
