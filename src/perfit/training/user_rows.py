"""The rows of both stages, all read before anything trains; those of many users are not held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from perfit.data.schema import User
from perfit.errors import DataError
from perfit.training.examples import RowMaker
from perfit.training.rows import TokenRow

_KEEP_ROWS = 10_000  # about 35 MB of tokens


def pool_rows(maker: RowMaker, pool: Sequence[User]) -> list[TokenRow]:
    """Rows of stage 1, as the settings' ``stage1_data`` says.

    Raises:
        DataError: There are none, or a record is unusable.
    """
    rows = maker.collective_rows(pool)
    if not rows:
        raise DataError(
            f"stage 1 has nothing to train on: none of the {len(pool)} users has the data that "
            f"stage1_data={maker.config.stage1_data!r} asks for",
            remedy="give other users with histories and answered queries",
        )
    return rows


def _refuse(user: User, error: DataError) -> None:
    raise error


def rows_of_users(
    maker: RowMaker, users: Sequence[User], unusable: Callable[[User, DataError], None] = _refuse
) -> dict[str, HistoryRows]:
    """Rows of each user, checked; those of many users are forgotten again and made when the user trains.

    Args:
        maker: Makes them, and counts once what it had to shorten.
        users: Whose.
        unusable: Told of a user whose records cannot be used, who then has no rows here.

    Raises:
        DataError: A record is unusable, and ``unusable`` does not take it.
    """
    keep = sum(len(user.history) for user in users) <= _KEEP_ROWS
    silent = RowMaker(maker.task, maker.tokenizer, maker.config)
    rows: dict[str, HistoryRows] = {}
    for user in users:
        own = HistoryRows(maker if keep else silent, user, keep)
        try:
            if keep:
                iter(own)
            else:
                maker.history_rows(user)
            rows[user.id] = own
        except DataError as error:
            unusable(user, error)
    return rows


class HistoryRows(Sequence[TokenRow]):
    """A user's history rows, made when they are asked for, so that many users' tokens need not be held at once.

    Args:
        maker: Makes the rows; its counts count each making.
        user: Whose rows.
        keep: Hold them once made.
    """

    def __init__(self, maker: RowMaker, user: User, keep: bool):
        self.maker, self.user, self.keep = maker, user, keep
        self._kept: list[TokenRow] | None = None

    def _rows(self) -> list[TokenRow]:
        if self._kept is not None:
            return self._kept
        rows = self.maker.history_rows(self.user)
        if self.keep:
            self._kept = rows
        return rows

    def __len__(self) -> int:
        return len(self.user.history)

    def __iter__(self) -> Iterator[TokenRow]:
        return iter(self._rows())

    @overload
    def __getitem__(self, index: int) -> TokenRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenRow]: ...
    def __getitem__(self, index: int | slice) -> TokenRow | list[TokenRow]:
        return self._rows()[index]
