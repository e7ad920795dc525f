"""Floors: by hand, and the known numbers of a public data set."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from needed_data import data_folder, without

from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import DataError
from perfit.evaluation.score import score
from perfit.methods import floor_rules
from perfit.methods.known import known
from perfit.methods.nearest import nearest
from perfit.tasks import Task, get_task

NEWS, RATING, TITLE, TWEET = (get_task(name) for name in ("2N", "3", "5", "7"))


def floors(task: Task, users: list[User], others: tuple[User, ...] = ()) -> dict[str, Mapping[str, str]]:
    found = floor_rules.floors(task, Dataset(tuple(users), others), users)
    return {name: one.predictions for name, one in found.items()}


def user(name: str, field: str, answers: list[str], text_field: str = "text", queries: int = 1) -> User:
    items = tuple(HistoryItem(str(i), {text_field: f"t{i}", field: answer}) for i, answer in enumerate(answers))
    return User(
        name, items, tuple(Query(f"{name}{i}", f"] article: x {RATING.marker}", "crime") for i in range(queries))
    )


def test_majorities_and_ties() -> None:
    users = [
        user("a", "category", ["crime", "sports", "crime", "sports"]),  # a tie: sports came last
        user("b", "category", ["sports", "crime", "crime"], queries=2),
    ]
    result = floors(NEWS, users)
    assert result["user-majority"] == {"a0": "sports", "b0": "crime", "b1": "crime"}
    assert result["majority"] == {"a0": "crime", "b0": "crime", "b1": "crime"}


def test_an_overall_tie_goes_to_the_earlier_label() -> None:
    assert floors(NEWS, [user("a", "category", ["crime", "sports"])])["majority"] == {"a0": "sports"}


def test_only_histories_are_read() -> None:
    assert floors(NEWS, [user("a", "category", ["sports"])])["user-majority"] == {"a0": "sports"}


def test_the_others_histories_and_answered_queries_count_for_everybodys_majority_but_for_nobodys_own() -> None:
    asked = user("o", "category", ["sports", "sports"], queries=2)  # both queries: crime
    users = [user("a", "category", ["sports", "politics"])]
    result = floors(NEWS, users, (asked, replace(asked, id="o2", queries=())))
    assert result["majority"] == {"a0": "sports"}  # five times, crime twice
    assert floors(NEWS, users, (replace(asked, history=()), user("p", "category", ["crime"], queries=2)))[
        "majority"
    ] == {"a0": "crime"}
    assert result["user-majority"] == {"a0": "politics"}


def test_others_who_are_the_users_themselves_count_once() -> None:
    users = [user("a", "category", ["crime", "crime"]), user("b", "category", ["sports"])]
    twice = tuple(replace(one, queries=()) for one in users)
    stranger = user("b", "category", ["sports", "sports"], queries=0)  # another person of the same id
    assert len(known(NEWS, Dataset(tuple(users), twice))) == 3
    assert floors(NEWS, users, (*twice, stranger))["majority"]["a0"] == "sports"


def test_users_without_history_are_counted_in_a_warning() -> None:
    users = [user("a", "category", ["crime"]), user("b", "category", [])]
    with pytest.warns(UserWarning, match="1 users have no history"):
        assert floors(NEWS, users)["user-majority"]["b0"] == "crime"


def test_means_of_ratings() -> None:
    users = [user("a", "score", ["1", "2.0", "2"]), user("b", "score", ["5"])]
    result = floors(RATING, users)
    assert result["user-majority"] == {"a0": "2", "b0": "5"}
    assert result["majority"] == {"a0": "2", "b0": "2"}
    assert {key: float(value) for key, value in result["user-mean"].items()} == {"a0": pytest.approx(5 / 3), "b0": 5}
    assert float(result["mean"]["a0"]) == 2.5


def test_text_copies_the_answer_of_the_nearest_item() -> None:
    items = (
        HistoryItem("1", {"abstract": "parsing trees with grammars", "title": "Trees"}),
        HistoryItem("2", {"abstract": "speech and sound", "title": "Sound"}),
        HistoryItem("3", {"abstract": "machine translation", "title": "Translation"}),
    )
    marker = TITLE.marker or ""
    queries = (Query("q1", marker + "we listen to speech"), Query("q2", marker + "nothing shared"))
    assert floors(TITLE, [User("u", items, queries)])["nearest"] == {"q1": "Sound", "q2": "Translation"}


def test_tweets_are_their_own_text() -> None:
    items = (HistoryItem("1", {"text": "tea in the rain"}), HistoryItem("2", {"text": "coffee"}))
    query = Query("q1", (TWEET.marker or "") + "the rain")
    assert floors(TWEET, [User("u", items, (query,))])["nearest"] == {"q1": "tea in the rain"}


def test_nearest() -> None:
    assert nearest(["a b", "a b", "c"], ["a b", "c", "z"]) == [1, 2, 2]
    assert nearest(["!", "?"], ["a"]) == [1]
    assert nearest([], ["a", "b"]) == [None, None]


def test_unusable_users_are_refused() -> None:
    with pytest.raises(DataError, match="nobody has a history"):
        floors(NEWS, [user("a", "category", [])])
    with pytest.raises(DataError, match="share an id"):
        floors(NEWS, [user("a", "category", ["crime"])] * 2)
    twin = User("b", (), user("a", "category", []).queries)
    with pytest.raises(DataError, match=r"used twice, e\.g\. a0"):
        floors(NEWS, [user("a", "category", ["crime"]), twin])
    with pytest.raises(DataError, match="history item 0"):
        floors(NEWS, [user("a", "category", ["private"])])


def load(task: Task) -> tuple[list[User], dict[str, str]]:
    file = data_folder() / task.name / "user_top_100_history.json.gz"
    if not file.exists():
        without(f"no {task.name} data; point PERFIT_DATA at a folder of data sets in the OPPU format")
    users = [
        User(
            record["user_id"],
            tuple(HistoryItem(item["id"], item) for item in record["profile"]),
            tuple(Query(query["id"], query["input"], query["gold"]) for query in record["query"]),
        )
        for record in json.loads(gzip.decompress(file.read_bytes()))
    ]
    return users, {query.id: query.gold or "" for user in users for query in user.queries}


def test_the_known_floors_of_news_categories() -> None:
    users, golds = load(NEWS)
    result = {name: score(NEWS, predictions, golds) for name, predictions in floors(NEWS, users).items()}
    assert len(golds) == 757
    assert result["user-majority"].metrics["accuracy"] == pytest.approx(0.740, abs=5e-4)
    assert result["majority"].metrics["accuracy"] == pytest.approx(0.494, abs=5e-4)
    assert result["user-majority"].format_failure_rate == 0


def test_a_user_s_own_mean_beats_the_overall_mean_on_ratings() -> None:
    users, golds = load(RATING)
    result = {name: score(RATING, predictions, golds).metrics for name, predictions in floors(RATING, users).items()}
    assert result["user-mean"]["rmse"] < result["mean"]["rmse"]


def test_ratings_in_several_spellings_are_counted_as_one() -> None:
    task = replace(RATING, labels=("0.5", "1.0", "2.0"))
    result = floors(task, [user("a", "score", ["2", "1", ".50", "1.0"])])
    assert result["user-majority"] == {"a0": "1.0"}
    assert float(result["user-mean"]["a0"]) == 1.125


@pytest.mark.parametrize(
    ("documents", "question"),
    [
        (["陶艺展览在河边", "预算会议推迟", "大雪封山"], "河边的陶艺展览"),
        (["川辺の陶芸展", "予算会議の延期", "大雪の山道"], "陶芸展はいつ"),
        (["เครื่องปั้นดินเผาริมแม่น้ำ", "ประชุมงบประมาณ", "หิมะบนภูเขา"], "แสดงเครื่องปั้นดินเผา"),
        (["मिट्टी के बर्तन", "बजट की बैठक", "पहाड़ पर बर्फ"], "मिट्टी के बर्तनों की मिट्टी"),
    ],
)
def test_the_nearest_item_is_found_in_any_script(documents: list[str], question: str) -> None:
    assert nearest(documents, [question]) == [0]
