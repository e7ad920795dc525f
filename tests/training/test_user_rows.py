"""Rows of both stages: all read first, of many users not held, and users without usable records told of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from small_base import CONFIG, TASK, dataset, write_base

from perfit.backbone.load import load_base
from perfit.data.schema import HistoryItem, User
from perfit.errors import DataError
from perfit.training import user_rows
from perfit.training.examples import RowMaker
from perfit.training.user_rows import pool_rows, rows_of_users

DATA = dataset()
WRONG = User("wrong", (HistoryItem("1", {"folder": "nowhere"}),))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_base(write_base(tmp_path_factory.mktemp("base"))).tokenizer


@pytest.fixture
def maker(tokenizer: Any) -> RowMaker:
    return RowMaker(TASK, tokenizer, CONFIG)


@pytest.mark.parametrize("held", [0, 10_000])
def test_rows_are_the_makers_whether_held_or_not(maker: RowMaker, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_rows, "_KEEP_ROWS", held)
    rows = rows_of_users(maker, DATA.users)
    counts = dict(maker.counts)
    assert list(rows) == [user.id for user in DATA.users]
    for user in DATA.users:
        assert list(rows[user.id]) == RowMaker(TASK, maker.tokenizer, CONFIG).history_rows(user)
        assert (rows[user.id][0] is rows[user.id][0]) is bool(held)
    assert dict(maker.counts) == counts  # making them again counts nothing


@pytest.mark.parametrize("held", [0, 10_000])
def test_who_has_unusable_records_is_refused_or_told_of(
    maker: RowMaker, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_rows, "_KEEP_ROWS", held)
    users = (*DATA.users[:1], WRONG)
    with pytest.raises(DataError, match="user wrong"):
        rows_of_users(maker, users)
    told: list[tuple[str, str]] = []
    rows = rows_of_users(maker, users, lambda user, error: told.append((user.id, str(error))))
    assert list(rows) == [DATA.users[0].id]
    assert [user for user, _ in told] == ["wrong"]


def test_a_pool_without_rows_is_refused(maker: RowMaker) -> None:
    bare = replace(DATA.users[0], history=(), queries=())
    with pytest.raises(DataError, match="none of the 2 users has the data that stage1_data="):
        pool_rows(maker, [bare, bare])
    assert pool_rows(maker, DATA.others) == maker.collective_rows(DATA.others)
