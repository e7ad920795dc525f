"""Who trains stage 1."""

from __future__ import annotations

from perfit.data.pool import stage1_pool
from perfit.data.schema import Dataset, HistoryItem, Query, User


def user(name: str) -> User:
    return User(name, (HistoryItem(f"{name} 1", {"text": name}),), (Query(f"{name} q", "asked", "gold"),))


ANNA, BEN, CLEO = user("anna"), user("ben"), user("cleo")
DATA = Dataset(users=(ANNA, BEN), others=(CLEO,))


def test_the_others_alone_by_the_protocol() -> None:
    assert stage1_pool(DATA, "others") == (CLEO,)


def test_all_are_the_others_and_the_users_histories_without_their_queries() -> None:
    pool = stage1_pool(DATA, "all")
    assert [one.id for one in pool] == ["cleo", "anna", "ben"]
    assert pool[0] == CLEO
    assert [one.queries for one in pool[1:]] == [(), ()]
    assert [one.history for one in pool[1:]] == [ANNA.history, BEN.history]


def test_without_others_the_users_histories_are_all_there_is() -> None:
    for users in ("others", "all"):
        pool = stage1_pool(Dataset(users=(ANNA, BEN)), users)
        assert [(one.id, one.queries) for one in pool] == [("anna", ()), ("ben", ())]
