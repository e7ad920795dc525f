"""What is compared: methods with their options, seeds, and which part of the data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from perfit.data.pool import some_of
from perfit.data.schema import Dataset, User
from perfit.errors import ConfigError
from perfit.methods.registry import seeded
from perfit.own import PLACE

# A variant's options stand in brackets; names are folders' names too.
_NAME = re.compile(rf"([a-z0-9][a-z0-9@+._-]*|{PLACE.pattern})(\[[A-Za-z0-9_=,.+\[\]-]+\])?", re.ASCII)
_LONGEST = 200


@dataclass(frozen=True, order=True)
class Trial:
    """One method trained and asked with one seed."""

    method: str
    seed: int

    @property
    def folder(self) -> str:
        """Its folder below ``trials``: "package.module:Class" has a sign in it that not every file system takes."""
        return f"{folder_of(self.method)}/seed-{self.seed}"


def folder_of(method: str) -> str:
    """Name of a method's folder."""
    return method.replace(":", "@")


@dataclass(frozen=True)
class Plan:
    """Which trials there are, and what they are held against.

    Attributes:
        methods: Names in ``METHODS``, in the order of the table.
        seeds: Each method runs once with each; one without chance runs with the first alone.
        options: Options of ``make_method`` by method, where they are not its defaults.
        against: The method that differences and significance refer to; None leaves them out.

    Raises:
        ConfigError: A name or seed comes twice or is impossible, or ``options`` or ``against`` name another method.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    against: str | None = None

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("methods: none is given; name at least one, such as base,perfit")
        if not self.seeds:
            raise ConfigError("seeds: none is given; give at least one, such as 0")
        for name, values in (("methods", self.methods), ("seeds", self.seeds)):
            twice = {value for value in values if list(values).count(value) > 1}
            if twice:
                raise ConfigError(f"{name}: {sorted(map(str, twice))[0]} comes twice; name each once")
        for method in self.methods:
            if not _NAME.fullmatch(method):
                raise ConfigError(f"methods: {method!r} cannot be a method's name")
            if len(method) > _LONGEST:
                raise ConfigError(
                    f"methods: {method[:40]}... is too long for a folder's name; give its options by --option"
                )
        for seed in self.seeds:
            if seed < 0:
                raise ConfigError(f"seeds: {seed} is not possible; give whole numbers from 0")
        for method in self.options:
            if method not in self.methods:
                raise ConfigError(f"options: {method} is not compared; add it to the methods or leave its options out")
        if self.against is not None and self.against not in self.methods:
            raise ConfigError(f"against: {self.against} is not compared; choose one of {', '.join(self.methods)}")

    def trials(self, ran: Mapping[str, int] = {}) -> list[Trial]:
        """All trials, seed by seed, so that a whole table of the first seed is there early.

        Args:
            ran: By method, the seed with which it has run already: one without chance keeps to it.
        """
        once = {method: ran.get(method, self.seeds[0]) for method in self.methods if not seeded(method)}
        return [
            Trial(method, once.get(method, seed))
            for place, seed in enumerate(self.seeds)
            for method in self.methods
            if place == 0 or method not in once
        ]

    def options_of(self, method: str) -> dict[str, Any]:
        """Options that ``make_method`` gets for a method."""
        return dict(self.options.get(method, {}))


@dataclass(frozen=True)
class Selection:
    """A part of the data, for comparisons that must end sooner. None takes everything.

    Attributes:
        users: The first so many users.
        queries: The first so many answered queries of each user.
        history: The latest so many history items of each user, of the other users too.
        pool: The first so many other users (stage 1).
        pool_seed: Draws as many at random instead, always the same ones.

    Raises:
        ConfigError: A number is below 1, or there is a seed without a number of users to draw.
    """

    users: int | None = None
    queries: int | None = None
    history: int | None = None
    pool: int | None = None
    pool_seed: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and one.name != "pool_seed" and value < 1:
                raise ConfigError(f"{one.name}: {value} is not possible; give at least 1")
        if self.pool_seed is not None and (self.pool is None or self.pool_seed < 0):
            raise ConfigError(
                f"pool_seed: {self.pool_seed} is not possible; give a number from 0, and pool, how many to draw"
            )

    def of(self, data: Dataset) -> tuple[Dataset, dict[str, int]]:
        """The chosen part of the data, and what was left out of it for want of answers, counted."""
        users = data.users[: self.users]
        unanswered = sum(query.gold is None for user in users for query in user.queries)
        kept = [self._cut(user) for user in users]
        idle = sum(not user.queries for user in kept)
        left_out = {"queries without a known answer": unanswered, "users without an answered query": idle}
        others = tuple(
            replace(user, history=self._latest(user)) for user in some_of(data.others, self.pool, self.pool_seed)
        )
        chosen = replace(data, users=tuple(user for user in kept if user.queries), others=others)
        return chosen, {what: count for what, count in left_out.items() if count}

    def _cut(self, user: User) -> User:
        answered = tuple(query for query in user.queries if query.gold is not None)
        return replace(user, history=self._latest(user), queries=answered[: self.queries])

    def _latest(self, user: User) -> Any:
        return user.history if self.history is None else user.history[-self.history :]

    def as_dict(self) -> dict[str, int | None]:
        """Plain values; comparisons of before knew no draw, and stay what they were."""
        return {name: value for name, value in asdict(self).items() if name != "pool_seed" or value is not None}


def groups(users: Sequence[User], queries: int) -> list[list[User]]:
    """Users in a row until they have so many queries together, again and again: what is answered in one go.

    The groups depend on the users alone, so that a comparison taken up again runs the same batches.
    """
    result: list[list[User]] = []
    waiting: list[User] = []
    for user in users:
        waiting.append(user)
        if sum(len(one.queries) for one in waiting) >= queries:
            result.append(waiting)
            waiting = []
    return [*result, waiting] if waiting else result
