"""Held-out history is the later part, and queries are gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_base import dataset, person

from perfit.data.schema import Dataset
from perfit.errors import ConfigError, DataError
from perfit.search.holdout import hold_out, others_as_users


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda n: max(n) > 1),
    share=st.floats(0.01, 0.99),
)
def test_each_history_is_split_in_time(lengths: list[int], share: float) -> None:
    users = [person(f"u{n}", history=length) for n, length in enumerate(lengths)]
    held = hold_out(Dataset(tuple(users), (person("other"),)), share)
    assert held.left_out == sum(length < 2 for length in lengths)
    assert held.data.others == (person("other"),)
    by_id = {user.id: user for user in users}
    assert [user.id for user in held.data.users] == list(held.later)
    for user in held.data.users:
        later = held.later[user.id]
        assert user.queries == ()
        assert user.history
        assert later
        assert user.history + later == by_id[user.id].history
        assert abs(len(later) - share * len(user.history + later)) <= 1


def test_shares_and_histories_that_leave_nothing_are_refused() -> None:
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(ConfigError, match="held_out"):
            hold_out(dataset(), share)
    with pytest.raises(DataError, match="no user has two past items"):
        hold_out(Dataset((person("a", history=1), person("b", history=0))), 0.5)


def test_other_users_with_the_longest_histories_may_judge_in_the_users_place() -> None:
    others = tuple(person(f"o{n}", history=length) for n, length in enumerate((2, 5, 3, 5, 1)))
    data = Dataset((person("anna"), person("ben"), person("cleo")), others)
    judged = others_as_users(data)
    assert [user.id for user in judged.users] == ["o1", "o3"]  # half of them at most
    assert [user.id for user in judged.others] == ["o0", "o2", "o4"]
    alone = others_as_users(Dataset((person("anna"),), others))
    assert [user.id for user in alone.users] == ["o1"]
    assert not {"anna", "ben", "cleo"} & {user.id for user in (*judged.users, *judged.others)}
    with pytest.raises(DataError, match="1 other users are too few"):
        others_as_users(Dataset((person("anna"),), others[:1]))
