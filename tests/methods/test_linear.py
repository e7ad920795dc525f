"""The linear floor: what it learns from, that it knows who asks, and its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from needed_data import data_folder, without

from perfit.data.read import read_dataset
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import ConfigError, DataError
from perfit.methods.linear import LinearLabels, LinearRatings
from perfit.tasks import get_task
from perfit.tasks.task import Task

TASK = Task(
    name="folders",
    lamp_id=None,
    kind="label",
    prompt="{input}",
    history_prompt="{text}",
    history_answer="folder",
    labels=("work", "family", "travel", "never"),
)
RATING = get_task("3")


def person(name: str, *past: tuple[str, str], asked: Sequence[tuple[str, str | None]] = ()) -> User:
    items = tuple(HistoryItem(str(n), {"text": text, "folder": answer}) for n, (text, answer) in enumerate(past))
    return User(name, items, tuple(Query(f"{name}{n}", text, gold) for n, (text, gold) in enumerate(asked)))


# The same kite belongs in anna's family and in ben's travel; the others say what a ledger is.
ANNA = person("anna", *[("kite on the beach", "family")] * 3, ("ledger of may", "work"))
BEN = person("ben", *[("kite on the beach", "travel")] * 4, ("beach", "travel"))
OTHERS = (person("o", ("a ledger", "work"), ("one ledger", "work"), asked=[("the ledger", "work"), ("late", None)]),)
DATA = Dataset((ANNA, BEN), OTHERS)


def best(data: Dataset, *asks: tuple[str, str]) -> list[str]:
    return LinearLabels.fit(data, TASK).answers([(user, Query("q", text)) for user, text in asks])


def test_words_and_who_asks_decide() -> None:
    asks = (("anna", "kite on the beach"), ("ben", "kite on the beach"), ("ben", "ledger"), ("nobody", "ledger"))
    assert best(DATA, *asks) == ["family", "travel", "work", "work"]


def test_a_query_of_a_user_is_never_learnt_from_and_one_of_the_others_is() -> None:
    asks = [(user, Query("q", text)) for user in ("anna", "ben", "new") for text in ("late ledger", "kite", "moon")]
    plain = LinearLabels.fit(DATA, TASK).log_probs(asks)
    asked = tuple(
        replace(user, queries=(Query("x", "late moon", "travel"), Query("y", "moon", "travel"))) for user in DATA.users
    )
    assert np.array_equal(LinearLabels.fit(Dataset(asked, OTHERS), TASK).log_probs(asks), plain)
    told = Dataset(DATA.users, (replace(OTHERS[0], queries=(*OTHERS[0].queries, Query("z", "moon moon", "travel"))),))
    assert not np.array_equal(LinearLabels.fit(told, TASK).log_probs(asks), plain)


def test_probabilities_sum_to_one_and_no_label_has_none() -> None:
    found = LinearLabels.fit(DATA, TASK).log_probs([("anna", Query("q", "kite")), ("ben", Query("r", "ledger"))])
    assert found.shape == (2, 4)
    assert np.allclose(np.exp(found).sum(1), 1)
    texts = 4 + 5 + 3
    assert np.allclose(np.exp(found[:, 3]), 1 / (texts + 4))  # nobody ever gave the last label
    assert LinearLabels.fit(DATA, TASK).log_probs([]).shape == (0, 4)


def test_twice_is_the_same() -> None:
    asks = [("anna", Query("q", "kite ledger")), ("ben", Query("r", "a beach"))]
    again = (LinearLabels.fit(DATA, TASK).log_probs(asks) for _ in range(2))
    assert np.array_equal(*again)


@pytest.mark.parametrize(
    ("past", "answer"),
    [
        ([("one", "travel"), ("two", "travel")], "travel"),  # one label alone
        ([("one", "travel"), ("two", "travel"), ("three", "work")], "travel"),  # no word stands in two texts
        ([("!", "travel"), ("?", "work"), ("", "travel")], "travel"),  # no words at all
    ],
)
def test_little_is_enough(past: list[tuple[str, str]], answer: str) -> None:
    assert best(Dataset((person("anna", *past),)), ("anna", "four")) == [answer]


def test_pairs_of_words_tell_apart_what_words_do_not() -> None:
    past = [("red lamp blue boat", "work"), ("blue lamp red boat", "family")] * 3
    assert best(Dataset((person("anna", *past),)), ("anna", "red lamp"), ("anna", "red boat")) == ["work", "family"]


def test_scripts_without_blanks_have_words_too() -> None:
    past = [("河边的陶艺展览", "work"), ("陶艺展览", "work"), ("预算会议推迟", "family"), ("预算会议", "family")]
    assert best(Dataset((person("anna", *past),)), ("anna", "看陶艺展"), ("anna", "开预算会")) == ["work", "family"]


def test_ratings_are_numbers_within_the_scale() -> None:
    def films(name: str, *past: tuple[str, str]) -> User:
        return User(name, tuple(HistoryItem(str(n), {"text": t, "score": s}) for n, (t, s) in enumerate(past)))

    low = films("low", ("drama long", "1"), ("drama short", "2"), ("space", "1"), ("space", "2"))
    high = films("high", ("drama long", "4"), ("drama short", "5"), ("space", "5.0"))
    model = LinearRatings.fit(Dataset((low, high)), RATING)
    asks = [(user, Query("q", f"{RATING.marker}{text}")) for user in ("low", "high") for text in ("drama", "space")]
    numbers = model.numbers(asks)
    assert ((numbers >= 1) & (numbers <= 5)).all()
    assert numbers[:2].max() < 3 < numbers[2:].min()
    assert [float(text) for text in model.answers(asks)] == numbers.tolist()
    five = LinearRatings.fit(Dataset((films("a", ("x", "5"), ("x y", "5"), ("x y z", "4")),)), RATING)
    assert five.numbers([("a", Query("q", f"{RATING.marker}x x"))]).max() <= 5
    assert len(model.numbers([])) == 0


def test_what_cannot_be_learnt_from_is_said() -> None:
    with pytest.raises(ConfigError, match="answers are free text"):
        LinearLabels.fit(DATA, get_task("5"))
    with pytest.raises(DataError, match="nobody has a history"):
        LinearLabels.fit(Dataset((person("anna", asked=[("x", "work")]),)), TASK)


@pytest.mark.slow
def test_the_known_numbers_of_news_categories() -> None:
    folder = data_folder() / "news_categorize"
    if not folder.exists():
        without("no news_categorize data; point PERFIT_DATA at a folder of data sets in the OPPU format")
    data, task = read_dataset(folder), get_task("2N")
    asked = [(user, query) for user in data.users for query in user.queries]
    answers = LinearLabels.fit(data, task).answers([(user.id, query) for user, query in asked])
    right: dict[str, list[bool]] = {}
    for (user, query), answer in zip(asked, answers, strict=True):
        right.setdefault(user.id, []).append(answer == query.gold)
    assert sum(map(sum, right.values())) / len(asked) == pytest.approx(0.844, abs=0.004)
    assert np.mean([np.mean(one) for one in right.values()]) == pytest.approx(0.867, abs=0.004)
