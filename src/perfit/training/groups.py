"""Learners whose frozen parts are computed together: batches of like length need many rows.

A group is a run of consecutive learners, decided by their order and sizes alone, and always computed whole: a resumed
training computes the same batches again, and so the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from perfit.training.rows import Runner, TokenRow

_MOST = 64
_SHARE = 0.25  # of the memory budget: two groups overlap while users of one leave and of the next join


class Member(Protocol):
    """What a group needs to know of a learner."""

    @property
    def name(self) -> str:
        """The user's id."""
        ...

    @property
    def rows(self) -> Sequence[TokenRow]:
        """Training rows."""
        ...


@dataclass
class Group:
    """Learners ``start`` .. ``stop`` − 1 with what is held for those who have not yet left.

    Attributes:
        rows: Rows by learner.
        sizes: Bytes of frozen parts by learner.
        items: Frozen parts by learner, once prepared.
    """

    start: int
    stop: int
    rows: dict[str, list[TokenRow]]
    sizes: dict[str, int]
    items: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, learners: Sequence[Member], start: int, stop: int, runner: Runner) -> Group:
        """The group of given bounds, not yet prepared."""
        rows = {learner.name: list(learner.rows) for learner in learners[start:stop]}
        return cls(start, stop, rows, {name: sum(map(runner.size, own)) for name, own in rows.items()})

    @classmethod
    def next(cls, learners: Sequence[Member], start: int, runner: Runner, memory: float) -> Group:
        """The group that begins with learner ``start``: as many as fit a share of the memory, at least one."""
        rows: dict[str, list[TokenRow]] = {}
        sizes: dict[str, int] = {}
        for learner in learners[start : start + _MOST]:
            own = list(learner.rows)
            need = sum(map(runner.size, own))
            if rows and sum(sizes.values()) + need > memory * _SHARE:
                break
            rows[learner.name], sizes[learner.name] = own, need
        return cls(start, start + len(rows), rows, sizes)

    @property
    def held(self) -> int:
        """Bytes of all frozen parts that are still needed."""
        return sum(self.sizes.values())

    def prepare(self, runner: Runner, done: Callable[[int], None]) -> None:
        """Compute all frozen parts."""
        items = iter(runner.prepare([row for own in self.rows.values() for row in own], done))
        self.items = {name: list(islice(items, len(own))) for name, own in self.rows.items()}

    def leave(self, name: str) -> None:
        """Forget what is held for a learner who is through."""
        self.rows.pop(name, None)
        self.sizes.pop(name, None)
        self.items.pop(name, None)

    def keep_only(self, names: set[str]) -> None:
        """Forget all learners but these."""
        for name in list(self.rows):
            if name not in names:
                self.leave(name)
