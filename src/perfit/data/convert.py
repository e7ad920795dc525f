"""From LaMP's setting (a question with its own profile) to OPPU's (a user with one history and several queries)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from perfit.data.dates import parse_date
from perfit.data.lamp import LampQuestion, read_lamp
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.data.timeline import Dates, in_order_of_time, sorted_history, with_iso_date
from perfit.errors import ConfigError

DEFAULT_TEST_USERS = 100


def convert_lamp(path: Path, *, n_test: int | None = None, dates: Dates = "iso") -> Dataset:
    """Reads LaMP's own files and regroups them by user.

    OPPU's own script is not public; the rule here is ours and every number it used stands in ``Dataset.notes``:

    * Questions with one ``user_id`` are one user. Files without it: questions whose profiles hold the same item ids
      are one user (the SHA-256 of the sorted ids names it).
    * A user's history is what *all* its questions may know. In the time-ordered files a later question's profile
      holds the answers of earlier ones, so that a union would leak them.
    * A history is sorted by date when all its items have one, and else keeps the order of the file.
    * The ``n_test`` users with the longest histories (ties: the one seen first) are test users, the rest stage 1.

    Args:
        path: Folder or questions file.
        n_test: Number of test users; None takes 100, or half of the users if that is less.
        dates: As for ``read_dataset``.

    Raises:
        DataError: For faulty files.
        ConfigError: When ``n_test`` leaves no stage-1 user, or is below 1.
    """
    questions, task, files = read_lamp(path)
    groups: dict[str, list[LampQuestion]] = {}
    for question in questions:
        groups.setdefault(question.user_id or _profile_hash(question), []).append(question)
    wanted = min(DEFAULT_TEST_USERS, len(groups) // 2) if n_test is None else n_test
    if n_test is not None and not 1 <= n_test < len(groups):
        raise ConfigError(
            f"n_test={n_test} is impossible with {len(groups)} users; take 1 to {len(groups) - 1}, "
            "so that users are left for stage 1"
        )
    dropped = 0
    users = []
    for user_id, group in groups.items():
        history = _common_history(group, dates)
        dropped += len({item.id for question in group for item in question.profile}) - len(history)
        queries = tuple(Query(question.id, question.input, question.gold) for question in group)
        users.append(User(user_id, history, queries))
    ranked = sorted(range(len(users)), key=lambda index: -len(users[index].history))
    # With a single user there is nobody to train stage 1 on; it is kept as the test user.
    chosen = set(ranked[: max(wanted, 1)])
    test = tuple(user for index, user in enumerate(users) if index in chosen)
    others = tuple(user for index, user in enumerate(users) if index not in chosen)
    hashed = sum(1 for question in questions if question.user_id is None)
    least = min(len(user.history) for user in test)
    notes = (
        f"converted {len(questions)} questions of {len(users)} users from {', '.join(files)}",
        f"{len(questions) - hashed} questions were grouped by user_id, {hashed} by the hash of their profile's ids",
        f"test users: the {len(test)} with the longest history (at least {least} items); stage 1: the {len(others)} others",
        f"a history holds what all questions of the user may know; {dropped} items known to some of them only were left out",
        f"{sum(map(_all_dated, users))} of {len(users)} histories were sorted by date, the others keep the file's order",
    )
    return in_order_of_time(Dataset(test, others, task=task, source=str(path), notes=notes), dates)


def _profile_hash(question: LampQuestion) -> str:
    ids = "\n".join(sorted(item.id for item in question.profile))
    return "profile-" + hashlib.sha256(ids.encode()).hexdigest()[:16]


def _common_history(questions: Sequence[LampQuestion], dates: Dates) -> tuple[HistoryItem, ...]:
    common = set.intersection(*({item.id for item in question.profile} for question in questions))
    items = tuple(item for item in questions[0].profile if item.id in common)
    if dates == "us":
        items = tuple(map(with_iso_date, items))
    moments = [moment for item in items if (moment := parse_date(item.date)) is not None]
    return sorted_history(items, moments) if len(moments) == len(items) else items


def _all_dated(user: User) -> bool:
    return bool(user.history) and all(parse_date(item.date) for item in user.history)
