"""Held-out history: each user trains on the earlier part and is judged on the later one. Queries are never looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perfit.data.schema import Dataset, HistoryItem, User
from perfit.errors import ConfigError, DataError


@dataclass(frozen=True)
class HeldOut:
    """Users split in time.

    Attributes:
        data: Users with their earlier history and no queries; the other users as they are.
        later: Per user the later history.
        left_out: Users whose history is too short to split; they take no part.
    """

    data: Dataset
    later: dict[str, tuple[HistoryItem, ...]]
    left_out: int


def hold_out(data: Dataset, share: float) -> HeldOut:
    """Split each user's history: the latest share of it, one item at least, is held out.

    Raises:
        ConfigError: ``share`` is not between 0 and 1.
        DataError: No user has two items.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f"held_out: {share!r} is not possible; give a share of each history between 0 and 1, such as 0.2"
        )
    earlier: list[User] = []
    later: dict[str, tuple[HistoryItem, ...]] = {}
    for user in data.users:
        if len(user.history) < 2:
            continue
        cut = len(user.history) - min(max(round(len(user.history) * share), 1), len(user.history) - 1)
        earlier.append(replace(user, history=user.history[:cut], queries=()))
        later[user.id] = user.history[cut:]
    if not later:
        raise DataError(
            "no user has two past items, one to train on and one to judge by", remedy="give longer histories"
        )
    return HeldOut(replace(data, users=tuple(earlier)), later, len(data.users) - len(earlier))


def others_as_users(data: Dataset) -> Dataset:
    """Some of the other users in the users' place, who take no part: nothing is tuned on those a table reports.

    They are the other users with the longest histories, of equals the first: as many as there are users, half of the
    others at most. The rest trains stage 1.

    Raises:
        DataError: There are fewer than two other users.
    """
    count = min(len(data.users), len(data.others) // 2)
    if not count:
        raise DataError(
            f"{len(data.others)} other users are too few to be judges", remedy="give others, or judge by the users"
        )
    places = sorted(range(len(data.others)), key=lambda n: (-len(data.others[n].history), n))
    judges = set(places[:count])
    return replace(
        data,
        users=tuple(user for n, user in enumerate(data.others) if n in judges),
        others=tuple(user for n, user in enumerate(data.others) if n not in judges),
    )
