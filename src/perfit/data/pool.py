"""Who trains stage 1: decided here for training, comparisons and searches alike."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from perfit.data.schema import Dataset, User


def without_queries(users: Iterable[User]) -> tuple[User, ...]:
    """Users with nothing but their histories: what may be learnt from where their queries are asked later."""
    return tuple(replace(user, queries=()) for user in users)


def own_histories_train(data: Dataset, stage1_users: str) -> bool:
    """Whether stage 1 learns from the histories of the users themselves."""
    return stage1_users == "all" or not data.others


def stage1_pool(data: Dataset, stage1_users: str) -> tuple[User, ...]:
    """Whose records train stage 1.

    Args:
        data: Users, and the others.
        stage1_users: "others": the other users, or where there are none the histories of the users themselves; "all":
            both. The users' own queries are in no pool.
    """
    return (*data.others, *without_queries(data.users)) if own_histories_train(data, stage1_users) else data.others


def some_of(others: Sequence[User], count: int | None, seed: int | None = None) -> tuple[User, ...]:
    """A part of the other users: the first so many, or with a seed so many drawn at random, in their order.

    Args:
        others: All of them.
        count: How many; None takes all, and so does a number above theirs.
        seed: Of the draw, apart from the seed of training.
    """
    if count is None or count >= len(others):
        return tuple(others)
    if seed is None:
        return tuple(others[:count])
    return tuple(others[place] for place in sorted(random.Random(f"pool {seed}").sample(range(len(others)), count)))
