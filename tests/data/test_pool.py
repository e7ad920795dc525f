"""Who trains stage 1."""

from __future__ import annotations

from perfit.data.pool import some_of, stage1_pool
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


def test_a_part_of_the_others_is_the_first_or_a_draw_of_its_own() -> None:
    others = [user(str(n)) for n in range(20)]
    assert some_of(others, None) == some_of(others, 99, 1) == tuple(others)
    assert some_of(others, 3) == tuple(others[:3])
    draws = [some_of(others, 5, seed) for seed in range(4)]
    assert draws[0] == some_of(others, 5, 0)
    assert len({tuple(one.id for one in draw) for draw in draws}) > 1
    assert all(len({one.id for one in draw}) == 5 for draw in draws)
    assert all([others.index(one) for one in draw] == sorted(others.index(one) for one in draw) for draw in draws)
