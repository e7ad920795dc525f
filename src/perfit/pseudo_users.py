"""The names that mean no user: "base" is the untouched base, "collective" both shared shifts of stage 1."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.data.schema import User
from perfit.errors import DataError

BASE = "base"
COLLECTIVE = "collective"
PSEUDO_USERS = (BASE, COLLECTIVE)


def check_id(user: str) -> None:
    """Refuse ids that mean no user in ``generate``.

    Raises:
        DataError: It is "base" or "collective".
    """
    if user in PSEUDO_USERS:
        raise DataError(f"the user id {user!r} means a pseudo-user in perfit", remedy="rename the user")


def check_ids(users: Sequence[User]) -> None:
    """Refuse pseudo-users' names and ids that come twice.

    Raises:
        DataError: There is one.
    """
    seen: set[str] = set()
    for user in users:
        check_id(user.id)
        if user.id in seen:
            raise DataError(f"the user id {user.id!r} comes twice", remedy="merge the two records or rename one")
        seen.add(user.id)
